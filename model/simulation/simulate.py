"""Draw classes, places and years, and make the table of series."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from timesenmap.model.atmosphere import sun_height
from timesenmap.model.captions import load_captions
from timesenmap.model.config import DEFAULT_BANDS
from timesenmap.model.errors import ModelError
from timesenmap.model.series import MONTHS, SERIES_COLUMNS, read_series
from timesenmap.model.simulation import crops, grounds, vegetation
from timesenmap.model.simulation.calendars import CropCalendar
from timesenmap.model.simulation.canopy import SENSORS, CanopyModel, Geometry, read_response
from timesenmap.model.simulation.climate import Place, climate_of
from timesenmap.model.simulation.endmembers import Spectra, read_spectra
from timesenmap.model.simulation.scene import Scene
from timesenmap.model.simulation.settings import Changed, Recipe, SimulationSettings
from timesenmap.model.simulation.weather import cloudy_months, seen_through, sloping

Floats = npt.NDArray[np.float64]

EXCLUDED: Final = (3.00, 3.05, 50.80, 50.83)
"""Box (lon, lat) around the place of belgium-2018, which stays unseen."""

_RECIPES: Final[dict[str, Callable[[Scene, Any], Floats]]] = {
    "crop": crops.crop,
    "meadow": vegetation.meadow,
    "grass": vegetation.grass,
    "woody": vegetation.woody,
    "wetland": vegetation.wetland,
    "built": grounds.built,
    "bare": grounds.bare,
    "water": grounds.water,
    "frozen": grounds.frozen,
    "greenhouse": grounds.greenhouse,
}


@dataclass(frozen=True)
class Inputs:
    """What the simulator mixes: spectra, one canopy model a satellite, the crop calendar, gaps of real series."""

    spectra: Spectra
    canopies: dict[str, CanopyModel]
    calendar: CropCalendar | None = None
    patterns: npt.NDArray[np.bool_] | None = None


def read_inputs(
    settings: SimulationSettings,
    *,
    spectra: str | Path,
    response: str | Path,
    calendar: str | Path | None = None,
    patterns: Sequence[str | Path] = (),
) -> Inputs:
    """Read the files the simulator needs; errors name what is missing."""
    missing = [~np.isfinite(read_series(path).reflectance) for path in patterns]
    missing = [looks[~looks.all((1, 2))] for looks in missing]  # a series without any look is no pattern
    return Inputs(
        spectra=read_spectra(spectra, settings.pools),
        canopies={sensor: CanopyModel(points) for sensor, points in read_response(response).items()},
        calendar=None if calendar is None else CropCalendar.read(calendar),
        patterns=np.concatenate(missing) if missing else None,
    )


def simulate_series(
    settings: SimulationSettings,
    inputs: Inputs,
    *,
    count: int,
    seed: int,
    classes: Sequence[str] = (),
    advance: Callable[[int], None] = lambda _: None,
) -> pd.DataFrame:
    """Series of the settings' classes, drawn by their weights.

    Each series depends on seed and its own number only, so that a longer table begins with the shorter one.

    Returns
    -------
    pandas.DataFrame
        Columns of a series file: B02_m01 .. B12_m12 float32, dataset, sample_id, label, lon, lat, year, level.
    """
    if count < 1:
        raise ModelError(f"count {count}: simulate at least one series")
    captions = load_captions().captions
    for name, recipe in settings.classes.items():
        if (recipe.caption or name) not in captions:
            raise ModelError(f"class '{name}' is no caption of captions.yaml: name one with `caption:`")
    unknown = [name for name in classes if name not in settings.classes]
    if unknown:
        raise ModelError(f"class '{unknown[0]}' is not simulated; there are: {', '.join(settings.classes)}")
    names = list(classes) or list(settings.classes)
    weights = np.array([settings.classes[name].weight for name in names])
    values = np.empty((count, MONTHS, len(DEFAULT_BANDS)), np.float32)
    rows = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        values[number], scene = simulate_one(settings, inputs, name, rng)
        # Random numbers of their own: what is missing depends on nothing that was simulated, the class least of all.
        values[number][gaps(settings, inputs, np.random.default_rng([seed, number, 1]))] = np.nan
        rows.append({
            "dataset": "simulated", "sample_id": f"{seed}-{number}", "class": name,
            "label": settings.classes[name].caption or name,
            "landcover": captions[settings.classes[name].caption or name].landcover,
            "lon": round(scene.place.lon, 5), "lat": round(scene.place.lat, 5),
            "year": int(rng.integers(2017, 2025)), "level": "L2A", "region": scene.region,
        })  # fmt: skip
        advance(1)
    reflectance = pd.DataFrame(values.reshape(count, -1), columns=list(SERIES_COLUMNS))
    return pd.concat([pd.DataFrame(rows), reflectance], axis=1)


def simulate_one(
    settings: SimulationSettings, inputs: Inputs, name: str, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], Scene]:
    """One series (12, 10) of a class without gaps, and the scene it was made in."""
    recipe = settings.classes[name]
    scene = make_scene(settings, inputs, recipe, rng)
    surface = reflectance(scene, recipe)
    weather = settings.weather
    if scene.chance(weather.mixed):
        share = scene.draw(weather.mixed_share)
        neighbour = _neighbour(scene, name)
        surface = (1 - share) * surface + share * reflectance(scene, settings.classes[neighbour])
    return seen_through(scene, sloping(scene, surface, recipe.slope), weather).astype(np.float32), scene


def gaps(settings: SimulationSettings, inputs: Inputs, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """(12, 10) what is missing: months without a clear look, or months and bands of a real series."""
    if inputs.patterns is not None:
        return cast("npt.NDArray[np.bool_]", inputs.patterns[rng.integers(len(inputs.patterns))])
    return np.repeat(cloudy_months(rng, settings.weather.gap_months)[:, None], len(DEFAULT_BANDS), axis=1)


def make_scene(settings: SimulationSettings, inputs: Inputs, recipe: Recipe, rng: np.random.Generator) -> Scene:
    """Draw a place of one of the recipe's regions, its year, and when and by which satellite it is seen."""
    region = recipe.regions[int(rng.integers(len(recipe.regions)))]
    box = settings.regions[region]
    lon, lat = _outside(rng, box.lon, box.lat)
    place = Place(
        lon=lon,
        lat=lat,
        altitude=float(rng.uniform(*box.altitude)),
        continentality=float(rng.uniform(*box.continentality)),
        rain=float(rng.uniform(*box.rain)),
        wettest=float(rng.uniform(*box.wettest)),
        concentration=float(rng.uniform(*box.concentration)),
        rainy_seasons=box.rainy_seasons,
        warmer=box.warmer,
    )
    months = np.arange(1, 13)
    zenith = np.degrees(np.arccos(sun_height(np.full(12, place.lat), months)))
    return Scene(
        place=place,
        region=region,
        climate=climate_of(place, rng),
        days=30.4 * (months - 1) + rng.uniform(4, 27, 12),
        geometry=Geometry(sun=zenith, view=float(rng.uniform(0, 10)), azimuth=float(rng.uniform(0, 180))),
        settings=settings,
        spectra=inputs.spectra,
        canopies=inputs.canopies[SENSORS[int(rng.integers(len(SENSORS)))]],
        rng=rng,
        window={} if inputs.calendar is None else inputs.calendar.at(place.lon, place.lat),
    )


