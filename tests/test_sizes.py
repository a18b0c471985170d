"""Bands of another size than their item says, or than its other bands: refused by item and asset."""

import copy
import json
import warnings

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from scene_fixture import make_scene

from timesenmap.catalogs import BANDS, SCL, CatalogError, load_profile, scene_from_item
from timesenmap.catalogs.sizes import check_sizes, stated_shape, stated_transform
from timesenmap.pipeline.errors import SceneReadError
from timesenmap.pipeline.load import load_scenes
from timesenmap.pipeline.read import AssetSource, asset_source, read_asset

GRID = GeoBox((48, 48), Affine(10, 0, 600080, 0, -10, 5599960), "EPSG:32631")
NAME = "e84__sentinel-2-c1-l2a__S2B_T24MUV_20250731T130245_L2A.json"


def test_real_items_state_the_same_ground_for_all_bands(shared_data):
    """All that belong to a Level-2A item: bands of 10, 20 and 60 m end at the same edges."""
    checked = 0
    for path in sorted((shared_data / "stac_items").glob("*.json")):
        fields = json.loads(path.read_text())
        if fields["type"] != "Feature":
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            item = pystac.Item.from_dict(fields)
        bands = [key for key, asset in item.assets.items() if len(asset.extra_fields.get("proj:transform") or ()) >= 6
                 and asset.extra_fields["proj:transform"][0] in (10, 20, 60)]  # fmt: skip
        check_sizes(item, bands)
        checked += len(bands)
    assert checked > 400


@pytest.fixture
def fields(shared_data):
    return json.loads((shared_data / "stac_items" / NAME).read_text())


def scene_of(fields):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        item = pystac.Item.from_dict(copy.deepcopy(fields), href="https://example.test/item.json")
    return scene_from_item(item, load_profile("earth-search-c1"))


def test_what_an_item_states_goes_with_the_address_of_its_bands(fields):
    scene = scene_of(fields)
    assert scene.shape("B11") == (5490, 5490)
    assert scene.transform("B11") == (20, 0, 300000, 0, -20, 9500020)
    for band in (*BANDS, SCL):
        source = asset_source(scene, band)
        assert AssetSource.from_address(source.address) == source
        assert source.shape == scene.shape(band)
    del fields["assets"]["nir"]["proj:shape"], fields["assets"]["nir"]["proj:transform"]
    bare = scene_of(fields)
    assert (bare.shape("B08"), bare.transform("B08")) == (None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("proj:shape", [10980, 10980]),
        ("proj:shape", [5490, 5480]),
        ("proj:transform", [10, 0, 300000, 0, -10, 9500020]),
        ("proj:transform", [20, 0, 300040, 0, -20, 9500020]),
        ("proj:transform", [20, 0, 300000, 0, -20, 9500020 - 109800, 0, 0, 1]),
    ],
)
def test_a_band_of_another_size_than_the_others_is_refused(fields, name, value):
    fields["assets"]["swir16"][name] = value
    with pytest.raises(
        CatalogError, match=r"item S2B_T24MUV\w+, asset swir16: a band of another size: .*skip-bad-items"
    ):
        scene_of(fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("proj:shape", [5490]),
        ("proj:shape", "5490"),
        ("proj:shape", [5490, None]),
        ("proj:shape", [5490.5, 5490]),
        ("proj:shape", [0, 5490]),
        ("proj:transform", [20, 0, 300000]),
        ("proj:transform", [0, 0, 300000, 0, 0, 9500020]),
        ("proj:transform", ["a", 0, 300000, 0, -20, 9500020]),
    ],
)
def test_a_size_that_cannot_be_is_refused(fields, name, value):
    fields["assets"]["swir16"][name] = value
    with pytest.raises(CatalogError, match=rf"item S2B_T24MUV\w+, asset swir16: {name} .*is no size of a band"):
        scene_of(fields)


def test_pixels_cut_off_at_the_edge_of_a_subset_are_no_contradiction():
    item = pystac.Item("subset", None, None, None, {"start_datetime": "2020-01-01T00:00:00Z",
                                                    "end_datetime": "2020-01-02T00:00:00Z"})  # fmt: skip
    for key, step, side in (("fine", 10, 65), ("coarse", 20, 32)):
        fields = {"proj:shape": [side, side], "proj:transform": [step, 0, 0, 0, -step, 0]}
        item.add_asset(key, pystac.Asset("x.tif", extra_fields=fields))
    check_sizes(item, ["fine", "coarse"])
    assert stated_shape(item, "fine") == (65, 65)
    assert stated_transform(item, "coarse") == (20, 0, 0, 0, -20, 0)


# Files ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def scene(tmp_path):
    """A scene whose item states what its files are."""
    made = make_scene(tmp_path)
    for band in (*BANDS, SCL):
        with rasterio.open(made.href(band)) as raster:
            fields = made.item.assets[band].extra_fields
            fields["proj:shape"], fields["proj:transform"] = list(raster.shape), list(raster.transform)[:6]
    return made


def test_files_that_are_what_the_item_says_are_read(scene):
    dn, scl = load_scenes([scene], GRID)
    assert (dn.values > 0).all()
    assert (scl.values == 4).all()


@pytest.mark.parametrize(
    "transform",
    [
        Affine(20, 0, 600000, 0, -20, 5600040),  # of another size
        Affine(10, 0, 600010, 0, -10, 5600040),  # a pixel to the east
        Affine(10, 0, 600000, 0, -10, 5600039.5),
        Affine(10.01, 0, 600000, 0, -10, 5600040),
    ],
)
@pytest.mark.parametrize("reader", ["stackstac", "odc"])
def test_a_file_elsewhere_than_its_item_says_is_refused(scene, reader, transform):
    with rasterio.open(scene.href("B08"), "r+") as raster:
        raster.transform = transform
    dn, _ = load_scenes([scene], GRID, reader=reader)
    with pytest.raises(
        SceneReadError, match=r"item scene, asset B08 at .*a band of another size or place: it has pixels"
    ):
        dn.compute()


def test_a_file_of_another_shape_is_refused(scene):
    scene.item.assets["B8A"].href = scene.href("B08")
    with pytest.raises(
        SceneReadError, match=r"asset B8A at .*another size: it has 64 x 64 pixels, its item says 32 x 32"
    ):
        read_asset(asset_source(scene, "B8A"), GRID, method="bilinear")


def test_rounding_of_a_stated_transform_is_no_contradiction(scene):
    stated = scene.item.assets["B04"].extra_fields["proj:transform"]
    scene.item.assets["B04"].extra_fields["proj:transform"] = [*np.add(stated, [0, 0, 0.004, 0, 0, -0.004])]
    assert (read_asset(asset_source(scene, "B04"), GRID, method="bilinear") > 0).all()
