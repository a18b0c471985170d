"""Assets of a run's STAC items: files with size and checksum, grid, bands, classes."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyproj

from timesenmap.pipeline import figures, legend
from timesenmap.pipeline.record import GridRecord, MapRecord, RunRecord
from timesenmap.pipeline.workspace import sha256_of

Json = dict[str, Any]

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
VRT = "application/xml"


def file_asset(out: Path, name: str, media_type: str, title: str, roles: Sequence[str]) -> Json:
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


def map_asset(out: Path, record: RunRecord, name: str, title: str) -> Json:
    """Asset of a whole map: a COG, or the VRT of its sheets."""
    media_type = VRT if name in record.sheets else COG
    return {**file_asset(out, name, media_type, title, ["data"]), **grid_fields(record.grid)}


def sheet_assets(out: Path, record: RunRecord, key: str, name: str) -> dict[str, Json]:
    """Assets of a map's sheets, named after the map's own asset; nothing where it is one file.

    Their role is no standard one: who loads all data of an item wants the whole map, once.
    """
    return {
        f"{key}-{sheet.key}": {
            **file_asset(out, sheet.file, COG, f"{key}, sheet {sheet.key}", ["sheet"]),
            "proj:shape": list(sheet.shape),
            "proj:transform": [*sheet.transform, 0.0, 0.0, 1.0],
        }
        for sheet in record.sheets.get(name, ())
    }


def grid_fields(grid: GridRecord) -> Json:
    """Fields of the projection extension; a CRS without a code gives its WKT."""
    crs = pyproj.CRS.from_user_input(grid.crs)
    authority = crs.to_authority()
    named: Json = {"proj:code": ":".join(authority)} if authority else {"proj:code": None, "proj:wkt2": crs.to_wkt()}
    return {
        **named,
        "proj:shape": list(grid.shape),
        "proj:transform": [*grid.transform, 0.0, 0.0, 1.0],
        "proj:bbox": list(figures.extent(grid).bounds),
    }


def resolution_fields(grid: GridRecord) -> Json:
    """Fields of the raster extension that all bands share: metres a pixel, which stands for its area."""
    return {"raster:spatial_resolution": figures.metres_a_pixel(grid), "raster:sampling": "area"}


def class_rows(map_record: MapRecord) -> list[Json]:
    """Classes as the classification extension has them: ``name`` for machines, ``title`` for people."""
    total = sum(c.pixels for c in map_record.legend) + map_record.no_data_pixels
    rows: list[Json] = [{"value": 0, "name": "no_data", "title": legend.NO_DATA_NAME, "nodata": True}]
    rows += [
        {"value": c.code, "name": slug(c.name), "title": c.name, "color_hint": c.colour[1:].upper()}
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


def companions(out: Path) -> dict[str, Json]:
    """What the maps of a run share: picture, page, project, and the record, which is written after this."""
    return {
        "thumbnail": file_asset(out, "preview.png", "image/png", "The maps in one picture", ["thumbnail", "overview"]),
        "report": file_asset(out, "index.html", "text/html", "Report of the run", ["overview"]),
        "project": file_asset(out, "map.qgz", "application/x-qgis-project", "QGIS project", ["metadata"]),
        "record": {
            "href": "../../run.json",
            "type": "application/json",
            "title": "Job, versions, scenes with radiometry, counts",
            "roles": ["metadata"],
        },
    }


def percent_assets(out: Path, record: RunRecord, map_record: MapRecord) -> dict[str, Json]:
    """Assets of the maps in percent: confidence; and, where they were asked for, probabilities and margin."""
    best = _percent_band(record, "confidence", "Calibrated probability of the best class of each pixel")
    shown = {"confidence": (map_record.confidence_map, "Confidence in percent", [best])}
    _add_histogram(best, map_record.confidence_histogram)
    if map_record.probability_map is not None:  # a band a class, in the order of the classes
        bands = [
            _percent_band(record, slug(c.name), f"Calibrated probability of {c.name} ({c.code})")
            for c in map_record.classes
        ]
        shown["probability"] = (map_record.probability_map, "Probability of each class in percent", bands)
    if map_record.margin_map is not None:
        what = "Probability of the best class minus that of the second best: where it is low, two classes nearly tie"
        margin = _percent_band(record, "margin", what)
        _add_histogram(margin, map_record.margin_histogram or ())
        shown["margin"] = (map_record.margin_map, "Margin of the best class over the second best in percent", [margin])
    assets: dict[str, Json] = {}
    for key, (name, title, bands) in shown.items():
        assets[key] = {**map_asset(out, record, name, title), "bands": bands}
        assets |= sheet_assets(out, record, key, name)
    return assets


def _percent_band(record: RunRecord, name: str, description: str) -> Json:
    return {
        "name": name,
        "description": description,
        "data_type": "uint8",
        "nodata": 255,
        "unit": "%",
        **resolution_fields(record.grid),
    }


def _add_histogram(band: Json, counts: Sequence[int]) -> None:
    """Say how many pixels have 0, 1, ..., 100 percent; nothing where no pixel has any."""
    if any(counts):
        band["raster:histogram"] = {"count": 101, "min": 0, "max": 100, "buckets": list(counts)}


def slug(text: str) -> str:
    """Letters, digits and hyphens of a text, for identifiers; a text with none of them keeps their code points."""
    words = re.sub(r"[^0-9a-z]+", "-", text.lower()).strip("-")
    return words or "-".join(f"{ord(letter):x}" for letter in text)
