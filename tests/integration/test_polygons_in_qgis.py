"""Polygons of a class map in real QGIS (Debian: qgis, python3-qgis): styled by themselves, in the map's colours."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image

from timesenmap.pipeline.legend import UNKNOWN, LegendEntry, rgb
from timesenmap.pipeline.map_file import read_class_map
from timesenmap.pipeline.polygons import write_polygons
from timesenmap.pipeline.rasters import write_class_map

pytestmark = pytest.mark.integration
SCRIPT = Path(__file__).with_name("open_polygons_in_qgis.py")
PYTHON = os.environ.get("TIMESENMAP_QGIS_PYTHON", "/usr/bin/python3")
CLASSES = [LegendEntry(1, "Crops & co", "#e6b422"), LegendEntry(7, "Forêt", "#1b5e20"), UNKNOWN]


def test_qgis_shows_the_polygons_in_the_maps_colours(tmp_path):
    probe = [PYTHON, "-c", "import qgis.core"]
    if not Path(PYTHON).exists() or subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip(f"PyQGIS is not importable with {PYTHON} (Debian: apt-get install qgis python3-qgis)")
    values = np.array([[1, 7, 1], [7, 255, 7], [1, 1, 7]], np.uint8)
    grid = GeoBox(values.shape, Affine(10, 0, 501360, 0, -10, 5629680), "EPSG:32631")
    write_class_map(tmp_path / "m.tif", values, grid, CLASSES, tags={})
    write_polygons(read_class_map(tmp_path / "m.tif"), tmp_path / "m.gpkg")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [PYTHON, SCRIPT, tmp_path / "m.gpkg", tmp_path / "m.png"],
        check=False,
        capture_output=True,
        text=True,
        env=environment | {"QT_QPA_PLATFORM": "offscreen", "LC_ALL": "C.UTF-8", "XDG_RUNTIME_DIR": str(tmp_path)},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr + done.stdout
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen == {
        "valid": True,
        "crs": "EPSG:32631",
        "polygons": 7,
        "columns": ["fid", "code", "name", "hectares"],
        "renderer": "categorizedSymbol",
        "categories": [[entry.code, entry.name, entry.colour] for entry in CLASSES],
    }
    picture = Image.open(tmp_path / "m.png").convert("RGB")
    colours = {entry.code: rgb(entry.colour) for entry in CLASSES}
    for (row, column), code in np.ndenumerate(values):
        assert picture.getpixel((50 + 100 * column, 50 + 100 * row)) == colours[int(code)]
