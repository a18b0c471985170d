"""Sampling against GDAL's warper (exact transformer, the kernel's width pinned) and against arithmetic."""

import numpy as np
import pytest
import rasterio
import rasterio.warp
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from scene_fixture import write_band

from timesenmap.pipeline.read import AssetSource, read_asset

UTM31, UTM32 = "EPSG:32631", "EPSG:32632"
LEFT, TOP = 700000.0, 5600040.0


def read(path, grid, method):
    return read_asset(AssetSource("item", "asset", str(path)), grid, method=method)


def gdal(path, grid, method, *, scale):
    options = {
        "crs": grid.crs.to_wkt(),
        "transform": grid.affine,
        "width": grid.shape.x,
        "height": grid.shape.y,
        "resampling": Resampling[method],
        "tolerance": 1e-9,  # 0 fails in rasterio 1.4; the default is an eighth of a pixel
        "src_nodata": 0,
        "nodata": 0,
        "XSCALE": scale,
        "YSCALE": scale,
    }
    with rasterio.open(path) as raster, WarpedVRT(raster, **options) as warped:
        return warped.read(1)


@pytest.fixture(scope="module", params=["whole", "holes"])
def sources(request, tmp_path_factory):
    """The same ground at 10 m and at 20 m, without and with pixels of no data; random numbers."""
    random = np.random.default_rng(5)
    folder = tmp_path_factory.mktemp("sources")
    paths = {}
    for step in (10, 20):
        pixels = random.integers(1, 12000, (2400 // step, 3000 // step)).astype(np.uint16)
        if request.param == "holes":
            pixels[random.random(pixels.shape) < 0.2] = 0
        paths[step] = folder / f"{step}.tif"
        write_band(paths[step], pixels, Affine(step, 0, LEFT, 0, -step, TOP), UTM31, nodata=None)
    return paths


def around(crs, *, shift=0.0, pixels=400):
    """Make a grid of 10 m larger than the sources, in any CRS; `shift` in metres off the sources' lines."""
    (x,), (y,) = rasterio.warp.transform(UTM31, crs, [LEFT + 1500], [TOP - 1200])
    left, top = round(x / 10) * 10 - pixels * 5 + shift, round(y / 10) * 10 + pixels * 5 + shift
    return GeoBox((pixels, pixels), Affine(10, 0, left, 0, -10, top), crs)


@pytest.mark.parametrize("step", [10, 20])
@pytest.mark.parametrize(
    "grid", [around(UTM31), around(UTM31, shift=3.0), around(UTM32)], ids=["same lines", "shifted 3 m", "next zone"]
)
def test_nearest_equals_gdal(sources, step, grid):
    mine = read(sources[step], grid, "nearest")
    assert (mine > 0).sum() > 10000
    np.testing.assert_array_equal(mine, gdal(sources[step], grid, "nearest", scale=step / 10))


@pytest.mark.parametrize("step", [10, 20])
def test_bilinear_on_the_same_lines_equals_gdal(sources, step):
    grid = around(UTM31)
    mine = read(sources[step], grid, "bilinear")
    assert (mine > 0).sum() > 10000
    np.testing.assert_array_equal(mine, gdal(sources[step], grid, "bilinear", scale=step / 10))


@pytest.mark.parametrize("step", [10, 20])
@pytest.mark.parametrize("grid", [around(UTM31, shift=3.0), around(UTM32)], ids=["shifted 3 m", "next zone"])
def test_bilinear_elsewhere_equals_gdal_but_for_rounding(sources, step, grid):
    mine = read(sources[step], grid, "bilinear").astype(int)
    expected = gdal(sources[step], grid, "bilinear", scale=step / 10).astype(int)
    np.testing.assert_array_equal(mine == 0, expected == 0)
    assert np.abs(mine - expected).max() <= 1  # 32 and 64 bits round x.5 differently
    assert (mine != expected).mean() < 0.005


@pytest.mark.parametrize("step", [10, 20])
def test_equal_area_equals_gdal_within_a_millimetre(sources, step):
    """The PROJ inside rasterio and the one inside pyproj place a point of EPSG:3035 up to 0.2 mm apart."""
    grid = around("EPSG:3035")
    near = read(sources[step], grid, "nearest") != gdal(sources[step], grid, "nearest", scale=step / 10)
    assert near.mean() < 1e-4
    mine = read(sources[step], grid, "bilinear").astype(int)
    differ = np.abs(mine - gdal(sources[step], grid, "bilinear", scale=step / 10))[~near]
    assert differ.max() <= 2  # of neighbours that differ by thousands
    assert (differ > 0).mean() < 0.1


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("step", [10, 20])
@pytest.mark.parametrize("crs", [UTM31, UTM32, "EPSG:3035"])
def test_a_window_equals_that_window_of_the_whole(sources, method, step, crs):
    grid = around(crs)
    whole = read(sources[step], grid, method)
    for ys, xs in ((slice(0, 133), slice(61, 62)), (slice(177, 310), slice(33, 290)), (slice(399, 400), slice(0, 400))):
        np.testing.assert_array_equal(read(sources[step], grid[ys, xs], method), whole[ys, xs])


def test_gdal_as_it_comes_depends_on_the_window(sources):
    """Why GDAL's warper is not used: a window between two zones differs from that window of the whole."""
    grid = around(UTM32)
    window = grid[100:300, 120:290]

    def warped(box):
        options = {"crs": UTM32, "transform": box.affine, "width": box.shape.x, "height": box.shape.y, "src_nodata": 0}
        with rasterio.open(sources[20]) as raster, WarpedVRT(raster, resampling=Resampling.bilinear, **options) as vrt:
            return vrt.read(1)

    assert (warped(grid)[100:300, 120:290] != warped(window)).any()


def test_every_pixel_says_where_it_came_from(tmp_path):
    """Unique numbers: with 20 m pixels on a 10 m grid each source pixel must fill exactly its own four."""
    numbers = np.arange(1, 30 * 40 + 1, dtype=np.uint16).reshape(30, 40)
    write_band(tmp_path / "unique.tif", numbers, Affine(20, 0, LEFT, 0, -20, TOP), UTM31)
    grid = GeoBox((60, 80), Affine(10, 0, LEFT, 0, -10, TOP), UTM31)
    repeated = np.repeat(np.repeat(numbers, 2, axis=0), 2, axis=1)
    np.testing.assert_array_equal(read(tmp_path / "unique.tif", grid, "nearest"), repeated)
    # one grid pixel further right and down: the grid begins in the middle of a source pixel
    moved = grid[1:, 1:]
    np.testing.assert_array_equal(read(tmp_path / "unique.tif", moved, "nearest"), repeated[1:, 1:])


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-7, 5)])
def test_whole_pixel_shifts_take_the_pixel_that_is_there(tmp_path, shift):
    numbers = np.arange(1, 50 * 50 + 1, dtype=np.uint16).reshape(50, 50)
    write_band(tmp_path / "unique.tif", numbers, Affine(10, 0, LEFT, 0, -10, TOP), UTM31)
    down, right = shift
    grid = GeoBox((50, 50), Affine(10, 0, LEFT + right * 10, 0, -10, TOP - down * 10), UTM31)
    expected = np.zeros((80, 80), np.uint16)
    expected[15:65, 15:65] = numbers
    expected = expected[15 + down : 65 + down, 15 + right : 65 + right]
    for method in ("nearest", "bilinear"):
        np.testing.assert_array_equal(read(tmp_path / "unique.tif", grid, method), expected)


