"""Masks computed block by block do not depend on the window asked for, on tiles, or on the baseline."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scene_fixture import make_scene

from timesenmap.catalogs.bands import BANDS, SCL
from timesenmap.catalogs.radiometry import Scaling
from timesenmap.pipeline import maskers
from timesenmap.pipeline.errors import MapError, SceneReadError
from timesenmap.pipeline.grid import tiles
from timesenmap.pipeline.mask_blocks import CLEAR, BlockMask, BlockMasker
from timesenmap.pipeline.maskers import SCENE_CLASSIFICATION
from timesenmap.pipeline.observe import composite_tile
from timesenmap.pipeline.period import Period

PERIOD = Period.of(year=2020)
LEFT, TOP, SIZE = 600000.0, 5600040.0, 150  # 150 pixels of 10 m are 50 of 30 m
GRID = GeoBox((140, 160), Affine(10, 0, LEFT - 60, 0, -10, TOP + 40), "EPSG:32631")
EQUAL_AREA = GeoBox((90, 110), Affine(10, 0, 3925500, 0, -10, 3063000), "EPSG:3035")


def surroundings(reflectance: np.ndarray) -> np.ndarray:
    """A stand-in for a network: what it says of any pixel depends on every number of the block."""
    whole = np.round(reflectance.astype(np.float64) * 1e6).astype(np.int64)
    place = np.arange(1, whole.size + 1).reshape(whole.shape)
    mixed = (whole * place).sum() + 31 * whole.sum(axis=0)
    return np.array([CLEAR, CLEAR, 9, CLEAR, 3], np.uint8)[mixed // 7 % 5]


class Counting:
    """Calls a function of blocks, and keeps what it was called with."""

    def __init__(self, function=surroundings):
        self.function, self.blocks = function, []

    def __call__(self, reflectance):
        self.blocks.append(reflectance.copy())
        return self.function(np.nan_to_num(reflectance))


def stand_in(function=None, **options) -> BlockMasker:
    options = {"name": "fake", "bands": ("B03", "B11"), "block": 16, "margin": 3, **options}
    return BlockMasker(
        classify=function or Counting(), tells=frozenset({3, 9}), about={"library": "fake 1.2"}, **options
    )


@pytest.fixture
def fake(monkeypatch) -> BlockMasker:
    masker = stand_in()
    found = maskers.load_block_masker
    monkeypatch.setattr(
        "timesenmap.pipeline.layers.load_block_masker", lambda name: masker if name == "fake" else found(name)
    )
    return masker


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("one"), size=SIZE, left=LEFT, top=TOP, seed=3)


# Windows of a mask --------------------------------------------------------------------------------------------


def by_hand(scene, function, *, block=16, margin=3) -> np.ndarray:
    """The mask of a whole scene of 50 x 50 pixels of 30 m, block by block, from the description alone."""
    with rasterio.open(scene.href("B03")) as raster:
        green = raster.read(1).reshape(50, 3, 50, 3).mean(axis=(1, 3))
    with rasterio.open(scene.href("B11")) as raster:
        halves = np.repeat(np.repeat(raster.read(1).astype(float), 4, 0), 4, 1)  # pixels of 5 m
    # Samples 15 m apart between the centres of pixels of 20 m, four to a pixel of 30 m.
    positions = (np.arange(100) * 15 + 7.5) / 20 - 0.5
    low = np.clip(np.floor(positions).astype(int), 0, 74)
    high, weight = np.clip(low + 1, 0, 74), np.clip(positions, 0, None) - low
    coarse = halves[::4, ::4]
    down = coarse[low] * (1 - weight)[:, None] + coarse[high] * weight[:, None]
    both = down[:, low] * (1 - weight) + down[:, high] * weight
    infrared = both.reshape(50, 2, 50, 2).mean(axis=(1, 3))
    reflectance = np.floor(np.stack([green, infrared]) + 0.5) / 10000
    mask = np.zeros((50, 50), np.uint8)
    inner = block - 2 * margin
    for top in range(0, 50, inner):
        for left in range(0, 50, inner):
            y, x = min(max(top - margin, 0), 50 - block), min(max(left - margin, 0), 50 - block)
            classes = function(reflectance[:, y : y + block, x : x + block].astype(np.float32))
            ys, xs = slice(top, min(top + inner, 50)), slice(left, min(left + inner, 50))
            mask[ys, xs] = classes[ys.start - y : ys.stop - y, xs.start - x : xs.stop - x]
    return mask


def test_the_mask_is_that_of_the_described_blocks(scene):
    expected = by_hand(scene, surroundings)
    assert {3, 7, 9} == set(np.unique(expected).tolist())
    masker = stand_in()
    own = GeoBox((50, 50), Affine(30, 0, LEFT, 0, -30, TOP), "EPSG:32631")
    np.testing.assert_array_equal(masker.read(masker(scene), own), expected)
    ten = GeoBox((150, 150), Affine(10, 0, LEFT, 0, -10, TOP), "EPSG:32631")
    np.testing.assert_array_equal(masker.read(masker(scene), ten), np.kron(expected, np.ones((3, 3), np.uint8)))


@pytest.mark.parametrize("grid", [GRID, EQUAL_AREA], ids=["same CRS", "equal area"])
def test_the_mask_does_not_depend_on_the_window_asked_for(scene, grid):
    masker = stand_in()
    whole = masker.read(masker(scene), grid)
    assert len(np.unique(whole)) == 4  # no data outside, clear, cloud, shadow

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def check(data):
        y, x = (data.draw(st.integers(0, side - 1)) for side in grid.shape)
        height, width = (data.draw(st.integers(1, side - at)) for side, at in zip(grid.shape, (y, x), strict=True))
        window = slice(y, y + height), slice(x, x + width)
        one = stand_in()  # which has no block in memory
        np.testing.assert_array_equal(one.read(one(scene), grid[window]), whole[window])

    check()


def test_the_stand_in_does_depend_on_the_block_it_is_given():
    block = np.random.default_rng(1).random((2, 16, 16)).astype(np.float32)
    other = block.copy()
    other[0, 0, 0] += 0.01
    assert (surroundings(block)[8:, 8:] != surroundings(other)[8:, 8:]).any()


def test_a_small_scene_is_continued_as_in_a_mirror(tmp_path):
    small = make_scene(tmp_path, size=24, left=LEFT, top=TOP)  # 8 pixels of 30 m
    masker = stand_in()
    masker.read(masker(small), GRID)
    (block,) = masker.classify.blocks
    np.testing.assert_array_equal(block[:, :, 8:], block[:, :, 7::-1])
    np.testing.assert_array_equal(block[:, 8:], block[:, 7::-1])


def test_a_block_is_computed_once_for_all_tiles_and_threads(scene):
    masker = stand_in()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda tile: masker.read(masker(scene), tile.geobox(GRID)), list(tiles(GRID, 32)) * 2))
    blocks = [block.tobytes() for block in masker.classify.blocks]
    assert len(blocks) == len(set(blocks))
    # The grid ends 1360 m below the scene's upper edge: 46 of 50 rows, 5 rows of blocks; and all 5 columns.
    assert len(blocks) == 25


# What a block holds -------------------------------------------------------------------------------------------


def test_the_function_sees_reflectance_whatever_the_baseline(tmp_path):
    plain = make_scene(tmp_path, name="plain", size=SIZE, left=LEFT, top=TOP, seed=5)
    shifted = {}
    for band in BANDS:
        with rasterio.open(plain.href(band)) as raster:
            shifted[band] = raster.read(1) + np.uint16(1000)
    newer = make_scene(
        tmp_path, name="newer", size=SIZE, left=LEFT, top=TOP, bands=shifted, scaling=Scaling(0.0001, -0.1)
    )
    one, other = stand_in(), stand_in()
    np.testing.assert_array_equal(one.read(one(plain), GRID), other.read(other(newer), GRID))
    np.testing.assert_array_equal(one.classify.blocks, other.classify.blocks)
    with rasterio.open(plain.href("B03")) as raster:
        green = raster.read(1)[:48, :48].reshape(16, 3, 16, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(one.classify.blocks[0][0], green / 10000, atol=0.5e-4)


def test_no_data_is_not_clear_and_nothing_is_computed_where_there_is_nothing(tmp_path):
    random = np.random.default_rng(2)
    green = random.integers(1, 9000, (150, 150)).astype(np.uint16)
    green[:, 60:] = 0  # beyond the swath
    scene = make_scene(tmp_path, size=SIZE, left=LEFT, top=TOP, bands={"B03": green})
    always_clear = Counting(lambda block: np.full(block.shape[1:], CLEAR, np.uint8))
    masker = stand_in(always_clear)
    mask = masker.read(masker(scene), GeoBox((50, 50), Affine(30, 0, LEFT, 0, -30, TOP), "EPSG:32631"))
    assert (mask[:, :20] == CLEAR).all()
    assert (mask[:, 20:] == 0).all()
    assert len(always_clear.blocks) == 10  # two of five columns of blocks have data


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda block: np.full(block.shape[1:], 8, np.uint8), "scene class 8, which is not among those it tells"),
        (lambda block: np.zeros((4, 4), np.uint8), r"uint8 \(4, 4\), not uint8 \(16, 16\)"),
        (lambda block: np.zeros(block.shape[1:]), r"float64 \(16, 16\), not uint8"),
    ],
)
def test_a_function_that_gives_something_else_is_named(scene, function, said):
    masker = stand_in(function)
    with pytest.raises(MapError, match=f"masker fake: its function gave {said}"):
        masker.read(masker(scene), GRID)


def test_a_band_that_cannot_be_read_is_named(tmp_path):
    scene = make_scene(tmp_path, size=SIZE, left=LEFT, top=TOP)
    Path(scene.href("B11")).unlink()
    masker = stand_in()
    with pytest.raises(SceneReadError, match=r"item scene, asset B11 at .*cannot be read"):
        masker.read(masker(scene), GRID)
    assert masker.classify.blocks == []


def test_scenes_in_degrees_are_refused(tmp_path):
    scene = make_scene(tmp_path, size=SIZE, left=LEFT, top=TOP)
    path = Path(scene.href("B03"))
    with rasterio.open(path, "r+") as raster:
        raster.crs = "EPSG:4326"
        raster.transform = Affine(1e-4, 0, 4.4, 0, -1e-4, 50.5)
    with pytest.raises(SceneReadError, match=r"item scene, asset B03 .*in degrees"):
        stand_in().read(stand_in()(scene), GRID)


def test_a_mask_travels_as_an_address(scene):
    mask = stand_in()(scene)
    assert BlockMask.from_address(mask.address) == mask
    assert pickle.loads(pickle.dumps(mask)) == mask
    assert BlockMask.from_address(SCENE_CLASSIFICATION(scene).address) is None
    assert SCENE_CLASSIFICATION(scene).href == scene.href(SCL)


# Composites ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("year")
    return [
        make_scene(folder, name=f"s{n}", when=f"2020-04-{day:02d}T10:00:00Z", left=LEFT + 210 * n, top=TOP, size=SIZE,
                   seed=n, scaling=Scaling(0.0001, -0.0001 * n))
        for n, day in enumerate((2, 12, 22))
    ]  # fmt: skip


@pytest.mark.parametrize("metres", [0.0, 30.0])
@pytest.mark.parametrize("grid", [GRID, EQUAL_AREA], ids=["same CRS", "equal area"])
def test_composites_do_not_depend_on_tiles_blocks_or_library(scenes, fake, metres, grid):
    options = {"masker": fake, "set_aside": (0, 3, 9), "cloud_dilation": metres}
    (tile,) = tiles(grid, 1024)
    whole = composite_tile(scenes, grid, tile, PERIOD, **options)
    everything = composite_tile(scenes, grid, tile, PERIOD)
    assert 0 < whole[1].sum() < 0.9 * everything[1].sum()
    for one, expected in zip(composite_tile(scenes, grid, tile, PERIOD, reader="odc", **options), whole, strict=True):
        np.testing.assert_array_equal(one, expected)
    for tile in tiles(grid, 64):
        part = composite_tile(scenes, grid, tile, PERIOD, chunk=40, **options)
        for one, expected in zip(part, whole, strict=True):
            np.testing.assert_array_equal(one, expected[..., tile.y0 : tile.y1, tile.x0 : tile.x1], strict=True)


def test_clear_are_the_pixels_of_the_mask_that_are_not_set_aside(scenes, fake):
    (tile,) = tiles(GRID, 1024)
    for aside in ((0, 3, 9), (0, 9), (0,)):
        _, clear = composite_tile(scenes[:1], GRID, tile, PERIOD, masker=fake, set_aside=aside)
        np.testing.assert_array_equal(clear[3], ~np.isin(fake.read(fake(scenes[0]), GRID), aside))


def test_dilation_widens_what_the_masker_tells(scenes, fake):
    (tile,) = tiles(GRID, 1024)
    seen = [
        composite_tile(scenes, GRID, tile, PERIOD, masker=fake, set_aside=(0, 3, 9), cloud_dilation=metres)[1].sum()
        for metres in (0, 30, 45)
    ]
    assert seen[0] > seen[1] > seen[2] > 0
