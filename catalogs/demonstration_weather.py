"""When the demonstration's scenes are taken, and what the sky does: calendar, sun, clouds and their shadows."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from timesenmap.catalogs.demonstration_noise import Floats, fractal

Sky = Literal["cloudless", "clear", "cumulus", "broken", "cirrus", "overcast"]

YEAR = 2021
OVERCAST_MONTH = 11  # low cloud all month: no clear observation anywhere
SNOW = (1, 23)  # month and day of the one pass that sees snow lying
LATITUDE, LONGITUDE = 48.1, 10.9  # of the sun's course, degrees

SKIES: dict[str, tuple[float, ...]] = {  # chances of clear, cumulus, broken, cirrus, overcast
    "winter": (0.22, 0.08, 0.20, 0.10, 0.40),
    "summer": (0.30, 0.27, 0.20, 0.08, 0.15),
}
MISSING = 0.09  # share of acquisitions that never reached the archive


@dataclass(frozen=True)
class Orbit:
    """A relative orbit: which satellite, its first pass of the year, and whether it sees only the east."""

    number: int
    satellite: str
    first: dt.datetime
    partial: bool


# The true calendar of both orbits over southern Germany; every satellite returns after ten days.
ORBITS = (
    Orbit(65, "2B", dt.datetime(YEAR, 1, 1, 10, 24, 11, tzinfo=dt.UTC), partial=False),
    Orbit(22, "2A", dt.datetime(YEAR, 1, 3, 10, 14, 11, tzinfo=dt.UTC), partial=True),
)


@dataclass(frozen=True)
class Acquisition:
    """One pass over the place.

    `baseline` is the processing baseline; `offset` what it adds to DN (1000 from 04.00 on). `snow` is the share
    of open ground under snow, `haze` the reflectance that the atmosphere's correction left in the blue.
    """

    when: dt.datetime
    orbit: Orbit
    sky: Sky
    snow: float
    haze: float
    baseline: str
    offset: int
    index: int

    @property
    def day(self) -> float:
        """Day of year, the first of January being 0.4 or so in the morning."""
        start = dt.datetime(self.when.year, 1, 1, tzinfo=dt.UTC)
        return (self.when - start).total_seconds() / 86400

    @property
    def sun(self) -> tuple[float, float]:
        """Elevation and azimuth of the sun, degrees."""
        return sun_position(self.when)


def sun_position(when: dt.datetime) -> tuple[float, float]:
    """Elevation and azimuth (from north, clockwise) of the sun over the place, degrees.

    Spencer's series for declination and equation of time (Spencer 1971, Search 2(5):172), good to 0.3 degrees.
    """
    hours = when.hour + when.minute / 60 + when.second / 3600
    turn = 2 * np.pi * (when.timetuple().tm_yday - 1 + (hours - 12) / 24) / 365
    declination = (
        0.006918
        - 0.399912 * np.cos(turn)
        + 0.070257 * np.sin(turn)
        - 0.006758 * np.cos(2 * turn)
        + 0.000907 * np.sin(2 * turn)
    )
    minutes = 229.18 * (
        0.000075
        + 0.001868 * np.cos(turn)
        - 0.032077 * np.sin(turn)
        - 0.014615 * np.cos(2 * turn)
        - 0.040849 * np.sin(2 * turn)
    )
    hour_angle = np.deg2rad(15 * (hours + minutes / 60 - 12) + LONGITUDE)
    latitude = np.deg2rad(LATITUDE)
    height = np.arcsin(
        np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(hour_angle)
    )
    azimuth = np.arctan2(
        -np.cos(declination) * np.sin(hour_angle),
        np.sin(declination) * np.cos(latitude) - np.cos(declination) * np.sin(latitude) * np.cos(hour_angle),
    )
    return float(np.rad2deg(height)), float(np.rad2deg(azimuth) % 360)


def plan_year(seed: int) -> tuple[Acquisition, ...]:
    """All acquisitions of the year that reached the archive, in time order.

    Every month but `OVERCAST_MONTH` has at least one clear pass of the orbit that sees the whole place.
    """
    rng = np.random.default_rng([seed, 3])
    passes = []
    for orbit in ORBITS:
        when = orbit.first
        while when.year == YEAR:
            passes.append((when, orbit))
            when += dt.timedelta(days=10)
    passes.sort(key=lambda p: p[0])
    rolls = rng.random((len(passes), 3))
    skies = [_sky(when.month, rolls[i, 0]) for i, (when, _) in enumerate(passes)]
    kept = rolls[:, 1] >= MISSING
    for month in range(1, 13):
        whole = [i for i, (when, orbit) in enumerate(passes) if when.month == month and not orbit.partial]
        if month == OVERCAST_MONTH or any(skies[i] == "clear" and kept[i] for i in whole):
            continue
        chosen = whole[int(rolls[whole[0], 2] * len(whole))]
        skies[chosen], kept[chosen] = "clear", True
    for i, (when, orbit) in enumerate(passes):
        # Snow is seen once, between two clear views of bare ground, so that a monthly median leaves it out.
        around = not orbit.partial and when.month == 1 and when.day in {1, 31}
        if around or (when.month, when.day) == SNOW:
            skies[i], kept[i] = "cloudless", True
    acquisitions = []
    for i, (when, orbit) in enumerate(passes):
        if kept[i]:
            baseline, offset = _baseline(when, orbit)
            acquisitions.append(
                Acquisition(
                    when=when + dt.timedelta(seconds=int(rolls[i, 1] * 40)),
                    orbit=orbit,
                    sky=skies[i],
                    snow=0.85 if (when.month, when.day) == SNOW else 0.0,
                    haze=0.004 + 0.014 * float(rolls[i, 2]) ** 2,
                    baseline=baseline,
                    offset=offset,
                    index=i,
                )
            )
    return tuple(acquisitions)


def _sky(month: int, roll: float) -> Sky:
    if month == OVERCAST_MONTH:
        return "overcast"
    chances = SKIES["summer" if 4 <= month <= 9 else "winter"]
    kinds: tuple[Sky, ...] = ("clear", "cumulus", "broken", "cirrus", "overcast")
    return kinds[int(np.searchsorted(np.cumsum(chances)[:-1], roll, side="right"))]


def _baseline(when: dt.datetime, orbit: Orbit) -> tuple[str, int]:
    """Baseline and DN offset: half of the archive was processed again, as ESA's Collection 1 did with 2021.

    Reprocessed are the partial orbit's first half of the year and the other's second half, so that neither the
    date nor the orbit tells, only the item.
    """
    if orbit.partial == (when.month <= 6):
        return "05.00", 1000
    changes = ((dt.date(YEAR, 3, 30), "02.14"), (dt.date(YEAR, 7, 1), "03.00"))
    return next((name for until, name in changes if when.date() < until), "03.01"), 0


@dataclass(frozen=True)
class SkyView:
    """What stands between the sun, the ground and the satellite, each (y, x) on 10 m pixels, 0-1.

    `cloud` opacity, `cirrus` opacity of thin high cloud, `shadow` of clouds on the ground, `light` texture of
    the clouds' tops (about -2..2).
    """

    cloud: Floats
    cirrus: Floats
    shadow: Floats
    light: Floats


def draw_sky(acquisition: Acquisition, size: int, seed: int) -> SkyView:
    """Clouds, cirrus and shadows over a place of `size` x `size` pixels at one acquisition.

    A shadow is the cloud moved away from the sun by its height over the tangent of the sun's elevation.
    """
    rng = np.random.default_rng([seed, 4, acquisition.index])
    height = {"cumulus": 1100.0, "broken": 1500.0}.get(acquisition.sky, 900.0)
    elevation, azimuth = (float(np.deg2rad(angle)) for angle in acquisition.sun)
    reach = height / np.tan(elevation) / 10
    down, right = round(reach * np.cos(azimuth)), round(-reach * np.sin(azimuth))
    pad_y, pad_x = abs(down), abs(right)
    shape = (size + 2 * pad_y, size + 2 * pad_x)
    opacity, light = _opacity(acquisition.sky, shape, rng)
    rows, columns = slice(pad_y, pad_y + size), slice(pad_x, pad_x + size)
    cast = opacity[pad_y - down : pad_y - down + size, pad_x - right : pad_x - right + size]
    thin = np.zeros((size, size), np.float32)
    if acquisition.sky in {"cirrus", "broken"}:
        streaks = fractal((size, size), rng, slope=3.2, coarsest=1.5, stretch=0.35)
        thin = np.clip(0.16 + 0.16 * streaks, 0, 0.45) * (1.0 if acquisition.sky == "cirrus" else 0.3)
    cloud = opacity[rows, columns]
    shadow = cast * (1 - cloud)
    return SkyView(
        cloud=np.ascontiguousarray(cloud),
        cirrus=np.asarray(thin, np.float32),
        shadow=np.asarray(shadow, np.float32),
        light=np.ascontiguousarray(light[rows, columns]),
    )


def _opacity(sky: Sky, shape: tuple[int, int], rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Opacity 0-1 of the clouds and the texture of their tops."""
    extent = max(shape)
    light = fractal(shape, rng, slope=2.8, coarsest=extent / 120)
    if sky == "overcast":
        return np.clip(0.97 + 0.02 * light, 0.85, 1).astype(np.float32), light
    if sky == "cumulus":
        field = fractal(shape, rng, slope=3.9, coarsest=extent / 60) + 0.5 * fractal(shape, rng, slope=3, coarsest=2)
        share, soft = rng.uniform(0.12, 0.32), 0.6
    elif sky == "broken":
        field = fractal(shape, rng, slope=3.7, coarsest=extent / 220)
        share, soft = rng.uniform(0.45, 0.75), 0.5
    elif sky == "clear":
        field = fractal(shape, rng, slope=3.9, coarsest=extent / 50) + 0.8 * fractal(shape, rng, slope=3.4, coarsest=1)
        share, soft = max(rng.uniform(-0.03, 0.03), 0.0), 0.5
    else:
        return np.zeros(shape, np.float32), light
    if share == 0:
        return np.zeros(shape, np.float32), light
    edge = np.quantile(field, 1 - share)
    rise = np.clip((field - edge) / (soft * field.std()) + 0.25, 0, 1)
    return _soften(rise * rise * (3 - 2 * rise)), light


def _soften(values: npt.NDArray[np.floating]) -> Floats:
    """Mean over 5 x 5 pixels: a cloud has no edge as sharp as 10 m, and no fleck as small."""
    padded = np.pad(values.astype(np.float32), 2, mode="edge")
    rows = sum((padded[k : k + values.shape[0]] for k in range(5)), start=np.float32(0))
    summed = sum((np.asarray(rows)[:, k : k + values.shape[1]] for k in range(5)), start=np.float32(0))
    return np.asarray(summed, np.float32) / np.float32(25)
