"""The maps of a run as a STAC catalogue: ``catalog.json``, a collection, an item for each map.

STAC 1.1 with the projection, classification, raster, processing and file extensions. All links are relative and there
are no self links, so the folder can be moved, zipped or served as it is. The record and the files are all that enters:
the same run gives the same bytes.
"""

import calendar
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import shapely

from timesenmap.catalogs.saved import PARQUET_TYPE
from timesenmap.pipeline import figures
from timesenmap.pipeline.maskers import in_words
from timesenmap.pipeline.record import MapRecord, RunRecord
from timesenmap.pipeline.stac_assets import (
    Json,
    class_rows,
    companions,
    file_asset,
    map_asset,
    percent_assets,
    resolution_fields,
    sheet_assets,
    slug,
)
from timesenmap.pipeline.whole import write_whole

FOLDER = "stac"  # of collection and items, beside the maps
SCENES = "work/items.parquet"  # where a run keeps the scenes it used (Workspace.items)
_VERSION = "1.1.0"
_EXTENSION = "https://stac-extensions.github.io"
_PROJECTION = f"{_EXTENSION}/projection/v2.0.0/schema.json"
_CLASSIFICATION = f"{_EXTENSION}/classification/v2.0.0/schema.json"
_RASTER = f"{_EXTENSION}/raster/v2.0.0/schema.json"
_PROCESSING = f"{_EXTENSION}/processing/v1.1.0/schema.json"
_FILE = f"{_EXTENSION}/file/v2.1.0/schema.json"
_COPERNICUS = {
    "name": "European Union and ESA: Copernicus Sentinel-2",
    "roles": ["licensor", "producer"],
    "url": "https://sentinels.copernicus.eu",
}
_NOTICE = "https://sentinel.esa.int/documents/247904/690755/Sentinel_Data_Legal_Notice"


def write_catalogue(out: Path, record: RunRecord) -> Path:
    """Write the catalogue of a run whose maps lie in ``out``; returns the path of ``catalog.json``.

    The catalogue itself is written last: where it is, everything it points to is.
    """
    items = [*(_map_item(out, record, map_record) for map_record in record.maps), _observation_item(out, record)]
    for name, item in items:
        _write(out / FOLDER / "items" / f"{name}.json", item)
    _write(out / FOLDER / "collection.json", _collection(record, items))
    return _write(out / "catalog.json", _catalogue(out, record))


