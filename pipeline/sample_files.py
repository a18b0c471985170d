"""A sample for photo-interpretation on disk: points that QGIS edits, and what their interpreter must not see.

``<name>.gpkg`` holds the points in random order with empty fields ``reference`` and ``remark``, and a QGIS style that
offers the class names as a list. ``<name>.design.json`` holds how they were drawn: the strata with their sizes, and the
stratum of every point.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

import numpy as np
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from timesenmap.pipeline import legend
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.whole import write_whole

REFERENCE_FIELD = "reference"
ID_FIELD = "id"
LAYER = "points"
# As GDAL and QGIS lay it out; a style that is the default of its table is applied when the layer is opened.
_STYLES = """CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
    f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
    useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME)"""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DesignStratum(_Record):
    """A stratum: a class of the map that was sampled."""

    code: int
    name: str
    pixels: int = Field(description="in the map", gt=0)
    points: int = Field(description="sampled", ge=0)


class SampleDesign(_Record):
    """How a sample was drawn; point ``id`` n is element n - 1 of ``stratum_of``."""

    kind: Literal["timesenmap stratified sample"] = "timesenmap stratified sample"
    map: str = Field(description="name of the map that was sampled")
    seed: int
    allocation: str
    pixel_hectares: float = Field(gt=0)
    strata: tuple[DesignStratum, ...]
    stratum_of: tuple[int, ...] = Field(description="code of the stratum of every point, in the order of their ids")


def design_path(points: Path) -> Path:
    """Where the design of a sample lies: beside its points."""
    return points.with_suffix(".design.json")


def read_design(points: Path) -> SampleDesign | None:
    """Read the design beside a file of points; None where there is none, MapError where it is broken."""
    path = design_path(points)
    if not path.exists():
        return None
    try:
        return SampleDesign.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise MapError(f"{path}: is no design of a sample of this version ({error}); draw the sample again") from None


def write_sample(
    path: Path, centres: NDArray[np.float64], crs: pyproj.CRS, design: SampleDesign, choices: Sequence[str]
) -> list[Path]:
    """Write the points (n, 2) and their design; return the files written.

    Parameters
    ----------
    path
        GeoPackage to write; never replaced, as it may hold somebody's interpretation.
    centres
        x and y of the points in their order.
    crs
        Of the centres.
    design
        How they were drawn.
    choices
        Names of the classes that the interpreter chooses from.

    Raises
    ------
    MapError
        A name that does not end in .gpkg, or one of the files is there already.
    """
    if path.suffix.lower() != ".gpkg":
        raise MapError(f"--out {path}: must end in .gpkg")
    for file in (path, design_path(path)):
        if file.exists():
            raise MapError(f"{file} is there already and may hold an interpretation: remove it, or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part.gpkg")
    part.unlink(missing_ok=True)
    empty = np.full(len(centres), None, object)
    try:
        pyogrio.raw.write(
            part,
            shapely.to_wkb(shapely.points(centres)),
            [np.arange(1, len(centres) + 1, dtype=np.int64), empty, empty],
            [ID_FIELD, REFERENCE_FIELD, "remark"],
            layer=LAYER,
            driver="GPKG",
            geometry_type="Point",
            crs=crs.to_wkt(),
            dataset_options={"VERSION": "1.2"},  # later ones make QGIS 3.22 warn
        )
        _add_style(part, _style(choices))
        write_whole(design_path(path), design.model_dump_json(indent=1) + "\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return [path, design_path(path)]


def _add_style(path: Path, qml: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute(_STYLES)
        database.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, "
            "styleQML, styleSLD, useAsDefault, description) VALUES ('', '', ?, 'geom', 'interpretation', ?, '', 1, '')",
            (LAYER, qml),
        )
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles')"
        )
    database.close()


def _style(choices: Sequence[str]) -> str:
    """QGIS style (QML): hollow points, a list of classes for ``reference``, ``id`` not to be edited."""
    style = ET.Element("qgis", version=legend.QGIS_VERSION, styleCategories="AllStyleCategories", readOnly="0")
    fields = ET.SubElement(style, "fieldConfiguration")
    _widget(fields, ID_FIELD, "TextEdit")
    listed = ET.SubElement(_widget(fields, REFERENCE_FIELD, "ValueMap"), "Option", name="map", type="List")
    for choice in choices:
        name = legend.plain(choice)
        ET.SubElement(ET.SubElement(listed, "Option", type="Map"), "Option", name=name, value=name, type="QString")
    _widget(fields, "remark", "TextEdit")
    ET.SubElement(ET.SubElement(style, "editable"), "field", name=ID_FIELD, editable="0")
    renderer = ET.SubElement(style, "renderer-v2", type="singleSymbol", symbollevels="0", enableorderby="0")
    symbol = ET.SubElement(ET.SubElement(renderer, "symbols"), "symbol", type="marker", name="0", alpha="1")
    marker = ET.SubElement(symbol, "layer", {"class": "SimpleMarker", "enabled": "1", "pass": "0", "locked": "0"})
    # Empty, so that the pixel itself is seen.
    for key, value in (("name", "square"), ("color", "0,0,0,0"), ("outline_color", "255,0,200,255"), ("size", "5"),
                       ("size_unit", "MM"), ("outline_width", "0.5"), ("outline_width_unit", "MM")):  # fmt: skip
        ET.SubElement(marker, "prop", k=key, v=value)
    ET.indent(style)
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + ET.tostring(style, encoding="unicode")


def _widget(fields: ET.Element, field: str, kind: str) -> ET.Element:
    """Add the form widget of a field and return where its options go."""
    widget = ET.SubElement(ET.SubElement(fields, "field", name=field), "editWidget", type=kind)
    return ET.SubElement(ET.SubElement(widget, "config"), "Option", type="Map")
