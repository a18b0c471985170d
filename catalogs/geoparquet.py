"""STAC items as a table and back: the stac-geoparquet specification 1.1.

One row an item; its properties are columns, geometry is WKB, assets are a struct
(https://radiantearth.github.io/stac-geoparquet-spec). Written with pyarrow alone, which this project needs anyway:
the two libraries that also do it bring geopandas and a JSON parser, or a compiled package of 33 MB, and refuse items
whose fields have no common type; the tests read these files with one of them.
"""

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import shapely
import shapely.geometry

# Times by the STAC specification's common metadata: timestamps in the table, everything else stays as it is said.
_TIMES = ("datetime", "start_datetime", "end_datetime", "created", "updated")
_TIME = pa.timestamp("us", tz="UTC")
_TEXT = pa.string()
_CORNERS = {4: ("xmin", "ymin", "xmax", "ymax"), 6: ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax")}
_ITEM_COLUMNS = ("id", "collection", "stac_version", "stac_extensions", "geometry", "bbox", "links", "assets")
_LINK = pa.struct([(name, _TEXT) for name in ("href", "rel", "type", "title")])
_TYPES = {
    "id": _TEXT,
    "collection": _TEXT,
    "stac_version": _TEXT,
    "stac_extensions": pa.list_(_TEXT),
    "geometry": pa.binary(),
    "links": pa.list_(_LINK),
    **dict.fromkeys(_TIMES, _TIME),
}
# Columns whose values have no common type are JSON text; their names are told here, so that reading undoes it.
_AS_TEXT = b"timesenmap:json_columns"


def items_to_table(items: Sequence[Mapping[str, Any]], *, metadata: Mapping[str, str] | None = None) -> pa.Table:
    """Make a table of items.

    Parameters
    ----------
    items
        GeoJSON features of STAC, at least one, each with a geometry. A field that is null is not told from a missing
        one, an empty object neither.
    metadata
        More key-value metadata for the file.
    """
    rows = [_row(item) for item in items]
    columns: dict[str, pa.Array] = {}
    as_text = []
    for name in dict.fromkeys([*_ITEM_COLUMNS, *(name for row in rows for name in row)]):
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values, _TYPES.get(name))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            as_text.append(name)
            columns[name] = pa.array([None if value is None else json.dumps(value) for value in values], _TEXT)
    shapes = [shapely.from_wkb(row["geometry"]) for row in rows]
    geometry = {
        "encoding": "WKB",
        "geometry_types": sorted({shape.geom_type for shape in shapes}),
        "bbox": [float(edge) for edge in shapely.total_bounds(shapes)],
        "covering": {"bbox": {name: ["bbox", name] for name in _CORNERS[4]}},
    }
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    said = {"geo": json.dumps(geo), "stac-geoparquet": json.dumps({"version": "1.1.0"}), **(metadata or {})}
    if as_text:
        said[_AS_TEXT.decode()] = json.dumps(as_text)
    return pa.table(columns).replace_schema_metadata(said)


def table_to_items(table: pa.Table) -> list[dict[str, Any]]:
    """Make the items of a table, written here or by another program.

    Raises
    ------
    ValueError
        The table is no stac-geoparquet: no geometry as WKB, or no id.
    """
    said = table.schema.metadata or {}
    geo = json.loads(said.get(b"geo", b"{}"))
    name = str(geo.get("primary_column", "geometry"))
    encoding = geo.get("columns", {}).get(name, {}).get("encoding", "WKB")
    missing = [column for column in (name, "id", "assets") if column not in table.column_names]
    if missing or encoding != "WKB":
        problem = f"it has no column {' and '.join(missing)}" if missing else f"its geometry is {encoding}, not WKB"
        raise ValueError(f"no stac-geoparquet: {problem}")
    as_text = json.loads(said.get(_AS_TEXT, b"[]"))
    return [_item(row, name, as_text) for row in table.to_pylist()]


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    shape = shapely.geometry.shape(item["geometry"])
    bbox = item.get("bbox") or shape.bounds
    row = {name: _without_nulls(item[name]) for name in ("id", "collection", "stac_version") if item.get(name)}
    row |= {
        "stac_extensions": list(item.get("stac_extensions") or []),
        "geometry": shapely.to_wkb(shape),
        "bbox": dict(zip(_CORNERS[len(bbox)], map(float, bbox), strict=True)),
        "links": [{name: link.get(name) for name in ("href", "rel", "type", "title")} for link in item["links"]],
        "assets": _without_nulls(item["assets"]),
    }
    for name, value in _without_nulls(item["properties"]).items():
        if name not in row and name not in ("type", *_ITEM_COLUMNS):  # the specification has no place for these
            row[name] = _moment(value) if name in _TIMES else value
    return row


def _item(row: dict[str, Any], geometry: str, as_text: Iterable[str]) -> dict[str, Any]:
    fields = {
        name: json.loads(value) if name in as_text and value is not None else _without_nulls(value)
        for name, value in row.items()
        if value is not None and name != geometry and not isinstance(value, bytes)
    }
    # Through JSON: tuples become lists, and doubles are written so that they come back the same.
    shape = None if row[geometry] is None else shapely.geometry.mapping(shapely.from_wkb(row[geometry]))
    bbox = fields.get("bbox")
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        **{name: value for name, value in fields.items() if name in _ITEM_COLUMNS},
        "geometry": json.loads(json.dumps(shape)),
        "links": fields.get("links") or [],
        "assets": fields.get("assets") or {},
        "properties": {n: value for n, value in fields.items() if n not in ("type", *_ITEM_COLUMNS)},
    }
    if isinstance(bbox, dict):
        item["bbox"] = [bbox[name] for name in _CORNERS[6] if name in bbox]
    return item


def _without_nulls(value: Any) -> Any:
    """Plain JSON without nulls and empty objects, which a table cannot hold; times in ISO 8601."""
    if isinstance(value, Mapping):
        plain = {str(name): _without_nulls(part) for name, part in value.items() if not isinstance(part, bytes)}
        return {name: part for name, part in plain.items() if part is not None and part != {}}
    if isinstance(value, list | tuple):
        return [_without_nulls(part) for part in value]
    if isinstance(value, dt.datetime):
        # Always with microseconds: versions of an item are ranked by comparing these texts.
        utc = value.replace(tzinfo=value.tzinfo or dt.UTC).astimezone(dt.UTC)
        return utc.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
    return value


def _moment(value: Any) -> Any:
    moment = dt.datetime.fromisoformat(str(value))
    return moment.replace(tzinfo=moment.tzinfo or dt.UTC)
