"""The year of single pixels as the report carries it, against the cube it comes from."""

import base64
import io
import json
import re

import numpy as np
import pytest
from cube_fixture import make_cube
from hypothesis import given, settings
from hypothesis import strategies as st
from outputs_fixture import make_run
from PIL import Image

from timesenmap.pipeline import curves
from timesenmap.pipeline.curves import WINDOW, _kept, ndvi, read_curves
from timesenmap.pipeline.report import render_report


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), height=150, width=210, maps=1)


@pytest.fixture(scope="module")
def reflectance(run):
    return make_cube(run.out / "work" / "cube.zarr", run.grid, tile_size=64)


def expected(run, reflectance):
    """NDVI (12, y, x) with NaN where a month was not seen, or outside the area."""
    red, infrared = reflectance[:, 2].astype(float), reflectance[:, 6].astype(float)
    with np.errstate(invalid="ignore"):
        index = (infrared - red) / (infrared + red)
    return np.where((run.observations == 255) | (red == 0), np.nan, index)


def decoded(values):
    return np.where(values == 255, np.nan, values * 0.02 - 1)


def test_ndvi_of_numbers_by_hand():
    red = np.array([500, 3000, 200, 0, 700], np.uint16)
    infrared = np.array([4500, 1000, 200, 4000, 0], np.uint16)
    # 4000/5000 = 0.8, -2000/4000 = -0.5, 0; no observation where either is 0
    np.testing.assert_array_equal(ndvi(red, infrared), [90, 25, 50, 255, 255])


def test_every_pixel_has_the_curve_of_the_cube(run, reflectance):
    found = read_curves(run.out / "work" / "cube.zarr", run.out / "observations.tif")
    assert found.every == 1
    difference = decoded(found.values) - expected(run, reflectance)
    np.testing.assert_array_equal(np.isnan(decoded(found.values)), np.isnan(expected(run, reflectance)))
    assert np.nanmax(np.abs(difference)) <= 0.01 + 1e-6


def test_a_large_map_keeps_the_middle_of_every_few_pixels(run, reflectance):
    found = read_curves(run.out / "work" / "cube.zarr", run.out / "observations.tif", most=700)
    assert found.every == 7  # 22 x 30 = 660 points; every sixth would be 25 x 35
    assert found.values.shape == (12, 22, 30)
    full = expected(run, reflectance)
    for i, j in ((0, 0), (5, 11), (20, 3), (21, 29)):
        here = full[:, min(7 * i + 3, 149), min(7 * j + 3, 209)]
        np.testing.assert_allclose(decoded(found.values[:, i, j]), here, atol=0.01 + 1e-6)


def test_the_page_carries_the_curves_exactly(run, reflectance):
    page = render_report(run.out, run.record)
    source = re.search(r'<img id="curves" src="data:image/png;base64,([^"]+)"', page).group(1)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(source))))
    found = read_curves(run.out / "work" / "cube.zarr", run.out / "observations.tif")
    np.testing.assert_array_equal(picture.reshape(12, 150, 210), found.values)
    said = json.loads(re.search(r'id="viewer-data">(.*?)</script>', page).group(1))["curves"]
    assert (said["every"], said["step"], said["rows"], said["columns"]) == (1, 0.02, 150, 210)
    assert (said["months"][0], said["months"][11]) == ("January", "December")


def test_without_a_cube_the_page_has_no_curve(tmp_path):
    run = make_run(tmp_path, height=40, width=50, maps=1)
    page = render_report(run.out, run.record)
    assert 'id="curve"' not in page
    assert '"curves": null' in page


@settings(deadline=None)
@given(length=st.integers(1, 4000), every=st.integers(1, 900))
def test_a_kept_pixel_is_of_its_group_and_windows_are_as_few_as_can_be(length, every):
    kept = _kept(length, every)
    groups = [range(start, min(start + every, length)) for start in range(0, length, every)]
    assert [pixel in group for pixel, group in zip(kept, groups, strict=True)] == [True] * len(groups)
    windows = {pixel // WINDOW for pixel in kept}
    # Groups that share no window need one each: no choice does with fewer than there are such groups.
    apart, last = 0, -1
    for group in groups:
        if group[0] // WINDOW > last:
            apart, last = apart + 1, group[-1] // WINDOW
    assert len(windows) == apart
    middles = np.minimum([group[0] + every // 2 for group in groups], length - 1)
    for pixel, middle, group in zip(kept, middles, groups, strict=True):
        here = [one for one in group if one // WINDOW in windows]
        assert abs(pixel - middle) == min(abs(one - middle) for one in here)


def test_maps_of_which_all_is_decoded_keep_the_middles():
    np.testing.assert_array_equal(_kept(304, 1), np.arange(304))  # the demonstration
    np.testing.assert_array_equal(_kept(4096, 13), [*range(6, 4095, 13), 4095])


def test_thinned_curves_do_not_depend_on_tiles(run, reflectance, tmp_path):
    made = []
    for tile_size in (48, 112, 256):
        cube = tmp_path / f"{tile_size}.zarr"
        np.testing.assert_array_equal(make_cube(cube, run.grid, tile_size=tile_size), reflectance)
        made.append(read_curves(cube, run.out / "observations.tif", most=60).values)
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])


def test_only_windows_that_hold_a_kept_pixel_are_decoded(run, tmp_path, monkeypatch):
    """All other chunks are taken away, which zarr reads as zeros: no observation."""
    monkeypatch.setattr(curves, "WINDOW", 16)
    cube = tmp_path / "cube.zarr"
    make_cube(cube, run.grid, tile_size=16)
    before = read_curves(cube, run.out / "observations.tif", most=88)
    assert before.every == 20
    needed = {(y // 16, x // 16) for y in curves._kept(150, 20) for x in curves._kept(210, 20)}
    assert len(needed) == 4 * 6  # of 10 x 14; the middles of 88 groups lie in 8 x 11 of them
    for chunk in (cube / "reflectance" / "c" / "0" / "0").glob("*/*"):
        if (int(chunk.parent.name), int(chunk.name)) not in needed:
            chunk.unlink()
    after = read_curves(cube, run.out / "observations.tif", most=88)
    np.testing.assert_array_equal(after.values, before.values)
    assert (after.values < 255).mean() > 0.4


def test_a_cube_that_cannot_be_read_is_said(run, tmp_path):
    cube = tmp_path / "cube.zarr"
    make_cube(cube, run.grid, tile_size=64)
    (chunk,) = (cube / "reflectance" / "c" / "0" / "0" / "1").glob("1")
    chunk.write_bytes(chunk.read_bytes()[:-200] + b"x" * 200)
    with pytest.raises(Exception, match=r"(?i)crc|checksum"):
        read_curves(cube, run.out / "observations.tif")
