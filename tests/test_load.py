import dataclasses
import pickle
from pathlib import Path

import dask
import numpy as np
import pytest
import rasterio
import rasterio.warp
from affine import Affine
from odc.geo.geobox import GeoBox
from scene_fixture import TEN_METRES, make_scene, pixel_size, write_band

from timesenmap.catalogs.bands import BANDS, SCL
from timesenmap.catalogs.scenes import Scene
from timesenmap.catalogs.search import find_scenes
from timesenmap.pipeline.aoi import read_aoi
from timesenmap.pipeline.errors import SceneReadError
from timesenmap.pipeline.grid import equal_area_crs, grid_for
from timesenmap.pipeline.load import load_scenes
from timesenmap.pipeline.observe import scenes_near
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.read import AssetSource

READERS = ("stackstac", "odc")
GRID = GeoBox((64, 64), Affine(10, 0, 600000, 0, -10, 5600040), "EPSG:32631")


@pytest.fixture(scope="module")
def july(belgium: Path) -> tuple[list[Scene], GeoBox]:
    """Real scenes of July 2018 and the grid of their place."""
    aoi = read_aoi("501360,5629040,502000,5629680", crs="EPSG:32631")
    period = Period.of(start="2018-07")
    found = find_scenes(str(belgium), area=aoi.geometry, start=period.start, end=Period.of(start="2018-08").start)
    return [scene for scene in found.scenes if period.month_of(scene.datetime) == 0], grid_for(aoi)


def raw(scene: Scene, band: str) -> np.ndarray:
    with rasterio.open(scene.href(band)) as raster:
        return raster.read(1)


def bilinear_twice(pixels: np.ndarray) -> np.ndarray:
    """20 m to 10 m by hand: 9, 3, 3 and 1 sixteenths of the pixels around; the border repeated; half up."""
    padded = np.pad(pixels.astype(np.int64), 1, mode="edge")
    height, width = pixels.shape
    result = np.zeros((2 * height, 2 * width), np.int64)
    for down in (0, 1):
        for right in (0, 1):
            near = padded[1:-1, 1:-1]
            beside = padded[1:-1, 2 * right : 2 * right + width]
            above = padded[2 * down : 2 * down + height, 1:-1]
            across = padded[2 * down : 2 * down + height, 2 * right : 2 * right + width]
            result[down::2, right::2] = (9 * near + 3 * beside + 3 * above + across + 8) // 16
    return result.astype(np.uint16)


def test_real_scenes_equal_a_plain_read(july):
    scenes, grid = july
    assert len(scenes) > 5
    dn, scl = load_scenes(scenes, grid, chunk=40)
    assert dn.dtype == np.uint16
    assert dn.dims == ("time", "band", "y", "x")
    assert scl.dtype == np.uint8
    assert scl.dims == ("time", "y", "x")
    dn, scl = dask.compute(dn, scl)
    for number, scene in enumerate(scenes):
        for band in BANDS:
            pixels = raw(scene, band)
            assert (pixels > 0).all()  # the oracle below knows no data only as a whole
            expected = pixels if band in TEN_METRES else bilinear_twice(pixels)
            np.testing.assert_array_equal(dn.sel(band=band)[number], expected, err_msg=f"{scene.id} {band}")
        expected = np.repeat(np.repeat(raw(scene, SCL), 2, axis=0), 2, axis=1)
        np.testing.assert_array_equal(scl[number], expected, err_msg=scene.id)


def test_both_libraries_give_the_same(july):
    scenes, grid = july
    arrays = [dask.compute(*load_scenes(scenes, grid, chunk=48, reader=reader)) for reader in READERS]
    for one, other in zip(*arrays, strict=True):
        assert one.identical(other)


@pytest.mark.parametrize("reader", READERS)
def test_order_coordinates_and_types(tmp_path, reader):
    when = ["2020-06-20T10:00:00Z", "2020-06-10T10:00:00.123Z", "2020-06-20T10:00:00Z"]  # unsorted, and one time twice
    scenes = [make_scene(tmp_path, name=f"s{i}", when=moment, seed=i) for i, moment in enumerate(when)]
    dn, scl = load_scenes(scenes, GRID, chunk=50, reader=reader)
    assert dn.chunks == ((3,), (10,), (50, 14), (50, 14))
    assert scl.chunks == ((3,), (50, 14), (50, 14))
    assert dn.id.values.tolist() == ["s0", "s1", "s2"]
    expected = np.array(["2020-06-20T10:00", "2020-06-10T10:00:00.123", "2020-06-20T10:00"], "datetime64[ns]")
    np.testing.assert_array_equal(dn.time.values, expected)
    assert dn.band.values.tolist() == list(BANDS)
    np.testing.assert_array_equal(dn.x, 600005 + 10 * np.arange(64))
    np.testing.assert_array_equal(dn.y, 5600035 - 10 * np.arange(64))
    for array in (dn, scl):
        assert not any(coord.dtype.hasobject for coord in array.coords.values())
    computed = dn.compute()
    for number, scene in enumerate(scenes):
        np.testing.assert_array_equal(computed[number].sel(band="B08"), raw(scene, "B08"))


