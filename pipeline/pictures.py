"""Maps as pictures: read at a picture's size from the overviews, coloured by their legend."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.features import geometry_mask

from timesenmap.pipeline.legend import LegendClass, Ramp, rgb
from timesenmap.pipeline.record import GridRecord

# Pixels inside the area without a clear observation: a grey that no shipped class has.
NO_DATA_COLOUR = "#dcdcd8"


def read_picture(path: Path, *, longest: int, categories: bool) -> NDArray[np.uint8]:
    """Values (y, x) of a whole map, its longer side at most ``longest`` pixels; never enlarged.

    Classes (``categories``) are thinned by the most frequent one, other values by their mean; either way from the
    overview that is next finer, so that a map of any size costs no more than its picture.
    """
    with rasterio.open(path) as source:
        factor = max(1.0, max(source.shape) / longest)
        shape = tuple(max(1, round(side / factor)) for side in source.shape)
        resampling = Resampling.mode if categories else Resampling.average
        values: NDArray[np.uint8] = source.read(1, out_shape=shape, resampling=resampling)
    return values


def colour_classes(
    values: NDArray[np.uint8], classes: Iterable[LegendClass], *, unseen: NDArray[np.bool_] | None = None
) -> Image.Image:
    """Palette picture of class codes; 0 and codes without a class are transparent.

    Pixels ``unseen`` (y, x), which have the code 0, get the grey of what lies in the area and was never observed.
    """
    colours = {c.code: rgb(c.colour) for c in classes}
    if unseen is not None and unseen.any():
        # A palette has 256 places: the grey takes one that no class in the picture needs.
        spare = np.setdiff1d(np.arange(1, 256), values)
        free = [int(code) for code in spare if code not in colours] or [int(code) for code in spare]
        if free:
            values = np.where(unseen, np.uint8(free[-1]), values)
            colours[free[-1]] = rgb(NO_DATA_COLOUR)
    return _indexed(values, colours)


def colour_ramp(values: NDArray[np.uint8], ramp: Ramp, *, unseen: NDArray[np.bool_] | None = None) -> Image.Image:
    """Palette picture of a continuous map; 255 (no data) is transparent, pixels ``unseen`` are grey."""
    table = ramp.table()
    colours = {i: (int(r), int(g), int(b)) for i, (r, g, b) in enumerate(table[:254])}
    if unseen is not None:
        values = np.where(unseen, np.uint8(254), values)
        colours[254] = rgb(NO_DATA_COLOUR)
    return _indexed(values, colours)


def _indexed(values: NDArray[np.uint8], colours: dict[int, tuple[int, int, int]]) -> Image.Image:
    """Picture whose palette indices are the values themselves: small as PNG, and exact."""
    picture = Image.fromarray(values)
    picture.putpalette([channel for index in range(256) for channel in colours.get(index, (0, 0, 0))])
    picture.info["transparency"] = bytes(255 if index in colours else 0 for index in range(256))
    return picture


def area_mask(geometry: shapely.Geometry, grid: GridRecord, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where a picture of the whole grid, ``shape`` (y, x), lies inside a geometry in the grid's CRS."""
    height, width = shape
    a, _, c, _, e, f = grid.transform
    transform = Affine(a * grid.shape[1] / width, 0, c, 0, e * grid.shape[0] / height, f)
    inside: NDArray[np.bool_] = geometry_mask([geometry], (height, width), transform, invert=True)
    return inside


def outlines(geometry: shapely.Geometry, grid: GridRecord) -> list[NDArray[np.float64]]:
    """Rings (n, 2) of polygons in the grid's CRS as pixel coordinates x, y from the upper left corner."""
    a, _, c, _, e, f = grid.transform
    polygons = [part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon"]
    rings = [ring for polygon in polygons for ring in (polygon.exterior, *polygon.interiors)]
    return [(shapely.get_coordinates(ring) - [c, f]) / [a, e] for ring in rings]
