"""Run by QGIS's own Python: open a GeoPackage of polygons, render it, print what QGIS sees as JSON.

Arguments: the GeoPackage, the picture to write. Not a test itself; test_polygons_in_qgis.py calls it.
"""

import json
import os
import sys

from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsVectorLayer
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor


def main(file, picture):
    application = QgsApplication([], False)
    application.initQgis()
    layer = QgsVectorLayer(file, "polygons", "ogr")
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setOutputSize(QSize(300, 300))
    settings.setBackgroundColor(QColor("#ffffff"))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(picture)
    renderer = layer.renderer()
    categories = renderer.categories() if renderer.type() == "categorizedSymbol" else []
    print(
        json.dumps(
            {
                "valid": layer.isValid(),
                "crs": layer.crs().authid(),
                "polygons": layer.featureCount(),
                "columns": layer.fields().names(),
                "renderer": renderer.type(),
                "categories": [[int(c.value()), c.label(), c.symbol().color().name()] for c in categories],
            }
        )
    )
    sys.stdout.flush()
    os._exit(0)  # QGIS's own clean-up crashes now and then without a display


if __name__ == "__main__":
    main(*sys.argv[1:])
