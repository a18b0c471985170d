"""The QGIS project as a file; what QGIS makes of it is in integration/test_qgis_desktop.py."""

import json
import zipfile
from xml.etree import ElementTree as ET

import pyogrio
import pyproj
import pytest
import shapely
from outputs_fixture import HOSTILE, LAND_COVER, make_run

from timesenmap.pipeline.qgis import project_xml, write_project


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("run"), height=64, width=80, title=HOSTILE, odd_name=HOSTILE)
    write_project(made.out, made.record)
    return made


@pytest.fixture(scope="module")
def project(run):
    with zipfile.ZipFile(run.out / "map.qgz") as archive:
        assert archive.namelist() == ["map.qgs"]
        return ET.fromstring(archive.read("map.qgs"))


def test_every_source_is_relative_and_there(run, project):
    sources = [element.text for element in project.iterfind("projectlayers/maplayer/datasource")]
    assert sorted(sources) == [
        "./aoi.geojson",
        "./crops.confidence.tif",
        "./crops.tif",
        "./land-cover.confidence.tif",
        "./land-cover.tif",
        "./observations.tif",
    ]
    assert all((run.out / source).is_file() for source in sources)
    assert project.findtext("properties/Paths/Absolute") == "false"
    assert str(run.out) not in ET.tostring(project, encoding="unicode")


def test_tree_order_and_layers_speak_of_the_same_ids(project):
    layers = [element.text for element in project.iterfind("projectlayers/maplayer/id")]
    assert len(set(layers)) == 6
    assert [element.get("id") for element in project.iter("layer-tree-layer")] == layers
    assert [element.get("id") for element in project.iterfind("layerorder/layer")] == layers


def test_layers_are_drawn_as_their_style_files_say(run, project):
    for layer in project.iterfind("projectlayers/maplayer[@type='raster']"):
        style = (run.out / layer.findtext("datasource")).with_suffix(".qml")
        on_disk = ET.fromstring(style.read_text(encoding="utf-8").split("\n", 1)[1]).find("pipe")
        assert ET.canonicalize(ET.tostring(layer.find("pipe")), strip_text=True) == ET.canonicalize(
            ET.tostring(on_disk), strip_text=True
        )


def test_names_with_markup_stay_text(project):
    assert project.findtext("title") == HOSTILE
    labels = {entry.get("label") for entry in project.iter("paletteEntry")}
    assert {HOSTILE, *(e.name for e in LAND_COVER if e.code != 5)} <= labels


def test_outline_is_the_area_asked_for(run):
    meta, _, geometry, fields = pyogrio.raw.read(run.out / "aoi.geojson")
    assert meta["crs"] == "EPSG:4326"
    assert shapely.from_wkb(geometry[0]).equals(shapely.geometry.shape(run.record.aoi))
    assert fields[0].tolist() == [HOSTILE]


def test_same_run_same_bytes(run, tmp_path):
    first = (run.out / "map.qgz").read_bytes()
    write_project(tmp_path, run.record)
    assert (tmp_path / "map.qgz").read_bytes() == first
    assert {path.name for path in tmp_path.iterdir()} == {"map.qgz", "aoi.geojson"}


def test_crs_without_a_code_is_described_by_its_wkt(run):
    crs = pyproj.CRS.from_proj4("+proj=laea +lat_0=51 +lon_0=3 +datum=WGS84 +units=m")
    grid = run.record.grid.model_copy(update={"crs": crs.to_wkt()})
    project = ET.fromstring(project_xml(run.record.model_copy(update={"grid": grid})).split("\n", 1)[1])
    srs = project.find("projectCrs/spatialrefsys")
    assert srs.find("authid") is None
    assert pyproj.CRS.from_wkt(srs.findtext("wkt")) == crs


def test_outline_file_is_valid_geojson_with_every_letter_kept(run):
    text = (run.out / "aoi.geojson").read_text(encoding="utf-8")
    assert json.loads(text)["features"][0]["properties"]["name"] == HOSTILE


def test_margin_is_a_layer_with_its_own_colours(tmp_path):
    run = make_run(tmp_path, height=64, width=80, margin=True)
    project = ET.fromstring(project_xml(run.record).split("\n", 1)[1])
    layers = {layer.findtext("datasource"): layer for layer in project.iter("maplayer")}
    assert "./crops.margin.tif" not in layers
    layer = layers["./land-cover.margin.tif"]
    assert layer.findtext("layername") == "Margin (%): Land cover"
    assert "nearly tie" in layer.findtext("resourceMetadata/abstract")
    style = ET.fromstring((run.out / "land-cover.margin.qml").read_text(encoding="utf-8").split("\n", 1)[1])
    found, expected = ([item.get("color") for item in e.iter("item")] for e in (layer, style))
    assert found == expected
    (branch,) = [e for e in project.iter("layer-tree-group") if e.get("name") == "Land cover"]
    assert [(e.get("source"), e.get("checked")) for e in branch] == [
        ("./land-cover.tif", "Qt::Checked"),
        ("./land-cover.confidence.tif", "Qt::Unchecked"),
        ("./land-cover.margin.tif", "Qt::Unchecked"),
    ]


def test_unknown_is_in_the_legend_of_the_map_that_uses_it(tmp_path):
    run = make_run(tmp_path, height=64, width=80, unknown_below=0.6)
    project = ET.fromstring(project_xml(run.record).split("\n", 1)[1])
    for name, used in (("land-cover", True), ("crops", False)):
        (layer,) = [e for e in project.iter("maplayer") if e.findtext("datasource") == f"./{name}.tif"]
        entries = [(e.get("value"), e.get("label"), e.get("color")) for e in layer.iter("paletteEntry")]
        assert (("255", "unknown", "#7c7c7c") in entries) is used
        assert ("below 60%" in layer.findtext("resourceMetadata/abstract")) is used
