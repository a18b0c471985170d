"""The maps of a run as a STAC catalogue: ``catalog.json``, a collection, an item for each map.

STAC 1.1 with the projection, classification, raster, processing and file extensions. All links are relative and there
are no self links, so the folder can be moved, zipped or served as it is. The record and the files are all that enters:
the same run gives the same bytes.
"""

import calendar
import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyproj
import shapely

from timesenmap.pipeline import figures, legend
from timesenmap.pipeline.maskers import in_words
from timesenmap.pipeline.record import GridRecord, MapRecord, RunRecord
from timesenmap.pipeline.whole import write_whole
from timesenmap.pipeline.workspace import sha256_of

Json = dict[str, Any]

FOLDER = "stac"  # of collection and items, beside the maps
_VERSION = "1.1.0"
_EXTENSION = "https://stac-extensions.github.io"
_PROJECTION = f"{_EXTENSION}/projection/v2.0.0/schema.json"
_CLASSIFICATION = f"{_EXTENSION}/classification/v2.0.0/schema.json"
_RASTER = f"{_EXTENSION}/raster/v2.0.0/schema.json"
_PROCESSING = f"{_EXTENSION}/processing/v1.2.0/schema.json"
_FILE = f"{_EXTENSION}/file/v2.1.0/schema.json"
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
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
    return _write(out / "catalog.json", _catalogue(record))


