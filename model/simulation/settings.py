"""What ``classes.yaml`` may say: regions, pools of spectra, kinds of leaves, and how each class is made."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from timesenmap.model.yaml_files import read_yaml

Range = tuple[float, float]
"""Lowest and highest; drawn evenly between."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Region(_Settings):
    """A box of the world with one kind of climate."""

    lon: Range
    lat: Range
    altitude: Range = (0, 300)
    warmer: float = Field(default=0.0, description="degrees above the zonal mean of such places: ocean currents")
    continentality: Range = Field(description="0 by the sea, 1 deep inland")
    rain: Range = Field(description="millimetres a year")
    wettest: Range = Field(default=(0, 365), description="day of year")
    concentration: Range = Field(default=(0, 0.5), description="0: rain all year; 4: one short rainy season")
    rainy_seasons: int = 1


class Pool(_Settings):
    """Rows of the table of spectra."""

    groups: tuple[str, ...]
    materials: tuple[str, ...] = Field(default=("",), description="regular expressions; each is drawn as often")
    source: str = ""
    red: Range = Field(default=(0.0, 2.0), description="reflectance in B04")


class LeafRanges(_Settings):
    """Leaves of a kind of plant, as PROSPECT-5 and SAIL take them; the widest state is that of full growth."""

    n: Range
    cab: Range
    car_share: Range = Field(default=(0.18, 0.28), description="carotenoids over chlorophyll")
    cbrown: Range = Field(default=(0.02, 0.3), description="in full growth: no canopy is without dead leaves")
    cw: Range
    cm: Range
    angle: Range
    clumping: float = 0.0


class Herbs(_Settings):
    """Herbs that follow the climate."""

    leaf: str = "grass"
    lai: Range
    rest: Range = Field(default=(0.05, 0.3), description="leaf area outside the season, as a share")
    litter: Range = Field(default=(0.3, 0.8), description="ground covered by dead plants")
    standing: Range = Field(default=(0.02, 0.2), description="dead stems among the living out of season, as a cover")
    watered: bool = Field(default=False, description="irrigated or near ground water: warmth alone drives it")
    earlier: float = Field(default=0.0, description="days by which growth runs ahead of the climate's")


class _Class(_Settings):
    caption: str | None = Field(default=None, description="label of its series; the name of the class if not given")
    weight: float = Field(default=1.0, gt=0)
    regions: tuple[str, ...] = Field(min_length=1)
    slope: Range = Field(default=(0, 4), description="degrees")


class Season(_Settings):
    """When a crop stands, in days of year of the northern hemisphere (negative: the year before)."""

    regions: tuple[str, ...] = ()
    dates: tuple[float, float, float, float] | None = Field(
        default=None, description="emergence, half of its growth, half of its senescence, harvest"
    )
    window: Literal["winter", "summer", "first", "second"] | None = Field(
        default=None, description="season of the crop calendar; dates are shares of it"
    )
    shares: tuple[float, float, float, float] = (0.05, 0.4, 0.85, 1.0)
    again: float | None = Field(default=None, description="days after which the crop is sown a second time in the year")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.dates is None) == (self.window is None):
            raise ValueError("a season has either dates or a window of the crop calendar")
        return self

    def fits(self, region: str) -> bool:
        """Whether it is a season of a region; without regions it is one of all."""
        return not self.regions or region in self.regions


class Crop(_Class):
    """A crop sown and harvested."""

    kind: Literal["crop"]
    leaf: str = "crop"
    seasons: tuple[Season, ...] = Field(min_length=1)
    lai: Range
    autumn_lai: Range = Field(default=(0, 0), description="before winter and through it")
    spread: float = Field(default=9.0, description="days, standard deviation between fields")
    steepness: Range = Field(default=(7, 12), description="days of the logistic of growth")
    senescence: Range = Field(default=(5, 10), description="days of the logistic of senescence")
    yellowing: Range = Field(default=(0.6, 1.0), description="chlorophyll lost before harvest")
    brown: Range = Field(default=(0.3, 1.2), description="brown pigment before harvest")
    flower: str | None = None
    flower_cover: Range = (0, 0)
    flower_days: Range = Field(default=(0, 0), description="middle of flowering, days after half growth")
    flooded: Range | None = Field(default=None, description="days of standing water before emergence, after it")
    stubble: Range = (0.2, 0.6)
    cover_crop: float = Field(default=0.35, description="probability before or after")
    second: str | None = Field(default=None, description="class sown after the harvest")
    lasting: bool = Field(default=False, description="regrows; the field is not ploughed")


class Meadow(_Class):
    """Grass or fodder that is cut or grazed."""

    kind: Literal["meadow"]
    herbs: Herbs
    cuts: Range
    cut_season: Range = Field(default=(125, 285), description="day of the first cut and of the last")
    left: Range = Field(default=(0.12, 0.35), description="leaf area left by a cut, as a share")
    new: float = Field(default=0.0, description="probability that it was sown in the year seen")


class Grass(_Class):
    """Natural herbs, with trees or shrubs here and there."""

    kind: Literal["grass"]
    herbs: Herbs
    woody: Range = (0, 0.05)
    woody_leaf: str = "shrub"
    evergreen: float = 0.5
    ground: str = "soil"


