"""Crops: sown, grown, ripened, harvested, and what the field is before and after."""

from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from timesenmap.model.simulation.endmembers import wetted
from timesenmap.model.simulation.scene import Scene
from timesenmap.model.simulation.settings import Crop, Season
from timesenmap.model.simulation.vegetation import standing_water

Floats = npt.NDArray[np.float64]

FLOWERS: Final = {
    "rape": np.array([0.07, 0.32, 0.36, 0.42, 0.50, 0.53, 0.54, 0.54, 0.24, 0.13]),
    "sunflower": np.array([0.06, 0.20, 0.30, 0.40, 0.50, 0.52, 0.53, 0.53, 0.28, 0.16]),
    "boll": np.array([0.45, 0.50, 0.54, 0.55, 0.56, 0.57, 0.58, 0.58, 0.50, 0.42]),
}
"""Petals and open bolls: Sulik and Long 2015 (rape), the others by analogy."""


@dataclass(frozen=True)
class Dates:
    """Days of one season, counted from 1 January of the year seen; the harvest lies in that year or the next."""

    emergence: float
    growth: float
    senescence: float
    harvest: float

    def moved(self, days: float) -> "Dates":
        """The same season earlier or later."""
        return Dates(self.emergence + days, self.growth + days, self.senescence + days, self.harvest + days)


def _season(scene: Scene, recipe: Crop) -> Season:
    usable = [s for s in recipe.seasons if s.fits(scene.region) and (s.dates is not None or s.window in scene.window)]
    return usable[int(scene.rng.integers(len(usable)))]


def dates_of(scene: Scene, recipe: Crop, season: Season) -> Dates:
    """When the crop stands in this field this year."""
    chance = scene.rng.normal(0, recipe.spread)
    if season.window is not None:
        start, end = scene.window[season.window]
        return Dates(*(start + share * (end - start) for share in season.shares)).moved(chance)
    assert season.dates is not None
    box = scene.settings.regions[scene.region].lat
    # A region on the equator has one calendar on both sides of it.
    dates = Dates(*season.dates).moved(182.5 if sum(box) < 0 else 0.0)
    # Spring comes some days later for each degree towards the pole; the dates of a region hold for its middle.
    later = 2.5 * (abs(scene.place.lat) - abs(sum(box) / 2)) if abs(scene.place.lat) > 30 else 0.0
    return dates.moved(float(np.clip(later, -12, 12)) + chance)


def crop(scene: Scene, recipe: Crop) -> Floats:
    """(12, 10) a field through the calendar year."""
    season = _season(scene, recipe)
    dates = dates_of(scene, recipe, season)
    while dates.harvest > 400 or (dates.harvest > 365 and not recipe.lasting and dates.emergence > 200):
        dates = dates.moved(-365)
    soil = scene.ground()
    field = _between(scene, recipe, dates, soil)
    for shift in (-365.0, 0.0, 365.0):
        if shift != 0 and not _same_again(scene, recipe, shift):
            continue
        sown = dates.moved(shift + (0.0 if shift == 0 else scene.rng.normal(0, 8)))
        field = _standing(scene, recipe, sown, field, soil)
        if season.again is not None:
            field = _standing(scene, recipe, sown.moved(season.again + scene.rng.normal(0, 8)), field, soil)
    if recipe.second is not None:
        after = scene.settings.classes[recipe.second]
        assert isinstance(after, Crop)
        start = dates.harvest + scene.draw((6, 18))
        length = scene.draw((95, 115))
        second = Dates(start, start + 0.36 * length, start + 0.85 * length, start + length)
        field = _standing(scene, after, second, field, soil)
    return scene.under_snow(field, scene.draw((0.8, 1.0)))


def _same_again(scene: Scene, recipe: Crop, shift: float) -> bool:
    """Whether the season before or after is that of the same crop (what stands at the other end of the year)."""
    if recipe.lasting:
        return True
    return scene.chance(0.65 if (scene.place.southern or shift > 0) else 0.45)


