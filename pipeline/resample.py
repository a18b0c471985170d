"""Pixels of a source raster on another grid: nearest and bilinear sampling, pure NumPy.

GDAL's warper is the reference in the tests, and not used here, for what was measured with GDAL 3.10:

- its default approximates reprojected coordinates within an eighth of a pixel by a line fitted to the window
  asked for, and takes the kernel's width from the ratio of the windows' sizes (XSCALE), so a pixel between two
  UTM zones depends on how the area was cut into tiles;
- exact, it transforms every pixel again for each of the 11 assets of a scene, five to eight times slower than
  sampling at coordinates computed once.

Everything here is a function of one pixel alone: a window of a result equals the result of that window.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from timesenmap.pipeline.projection import grid_crs

Coordinates = NDArray[np.float64]
"""Column or row coordinates, in source pixels from the raster's corner: pixel i covers i..i+1.

Where grid and source share their CRS, (1, x) for columns and (y, 1) for rows; else both (y, x)."""

Method = Literal["bilinear", "nearest"]

# Samples taken at a time: what is made on the way then stays in the cache of a core, three times faster.
_STRIP = 1 << 16


@dataclass(frozen=True)
class Footing:
    """Where the pixels of a grid fall in a source raster.

    Parameters
    ----------
    cols, rows
        Source coordinates of the grid's pixel centres, or of the centres of their parts (`parts` by `parts` to a
        pixel); NaN or infinite where the source's CRS does not reach.
    parts
        Parts of a pixel on a side, more than one where the grid is coarser than the source.
    """

    cols: Coordinates
    rows: Coordinates
    parts: int

    def moved(self, window: tuple[slice, slice]) -> "Footing":
        """Count from the corner of a window (rows, columns) of the source."""
        return Footing(self.cols - window[1].start, self.rows - window[0].start, self.parts)

    def window(self, shape: tuple[int, int], *, margin: int) -> tuple[slice, slice] | None:
        """Rows and columns of a source of this shape (y, x) that sampling needs; None where they do not meet."""
        spans = []
        for values, size in ((self.rows, shape[0]), (self.cols, shape[1])):
            known = values[np.isfinite(values)] if not np.isfinite(values).all() else values
            if known.size == 0:
                return None
            low = max(int(np.floor(known.min())) - margin, 0)
            high = min(int(np.floor(known.max())) + 1 + margin, size)
            if low >= high:
                return None
            spans.append(slice(low, high))
        return spans[0], spans[1]


def footing(grid: GeoBox, crs: str, transform: Affine, *, parts: int = 1) -> Footing:
    """Find where the pixels of a north-up grid fall in a source raster.

    Parameters
    ----------
    grid
        The window to fill.
    crs, transform
        Of the source raster; the CRS as WKT.
    parts
        See `Footing`.
    """
    to_source = ~transform
    fine = grid.zoom_to(shape=(grid.shape.y * parts, grid.shape.x * parts)) if parts > 1 else grid
    xs, ys = _centres(fine)
    if _same_crs(grid_crs(grid).to_wkt(), crs):
        # Division by the pixel size and not multiplication by its inverse: exact on grids of whole metres.
        cols, rows = (xs[None, :] - transform.c) / transform.a, (ys[:, None] - transform.f) / transform.e
    else:
        x, y = _moved(fine, crs)
        cols, rows = (
            (to_source.a * x + to_source.b * y + to_source.c),
            (to_source.d * x + to_source.e * y + to_source.f),
        )
    return Footing(cols, rows, parts)


def resample(source: NDArray[np.uint16], feet: Footing, *, method: Method) -> NDArray[np.uint16]:
    """Sample a source where a grid's pixels fall in it.

    Parameters
    ----------
    source
        Pixels (y, x), 0 = no data; `feet` counts from its corner.
    feet
        See `footing`.
    method
        "nearest", or "bilinear", rounded half up as GDAL does; several parts to a pixel are averaged.

    Returns
    -------
    ndarray
        uint16 (y, x), 0 = no data or outside the source.
    """
    rows, cols, parts = feet.rows, feet.cols, feet.parts
    height, width = rows.shape[0] // parts, cols.shape[1] // parts
    if parts == 1 and _pixel_on_pixel(cols, rows):  # as 10 m bands on a 10 m grid are
        return _cut_out(source, int(np.floor(rows[0, 0])), int(np.floor(cols[0, 0])), (height, width))
    halved = method == "bilinear" and parts == 1 and _half_pixels(cols, rows)
    result = np.empty((height, width), np.uint16)
    step = max(1, (2 * _STRIP if halved else _STRIP) // (width * parts * parts))
    for first in range(0, height, step):
        strip = slice(first * parts, (first + step) * parts)
        row = rows[strip]
        near, row = _narrowed(source, row)
        col = cols if cols.shape[0] == 1 else cols[strip]
        if halved and _inside(near, col, row) and near.all():  # as 20 m bands on a 10 m grid are
            _bilinear_halves(near, col[0], row[:, 0], out=result[first : first + step])
        elif method == "nearest":
            result[first : first + step] = nearest(near, col, row)
        else:
            values = bilinear(near, col, row)
            if parts > 1:
                values = coarsened(values, parts)
            values += np.float32(0.5)
            result[first : first + step] = values  # which cuts the fraction off
    return result


def nearest(source: NDArray[np.uint16], cols: Coordinates, rows: Coordinates) -> NDArray[np.uint16]:
    """Take the source pixel in which each coordinate lies; 0 outside. uint16 (y, x)."""
    row, row_in = _index(rows, source.shape[0])
    col, col_in = _index(cols, source.shape[1])
    # Where rows and columns are independent, one after the other is four times faster than both at once.
    taken: NDArray[np.uint16] = source[row[:, 0]][:, col[0]] if _separable(cols, rows) else source[row, col]
    if not (row_in.all() and col_in.all()):
        taken = np.where(row_in & col_in, taken, np.uint16(0))
    return taken


def bilinear(source: NDArray[np.uint16], cols: Coordinates, rows: Coordinates) -> NDArray[np.float32]:
    """Interpolate between the four source pixels around each coordinate; pixels of 0 are no data.

    Zeros and what lies outside the source are left out and the other weights enlarged, never averaged in. A
    coordinate whose own source pixel has no data, or that lies outside, gives 0.

    Returns
    -------
    ndarray
        float32 (y, x), not yet rounded.
    """
    row0, row1, row_weight = _neighbours(rows, source.shape[0])
    col0, col1, col_weight = _neighbours(cols, source.shape[1])
    corners = ((row0, col0), (row0, col1), (row1, col0), (row1, col1))

    def mix(values: NDArray[np.float32]) -> NDArray[np.float32]:
        if _separable(cols, rows):
            between = values[row0[:, 0]]
            between += (values[row1[:, 0]] - between) * row_weight
            left = between[:, col0[0]]
            return left + (between[:, col1[0]] - left) * col_weight
        a, b, c, d = (values[corner] for corner in corners)
        upper, lower = a + (b - a) * col_weight, c + (d - c) * col_weight  # float32 (y, x)
        return upper + (lower - upper) * row_weight

    mixed = mix(source.astype(np.float32))
    whole = bool(source.all())
    if whole and _inside(source, cols, rows):
        return mixed
    own = nearest(source, cols, rows)
    mixed[own == 0] = 0
    if not whole:
        weight = mix((source > 0).astype(np.float32))
        np.divide(mixed, weight, out=mixed, where=(own > 0) & (weight < 1))
    return mixed


def _bilinear_halves(
    source: NDArray[np.uint16], cols: NDArray[np.float64], rows: NDArray[np.float64], *, out: NDArray[np.uint16]
) -> None:
    """What `bilinear` gives, rounded half up, where the grid cuts each source pixel into four: in integers.

    The weights are 9, 3, 3 and 1 sixteenths; float32 holds them and their sums exactly, so that both are the same.
    """
    narrow = source[_span(rows, len(source))][:, _span(cols, source.shape[1])].astype(np.uint32)
    between = np.empty((len(narrow), len(cols)), np.uint32)  # quarters
    thrice = 3 * narrow
    for near, far, first, count in _halves(cols):
        np.add(thrice[:, near : near + count], narrow[:, far : far + count], out=between[:, first::2])
    thrice = 3 * between
    between += 8
    for near, far, first, count in _halves(rows):
        sixteenths = thrice[near : near + count] + between[far : far + count]
        out[first::2] = np.right_shift(sixteenths, 4, out=sixteenths)


def _halves(places: NDArray[np.float64]) -> list[tuple[int, int, int, int]]:
    """Sources of every other coordinate, from the first and from the second one on.

    Returns
    -------
    list
        Position of the source pixel that counts three quarters and of the one that counts one, from the first that
        is needed; of the first coordinate; and how many coordinates there are.
    """
    start = int(np.floor(places[0] - 0.5))
    found = []
    for first in range(min(2, len(places))):
        low = int(np.floor(places[first] - 0.5))
        near, far = (low, low + 1) if places[first] - 0.5 - low < 0.5 else (low + 1, low)
        found.append((near - start, far - start, first, -(-(len(places) - first) // 2)))
    return found


def _span(places: NDArray[np.float64], size: int) -> NDArray[np.intp]:
    """Source pixels around the coordinates, one after the other; beyond the border the pixel at the border."""
    first, last = (int(np.floor(place - 0.5)) for place in (places[0], places[-1]))
    return np.clip(np.arange(first, last + 2), 0, size - 1)


def _inside(source: NDArray[np.uint16], cols: Coordinates, rows: Coordinates) -> bool:
    return bool(_index(rows, source.shape[0])[1].all() and _index(cols, source.shape[1])[1].all())


def coarsened(values: NDArray[np.float32], parts: int) -> NDArray[np.float32]:
    """Average blocks of parts x parts values, zeros (no data) left out; 0 where all are zero."""
    height, width = values.shape[0] // parts, values.shape[1] // parts
    blocks = values.reshape(height, parts, width, parts)
    total = blocks.sum(axis=(1, 3), dtype=np.float64)
    known = (blocks > 0).sum(axis=(1, 3))
    mean: NDArray[np.float32] = np.divide(total, known, out=np.zeros_like(total), where=known > 0).astype(np.float32)
    return mean


def _narrowed(source: NDArray[np.uint16], rows: Coordinates) -> tuple[NDArray[np.uint16], Coordinates]:
    """Rows of the source that these coordinates and their neighbours need, and the coordinates counted from there."""
    known = rows[np.isfinite(rows)]
    if known.size == 0:
        return source[:1], rows
    low = min(max(int(np.floor(known.min())) - 1, 0), len(source) - 1)
    high = max(int(np.floor(known.max())) + 2, low + 1)
    return source[low:high], rows - low


def _pixel_on_pixel(cols: Coordinates, rows: Coordinates) -> bool:
    """Whether the coordinates are the centres of source pixels, one after the other."""
    if not _separable(cols, rows):
        return False
    places = (cols[0] - 0.5, rows[:, 0] - 0.5)
    return all(bool(place[0] == np.floor(place[0])) and bool((np.diff(place) == 1).all()) for place in places)


def _half_pixels(cols: Coordinates, rows: Coordinates) -> bool:
    """Whether the coordinates are the centres of quarters of source pixels, one after the other."""
    if not _separable(cols, rows):
        return False
    places = (cols[0], rows[:, 0])
    return all(bool(place[0] * 4 % 2 == 1) and bool((np.diff(place) == 0.5).all()) for place in places)


def _cut_out(source: NDArray[np.uint16], top: int, left: int, shape: tuple[int, int]) -> NDArray[np.uint16]:
    """Rows and columns of the source from top, left on; 0 beyond its border."""
    result = np.zeros(shape, np.uint16)
    y0, y1 = max(-top, 0), min(len(source) - top, shape[0])
    x0, x1 = max(-left, 0), min(source.shape[1] - left, shape[1])
    if y0 < y1 and x0 < x1:
        result[y0:y1, x0:x1] = source[top + y0 : top + y1, left + x0 : left + x1]
    return result


def _separable(cols: Coordinates, rows: Coordinates) -> bool:
    """Whether columns depend on x alone and rows on y alone: grid and source share their CRS."""
    return bool(cols.shape[0] == 1 and rows.shape[1] == 1)


@lru_cache(maxsize=64)
def _same_crs(one: str, other: str) -> bool:
    # WKT of GDAL and of PROJ differ in spelling: the code decides where both have one.
    a, b = CRS.from_wkt(one), CRS.from_wkt(other)
    return bool(a == b or (a.to_epsg() is not None and a.to_epsg() == b.to_epsg()))


def _centres(grid: GeoBox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    height, width = grid.shape
    step = grid.affine
    cols, rows = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)
    return step.c + (cols + 0.5) * step.a, step.f + (rows + 0.5) * step.e


@lru_cache(maxsize=4)
def _moved(grid: GeoBox, crs: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixel centres of a grid in another CRS, (y, x) each: shared by all assets of all scenes of that CRS."""
    transformer = Transformer.from_crs(grid_crs(grid), CRS.from_wkt(crs), always_xy=True)
    x, y = np.meshgrid(*_centres(grid))
    moved = transformer.transform(x, y)
    for values in moved:
        values.setflags(write=False)
    return moved[0], moved[1]


def _index(values: Coordinates, size: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    with np.errstate(invalid="ignore"):
        inside = (values >= 0) & (values < size)
    return np.where(inside, values, 0).astype(np.intp), inside


def _neighbours(values: Coordinates, size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Indices of the two pixels whose centres are around each coordinate, and the weight of the second one.

    Within half a pixel of the border both are the pixel at the border.
    """
    inside = np.isfinite(values)
    place = np.where(inside, values, 0.0) - 0.5
    first = np.floor(place)
    weight = (place - first).astype(np.float32)
    low = np.clip(first, 0, size - 1).astype(np.intp)
    high = np.clip(first + 1, 0, size - 1).astype(np.intp)
    return low, high, weight
