"""What covers the ground of the demonstration: spectra through the year, height, land-cover code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

TABLE = Path(__file__).with_name("demonstration_spectra.csv")

ARTIFICIAL, CROPLAND, WOODLAND, SHRUBLAND, GRASSLAND, BARE, WATER, WETLAND = range(1, 9)
LANDCOVER = {  # LUCAS level 1, the codes and names of the prompt set `land-cover`
    ARTIFICIAL: "artificial land",
    CROPLAND: "cropland",
    WOODLAND: "woodland",
    SHRUBLAND: "shrubland",
    GRASSLAND: "grassland",
    BARE: "bare land",
    WATER: "water",
    WETLAND: "wetlands",
}

Weights = float | Sequence[float]


@dataclass(frozen=True)
class Cover:
    """One kind of surface: a mixture of classes of the table.

    `parts` gives each class's share, one number or twelve (January first); `height` (metres) casts shadows;
    `between` and `within` scale the table's spread for whole patches (a field, a roof) and for pixels inside;
    `snow` is the share of it that snow hides after a snowfall.
    """

    name: str
    landcover: int
    parts: Mapping[str, Weights]
    height: float = 0.0
    between: float = 0.7
    within: float = 0.25
    snow: float = 0.9
    lucas: str = field(default="")


def _crop(name: str, lucas: str, between: float = 0.7) -> Cover:
    return Cover(name, CROPLAND, {name: 1.0}, between=between, lucas=lucas)


# LUCAS 2018 codes of the crops, for a legend; "B55" is temporary grassland. The few series of sunflower
# come from all over France, so their spread is wider than that of fields in one valley.
CROPS = (
    _crop("winter wheat", "B11"),
    _crop("winter barley", "B13"),
    _crop("spring barley", "B13"),
    _crop("winter rapeseed", "B32"),
    _crop("maize", "B16"),
    _crop("sunflower", "B31", between=0.4),
    _crop("clover-grass", "B55"),
)
# Shares by month of algae in the lake and of silt in the river: chosen, not measured.
_LAKE_GREEN = (0.1, 0.1, 0.2, 0.35, 0.35, 0.4, 0.55, 0.65, 0.55, 0.4, 0.25, 0.15)
_RIVER_SILT = (0.25, 0.3, 0.4, 0.4, 0.35, 0.3, 0.25, 0.2, 0.2, 0.2, 0.25, 0.25)


def _mixed(weights: Sequence[float]) -> tuple[float, ...]:
    return tuple(1 - w for w in weights)


COVERS: tuple[Cover, ...] = (
    *CROPS,
    Cover("meadow", GRASSLAND, {"meadow": 1.0}),
    Cover("broadleaved forest", WOODLAND, {"broadleaved forest": 1.0}, height=18, within=0.45, snow=0.35),
    Cover("coniferous forest", WOODLAND, {"coniferous forest": 1.0}, height=22, within=0.45, snow=0.2),
    Cover("hedge", WOODLAND, {"broadleaved forest": 0.8, "meadow": 0.2}, height=6, within=0.4, snow=0.5),
    Cover("heath", SHRUBLAND, {"heath": 1.0}, height=1, between=0.45, within=0.4, snow=0.7),
    Cover("wetland", WETLAND, {"wetland": 0.9, "green water": 0.1}, between=0.4, within=0.4, snow=0.6),
    Cover("lake", WATER, {"clear water": _mixed(_LAKE_GREEN), "green water": _LAKE_GREEN}, within=0.2, snow=0.0),
    Cover("river", WATER, {"clear water": _mixed(_RIVER_SILT), "turbid water": _RIVER_SILT}, within=0.2, snow=0.0),
    Cover("red roof", ARTIFICIAL, {"red roof": 0.75, "asphalt": 0.25}, height=9, between=0.8, snow=0.6),
    Cover("grey roof", ARTIFICIAL, {"grey roof": 0.7, "asphalt": 0.3}, height=9, between=0.6, snow=0.6),
    Cover("hall roof", ARTIFICIAL, {"metal roof": 0.55, "asphalt": 0.45}, height=8, between=0.6, snow=0.6),
    Cover("asphalt", ARTIFICIAL, {"asphalt": 1.0}, between=0.3, snow=0.3),
    Cover("yard", ARTIFICIAL, {"asphalt": 0.8, "concrete": 0.05, "meadow": 0.15}, between=0.4, snow=0.5),
    Cover("garden", ARTIFICIAL, {"meadow": 0.5, "broadleaved forest": 0.3, "asphalt": 0.2}, snow=0.8),
    Cover("track", ARTIFICIAL, {"gravel": 0.6, "meadow": 0.4}, between=0.3, snow=0.8),
    Cover("quarry", BARE, {"gravel": 0.6, "sand": 0.15, "earth": 0.25}, between=0.3, within=0.3),
    Cover("sand", BARE, {"sand": 0.5, "gravel": 0.3, "earth": 0.2}, between=0.5, within=0.5),
)
CODE = {cover.name: code for code, cover in enumerate(COVERS)}
"""Position of each cover in `COVERS`, by name."""


@dataclass(frozen=True)
class ClassSpectra:
    """Mean and sd (12 months, 10 bands) and principal loadings (10 bands, 3) of one class, reflectance 0-1."""

    mean: Floats
    sd: Floats
    loadings: Floats


@lru_cache(maxsize=1)
def load_spectra() -> dict[str, ClassSpectra]:
    """Read the shipped table (see `demonstration_spectra`): class name -> its statistics."""
    table = pd.read_csv(TABLE, comment="#")
    spectra = {}
    for name, rows in table.groupby("class", sort=False):
        months = len(rows) // 10
        mean, sd = (np.resize(rows[c].to_numpy(float).reshape(months, 10), (12, 10)) for c in ("mean", "sd"))
        loadings = rows[["pc1", "pc2", "pc3"]].to_numpy(float)[:10]
        spectra[str(name)] = ClassSpectra(mean=mean, sd=sd, loadings=loadings)
    return spectra


@dataclass(frozen=True)
class CoverYear:
    """Spectra of all covers through a year, reflectance 0-1.

    `mean` (covers, 12, 10); `modes` (covers, 12, 10, 3): what one unit of each principal score adds.
    """

    mean: Floats
    modes: Floats

    def on(self, day: Floats) -> tuple[Floats, Floats]:
        """Mean and modes on each day of year, interpolated between the middles of months.

        `day` has one entry per cover or broadcasts: the result's first axis follows `day`, the second the
        covers: shapes (days, covers, 10) and (days, covers, 10, 3).
        """
        position = (np.atleast_1d(day) / 365.25 * 12 - 0.5) % 12
        low = position.astype(int) % 12
        share = position - np.floor(position)
        both = []
        for table in (self.mean, self.modes):
            weight = share.reshape(-1, *[1] * (table.ndim - 1))
            by_month = np.moveaxis(table, 1, 0)  # (12, covers, ...)
            both.append(by_month[low] * (1 - weight) + by_month[(low + 1) % 12] * weight)
        return both[0], both[1]


@lru_cache(maxsize=1)
def cover_year() -> CoverYear:
    """Monthly spectra of `COVERS`, mixed from the shipped table."""
    spectra = load_spectra()
    mean = np.zeros((len(COVERS), 12, 10))
    modes = np.zeros((len(COVERS), 12, 10, 3))
    for code, cover in enumerate(COVERS):
        for name, weights in cover.parts.items():
            share = np.broadcast_to(np.asarray(weights, float), (12,))[:, None]
            mean[code] += share * spectra[name].mean
            modes[code] += (share * spectra[name].sd)[..., None] * spectra[name].loadings
    return CoverYear(mean=mean, modes=modes)
