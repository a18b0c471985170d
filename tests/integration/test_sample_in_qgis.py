"""A sample of sample-map interpreted in real QGIS (Debian: qgis, python3-qgis), without a display."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from outputs_fixture import LAND_COVER

from timesenmap.pipeline.assess_points import assess_points
from timesenmap.pipeline.map_file import read_class_map
from timesenmap.pipeline.projection import grid_crs
from timesenmap.pipeline.rasters import write_class_map
from timesenmap.pipeline.sample_files import write_sample
from timesenmap.pipeline.sampling import stratified_sample

pytestmark = pytest.mark.integration
# QGIS comes as bindings of the system's Python, not of this one.
PYTHON = os.environ.get("TIMESENMAP_QGIS_PYTHON", "/usr/bin/python3")
INTERPRET = """
import json, sys
from qgis.core import QgsApplication, QgsVectorLayer
application = QgsApplication([], False)
application.initQgis()
layer = QgsVectorLayer(sys.argv[1] + "|layername=points", "points", "ogr")
field = layer.fields().indexFromName("reference")
widget = layer.editorWidgetSetup(field)
choices = [name for entry in widget.config()["map"] for name in entry]
layer.startEditing()
for feature in layer.getFeatures():
    layer.changeAttributeValue(feature.id(), field, choices[feature["id"] % 2])
print(json.dumps({
    "valid": layer.isValid(), "count": layer.featureCount(), "widget": widget.type(), "choices": choices,
    "shown": layer.renderer().type(), "saved": layer.commitChanges(), "errors": layer.commitErrors(),
    "fields": [f.name() for f in layer.fields()],
}))
del feature, layer  # before QGIS goes, or it crashes
application.exitQgis()
"""


def test_points_are_interpreted_with_a_list_of_classes(tmp_path):
    probe = [PYTHON, "-c", "import qgis.core"]
    if not Path(PYTHON).exists() or subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip(f"PyQGIS is not importable with {PYTHON} (Debian: apt-get install qgis python3-qgis)")
    grid = GeoBox((90, 80), Affine(10, 0, 501360, 0, -10, 5629680), "EPSG:32631")
    values = np.random.default_rng(2).integers(1, 9, (90, 80)).astype(np.uint8)
    write_class_map(tmp_path / "map.tif", values, grid, LAND_COVER, tags={})
    class_map = read_class_map(tmp_path / "map.tif")
    centres, design = stratified_sample(class_map, count=160)
    names = [entry.name for entry in LAND_COVER]
    points, _ = write_sample(tmp_path / "points.gpkg", centres, grid_crs(class_map.grid), design, names)

    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment |= {"QT_QPA_PLATFORM": "offscreen", "LC_ALL": "C.UTF-8", "HOME": str(tmp_path)}
    done = subprocess.run(
        [PYTHON, "-c", INTERPRET, points], check=False, capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert (seen["valid"], seen["count"], seen["widget"]) == (True, 160, "ValueMap")
    assert (seen["choices"], seen["shown"]) == (names, "singleSymbol")
    assert (seen["saved"], seen["fields"]) == (True, ["fid", "id", "reference", "remark"]), seen["errors"]

    found = assess_points(class_map, points)
    assert found.compared == 160
    assert np.array(found.counts).sum(axis=0).tolist() == [80, 80, 0, 0, 0, 0, 0, 0]
