"""Polygons from one CRS to another, over the antimeridian, with edges that stay where they were drawn."""

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError
from shapely.affinity import translate
from shapely.geometry import MultiPolygon, Point, Polygon
from shapely.geometry.base import BaseGeometry

from timesenmap.catalogs.footprints import unwrap, wrap
from timesenmap.pipeline.errors import MapError

LON_LAT = CRS.from_epsg(4326)

Area = Polygon | MultiPolygon

# A straight edge in one CRS is a curve in another. With 256 pieces over the area's longer side its error
# shrinks by 256 squared: under a metre for an edge of ten degrees, nothing for a field.
_PIECES = 256


def parse_crs(text: str, *, option: str) -> CRS:
    """Understand a CRS as pyproj does; MapError naming the option otherwise."""
    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        raise MapError(
            f"CRS {text!r}: unknown; give {option} as an EPSG code like EPSG:32631, WKT or PROJ text"
        ) from error


def crs_name(crs: CRS) -> str:
    """Short name of a CRS for messages: its code, else its name."""
    authority = crs.to_authority()
    return ":".join(authority) if authority else crs.name


def grid_crs(grid: GeoBox) -> CRS:
    """CRS of a grid, as pyproj knows it."""
    assert grid.crs is not None, "every grid of a run has a CRS"
    return grid.crs.proj


def outline(grid: GeoBox) -> Polygon:
    """Outline of a grid or a window of it, in its CRS."""
    return shapely.box(*grid.boundingbox)


def project(geometry: Area, source: CRS, target: CRS) -> Area | None:
    """Reproject polygons, edges densified; None where some point has no place in the target CRS.

    Coordinates are x before y whatever the CRS's axis order. Parts of a lon/lat area on both sides of the
    antimeridian are joined first, so that no seam is left inside them.
    """
    if source.is_geographic:
        geometry = join_at_antimeridian(geometry)
    moved = _moved(geometry, source, target)
    if moved is None or moved.is_valid:
        return moved
    return areal(shapely.make_valid(moved, method="structure", keep_collapsed=False))


def to_lon_lat(geometry: Area, source: CRS) -> Area | None:
    """Reproject polygons to EPSG:4326, cut at the antimeridian (RFC 7946, section 3.1.9).

    None where a point has no longitude and latitude, or a polygon holds a pole: such a ring has no outside in
    lon/lat, and Sentinel-2 does not look beyond 84 degrees.
    """
    if not source.is_geographic:
        there = Transformer.from_crs(LON_LAT, source, always_xy=True)
        poles = [Point(xy) for xy in zip(*there.transform([0.0, 0.0], [90.0, -90.0]), strict=True)]
        if any(np.isfinite(pole.x) and geometry.intersects(pole) for pole in poles):
            return None
    moved = _moved(geometry, source, LON_LAT)
    return None if moved is None else cut_at_antimeridian(moved)


def join_at_antimeridian(geometry: Area) -> Area:
    """Draw a lon/lat area on both sides of the antimeridian as one, its west at 180..360."""
    low, _, high, _ = geometry.bounds
    if high - low <= 180:
        return geometry
    parts = [translate(part, 360.0) if part.bounds[2] <= 0 else part for part in shapely.get_parts(geometry)]
    return areal(shapely.union_all(parts))


def cut_at_antimeridian(geometry: Area) -> Area:
    """Bring a lon/lat area into -180..180; a ring wider than 180 degrees was drawn across the antimeridian."""
    # Points of densified edges that say nothing to a centimetre are dropped: searches send this along.
    parts = [shapely.simplify(unwrap(part), 1e-7) for part in shapely.get_parts(geometry)]
    return areal(shapely.union_all([wrap(part) for part in parts]))


def areal(geometry: BaseGeometry) -> Area:
    """Keep the polygons of a geometry; what collapsed to lines and points has no area."""
    polygons = [part for part in shapely.get_parts(geometry) if isinstance(part, Polygon)]
    nested = [
        areal(part) for part in shapely.get_parts(geometry) if part.geom_type in ("MultiPolygon", "GeometryCollection")
    ]
    merged = shapely.union_all([*polygons, *nested])
    return merged if isinstance(merged, Polygon | MultiPolygon) else Polygon()


def _moved(geometry: Area, source: CRS, target: CRS) -> Area | None:
    """Reproject densified edges; what crosses the antimeridian of a geographic target is not valid yet."""
    transformer = Transformer.from_crs(source, target, always_xy=True)
    minx, miny, maxx, maxy = geometry.bounds
    dense = shapely.segmentize(geometry, max(maxx - minx, maxy - miny) / _PIECES)

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))

    moved = shapely.transform(dense, move)
    return moved if np.isfinite(shapely.get_coordinates(moved)).all() else None
