"""What GDAL's own gdalinfo says of the maps (Debian: gdal-bin): names, colours, metadata, layout."""

import json
import re
import shutil
import subprocess

import pytest
from outputs_fixture import HOSTILE, LAND_COVER, make_run

from timesenmap.pipeline.legend import LegendEntry, rgb

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run") / "out", height=700, width=600, odd_name=HOSTILE)


def told(*arguments):
    program = shutil.which("gdalinfo")
    if program is None:
        pytest.skip("no gdalinfo here (Debian: apt-get install gdal-bin)")
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


def test_class_names_and_colour_table(run):
    text = told(run.out / "land-cover.tif")
    names = dict(re.findall(r"^ {6,}(\d+): (.*)$", text[text.index("Categories:") : text.index("Color Table")], re.M))
    entries = [e if e.code != 5 else LegendEntry(5, HOSTILE, e.colour) for e in LAND_COVER]
    assert {int(code): name for code, name in names.items()} == {0: "no data"} | {e.code: e.name for e in entries}
    (band,) = json.loads(told("-json", run.out / "land-cover.tif"))["bands"]
    table = band["colorTable"]["entries"]
    assert table[0] == [0, 0, 0, 0]
    for entry in entries:
        assert tuple(table[entry.code]) == (*rgb(entry.colour), 255)
    assert (band["type"], band["colorInterpretation"], band["noDataValue"]) == ("Byte", "Palette", 0)


@pytest.mark.parametrize("name", ["land-cover.tif", "land-cover.confidence.tif", "observations.tif"])
def test_layout_and_metadata(run, name):
    said = json.loads(told("-json", run.out / name))
    assert said["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"
    assert said["metadata"][""]["licence"] == "Contains modified Copernicus Sentinel data 2018"
    assert said["stac"]["proj:epsg"] == 32631
    (band,) = said["bands"]
    assert band["block"] == [512, 512]
    assert band["overviews"]
    assert said["size"] == [600, 700]
