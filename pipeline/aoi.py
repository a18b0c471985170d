"""The area of interest: a box or a file of polygons, checked, repaired where the repair is unambiguous."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError
from shapely.geometry import MultiPolygon, Polygon, box, shape
from shapely.geometry.base import BaseGeometry

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.projection import (
    LON_LAT,
    Area,
    areal,
    crs_name,
    cut_at_antimeridian,
    parse_crs,
    project,
    to_lon_lat,
)

_LON_LAT_HINT = "are these metres? name their CRS with --aoi-crs, for example --aoi-crs EPSG:32631"


@dataclass(frozen=True)
class Aoi:
    """An area of interest.

    Parameters
    ----------
    geometry
        Polygon or MultiPolygon in lon/lat degrees (EPSG:4326, x = longitude), cut at the antimeridian as
        RFC 7946 section 3.1.9 asks.
    source_geometry, source_crs
        The same area as it was given, before any reprojection: a grid in `source_crs` uses it directly, so
        that a box on the grid's lines stays exactly that box.
    name
        Short name: the file's stem, or "area" for a box.
    notes
        What was done to the input, in sentences for the user ("feature 2: self-crossing ring repaired").
    """

    geometry: Area
    source_geometry: Area
    source_crs: CRS
    name: str
    notes: tuple[str, ...] = ()

    def in_crs(self, crs: CRS) -> Area:
        """Give the area in another CRS, edges densified first; MapError where that CRS cannot hold it."""
        if crs == self.source_crs:
            return self.source_geometry
        projected = _projected(self.source_geometry, self.source_crs, crs)
        if projected is None:
            raise MapError(
                f"area {self.name}: does not fit into {crs_name(crs)}; choose a CRS made for this place with --crs"
            )
        return projected


_projected = lru_cache(maxsize=16)(project)  # every tile of a run asks for the same one


def read_aoi(aoi: str, *, crs: str | None = None) -> Aoi:
    """Read an area of interest.

    Parameters
    ----------
    aoi
        "minx,miny,maxx,maxy", or the path of a GeoJSON, GeoPackage or Shapefile (or anything else GDAL reads)
        with polygons; several features are united. A lon/lat box with minx > maxx crosses the antimeridian.
    crs
        CRS of the coordinates (x before y), anything pyproj understands; overrides what the file says. Without
        it a box and GeoJSON are lon/lat (RFC 7946), and other files are in the CRS they state, else lon/lat.

    Raises
    ------
    MapError
        Missing or malformed file, no feature, empty geometry, points or lines, coordinates out of range or not
        finite, minx >= maxx, unknown CRS, a ring that crosses itself so that its inside is ambiguous.
    """
    given_crs = None if crs is None else parse_crs(crs, option="--aoi-crs")
    bounds = _parse_bounds(aoi)
    if bounds is not None:
        where = f"area {aoi}"
        return _finish(_box(bounds, given_crs or LON_LAT, where=where), given_crs or LON_LAT, "area", [], where)
    path = Path(aoi)
    if not aoi.strip() or not path.exists():
        raise MapError(f"area {aoi!r}: no such file, nor four numbers minx,miny,maxx,maxy; check the path")
    shapes, stated_crs, notes = _read_features(path)
    return _finish(_unite(shapes, notes, path), given_crs or stated_crs or LON_LAT, path.stem, notes, f"area {path}")


def _parse_bounds(text: str) -> tuple[float, float, float, float] | None:
    """Four numbers, or None where the text is no list of numbers (then it is a path)."""
    if Path(text).exists():
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    if len(numbers) != 4:
        raise MapError(f"area {text!r}: {len(numbers)} numbers; give four, minx,miny,maxx,maxy, or a file")
    if not all(map(math.isfinite, numbers)):
        raise MapError(f"area {text!r}: not all numbers are finite; give minx,miny,maxx,maxy")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _box(bounds: tuple[float, float, float, float], crs: CRS, *, where: str) -> Area:
    minx, miny, maxx, maxy = bounds
    if crs.is_geographic:  # before minx > maxx is taken for a crossing of the antimeridian
        _check_degrees(box(min(minx, maxx), min(miny, maxy), max(minx, maxx), max(miny, maxy)), where)
    if miny >= maxy or minx == maxx or (minx > maxx and not crs.is_geographic):
        raise MapError(f"{where}: minx,miny must be smaller than maxx,maxy; give minx,miny,maxx,maxy in this order")
    if minx > maxx:
        return areal(MultiPolygon([box(minx, miny, 180, maxy), box(-180, miny, maxx, maxy)]))
    return box(minx, miny, maxx, maxy)


def _read_features(path: Path) -> tuple[list[BaseGeometry | None], CRS | None, list[str]]:
    """Geometries of a file's features in file order, the CRS the file states, notes."""
    if path.is_file() and path.suffix.lower() in {".geojson", ".json"}:
        return _read_geojson(path), None, []
    try:
        layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) != 1:
            found = ", ".join(layers) or "none"
            raise MapError(f"area {path}: {len(layers)} layers with geometry ({found}); give a file with one")
        meta, _, geometries, _ = pyogrio.raw.read(path, layer=layers[0], columns=[])
        shapes: list[BaseGeometry | None] = list(shapely.from_wkb(geometries, on_invalid="raise"))
        stated = None if meta["crs"] is None else CRS.from_user_input(meta["crs"])
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, shapely.GEOSException, CRSError) as error:
        raise MapError(
            f"area {path}: cannot be read ({_one_line(error)}); give a GeoJSON, GeoPackage or Shapefile"
        ) from error
    notes = [] if stated is not None else [f"{path.name} states no CRS: taken as lon/lat"]
    return shapes, stated, notes


