"""From scenes to the twelve composites of one tile: which scenes, which month, and the Dask graph."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, product

import numpy as np
import shapely
from dask.base import compute
from dask.delayed import Delayed, delayed
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from timesenmap.catalogs.bands import BANDS
from timesenmap.catalogs.scenes import Scene
from timesenmap.pipeline import profile
from timesenmap.pipeline.clouds import NEAR_CLOUD, Widening
from timesenmap.pipeline.composite import SCL_SET_ASIDE, composite
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.harmonisation import harmonised
from timesenmap.pipeline.layers import forget_masks
from timesenmap.pipeline.load import Library, lazy_observations
from timesenmap.pipeline.maskers import SCENE_CLASSIFICATION, Masker
from timesenmap.pipeline.passes import passes_of, precedence
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.projection import grid_crs, outline, to_lon_lat
from timesenmap.pipeline.remote import is_remote
from timesenmap.pipeline.threads import threads_of_a_tile

# A scene is read for a tile when its footprint comes this near, in metres: footprints are simplified outlines.
# Whoever opens the file finds out exactly; too small a margin would make pixels depend on the tiling.
_FOOTPRINT_SLACK = 5000.0

# Observations of one month on one block, at most: 23 scenes of 1024 x 1024 pixels; and what is read of one band for it.
_MONTH_BYTES = 512 << 20
_SOURCE_BYTES = 256 << 20

_STRIP_ROWS = 256

# Enough to hide the time a request takes; each holds one scene at most.
_REMOTE_THREADS = 16


def composite_tile(
    scenes: Sequence[Scene],
    grid: GeoBox,
    tile: Tile,
    period: Period,
    *,
    masker: Masker = SCENE_CLASSIFICATION,
    set_aside: Collection[int] = SCL_SET_ASIDE,
    cloud_dilation: float = 0.0,
    months: Collection[int] = range(12),
    chunk: int | None = None,
    reader: Library = "stackstac",
    gdal: Mapping[str, str] | None = None,
    threads: int | None = None,
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Make the twelve composites of one tile.

    One Dask graph with two tasks for each scene and a few for each month, run by threads of this process whatever
    scheduler is active: a tile is one task to a cluster. Months follow each other: when the scenes of one are read,
    they are reduced to its composite and dropped, while other threads read the next. Of a scene the mask is read first,
    and the bands where it leaves something clear.

    Parameters
    ----------
    scenes
        In any order; those outside the period or away from the tile are left alone.
    grid, tile
        The map grid, and the part of it to make.
    period
        The twelve months.
    masker
        Who says what scenes show; by default their own scene classification (SCL).
    set_aside
        Scene classes, in the codes of SCL, that are not clear.
    cloud_dilation
        Metres by which clouds and shadows among them are widened, on each scene's own raster.
    months
        Positions of those to make; the others stay empty.
    chunk
        Pixels on a side of a block; by default the whole tile, or as much as keeps the observations of a month on a
        block under 512 MiB.
    reader, gdal
        See `load_scenes`.
    threads
        How many; by default one for each core, and 16 or more where scenes come over a network.

    Returns
    -------
    reflectance : ndarray
        uint16 (12, 10, y, x): reflectance * 10000, 0 = no clear observation.
    clear : ndarray
        uint8 (12, y, x): number of clear observations.

    Raises
    ------
    SceneReadError
        An asset cannot be read.
    """
    geobox = tile.geobox(grid)
    reflectance = np.zeros((12, len(BANDS), *tile.shape), np.uint16)
    clear = np.zeros((12, *tile.shape), np.uint8)
    # From all scenes, so that it does not depend on the tile which of them are of one pass.
    passes = {id(scene): number for scene, number in zip(scenes, passes_of(scenes), strict=True)}
    by_month = [
        sorted(month, key=precedence) if number in months else []
        for number, month in enumerate(scenes_by_month(scenes_near(scenes, geobox), period))
    ]
    tasks = tile_tasks(
        by_month,
        [[passes[id(scene)] for scene in month] for month in by_month],
        geobox,
        reflectance,
        clear,
        masker=masker,
        set_aside=set_aside,
        cloud_dilation=cloud_dilation,
        chunk=chunk,
        reader=reader,
        gdal=gdal,
    )
    try:
        with profile.divided():
            compute(*tasks, scheduler="threads", num_workers=threads or _threads(scenes))  # type: ignore[no-untyped-call]
    finally:
        forget_masks()
    return reflectance, clear