def _outside(rng: np.random.Generator, lon: tuple[float, float], lat: tuple[float, float]) -> tuple[float, float]:
    """A point of the box that is not in the excluded one."""
    while True:
        point = float(rng.uniform(*lon)), float(rng.uniform(*lat))
        west, east, south, north = EXCLUDED
        if not (west <= point[0] <= east and south <= point[1] <= north):
            return point


def reflectance(scene: Scene, recipe: Recipe) -> Floats:
    """(12, 10) the surface of a recipe in a scene, between 0 and 1.3."""
    if isinstance(recipe, Changed):
        names = [name for name in recipe.before if scene.region in scene.settings.classes[name].regions]
        before = reflectance(scene, scene.settings.classes[names[int(scene.rng.integers(len(names)))]])
        change = grounds.burnt if recipe.kind == "burnt" else grounds.flooded
        surface = change(scene, recipe, before)
    else:
        surface = _RECIPES[recipe.kind](scene, recipe)
    return np.clip(surface, 0.0, 1.3)


def _neighbour(scene: Scene, label: str) -> str:
    """Another class that occurs in the region."""
    others = [
        name for name, recipe in scene.settings.classes.items()
        if name != label and scene.region in recipe.regions and not isinstance(recipe, Changed)
    ]  # fmt: skip
    return others[int(scene.rng.integers(len(others)))] if others else label
