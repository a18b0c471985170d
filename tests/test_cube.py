import json
import threading
import warnings
from itertools import pairwise
from pathlib import Path

import dask
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401  registers the accessor
import xarray as xr
import zarr
from distributed import Client, LocalCluster
from odc.geo.geobox import GeoBox
from scene_fixture import TEN_METRES, make_scene

from timesenmap.catalogs.bands import BANDS, SCL
from timesenmap.catalogs.radiometry import Scaling
from timesenmap.catalogs.scenes import Scene
from timesenmap.catalogs.search import find_scenes
from timesenmap.pipeline import load, observe
from timesenmap.pipeline.aoi import read_aoi
from timesenmap.pipeline.cube import create_cube, open_cube, tile_checksum, write_tile
from timesenmap.pipeline.errors import MapError, SceneReadError
from timesenmap.pipeline.grid import Tile, grid_for, tiles
from timesenmap.pipeline.observe import composite_tile, scenes_by_month, scenes_near, tile_tasks
from timesenmap.pipeline.period import Period

PERIOD = Period.of(year=2020)
GRID = GeoBox((70, 90), rasterio.Affine(10, 0, 600000, 0, -10, 5600040), "EPSG:32631")


def random_tile(tile: Tile, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng([seed, tile.row, tile.col])
    return (
        random.integers(0, 65536, (12, 10, *tile.shape)).astype(np.uint16),
        random.integers(0, 256, (12, *tile.shape)).astype(np.uint8),
    )


# The store --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 90, 1024, 13])
def test_tiles_come_back_as_they_were_written(tmp_path, size):
    path = tmp_path / "cube.zarr"
    create_cube(path, GRID, PERIOD, tile_size=size)
    reflectance = np.zeros((12, 10, 70, 90), np.uint16)
    clear = np.zeros((12, 70, 90), np.uint8)
    checksums = {}
    every = tiles(GRID, size)
    for tile in reversed(every):  # any order
        block = random_tile(tile)
        reflectance[:, :, tile.y0 : tile.y1, tile.x0 : tile.x1] = block[0]
        clear[:, tile.y0 : tile.y1, tile.x0 : tile.x1] = block[1]
        checksums[tile] = write_tile(path, tile, *block)
    cube = open_cube(path)
    np.testing.assert_array_equal(cube.reflectance.values, reflectance, strict=True)
    np.testing.assert_array_equal(cube.clear.values, clear, strict=True)
    assert all(tile_checksum(path, tile) == checksum for tile, checksum in checksums.items())
    assert len(set(checksums.values())) == len(every)


def test_writing_again_is_no_harm_and_touches_no_other_tile(tmp_path):
    path = tmp_path / "cube.zarr"
    create_cube(path, GRID, PERIOD, tile_size=32)
    first, second = tiles(GRID, 32)[:2]
    for tile in (first, second):
        write_tile(path, tile, *random_tile(tile))
    files = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}
    before = tile_checksum(path, second)
    again = write_tile(path, first, *random_tile(first, seed=1))
    assert tile_checksum(path, first) == again
    assert tile_checksum(path, second) == before
    changed = {file for file, time in files.items() if file.stat().st_mtime_ns != time}
    assert len([file for file in files if {"reflectance", "clear"} & set(file.parts) and "c" in file.parts]) == 4
    assert len(changed) == 2  # one shard of reflectance, one chunk of clear
    zeros = np.zeros((12, 10, 32, 32), np.uint16), np.zeros((12, 32, 32), np.uint8)
    assert write_tile(path, first, *zeros) == tile_checksum(path, first)


def test_threads_may_write_different_tiles_at_once(tmp_path):
    path = tmp_path / "cube.zarr"
    create_cube(path, GRID, PERIOD, tile_size=16)
    every = tiles(GRID, 16)
    tasks = [dask.delayed(write_tile)(path, tile, *random_tile(tile)) for tile in every]
    written = dask.compute(*tasks, scheduler="threads", num_workers=4)
    assert [tile_checksum(path, tile) for tile in every] == list(written)


