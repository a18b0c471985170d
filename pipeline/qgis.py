"""``map.qgz``: a QGIS project of a run, and ``aoi.geojson``, the outline in it.

The project is written as QGIS writes it, kept to the elements that carry something: the rest QGIS fills with its
defaults. Paths are relative, so that the folder can be moved or zipped; layers carry the same rendering as the ``.qml``
files. Tested by opening it in QGIS (tests/integration/test_qgis_desktop.py).
"""

import io
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pyproj

from timesenmap.pipeline import figures, legend
from timesenmap.pipeline.record import GridRecord, MapRecord, RunRecord
from timesenmap.pipeline.whole import write_whole

_MARGIN = 0.04  # of the longer side, around the maps when the project opens
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # zip's earliest: the same project is the same file


@dataclass(frozen=True)
class _Layer:
    """A layer of the project: ``file`` relative to it, ``body`` what only this kind of layer has."""

    file: str
    title: str
    abstract: str
    provider: str
    crs: str
    shown: bool
    expanded: bool
    body: Sequence[ET.Element]

    @property
    def id(self) -> str:
        return "timesenmap_" + re.sub(r"\W", "_", self.file)

    @property
    def source(self) -> str:
        return f"./{self.file}"


def write_project(out: Path, record: RunRecord) -> Path:
    """Write ``map.qgz`` and ``aoi.geojson`` into the output folder, and return the project's path."""
    write_whole(out / "aoi.geojson", aoi_geojson(record))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("map.qgs", _ZIP_TIME), project_xml(record))
    return write_whole(out / "map.qgz", buffer.getvalue())


def aoi_geojson(record: RunRecord) -> str:
    """Return the area of interest as a GeoJSON feature collection (RFC 7946: longitude and latitude)."""
    feature = {"type": "Feature", "properties": {"name": record.title}, "geometry": record.aoi}
    return json.dumps({"type": "FeatureCollection", "features": [feature]}, ensure_ascii=False) + "\n"


def project_xml(record: RunRecord) -> str:
    """Return the ``.qgs`` document: outline on top, a group for each prompt set, observations below.

    The first prompt set's class map is shown; its other maps, observations and the other groups are there to be ticked.
    """
    outline = _outline_layer()
    groups = [(m, _layers_of(m, record)) for m in record.maps]
    observations = _observation_layer(record)
    layers = [outline, *(layer for _, group in groups for layer in group), observations]

    project = ET.Element("qgis", version=legend.QGIS_VERSION, projectname=legend.plain(record.title))
    ET.SubElement(project, "homePath", path="")
    _text(project, "title", record.title)
    ET.SubElement(project, "projectCrs").append(_srs(record.grid.crs))
    tree = ET.SubElement(project, "layer-tree-group")
    tree.append(_tree_layer(outline))
    for i, (map_record, group) in enumerate(groups):
        branch = ET.SubElement(
            tree,
            "layer-tree-group",
            name=legend.plain(map_record.title),
            checked=_checked(shown=i == 0),
            expanded="1" if i == 0 else "0",
        )
        branch.extend(_tree_layer(layer) for layer in group)
    tree.append(_tree_layer(observations))
    project.append(_canvas(record.grid))
    container = ET.SubElement(project, "projectlayers")
    container.extend(_map_layer(layer) for layer in layers)
    order = ET.SubElement(project, "layerorder")
    for layer in layers:
        ET.SubElement(order, "layer", id=layer.id)
    properties = ET.SubElement(project, "properties")
    ET.SubElement(ET.SubElement(properties, "Paths"), "Absolute", type="bool").text = "false"
    # Without this, QGIS 3.22 ignores <projectCrs>.
    ET.SubElement(ET.SubElement(properties, "SpatialRefSys"), "ProjectionsEnabled", type="int").text = "1"
    metadata = ET.SubElement(project, "projectMetadata")
    _text(metadata, "title", record.title)
    _text(metadata, "abstract", _abstract(record))
    _text(metadata, "license", figures.attribution(record))
    view = ET.SubElement(ET.SubElement(project, "ProjectViewSettings"), "DefaultViewExtent", _window(record.grid))
    view.append(_srs(record.grid.crs))
    ET.indent(project)
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
    return f"{doctype}\n{ET.tostring(project, encoding='unicode')}\n"


