"""Weather of a place through a year: temperature, soil moisture, snow and what lets plants grow, in steps of 5 days.

Nothing here is a record of a true year: latitude, altitude, distance from the sea and rain regime give a plausible one.

Sources: zonal temperature fitted to Legates and Willmott 1990 (Theor. Appl. Climatol. 41:11); potential evaporation,
Hamon 1961 (J. Hydraul. Div. ASCE 87:107); snow by degree-days, Hock 2003 (J. Hydrol. 282:104); growing season index,
Jolly et al. 2005 (Glob. Change Biol. 11:619).
"""

from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STEP: Final = 5.0
DAYS: Final = np.arange(0, 365, STEP) + STEP / 2
"""(73,) day of year in the middle of each step."""

BUCKET: Final = 150.0
"""Water the root zone holds, millimetres."""

MELT: Final = 3.5
"""Snow melting, millimetres a day and degree."""


@dataclass(frozen=True)
class Place:
    """Where a series is: degrees, metres, share of continentality 0-1, rain of a year in millimetres and its regime."""

    lon: float
    lat: float
    altitude: float
    continentality: float
    rain: float
    wettest: float
    concentration: float
    rainy_seasons: int
    warmer: float = 0.0

    @property
    def southern(self) -> bool:
        """South of the equator."""
        return self.lat < 0


@dataclass(frozen=True)
class Climate:
    """A year at a place; arrays (73,).

    Attributes
    ----------
    temperature
        Mean of day and night, degrees Celsius.
    moisture
        Filling of the root zone, 0-1.
    snow
        Water in the snow cover, millimetres.
    growth
        Growing season index of herbs, 0-1: temperature, day length and water.
    warmth
        The same without water: what irrigated and deep-rooted plants feel.
    supply
        Rain over potential evaporation of the year, at most 1: how much leaf area the place can feed (Grier and
        Running 1977, Ecology 58:893; aridity index of UNEP).
    """

    temperature: Floats
    moisture: Floats
    snow: Floats
    growth: Floats
    warmth: Floats
    supply: float

    def at(self, values: Floats, days: Floats) -> Floats:
        """Values of one of the arrays on days of the year (any number, wrapping round)."""
        return cast("Floats", np.interp(days, DAYS, values, period=365.0))


def day_length(lat: float, days: Floats = DAYS) -> Floats:
    """Hours from sunrise to sunset."""
    declination = np.radians(-23.44) * np.cos(2 * np.pi * (days + 10) / 365.0)
    cosine = -np.tan(np.radians(np.clip(lat, -66, 66))) * np.tan(declination)
    return cast("Floats", 24 / np.pi * np.arccos(np.clip(cosine, -1, 1)))


def climate_of(place: Place, rng: np.random.Generator) -> Climate:
    """One year at a place, with the chance of that year (temperature +-1.2 K, rain +-25 %)."""
    mean = 27.0 - 0.0068 * place.lat**2 + 10.0 * (0.35 - place.continentality) * abs(place.lat) / 50
    mean += place.warmer + rng.normal(0, 1.2) - 0.0065 * place.altitude
    half_range = 0.3 * abs(place.lat) * (0.3 + 0.9 * place.continentality)
    warmest = 200.0 + (182.5 if place.southern else 0.0)
    temperature = mean + half_range * np.cos(2 * np.pi * (DAYS - warmest) / 365.0)
    temperature = temperature + np.convolve(rng.normal(0, 2.5, DAYS.size + 4), np.ones(5) / 5, "valid")
    shape = ((1 + np.cos(2 * np.pi * place.rainy_seasons * (DAYS - place.wettest) / 365.0)) / 2) ** place.concentration
    rain = place.rain * rng.lognormal(0, 0.25) * shape / shape.sum()
    rain = rain * rng.gamma(1.5, 1 / 1.5, DAYS.size)
    evaporation = _potential_evaporation(temperature, day_length(place.lat))
    moisture, snow = _water_balance(temperature, rain, evaporation)
    warmth = np.clip((temperature - 3) / 7, 0, 1) * np.clip((day_length(place.lat) - 9) / 1.5, 0, 1)
    watered = np.clip((moisture - 0.08) / 0.35, 0, 1)
    return Climate(
        temperature=temperature,
        moisture=moisture,
        snow=snow,
        growth=_smooth(warmth * watered),
        warmth=_smooth(warmth),
        supply=min(float(rain.sum() / evaporation.sum()), 1.0),
    )


def _potential_evaporation(temperature: Floats, light: Floats) -> Floats:
    """Millimetres a step (Hamon's, with the coefficient of 1.2 that Lu et al. 2005 find, JAWRA 41:621)."""
    saturation = 6.108 * np.exp(17.27 * temperature / (temperature + 237.3))
    return 1.2 * STEP * 0.165 * 216.7 * (light / 12) * saturation / (temperature + 273.3)


def _water_balance(temperature: Floats, rain: Floats, evaporation: Floats) -> tuple[Floats, Floats]:
    """Root-zone moisture and snow after two years of the same weather, so that the start is forgotten."""
    solid = np.clip((1.0 - temperature) / 3, 0, 1)
    melt = MELT * STEP * np.clip(temperature + 1.0, 0, None)  # it thaws at noon when the mean is below 0
    steps = DAYS.size
    moisture, snow = np.empty(steps), np.empty(steps)
    stored, lying = BUCKET / 2, 0.0
    for step in [*range(steps), *range(steps)]:
        lying += rain[step] * solid[step]
        thawed = min(lying, melt[step])
        lying -= thawed
        stored += rain[step] * (1 - solid[step]) + thawed
        stored -= evaporation[step] * min(stored / (0.6 * BUCKET), 1.0)
        stored = min(max(stored, 0.0), BUCKET)
        moisture[step], snow[step] = stored / BUCKET, lying
    return moisture, snow


def _smooth(values: Floats, steps: int = 5) -> Floats:
    """Running mean over the last ``steps`` steps, round the year: plants lag behind the weather."""
    return cast("Floats", np.mean([np.roll(values, shift) for shift in range(steps)], axis=0))