def _standing(scene: Scene, recipe: Crop, dates: Dates, field: Floats, soil: Floats) -> Floats:
    """The field with the crop on it between emergence and harvest."""
    days = scene.days
    stands = (days > dates.emergence - 3) & (days < dates.harvest)
    if recipe.flooded is not None:
        field = _paddy(scene, recipe, dates, field, soil)
    if not stands.any():
        return field
    rise, fall = scene.draw(recipe.steepness), scene.draw(recipe.senescence)
    # Where rain could not feed a crop at all it is irrigated.
    fed = 1.0 if scene.climate.supply < 0.35 or recipe.flooded is not None else 0.35 + 0.65 * scene.fed
    full, autumn = scene.draw(recipe.lai) * fed, scene.draw(recipe.autumn_lai) * fed
    growth = 1 / (1 + np.exp(-(days - dates.growth) / rise))
    start = 1 / (1 + np.exp(-(days - dates.emergence - 14) / 7))
    ripe = 1 / (1 + np.exp(-(days - dates.senescence) / fall))
    young = autumn * start * np.clip(0.55 + 0.45 * scene.greenness(watered=True), 0, 1)
    area = np.where(stands, (young + (full - autumn) * growth) * (1 - 0.55 * ripe), 0.0)
    area = np.clip(area, 0, None)
    vigour = np.clip(1 - ripe, 0, 1) * (0.8 + 0.2 * growth)
    leaves = scene.leaves(recipe.leaf, vigour, yellowing=scene.draw(recipe.yellowing), brown=scene.draw(recipe.brown))
    # A crop that stands hides what was sown or left before it: the seedbed is bare soil.
    seedbed = field if recipe.flooded is not None else soil
    bed = np.where(stands[:, None], seedbed, field)
    dead = (ripe * scene.draw((0.1, 0.45)))[:, None]
    bed = np.where(stands[:, None], (1 - dead) * bed + dead * scene.spectra.draw("straw", scene.rng), bed)
    seen = scene.canopy(leaves, area, bed)
    seen = np.where(stands[:, None], seen, field)
    if recipe.flower is not None:
        middle = dates.growth + scene.draw(recipe.flower_days)
        length = 30.0 if recipe.flower == "boll" else 11.0
        cover = scene.draw(recipe.flower_cover) * np.exp(-(((days - middle) / length) ** 2)) * stands
        seen = (1 - cover[:, None]) * seen + cover[:, None] * FLOWERS[recipe.flower]
    return cast("Floats", seen)


def _paddy(scene: Scene, recipe: Crop, dates: Dates, field: Floats, soil: Floats) -> Floats:
    """Standing water before planting and under the young plants."""
    assert recipe.flooded is not None
    before, after = scene.draw((5, recipe.flooded[0])), scene.draw((0.5, 1.0)) * (dates.harvest - dates.emergence) * 0.8
    wet = (scene.days > dates.emergence - before) & (scene.days < dates.emergence + after)
    water = standing_water(scene, scene.rng.uniform(0.03, 0.15, 12), soil)
    share = scene.draw((0.75, 1.0)) * wet[:, None]
    return (1 - share) * field + share * water


def _between(scene: Scene, recipe: Crop, dates: Dates, soil: Floats) -> Floats:
    """The field without its crop: stubble, ploughed soil, weeds or a crop sown to cover it."""
    days = scene.days
    since = (days - dates.harvest) % 365  # days since the last harvest, this year's or that before
    until = (dates.emergence - days) % 365
    ploughed = scene.draw((4, 70)) if scene.chance(0.7) else 240.0
    stubble = scene.draw(recipe.stubble) * np.where(since < ploughed, np.exp(-since / 150), 0.12)
    straw = scene.spectra.draw("straw", scene.rng) * scene.draw((0.75, 1.05))
    base = (1 - stubble[:, None]) * soil + stubble[:, None] * wetted(straw, 0.4 * scene.moisture)
    covered = scene.chance(recipe.cover_crop)
    # Sown after the harvest, killed or ploughed in some weeks before the next crop emerges.
    end = scene.draw((8, 45))
    sown = since - (scene.draw((8, 35)) if covered else scene.draw((10, 45)))
    grown = np.clip(sown / (40 if covered else 70), 0, 1) * (until > end)
    warm = scene.greenness(watered=False)
    lai = (scene.draw((0.8, 4.0)) if covered else scene.draw((0.0, 1.6))) * grown * (0.35 + 0.65 * warm)
    leaves = scene.leaves("cereal" if covered else "grass", np.clip(0.5 + 0.5 * warm, 0, 1), yellowing=0.4, brown=0.1)
    return scene.canopy(leaves, lai, base)
