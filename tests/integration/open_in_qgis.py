"""Run by QGIS's own Python: open a run's project and each of its maps, render them, print what QGIS sees as JSON.

Arguments: folder of the run, folder for pictures. Not a test itself; test_qgis_desktop.py calls it.
"""

import json
import os
import sys
from pathlib import Path

from qgis.core import (
    Qgis,
    QgsApplication,
    QgsLayerTreeModel,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor


def legend_of(layer):
    """Entries as the legend shows them: (value or None, label, colour)."""
    renderer = layer.renderer()
    if renderer.type() == "paletted":
        return [[c.value, c.label, c.color.name()] for c in renderer.classes()]
    function = renderer.shader().rasterShaderFunction()
    return [[item.value, item.label, item.color.name()] for item in function.colorRampItemList()]


def render(layers, extent, crs, *, size, path):
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(crs)
    settings.setExtent(extent)
    settings.setOutputSize(QSize(*size))
    settings.setBackgroundColor(QColor("#ffffff"))
    settings.setFlag(QgsMapSettings.Antialiasing, True)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(str(path))
    return [error.message for error in job.errors()]


def tree_of(group):
    return [
        {"group": node.name(), "shown": node.isVisible(), "children": tree_of(node)}
        if hasattr(node, "addGroup")
        else {"layer": node.name(), "shown": node.isVisible(), "found": node.layer() is not None}
        for node in group.children()
    ]


def main(run, pictures):
    application = QgsApplication([], False)
    application.initQgis()
    seen = {"version": Qgis.QGIS_VERSION, "alone": {}, "errors": []}

    for path in sorted(run.glob("*.tif")):  # as if dropped into an empty project
        layer = QgsRasterLayer(str(path), path.stem)
        seen["alone"][path.name] = {
            "valid": layer.isValid(),
            "legend": legend_of(layer),
            "crs": layer.crs().authid(),
        }
        size = layer.width(), layer.height()
        seen["errors"] += render([layer], layer.extent(), layer.crs(), size=size, path=pictures / f"{path.name}.png")
        del layer

    project = QgsProject.instance()
    seen["read"] = project.read(str(run / "map.qgz"))
    seen["title"] = project.title()
    seen["crs"] = project.crs().authid()
    view = project.viewSettings().defaultViewExtent()
    seen["view"] = [view.xMinimum(), view.yMinimum(), view.xMaximum(), view.yMaximum()]
    root = project.layerTreeRoot()
    seen["tree"] = tree_of(root)
    seen["layers"] = {
        layer.name(): {
            "valid": layer.isValid(),
            "crs": layer.crs().authid(),
            "source": layer.source(),
            "abstract": layer.metadata().abstract(),
            "legend": legend_of(layer) if isinstance(layer, QgsRasterLayer) else None,
        }
        for layer in project.mapLayers().values()
    }
    model = QgsLayerTreeModel(root)
    seen["legend_labels"] = {
        node.name(): [str(item.data(0)) for item in model.layerLegendNodes(node)] for node in root.findLayers()
    }
    shown = [node.layer() for node in root.findLayers() if node.isVisible()]
    extent = QgsRectangle(view)
    height = round(900 * extent.height() / extent.width())
    seen["errors"] += render(shown, extent, project.crs(), size=(900, height), path=pictures / "project.png")
    print("\n" + json.dumps(seen))
    sys.stdout.flush()
    project.removeAllMapLayers()
    os._exit(0)  # QGIS's own tear-down crashes without a display


main(Path(sys.argv[1]), Path(sys.argv[2]))
