"""Scenes of one pass count once: found by time and ground, fused pixel by pixel."""

import datetime as dt
import itertools

import hypothesis.extra.numpy as hnp
import numpy as np
import pystac
import pytest
import rasterio
import rasterio.warp
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scene_fixture import make_scene, pixel_size

from timesenmap.catalogs.bands import BANDS
from timesenmap.catalogs.radiometry import Scaling
from timesenmap.catalogs.scenes import Scene
from timesenmap.catalogs.search import find_scenes
from timesenmap.pipeline.composite import SCL_SET_ASIDE, composite
from timesenmap.pipeline.grid import tiles
from timesenmap.pipeline.observe import composite_tile
from timesenmap.pipeline.passes import passes_of
from timesenmap.pipeline.period import Period

PERIOD = Period.of(year=2020)


def at(when: str, west: float, name: str = "", *, platform: str = "sentinel-2a", width: float = 1.0) -> Scene:
    ground = shapely.box(west, 50, west + width, 51)
    moment = dt.datetime.fromisoformat(f"2020-06-15T{when}Z")
    fields = {"platform": platform}
    item = pystac.Item(name or f"{when}@{west}", shapely.geometry.mapping(ground), list(ground.bounds), moment, fields)
    return Scene(item, {}, {})


def sets(scenes: list[Scene]) -> list[set[str]]:
    """Ids of the scenes of each pass."""
    found: dict[int, set[str]] = {}
    for scene, number in zip(scenes, passes_of(scenes), strict=True):
        found.setdefault(number, set()).add(scene.id)
    return sorted(found.values(), key=sorted)


def test_tiles_of_one_pass_belong_together_in_any_order():
    scenes = [at("10:00:00", 0.0, "a"), at("10:00:15", 0.9, "b"), at("10:00:30", 1.8, "c"), at("11:40:00", 0.0, "d")]
    for order in itertools.permutations(scenes):
        assert sets(list(order)) == [{"a", "b", "c"}, {"d"}]  # a and c are linked by b


@pytest.mark.parametrize(
    ("other", "one_pass"),
    [
        (at("10:10:00", 0.5, "y"), True),
        (at("10:10:01", 0.5, "y"), False),
        (at("10:00:30", 0.5, "y", platform="sentinel-2c"), True),  # in tandem
        (at("10:33:00", 0.5, "y", platform="sentinel-2b"), False),  # a third of an orbit later
        (at("10:00:00", 5.0, "y"), False),  # elsewhere
        (at("10:00:00", 1.01, "y"), True),  # the outlines are simplified
    ],
)
def test_time_and_ground_decide(other, one_pass):
    assert sets([at("10:00:00", 0.0, "x"), other]) == ([{"x", "y"}] if one_pass else [{"x"}, {"y"}])


def test_real_scenes_of_belgium_are_all_passes_of_their_own(belgium):
    area = shapely.box(3.02, 50.814, 3.028, 50.818)
    found = find_scenes(str(belgium), area=area, start=dt.date(2017, 1, 1), end=dt.date(2019, 1, 1))
    assert passes_of(found.scenes) == list(range(118))


# On arrays ---------------------------------------------------------------------------------------------------


def oracle(dn, scl, passes, set_aside):
    """Pixel by pixel, in plain Python: the first clear scene of each pass, then the median of the passes."""
    times, bands, height, width = dn.shape
    reflectance = np.zeros((bands, height, width), np.uint16)
    clear = np.zeros((height, width), np.uint8)
    for y, x in np.ndindex(height, width):
        taken = {}
        for t in range(times):
            if scl[t, y, x] not in set_aside and all(dn[t, :, y, x]):
                taken.setdefault(passes[t], dn[t, :, y, x].astype(float))
        clear[y, x] = len(taken)
        if taken:
            reflectance[:, y, x] = np.clip(np.rint(np.median(list(taken.values()), axis=0)), 1, 65535)
    return reflectance, clear


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_first_clear_of_a_pass_equals_plain_python(data):
    times = data.draw(st.integers(1, 7))
    shape = (times, 2, 3, 4)
    dn = data.draw(hnp.arrays(np.uint16, shape, elements=st.sampled_from([0, 1, 2, 3, 900, 5000, 65535])))
    scl = data.draw(hnp.arrays(np.uint8, (times, 3, 4), elements=st.sampled_from([0, 3, 4, 5, 8])))
    passes = data.draw(st.lists(st.integers(0, 3), min_size=times, max_size=times))
    mine = composite(dn, scl, np.ones((times, 2)), np.zeros((times, 2)), passes=passes)
    for one, expected in zip(mine, oracle(dn, scl, passes, SCL_SET_ASIDE), strict=True):
        np.testing.assert_array_equal(one, expected, strict=True)


