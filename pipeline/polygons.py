"""A class map as polygons: a GeoPackage that QGIS opens in the map's colours.

Edges follow the pixels, or are simplified together with those of the neighbours, so that neighbours share them and
nothing lies between or twice. GDAL reads the map line by line; memory grows with the number of corners, not of pixels.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import numpy as np
import pyogrio
import rasterio
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.features import shapes

from timesenmap.pipeline import figures
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.grid import equal_area_crs
from timesenmap.pipeline.legend import LegendEntry, plain, qml, rgb
from timesenmap.pipeline.map_file import ClassMap
from timesenmap.pipeline.projection import grid_crs

_BATCH = 20_000  # polygons written at once
# An edge that is straight in the map's CRS is a curve in another: over 500 m it is off by a centimetre at most.
_METRES_AN_EDGE = 500


class ClassSum(NamedTuple):
    """Polygons of one class: how many, and their area on the ground in hectares."""

    entry: LegendEntry
    polygons: int
    hectares: float


def write_polygons(source: ClassMap, out: Path, *, simplify: float | None = None) -> list[ClassSum]:
    """Write the patches of a class map as polygons, and return the sums of the classes that occur.

    A patch is what hangs together by edges (4-connected), unknown (255) included, no data left out. The layer has the
    name of the file, the CRS of the map, and the columns ``code``, ``name`` and ``hectares``: the area of its
    pixels on the ground, computed in an equal-area CRS, to a square metre. Its style, one colour a class, is in the
    file (``layer_styles``), and QGIS takes it by itself.

    Parameters
    ----------
    source
        The map.
    out
        The ``.gpkg`` to make or replace.
    simplify
        Metres: take the steps out of edges (see ``simplified``). ``hectares`` stay those of the pixels.

    Raises
    ------
    MapError
        ``out`` is no ``.gpkg``, the map holds nothing but no data, or codes without a name; a tolerance of nothing.
    """
    if simplify is not None and not 0 < simplify < math.inf:
        raise MapError(f"--simplify {simplify:g}: is no length; give metres, two pixels as a rule")
    if out.suffix != ".gpkg":
        raise MapError(f"--out {out}: polygons go into a GeoPackage; give a name that ends in .gpkg")
    if not source.pixels()[1:].any():
        raise MapError(f"map {source.path}: holds nothing but no data, there is no polygon to draw")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.stem}.part.gpkg")
    part.unlink(missing_ok=True)  # of a run that was killed
    try:
        count, hectares = _write_layer(source, part, layer=out.stem, simplify=simplify)
        _write_style(part, out.stem, source.classes)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return [ClassSum(entry, count[entry.code], hectares[entry.code]) for entry in source.classes if count[entry.code]]


def _write_layer(
    source: ClassMap, path: Path, *, layer: str, simplify: float | None
) -> tuple[Counter[int], Counter[int]]:
    names = source.names
    count: Counter[int] = Counter()
    hectares: Counter[int] = Counter()
    for polygons, areas, codes in _batches(source, simplify):
        pyogrio.raw.write(
            path,
            shapely.to_wkb(polygons),
            field_data=[codes, np.array([names[code] for code in codes.tolist()], object), areas],
            fields=["code", "name", "hectares"],
            layer=layer,
            driver="GPKG",
            geometry_type="Polygon",
            crs=grid_crs(source.grid).to_wkt(),
            append=path.exists(),
            dataset_options=None if path.exists() else {"VERSION": "1.2"},  # 1.4 makes QGIS 3.22 warn
        )
        count.update(codes.tolist())
        for code in np.unique(codes).tolist():
            hectares[code] += areas[codes == code].sum()
    return count, hectares


def _batches(
    source: ClassMap, simplify: float | None
) -> Iterator[tuple[NDArray[np.object_], NDArray[np.float64], NDArray[np.int32]]]:
    """Polygons as they are drawn, hectares and codes, each (n,); all at once where they are simplified together."""
    patches = _patches(source)
    if simplify is None:
        for polygons, codes in patches:
            yield polygons, ground_hectares(polygons, source), codes
    else:
        polygons, codes = (np.concatenate(part) for part in zip(*patches, strict=True))
        yield simplified(polygons, source, simplify), ground_hectares(polygons, source), codes


def _patches(source: ClassMap) -> Iterator[tuple[NDArray[np.object_], NDArray[np.int32]]]:
    with rasterio.open(source.path) as raster:
        band = rasterio.band(raster, 1)
        found = shapes(band, mask=band, connectivity=4, transform=raster.transform)  # 0, no data, is masked
        while batch := list(islice(found, _BATCH)):
            polygons = np.array([shapely.geometry.shape(geometry) for geometry, _ in batch], object)
            yield polygons, np.array([code for _, code in batch], np.int32)


def simplified(polygons: NDArray[np.object_], source: ClassMap, tolerance: float) -> NDArray[np.object_]:
    """Take the steps out of the edges of all patches (n,) of a map; neighbours go on sharing theirs.

    Corners go whose triangle is smaller than ``tolerance`` metres squared (Visvalingam and Whyatt 1993, in the form of
    GEOS for coverages). Points where three patches meet stay.
    """
    a, _, c, _, e, f = source.record.transform  # north-up: map = pixel * step + corner
    corner, step = np.array([c, f]), np.array([a, e])
    pixels = shapely.transform(polygons, lambda xy: np.rint((xy - corner) / step))
    # GEOS needs a corner of both neighbours wherever a third one begins: all corners of pixels are made theirs.
    cornered = shapely.transform(shapely.segmentize(pixels, 1.0), np.rint)
    smooth = shapely.coverage_simplify(cornered, tolerance / figures.metres_a_pixel(source.record))
    drawn: NDArray[np.object_] = shapely.transform(smooth, lambda xy: xy * step + corner)
    return drawn


def ground_hectares(polygons: NDArray[np.object_], source: ClassMap) -> NDArray[np.float64]:
    """Areas (n,) of polygons of a map on the ground, in hectares to a square metre, whatever its CRS says."""
    ((longitude, latitude),) = shapely.get_coordinates(shapely.centroid(figures.footprint(source.record)))
    equal_area = equal_area_crs(longitude=longitude, latitude=latitude)
    transformer = Transformer.from_crs(grid_crs(source.grid), equal_area, always_xy=True)

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))

    pieces = source.record.resolution * _METRES_AN_EDGE / figures.metres_a_pixel(source.record)
    dense = shapely.segmentize(polygons, pieces)
    areas: NDArray[np.float64] = np.round(shapely.area(shapely.transform(dense, move)) / 1e4, 4)
    return areas


def _write_style(path: Path, layer: str, classes: Sequence[LegendEntry]) -> None:
    """Add the table from which QGIS takes a layer's default style."""
    row = {
        "f_table_catalog": "",
        "f_table_schema": "",
        "f_table_name": layer,
        "f_geometry_column": "geom",
        "styleName": "classes",
        "styleQML": qml(class_renderer(classes)),
        "styleSLD": "",
        "useAsDefault": True,
        "description": "Colours of the class map",
        "owner": "",
        "ui": "",
        "update_time": np.datetime64("2000-01-01T00:00:00", "ms"),  # QGIS sorts by it; a clock would change the bytes
    }
    columns = [np.array([value], object if isinstance(value, str) else None) for value in row.values()]
    pyogrio.raw.write(
        path,
        None,
        field_data=columns,
        fields=list(row),
        layer="layer_styles",
        driver="GPKG",
        geometry_type=None,
        append=True,
        layer_options={"FID": "id"},
    )


def class_renderer(classes: Sequence[LegendEntry]) -> ET.Element:
    """QGIS rendering of the polygons: a category, with its name, for each class; fills without outline."""
    renderer = ET.Element(
        "renderer-v2", type="categorizedSymbol", attr="code", symbollevels="0", forceraster="0", enableorderby="0"
    )
    categories, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    for number, entry in enumerate(classes):
        key = str(number)
        ET.SubElement(
            categories,
            "category",
            value=str(entry.code),
            type="long",
            symbol=key,
            label=plain(entry.name),
            render="true",
        )
        symbol = ET.SubElement(symbols, "symbol", type="fill", name=key, alpha="1", clip_to_extent="1", force_rhr="0")
        layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "pass": "0", "locked": "0"})
        for name, value in (
            ("color", ",".join(map(str, (*rgb(entry.colour), 255)))),
            ("style", "solid"),
            ("outline_style", "no"),
        ):
            ET.SubElement(layer, "prop", k=name, v=value)  # read by every QGIS 3; written as <Option> since 3.22
    return renderer
