"""Colours and names of maps, in the forms that GDAL and QGIS read.

A class map carries its legend three times, because no single place serves every reader: the colour table inside
the GeoTIFF (GDAL, rasterio, web viewers), category names in the PAM sidecar ``<map>.tif.aux.xml`` (GDAL has no place
for them inside a GeoTIFF), and a complete QGIS style ``<map>.qml``: QGIS 3.22 shows class names from a style only,
and a style that sets nothing but the opacity wipes the palette (stac_floodplains_bc issues 34 and 48).
"""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from timesenmap.pipeline.errors import MapError

NO_DATA_NAME = "no data"
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
# The version whose style files these are; later versions read older styles, and upgrade them on saving.
QGIS_VERSION = "3.22.16"


class LegendClass(Protocol):
    """What a legend needs of a class; ``ClassRecord`` and prompt classes both have it."""

    @property
    def code(self) -> int:
        """Value in the raster, 1..254; 255 is ``UNKNOWN``."""

    @property
    def name(self) -> str:
        """What the reader sees."""

    @property
    def colour(self) -> str:
        """Colour ``#rrggbb``."""


class LegendEntry(NamedTuple):
    """A class with nothing but its legend."""

    code: int
    name: str
    colour: str


# Pixels whose class was too unsure to be told (``unknown_below``). The grey is the one farthest from every colour of
# the shipped prompt sets and from the grey of pixels never seen (CIE76).
UNKNOWN = LegendEntry(255, "unknown", "#7c7c7c")


@dataclass(frozen=True)
class Ramp:
    """Colours of a continuous uint8 map: linear in RGB between ``stops`` of (value, ``#rrggbb``), first to last.

    ``unit`` follows the numbers in legends; ``title`` stands above them.
    """

    title: str
    unit: str
    stops: tuple[tuple[int, str], ...]

    @property
    def minimum(self) -> int:
        """Value of the first stop."""
        return self.stops[0][0]

    @property
    def maximum(self) -> int:
        """Value of the last stop."""
        return self.stops[-1][0]

    def table(self) -> NDArray[np.uint8]:
        """Colours (256, 3) of the values 0..255; outside the stops the nearest stop's."""
        at = [value for value, _ in self.stops]
        channels = np.array([rgb(colour) for _, colour in self.stops], dtype=np.float64)  # (stops, 3)
        columns = [np.interp(np.arange(256), at, channels[:, i]) for i in range(3)]
        return np.rint(np.stack(columns, axis=1)).astype(np.uint8)


# All ramps rise or fall evenly in lightness, so that they can be read in grey and by the colour-blind: confidence in
# viridis (eight of its colours; CC0), margin from deep red, where two classes nearly tie, to nearly white
# (ColorBrewer's OrRd), months seen from pale to deep blue (ColorBrewer's Blues).
CONFIDENCE = Ramp(
    title="Confidence",
    unit="%",
    stops=(
        (0, "#440154"),
        (14, "#46327e"),
        (29, "#365c8d"),
        (43, "#277f8e"),
        (57, "#1fa187"),
        (71, "#4ac16d"),
        (86, "#a0da39"),
        (100, "#fde725"),
    ),
)
MARGIN = Ramp(
    title="Margin of the best class over the second best",
    unit="%",
    stops=(
        (0, "#7f0000"),
        (12, "#b30000"),
        (25, "#d7301f"),
        (38, "#ef6548"),
        (50, "#fc8d59"),
        (62, "#fdbb84"),
        (75, "#fdd49e"),
        (88, "#fee8c8"),
        (100, "#fff7ec"),
    ),
)
OBSERVATIONS = Ramp(
    title="Months with a clear observation",
    unit="",
    stops=((0, "#f7fbff"), (3, "#c6dbef"), (6, "#6baed6"), (9, "#2171b5"), (12, "#08306b")),
)


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green, blue (0..255) of ``#rrggbb``; MapError for anything else."""
    if not _COLOUR.fullmatch(colour):
        raise MapError(f"colour {colour!r} is not of the form '#rrggbb': write it as, for example, '#2e7d32'")
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def check_classes(classes: Iterable[LegendClass]) -> list[LegendEntry]:
    """Return the classes by ascending code; MapError where codes repeat or leave 1..254, or there are none.

    ``UNKNOWN`` may stand among them, with its own code, name and colour.
    """
    entries = sorted((LegendEntry(c.code, c.name, c.colour) for c in classes), key=lambda entry: entry.code)
    if not entries:
        raise MapError("a class map needs at least one class")
    for entry in entries:
        rgb(entry.colour)
        if not 1 <= entry.code <= 254 and entry != UNKNOWN:
            raise MapError(
                f"class code {entry.code} ({entry.name!r}) is outside 1..254: 0 means no data, 255 means unknown"
            )
    for one, other in itertools.pairwise(entries):
        if one.code == other.code:
            raise MapError(f"class code {one.code} is used twice: for {one.name!r} and {other.name!r}")
    return entries