def test_every_scene_needs_its_pass():
    with pytest.raises(ValueError, match="2 numbers of passes for 3 scenes"):
        composite(np.ones((3, 1, 1, 1), np.uint16), np.ones((3, 1, 1), np.uint8), np.ones((3, 1)), np.zeros((3, 1)),
                  passes=[0, 0])  # fmt: skip


# Whole tiles -------------------------------------------------------------------------------------------------

CRS = "EPSG:32631"
LEFT, TOP = 700000.0, 5600040.0


def plain(value: int, size: int = 96) -> dict[str, np.ndarray]:
    return {band: np.full((size * 10 // pixel_size(band),) * 2, value, np.uint16) for band in BANDS}


def pass_of_two_zones(folder, when, values, *, baselines=("05.00", "05.00"), names=("a", "b"), **options):
    """One pass over a place, as a granule of zone 31 and one of zone 32 that overlaps it."""
    (x, y) = rasterio.warp.transform(CRS, "EPSG:32632", [LEFT + 480], [TOP - 480])
    corners = (LEFT, TOP), (round(x[0] / 20) * 20 - 480.0, round(y[0] / 20) * 20 + 480.0)
    scenes = []
    for (left, top), crs, value, baseline, name in zip(
        corners, (CRS, "EPSG:32632"), values, baselines, names, strict=True
    ):
        scene = make_scene(
            folder, name=f"{name}{when}", when=f"2020-06-{when}T10:00:00Z", crs=crs, left=left, top=top, size=96,
            bands=plain(value), **options,
        )  # fmt: skip
        scene.item.properties["s2:processing_baseline"] = baseline
        scenes.append(scene)
    return scenes


GRID = GeoBox((40, 40), Affine(10, 0, LEFT + 280, 0, -10, TOP - 280), CRS)


def june(scenes, grid=GRID, **options):
    (tile,) = tiles(grid, 1024)
    reflectance, clear = composite_tile(scenes, grid, tile, PERIOD, **options)
    return reflectance[5], clear[5]


def test_overlapping_granules_of_two_zones_count_once(tmp_path):
    """Two passes of two granules each, and a third pass of one: three observations, whose median is the middle one."""
    scenes = [
        *pass_of_two_zones(tmp_path, "05", (100, 100)),
        *pass_of_two_zones(tmp_path, "10", (300, 300)),
        pass_of_two_zones(tmp_path, "15", (200, 200))[0],
    ]
    reflectance, clear = june(scenes)
    assert (clear == 3).all()
    assert (reflectance == 200).all()
    # Fused by hand, one granule a pass: the same bytes.
    np.testing.assert_array_equal(june([scenes[0], scenes[2], scenes[4]])[0], reflectance)


@pytest.mark.parametrize(
    ("baselines", "names", "expected"),
    [
        (("02.11", "05.00"), ("a", "b"), 900),  # the newest baseline
        (("05.00", "02.11"), ("b", "a"), 500),
        (("05.00", "05.00"), ("a", "b"), 500),  # of equals the first by id
        (("05.00", "05.00"), ("b", "a"), 900),
    ],
)
def test_the_order_is_stated(tmp_path, baselines, names, expected):
    scenes = pass_of_two_zones(tmp_path, "05", (500, 900), baselines=baselines, names=names)
    for given_order in (scenes, scenes[::-1]):
        assert (june(given_order)[0] == expected).all()


def test_where_the_first_is_cloudy_the_next_is_taken(tmp_path):
    one, other = pass_of_two_zones(tmp_path, "05", (500, 900))
    cloudy = np.full((48, 48), 4, np.uint8)
    cloudy[:, 24:] = 9  # the eastern half
    with rasterio.open(one.href("SCL"), "r+") as raster:
        raster.write(cloudy, 1)
    reflectance, clear = june([one, other])
    assert (clear == 1).all()
    assert (reflectance[:, :, :20] == 500).all()
    assert (reflectance[:, :, 20:] == 900).all()


def test_fusing_does_not_depend_on_tiles_blocks_or_order(tmp_path):
    random = np.random.default_rng(5)
    scenes = []
    for when in ("05", "10", "15", "20"):
        pair = pass_of_two_zones(
            tmp_path, when, random.integers(100, 3000, 2), scaling=Scaling(0.0001, -0.01 * int(when))
        )
        for scene in pair:
            with rasterio.open(scene.href("SCL"), "r+") as raster:
                raster.write(random.choice([4, 5, 8, 0], (48, 48)).astype(np.uint8), 1)
        scenes += pair
    whole = june(scenes)
    assert 1 < whole[1].max() <= 4
    for tile in tiles(GRID, 16):
        part = composite_tile(scenes[::-1], GRID, tile, PERIOD, chunk=7)
        for one, expected in zip(part, whole, strict=True):
            np.testing.assert_array_equal(one[5], expected[..., tile.y0 : tile.y1, tile.x0 : tile.x1])