def tile_tasks(
    months: Sequence[Sequence[Scene]],
    passes: Sequence[Sequence[int]],
    geobox: GeoBox,
    reflectance: NDArray[np.uint16],
    clear: NDArray[np.uint8],
    *,
    masker: Masker = SCENE_CLASSIFICATION,
    set_aside: Collection[int] = SCL_SET_ASIDE,
    cloud_dilation: float = 0.0,
    chunk: int | None = None,
    reader: Library = "stackstac",
    gdal: Mapping[str, str] | None = None,
) -> list[Delayed]:
    """Lay out the composites of a tile as tasks that fill arrays, one for some rows of a month.

    Parameters
    ----------
    months, passes
        Scenes of each month, and for each scene the number of its pass. Where scenes of one pass show a pixel clearly,
        the first of them is taken.
    geobox
        The tile's window of the grid.
    reflectance, clear
        Where the composites go: uint16 (month, 10, y, x) and uint8 (month, y, x).
    masker, set_aside, cloud_dilation, chunk, reader, gdal
        See `composite_tile`.
    """
    scenes = [scene for month in months for scene in month]
    if not scenes:
        return []
    observations = lazy_observations(
        scenes,
        geobox,
        chunk=chunk or _block_side(max(map(len, months)), geobox),
        set_aside=set_aside,
        masker=masker,
        widening=Widening.of(set_aside, cloud_dilation),
        reader=reader,
        gdal=gdal,
    )
    # (time, rows of chunks, columns of chunks)
    chunks = observations.to_delayed()[:, 0]  # type: ignore[no-untyped-call]
    compose = delayed(_compose, pure=False)
    aside = tuple(sorted({*set_aside, NEAR_CLOUD}))
    tasks, first = [], 0
    for month, numbers, bands, count in zip(months, passes, reflectance, clear, strict=True):
        if not month:
            continue
        multiply, add = harmonisation(month)
        for ys, xs, rows, cols in _windows(*observations.chunks[2:]):
            part = [chunks[first + number, ys, xs] for number in range(len(month))]
            for strip in _strips(rows.stop - rows.start):
                whole = slice(rows.start + strip.start, rows.start + strip.stop)
                target = _Target(bands[:, whole, cols], count[whole, cols])
                tasks.append(compose(part, strip, target, multiply, add, set_aside=aside, passes=tuple(numbers)))
        first += len(month)
    return tasks


def harmonisation(scenes: Sequence[Scene]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give (time, band) arrays multiply and add, with reflectance * 10000 = DN * multiply + add."""
    numbers = np.array([[harmonised(scene.scaling[band]) for band in BANDS] for scene in scenes], np.float64)
    return numbers[..., 0], numbers[..., 1]


def scenes_by_month(scenes: Sequence[Scene], period: Period) -> list[list[Scene]]:
    """Sort scenes into the twelve months of a period by sensing time (UTC); others are left out."""
    months: list[list[Scene]] = [[] for _ in range(12)]
    for scene in scenes:
        month = period.month_of(scene.datetime)
        if month is not None:
            months[month].append(scene)
    return months


def scenes_near(scenes: Sequence[Scene], geobox: GeoBox) -> list[Scene]:
    """Leave out the scenes whose footprint is more than 5 km away from a window of the grid."""
    window = to_lon_lat(outline(geobox).buffer(_FOOTPRINT_SLACK, join_style="mitre"), grid_crs(geobox))
    if window is None:  # around a pole, where longitudes do not tell
        return list(scenes)
    shapely.prepare(window)
    return [scene for scene in scenes if window.intersects(scene.footprint)]


@dataclass(frozen=True)
class _Target:
    """Where a composite goes: views of the tile's bands (10, y, x) and counts (y, x)."""

    bands: NDArray[np.uint16]
    count: NDArray[np.uint8]


@profile.timed("compositing")
def _compose(
    observations: Sequence[NDArray[np.uint16]],
    rows: slice,
    target: _Target,
    multiply: NDArray[np.float64],
    add: NDArray[np.float64],
    *,
    set_aside: tuple[int, ...],
    passes: tuple[int, ...],
) -> None:
    """Composite some rows of one chunk; of each scene there is (1, 11, y, x), its classes first."""
    dn, scl = [one[0, 1:, rows] for one in observations], [one[0, 0, rows] for one in observations]
    target.bands[:], target.count[:] = composite(dn, scl, multiply, add, set_aside=set_aside, passes=passes)


def _windows(ys: Sequence[int], xs: Sequence[int]) -> Iterator[tuple[int, int, slice, slice]]:
    """Number and extent (rows, columns) of each chunk, from the sizes of chunks along y and x."""
    for (row, rows), (col, cols) in product(enumerate(_extents(ys)), enumerate(_extents(xs))):
        yield row, col, rows, cols


def _extents(sizes: Sequence[int]) -> list[slice]:
    return [slice(last - size, last) for size, last in zip(sizes, accumulate(sizes), strict=True)]


def _strips(height: int) -> list[slice]:
    """Rows that are composited in one task: some tasks a month keep all threads busy until the end."""
    return [slice(first, min(first + _STRIP_ROWS, height)) for first in range(0, height, _STRIP_ROWS)]


def _threads(scenes: Sequence[Scene]) -> int:
    """Threads that read: one a core, and more where they wait for a service most of the time."""
    cores = threads_of_a_tile()
    remote = any(is_remote(scene.href(band)) for scene in scenes[:1] for band in BANDS)
    return max(cores, _REMOTE_THREADS) if remote else cores


def _block_side(scenes: int, geobox: GeoBox) -> int:
    """Side of a block in pixels: the window's, halved until the observations of a month fit the budget.

    Large blocks because every block of a file is decoded again for each of ours it reaches into; on grids coarser
    than the bands the source's pixels count.
    """
    side = max(geobox.shape)
    parts = max(1.0, geobox.affine.a / 10.0)
    month = 2 * scenes * (len(BANDS) + 1)
    while side > 64 and (month * side**2 > _MONTH_BYTES or 8 * (side * parts) ** 2 > _SOURCE_BYTES):
        side = -(-side // 2)
    return side