def _write(path: Path, content: Json) -> Path:
    return write_whole(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _catalogue(out: Path, record: RunRecord) -> Json:
    return {
        "type": "Catalog",
        "stac_version": _VERSION,
        "id": f"timesenmap-{slug(record.title)}",
        "title": record.title,
        "description": _description(record),
        "links": [
            _link("root", "./catalog.json", "application/json", record.title),
            _link("child", f"./{FOLDER}/collection.json", "application/json", record.title),
            *_made_of(out, "."),
        ],
    }


def _made_of(out: Path, up: str) -> list[Json]:
    """Link to the scenes the maps were made of, where the run kept them."""
    if not (out / SCENES).is_file():
        return []
    return [_link("derived_from", f"{up}/{SCENES}", PARQUET_TYPE, "Scenes the maps were made of")]


def _collection(record: RunRecord, items: Sequence[tuple[str, Json]]) -> Json:
    start, end = _interval(record)
    assets: dict[str, Json] = {}
    for _, item in items:
        for key, asset in item["assets"].items():
            if "sheet" in asset["roles"]:
                continue
            kept = ("type", "roles") if key == "classes" else ("type", "roles", "title")
            assets.setdefault(key, {field: asset[field] for field in kept})
    return {
        "type": "Collection",
        "stac_version": _VERSION,
        "id": slug(record.title),
        "title": record.title,
        "description": _description(record),
        "license": "other",
        "keywords": ["land cover", "satellite time series", "TimeSenCLIP"],
        **({"providers": [_COPERNICUS]} if figures.from_copernicus(record) else {}),
        "extent": {
            "spatial": {"bbox": [_bbox(shapely.geometry.shape(record.aoi))]},
            "temporal": {"interval": [[start, end]]},
        },
        "summaries": {"gsd": [figures.metres_a_pixel(record.grid)]},
        "item_assets": assets,
        "links": [
            _link("root", "../catalog.json", "application/json", record.title),
            _link("parent", "../catalog.json", "application/json", record.title),
            *(
                _link("item", f"./items/{name}.json", "application/geo+json", item["properties"]["title"])
                for name, item in items
            ),
            *_licence(record),
        ],
    }


def _map_item(out: Path, record: RunRecord, map_record: MapRecord) -> tuple[str, Json]:
    assets = {
        "classes": {
            **map_asset(out, record, map_record.class_map, f"{map_record.title}: class of each pixel"),
            "bands": [
                {
                    "name": "class",
                    "description": f"{map_record.title} by code",
                    "data_type": "uint8",
                    "nodata": 0,
                    **resolution_fields(record.grid),
                }
            ],
            "classification:classes": class_rows(map_record),
        },
        **sheet_assets(out, record, "classes", map_record.class_map),
        **percent_assets(out, record, map_record),
        **companions(out),
        "style": file_asset(
            out, Path(map_record.class_map).stem + ".qml", "application/xml", "QGIS style of the classes", ["style"]
        ),
    }
    properties = {
        "timesenmap:prompt_set": map_record.prompt_set,
        "timesenmap:prompts_sha256": map_record.prompts_sha256,
        **({"timesenmap:unknown_below": map_record.unknown_below} if map_record.unknown else {}),
    }
    title = f"{map_record.title}, {figures.period(record)}"
    name = map_record.prompt_set
    item = _item(out, record, name, title, assets=assets, properties=properties, extensions=[_CLASSIFICATION])
    return name, item


def _observation_item(out: Path, record: RunRecord) -> tuple[str, Json]:
    band = {
        "name": "observations",
        "description": "Months with a clear observation",
        "data_type": "uint8",
        "nodata": 255,
        **resolution_fields(record.grid),
    }
    assets = {
        "observations": {
            **map_asset(out, record, record.observation_map, "Months with a clear observation"),
            "bands": [band],
        },
        **sheet_assets(out, record, "observations", record.observation_map),
        **companions(out),
    }
    return "observations", _item(out, record, "observations", f"Observations, {figures.period(record)}", assets=assets)


def _item(
    out: Path,
    record: RunRecord,
    name: str,
    title: str,
    *,
    assets: Mapping[str, Json],
    properties: Mapping[str, Any] | None = None,
    extensions: Sequence[str] = (),
) -> Json:
    area = shapely.geometry.shape(record.aoi)
    start, end = _interval(record)
    return {
        "type": "Feature",
        "stac_version": _VERSION,
        "stac_extensions": sorted([_PROJECTION, _RASTER, _PROCESSING, _FILE, *extensions]),
        "id": f"{name}-{record.observations.months[0]}",
        "geometry": dict(record.aoi),
        "bbox": _bbox(area),
        "properties": {
            "title": title,
            "description": _description(record),
            # The start as the nominal date: some readers cannot do without one.
            "datetime": start,
            "start_datetime": start,
            "end_datetime": end,
            "created": _iso(record.created),
            **({"constellation": "sentinel-2"} if figures.from_copernicus(record) else {}),
            "gsd": figures.metres_a_pixel(record.grid),
            "processing:lineage": _lineage(record),
            "processing:software": dict(sorted(record.versions.items())),
            "timesenmap:encoder": record.encoder.name,
            "timesenmap:encoder_sha256": record.encoder.sha256,
            "timesenmap:scenes": [scene.id for scene in record.scenes],
            **(properties or {}),
        },
        "links": [
            _link("root", "../../catalog.json", "application/json", record.title),
            _link("parent", "../collection.json", "application/json", record.title),
            _link("collection", "../collection.json", "application/json", record.title),
            *_made_of(out, "../.."),
            *_licence(record),
        ],
        "assets": dict(assets),
        "collection": slug(record.title),
    }


def _description(record: RunRecord) -> str:
    return (
        f"{figures.period(record)}: maps of the land from {figures.scenes(record)}, each pixel's year "
        f"encoded by the TimeSenCLIP encoder '{record.encoder.name}' and matched with descriptions in words. "
        f"{figures.attribution(record)}."
    )


def _lineage(record: RunRecord) -> str:
    rules = sorted({rule for scene in record.scenes for rule in scene.radiometry.values()})
    widened = f" (clouds and shadows widened by {record.cloud_dilation:g} m)" if record.cloud_dilation else ""
    return (
        f"{figures.scenes(record)} of {record.catalogue}; reflectance by item ({'; '.join(rules)}); pixels of "
        f"scene classes {', '.join(map(str, record.set_aside))}{widened} set aside, as told by "
        f"{in_words(record.masker)}; monthly medians; encoder "
        f"'{record.encoder.name}' ({record.encoder.precision} on {record.encoder.device}); class of the nearest prompt "
        f"in the space of {record.encoder.text_tower}."
    )


def _interval(record: RunRecord) -> tuple[str, str]:
    """First and last second of the twelve months."""
    months = record.observations.months
    year, month = int(months[-1][:4]), int(months[-1][5:7])
    return f"{months[0]}-01T00:00:00Z", f"{months[-1]}-{calendar.monthrange(year, month)[1]:02d}T23:59:59Z"


def _iso(moment: dt.datetime) -> str:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return aware.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _bbox(area: shapely.Geometry) -> list[float]:
    """Bounds in lon/lat; where parts lie on both sides of the antimeridian, west > east (RFC 7946, section 5.2)."""
    west, south, east, north = shapely.bounds(area).tolist()
    if east - west > 180:
        parts = [shapely.bounds(part).tolist() for part in shapely.get_parts(area)]
        west = min(part[0] for part in parts if part[0] > 0)
        east = max(part[2] for part in parts if part[2] < 0)
    return [west, south, east, north]


def _licence(record: RunRecord) -> list[Json]:
    if not figures.from_copernicus(record):
        return []
    return [{"rel": "license", "href": _NOTICE, "type": "application/pdf", "title": figures.attribution(record)}]


def _link(rel: str, href: str, media_type: str, title: str) -> Json:
    return {"rel": rel, "href": href, "type": media_type, "title": title}