def test_the_store_is_sharded_zarr_3(tmp_path):
    path = tmp_path / "cube.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("error", zarr.errors.UnstableSpecificationWarning)
        create_cube(path, GeoBox((600, 1300), GRID.affine, GRID.crs), PERIOD, tile_size=512)
    described = json.loads((path / "reflectance" / "zarr.json").read_text())
    assert described["zarr_format"] == 3
    assert described["chunk_grid"]["configuration"]["chunk_shape"] == [12, 10, 512, 512]
    sharding = next(codec for codec in described["codecs"] if codec["name"] == "sharding_indexed")
    assert sharding["configuration"]["chunk_shape"] == [1, 10, 256, 256]
    assert described["fill_value"] == 0
    assert described["data_type"] == "uint16"
    assert not list(path.rglob("c/0/0/*"))  # a template: no pixels yet


@pytest.mark.parametrize(("size", "chunk"), [(64, 64), (256, 256), (320, 160), (1024, 256), (1008, 252)])
def test_chunks_divide_shards(tmp_path, size, chunk):
    create_cube(tmp_path / "cube.zarr", GeoBox((2000, 2000), GRID.affine, GRID.crs), PERIOD, tile_size=size)
    array = zarr.open_array(tmp_path / "cube.zarr", path="reflectance", mode="r")
    assert array.shards == (12, 10, size, size)
    assert array.chunks == (1, 10, chunk, chunk)


def test_xarray_and_rioxarray_understand_it(tmp_path):
    path = tmp_path / "cube.zarr"
    create_cube(path, GRID, PERIOD, tile_size=64, attrs={"title": "A place"})
    tile = tiles(GRID, 64)[0]
    reflectance, clear = random_tile(tile)
    reflectance[:, :, :3] = 0
    write_tile(path, tile, reflectance, clear)
    cube = xr.open_zarr(path, decode_coords="all", consolidated=False)
    assert cube.rio.crs.to_epsg() == 32631
    assert cube.rio.transform() == GRID.affine
    assert cube.reflectance.rio.shape == (70, 90)
    np.testing.assert_array_equal(cube.x, 600005 + 10 * np.arange(90))
    np.testing.assert_array_equal(cube.y, 5600035 - 10 * np.arange(70))
    np.testing.assert_array_equal(cube.month, PERIOD.month_starts)
    assert cube.band.values.tolist() == list(BANDS)
    assert cube.attrs["title"] == "A place"
    # With its ordinary decoding: reflectance 0-1, no data as NaN. Through `open_cube`: the integers.
    seen = cube.reflectance.sel(band="B08", month="2020-07-01").values[:64, :64]
    stored = reflectance[6, BANDS.index("B08")]
    np.testing.assert_allclose(seen, np.where(stored == 0, np.nan, stored * 0.0001), rtol=1e-6)
    raw = open_cube(path)
    assert raw.reflectance.dtype == np.uint16
    assert raw.reflectance.chunks == ((12,), (10,), (64, 6), (64, 26))
    np.testing.assert_array_equal(raw.reflectance.sel(band="B08")[6, :64, :64], stored)
    assert raw.clear.dtype == np.uint8
    assert raw.rio.crs.to_epsg() == 32631


def test_a_crs_without_code_comes_back(tmp_path):
    aoi = read_aoi("177,-19,-177,-16")
    grid = grid_for(aoi, resolution=10000)
    create_cube(tmp_path / "cube.zarr", grid, PERIOD, tile_size=64)
    assert open_cube(tmp_path / "cube.zarr").odc.geobox == grid