@pytest.mark.parametrize("reader", READERS)
def test_outside_the_scene_there_is_no_data(tmp_path, reader):
    scene = make_scene(tmp_path, size=32)
    grid = GeoBox((40, 48), Affine(10, 0, 600000 - 80, 0, -10, 5600040 + 40), "EPSG:32631")
    dn, scl = dask.compute(*load_scenes([scene], grid, reader=reader))
    covered = np.zeros((40, 48), bool)
    covered[4:36, 8:40] = True
    np.testing.assert_array_equal(scl[0] == 4, covered)
    np.testing.assert_array_equal(scl[0] == 0, ~covered)
    for band in BANDS:
        np.testing.assert_array_equal(dn.sel(band=band)[0] > 0, covered)


@pytest.mark.parametrize("nodata", [None, 0, 9999])
def test_zero_is_no_data_whatever_the_tag_says(tmp_path, nodata):
    pixels = np.full((32, 32), 1000, np.uint16)
    pixels[10:12, 10:12] = 0
    pixels[20, 20] = 9999
    scene = make_scene(tmp_path, nodata=nodata, bands={"B11": pixels})
    dn = load_scenes([scene], GRID)[0].sel(band="B11").compute()[0].values
    hole = np.zeros((64, 64), bool)
    hole[20:24, 20:24] = True
    np.testing.assert_array_equal(dn == 0, hole)
    assert (dn[16:28, 16:28][~hole[16:28, 16:28]] == 1000).all()  # beside the hole nothing is darker
    assert dn[40:42, 40:42].min() > 5000


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("zone", ["EPSG:32631", "EPSG:32632"])
def test_windows_equal_the_whole(tmp_path, reader, zone):
    (x,), (y,) = rasterio.warp.transform("EPSG:32631", zone, [600320], [5599720])
    grid = GeoBox((70, 70), Affine(10, 0, round(x / 10) * 10 - 350, 0, -10, round(y / 10) * 10 + 350), zone)
    scenes = [make_scene(tmp_path, name=name, seed=seed) for seed, name in enumerate("ab")]
    whole = dask.compute(*load_scenes(scenes, grid, reader=reader))
    assert (whole[0] > 0).any()
    for ys, xs, chunk in (
        (slice(0, 33), slice(20, 70), 16),
        (slice(33, 34), slice(0, 70), 512),
        (slice(50, 70), slice(7, 9), 3),
    ):
        parts = dask.compute(*load_scenes(scenes, grid[ys, xs], chunk=chunk, reader=reader))
        for part, array in zip(parts, whole, strict=True):
            assert part.identical(array[..., ys, xs])


