"""Cloud-optimised GeoTIFFs of any size in bounded memory.

Strategy: threads read windows of a few megabytes, check them and halve them twice; windows and halves go into tiled
GeoTIFFs, one a level, in a temporary folder; then the same from the topmost level, until one is small enough. A VRT
presents the levels as one raster with overviews, and GDAL's COG driver lays that out, compressing in parallel. All
levels of the result are read back and compared with what was written, because GDAL reports a failed write of the last
blocks (disk full) only on closing, where rasterio does not look. Memory depends neither on the size of the map nor,
with :func:`limit_block_cache`, on that of the machine; the bytes depend on the input alone.
"""

import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from xml.etree import ElementTree as ET

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from timesenmap.pipeline import overviews

BLOCK = 512

# Levels made of a window while it is in memory, the side of a window (4 MB of one band, 10 MB of forty), and that of a
# block in the temporary files, which a window fills at each of these levels.
_HALVED = 2
_SIDE, _SIDE_OF_MANY_BANDS = 2048, 512

# More threads gain nothing where one writes what they read.
THREADS = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)

T = TypeVar("T")
U = TypeVar("U")


class Raster(Protocol):
    """Values (y, x) or (band, y, x), read by slicing, by several threads at once: a NumPy or Zarr array, ..."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(y, x) or (band, y, x)."""

    def __getitem__(self, key: Any, /) -> Any:
        """Values of a window."""


@dataclass(frozen=True)
class Layout:
    """What a COG says beside its pixels, and how its overviews are made.

    Attributes
    ----------
    grid : where the pixels lie; north-up
    nodata : the value that means no data
    halve : from a level to the one above it, of half its size
    bands : description of each band
    colours : RGBA by value, for a raster of classes
    tags : GDAL metadata
    levels : how many there are, the raster itself included
    """

    grid: GeoBox
    nodata: int
    halve: overviews.Halve
    bands: Sequence[str]
    colours: Mapping[int, tuple[int, int, int, int]] | None
    tags: Mapping[str, str]
    levels: int


def levels_of(side: int) -> int:
    """Levels of a COG whose longer side has so many pixels: down to one that fits in a block."""
    return overviews.levels_until(side, BLOCK)


def limit_block_cache(megabytes: int = 128) -> None:
    """Let GDAL keep this much of files in memory, instead of 5% of the machine's, unless GDAL_CACHEMAX says otherwise.

    Each block is read once here, so more is of no use. It has to be said before GDAL opens its first file.
    """
    os.environ.setdefault("GDAL_CACHEMAX", str(megabytes))


def build_cog(folder: Path, values: Raster, layout: Layout, check: Callable[[NDArray[Any], Window], None]) -> Path:
    """Write values as a COG into an empty folder that is for this alone; returns its path there.

    `check` raises where a window holds what the map may not hold. Raises OSError where what is read back differs from
    what was written.
    """
    written = _write_levels(folder, values, layout, check)
    cog = folder / "cog.tif"
    rasterio.shutil.copy(
        _with_overviews(folder, len(written)),
        cog,
        driver="COG",
        compress="DEFLATE",
        predictor="NO",
        blocksize=BLOCK,
        overviews="FORCE_USE_EXISTING",
        bigtiff="IF_SAFER",
        num_threads=THREADS,
    )
    for level, windows in enumerate(written):
        with rasterio.open(cog, **({"overview_level": level - 1} if level else {})) as source:
            for window, checksum in windows:
                if zlib.crc32(source.read(window=window).data) != checksum:
                    raise OSError(f"the map read back differs from what was written at {window}; is the disk full?")
    return cog