def colour_table(classes: Iterable[LegendClass]) -> dict[int, tuple[int, int, int, int]]:
    """RGBA by raster value, for rasterio's ``write_colormap``: the classes, opaque.

    A GeoTIFF palette always has 256 colours and no alpha: GDAL shows those not named here as black, and 0
    as transparent because it is the no-data value.
    """
    return {entry.code: (*rgb(entry.colour), 255) for entry in check_classes(classes)}


def category_names(classes: Iterable[LegendClass]) -> list[str]:
    """Names indexed by raster value, 0 ("no data") to the highest code; empty for values without a class."""
    entries = check_classes(classes)
    names = [NO_DATA_NAME, *[""] * entries[-1].code]
    for entry in entries:
        names[entry.code] = entry.name
    return names


def aux_xml(classes: Iterable[LegendClass]) -> str:
    """Return the PAM sidecar (``<map>.tif.aux.xml``) that gives GDAL the category names."""
    dataset = ET.Element("PAMDataset")
    band = ET.SubElement(dataset, "PAMRasterBand", band="1")
    names = ET.SubElement(band, "CategoryNames")
    for name in category_names(classes):
        ET.SubElement(names, "Category").text = plain(name)
    ET.indent(dataset)
    return ET.tostring(dataset, encoding="unicode") + "\n"


def palette_pipe(classes: Iterable[LegendClass]) -> ET.Element:
    """QGIS rendering of a class map: one paletted entry, with its name, for each class and no other."""
    renderer = _renderer("paletted")
    palette = ET.SubElement(renderer, "colorPalette")
    for entry in check_classes(classes):
        ET.SubElement(
            palette,
            "paletteEntry",
            value=str(entry.code),
            label=plain(entry.name),
            color=entry.colour.lower(),
            alpha="255",
        )
    return _pipe(renderer)


def ramp_pipe(ramp: Ramp) -> ET.Element:
    """QGIS rendering of a continuous map: its ramp, with one colour bar as legend."""
    low, high = str(ramp.minimum), str(ramp.maximum)
    renderer = _renderer("singlebandpseudocolor", classificationMin=low, classificationMax=high)
    shader = ET.SubElement(
        ET.SubElement(renderer, "rastershader"),
        "colorrampshader",
        colorRampType="INTERPOLATED",
        classificationMode="1",
        clip="0",
        labelPrecision="0",
        minimumValue=low,
        maximumValue=high,
    )
    for value, colour in ramp.stops:
        label = f"{value}{ramp.unit}"
        ET.SubElement(shader, "item", value=str(value), label=label, color=colour, alpha="255")
    ET.SubElement(
        shader,
        "rampLegendSettings",
        minimumLabel="",
        maximumLabel="",
        prefix="",
        suffix=ramp.unit,
        direction="0",
        orientation="2",
        useContinuousLegend="1",
    )
    return _pipe(renderer)


def qml(pipe: ET.Element) -> str:
    """Return a complete QGIS layer style (``<map>.qml``) around a rendering."""
    style = ET.Element(
        "qgis",
        version=QGIS_VERSION,
        styleCategories="AllStyleCategories",
        hasScaleBasedVisibilityFlag="0",
        minScale="1e+08",
        maxScale="0",
    )
    style.append(pipe)
    ET.SubElement(style, "blendMode").text = "0"
    ET.indent(style)
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
    return f"{doctype}\n{ET.tostring(style, encoding='unicode')}\n"


def _renderer(kind: str, **attributes: str) -> ET.Element:
    return ET.Element(
        "rasterrenderer",
        {"type": kind, "band": "1", "opacity": "1", "alphaBand": "-1", "nodataColor": "", **attributes},
    )


def _pipe(renderer: ET.Element) -> ET.Element:
    pipe = ET.Element("pipe")
    provider = ET.SubElement(pipe, "provider")
    ET.SubElement(
        provider,
        "resampling",
        enabled="false",
        maxOversampling="2",
        zoomedInResamplingMethod="nearestNeighbour",
        zoomedOutResamplingMethod="nearestNeighbour",
    )
    pipe.append(renderer)
    ET.SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma="1")
    ET.SubElement(pipe, "huesaturation", saturation="0", grayscaleMode="0", invertColors="0", colorizeOn="0")
    ET.SubElement(pipe, "rasterresampler", maxOversampling="2")
    ET.SubElement(pipe, "resamplingStage").text = "resamplingFilter"
    return pipe


# XML 1.0 has no place for most control characters, not even escaped; a name with one would make the file unreadable.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ufffe\uffff]")


def plain(text: str) -> str:
    """Return the text with control characters as blanks, fit for XML."""
    return _CONTROL.sub(" ", text)
