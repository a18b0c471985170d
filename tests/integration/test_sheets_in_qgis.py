"""A VRT of sheets dropped alone into real QGIS (Debian: qgis, python3-qgis): names, colours, pixels far and near."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image

from timesenmap.pipeline.aoi import read_aoi
from timesenmap.pipeline.cog import levels_of
from timesenmap.pipeline.legend import LegendEntry, rgb
from timesenmap.pipeline.rasters import write_class_map
from timesenmap.pipeline.sheets import SheetValues, cut, sheet_file, write_mosaic

pytestmark = pytest.mark.integration
PYTHON = os.environ.get("TIMESENMAP_QGIS_PYTHON", "/usr/bin/python3")
CLASSES = [LegendEntry(1, "Cropland", "#e6b422"), LegendEntry(4, "Forêt & woods", "#1b5e20")]
SCRIPT = """
import json, os, sys
from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsRasterLayer
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor
application = QgsApplication([], False)
application.initQgis()
vrt, near, far = sys.argv[1:]
layer = QgsRasterLayer(vrt, "sheets")
seen = {"valid": layer.isValid(), "legend": [[c.value, c.label, c.color.name()] for c in layer.renderer().classes()]}
for path, size in ((near, (2400, 1300)), (far, (600, 325))):
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setOutputSize(QSize(*size))
    settings.setBackgroundColor(QColor("#ffffff"))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(path)
print(json.dumps(seen), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    """Fields of 40 pixels over two rows and three columns of sheets."""
    fields = np.random.default_rng(2).choice([0, 1, 4], (33, 60))
    return np.kron(fields, np.ones((40, 40))).astype(np.uint8)[:1300]


def test_qgis_shows_the_sheets_as_one_map(values: np.ndarray, tmp_path: Path) -> None:
    if not Path(PYTHON).exists() or subprocess.run([PYTHON, "-c", "import qgis.core"], check=False).returncode:
        pytest.skip(f"PyQGIS is not importable with {PYTHON} (Debian: apt-get install qgis python3-qgis)")
    grid = GeoBox(values.shape, Affine(10, 0, 500000, 0, -10, 5600000), "EPSG:32631")
    area = read_aoi("500000,5587000,524000,5600000", crs="EPSG:32631")
    files = {sheet: tmp_path / sheet_file("m", sheet) for sheet in cut(grid, 1024, area)}
    for sheet, file in files.items():
        write_class_map(file, SheetValues(values, sheet), sheet.geobox(grid), CLASSES, tags={}, levels=levels_of(1024))
    write_mosaic(tmp_path / "m.vrt", files, grid)
    near, far = tmp_path / "near.png", tmp_path / "far.png"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"QT_QPA_PLATFORM": "offscreen", "LC_ALL": "C.UTF-8", "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        [PYTHON, "-c", SCRIPT, str(tmp_path / "m.vrt"), str(near), str(far)],
        check=False, capture_output=True, text=True, env=environment | {"HOME": str(tmp_path)}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["valid"] is True
    assert seen["legend"] == [[entry.code, entry.name, entry.colour] for entry in CLASSES]
    colours = np.full((256, 3), 255, np.uint8)
    for entry in CLASSES:
        colours[entry.code] = rgb(entry.colour)
    np.testing.assert_array_equal(np.asarray(Image.open(near).convert("RGB")), colours[values])
    # From afar one pixel in four along either side is left, of fields of 40: those are ten.
    np.testing.assert_array_equal(np.asarray(Image.open(far).convert("RGB")), colours[values[::4, ::4]])
