"""Clouds widened in metres on the scene's own raster: a disc, and the same whatever the tiles."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import scipy.ndimage
from affine import Affine
from odc.geo.geobox import GeoBox
from outputs_fixture import make_run
from scene_fixture import make_scene

from timesenmap.pipeline.clouds import NEAR_CLOUD, Widening, within
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.grid import tiles
from timesenmap.pipeline.observe import composite_tile
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.read import AssetSource, read_asset
from timesenmap.pipeline.record import RunRecord
from timesenmap.pipeline.report import render_report
from timesenmap.workflows.job import resolve_job

PERIOD = Period.of(year=2020)
GRID = GeoBox((70, 90), Affine(10, 0, 600000, 0, -10, 5600040), "EPSG:32631")


@pytest.mark.parametrize("distance", [0.0, 0.9, 1.0, 1.5, 2.0, 2.3, 3.0, 5.0, 12.4, 200.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (37, 1), (31, 44)])
def test_within_equals_the_distance_to_the_nearest(shape, distance):
    mask = np.random.default_rng(2).random(shape) < 0.02
    mask[0, 0] = True
    expected = scipy.ndimage.distance_transform_edt(~mask) <= distance
    np.testing.assert_array_equal(within(mask, distance), expected, strict=True)
    assert not within(np.zeros(shape, bool), distance).any()


def test_only_clouds_are_widened_and_only_over_what_was_seen():
    scl = np.full((1, 9), 4, np.uint8)
    scl[0, [0, 3, 7]] = 0, 8, 1  # no data; a cloud; a defective pixel
    widened = Widening.of({0, 1, 3, 8, 9, 10}, 60.0)(scl, 20.0)
    near = NEAR_CLOUD
    assert widened.tolist() == [[0, near, near, 8, near, near, near, 1, 4]]


@pytest.mark.parametrize(("set_aside", "metres"), [({0, 1, 3, 8, 9}, 0.0), ({0, 1, 11}, 100.0), (set(), 100.0)])
def test_nothing_to_widen(set_aside, metres):
    assert Widening.of(set_aside, metres) is None


def test_a_window_sees_the_clouds_beside_it(tmp_path):
    scl = np.full((32, 32), 4, np.uint8)
    scl[10, 10] = 9
    scene = make_scene(tmp_path, scl=scl)
    source = AssetSource(scene.id, "SCL", scene.href("SCL"))
    widening = Widening((9,), 100.0)
    grid = GeoBox((64, 64), GRID.affine, GRID.crs)
    whole = read_asset(source, grid, method="nearest", widening=widening)
    beyond = scipy.ndimage.distance_transform_edt(scl != 9) * 20 > 100
    np.testing.assert_array_equal(whole == 4, np.kron(beyond, np.ones((2, 2))).astype(bool))
    for rows in (slice(0, 12), slice(12, 20), slice(26, 40)):  # none but one of these has the cloud itself
        part = read_asset(source, grid[rows, 24:33], method="nearest", widening=widening)
        np.testing.assert_array_equal(part, whole[rows, 24:33])


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("cloudy")
    random = np.random.default_rng(4)
    made = []
    for number, day in enumerate((2, 12, 22)):
        scl = random.choice([4, 5, 3, 8, 9, 10, 11], (64, 64), p=[0.5, 0.465, 0.005, 0.01, 0.01, 0.005, 0.005])
        place = {"left": 600000.0 + 300 * number, "size": 128, "scl": scl.astype(np.uint8), "seed": number}
        made.append(make_scene(folder, name=f"s{number}", when=f"2020-04-{day:02d}T10:00:00Z", **place))
    return made


@pytest.mark.parametrize("metres", [30.0, 90.0])
@pytest.mark.parametrize("crs", ["EPSG:32631", "EPSG:3035"])
def test_widened_clouds_do_not_depend_on_tiles_blocks_or_library(scenes, metres, crs):
    grid = GRID if crs == "EPSG:32631" else GeoBox((70, 90), Affine(10, 0, 3925240, 0, -10, 3063050), crs)
    (tile,) = tiles(grid, 1024)
    plain = composite_tile(scenes, grid, tile, PERIOD)
    whole = composite_tile(scenes, grid, tile, PERIOD, cloud_dilation=metres)
    assert 0 < whole[1].sum() < 0.9 * plain[1].sum()
    for one, expected in zip(
        composite_tile(scenes, grid, tile, PERIOD, cloud_dilation=metres, reader="odc"), whole, strict=True
    ):
        np.testing.assert_array_equal(one, expected)
    for tile in tiles(grid, 64):
        part = composite_tile(scenes, grid, tile, PERIOD, cloud_dilation=metres, chunk=27)
        for one, expected in zip(part, whole, strict=True):
            np.testing.assert_array_equal(one, expected[..., tile.y0 : tile.y1, tile.x0 : tile.x1], strict=True)


def test_the_count_is_that_of_classes_widened_by_scipy(scenes):
    (tile,) = tiles(GRID, 1024)
    _, clear = composite_tile(scenes[:1], GRID, tile, PERIOD, cloud_dilation=90.0)
    with rasterio.open(scenes[0].href("SCL")) as raster:
        scl = raster.read(1)
    far = scipy.ndimage.distance_transform_edt(~np.isin(scl, (3, 8, 9, 10))) * 20 > 90
    expected = np.kron(far, np.ones((2, 2), np.uint8))[:70, :90]
    np.testing.assert_array_equal(clear[3], expected)


def test_the_setting_is_a_field_of_the_job_and_of_the_record(tmp_path):
    flags = {"aoi": "3,50,3.1,50.1", "prompts": ("land-cover",), "year": 2020, "out": tmp_path / "out"}
    assert resolve_job(flags, None).cloud_dilation == 0
    assert resolve_job(flags | {"cloud_dilation": "60"}, None).cloud_dilation == 60.0
    with pytest.raises(MapError, match="--cloud-dilation '-1'"):
        resolve_job(flags | {"cloud_dilation": "-1"}, None)
    made = make_run(tmp_path / "made")
    fields = made.record.model_dump(mode="json")
    del fields["cloud_dilation"]  # as in records of before
    older = RunRecord.model_validate(fields)
    assert older.cloud_dilation == 0
    assert "widened" not in render_report(made.out, older)
    widened = older.model_copy(update={"cloud_dilation": 60.0})
    assert "clouds and shadows widened by 60 m" in render_report(made.out, widened)
