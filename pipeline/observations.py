"""How much of the year was seen: months with a clear observation, by pixel and in sum."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from timesenmap.pipeline.aoi import Aoi
from timesenmap.pipeline.grid import aoi_mask
from timesenmap.pipeline.stores import Store

OUTSIDE = 255


def count_observations(clear: NDArray[np.uint8], inside: NDArray[np.bool_]) -> dict[str, list[int]]:
    """Count the clear observations of a tile, inside the AOI, in sums that add up over tiles.

    Parameters
    ----------
    clear : (12, y, x) uint8, number of clear observations in each month
    inside : (y, x) bool, True inside the AOI

    Returns
    -------
    ``pixels`` (1), ``clear_by_month`` (12: pixels seen in that month), ``clear_months`` (13: pixels with 0..12 months).
    """
    seen = clear[:, inside] > 0
    return {
        "pixels": [int(inside.sum())],
        "clear_by_month": [int(n) for n in seen.sum(axis=1)],
        "clear_months": [int(n) for n in np.bincount(seen.sum(axis=0), minlength=13)],
    }


class Observations:
    """Months with a clear observation, (y, x) uint8 0..12 and 255 outside the AOI, read from the cube by slicing."""

    def __init__(self, cube: Store, aoi: Aoi, grid: GeoBox) -> None:
        self._clear = cube.array("clear")
        self._aoi = aoi
        self._grid = grid

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x)."""
        height, width = self._grid.shape.yx
        return height, width

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Values of a window given as two slices (y, x)."""
        rows, cols = key
        months = (np.asarray(self._clear[:, rows, cols]) > 0).sum(axis=0, dtype=np.uint8)
        inside = aoi_mask(self._aoi, self._grid[rows, cols])
        return np.where(inside, months, np.uint8(OUTSIDE))
