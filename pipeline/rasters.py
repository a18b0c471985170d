"""The maps of a run as cloud-optimised GeoTIFFs, each with its legend beside it.

Strategy: values are read block row by block row, of many bands block by block (a lazily read Zarr array will do), into
a tiled GeoTIFF in a temporary folder beside the target; GDAL's COG driver makes the map with its overviews from that;
the result is read back and compared before it takes the target's name. So memory stays at one block row, a full disk is
an error and not a broken map, and nothing is left behind on failure. The bytes depend on the input alone.
"""

import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from timesenmap.pipeline import legend

BLOCK = 512
NO_CLASS = 0
NO_VALUE = 255


class Raster(Protocol):
    """Values (y, x) or (band, y, x), read by slicing: a NumPy array, a ``zarr.Array``, ..."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(y, x) or (band, y, x)."""

    def __getitem__(self, key: Any, /) -> Any:
        """Values of a window."""


def write_class_map(
    path: Path,
    values: Raster,
    grid: GeoBox,
    classes: Sequence[legend.LegendClass],
    *,
    tags: Mapping[str, str],
) -> None:
    """Write a class map: COG with colour table and mode overviews, ``.tif.aux.xml`` with names, ``.qml`` style.

    Parameters
    ----------
    path
        The ``.tif`` to make or replace; the sidecars take its name.
    values
        uint8 (y, x), 0 = no data, otherwise the code of one of ``classes``.
    grid
        Where the pixels lie; north-up.
    classes
        Code, name and colour of every class, present or not; ``legend.UNKNOWN`` among them where 255 may occur.
    tags
        GDAL metadata of the file (title, year, licence line, ...).

    Raises
    ------
    MapError
        Where the classes contradict each other (see ``legend.check_classes``).
    ValueError
        Where shapes differ, the grid is not north-up, or a value is not a class.
    """
    entries = legend.check_classes(classes)
    _write_map(
        path,
        values,
        grid,
        nodata=NO_CLASS,
        allowed=[NO_CLASS, *(entry.code for entry in entries)],
        overviews="mode",
        bands=["class"],
        colours=legend.colour_table(entries),
        sidecars={
            path.with_name(path.name + ".aux.xml"): legend.aux_xml(entries),
            path.with_suffix(".qml"): legend.qml(legend.palette_pipe(entries)),
        },
        tags=tags,
    )


def write_confidence_map(path: Path, values: Raster, grid: GeoBox, *, tags: Mapping[str, str]) -> None:
    """Write confidence, uint8 (y, x) 0..100 percent and 255 = no data: COG with averaged overviews, ``.qml``.

    Raises ValueError where shapes differ, the grid is not north-up, or a value is neither.
    """
    _write_ramp_map(path, values, grid, ramp=legend.CONFIDENCE, bands=["confidence (%)"], tags=tags)


def write_probability_map(
    path: Path, values: Raster, grid: GeoBox, classes: Sequence[legend.LegendClass], *, tags: Mapping[str, str]
) -> None:
    """Write the probability of every class, uint8 (class, y, x) 0..100 percent and 255 = no data: COG, ``.qml``.

    Bands are in the order of ``classes`` and described by their names; overviews are averages.
    Raises ValueError where shapes differ, the grid is not north-up, or a value is neither.
    """
    _write_ramp_map(path, values, grid, ramp=legend.CONFIDENCE, bands=[entry.name for entry in classes], tags=tags)


def write_observation_map(path: Path, values: Raster, grid: GeoBox, *, tags: Mapping[str, str]) -> None:
    """Write months seen, uint8 (y, x) 0..12 and 255 = no data: COG with averaged overviews, ``.qml``.

    Raises ValueError where shapes differ, the grid is not north-up, or a value is neither.
    """
    _write_ramp_map(path, values, grid, ramp=legend.OBSERVATIONS, bands=["clear months"], tags=tags)


def _write_ramp_map(
    path: Path, values: Raster, grid: GeoBox, *, ramp: legend.Ramp, bands: Sequence[str], tags: Mapping[str, str]
) -> None:
    _write_map(
        path,
        values,
        grid,
        nodata=NO_VALUE,
        allowed=[*range(ramp.minimum, ramp.maximum + 1), NO_VALUE],
        overviews="average",
        bands=bands,
        colours=None,
        sidecars={path.with_suffix(".qml"): legend.qml(legend.ramp_pipe(ramp))},
        tags=tags,
    )