def _write(path: Path, content: Json) -> Path:
    return write_whole(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _catalogue(record: RunRecord) -> Json:
    return {
        "type": "Catalog",
        "stac_version": _VERSION,
        "id": f"timesenmap-{_slug(record.title)}",
        "title": record.title,
        "description": _description(record),
        "links": [
            _link("root", "./catalog.json", "application/json", record.title),
            _link("child", f"./{FOLDER}/collection.json", "application/json", record.title),
        ],
    }


def _collection(record: RunRecord, items: Sequence[tuple[str, Json]]) -> Json:
    start, end = _interval(record)
    assets: dict[str, Json] = {}
    for _, item in items:
        for key, asset in item["assets"].items():
            kept = ("type", "roles") if key == "classes" else ("type", "roles", "title")
            assets.setdefault(key, {field: asset[field] for field in kept})
    return {
        "type": "Collection",
        "stac_version": _VERSION,
        "id": _slug(record.title),
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
    confidence_band = {
        "name": "confidence",
        "description": "Calibrated probability of the best class of each pixel",
        "data_type": "uint8",
        "nodata": 255,
        "unit": "%",
        **_resolution(record.grid),
    }
    if any(map_record.confidence_histogram):
        confidence_band["raster:histogram"] = {
            "count": 101,
            "min": 0,
            "max": 100,
            "buckets": list(map_record.confidence_histogram),
        }
    assets = {
        "classes": {
            **_file(out, map_record.class_map, _COG, f"{map_record.title}: class of each pixel", ["data"]),
            **_grid(record.grid),
            "bands": [
                {
                    "name": "class",
                    "description": f"{map_record.title} by code",
                    "data_type": "uint8",
                    "nodata": 0,
                    **_resolution(record.grid),
                }
            ],
            "classification:classes": _classes(map_record),
        },
        "confidence": {
            **_file(out, map_record.confidence_map, _COG, "Confidence in percent", ["data"]),
            **_grid(record.grid),
            "bands": [confidence_band],
        },
        **_probabilities(out, record, map_record),
        **_companions(out),
        "style": _file(
            out, Path(map_record.class_map).stem + ".qml", "application/xml", "QGIS style of the classes", ["style"]
        ),
    }
    properties = {
        "timesenmap:prompt_set": map_record.prompt_set,
        "timesenmap:prompts_sha256": map_record.prompts_sha256,
        **({"timesenmap:unknown_below": map_record.unknown_below} if map_record.unknown else {}),
    }
    title = f"{map_record.title}, {figures.period(record)}"
    return map_record.prompt_set, _item(record, map_record.prompt_set, title, assets, properties, _CLASSIFICATION)


def _probabilities(out: Path, record: RunRecord, map_record: MapRecord) -> dict[str, Json]:
    """Asset of the probabilities, a band a class in the order of the classes; nothing where there are none."""
    if map_record.probability_map is None:
        return {}
    bands = [
        {
            "name": _slug(c.name),
            "description": f"Calibrated probability of {c.name} ({c.code})",
            "data_type": "uint8",
            "nodata": 255,
            "unit": "%",
            **_resolution(record.grid),
        }
        for c in map_record.classes
    ]
    asset = _file(out, map_record.probability_map, _COG, "Probability of each class in percent", ["data"])
    return {"probability": {**asset, **_grid(record.grid), "bands": bands}}


def _observation_item(out: Path, record: RunRecord) -> tuple[str, Json]:
    band = {
        "name": "observations",
        "description": "Months with a clear observation",
        "data_type": "uint8",
        "nodata": 255,
        **_resolution(record.grid),
    }
    assets = {
        "observations": {
            **_file(out, "observations.tif", _COG, "Months with a clear observation", ["data"]),
            **_grid(record.grid),
            "bands": [band],
        },
        **_companions(out),
    }
    return "observations", _item(record, "observations", f"Observations, {figures.period(record)}", assets, {})


def _item(
    record: RunRecord,
    name: str,
    title: str,
    assets: Mapping[str, Json],
    properties: Mapping[str, Any],
    *extensions: str,
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
            **properties,
        },
        "links": [
            _link("root", "../../catalog.json", "application/json", record.title),
            _link("parent", "../collection.json", "application/json", record.title),
            _link("collection", "../collection.json", "application/json", record.title),
            *_licence(record),
        ],
        "assets": dict(assets),
        "collection": _slug(record.title),
    }


def _companions(out: Path) -> dict[str, Json]:
    """What the maps of a run share: picture, page, project, and the record, which is written after this."""
    return {
        "thumbnail": _file(out, "preview.png", "image/png", "The maps in one picture", ["thumbnail", "overview"]),
        "report": _file(out, "index.html", "text/html", "Report of the run", ["overview"]),
        "project": _file(out, "map.qgz", "application/x-qgis-project", "QGIS project", ["metadata"]),
        "record": {
            "href": "../../run.json",
            "type": "application/json",
            "title": "Job, versions, scenes with radiometry, counts",
            "roles": ["metadata"],
        },
    }


def _file(out: Path, name: str, media_type: str, title: str, roles: Sequence[str]) -> Json:
    """Asset of a file that is there, with size and checksum (multihash: 12 20 = SHA-256 of 32 bytes)."""
    path = out / name
    return {
        "href": f"../../{name}",
        "type": media_type,
        "title": title,
        "roles": list(roles),
        "file:size": path.stat().st_size,
        "file:checksum": f"1220{sha256_of(path)}",
    }


def _grid(grid: GridRecord) -> Json:
    crs = pyproj.CRS.from_user_input(grid.crs)
    authority = crs.to_authority()
    named: Json = {"proj:code": ":".join(authority)} if authority else {"proj:code": None, "proj:wkt2": crs.to_wkt()}
    return {
        **named,
        "proj:shape": list(grid.shape),
        "proj:transform": [*grid.transform, 0.0, 0.0, 1.0],
        "proj:bbox": list(figures.extent(grid).bounds),
    }


def _resolution(grid: GridRecord) -> Json:
    return {"raster:spatial_resolution": figures.metres_a_pixel(grid), "raster:sampling": "area"}


def _classes(map_record: MapRecord) -> list[Json]:
    """Classes as the classification extension has them: ``name`` for machines, ``title`` for people."""
    total = sum(c.pixels for c in map_record.legend) + map_record.no_data_pixels
    rows: list[Json] = [{"value": 0, "name": "no_data", "title": legend.NO_DATA_NAME, "nodata": True}]
    rows += [
        {"value": c.code, "name": _slug(c.name), "title": c.name, "color_hint": c.colour[1:].upper()}
        for c in legend.check_classes(map_record.legend)
    ]
    if map_record.unknown is not None:
        rows[-1]["description"] = f"Confidence of the best class {figures.unknown_rule(map_record)}"
    names = [row["name"] for row in rows]
    for row in rows:
        if names.count(row["name"]) > 1:  # "C1/C2" and "C1-C2"
            row["name"] += f"-{row['value']}"
    counts = {0: map_record.no_data_pixels, **{c.code: c.pixels for c in map_record.legend}}
    for row in rows:
        row["count"] = counts[row["value"]]
        if total:
            row["percentage"] = round(100 * row["count"] / total, 4)
    return rows


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


def _slug(text: str) -> str:
    """Letters, digits and hyphens of a text, for identifiers; a text with none of them keeps their code points."""
    slug = re.sub(r"[^0-9a-z]+", "-", text.lower()).strip("-")
    return slug or "-".join(f"{ord(letter):x}" for letter in text)


def _licence(record: RunRecord) -> list[Json]:
    if not figures.from_copernicus(record):
        return []
    return [{"rel": "license", "href": _NOTICE, "type": "application/pdf", "title": figures.attribution(record)}]


def _link(rel: str, href: str, media_type: str, title: str) -> Json:
    return {"rel": rel, "href": href, "type": media_type, "title": title}