def test_between_zones_each_pixel_takes_the_source_under_its_centre(tmp_path):
    numbers = np.arange(1, 200 * 200 + 1, dtype=np.uint16).reshape(200, 200)
    write_band(tmp_path / "unique.tif", numbers, Affine(10, 0, LEFT, 0, -10, TOP), UTM31)
    (x,), (y,) = rasterio.warp.transform(UTM31, UTM32, [LEFT + 1000], [TOP - 1000])
    grid = GeoBox((50, 60), Affine(10, 0, round(x / 10) * 10, 0, -10, round(y / 10) * 10), UTM32)
    rows, cols = np.mgrid[0:50, 0:60]
    xs, ys = grid.affine * (cols + 0.5, rows + 0.5)
    back_x, back_y = rasterio.warp.transform(UTM32, UTM31, xs.ravel().tolist(), ys.ravel().tolist())
    source_cols = np.floor((np.array(back_x) - LEFT) / 10).astype(int)
    source_rows = np.floor((TOP - np.array(back_y)) / 10).astype(int)
    expected = numbers[source_rows, source_cols].reshape(50, 60)
    np.testing.assert_array_equal(read(tmp_path / "unique.tif", grid, "nearest"), expected)


def test_coarser_grids_take_the_mean_of_what_has_data(tmp_path):
    random = np.random.default_rng(1)
    pixels = random.integers(1, 10000, (60, 60)).astype(np.uint16)
    pixels[random.random(pixels.shape) < 0.3] = 0
    pixels[:6, :6] = 0
    write_band(tmp_path / "ten.tif", pixels, Affine(10, 0, LEFT, 0, -10, TOP), UTM31)
    grid = GeoBox((20, 20), Affine(30, 0, LEFT, 0, -30, TOP), UTM31)
    blocks = np.where(pixels == 0, np.nan, pixels).reshape(20, 3, 20, 3)
    with np.errstate(invalid="ignore"):
        mean = np.nansum(blocks, axis=(1, 3)) / (~np.isnan(blocks)).sum(axis=(1, 3))
    expected = np.floor(np.nan_to_num(mean) + 0.5).astype(np.uint16)
    assert (expected[:2, :2] == 0).all()
    np.testing.assert_array_equal(read(tmp_path / "ten.tif", grid, "bilinear"), expected)
    np.testing.assert_array_equal(read(tmp_path / "ten.tif", grid[7:13, 5:6], "bilinear"), expected[7:13, 5:6])


def test_a_source_the_other_crs_cannot_reach_gives_no_data(tmp_path):
    write_band(tmp_path / "far.tif", np.ones((20, 20), np.uint16), Affine(10, 0, LEFT, 0, -10, TOP), UTM31)
    grid = GeoBox((10, 10), Affine(10, 0, 500000, 0, -10, 7000000), "EPSG:32755")  # Australia's zone
    assert not read(tmp_path / "far.tif", grid, "bilinear").any()
    assert not read(tmp_path / "far.tif", around(UTM31)[:1, :1], "nearest").any()
