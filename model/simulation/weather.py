"""What stands between the land and the table: slope, haze, cloud left over, shadow, sensor noise and missing months."""

from typing import Final, cast

import numpy as np
import numpy.typing as npt

from timesenmap.model.atmosphere import WAVELENGTH
from timesenmap.model.simulation.scene import Scene
from timesenmap.model.simulation.settings import Range, Weather

Floats = npt.NDArray[np.float64]

CLOUD: Final = np.array([0.62, 0.60, 0.60, 0.61, 0.63, 0.64, 0.65, 0.65, 0.48, 0.34])
"""Thin cloud over land, as surface reflectance would have it."""

DIFFUSE: Final = np.array([0.30, 0.22, 0.15, 0.13, 0.12, 0.11, 0.10, 0.10, 0.04, 0.03])
"""Share of skylight: a slope turned away loses the sun's part only (Teillet et al. 1982, Can. J. Remote Sens. 8:84)."""


def sloping(scene: Scene, surface: Floats, slope: Range) -> Floats:
    """The surface (12, 10) on a slope, as products without terrain correction show it."""
    tilt = np.radians(scene.draw(slope))
    aspect = scene.rng.uniform(0, 2 * np.pi)
    zenith = np.radians(scene.geometry.sun)
    # At half past ten the sun stands in the south-east, in the southern hemisphere in the north-east.
    sun_azimuth = np.radians(40.0 if scene.place.southern else 150.0)
    incidence = np.cos(zenith) * np.cos(tilt) + np.sin(zenith) * np.sin(tilt) * np.cos(aspect - sun_azimuth)
    direct = np.clip(incidence, 0.05, None) / np.cos(zenith)
    direct = np.clip(direct, 0.15, 1.6)[:, None]
    return cast("Floats", surface * (DIFFUSE + (1 - DIFFUSE) * direct))


def seen_through(scene: Scene, surface: Floats, weather: Weather) -> Floats:
    """The surface (12, 10) as a monthly composite has it."""
    rng = scene.rng
    haze = np.where(rng.random(12) < weather.haze_months, rng.exponential(weather.haze, 12), 0.0)[:, None]
    low, high = weather.haze_always
    haze = haze + low + (high - low) * rng.random() ** 2
    seen = surface * (1 - 1.5 * haze) + haze * (WAVELENGTH / 0.492) ** -rng.uniform(0.8, 2.0)
    cloud = np.where(rng.random(12) < weather.cloud_months, rng.uniform(*weather.cloud, 12), 0.0)[:, None]
    seen = (1 - cloud) * seen + cloud * CLOUD
    shadow = np.where(rng.random(12) < weather.shadow_months, rng.uniform(*weather.shadow, 12), 0.0)[:, None]
    seen = seen * (1 - shadow * (1 - DIFFUSE))
    seen = seen * (1 + rng.normal(0, scene.draw(weather.common_noise), (12, 1)))
    seen = seen * (1 + rng.normal(0, scene.draw(weather.noise), (12, 10)))
    seen = seen + rng.normal(0, scene.draw(weather.floor_noise), (12, 10))
    seen = seen * (1 + rng.normal(0, weather.band_factor, 10)) + rng.normal(0, weather.offset, 10)
    return cast("Floats", np.clip(seen, 1e-4, 1.5))


def cloudy_months(rng: np.random.Generator, share: Range) -> npt.NDArray[np.bool_]:
    """(12,) months without a clear look; nothing about place or class is asked, so that it tells nothing."""
    missing = rng.random(12) < rng.uniform(*share)
    if missing.all():
        missing[rng.integers(12)] = False
    return missing