class Woody(_Class):
    """Crowns over an understorey: forests, shrubs, orchards, vineyards."""

    kind: Literal["woody"]
    cover: Range
    lai: Range
    leaf: str
    evergreen: Range = Field(default=(0, 0), description="share of crowns that keep their leaves")
    evergreen_leaf: str = "evergreen"
    shade: Range = Field(default=(0.1, 0.3), description="ground and crowns in shadow with the sun at 45 degrees")
    understorey: Herbs
    bare_understorey: float = Field(default=0.0, description="probability that the ground between is kept bare")
    bark: Range = Field(default=(0.15, 0.4), description="cover of bare branches where leaves are off")
    dead: Range = Field(default=(0, 0), description="dead twigs and wood among the leaves all year, as a cover")
    ground: str = "soil"
    irrigated: float = 0.0
    gone: Range = Field(default=(0.02, 0.1), description="leaf area outside the season, as a share")


class Built(_Class):
    """Roofs, streets, gardens and shadow."""

    kind: Literal["built"]
    sealed: Range
    roofs: Range = Field(description="share of the sealed ground under roofs")
    roof_pool: tuple[str, ...] = ("roof",)
    trees: Range = Field(description="share of the open ground under trees")
    bare: Range = Field(default=(0, 0.2), description="share of the open ground that is bare")
    shade: Range = (0.05, 0.25)
    brightness: Range = Field(default=(0.5, 0.88), description="of bare plots beside the laboratory's soil")
    watered: float = Field(default=0.5, description="probability of watered gardens")


class Bare(_Class):
    """Ground with hardly a plant."""

    kind: Literal["bare"]
    pool: str
    plants: Range = (0, 0.08)
    wetness: Range = Field(default=(0, 0.6), description="how much of the climate's moisture is seen")
    brightness: Range = (0.6, 0.95)


class Water(_Class):
    """Open water."""

    kind: Literal["water"]
    chlorophyll: Range = Field(description="mg/m3, drawn evenly in the logarithm")
    particles: Range
    dissolved: Range
    depth: Range
    season: Range = Field(default=(0.1, 0.8), description="seasonal change, in the logarithm")
    glint: Range = (0.0, 0.03)
    bottom: str = "sand"
    salt: bool = Field(default=False, description="sea water freezes later")
    shore: Range = (0, 0.0)


class Wetland(_Class):
    """Plants in or beside standing water, or on peat."""

    kind: Literal["wetland"]
    herbs: Herbs
    flooding: Range = Field(description="ground under water in the wettest month")
    drying: Range = Field(description="the same in the driest, as a share")
    woody: Range = (0, 0)
    woody_leaf: str = "shrub"
    evergreen: float = 0.5
    ground: str = "peat"
    depth: Range = (0.05, 1.0)


class Frozen(_Class):
    """Snow and ice all year."""

    kind: Literal["frozen"]
    ice: Range = Field(description="bare ice in the melting season")
    debris: Range = (0, 0.1)


class Changed(_Class):
    """Land of another class after a fire or under a flood."""

    kind: Literal["burnt", "flooded"]
    before: tuple[str, ...]
    share: Range = (0.6, 1.0)
    months: Range = Field(description="how long it is seen")


class Plastic(_Class):
    """Plants under plastic or glass."""

    kind: Literal["greenhouse"]
    film: Range
    through: Range
    cover: Range


Recipe = Annotated[
    Crop | Meadow | Grass | Woody | Built | Bare | Water | Wetland | Frozen | Changed | Plastic,
    Field(discriminator="kind"),
]


class Weather(_Settings):
    """How the sky, the slope and the sensor change what is seen."""

    haze: float = Field(description="mean of reflectance added in B02 where haze is left")
    haze_months: float
    haze_always: Range = Field(
        description="the same in every month, low values more often: correction, light of the surroundings"
    )
    cloud: Range = Field(description="share of thin cloud left in a pixel")
    cloud_months: float
    shadow: Range
    shadow_months: float
    noise: Range = Field(description="relative, each value")
    floor_noise: Range = Field(description="absolute, each value")
    common_noise: Range = Field(description="relative, all bands of a month")
    band_factor: float = Field(description="standard deviation of a factor of a band through the year")
    offset: float = Field(description="standard deviation of an offset of a band through the year")
    gap_months: Range = Field(description="share of months without a clear look")
    mixed: float = Field(description="probability of a second class in the pixel")
    mixed_share: Range


class SimulationSettings(_Settings):
    """All of ``classes.yaml``."""

    sources: dict[str, str] = Field(description="where the ranges come from")
    regions: dict[str, Region]
    pools: dict[str, Pool]
    leaves: dict[str, LeafRanges]
    weather: Weather
    classes: dict[str, Recipe]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, recipe in self.classes.items():
            for region in recipe.regions:
                if region not in self.regions:
                    raise ValueError(f"class '{name}' names region '{region}', which is none")
            if isinstance(recipe, Crop):
                self._check_crop(name, recipe)
            if isinstance(recipe, Changed):
                known = {region for before in recipe.before for region in self.classes[before].regions}
                if set(recipe.regions) - known:
                    raise ValueError(f"class '{name}' has nothing before it in {sorted(set(recipe.regions) - known)}")
        return self

    def _check_crop(self, name: str, crop: Crop) -> None:
        if crop.leaf not in self.leaves:
            raise ValueError(f"class '{name}' names leaves '{crop.leaf}', which are none")
        if crop.second is not None and not isinstance(self.classes.get(crop.second), Crop):
            raise ValueError(f"class '{name}': second crop '{crop.second}' is no crop")
        dated = [season for season in crop.seasons if season.dates is not None]
        missing = {region for region in crop.regions if not any(season.fits(region) for season in dated)}
        if missing:
            raise ValueError(f"class '{name}' has no dates in {sorted(missing)}")


def load_settings(path: str | Path | None = None) -> SimulationSettings:
    """Read the classes: the project's own, or a YAML file of the same fields."""
    return read_yaml(
        SimulationSettings, path, what="classes", package="timesenmap.model.simulation", name="classes.yaml"
    )