def _read_geojson(path: Path) -> list[BaseGeometry | None]:
    # Read here and not through GDAL, which drops what it cannot parse and honours the obsolete "crs" member.
    remedy = "give a GeoJSON geometry, Feature or FeatureCollection"
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise MapError(f"area {path}: not readable as GeoJSON ({_one_line(error)}); {remedy}") from error
    geometries: list[Any]
    match document:
        case {"type": "FeatureCollection", "features": list(features)}:
            geometries = [f.get("geometry") if isinstance(f, dict) else f for f in features]
        case {"type": "Feature"}:
            geometries = [document.get("geometry")]
        case {"type": str(), "coordinates": _} | {"type": "GeometryCollection"}:
            geometries = [document]
        case _:
            kind = document.get("type") if isinstance(document, dict) else type(document).__name__
            raise MapError(f"area {path}: GeoJSON of type {kind!r} holds no area; {remedy}")
    shapes: list[BaseGeometry | None] = []
    for number, geometry in enumerate(geometries, start=1):
        try:
            shapes.append(None if geometry is None else shape(geometry))
        except (shapely.errors.ShapelyError, AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise MapError(
                f"area {path}: feature {number} has a malformed geometry ({_one_line(error)}); correct its coordinates"
            ) from error
    return shapes


def _unite(shapes: list[BaseGeometry | None], notes: list[str], path: Path) -> Area:
    """Check and repair every polygon by itself, then unite them; overlapping features are no error."""
    if not shapes:
        raise MapError(f"area {path}: has no features; draw at least one polygon")
    polygons: list[BaseGeometry] = []
    for number, geometry in enumerate(shapes, start=1):
        where = f"area {path}: feature {number}"
        if geometry is None or geometry.is_empty:
            raise MapError(f"{where} has an empty geometry; remove it or draw its polygon")
        for part in _parts(geometry):
            if not isinstance(part, Polygon):
                raise MapError(f"{where} is a {part.geom_type}, which has no area; give polygons (buffer it first)")
            if not np.isfinite(shapely.get_coordinates(part)).all():
                raise MapError(f"{where} has coordinates that are not finite; correct them")
            polygons.append(_repaired(shapely.force_2d(part), where, notes, number))
    united = shapely.union_all(polygons)
    assert isinstance(united, Polygon | MultiPolygon)
    return united


def _parts(geometry: BaseGeometry) -> Iterator[BaseGeometry]:
    for part in shapely.get_parts(geometry):
        if part.geom_type in ("Polygon", "Point", "LineString", "LinearRing"):
            yield part
        else:
            yield from _parts(part)


def _repaired(polygon: Polygon, where: str, notes: list[str], number: int) -> BaseGeometry:
    """Make a polygon valid; refuse it where two honest readings of its ring enclose different areas.

    A bow tie encloses the same area whether insides are counted by parity (GEOS "linework") or by merging
    shells ("structure"); a ring that goes round a place twice does not, and only its author knows what it means.
    """
    if polygon.is_valid and polygon.area > 0:
        return polygon
    by_parity = areal(shapely.make_valid(polygon, method="linework"))
    by_shell = areal(shapely.make_valid(polygon, method="structure", keep_collapsed=False))
    if by_parity.area == 0 or by_shell.area == 0:
        raise MapError(f"{where} encloses no area; draw a polygon with at least three corners")
    if by_parity.symmetric_difference(by_shell).area > 1e-9 * by_shell.area:
        raise MapError(
            f"{where} has a ring that crosses itself and encloses some ground twice, so what is inside is "
            "ambiguous; draw it without crossings"
        )
    note = f"feature {number}: self-crossing ring repaired"
    if note not in notes:
        notes.append(note)
    return by_shell


def _finish(geometry: Area, crs: CRS, name: str, notes: list[str], where: str) -> Aoi:
    if crs.is_geographic:
        _check_degrees(geometry, where)
        if crs == LON_LAT:
            cut = cut_at_antimeridian(geometry)
            if not cut.equals(geometry):
                notes.append("wider than 180 degrees of longitude: taken as drawn across the antimeridian")
            return Aoi(cut, cut, crs, name, tuple(notes))
    elif not crs.is_projected:
        raise MapError(f"{where}: {crs_name(crs)} is no map CRS; name a projected or geographic one with --aoi-crs")
    lon_lat = to_lon_lat(geometry, crs)
    if lon_lat is None:
        raise MapError(f"{where}: lies outside {crs_name(crs)} or around a pole; check the coordinates and --aoi-crs")
    return Aoi(lon_lat, geometry, crs, name, tuple(notes))


def _check_degrees(geometry: BaseGeometry, where: str) -> None:
    minx, miny, maxx, maxy = geometry.bounds
    if minx < -180 or maxx > 180 or miny < -90 or maxy > 90:
        raise MapError(
            f"{where}: {minx:g},{miny:g},{maxx:g},{maxy:g} is out of range for longitude and latitude; {_LON_LAT_HINT}"
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
