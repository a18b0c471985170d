"""Top-of-atmosphere (L1C) series brought near the surface: a first-order correction for training data.

Maps are made from surface reflectance (L2A); some labelled series exist at the top of the atmosphere only.
Air alone adds 0.04 to 0.1 to their blue. Single scattering by molecules and a thin haze, with transmission
and ozone, at sea level, seen from nadir, sun of mid-month at the overpass; no terrain, no real aerosol.
Not for products.

Sources: Rayleigh optical depth, Hansen and Travis 1974, Space Sci. Rev. 16:527; single scattering and the
inversion rho = y / (1 + S y), Vermote et al. 1997, IEEE TGRS 35:675; overpass 10:30 local time, Sentinel-2.
"""

from typing import Final, cast

import numpy as np
import numpy.typing as npt

WAVELENGTH: Final = np.array([0.492, 0.560, 0.665, 0.704, 0.741, 0.783, 0.833, 0.865, 1.614, 2.202])
"""Central wavelengths of B02 B03 B04 B05 B06 B07 B08 B8A B11 B12, micrometres (Sentinel-2A)."""

OZONE: Final = np.array([0.006, 0.030, 0.015, 0.006, 0.003, 0.0, 0.0, 0.0, 0.0, 0.0])
"""Optical depth of 300 Dobson units of ozone (Chappuis band)."""

HAZE: Final = 0.25
"""Aerosol optical depth at 0.55 micrometres, falling with wavelength to the power 1.3: the dusty air of Central
Asia in summer, where most of the L1C series come from (North American wildland is clearer)."""


def sun_height(lat: npt.NDArray[np.floating], month: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Cosine of the sun's zenith angle in mid-month at 10:30 local time; latitudes in degrees, months 1-12."""
    day = 30.4 * (np.asarray(month) - 0.5)
    declination = np.radians(-23.44) * np.cos(2 * np.pi * (day + 10) / 365.0)
    hour = np.radians(-22.5)  # an hour and a half before noon
    phi = np.radians(lat)
    cosine = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(hour)
    # Sentinel-2 processes nothing under a sun lower than 8 degrees; a floor keeps the path finite.
    return cast("npt.NDArray[np.float64]", np.maximum(cosine, 0.2))


def surface_from_top(reflectance: npt.NDArray[np.floating], lat: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Surface reflectance (n, 12, 10) from top-of-atmosphere reflectance of the same shape; lat (n,) degrees."""
    mu = sun_height(np.asarray(lat)[:, None], np.arange(1, 13)[None, :])[..., None]  # (n, 12, 1)
    inverse = WAVELENGTH**-2
    air = 0.008569 * inverse**2 * (1 + 0.0113 * inverse + 0.00013 * inverse**2)  # (10,)
    haze = HAZE * (WAVELENGTH / 0.55) ** -1.3
    ozone = np.exp(-OZONE * (1 / mu + 1))
    # Scattering angle for a nadir view is 180 degrees less the sun's zenith: molecules 3/4 (1 + cos^2), haze 0.2.
    strength = air * 0.75 * (1 + mu**2) + haze * 0.2
    depth = air + haze
    path = strength / depth / (4 * (mu + 1)) * (1 - np.exp(-depth * (1 / mu + 1)))
    # Half of what molecules scatter and nine tenths of what haze scatters go on downwards or upwards.
    through = np.exp(-(0.5 * air + 0.1 * haze) * (1 / mu + 1))
    back = 0.9 * air * np.exp(-air) + 0.15 * haze
    y = (reflectance / ozone - path) / through
    surface: npt.NDArray[np.float32] = np.maximum(y / (1 + back * y), 1e-4).astype(np.float32)
    return surface
