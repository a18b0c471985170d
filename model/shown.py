"""What an encoder is shown of a year: all of it, one month, few bands, or one band less. NaN = hidden."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from timesenmap.model.config import DEFAULT_BANDS

Floats = npt.NDArray[np.float32]

MONTH_NAMES: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip

SIX_BANDS: Final = ("B02", "B03", "B04", "B08", "B11", "B12")
"""Visible, near and short-wave infrared: what is left without the red edge."""


SHOWN: Final = 1 + 1 + 12 + 1 + len(DEFAULT_BANDS)
"""Number of :func:`variants_of` a year."""


class Shown(NamedTuple):
    """Series with a part hidden; ``rows`` bool (n,) is True where anything is left."""

    name: str
    reflectance: Floats
    rows: npt.NDArray[np.bool_]


def high_summer_only(reflectance: Floats, lat: npt.NDArray[np.float64]) -> Shown:
    """Keep the observed month nearest to July in the north, to January in the south.

    Parameters
    ----------
    reflectance
        float32 (n, 12, bands).
    lat
        float64 (n,) degrees; a place without counts as northern. Of two months as near, the earlier one stays.
    """
    observed = np.isfinite(reflectance).any(2)  # (n, 12)
    summer = np.where(lat < 0, 0, 6)[:, None]
    apart = np.abs(np.arange(12) - summer)
    distance = np.where(observed, np.minimum(apart, 12 - apart), 99)
    kept = np.zeros_like(observed)
    kept[np.arange(len(kept)), distance.argmin(1)] = True
    return _only("only the month nearest to high summer", reflectance, kept)


def one_month_only(reflectance: Floats, month: int) -> Shown:
    """Keep one calendar month, 0 = January, of the series that have it."""
    kept = np.zeros(reflectance.shape[:2], bool)
    kept[:, month] = True
    return _only(f"only {MONTH_NAMES[month]}", reflectance, kept)


def without_bands(name: str, reflectance: Floats, hidden: tuple[str, ...]) -> Shown:
    """Hide some bands throughout."""
    left = reflectance.copy()
    left[:, :, [DEFAULT_BANDS.index(band) for band in hidden]] = np.nan
    return Shown(name, left, _anything(left))


def variants_of(reflectance: Floats, lat: npt.NDArray[np.float64]) -> list[Shown]:
    """Every way the evaluation shows series: whole, a month each, six bands, one band less.

    Parameters
    ----------
    reflectance
        float32 (n, 12, 10), bands in the order of ``DEFAULT_BANDS``.
    lat
        float64 (n,) degrees.
    """
    red_edge = tuple(band for band in DEFAULT_BANDS if band not in SIX_BANDS)
    return [
        Shown("all months and bands", reflectance, _anything(reflectance)),
        high_summer_only(reflectance, lat),
        *(one_month_only(reflectance, month) for month in range(12)),
        without_bands(f"six bands ({', '.join(SIX_BANDS)})", reflectance, red_edge),
        *(without_bands(f"without {band}", reflectance, (band,)) for band in DEFAULT_BANDS),
    ]


def _only(name: str, reflectance: Floats, kept: npt.NDArray[np.bool_]) -> Shown:
    left = np.where(kept[:, :, None], reflectance, np.nan).astype(np.float32)
    return Shown(name, left, _anything(left))


def _anything(reflectance: Floats) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isfinite(reflectance).any((1, 2)), bool)
