"""The year of single pixels, for the report: NDVI of twelve months, thinned to what a page can carry.

NDVI = (B08 - B04) / (B08 + B04), from the cube's monthly medians (Tucker 1979, https://doi.org/10.1016/0034-4257(79)90013-0).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.windows import Window

from timesenmap.catalogs.bands import BANDS
from timesenmap.pipeline.rasters import NO_VALUE
from timesenmap.pipeline.stores import Store, StoreLike

# As pictures carry it: NDVI in steps of 0.02, so 0..100, and 255 where a month was not seen.
STEP = 0.02
MOST_POINTS = 100_000  # of a page: 0.6 MB for the 92,416 of the demonstration
_LONGEST = 16_000 // 12, 16_000  # rows (twelve months lie below each other), columns: what every browser decodes


@dataclass(frozen=True)
class Curves:
    """NDVI of every ``every``-th pixel in both directions.

    Parameters
    ----------
    values
        (12, y, x) uint8: round((NDVI + 1) / 0.02), 255 = not seen, or outside the area. The months are the cube's.
        Row i, column j is the middle pixel of the ``every`` x ``every`` pixels from row ``i * every`` and column
        ``j * every`` on.
    every
        1 where each pixel of the map has its curve.
    """

    values: NDArray[np.uint8]
    every: int

    def picture(self) -> Image.Image:
        """Grey picture (12 * y, x) with the months below each other, first month on top: small as PNG, and exact."""
        months, rows, columns = self.values.shape
        return Image.fromarray(self.values.reshape(months * rows, columns))


def ndvi(red: NDArray[np.uint16], infrared: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """NDVI in steps of 0.02 from 0 (-1) to 100 (1); 255 where either is 0, which is no observation."""
    r, n = red.astype(np.float32), infrared.astype(np.float32)
    seen = (red > 0) & (infrared > 0)
    index = np.divide(n - r, n + r, out=np.zeros_like(r), where=seen)
    steps: NDArray[np.uint8] = np.where(seen, np.rint((index + 1) / STEP), 255).astype(np.uint8)
    return steps


def read_curves(cube: StoreLike, observations: Path, *, most: int | None = None) -> Curves | None:
    """Read the curves of a map's pixels from its cube, block by block; None where the cube was not kept.

    All of the cube is decoded, however few points are kept: 1.4 million pixels a second of one core.

    Parameters
    ----------
    cube
        Store with ``reflectance`` (12, 10, y, x), as ``create_cube`` makes it.
    observations
        The run's ``observations.tif``: pixels that are no data there lie outside the area.
    most
        Points at most, ``MOST_POINTS`` by default; a larger map is thinned.
    """
    cube = Store.at(cube)
    if not cube.exists():
        return None
    reflectance = cube.array("reflectance")
    _, _, height, width = reflectance.shape
    every = _thinning(height, width, most or MOST_POINTS)
    values = np.full((12, math.ceil(height / every), math.ceil(width / every)), 255, np.uint8)
    rows, columns = _middles(height, every), _middles(width, every)
    bands = [BANDS.index("B04"), BANDS.index("B08")]
    tall, wide = reflectance.chunks[-2:]  # so that each is decoded once
    with rasterio.open(observations) as source:
        for y0 in range(0, height, tall):
            i = np.flatnonzero((rows >= y0) & (rows < y0 + tall))
            for x0 in range(0, width, wide):
                j = np.flatnonzero((columns >= x0) & (columns < x0 + wide))
                if not i.size or not j.size:
                    continue
                y1, x1 = min(y0 + tall, height), min(x0 + wide, width)
                chosen = np.ix_(rows[i] - y0, columns[j] - x0)
                inside = source.read(1, window=Window.from_slices((y0, y1), (x0, x1)))[chosen] != NO_VALUE
                if not inside.any():
                    continue
                block = np.asarray(reflectance[:, :, y0:y1, x0:x1])[:, bands][..., rows[i] - y0, :][
                    ..., columns[j] - x0
                ]
                year = np.where(inside, ndvi(block[:, 0], block[:, 1]), 255)
                values[:, i[0] : i[-1] + 1, j[0] : j[-1] + 1] = year
    return Curves(values, every)


def _thinning(height: int, width: int, most: int) -> int:
    every = max(1, math.ceil(height / _LONGEST[0]), math.ceil(width / _LONGEST[1]))
    while math.ceil(height / every) * math.ceil(width / every) > most:
        every += 1
    return every


def _middles(length: int, every: int) -> NDArray[np.int64]:
    """Middle pixel of each group of ``every``; the last one of the map where the last group is cut off before it."""
    return np.minimum(np.arange(math.ceil(length / every)) * every + every // 2, length - 1)
