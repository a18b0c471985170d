"""Searching a real STAC API: stac-fastapi over pgstac, on this machine."""

import datetime as dt
import json
import logging
from pathlib import Path

import numpy as np
import pystac
import pytest
import shapely
import yaml
from flaky_server import serving
from pystac_client import Client
from servers import stac_api

from timesenmap.catalogs import CatalogError, find_scenes
from timesenmap.catalogs.profiles import load_profile
from timesenmap.pipeline.aoi import read_aoi
from timesenmap.pipeline.grid import grid_for, tiles
from timesenmap.pipeline.observe import composite_tile
from timesenmap.pipeline.period import Period

pytestmark = pytest.mark.integration
BELGIUM = "belgium-2018"
AREA = shapely.box(3.0200, 50.8140, 3.0275, 50.8180)
DATES = {"start": dt.date(2017, 1, 1), "end": dt.date(2019, 1, 1)}
REAL = {"planetary-computer": "pc__", "earth-search-c1": "e84__sentinel-2-c1-l2a__", "cdse": "cdse__"}


def real_items(shared_data: Path, prefix: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((shared_data / "stac_items").glob(f"{prefix}*.json"))]


@pytest.fixture(scope="module")
def api(belgium, shared_data, tmp_path_factory):
    """Address of an API with the 118 scenes of belgium-2018, read over HTTP, and real items of three services."""
    items = []
    with serving(belgium.parent) as files:
        for item in pystac.Catalog.from_file(str(belgium)).get_items(recursive=True):
            item.make_asset_hrefs_absolute()
            for asset in item.assets.values():
                asset.href = f"{files.url}/{Path(asset.href).relative_to(belgium.parent)}"
            fields = item.to_dict(include_self_link=False, transform_hrefs=False)
            items.append(fields | {"collection": BELGIUM, "links": []})
        for prefix in REAL.values():
            items += real_items(shared_data, prefix)
        collections = sorted({item["collection"] for item in items})
        with stac_api(tmp_path_factory.mktemp("api"), collections, items) as url:
            yield url


def local(name: str, api: str, folder: Path) -> str:
    """Path of a service's profile that asks this server instead of the service's own."""
    fields = load_profile(name).model_dump(mode="json") | {"url": api, "credentials": []}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(fields))
    return str(path)


def test_all_pages_come_and_equal_the_static_catalogue(api, belgium, caplog):
    with caplog.at_level(logging.DEBUG, logger="urllib3"):
        found = find_scenes(api, collection=BELGIUM, area=AREA, **DATES)
    assert sum('"POST /search' in record.getMessage() for record in caplog.records) >= 2  # 118 items in pages of 100
    static = find_scenes(str(belgium), area=AREA, **DATES)
    assert len(static.scenes) == 118
    assert [scene.id for scene in found.scenes] == [scene.id for scene in static.scenes]
    assert [dict(scene.scaling) for scene in found.scenes] == [dict(scene.scaling) for scene in static.scenes]
    for scene, other in zip(found.scenes, static.scenes, strict=True):
        assert scene.href("B04").startswith("http://127.0.0.1:")
        assert other.href("B04").endswith(scene.href("B04").split("/", 3)[3])


def test_the_api_and_the_static_catalogue_give_the_same_cube(api, belgium):
    aoi = read_aoi("501360,5629040,502000,5629680", crs="EPSG:32631")
    period = Period.of(start="2018-07")
    grid = grid_for(aoi)
    (tile,) = tiles(grid, 1024)
    dates = {"start": dt.date(2018, 7, 1), "end": dt.date(2018, 8, 1)}
    one, other = (
        composite_tile(find_scenes(name, area=aoi.geometry, **dates, **more).scenes, grid, tile, period)
        for name, more in ((str(belgium), {}), (api, {"collection": BELGIUM}))
    )
    assert one[1][0].all()
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("cover", [0.0, 5.0, 9.5, 30.0, 100.0])
def test_the_server_sorts_out_cloudy_scenes_by_number(api, belgium, cover):
    """As numbers: as text 9.5 would be more than 30."""
    asked = find_scenes(api, collection=BELGIUM, area=AREA, max_cloud_cover=cover, **DATES)
    static = find_scenes(str(belgium), area=AREA, max_cloud_cover=cover, **DATES)
    assert [scene.id for scene in asked.scenes] == [scene.id for scene in static.scenes]
    # And by the server, not only here afterwards.
    condition = {"op": "<=", "args": [{"property": "eo:cloud_cover"}, cover]}
    matched = (
        Client.open(api).search(collections=[BELGIUM], filter=condition, filter_lang="cql2-json").item_collection()
    )
    assert {item.id for item in matched} == {scene.id for scene in asked.scenes}


def test_days_limit_the_search(api):
    found = find_scenes(api, collection=BELGIUM, area=AREA, start=dt.date(2018, 7, 1), end=dt.date(2018, 7, 2))
    expected = [s.id for s in find_scenes(api, collection=BELGIUM, area=AREA, **DATES).scenes if "_20180701T" in s.id]
    assert [scene.id for scene in found.scenes] == expected
    elsewhere = shapely.box(10, 50, 10.1, 50.1)
    assert find_scenes(api, collection=BELGIUM, area=elsewhere, **DATES).scenes == ()


@pytest.mark.parametrize("name", REAL)
def test_real_items_of_the_services_come_back_as_scenes(name, api, shared_data, tmp_path):
    items = real_items(shared_data, REAL[name])
    profile = local(name, api, tmp_path)
    for fields in items:
        when = dt.datetime.fromisoformat(fields["properties"]["datetime"]).date()
        area = shapely.geometry.shape(fields["geometry"]).representative_point().buffer(0.001)
        found = find_scenes(profile, area=area, start=when, end=when + dt.timedelta(days=1))
        assert fields["id"] in {scene.id for scene in found.scenes} | {refused.id for refused in found.refused}
        for scene in found.scenes:
            carries = scene.scaling["B04"].offset == -0.1
            assert carries == (scene.datetime.year >= 2024)


def test_an_unknown_collection_is_named(api):
    with pytest.raises(CatalogError, match=r"no collection sentinel-9 \(it has "):
        find_scenes(api, collection="sentinel-9", area=AREA, **DATES)
    with pytest.raises(CatalogError, match=r"several collections .*--collection"):
        find_scenes(api, area=AREA, **DATES)
