"""Reflectance of water from what is in it: chlorophyll, dissolved matter, particles, and the bottom where shallow.

Sources: semi-analytical model with bottom, Lee et al. 1999 and 2002 (Appl. Opt. 38:3831, 41:5755), Albert and Gege
2006 (Appl. Opt. 45:2331); absorption of water, Pope and Fry 1997 (Appl. Opt. 36:8710), Kou et al. 1993 (Appl. Opt.
32:3531); phytoplankton, Bricaud et al. 1995 (J. Geophys. Res. 100:13321); particles, Babin et al. 2003 (J. Geophys.
Res. 108:3211, Limnol. Oceanogr. 48:843).
"""

from typing import Final, cast

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

WAVELENGTH: Final = np.array([492.0, 560, 665, 704, 741, 783, 833, 865, 1614, 2202])
WATER: Final = np.array([0.0157, 0.0619, 0.429, 0.704, 2.47, 2.30, 3.40, 4.61, 600.0, 1900.0])
"""Absorption of pure water in the bands, 1/m."""

PHYTOPLANKTON: Final = np.array([0.0245, 0.0080, 0.0180, 0.0035, 0.0006, 0.0, 0.0, 0.0, 0.0, 0.0])
"""Absorption of phytoplankton of 1 mg/m3, m2/mg; falls with chlorophyll to the power 0.8 (packaging)."""


def water_reflectance(
    *,
    chlorophyll: Floats,
    particles: Floats,
    dissolved: Floats,
    depth: Floats,
    bottom: Floats,
    sun_zenith: Floats,
    slope: float = 0.8,
) -> Floats:
    """Reflectance (n, 10) of water, without sky and sun glint.

    Parameters
    ----------
    chlorophyll
        (n,) mg/m3.
    particles
        (n,) suspended mineral matter, g/m3.
    dissolved
        (n,) absorption of dissolved organic matter at 440 nm, 1/m.
    depth
        (n,) metres.
    bottom
        (n, 10) reflectance of the bottom.
    sun_zenith
        (n,) degrees in air.
    slope
        Power by which backscattering of particles falls with wavelength.
    """
    c, p, d, z = (np.asarray(value, np.float64)[:, None] for value in (chlorophyll, particles, dissolved, depth))
    absorption = (
        WATER
        + PHYTOPLANKTON * c**0.8
        + d * np.exp(-0.015 * (WAVELENGTH - 440))
        + 0.04 * p * np.exp(-0.0115 * (WAVELENGTH - 443))
    )
    # Cells scatter weakly and flatly, minerals strongly.
    backscatter = 0.00144 * (WAVELENGTH / 500) ** -4.32 + 0.0010 * c**0.62 + 0.010 * p * (WAVELENGTH / 555) ** -slope
    share = backscatter / (absorption + backscatter)
    deep = share * (0.0895 + 0.1247 * share)
    down = 1 / np.cos(np.arcsin(np.sin(np.radians(np.asarray(sun_zenith)[:, None])) / 1.34))
    decay = (absorption + backscatter) * z
    up_column = 1.03 * np.sqrt(1 + 2.4 * share)
    up_bottom = 1.04 * np.sqrt(1 + 5.4 * share)
    below = deep * (1 - np.exp(-np.minimum((down + up_column) * decay, 50))) + bottom / np.pi * np.exp(
        -np.minimum((down + up_bottom) * decay, 50)
    )
    return cast("Floats", np.pi * 0.52 * below / (1 - 1.7 * below))