def _write_levels(
    folder: Path, values: Raster, layout: Layout, check: Callable[[NDArray[Any], Window], None]
) -> list[list[tuple[Window, int]]]:
    """Write a raster and its overviews as ``0.tif``, ``1.tif``, ...; returns the windows of each, with their CRC-32."""
    levels = overviews.sizes(*layout.grid.shape.yx, layout.levels)
    written: list[list[tuple[Window, int]]] = [[] for _ in levels]
    source, first = values, 0
    while True:
        last = min(first + _HALVED, len(levels) - 1)

        def pyramid(window: Window, source: Raster = source, first: int = first, last: int = last) -> list[Any]:
            block = _read(source, window)
            if first == 0:
                check(block, window)
            made = [block]
            for _ in range(first, last):
                made.append(np.stack([layout.halve(band, layout.nodata) for band in made[-1]]))
            return made

        new = range(first if first == 0 else first + 1, last + 1)
        with ExitStack() as files:
            targets = {level: files.enter_context(_create(folder, level, levels[level], layout)) for level in new}
            windows = list(_windows(*levels[first], len(layout.bands)))
            for below, made in zip(windows, _ahead(pyramid, windows), strict=True):
                for level in new:
                    block = np.ascontiguousarray(made[level - first])
                    window = _above(below, level - first, block.shape)
                    targets[level].write(block, window=window)
                    written[level].append((window, zlib.crc32(block.data)))
        if last == len(levels) - 1:
            return written
        source, first = _Level(folder / f"{last}.tif", (len(layout.bands), *levels[last])), last


@dataclass(frozen=True)
class _Level:
    """A level that is written, (band, y, x); opened for each window, as threads cannot share an open file."""

    path: Path
    shape: tuple[int, int, int]

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        _, rows, columns = key
        with rasterio.open(self.path) as source:
            block: NDArray[np.uint8] = source.read(window=Window.from_slices(rows, columns))
        return block


def _create(folder: Path, level: int, size: tuple[int, int], layout: Layout) -> Any:
    """Open an empty GeoTIFF of one level; blocks of nothing but no data take no room in it."""
    grid, bands = layout.grid, len(layout.bands)
    block = _side(bands) >> _HALVED
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": bands,
        **({"interleave": "pixel"} if bands > 1 else {}),
        "height": size[0],
        "width": size[1],
        "crs": CRS.from_user_input(grid.crs),
        "transform": grid.affine @ Affine.scale(2**level),
        "nodata": layout.nodata,
        "tiled": True,
        "blockxsize": block,
        "blockysize": block,
        "compress": "DEFLATE",
        "zlevel": 1,
        "sparse_ok": True,
        "bigtiff": "YES",
    }
    target = rasterio.open(folder / f"{level}.tif", "w", **profile)
    if level == 0:
        target.update_tags(**{**layout.tags, "AREA_OR_POINT": "Area"})
        for number, description in enumerate(layout.bands, start=1):
            target.set_band_description(number, description)
        if layout.colours is not None:
            target.write_colormap(1, dict(layout.colours))
            target.colorinterp = [ColorInterp.palette]
    return target


def _with_overviews(folder: Path, levels: int) -> Path:
    """Write a VRT of level 0 in which the other levels are its overviews."""
    path = folder / "levels.vrt"
    rasterio.shutil.copy(folder / "0.tif", path, driver="VRT")
    document = ET.fromstring(path.read_bytes())  # noqa: S314 - written by GDAL a moment ago
    for band in document.findall("VRTRasterBand"):
        for level in range(1, levels):
            overview = ET.SubElement(band, "Overview")
            ET.SubElement(overview, "SourceFilename", relativeToVRT="1").text = f"{level}.tif"
            ET.SubElement(overview, "SourceBand").text = band.get("band")
    path.write_bytes(ET.tostring(document, encoding="utf-8"))
    return path


def _above(window: Window, levels: int, shape: tuple[int, ...]) -> Window:
    """Give the window of this shape (band, y, x) that lies over another, some levels up."""
    return Window(window.col_off >> levels, window.row_off >> levels, shape[2], shape[1])


def _read(values: Raster, window: Window) -> NDArray[Any]:
    """Values (band, y, x) of a window."""
    rows, columns = window.toslices()
    if len(values.shape) == 2:
        return np.asarray(values[rows, columns])[None]
    return np.asarray(values[:, rows, columns])


def _side(bands: int) -> int:
    return _SIDE if bands == 1 else _SIDE_OF_MANY_BANDS


def _windows(height: int, width: int, bands: int) -> Iterator[Window]:
    """Windows of a level from north to south and west to east."""
    side = _side(bands)
    for y0 in range(0, height, side):
        for x0 in range(0, width, side):
            yield Window(x0, y0, min(side, width - x0), min(side, height - y0))


def _ahead(function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """Results of a function, in the order of its arguments; as many are made ahead as there are threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[Future[U]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