def _abstract(record: RunRecord) -> str:
    return (
        f"{figures.period(record)}, {figures.scenes(record)}. Encoder {record.encoder.name} "
        f"(sha256 {record.encoder.sha256}). {figures.attribution(record)}."
    )


def _layers_of(map_record: MapRecord, record: RunRecord) -> list[_Layer]:
    layers = [_class_layer(map_record, record), _confidence_layer(map_record, record)]
    if map_record.probability_map is not None:
        layers.append(_probability_layer(map_record.probability_map, map_record, record))
    if map_record.margin_map is not None:
        layers.append(_margin_layer(map_record.margin_map, map_record, record))
    return layers


def _class_layer(map_record: MapRecord, record: RunRecord) -> _Layer:
    abstract = f"{_abstract(record)} Prompts {map_record.prompt_set} (sha256 {map_record.prompts_sha256})."
    if map_record.unknown is not None:
        abstract += f" Unknown (255) where the confidence is {figures.unknown_rule(map_record)}."
    return _Layer(
        file=map_record.class_map,
        title=f"Classes: {map_record.title}",
        abstract=abstract,
        provider="gdal",
        crs=record.grid.crs,
        shown=True,
        expanded=True,
        body=[_no_data(), legend.palette_pipe(map_record.legend)],
    )


def _confidence_layer(map_record: MapRecord, record: RunRecord) -> _Layer:
    title = f"Confidence (%): {map_record.title}"
    what = "Calibrated probability of the best class, in percent."
    return _ramp_layer(map_record.confidence_map, title, what, legend.CONFIDENCE, record)


def _probability_layer(file: str, map_record: MapRecord, record: RunRecord) -> _Layer:
    title = f"Probability of each class (%): {map_record.title}"
    shown = f"shown is the first, {map_record.classes[0].name}"
    what = f"Calibrated probability of every class, a band each; {shown}."
    return _ramp_layer(file, title, what, legend.CONFIDENCE, record)


def _margin_layer(file: str, map_record: MapRecord, record: RunRecord) -> _Layer:
    what = "Probability of the best class minus that of the second best, in percent: where it is low, two nearly tie."
    return _ramp_layer(file, f"Margin (%): {map_record.title}", what, legend.MARGIN, record)


def _ramp_layer(file: str, title: str, what: str, ramp: legend.Ramp, record: RunRecord) -> _Layer:
    return _Layer(
        file=file,
        title=title,
        abstract=f"{what} {_abstract(record)}",
        provider="gdal",
        crs=record.grid.crs,
        shown=False,
        expanded=False,
        body=[_no_data(), legend.ramp_pipe(ramp)],
    )


def _observation_layer(record: RunRecord) -> _Layer:
    what = "Number of the twelve months with a clear observation."
    return _ramp_layer(record.observation_map, legend.OBSERVATIONS.title, what, legend.OBSERVATIONS, record)


def _outline_layer() -> _Layer:
    renderer = ET.Element("renderer-v2", type="singleSymbol", symbollevels="0", forceraster="0", enableorderby="0")
    symbols = ET.SubElement(renderer, "symbols")
    symbol = ET.SubElement(symbols, "symbol", type="fill", name="0", alpha="1", clip_to_extent="1", force_rhr="0")
    # A line, not a fill without brush: nothing of the maps is covered, and a click inside still finds the area.
    layer = ET.SubElement(symbol, "layer", {"class": "SimpleLine", "enabled": "1", "pass": "0", "locked": "0"})
    for key, value in (
        ("line_color", "32,38,42,255"),
        ("line_style", "solid"),
        ("line_width", "0.5"),
        ("line_width_unit", "MM"),
        ("joinstyle", "round"),
        ("capstyle", "round"),
    ):
        ET.SubElement(layer, "prop", k=key, v=value)  # read by every QGIS 3; written as <Option> since 3.22
    return _Layer(
        file="aoi.geojson",
        title="Area of interest",
        abstract="The area the maps were asked for.",
        provider="ogr",
        crs="EPSG:4326",
        shown=True,
        expanded=True,
        body=[renderer],
    )


