"""A large map opened over HTTP: how few of its bytes a picture takes."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from flaky_server import serving
from odc.geo.geobox import GeoBox
from rio_cogeo import cog_validate

from timesenmap.pipeline.legend import LegendEntry
from timesenmap.pipeline.rasters import write_class_map

pytestmark = pytest.mark.integration

SIDE = 10_000
CLASSES = [LegendEntry(code, f"class {code}", f"#{code * 30:02x}8844") for code in range(1, 9)]


@pytest.fixture(scope="module")
def class_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10,000 x 10,000 pixels: fields of 20 pixels on a side, and one pixel in fifty of another class."""
    rng = np.random.default_rng(17)
    values = np.kron(rng.integers(1, 9, (500, 500), np.uint8), np.ones((20, 20), np.uint8))
    odd = rng.random((SIDE, SIDE), np.float32) < 0.02
    values[odd] = rng.integers(1, 9, int(odd.sum()), np.uint8)
    path = tmp_path_factory.mktemp("maps") / "land-cover.tif"
    grid = GeoBox((SIDE, SIDE), Affine(10, 0, 3_000_000, 0, -10, 4_000_000), "EPSG:3035")
    write_class_map(path, values, grid, CLASSES, tags={"TITLE": "Land cover"})
    return path


def test_a_large_map_is_a_strictly_valid_cog(class_map: Path) -> None:
    assert cog_validate(class_map, strict=True, quiet=True) == (True, [], [])


def test_a_preview_reads_less_than_one_percent(class_map: Path) -> None:
    size = class_map.stat().st_size
    with serving(class_map.parent) as server, rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        with rasterio.open(f"/vsicurl/{server.url}/{class_map.name}") as source:
            preview = source.read(1, out_shape=(250, 250))
        sent = server.sent
    with rasterio.open(class_map) as source:
        np.testing.assert_array_equal(preview, source.read(1, out_shape=(250, 250)))
    assert np.unique(preview).size == 8
    assert size > 5_000_000
    assert sent < 0.01 * size, f"{sent} of {size} bytes"
    print(f"{sent} of {size} bytes")


def test_a_window_reads_the_blocks_it_meets(class_map: Path) -> None:
    size = class_map.stat().st_size
    with serving(class_map.parent) as server, rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        with rasterio.open(f"/vsicurl/{server.url}/{class_map.name}") as source:
            window = source.read(1, window=((5200, 5400), (5200, 5400)))
        sent = server.sent
    with rasterio.open(class_map) as source:
        np.testing.assert_array_equal(window, source.read(1, window=((5200, 5400), (5200, 5400))))
    assert sent < 0.02 * size, f"{sent} of {size} bytes"
