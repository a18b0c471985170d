"""What is read of a scene: its mask, and of the bands no more than the mask leaves."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from scene_fixture import make_scene

from timesenmap.catalogs.bands import BANDS, SCL
from timesenmap.pipeline import layers, profile
from timesenmap.pipeline.clouds import Widening
from timesenmap.pipeline.errors import SceneReadError
from timesenmap.pipeline.grid import tiles
from timesenmap.pipeline.layers import Layer, forget_masks, read_layer
from timesenmap.pipeline.observe import composite_tile
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.read import AssetSource, asset_source

GRID = GeoBox((64, 64), rasterio.Affine(10, 0, 600000, 0, -10, 5600040), "EPSG:32631")
PERIOD = Period.of(year=2020)


def holed(*clear: tuple[int, int]) -> np.ndarray:
    """Scene classes of 20 m: cloud but for some pixels."""
    scl = np.full((32, 32), 9, np.uint8)
    for row, col in clear:
        scl[row, col] = 4
    return scl


def band_layer(scene, band: str) -> Layer:
    return Layer(asset_source(scene, band).address, "bilinear", asset_source(scene, SCL).address, (3, 8, 9, 255))


@pytest.fixture(autouse=True)
def nothing_kept():
    forget_masks()


@pytest.mark.parametrize("band", ["B04", "B11"])
def test_bands_are_those_of_the_whole_where_the_mask_leaves_something(tmp_path, band):
    scene = make_scene(tmp_path, scl=holed((3, 5), (10, 20)))
    whole = read_layer(Layer(asset_source(scene, band).address, "bilinear"), GRID, gdal={})
    part = read_layer(band_layer(scene, band), GRID, gdal={})
    box = slice(6, 22), slice(10, 42)  # pixels of 20 m, in those of 10 m
    np.testing.assert_array_equal(part[box], whole[box])
    part[box] = 0
    assert not part.any()


def test_a_mask_is_read_once_for_all_bands(tmp_path):
    scene = make_scene(tmp_path, scl=holed((3, 5)))
    mask = asset_source(scene, SCL).address
    with profile.measured() as alone:
        read_layer(Layer(mask, "nearest", mask), GRID, gdal={})
    with profile.measured() as bands:
        for band in BANDS:
            read_layer(band_layer(scene, band), GRID, gdal={})
    forget_masks()
    with profile.measured() as anew:
        for band in BANDS:
            read_layer(band_layer(scene, band), GRID, gdal={})
    assert alone.bytes_read > 0
    assert anew.bytes_read - bands.bytes_read == alone.bytes_read


def test_clouds_that_are_widened_close_the_window(tmp_path):
    scene = make_scene(tmp_path, scl=holed((3, 5), (10, 20)))
    assert not read_layer(band_layer(scene, "B04"), GRID, gdal={}, widening=Widening((9,), 20.0)).any()


def test_addresses_come_back():
    layer = Layer(AssetSource("ü", "B04", "s3://a b/c?d=1").address, "bilinear", "mask:x", (1, 2))
    assert Layer.from_address(layer.to_address()) == layer


def test_an_overcast_scene_costs_its_mask_and_nothing_else(tmp_path):
    """Its bands are not even there; where one pixel is clear, the missing band is named."""
    scene = make_scene(tmp_path, name="OVERCAST", scl=holed())
    for band in BANDS:
        Path(scene.href(band)).unlink()
    (tile,) = tiles(GRID, 1024)
    reflectance, clear = composite_tile([scene], GRID, tile, PERIOD)
    assert not reflectance.any()
    assert not clear.any()
    scene = make_scene(tmp_path, name="NEARLY", scl=holed((31, 31)))
    Path(scene.href("B12")).unlink()
    with pytest.raises(SceneReadError, match=r"item NEARLY, asset B12"):
        composite_tile([scene], GRID, tile, PERIOD)


def test_masks_are_forgotten_with_the_tile(tmp_path):
    scene = make_scene(tmp_path, scl=holed())
    (tile,) = tiles(GRID, 1024)
    composite_tile([scene], GRID, tile, PERIOD)
    again = make_scene(tmp_path)  # the same files, another sky
    assert layers._mask.cache_info().currsize == 0
    assert (composite_tile([again], GRID, tile, PERIOD)[1][5] == 1).all()