def test_blocks_that_are_no_whole_tile_are_refused(tmp_path):
    path = tmp_path / "cube.zarr"
    create_cube(path, GRID, PERIOD, tile_size=32)
    tile = tiles(GRID, 32)[0]
    reflectance, clear = random_tile(tile)
    with pytest.raises(ValueError, match="reflectance is uint32"):
        write_tile(path, tile, reflectance.astype(np.uint32), clear)
    with pytest.raises(ValueError, match="clear is uint8 \\(12, 31, 32\\)"):
        write_tile(path, tile, reflectance, clear[:, 1:])
    for wrong in (
        Tile(0, 0, 16, 48, 0, 32),
        Tile(0, 0, 0, 16, 0, 32),
        Tile(0, 0, 0, 64, 0, 32),
        Tile(2, 0, 64, 96, 0, 32),
    ):
        with pytest.raises(ValueError, match="not a whole shard"):
            write_tile(path, wrong, *random_tile(wrong))
    assert not list(path.rglob("c/0/0/*"))


def test_stores_are_not_overwritten_nor_guessed(tmp_path):
    create_cube(tmp_path / "cube.zarr", GRID, PERIOD, tile_size=32)
    with pytest.raises(FileExistsError, match="remove it"):
        create_cube(tmp_path / "cube.zarr", GRID, PERIOD, tile_size=32)
    for size in (0, 1021):
        with pytest.raises(MapError, match=f"tile size {size}"):
            create_cube(tmp_path / "other.zarr", GRID, PERIOD, tile_size=size)
    with pytest.raises(MapError, match="cannot be opened"):
        open_cube(tmp_path / "nowhere.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(MapError, match="cannot be opened"):
        open_cube(tmp_path / "empty.zarr")


# Composites -------------------------------------------------------------------------------------------------


def year(folder: Path) -> list[Scene]:
    """Scenes of four months, two orbits that overlap, half of them with the offset of baseline 04.00."""
    random = np.random.default_rng(8)
    scenes = []
    for number, (when, left) in enumerate(
        (f"2020-{month:02d}-{day:02d}T10:00:00Z", left)
        for month in (1, 4, 7, 12)
        for day, left in ((2, 600000.0), (12, 599700.0), (22, 600300.0))
    ):
        scl = random.choice([0, 3, 4, 5, 8, 9, 10, 11], (32, 32)).astype(np.uint8)
        scaling = Scaling(0.0001, -0.1 if number % 2 else 0.0)
        scenes.append(
            make_scene(folder, name=f"s{number}", when=when, left=left, scl=scl, scaling=scaling, seed=number)
        )
    return scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return year(tmp_path_factory.mktemp("year"))


def whole(scenes, **options):
    (tile,) = tiles(GRID, 1024)
    return composite_tile(scenes, GRID, tile, PERIOD, **options)


@pytest.mark.parametrize("size", [64, 47])
def test_tiles_and_chunks_change_no_pixel(scenes, size):
    expected = whole(scenes)
    assert (expected[1].max(axis=(1, 2)) > 0).tolist() == [month in (0, 3, 6, 11) for month in range(12)]
    for tile in tiles(GRID, size):
        got = composite_tile(scenes[::-1], GRID, tile, PERIOD, chunk=40, threads=1)
        for one, array in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, array[..., tile.y0 : tile.y1, tile.x0 : tile.x1], strict=True)


