"""Generated class maps of any size, for benchmarks: fields, single pixels that disagree, no data; read by slicing."""

from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.spatial import cKDTree

from timesenmap.pipeline.legend import LegendEntry

CLASSES = tuple(
    LegendEntry(code, f"class {code}", f"#{40 + 25 * code:02x}{240 - 20 * code:02x}66") for code in range(1, 9)
)
_CELL = 2048
_PIXELS_A_FIELD = 400  # four hectares on the 10 m grid
_ODD = 0.025  # single pixels: with them a patch has 45 pixels on average; raw maps of make-map have about 37


class Patchwork:
    """A class map (y, x) uint8 that is computed where it is sliced: codes 1..8, 0 = no data.

    One cell of 2048 x 2048 pixels is drawn (cells around random points, and single pixels); every other is that cell
    mirrored, turned and recoded in a way of its own, so that any window costs little more than a copy. A twentieth of
    the cells has no data.
    """

    def __init__(self, height: int, width: int) -> None:
        self.shape = (height, width)
        rng = np.random.default_rng(11)
        count = _CELL * _CELL // _PIXELS_A_FIELD
        fields = rng.choice(8, count, p=[0.05, 0.35, 0.25, 0.02, 0.25, 0.02, 0.04, 0.02]).astype(np.uint8) + np.uint8(1)
        tree = cKDTree(rng.random((count, 2)) * _CELL * [1.0, 0.6])
        centres = np.arange(_CELL) + 0.5
        self._cell = np.empty((_CELL, _CELL), np.uint8)
        for y in range(_CELL):
            number = tree.query(np.column_stack([np.full(_CELL, centres[y]), centres * 0.6]))[1]
            self._cell[y] = fields[number]
        odd = rng.random(self._cell.shape) < _ODD
        self._cell[odd] = rng.integers(1, 9, int(odd.sum()))

    @property
    def grid(self) -> GeoBox:
        """A north-up grid of 10 m in EPSG:3035."""
        return GeoBox(self.shape, Affine(10, 0, 3_000_000, 0, -10, 4_000_000), "EPSG:3035")

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Codes (y, x) of a window given as two slices."""
        rows, columns = key
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        for i in range(rows.start // _CELL, -(-rows.stop // _CELL)):
            for j in range(columns.start // _CELL, -(-columns.stop // _CELL)):
                y0, y1 = max(rows.start, i * _CELL), min(rows.stop, (i + 1) * _CELL)
                x0, x1 = max(columns.start, j * _CELL), min(columns.stop, (j + 1) * _CELL)
                here = out[y0 - rows.start : y1 - rows.start, x0 - columns.start : x1 - columns.start]
                rng = np.random.default_rng([7, i, j])
                cell = np.rot90(self._cell, rng.integers(4))[:: rng.choice([1, -1])]
                codes = np.concatenate([[0], rng.permutation(8) + 1]).astype(np.uint8)
                if rng.random() < 0.05:
                    codes[:] = 0
                here[:] = codes[cell[y0 - i * _CELL : y1 - i * _CELL, x0 - j * _CELL : x1 - j * _CELL]]
        return out
