"""Legends: colours, names, and the XML that GDAL and QGIS read."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest

from timesenmap.model.prompts import load_prompt_set, shipped_prompt_sets
from timesenmap.pipeline import legend
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.legend import UNKNOWN, LegendEntry
from timesenmap.pipeline.pictures import NO_DATA_COLOUR

CLASSES = [LegendEntry(7, "Grass & <herbs>", "#A0C040"), LegendEntry(2, "Forêt “dense”", "#1b5e20")]


def test_rgb_is_hexadecimal():
    assert legend.rgb("#0a80Ff") == (10, 128, 255)


@pytest.mark.parametrize("colour", ["red", "#fff", "#12345g", "123456", "#1234567", "#123456\n"])
def test_rgb_refuses_other_forms(colour):
    with pytest.raises(MapError, match="rrggbb"):
        legend.rgb(colour)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "at least one"),
        ([LegendEntry(0, "a", "#000000")], r"0 \('a'\) is outside 1\.\.254"),
        ([LegendEntry(255, "a", "#000000")], "255"),
        ([LegendEntry(3, "a", "#000000"), LegendEntry(3, "b", "#000001")], "3 is used twice: for 'a' and 'b'"),
        ([LegendEntry(3, "a", "black")], "'black'"),
    ],
)
def test_contradicting_classes_are_refused(classes, message):
    with pytest.raises(MapError, match=message):
        legend.check_classes(classes)


def test_colour_table_and_names_are_indexed_by_code():
    assert legend.colour_table(CLASSES) == {2: (0x1B, 0x5E, 0x20, 255), 7: (0xA0, 0xC0, 0x40, 255)}
    assert legend.category_names(CLASSES) == ["no data", "", "Forêt “dense”", "", "", "", "", "Grass & <herbs>"]


def test_palette_style_has_every_class_with_its_name_and_no_other():
    entries = ET.fromstring(legend.qml(legend.palette_pipe(CLASSES))).findall(
        "pipe/rasterrenderer[@type='paletted']/colorPalette/paletteEntry"
    )
    assert [(e.get("value"), e.get("label"), e.get("color"), e.get("alpha")) for e in entries] == [
        ("2", "Forêt “dense”", "#1b5e20", "255"),
        ("7", "Grass & <herbs>", "#a0c040", "255"),
    ]


def test_unknown_stands_last_and_keeps_its_code_for_itself():
    with_unknown = [*CLASSES, UNKNOWN]
    assert legend.check_classes(with_unknown)[-1] == UNKNOWN
    assert legend.colour_table(with_unknown)[255] == (*legend.rgb(UNKNOWN.colour), 255)
    names = legend.category_names(with_unknown)
    assert (len(names), names[0], names[255], names[254]) == (256, "no data", "unknown", "")
    with pytest.raises(MapError, match="255 means unknown"):
        legend.check_classes([*CLASSES, LegendEntry(255, "sea", UNKNOWN.colour)])


@pytest.mark.parametrize("name", shipped_prompt_sets())
def test_unknown_looks_like_no_class_of_a_shipped_set(name):
    def lab(colour):  # CIE 15, D65
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.divide(legend.rgb(colour), 255)
        ]
        xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
        x, y, z = np.cbrt(xyz / [0.9505, 1.0, 1.089])  # exact above L* = 8, which all of these are
        return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    for colour in [NO_DATA_COLOUR, *(cls.colour for cls in load_prompt_set(name).classes)]:
        assert np.linalg.norm(lab(UNKNOWN.colour) - lab(colour)) > 10, colour


def test_control_characters_in_names_do_not_break_the_xml():
    odd = [LegendEntry(1, "tab\there\x00null\x1b", "#000000")]
    assert ET.fromstring(legend.aux_xml(odd)).findall(".//Category")[1].text == "tab here null "
    ET.fromstring(legend.qml(legend.palette_pipe(odd)))


@pytest.mark.parametrize("ramp", [legend.CONFIDENCE, legend.MARGIN, legend.OBSERVATIONS])
def test_ramp_table_passes_through_its_stops_and_changes_lightness_evenly(ramp):
    table = ramp.table()
    for value, colour in ramp.stops:
        assert tuple(table[value]) == legend.rgb(colour)
    used = table[ramp.minimum : ramp.maximum + 1].astype(float) / 255
    linear = np.where(used <= 0.04045, used / 12.92, ((used + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]  # IEC 61966-2-1
    lightness = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)  # CIE L*
    steps = np.diff(lightness)
    assert (steps > 0).all() or (steps < 0).all()
    assert abs(lightness[-1] - lightness[0]) > 60
    assert (table[ramp.maximum :] == table[ramp.maximum]).all()


def test_ramp_style_spans_the_ramp():
    shader = ET.fromstring(legend.qml(legend.ramp_pipe(legend.CONFIDENCE))).find(".//colorrampshader")
    assert (shader.get("minimumValue"), shader.get("maximumValue")) == ("0", "100")
    assert [item.get("label") for item in shader.findall("item")][::7] == ["0%", "100%"]