@pytest.mark.parametrize(
    ("zones", "place", "target"),
    [
        (("EPSG:32631", "EPSG:32632"), (6.0, 50.5), "EPSG:32631"),
        (("EPSG:32631", "EPSG:32632"), (6.0, 50.5), "EPSG:3035"),
        (("EPSG:32760", "EPSG:32701"), (180.0, -16.5), "EPSG:32701"),
        (("EPSG:32760", "EPSG:32701"), (180.0, -16.5), equal_area_crs(longitude=180, latitude=-17).to_wkt()),
        (("EPSG:32633", "EPSG:32733"), (15.2, 0.0), "EPSG:32733"),
        (("EPSG:32636", "EPSG:32637"), (36.0, 83.0), equal_area_crs(longitude=36, latitude=83).to_wkt()),
    ],
    ids=["zones on UTM", "zones on EPSG:3035", "antimeridian on UTM", "antimeridian on LAEA", "equator", "83 north"],
)
def test_scenes_of_two_zones_meet_without_a_step(tmp_path, zones, place, target):
    """A ramp over the ground, stored once in each zone, comes out the same from both on one grid."""

    def corner(crs):
        (x,), (y,) = rasterio.warp.transform("EPSG:4326", crs, [place[0]], [place[1]])
        return round(x / 20) * 20 - 1280, round(y / 20) * 20 + 1280

    left, top = corner(target)
    scenes = []
    for crs in zones:
        west, north = corner(crs)
        bands = {}
        for band in BANDS:
            step = pixel_size(band)
            places = np.arange(2560 // step) * step + step / 2
            xs, ys = np.meshgrid(west + places, north - places)
            moved = rasterio.warp.transform(crs, target, xs.ravel().tolist(), ys.ravel().tolist())
            x, y = (np.array(values).reshape(xs.shape) for values in moved)
            bands[band] = np.rint(5000 + (x - left) * 0.617 + (y - top) * 0.431).astype(np.uint16)
        scenes.append(make_scene(tmp_path, name=crs[-5:], crs=crs, left=west, top=north, size=256, bands=bands))
    grid = GeoBox((120, 120), Affine(10, 0, left + 680, 0, -10, top - 680), target)
    assert scenes_near(scenes, grid) == scenes
    one, other = load_scenes(scenes, grid)[0].compute().values.astype(int)
    assert (one > 0).all()
    assert (other > 0).all()
    # Bilinear reproduces a ramp: half a pixel of shift would be 2 to 6. Rounding twice makes 1 at most.
    assert np.abs(one - other).max() <= 1
    assert np.abs((one - other).mean(axis=(1, 2))).max() < 0.1
    xs, ys = np.meshgrid(grid.affine.c + np.arange(120) * 10 + 5, grid.affine.f - np.arange(120) * 10 - 5)
    truth = 5000 + (xs - left) * 0.617 + (ys - top) * 0.431
    assert np.abs(one - truth).max() <= 1.01


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("broken", ["missing", "not a raster", "cut short", "three bands", "real numbers", "no CRS"])
def test_what_cannot_be_read_is_named(tmp_path, reader, broken):
    scene = make_scene(tmp_path, name="S2X_TEST", seed=3)
    path = Path(scene.href("B8A"))
    transform = Affine(20, 0, 600000, 0, -20, 5600040)
    match broken:
        case "missing":
            path.unlink()
        case "not a raster":
            path.write_bytes(b"<html>403 Forbidden</html>")
        case "cut short":
            path.write_bytes(path.read_bytes()[:-800])
        case "three bands":
            with rasterio.open(
                path,
                "w",
                driver="GTiff",
                width=32,
                height=32,
                count=3,
                dtype="uint16",
                crs="EPSG:32631",
                transform=transform,
            ):
                pass
        case "real numbers":
            write_band(path, np.ones((32, 32), np.float32), transform, "EPSG:32631")
        case "no CRS":
            write_band(path, np.ones((32, 32), np.uint16), transform, None)
    dn, scl = load_scenes([scene], GRID, reader=reader)
    with pytest.raises(SceneReadError) as raised:
        dn.compute()
    message = str(raised.value)
    for part in ("S2X_TEST", "B8A", str(path), "run the same command again"):
        assert part in message
    assert "\n" not in message
    assert (scl.compute() == 4).all()  # the other assets are untouched
    assert isinstance(pickle.loads(pickle.dumps(raised.value)), SceneReadError)  # it travels between processes


def test_keys_in_addresses_are_not_printed():
    source = AssetSource("S2X", "B04", "https://example.test/B04.tif?sig=SECRET&se=2030")
    message = str(source.failed(OSError("HTTP 403 for https://example.test/B04.tif?sig=SECRET&se=2030")))
    assert "SECRET" not in message
    assert "https://example.test/B04.tif" in message


def test_addresses_survive_any_name():
    source = AssetSource('odd "name" ü', "B04 20m", "s3://bucket/key with space?x=1")
    assert AssetSource.from_address(source.address) == source


@pytest.mark.parametrize("reader", READERS)
def test_a_quotation_mark_in_an_id_is_no_harm(tmp_path, reader):
    scene = make_scene(tmp_path)
    odd = dataclasses.replace(scene, item=scene.item.clone())
    odd.item.id = 'S2 "odd" \\ one'
    for one, other in zip(load_scenes([odd], GRID, reader=reader), load_scenes([scene], GRID), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("reader", READERS)
def test_the_graph_travels(tmp_path, reader):
    """Distributed workers get pickled tasks."""
    dn, _ = load_scenes([make_scene(tmp_path)], GRID, reader=reader)
    again = pickle.loads(pickle.dumps(dn))
    np.testing.assert_array_equal(again.compute(scheduler="sync"), dn.compute())


def test_no_scenes_and_unknown_readers_are_mistakes(tmp_path):
    with pytest.raises(ValueError, match="no scenes"):
        load_scenes([], GRID)
    with pytest.raises(ValueError, match="'gdal': unknown"):
        load_scenes([make_scene(tmp_path)], GRID, reader="gdal")  # type: ignore[arg-type]
