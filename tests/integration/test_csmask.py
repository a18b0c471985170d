"""The extra csmask: its network on real scenes, against its own package and against SCL."""

import datetime as dt

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from scene_fixture import make_scene

from timesenmap.catalogs.search import find_scenes
from timesenmap.pipeline.grid import tiles
from timesenmap.pipeline.maskers import SCENE_CLASSIFICATION, classes_set_aside, load_block_masker
from timesenmap.pipeline.observe import composite_tile
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.read import read_asset

pytest.importorskip("onnxruntime", reason="the extra csmask is not installed: pip install 'timesenmap[csmask]'")
pytest.importorskip("ukis_csmask", reason="the extra csmask is not installed: pip install 'timesenmap[csmask]'")
pytestmark = pytest.mark.integration

FIELDS = GeoBox((64, 64), Affine(10, 0, 501360, 0, -10, 5629680), "EPSG:32631")


@pytest.fixture(scope="module")
def masker():
    return load_block_masker("csmask")


@pytest.fixture(scope="module")
def scenes(belgium):
    place = shapely.box(3.02, 50.814, 3.027, 50.818)
    return find_scenes(str(belgium), area=place, start=dt.date(2017, 1, 1), end=dt.date(2019, 1, 1)).scenes


@pytest.fixture(scope="module")
def mosaic(scenes) -> np.ndarray:
    """Reflectance, float32 (band, 512, 512): pieces of real scenes, cloudy and clear, side by side."""
    image = np.empty((6, 512, 512), np.float32)
    for place in range(256):
        scene = scenes[place % len(scenes)]
        y, x = 32 * (place // 16), 32 * (place % 16)
        for n, band in enumerate(("B02", "B03", "B04", "B08", "B11", "B12")):
            with rasterio.open(scene.href(band)) as raster:
                image[n, y : y + 32, x : x + 32] = raster.read(1)[:32, :32] / np.float32(10000)
    return image


def test_classes_are_those_of_the_package(masker, mosaic):
    """Of an image of 512 pixels, the package takes the middle from one block alone: rows and columns 153 to 409."""
    from ukis_csmask.mask import CSmask

    order = ["blue", "green", "red", "nir", "swir16", "swir22"]
    theirs = CSmask(np.moveaxis(mosaic, 0, -1).copy(), order, product_level="l2a", intra_op_num_threads=1).csm[..., 0]
    ours = masker.classify(mosaic[:, 153:409, 153:409])
    expected = np.array([7, 9, 3])[theirs[205:357, 205:357]]
    np.testing.assert_array_equal(ours[52:204, 52:204], expected)
    assert {7, 9} <= set(np.unique(expected).tolist())


def test_the_same_block_gives_the_same_bytes(masker, mosaic):
    again = load_block_masker.__wrapped__("csmask")
    assert again.identity == masker.identity
    block = mosaic[:, :256, :256]
    np.testing.assert_array_equal(again.classify(block), masker.classify(block))


def test_it_agrees_with_scl_where_that_is_sure(masker, scenes):
    """Scenes that SCL finds wholly cloudy or wholly clear. Neither is the truth: SCL calls some clear days cloudy."""
    theirs, ours = [], []
    for scene in scenes:
        scl = read_asset(SCENE_CLASSIFICATION(scene), FIELDS, method="nearest")
        theirs.append(np.isin(scl, classes_set_aside(SCENE_CLASSIFICATION, None)).mean())
        ours.append(np.isin(masker.read(masker(scene), FIELDS), classes_set_aside(masker, None)).mean())
    cloudy, clear = np.array(theirs) > 0.98, np.array(theirs) < 0.02
    assert min(cloudy.sum(), clear.sum()) > 40
    said = {scene.id[3:11]: share for scene, share in zip(scenes, ours, strict=True)}
    print(f"set aside: {np.mean(np.array(ours)[cloudy]):.3f} of cloudy, {np.mean(np.array(ours)[clear]):.3f} of clear")
    assert np.mean(np.array(ours)[cloudy]) > 0.8
    assert np.mean(np.array(ours)[clear]) < 0.15
    assert (np.array(ours)[cloudy] > 0.5).mean() > 0.8
    assert (np.array(ours)[clear] < 0.5).mean() > 0.85
    assert (said["20170804"], said["20180628"]) == (1.0, 0.0)


def test_composites_do_not_depend_on_the_tiles(masker, mosaic, tmp_path):
    dn = np.kron(np.rint(mosaic[:, :300, :300] * 10000).clip(1), np.ones((1, 3, 3))).astype(np.uint16)
    bands = dict(zip(("B02", "B03", "B04", "B08"), dn, strict=False)) | {"B11": dn[4, ::2, ::2], "B12": dn[5, ::2, ::2]}
    scene = make_scene(
        tmp_path, size=900, left=600000.0, top=5600040.0, bands=bands
    )  # of 30 m, 300 pixels: four blocks
    grid = GeoBox((400, 400), Affine(10, 0, 603500, 0, -10, 5596540), "EPSG:32631")  # where they meet
    options = {"masker": masker, "set_aside": (0, 3, 9), "cloud_dilation": 60.0}
    (tile,) = tiles(grid, 1024)
    _, clear = composite_tile([scene], grid, tile, Period.of(year=2020), **options)
    assert 0.05 < clear[5].mean() < 0.95
    for tile in tiles(grid, 208):
        _, part = composite_tile([scene], grid, tile, Period.of(year=2020), chunk=111, **options)
        np.testing.assert_array_equal(part, clear[:, tile.y0 : tile.y1, tile.x0 : tile.x1])
