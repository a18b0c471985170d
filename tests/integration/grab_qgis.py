"""Run by QGIS itself when its window is open: let the map be drawn, save a picture of the window, and end.

The path of the picture is in TIMESENMAP_PICTURE; screenshots.py calls it.
"""

import os

from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QApplication, QDockWidget, QToolBar
from qgis.utils import iface

window = iface.mainWindow()


def tidy():
    for part in window.findChildren(QDockWidget):
        part.setVisible(part.objectName() == "Layers")
    for bar in window.findChildren(QToolBar):
        bar.setVisible(bar.objectName() in {"mFileToolBar", "mMapNavToolBar", "mAttributesToolBar"})
    window.showNormal()
    window.setGeometry(QApplication.primaryScreen().geometry())
    layers = window.findChild(QDockWidget, "Layers")
    window.resizeDocks([layers], [350], 1)
    iface.mapCanvas().zoomToFullExtent()
    iface.mapCanvas().mapCanvasRefreshed.connect(lambda: QTimer.singleShot(500, shoot))
    iface.mapCanvas().refresh()


def shoot():
    saved = window.grab().save(os.environ["TIMESENMAP_PICTURE"])
    os._exit(0 if saved else 1)  # QGIS asks questions when it is closed


QTimer.singleShot(2000, tidy)
