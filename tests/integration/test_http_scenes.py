"""Half a year of real scenes over HTTP on a bad day: one request in twenty fails, one in a hundred breaks off."""

import datetime as dt

import numpy as np
import pytest
import rasterio
from flaky_server import serving, sometimes

from timesenmap.catalogs import find_scenes
from timesenmap.catalogs.profiles import load_profile
from timesenmap.pipeline.aoi import read_aoi
from timesenmap.pipeline.composite import SCL_SET_ASIDE
from timesenmap.pipeline.errors import SceneReadError
from timesenmap.pipeline.grid import grid_for, tiles
from timesenmap.pipeline.observe import composite_tile
from timesenmap.pipeline.period import Period

pytestmark = pytest.mark.integration
GDAL = {**load_profile("earth-search").gdal, "GDAL_HTTP_RETRY_DELAY": "0.01", "GDAL_HTTP_TIMEOUT": "5"}


def cube(catalog: str, *, months: int = 6):
    """The cube of belgium-2018 from December 2017 on in tiles of 32 pixels: each file is read four times."""
    aoi = read_aoi("501360,5629040,502000,5629680", crs="EPSG:32631")
    period = Period.of(start="2017-12")
    end = dt.date(2018, months, 1)
    found = find_scenes(catalog, area=aoi.geometry, start=period.start, end=end)
    grid = grid_for(aoi)
    parts = [composite_tile(found.scenes, grid, tile, period, gdal=GDAL) for tile in tiles(grid, 32)]
    return [np.concatenate([part[i].reshape(-1) for part in parts]) for i in (0, 1)]


def test_a_bad_day_changes_no_byte(belgium):
    with serving(belgium.parent) as server:
        expected = cube(f"{server.url}/catalog.json")
    # No faults in the catalogue's own files: how a search survives them is tested with the search.
    plan = sometimes(11, failing=0.05, truncated=0.01)
    with serving(belgium.parent, lambda path, number: plan(path, number) if path.endswith(".tif") else None) as server:
        got = cube(f"{server.url}/catalog.json")
    for one, other, disk in zip(got, expected, cube(str(belgium)), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, disk)
    asked = sum(count for name, count in server.asked.items() if name.endswith(".tif"))
    assert asked > 500
    assert 0.03 < server.faults.total() / asked < 0.08
    assert server.faults["truncated"] >= 3


def shows_ground(scene):
    """Whether anything of a scene is clear: bands of others are not read."""
    with rasterio.open(scene / "SCL.tif") as classes:
        return not np.isin(classes.read(1), list(SCL_SET_ASIDE)).all()


@pytest.mark.parametrize("fault", ["500", "truncated"])
def test_a_permanently_broken_asset_is_named(belgium, fault):
    name = min(path.name for path in belgium.parent.glob("S2_201712*") if shows_ground(path))
    plan = {f"/{name}/B8A.tif": fault}
    with (
        serving(belgium.parent, lambda path, number: plan.get(path)) as server,
        pytest.raises(SceneReadError) as raised,
    ):
        cube(f"{server.url}/catalog.json", months=1)
    assert f"item {name}, asset B8A at {server.url}/{name}/B8A.tif: cannot be read" in str(raised.value)
