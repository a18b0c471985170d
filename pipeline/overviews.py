"""Overviews: a raster at half its size, each pixel made of the four under it.

No data has no vote: an overview pixel has data where any of the four has, so that nothing of an area vanishes when it
is seen from afar, and its edge is drawn outwards by less than a pixel of the overview. What lies beyond the last row or
column is no data. Each level is made of the one below. GDAL's ``mode`` and ``average`` give the same pixels where a
size can be halved; where it cannot, GDAL stretches its pixels over the edge.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Halve = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]
"""From values (y, x) uint8 and their no-data value to values (ceil(y / 2), ceil(x / 2))."""


def mode_of_four(values: NDArray[np.uint8], nodata: int) -> NDArray[np.uint8]:
    """Halve a raster of classes: the most frequent of four.

    That is the first, row by row, that occurs a second time: where one occurs three times it is that, and two pairs are
    a tie. Where all differ it is the first, which favours no class, as the lowest or the highest code would.
    """
    a, b, c, d = _four(values, nodata)
    first = np.where(a != nodata, a, np.where(b != nodata, b, np.where(c != nodata, c, d)))
    twice = np.where((d != nodata) & ((d == a) | (d == b) | (d == c)), d, first)
    twice = np.where((c != nodata) & ((c == a) | (c == b)), c, twice)
    return np.where((b != nodata) & (b == a), b, twice)


def mean_of_four(values: NDArray[np.uint8], nodata: int) -> NDArray[np.uint8]:
    """Halve a raster of numbers: the mean of those of four that are known, halves rounded up."""
    four = _four(values, nodata)
    known = np.zeros(four[0].shape, np.uint16)
    total = np.zeros(four[0].shape, np.uint16)
    for part in four:
        is_known = part != nodata
        known += is_known
        total += np.where(is_known, part, np.uint8(0))
    mean = (2 * total + known) // np.maximum(2 * known, 1)
    return np.where(known > 0, mean, nodata).astype(np.uint8)


def sizes(height: int, width: int, levels: int) -> list[tuple[int, int]]:
    """Rows and columns of a raster and of the overviews above it, so many levels in all."""
    return [(-(-height // 2**level), -(-width // 2**level)) for level in range(levels)]


def levels_until(length: int, least: int) -> int:
    """Levels, the raster itself included, until one is not above `least` on its longer side, here `length`."""
    return 1 + max(0, (-(-length // least) - 1).bit_length())


def _four(values: NDArray[np.uint8], nodata: int) -> list[NDArray[np.uint8]]:
    """The upper left, upper right, lower left and lower right pixels of squares of two by two, contiguous."""
    height, width = values.shape
    if height % 2 or width % 2:
        values = np.pad(values, ((0, height % 2), (0, width % 2)), constant_values=nodata)
    return [np.ascontiguousarray(values[y::2, x::2]) for y in (0, 1) for x in (0, 1)]
