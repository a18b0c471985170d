"""Measured spectra of grounds, dead plants, roofs, roads, snow and ash, by pool, and how wetness darkens them.

Source of the darkening: Lobell and Asner 2002, Soil Sci. Soc. Am. J. 66:722 (exponential, stronger in the short-wave
infrared).
"""

from pathlib import Path
from typing import Final, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from timesenmap.model.config import DEFAULT_BANDS
from timesenmap.model.errors import ModelError
from timesenmap.model.simulation.settings import Pool
from timesenmap.model.simulation.tables import read_table

Floats = npt.NDArray[np.float64]

SATURATED: Final = np.array([0.50, 0.48, 0.47, 0.47, 0.47, 0.47, 0.47, 0.47, 0.44, 0.41])
"""Reflectance of saturated over dry soil, by band."""

DARKENING: Final = np.array([2.4, 2.4, 2.4, 2.4, 2.4, 2.4, 2.4, 2.4, 2.4, 2.5])
"""How fast soil darkens with relative saturation, by band."""


def wetted(dry: Floats, wetness: Floats) -> Floats:
    """Soil (n, 10) of reflectance ``dry`` (10,) or (n, 10) at relative saturation ``wetness`` (n,)."""
    return cast("Floats", dry * (SATURATED + (1 - SATURATED) * np.exp(-DARKENING * np.asarray(wetness)[:, None])))


class Spectra:
    """Pools of spectra; a pool is a named choice of rows of the table."""

    def __init__(self, table: pd.DataFrame, pools: dict[str, Pool]) -> None:
        values = table[list(DEFAULT_BANDS)].to_numpy(np.float64, copy=True)
        # Some field spectrometers end before B12; on snow and ice it is a little darker than B11.
        values[:, 9] = np.where(np.isfinite(values[:, 9]), values[:, 9], 0.85 * values[:, 8])
        values = np.clip(values, 0.0, 1.0)
        self._pools: dict[str, list[Floats]] = {}
        for name, pool in pools.items():
            low, high = pool.red
            fitting = np.flatnonzero(table["group"].isin(pool.groups) & (values[:, 2] >= low) & (values[:, 2] <= high))
            fitting = fitting[table["source"].iloc[fitting].str.contains(pool.source).to_numpy(bool)]
            material = table["material"].iloc[fitting].str
            chosen = [values[fitting[material.contains(pattern).to_numpy(bool)]] for pattern in pool.materials]
            members = [spectra for spectra in chosen if len(spectra)]
            if not members:
                raise ModelError(
                    f"spectra: no row fits pool '{name}' (groups {', '.join(pool.groups)}): give a table with "
                    "these groups and materials"
                )
            self._pools[name] = members

    def draw(self, pool: str, rng: np.random.Generator) -> Floats:
        """One spectrum (10,) of a pool: first a kind of material, all alike, then one of its spectra."""
        members = self._pools[pool]
        kind = members[rng.integers(len(members))]
        return cast("Floats", kind[rng.integers(len(kind))])

    def mixture(self, pool: str, rng: np.random.Generator, parts: int) -> Floats:
        """Random mixture of several spectra of a pool."""
        shares = rng.dirichlet(np.ones(parts))
        return shares @ np.stack([self.draw(pool, rng) for _ in range(parts)])


def read_spectra(path: str | Path, pools: dict[str, Pool]) -> Spectra:
    """Read the table of spectra: parquet with source, material, group and a column for each of the ten bands."""
    columns = ("source", "material", "group", *DEFAULT_BANDS)
    remedy = f"give a parquet of surface spectra in Sentinel-2's bands with columns {', '.join(columns[:4])} .. B12"
    return Spectra(read_table(path, what="spectra", columns=columns, remedy=remedy), pools)
