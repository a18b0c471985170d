"""The year of single pixels, for the report: NDVI of twelve months, thinned to what a page can carry.

NDVI = (B08 - B04) / (B08 + B04), from the cube's monthly medians (Tucker 1979, https://doi.org/10.1016/0034-4257(79)90013-0).
"""

import itertools
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
WINDOW = 256
"""Side of the windows in which the cube is read: that of its chunks, where tiles are a multiple of it."""
_BANDS = BANDS.index("B04"), BANDS.index("B08")
_LONGEST = 16_000 // 12, 16_000  # rows (twelve months lie below each other), columns: what every browser decodes


@dataclass(frozen=True)
class Curves:
    """NDVI of every ``every``-th pixel in both directions.

    Parameters
    ----------
    values
        (12, y, x) uint8: round((NDVI + 1) / 0.02), 255 = not seen, or outside the area. The months are the cube's.
        Row i, column j is one of the ``every`` x ``every`` pixels from row ``i * every`` and column ``j * every`` on,
        as a rule the middle one.
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
    """Read the curves of a map's pixels from its cube; None where the cube was not kept.

    Only windows of the cube that hold a pixel to be kept are decoded. Which pixels are kept depends on the size of the
    map alone, not on its tiles.

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
    rows, columns = _kept(height, every), _kept(width, every)
    values = np.full((12, len(rows), len(columns)), 255, np.uint8)

    with rasterio.open(observations) as source:
        for i, j in itertools.product(_windows(rows), _windows(columns)):
            y, x = rows[i], columns[j]
            window = Window.from_slices((y[0], y[-1] + 1), (x[0], x[-1] + 1))
            inside = source.read(1, window=window)[np.ix_(y - y[0], x - x[0])] != NO_VALUE
            if not inside.any():
                continue
            y0, x0 = y[0] // WINDOW * WINDOW, x[0] // WINDOW * WINDOW
            block = np.asarray(reflectance[:, :, y0 : y0 + WINDOW, x0 : x0 + WINDOW])
            red, infrared = (block[:, band][:, y - y0][:, :, x - x0] for band in _BANDS)
            values[:, i[0] : i[-1] + 1, j[0] : j[-1] + 1] = np.where(inside, ndvi(red, infrared), 255)
    return Curves(values, every)


def _windows(kept: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Positions of the kept pixels of one axis, window by window."""
    return np.split(np.arange(len(kept)), np.flatnonzero(np.diff(kept // WINDOW)) + 1)


def _thinning(height: int, width: int, most: int) -> int:
    every = max(1, math.ceil(height / _LONGEST[0]), math.ceil(width / _LONGEST[1]))
    while math.ceil(height / every) * math.ceil(width / every) > most:
        every += 1
    return every


def _kept(length: int, every: int) -> NDArray[np.int64]:
    """Pixel that is kept of each group of ``every`` along an axis.

    Its middle one (the last one of the map, where the last group is cut off before it), where the window of that is
    decoded; else the nearest to it that is in such a window. As few windows are decoded as serve all groups, each
    chosen to reach as far as it can: one of 256 pixels serves two groups of 316. So of large maps a quarter is decoded;
    where groups are much smaller than a window all of it is, and they have their middles.
    """
    starts = np.arange(0, length, every)
    ends = np.minimum(starts + every, length)
    decoded: list[int] = []
    for start, end in zip(starts, ends, strict=True):
        if not decoded or start // WINDOW > decoded[-1]:
            decoded.append((end - 1) // WINDOW)
    windows, middles = np.array(decoded), np.minimum(starts + every // 2, length - 1)
    nearest = np.empty_like(middles)
    for group, (start, end, middle) in enumerate(zip(starts, ends, middles, strict=True)):
        reached = windows[(windows >= start // WINDOW) & (windows <= (end - 1) // WINDOW)]
        places = np.clip(middle, np.maximum(reached * WINDOW, start), np.minimum((reached + 1) * WINDOW, end) - 1)
        nearest[group] = places[np.abs(places - middle).argmin()]
    return nearest