def test_both_libraries_make_the_same_composites(scenes):
    for one, other in zip(whole(scenes), whole(scenes, reader="odc"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_classes_set_aside_are_a_setting(scenes):
    _, strict = whole(scenes)
    _, everything = whole(scenes, set_aside=frozenset({0}))
    assert (everything >= strict).all()
    assert everything.sum() > 1.5 * strict.sum()


def test_scenes_outside_the_period_or_far_away_are_not_opened(scenes, tmp_path):
    away = make_scene(tmp_path, name="away", left=700000.0, when="2020-07-02T10:00:00Z")
    before = make_scene(tmp_path, name="before", when="2019-12-31T23:59:59Z")
    after = make_scene(tmp_path, name="after", when="2021-01-01T00:00:00Z")
    for scene in (away, before, after):
        for band in (*BANDS, SCL):
            Path(scene.href(band)).unlink()
    for one, other in zip(whole([*scenes, away, before, after]), whole(scenes), strict=True):
        np.testing.assert_array_equal(one, other)
    assert scenes_near([away, *scenes], GRID) == scenes
    assert [len(month) for month in scenes_by_month([before, *scenes, after], PERIOD)] == [
        3,
        0,
        0,
        3,
        0,
        0,
        3,
        0,
        0,
        0,
        0,
        3,
    ]


def test_a_scene_that_cannot_be_read_stops_the_tile(scenes, tmp_path):
    broken = make_scene(tmp_path, name="BROKEN", when="2020-05-02T10:00:00Z")
    Path(broken.href("B11")).write_bytes(b"")
    with pytest.raises(SceneReadError, match=r"item BROKEN, asset B11"):
        whole([*scenes, broken])


def test_a_tile_is_one_task_of_a_cluster(scenes, tmp_path):
    """On a worker in another process: scenes and errors travel, and no task of the tile waits for its own worker."""
    broken = make_scene(tmp_path, name="BROKEN", when="2020-05-02T10:00:00Z")
    Path(broken.href("B11")).write_bytes(b"")
    (tile,) = tiles(GRID, 1024)
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "processes": True}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        good = client.submit(composite_tile, scenes, GRID, tile, PERIOD, threads=1)
        bad = client.submit(composite_tile, [broken], GRID, tile, PERIOD)
        for one, other in zip(good.result(timeout=120), whole(scenes), strict=True):
            np.testing.assert_array_equal(one, other)
        with pytest.raises(SceneReadError, match="item BROKEN, asset B11"):
            bad.result(timeout=120)


def test_no_scenes_make_an_empty_tile():
    reflectance, clear = whole([])
    assert reflectance.shape == (12, 10, 70, 90)
    assert not reflectance.any()
    assert not clear.any()


def laid_out(months: list[list[Scene]], grid: GeoBox, **options) -> list:
    shape = len(months), len(BANDS), *grid.shape
    arrays = np.zeros(shape, np.uint16), np.zeros((shape[0], *shape[2:]), np.uint8)
    return tile_tasks(months, [list(range(len(month))) for month in months], grid, *arrays, **options)


def graph_of(tasks: list) -> dict:
    return dict(dask.base.collections_to_expr(tasks).__dask_graph__())


def reads(tasks: list) -> int:
    return sum(str(key[0]).startswith("fetch_raster_window") for key in graph_of(tasks))


def test_the_graph_of_a_year_stays_small(scenes):
    """70 scenes on a tile of 1024 make at most 300 tasks, and every pixel is made once."""
    grid = GeoBox((1024, 1024), GRID.affine, GRID.crs)
    months = [(scenes * 6)[:count] for count in (6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 5, 5)]
    assert len(graph_of(laid_out(months, grid))) <= 300


@pytest.mark.parametrize("threads", [1, 3])
def test_months_follow_each_other(scenes, monkeypatch, threads):
    """Memory is that of a month and of what threads have in hand: scenes that are read wait for no other month."""
    lock, waiting, most = threading.Lock(), 0, 0
    read, compose = load.read_layer, observe.composite

    def counted_read(layer, *args, **options):
        nonlocal waiting, most
        if layer.address == layer.mask:
            with lock:
                waiting += 1
                most = max(most, waiting)
        return read(layer, *args, **options)

    def counted_compose(dn, *args, **options):
        nonlocal waiting
        result = compose(dn, *args, **options)
        with lock:
            waiting -= len(dn)
        return result

    monkeypatch.setattr(load, "read_layer", counted_read)
    monkeypatch.setattr(observe, "composite", counted_compose)
    whole(scenes, threads=threads)
    assert waiting == 0
    assert 3 <= most <= 3 * (1 + threads)  # three scenes a month; 36 if all were read first


@pytest.mark.parametrize(("count", "blocks"), [(23, 1), (24, 4)])
def test_months_of_many_scenes_are_cut_into_blocks(scenes, count, blocks):
    """Observations of a month on a block stay below 512 MiB, however many scenes."""
    grid = GeoBox((1024, 1024), GRID.affine, GRID.crs)
    assert reads(laid_out([(scenes * 2)[:count]], grid)) == count * blocks


def test_coarse_grids_are_read_in_smaller_blocks(scenes):
    grid = GeoBox((1024, 1024), rasterio.Affine(100, 0, 600000, 0, -100, 5600040), GRID.crs)
    assert reads(laid_out([scenes[:3]], grid)) == 3 * 4  # at once it would be 10,240 source pixels on a side


# Real scenes ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def belgium_cube(belgium, tmp_path_factory):
    """The cube of the real scenes, December 2017 to November 2018, and the scenes."""
    aoi = read_aoi("501360,5629040,502000,5629680", crs="EPSG:32631")
    period = Period.of(start="2017-12")
    found = find_scenes(str(belgium), area=aoi.geometry, start=period.start, end=period.end)
    grid = grid_for(aoi)
    path = tmp_path_factory.mktemp("belgium") / "cube.zarr"
    create_cube(path, grid, period, tile_size=64)
    for tile in tiles(grid, 64):
        write_tile(path, tile, *composite_tile(found.scenes, grid, tile, period))
    return open_cube(path), found.scenes


def plain(scene: Scene, band: str) -> np.ndarray:
    with rasterio.open(scene.href(band)) as raster:
        return raster.read(1)


def test_july_ndvi_equals_an_independent_computation(belgium_cube):
    """Exactly, pixel by pixel: raw reads, SCL repeated, nanmedian, rint."""
    cube, scenes = belgium_cube
    july = [scene for scene in scenes if f"{scene.datetime:%Y-%m}" == "2018-07"]
    assert len(july) > 5
    bands = {}
    clear = np.array([~np.isin(np.kron(plain(s, SCL), np.ones((2, 2), int)), [0, 1, 3, 8, 9, 10]) for s in july])
    # An observation without data in some band is none.
    for number, scene in enumerate(july):
        for band in BANDS:
            repeat = 1 if band in TEN_METRES else 2
            clear[number] &= np.kron(plain(scene, band), np.ones((repeat, repeat), int)) > 0
    for band in ("B04", "B08"):
        observed = np.where(clear, [plain(scene, band) for scene in july], np.nan)
        bands[band] = np.clip(np.rint(np.nanmedian(observed, axis=0)), 1, 65535)
    expected = (bands["B08"] - bands["B04"]) / (bands["B08"] + bands["B04"])
    month = cube.sel(month="2018-07-01")
    red, infrared = (month.reflectance.sel(band=band).values.astype(np.float64) for band in ("B04", "B08"))
    np.testing.assert_array_equal((infrared - red) / (infrared + red), expected)
    np.testing.assert_array_equal(month.clear, clear.sum(axis=0))
    assert expected.min() < 0.2
    assert expected.max() > 0.8  # bare and green fields, not a constant


def test_every_month_was_seen(belgium_cube):
    cube, _ = belgium_cube
    assert (cube.clear.max(dim=("y", "x")) > 0).all()
    np.testing.assert_array_equal(cube.reflectance.min(dim="band") > 0, cube.clear > 0)


def test_real_scenes_through_odc_are_the_same(belgium_cube):
    cube, scenes = belgium_cube
    (tile,) = tiles(cube.odc.geobox, 64)
    got = composite_tile(scenes, cube.odc.geobox, tile, Period.of(start="2017-12"), reader="odc", chunk=64)
    np.testing.assert_array_equal(got[0], cube.reflectance)
    np.testing.assert_array_equal(got[1], cube.clear)


# Against a slow computation that shares nothing but the scenes ------------------------------------------------


def slow_pixels(path: str, grid: GeoBox, *, classes: bool) -> np.ndarray:
    """A raster of the grid's CRS, pixel by pixel: the class under the centre, or the mean of the four pixels around.

    Those weigh by their distance, without data (0) nothing, and half a number counts up.
    """
    with rasterio.open(path) as raster:
        pixels, place, crs = raster.read(1).astype(float), raster.transform, raster.crs
    assert crs.to_epsg() == grid.crs.to_epsg()
    result = np.zeros(grid.shape)
    for row in range(grid.shape.y):
        for col in range(grid.shape.x):
            x, y = grid.affine.c + 10 * (col + 0.5), grid.affine.f - 10 * (row + 0.5)
            right, down = (x - place.c) / place.a, (y - place.f) / place.e
            if not (0 <= right < pixels.shape[1] and 0 <= down < pixels.shape[0]):
                continue
            own = pixels[int(down), int(right)]
            if classes or own == 0:
                result[row, col] = own
                continue
            total = weight = 0.0
            for j in (int(np.floor(down - 0.5)), int(np.floor(down - 0.5)) + 1):
                for i in (int(np.floor(right - 0.5)), int(np.floor(right - 0.5)) + 1):
                    value = pixels[min(max(j, 0), len(pixels) - 1), min(max(i, 0), pixels.shape[1] - 1)]
                    share = (1 - abs(right - 0.5 - i)) * (1 - abs(down - 0.5 - j)) if value else 0.0
                    total, weight = total + share * value, weight + share
            result[row, col] = np.floor(total / weight + 0.5)
    return result


def slow_month(scenes: list[Scene], grid: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """Medians (band, y, x) and counts of one month's scenes, none of which are of one pass."""
    times = sorted(scene.datetime for scene in scenes)
    assert all((late - early).total_seconds() > 600 for early, late in pairwise(times))
    observed = np.full((len(scenes), len(BANDS), *grid.shape), np.nan)
    for number, scene in enumerate(scenes):
        dn = np.array([slow_pixels(scene.href(band), grid, classes=False) for band in BANDS])
        scl = slow_pixels(scene.href(SCL), grid, classes=True)
        clear = ~np.isin(scl, [0, 1, 3, 8, 9, 10]) & (dn > 0).all(axis=0)
        for band, name in enumerate(BANDS):
            scaling = scene.scaling[name]
            values = np.round(dn[band] * scaling.scale * 10000 + scaling.offset * 10000, 6)
            observed[number, band][clear] = values[clear]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels that no scene shows
        median = np.nanmedian(observed, axis=0)
    counts = (~np.isnan(observed[:, 0])).sum(axis=0)
    return np.where(np.isnan(median), 0, np.clip(np.rint(median), 1, 65535)), counts


def test_the_cube_of_the_demonstration_equals_a_slow_computation(place):
    """A corner of the generated place: clouds, no data, scenes of two orbits, and the offset of their items."""
    aoi = read_aoi(str(place.aoi))
    period = Period.of(year=place.year)
    found = find_scenes(str(place.catalog), area=aoi.geometry, start=period.start, end=period.end)
    grid = grid_for(aoi)
    (tile,) = tiles(grid, 1024)
    whole = composite_tile(found.scenes, grid, tile, period)
    for one, other in zip(composite_tile(found.scenes, grid, tile, period, chunk=40, reader="odc"), whole, strict=True):
        np.testing.assert_array_equal(one, other)
    reflectance, clear = whole
    assert clear.max() > 1
    ys, xs = slice(37, 46), slice(0, 10)
    for month, scenes in enumerate(scenes_by_month(found.scenes, period)):
        expected, counts = slow_month(scenes, grid[ys, xs])
        np.testing.assert_array_equal(reflectance[month][:, ys, xs], expected)
        np.testing.assert_array_equal(clear[month][ys, xs], counts)
