"""Footprints in longitude and latitude that behave at the antimeridian."""

from collections.abc import Mapping
from typing import Any

import shapely
import shapely.affinity
import shapely.geometry
from shapely.geometry.base import BaseGeometry

from timesenmap.catalogs.errors import CatalogError

_WEST, _WORLD, _EAST = (shapely.box(low, -90.0, low + 360.0, 90.0) for low in (-540.0, -180.0, 180.0))


def footprint(geometry: Mapping[str, Any] | None) -> BaseGeometry:
    """Shape of a GeoJSON geometry with every longitude in -180..180, split at the antimeridian.

    No Sentinel-2 tile is wider than 180 degrees: a ring that is has been drawn across the antimeridian by a service
    that did not cut it there (178.5 E to 178.9 W), and would otherwise cover the rest of the Earth instead. Rings that
    run past 180 (178.5 to 181.1) are cut there. Cut footprints (RFC 7946, section 3.1.9) come back as they are.

    Raises
    ------
    CatalogError
        Not a polygon or multipolygon with an area.
    """
    try:
        shape = shapely.geometry.shape(dict(geometry or {}))
        parts = [unwrap(part) for part in shapely.get_parts(shape)]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError) as error:
        raise CatalogError(f"geometry {str(geometry)[:80]} cannot be read ({error}); leave the item out") from error
    merged = shapely.union_all([wrap(part) for part in parts])
    if merged.is_empty or merged.area == 0:
        raise CatalogError(f"geometry {str(geometry)[:80]} has no area; leave the item out (--skip-bad-items)")
    return merged


def unwrap(polygon: BaseGeometry) -> BaseGeometry:
    """Draw a polygon that spans more than 180 degrees across the antimeridian: its west becomes 180..360."""
    low, _, high, _ = polygon.bounds
    if high - low <= 180.0:
        return polygon
    return shapely.transform(polygon, lambda xy: xy + (xy[:, :1] < 0.0) * [[360.0, 0.0]])


def wrap(shape: BaseGeometry) -> BaseGeometry:
    """Bring every part of a shape into longitudes -180..180, cutting it at the antimeridian where it crosses."""
    valid = shape if shape.is_valid else shapely.make_valid(shape)
    low, _, high, _ = valid.bounds if not valid.is_empty else (0.0, 0.0, 0.0, 0.0)
    if low >= -180.0 and high <= 180.0:
        return valid
    parts = [
        shapely.affinity.translate(valid.intersection(band), shift)
        for band, shift in ((_WEST, 360.0), (_WORLD, 0.0), (_EAST, -360.0))
    ]
    return shapely.union_all(parts)
