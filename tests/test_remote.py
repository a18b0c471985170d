"""Scenes over HTTP from a server that fails: the same bytes, or an error that names item and asset."""

import dataclasses
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import rasterio
from affine import Affine
from flaky_server import FAULTS, FlakyServer, healthy, serving, sometimes
from odc.geo.geobox import GeoBox
from scene_fixture import make_scene

from timesenmap.catalogs.profiles import load_profile
from timesenmap.catalogs.scenes import Scene
from timesenmap.pipeline.errors import SceneReadError
from timesenmap.pipeline.grid import tiles
from timesenmap.pipeline.observe import composite_tile
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.read import AssetSource, read_asset

GRID = GeoBox((48, 48), Affine(10, 0, 600080, 0, -10, 5599960), "EPSG:32631")
# As the profile of any service says, but not as patient: these servers are near, and their faults are made.
GDAL = {**load_profile("earth-search").gdal, "GDAL_HTTP_RETRY_DELAY": "0.001", "GDAL_HTTP_TIMEOUT": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def scenes(folder) -> list[Scene]:
    return [
        make_scene(folder, name=f"S2_{day:02d}", when=f"2020-07-{day:02d}T10:00:00Z", seed=day) for day in (2, 12, 22)
    ]


def served(scene: Scene, server: FlakyServer, folder: Path) -> Scene:
    """The same scene with addresses of a server: GDAL, which keeps what it read by address, has not seen it before."""
    item = scene.item.clone()
    for asset in item.assets.values():
        asset.href = f"{server.url}/{quote(str(Path(asset.href).relative_to(folder)))}"
    return dataclasses.replace(scene, item=item)


def july(scenes):
    (tile,) = tiles(GRID, 1024)
    reflectance, clear = composite_tile(scenes, GRID, tile, Period.of(year=2020), gdal=GDAL)
    return reflectance[6], clear[6]


def source(server: FlakyServer, asset: str = "B04") -> AssetSource:
    return AssetSource("S2_02", asset, f"{server.url}/S2_02/{asset}.tif")


def test_over_http_the_same_bytes_as_from_disk(scenes, folder):
    with serving(folder) as server:
        over_http = july([served(scene, server, folder) for scene in scenes])
        assert sum(asked.startswith("GET") for asked in server.asked) == 33
    for one, expected in zip(over_http, july(scenes), strict=True):
        np.testing.assert_array_equal(one, expected)
    assert (over_http[1] == 3).all()


@pytest.mark.parametrize("numbers", [{0}, {0, 1}], ids=["once", "twice"])
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_survived(scenes, folder, fault, numbers):
    with serving(folder, lambda path, number: fault if number in numbers else None) as server:
        pixels = read_asset(source(server), GRID, method="bilinear", gdal=GDAL)
        assert server.faults[fault]
    np.testing.assert_array_equal(
        pixels, read_asset(AssetSource("", "", scenes[0].href("B04")), GRID, method="bilinear")
    )


def test_broken_bytes_are_not_served_again(tmp_path):
    """GDAL keeps them by address: a second read must not fail for what the first one got."""
    random = np.random.default_rng(0)
    pixels = random.integers(1, 10000, (1024, 1024)).astype(np.uint16)
    profile = {"width": 1024, "height": 1024, "count": 1, "dtype": "uint16", "crs": "EPSG:32631", "blocksize": 128}
    with rasterio.open(
        tmp_path / "large.tif", "w", driver="COG", transform=GRID.affine, compress="deflate", **profile
    ) as raster:
        raster.write(pixels, 1)
    grid = GeoBox((600, 800), Affine(10, 0, 600080 + 1000, 0, -10, 5599960 - 1000), GRID.crs)
    for number in range(2):  # the header; pixels
        for fault in ("truncated", "short", "garbage"):
            with serving(tmp_path, lambda path, n, k=number, fault=fault: fault if n == k else None) as server:
                got = AssetSource("large", "B04", f"{server.url}/large.tif")
                np.testing.assert_array_equal(
                    read_asset(got, grid, method="bilinear", gdal=GDAL), pixels[100:700, 100:900]
                )
                assert server.faults == Counter({fault: 1})


def test_a_year_through_a_bad_day_has_the_same_bytes(scenes, folder):
    """One request in five fails, one in ten breaks off."""
    with serving(folder) as server:
        expected = july([served(scene, server, folder) for scene in scenes])
    faults: Counter[str] = Counter()
    for seed in range(2):
        with serving(folder, sometimes(seed, failing=0.2, truncated=0.1)) as server:
            got = july([served(scene, server, folder) for scene in scenes])
            faults += server.faults
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    assert faults["truncated"]
    assert faults["reset"]
    assert faults.total() > 10


@pytest.mark.parametrize("fault", ["500", "reset", "truncated", "garbage"])
def test_a_permanently_broken_asset_is_named(scenes, folder, fault):
    with serving(folder, lambda path, number: fault if path == "/S2_12/B11.tif" else None) as server:
        with pytest.raises(SceneReadError) as raised:
            july([served(scene, server, folder) for scene in scenes])
        assert server.asked["GET /S2_12/B11.tif"] < 120
    assert f"item S2_12, asset B11 at {server.url}/S2_12/B11.tif: cannot be read" in str(raised.value)


def test_what_is_not_there_is_not_asked_for_again(folder, scenes):
    with serving(folder, healthy) as server:
        with pytest.raises(SceneReadError, match=r"asset B99 .*404"):
            read_asset(source(server, "B99"), GRID, method="bilinear", gdal=GDAL)
        assert server.asked.total() <= 2


def test_local_files_are_read_once(scenes, tmp_path, monkeypatch):
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"no raster")
    opened = []
    monkeypatch.setattr(rasterio, "open", lambda *args, **options: opened.append(args) or rasterio_open(*args))
    with pytest.raises(SceneReadError, match="item S2, asset B04"):
        read_asset(AssetSource("S2", "B04", str(broken)), GRID, method="bilinear")
    assert len(opened) == 1


rasterio_open = rasterio.open
