"""Pixels of a class map: where they lie, how large they are, and what another raster has at the same places."""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pyproj
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioIOError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from timesenmap.pipeline import figures
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.legend import UNKNOWN
from timesenmap.pipeline.map_file import ClassMap
from timesenmap.pipeline.projection import crs_name, grid_crs
from timesenmap.pipeline.rasters import BLOCK, NO_CLASS

OUTSIDE = -1
# UTM is within 0.2 % in its zone; one percent lets neighbouring zones and conic projections of countries pass.
_SCALE_ERROR = 0.01


def count_pixels(class_map: ClassMap) -> dict[int, int]:
    """Code -> pixels of the classes that occur; MapError where nothing is classified."""
    counts = class_map.pixels()
    found = {int(code): int(counts[code]) for code in np.flatnonzero(counts) if code != NO_CLASS}
    if not found:
        raise MapError(f"map {class_map.path}: holds no classified pixel")
    return found


def is_unknown(code: int) -> bool:
    """Whether a code is that of pixels left unknown (``make-map --unknown-below``)."""
    return code == UNKNOWN.code


def equal_pixel_hectares(class_map: ClassMap) -> float:
    """Area of a pixel in hectares; MapError where the pixels of the map differ in area.

    As in the report of a run, the area in a projected CRS is not corrected for the scale of the projection.
    """
    crs = grid_crs(class_map.grid)
    remedy = "reproject the map (nearest neighbour) to UTM or an equal-area CRS, or use assess-map --design none"
    if not crs.is_projected:
        raise MapError(f"map {class_map.path}: the pixels of {crs_name(crs)} differ in area; {remedy}")
    rows, columns = np.array([[0, 0, 0.5, 1, 1], [0, 1, 0.5, 0, 1]]) * np.array(class_map.shape)[:, None]
    x, y = _transformed(class_map.grid.affine, columns, rows)
    lon, lat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    scale = np.asarray(pyproj.Proj(crs).get_factors(lon, lat).areal_scale)
    if not np.all(np.abs(scale - 1) <= _SCALE_ERROR):
        raise MapError(
            f"map {class_map.path}: {crs_name(crs)} shows areas {np.min(scale):.3g} to {np.max(scale):.3g} times their "
            f"size here; {remedy}"
        )
    return figures.pixel_hectares(class_map.record)


def centres(class_map: ClassMap, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the middles (n, 2) of pixels, x and y in the map's CRS."""
    return np.column_stack(
        _transformed(class_map.grid.affine, columns.astype(np.float64) + 0.5, rows.astype(np.float64) + 0.5)
    )


def pixels_at(
    class_map: ClassMap, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns (n,) of the pixels that hold points in the map's CRS; beyond its shape for points outside."""
    columns, rows = _transformed(~class_map.grid.affine, x, y)
    far = float(2**40)  # also for points that have no place in the CRS
    row, column = (np.clip(np.nan_to_num(np.floor(v), nan=-far), -far, far).astype(np.int64) for v in (rows, columns))
    return row, column


def row_blocks(class_map: ClassMap) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the first row and the codes (y, x) of whole rows, from north to south."""
    for rows, columns in class_map.windows():
        yield rows.start, class_map[rows, columns]


def codes_at(class_map: ClassMap, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Codes (n,) of pixels: 0 where the map has no data, ``OUTSIDE`` beyond it."""
    codes, inside = _gathered(lambda y, x: class_map[y, x], class_map.shape, rows, columns)
    return np.where(inside, codes, OUTSIDE)


def blocks_beside(
    class_map: ClassMap, path: Path
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.integer], NDArray[np.bool_]]]:
    """Yield codes (y, x) of blocks, values of another raster at the same pixels (nearest), and where it has any."""
    width = class_map.shape[1]
    blocks = [slice(x, min(x + BLOCK, width)) for x in range(0, width, BLOCK)]
    with rasterio.open(path) as raster, _on_grid(raster, class_map) as there:
        for rows, columns in product((rows for rows, _ in class_map.windows()), blocks):
            window = Window.from_slices(rows, columns, *class_map.shape)
            yield class_map[rows, columns], there.read(1, window=window), there.dataset_mask(window=window) > 0


def values_beside(
    class_map: ClassMap, path: Path, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Values (n,) of another raster at pixels of the map (nearest), and where it has any."""
    shape = class_map.shape
    with rasterio.open(path) as raster, _on_grid(raster, class_map) as there:

        def values(y: slice, x: slice) -> NDArray[np.integer]:
            block: NDArray[np.integer] = there.read(1, window=Window.from_slices(y, x, *shape))
            return block

        def mask(y: slice, x: slice) -> NDArray[np.integer]:
            block: NDArray[np.integer] = there.dataset_mask(window=Window.from_slices(y, x, *shape))
            return block

        found, inside = _gathered(values, shape, rows, columns)
        masks, _ = _gathered(mask, shape, rows, columns)
    return found, inside & (masks > 0)


def open_class_raster(path: Path, what: str) -> dict[int, str]:
    """Value -> name of the categories of a raster of classes, from wherever GDAL keeps them; empty where it has none.

    Raises
    ------
    MapError
        A file that is no raster, has no CRS, or holds other than whole numbers.
    """
    try:
        with rasterio.open(path) as source:
            if source.crs is None:
                raise MapError(f"{what} {path}: has no CRS; give it one (gdal_edit.py -a_srs EPSG:...)")
            if not np.issubdtype(np.dtype(source.dtypes[0]), np.integer):
                raise MapError(f"{what} {path}: holds {source.dtypes[0]}; classes are whole numbers")
            return _category_names(source)
    except RasterioIOError as error:
        raise MapError(f"{what} {path}: cannot be read as a raster ({error}); check the path") from None


def _category_names(source: DatasetReader) -> dict[int, str]:
    # rasterio has no call for category names; a VRT of the raster spells them out, whatever the format.
    with MemoryFile(ext=".vrt") as memory:
        rasterio.shutil.copy(source, memory.name, driver="VRT")
        document = ET.fromstring(memory.read())  # noqa: S314 - written by GDAL a moment ago
    categories = document.findall("VRTRasterBand[@band='1']/CategoryNames/Category")
    return {code: category.text for code, category in enumerate(categories) if category.text}


def _on_grid(raster: DatasetReader, class_map: ClassMap) -> WarpedVRT:
    height, width = class_map.shape
    grid = {
        "crs": grid_crs(class_map.grid).to_wkt(),
        "transform": class_map.grid.affine,
        "height": height,
        "width": width,
    }
    # Without a no-data value, what lies beyond the raster would read as 0.
    return WarpedVRT(raster, resampling=Resampling.nearest, add_alpha=raster.nodata is None, **grid)


def _gathered(
    read: Callable[[slice, slice], NDArray[np.integer]],
    shape: tuple[int, int],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Values (n,) of pixels, read block by block, and which of them lie inside; 0 for the others."""
    height, width = shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    values = np.zeros(len(rows), np.int64)
    blocks = np.column_stack([rows, columns]) // BLOCK
    for row, column in np.unique(blocks[inside], axis=0).tolist():
        here = inside & (blocks[:, 0] == row) & (blocks[:, 1] == column)
        y, x = row * BLOCK, column * BLOCK
        block = read(slice(y, min(y + BLOCK, height)), slice(x, min(x + BLOCK, width)))
        values[here] = block[rows[here] - y, columns[here] - x]
    return values, inside


def _transformed(
    transform: Affine, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates (n,) through an affine transform."""
    a, b, c, d, e, f = transform[:6]
    return a * x + b * y + c, d * x + e * y + f