def _no_data() -> ET.Element:
    no_data = ET.Element("noData")
    ET.SubElement(no_data, "noDataList", bandNo="1", useSrcNoData="1")
    return no_data


def _map_layer(layer: _Layer) -> ET.Element:
    kind = {"gdal": {"type": "raster"}, "ogr": {"type": "vector", "geometry": "Polygon"}}[layer.provider]
    element = ET.Element(
        "maplayer",
        {**kind, "styleCategories": "AllStyleCategories", "hasScaleBasedVisibilityFlag": "0", "maxScale": "0"},
    )
    _text(element, "id", layer.id)
    _text(element, "datasource", layer.source)
    _text(element, "layername", layer.title)
    ET.SubElement(element, "srs").append(_srs(layer.crs))
    metadata = ET.SubElement(element, "resourceMetadata")
    _text(metadata, "title", layer.title)
    _text(metadata, "abstract", layer.abstract)
    ET.SubElement(element, "provider").text = layer.provider
    element.extend(layer.body)
    ET.SubElement(element, "blendMode").text = "0"
    ET.SubElement(element, "layerOpacity").text = "1"
    return element


def _tree_layer(layer: _Layer) -> ET.Element:
    return ET.Element(
        "layer-tree-layer",
        id=layer.id,
        name=legend.plain(layer.title),
        source=layer.source,
        providerKey=layer.provider,
        checked=_checked(shown=layer.shown),
        expanded="1" if layer.expanded else "0",
    )


def _checked(*, shown: bool) -> str:
    return "Qt::Checked" if shown else "Qt::Unchecked"


def _srs(crs: str) -> ET.Element:
    """Return a CRS as QGIS keeps it: by authority where it has one, with WKT for those that have none."""
    known = pyproj.CRS.from_user_input(crs)
    authority = known.to_authority()
    srs = ET.Element("spatialrefsys")
    _text(srs, "wkt", known.to_wkt("WKT2_2019"))
    if authority:
        _text(srs, "srid", authority[1])
        _text(srs, "authid", ":".join(authority))
    _text(srs, "description", known.name)
    _text(srs, "geographicflag", "true" if known.is_geographic else "false")
    return srs


def _window(grid: GridRecord) -> dict[str, str]:
    x0, y0, x1, y1 = figures.extent(grid).bounds
    margin = _MARGIN * max(x1 - x0, y1 - y0)
    window = {"xmin": x0 - margin, "ymin": y0 - margin, "xmax": x1 + margin, "ymax": y1 + margin}
    return {key: repr(value) for key, value in window.items()}


def _canvas(grid: GridRecord) -> ET.Element:
    """Where the main window looks when the project opens."""
    canvas = ET.Element("mapcanvas", name="theMapCanvas", annotationsVisible="1")
    _text(canvas, "units", "degrees" if pyproj.CRS.from_user_input(grid.crs).is_geographic else "meters")
    extent = ET.SubElement(canvas, "extent")
    for key, value in _window(grid).items():
        _text(extent, key, value)
    _text(canvas, "rotation", "0")
    ET.SubElement(canvas, "destinationsrs").append(_srs(grid.crs))
    return canvas


def _text(parent: ET.Element, tag: str, text: str) -> None:
    ET.SubElement(parent, tag).text = legend.plain(text)
