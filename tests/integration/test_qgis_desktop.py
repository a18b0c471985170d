"""The project and the maps in real QGIS (Debian: qgis, python3-qgis), without a display."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from outputs_fixture import CROPS, HOSTILE, LAND_COVER, make_run
from PIL import Image

from timesenmap.pipeline.legend import CONFIDENCE, MARGIN, OBSERVATIONS, LegendEntry, rgb
from timesenmap.pipeline.qgis import write_project

pytestmark = pytest.mark.integration
SCRIPT = Path(__file__).with_name("open_in_qgis.py")
# QGIS comes as bindings of the system's Python, not of this one.
PYTHON = os.environ.get("TIMESENMAP_QGIS_PYTHON", "/usr/bin/python3")


@pytest.fixture(scope="module")
def environment():
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | {
        "QT_QPA_PLATFORM": "offscreen",
        "LC_ALL": "C.UTF-8",
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("made") / "out", odd_name=HOSTILE, margin=True)
    write_project(made.out, made.record)
    return made


@pytest.fixture(scope="module")
def seen(run, environment, tmp_path_factory):
    """What QGIS says about the run, opened from a folder other than the one it was made in."""
    probe = [PYTHON, "-c", "import qgis.core"]
    if not Path(PYTHON).exists() or subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip(f"PyQGIS is not importable with {PYTHON} (Debian: apt-get install qgis python3-qgis)")
    elsewhere = tmp_path_factory.mktemp("moved") / "elsewhere with a blank"
    shutil.move(run.out, elsewhere)
    pictures = tmp_path_factory.mktemp("pictures")
    done = subprocess.run(
        [PYTHON, SCRIPT, elsewhere, pictures],
        check=False,
        capture_output=True,
        text=True,
        env=environment | {"XDG_RUNTIME_DIR": str(pictures), "HOME": str(pictures)},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) | {"pictures": pictures, "folder": elsewhere}


def named(entries):
    return [[e.code, e.name, e.colour] for e in entries]


@pytest.fixture(scope="module")
def land_cover():
    return [e if e.code != 5 else LegendEntry(5, HOSTILE, e.colour) for e in LAND_COVER]


def test_project_opens_without_errors(seen, run):
    assert seen["read"] is True
    assert seen["errors"] == []
    assert seen["title"] == run.record.title
    assert seen["crs"] == "EPSG:32631"
    x0, y0, x1, y1 = run.grid.extent.boundingbox.bbox
    left, bottom, right, top = seen["view"]
    assert left < x0 < x1 < right
    assert bottom < y0 < y1 < top
    assert right - left < 1.2 * (x1 - x0)


def test_every_layer_is_found_where_the_folder_was_moved_to(seen):
    assert len(seen["layers"]) == 7
    for name, layer in seen["layers"].items():
        assert layer["valid"], name
        assert layer["source"].startswith(str(seen["folder"])), name
        assert layer["crs"] == ("EPSG:4326" if name == "Area of interest" else "EPSG:32631"), name


def test_layers_are_grouped_and_one_map_is_shown(seen):
    def layer(name, shown):
        return {"layer": name, "shown": shown, "found": True}

    assert seen["tree"] == [
        layer("Area of interest", True),
        {
            "group": "Land cover",
            "shown": True,
            "children": [
                layer("Classes: Land cover", True),
                layer("Confidence (%): Land cover", False),
                layer("Margin (%): Land cover", False),
            ],
        },
        {
            "group": "Crops",
            "shown": False,
            "children": [layer("Classes: Crops", False), layer("Confidence (%): Crops", False)],
        },
        layer("Months with a clear observation", False),
    ]


def test_class_names_and_colours_in_the_project(seen, land_cover):
    assert seen["layers"]["Classes: Land cover"]["legend"] == named(land_cover)
    assert seen["layers"]["Classes: Crops"]["legend"] == named(CROPS)
    labels = seen["legend_labels"]["Classes: Land cover"]
    assert [label for label in labels if label != "Band 1"][-8:] == [e.name for e in land_cover]


def test_class_names_and_colours_of_a_map_dropped_alone(seen, land_cover):
    assert seen["alone"]["land-cover.tif"] == {"valid": True, "crs": "EPSG:32631", "legend": named(land_cover)}
    assert seen["alone"]["crops.tif"]["legend"] == named(CROPS)


@pytest.mark.parametrize(
    ("alone", "layer", "ramp"),
    [
        ("crops.confidence.tif", "Confidence (%): Crops", CONFIDENCE),
        ("land-cover.margin.tif", "Margin (%): Land cover", MARGIN),
        ("observations.tif", "Months with a clear observation", OBSERVATIONS),
    ],
)
def test_ramps(seen, alone, layer, ramp):
    expected = [[value, f"{value}{ramp.unit}", colour] for value, colour in ramp.stops]
    assert seen["alone"][alone]["legend"] == expected
    assert seen["layers"][layer]["legend"] == expected


@pytest.mark.parametrize("name", ["land-cover", "crops"])
def test_rendered_classes_have_their_colours_pixel_by_pixel(seen, run, land_cover, name):
    rendered = np.asarray(Image.open(seen["pictures"] / f"{name}.tif.png").convert("RGB"))
    table = np.full((256, 3), 255)
    for entry in {"land-cover": land_cover, "crops": CROPS}[name]:
        table[entry.code] = rgb(entry.colour)
    np.testing.assert_array_equal(rendered, table[run.classes[name]])


@pytest.mark.parametrize(
    ("name", "ramp"), [("crops.confidence", CONFIDENCE), ("land-cover.margin", MARGIN), ("observations", OBSERVATIONS)]
)
def test_rendered_ramps_have_their_colours(seen, run, name, ramp):
    rendered = np.asarray(Image.open(seen["pictures"] / f"{name}.tif.png").convert("RGB")).astype(int)
    values = {
        "crops.confidence": run.confidence["crops"],
        "land-cover.margin": run.margin["land-cover"],
        "observations": run.observations,
    }[name]
    expected = ramp.table().astype(int)[values]
    expected[values == 255] = 255
    assert np.abs(rendered - expected).max() <= 1  # QGIS interpolates with truncation


def test_rendered_project_shows_the_land_cover_in_its_outline(seen, run, land_cover):
    rendered = np.asarray(Image.open(seen["pictures"] / "project.png").convert("RGB"))
    pixels = rendered.reshape(-1, 3)
    values = run.classes["land-cover"]
    left, bottom, right, top = seen["view"]
    metres = (right - left) / rendered.shape[1]
    for code in (1, 2, 3, 5, 7):
        colour = next(rgb(e.colour) for e in land_cover if e.code == code)
        shown = (pixels == colour).all(axis=1).sum() * metres**2
        assert shown == pytest.approx((values == code).sum() * 100, rel=0.06), code
    outline = (pixels == (32, 38, 42)).all(axis=1).sum() * metres
    assert outline > 0.8 * run.grid.extent.geom.length * 0.8
    corners = rendered[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 255).all()