def _write_map(
    path: Path,
    values: Raster,
    grid: GeoBox,
    *,
    nodata: int,
    allowed: Sequence[int],
    overviews: str,
    bands: Sequence[str],
    colours: Mapping[int, tuple[int, int, int, int]] | None,
    sidecars: Mapping[Path, str],
    tags: Mapping[str, str],
) -> None:
    height, width = grid.shape
    if grid.crs is None:
        raise ValueError(f"{path.name}: the grid has no CRS")
    shape = (height, width) if len(values.shape) == 2 else (len(bands), height, width)
    if tuple(values.shape) != shape:
        raise ValueError(f"{path.name}: values are {tuple(values.shape)}, the map is {shape} (..., y, x)")
    if grid.affine.e >= 0 or grid.affine.b or grid.affine.d:
        raise ValueError(f"{path.name}: the grid is not north-up (transform {tuple(grid.affine)[:6]})")
    is_allowed = np.zeros(256, dtype=bool)
    is_allowed[list(allowed)] = True

    with _workshop(path) as folder:
        flat, cog = folder / "flat.tif", folder / "cog.tif"
        profile = {
            "driver": "GTiff",
            "dtype": "uint8",
            "count": len(bands),
            **({"interleave": "pixel"} if len(bands) > 1 else {}),
            "height": height,
            "width": width,
            "crs": CRS.from_wkt(grid.crs.to_wkt()),
            "transform": grid.affine,
            "nodata": nodata,
            "tiled": True,
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            "compress": "DEFLATE",
            "zlevel": 1,
            "bigtiff": "IF_SAFER",
        }
        written = 0
        with rasterio.open(flat, "w", **profile) as target:
            target.update_tags(**{**tags, "AREA_OR_POINT": "Area"})
            for number, description in enumerate(bands, start=1):
                target.set_band_description(number, description)
            if colours is not None:
                target.write_colormap(1, dict(colours))
                target.colorinterp = [ColorInterp.palette]
            for window in _windows(height, width, len(bands)):
                block = _block(values, window, is_allowed, path)
                target.write(block, window=window)
                written = zlib.crc32(block.data, written)
        rasterio.shutil.copy(
            flat,
            cog,
            driver="COG",
            compress="DEFLATE",
            predictor="NO",
            blocksize=BLOCK,
            overviews="IGNORE_EXISTING",
            overview_resampling=overviews,
            bigtiff="IF_SAFER",
        )
        # GDAL reports a failed write of the last blocks (disk full) only on closing, where rasterio does not look.
        if _checksum(cog) != written:
            raise OSError(f"{path}: the map read back differs from what was written; is the disk full?")
        for sidecar, text in sidecars.items():
            (folder / sidecar.name).write_text(text, encoding="utf-8")
        for sidecar in sidecars:
            (folder / sidecar.name).replace(sidecar)
        cog.replace(path)  # last: where the map is, its legend is


def _block(values: Raster, window: Window, is_allowed: NDArray[np.bool_], path: Path) -> NDArray[np.uint8]:
    """Values (band, y, x) of a window, contiguous; ValueError where one has no meaning."""
    y0, y1 = window.row_off, window.row_off + window.height
    x0, x1 = window.col_off, window.col_off + window.width
    block = np.asarray(values[y0:y1, x0:x1])[None] if len(values.shape) == 2 else np.asarray(values[:, y0:y1, x0:x1])
    if block.dtype != np.uint8:
        raise ValueError(f"{path.name}: values are {block.dtype}, a map holds uint8")
    meaningful = is_allowed[block]
    if not meaningful.all():
        bad = np.unique(block[~meaningful]).tolist()
        raise ValueError(f"{path.name}: rows {y0}-{y1 - 1} hold values without a meaning: {bad}")
    return np.ascontiguousarray(block)


def _checksum(path: Path) -> int:
    """CRC-32 of the values, in the order in which they are written."""
    crc = 0
    with rasterio.open(path) as source:
        for window in _windows(source.height, source.width, source.count):
            crc = zlib.crc32(source.read(window=window).tobytes(), crc)
    return crc


def _windows(height: int, width: int, bands: int) -> Iterator[Window]:
    """Block rows of a single band; blocks of many, as a row of them may not fit in memory."""
    step = width if bands == 1 else BLOCK
    for y0 in range(0, height, BLOCK):
        for x0 in range(0, width, step):
            yield Window(x0, y0, min(step, width - x0), min(BLOCK, height - y0))


@contextmanager
def _workshop(path: Path) -> Iterator[Path]:
    """Temporary folder ``<name>.part`` beside the target: renaming out of it is atomic; emptied in any case."""
    folder = path.with_name(path.name + ".part")
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
