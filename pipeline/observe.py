"""From scenes to the twelve composites of one tile: which scenes, which month, and the Dask graph."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from timesenmap.catalogs.bands import BANDS
from timesenmap.catalogs.scenes import Scene
from timesenmap.pipeline import profile
from timesenmap.pipeline.clouds import NEAR_CLOUD, Widening
from timesenmap.pipeline.composite import SCL_SET_ASIDE, composite
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.harmonisation import harmonised
from timesenmap.pipeline.load import Library, lazy_stacks
from timesenmap.pipeline.maskers import SCENE_CLASSIFICATION, Masker
from timesenmap.pipeline.passes import passes_of, precedence
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.projection import grid_crs, outline, to_lon_lat

# A scene is read for a tile when its footprint comes this near, in metres: footprints are simplified outlines.
# Whoever opens the file finds out exactly; too small a margin would make pixels depend on the tiling.
_FOOTPRINT_SLACK = 5000.0

# Digital numbers of one block, at most: 12 scenes of 1024 x 1024 pixels.
_BLOCK_BYTES = 256 << 20


def composite_tile(
    scenes: Sequence[Scene],
    grid: GeoBox,
    tile: Tile,
    period: Period,
    *,
    masker: Masker = SCENE_CLASSIFICATION,
    set_aside: Collection[int] = SCL_SET_ASIDE,
    cloud_dilation: float = 0.0,
    chunk: int | None = None,
    reader: Library = "stackstac",
    gdal: Mapping[str, str] | None = None,
    threads: int | None = None,
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Make the twelve composites of one tile.

    One Dask graph with a block for each month (five tasks, however many scenes), run by threads of this process
    whatever scheduler is active: a tile is one task to a cluster. A block is reduced to its composite and copied out
    as soon as it is read, so that each thread holds the observations of one month on one block and no more.

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
    chunk
        Pixels on a side of a block; by default the whole tile, or as much as keeps a block under 256 MiB.
    reader, gdal
        See `load_scenes`.
    threads
        How many; by default one for each core.

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
    months = scenes_by_month(scenes_near(scenes, geobox), period)
    seen = [month for month in range(12) if months[month]]
    if seen:
        blocks = [
            month_composite(
                months[month],
                geobox,
                passes=[passes[id(scene)] for scene in months[month]],
                masker=masker,
                set_aside=set_aside,
                cloud_dilation=cloud_dilation,
                chunk=chunk,
                reader=reader,
                gdal=gdal,
            )
            for month in seen
        ]
        targets: Any = [_Month(reflectance[month], clear[month]) for month in seen]  # anything with __setitem__
        with profile.divided():
            da.store(blocks, targets, lock=False, scheduler="threads", num_workers=threads)
    return reflectance, clear


def month_composite(
    scenes: Sequence[Scene],
    geobox: GeoBox,
    *,
    passes: Sequence[int] | None = None,
    masker: Masker = SCENE_CLASSIFICATION,
    set_aside: Collection[int] = SCL_SET_ASIDE,
    cloud_dilation: float = 0.0,
    chunk: int | None = None,
    reader: Library = "stackstac",
    gdal: Mapping[str, str] | None = None,
) -> da.Array:
    """Composite the scenes of one month, lazily.

    Parameters
    ----------
    scenes, geobox, masker, set_aside, cloud_dilation, chunk, reader, gdal
        See `composite_tile`.
    passes
        For each scene the number of its pass; by default as `passes_of` finds them among these scenes. Where scenes of
        one pass show a pixel clearly, the one with the newest processing baseline is taken, of equals the first by id.

    Returns
    -------
    dask.array.Array
        uint16 (1, 11, y, x): reflectance * 10000 of the ten bands, then the number of clear observations; bands and
        count in one array because a Dask block is one array, and four axes because Dask copies blocks that lose one.
        Chunks of `chunk` pixels in space; reading and compositing of a chunk are fused into one task.
    """
    numbers = passes_of(scenes) if passes is None else passes
    ranked = sorted(zip(scenes, numbers, strict=True), key=lambda pair: precedence(pair[0]))
    scenes, numbers = [scene for scene, _ in ranked], [number for _, number in ranked]
    side = chunk or _block_side(len(scenes), geobox)
    widening = Widening.of(set_aside, cloud_dilation)
    dn, scl = lazy_stacks(scenes, geobox, chunk=side, reader=reader, gdal=gdal, masker=masker, widening=widening)
    multiply, add = harmonisation(scenes)
    packed: da.Array = da.map_blocks(  # type: ignore[no-untyped-call]
        _composite_block,
        dn,
        scl,
        multiply=multiply,
        add=add,
        set_aside=tuple(sorted({*set_aside, NEAR_CLOUD})),
        passes=tuple(numbers),
        chunks=((1,), (len(BANDS) + 1,), *dn.chunks[2:]),
        dtype=np.uint16,
        meta=np.empty((0, 0, 0, 0), np.uint16),
    )
    return packed


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


class _Month:
    """Where Dask stores the blocks of one month: bands and counts apart."""

    def __init__(self, reflectance: NDArray[np.uint16], clear: NDArray[np.uint8]) -> None:
        self._reflectance, self._clear = reflectance, clear

    def __setitem__(self, where: tuple[slice, slice, slice, slice], block: NDArray[np.uint16]) -> None:
        ys, xs = where[2:]
        self._reflectance[:, ys, xs] = block[0, :-1]
        self._clear[ys, xs] = block[0, -1]

    def __dask_tokenize__(self) -> int:
        return id(self)  # a name for the graph without reading, or copying, the arrays


@profile.timed("compositing")
def _composite_block(
    dn: NDArray[np.uint16],
    scl: NDArray[np.uint8],
    *,
    multiply: NDArray[np.float64],
    add: NDArray[np.float64],
    set_aside: tuple[int, ...],
    passes: tuple[int, ...],
) -> NDArray[np.uint16]:
    reflectance, clear = composite(dn, scl[:, 0], multiply, add, set_aside=set_aside, passes=passes)
    return np.concatenate([reflectance, clear[None].astype(np.uint16)])[None]


def _block_side(scenes: int, geobox: GeoBox) -> int:
    """Side of a block in pixels: the window's, halved until the observations of a month fit the budget.

    Large blocks because every block of a file is decoded again for each of ours it reaches into; on grids coarser
    than the bands the source's pixels count.
    """
    side = max(geobox.shape)
    parts = max(1.0, geobox.affine.a / 10.0)
    while side > 64 and max(2 * scenes * len(BANDS) * side**2, 8 * (side * parts) ** 2) > _BLOCK_BYTES:
        side = -(-side // 2)
    return side
