"""Bands are found behind every service's asset keys; profiles are checked field by field; scenes item by item."""

import datetime as dt
import json
import pickle
import warnings
from pathlib import Path

import pystac
import pytest
import shapely
import yaml

from timesenmap.catalogs import (
    BANDS,
    SCL,
    CatalogError,
    Scaling,
    find_asset,
    load_profile,
    profile_names,
    scene_from_item,
)
from timesenmap.catalogs.aws_profiles import AWS_KEYS

COMMON = dict(
    zip(
        (*BANDS, SCL),
        ["blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22", "scl"],
        strict=True,
    )
)
TEN_METRES = ("B02", "B03", "B04", "B08")


def read_item(path: Path, *, href: str | None = None) -> pystac.Item:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pystac.Item.from_dict(json.loads(path.read_text()), href=href)


def real_item(shared_data: Path, start: str) -> pystac.Item:
    return read_item(next((shared_data / "stac_items").glob(f"{start}*.json")))


def make_item(**changes) -> pystac.Item:
    """A complete item of our own, in the style of a static catalogue; `changes` replace top-level fields."""
    fields = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"],
        "id": "scene-1",
        "geometry": shapely.geometry.mapping(shapely.box(3.0, 50.0, 3.1, 50.1)),
        "bbox": [3.0, 50.0, 3.1, 50.1],
        "properties": {
            "datetime": "2023-06-01T12:00:00+02:00",
            "platform": "sentinel-2a",
            "s2:processing_baseline": "05.09",
            "proj:epsg": 32631,
        },
        "links": [],
        "assets": {key: {"href": f"./{key}.tif", "roles": ["data"]} for key in (*BANDS, SCL)},
    }
    return pystac.Item.from_dict({**fields, **changes}, href="/data/scene-1/scene-1.json")


# --- bands -----------------------------------------------------------------------------------------------------------


def test_band_order_is_that_of_the_cube():
    assert BANDS == ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")


@pytest.mark.parametrize(
    ("start", "keys"),
    [
        ("pc__", {band: band for band in COMMON}),
        ("e84__sentinel-s2-l2a-cogs", {band: band for band in COMMON}),
        ("e84__sentinel-2-l2a", COMMON),
        ("e84__sentinel-2-c1-l2a", COMMON),
        ("stactools__S2A_MSIL2A_2019", COMMON),
        ("cdse__", {band: f"{band}_{10 if band in TEN_METRES else 20}m" for band in COMMON}),
    ],
)
def test_every_band_of_every_service(shared_data, start, keys):
    item = real_item(shared_data, start)
    assert {band: find_asset(item, band) for band in COMMON} == keys


def test_band_is_found_by_the_name_its_asset_declares():
    assets = {
        "coarse": {"href": "a", "gsd": 60, "roles": ["data"], "eo:bands": [{"name": "B05"}]},
        "fine": {"href": "b", "gsd": 20, "roles": ["data"], "bands": [{"name": "b05"}]},
        "picture": {"href": "c", "gsd": 10, "roles": ["visual"], "eo:bands": [{"name": "B05"}]},
        "stack": {"href": "d", "gsd": 10, "roles": ["data"], "eo:bands": [{"name": "B05"}, {"name": "B06"}]},
    }
    item = make_item(assets=assets)
    assert find_asset(item, "B05") == "fine"
    assert find_asset(item, "B06") is None


# --- profiles --------------------------------------------------------------------------------------------------------


def test_shipped_profiles_and_their_keys(shared_data):
    assert profile_names() == ("cdse", "earth-search", "earth-search-c1", "planetary-computer")
    starts = ("cdse__", "e84__sentinel-2-l2a", "e84__sentinel-2-c1-l2a", "pc__")
    for name, start in zip(profile_names(), starts, strict=True):
        profile = load_profile(name)
        item = real_item(shared_data, start)
        assert profile.name == name
        assert profile.kind == "api"
        assert item.collection_id in profile.collections
        # The item's own link leads to the API of the profile.
        assert item.get_self_href().startswith(f"{profile.url}/")
        scene = scene_from_item(item, profile)
        assert all(key in item.assets for key in scene.assets.values())
        assert all(isinstance(value, str) for value in profile.gdal.values())


def test_signing_and_credentials_are_stated():
    assert load_profile("planetary-computer").signing == "planetary-computer"
    assert load_profile("earth-search").signing == "none"
    assert load_profile("cdse").credentials == AWS_KEYS


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, False),  # the default profile is not meant for this service
        ({"AWS_PROFILE": "cdse"}, True),
        ({"AWS_DEFAULT_PROFILE": "cdse"}, True),
        ({"AWS_PROFILE": "half"}, False),
        ({"AWS_PROFILE": "empty"}, False),
        ({"AWS_PROFILE": "cdes"}, False),
        ({"AWS_PROFILE": "cdse", "AWS_SHARED_CREDENTIALS_FILE": "nowhere"}, False),
        ({"AWS_PROFILE": "cdse", "AWS_SHARED_CREDENTIALS_FILE": __file__}, False),
        ({"AWS_PROFILE": "half", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, True),
    ],
)
def test_keys_may_be_in_a_named_profile(tmp_path, monkeypatch, environment, found):
    for name in (*AWS_KEYS, "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": str(tmp_path), **environment}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id=a\naws_secret_access_key=b\n"
        "[cdse]\naws_access_key_id = a\naws_secret_access_key = b%%c\n"
        "[half]\naws_access_key_id = a\n"
        "[empty]\naws_access_key_id = a\naws_secret_access_key =\n"
    )
    assert load_profile("cdse").missing_credentials() == (() if found else AWS_KEYS)


def test_profile_of_an_url_a_file_and_a_folder(tmp_path):
    api = load_profile("https://stac.example.org/v1", collection="s2-l2a")
    assert (api.kind, api.url, api.collections) == ("api", "https://stac.example.org/v1", ("s2-l2a",))
    assert load_profile("https://example.org/archive/catalog.json").kind == "static"
    file = tmp_path / "catalog.json"
    file.write_text("{}")
    for given in (tmp_path, file):
        profile = load_profile(str(given))
        assert (profile.kind, profile.url) == ("static", str(file.resolve()))
    assert load_profile("earth-search", collection="sentinel-2-c1-l2a").collections == ("sentinel-2-c1-l2a",)


def test_address_of_a_known_service_is_its_profile():
    microsoft = "https://planetarycomputer.microsoft.com/api/stac/v1"
    assert load_profile(microsoft) == load_profile(f"{microsoft}/") == load_profile("planetary-computer")
    element84 = "https://earth-search.aws.element84.com/v1"
    assert load_profile(element84, collection="sentinel-2-c1-l2a") == load_profile("earth-search-c1")
    assert load_profile(element84).collections == ()  # it has two that would do: the search asks for --collection
    other = load_profile(microsoft, collection="landsat-c2-l2")
    assert (other.name, other.collections) == (microsoft, ("landsat-c2-l2",))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("earthsearch", r"unknown catalogue 'earthsearch': did you mean earth-search\?"),
        ("nowhere", r"unknown catalogue 'nowhere': known are cdse, earth-search, earth-search-c1, planetary-computer"),
        ("generic", r"unknown catalogue 'generic'"),
        ("missing/catalog.json", r"catalogue file missing/catalog\.json does not exist"),
    ],
)
def test_unknown_catalogues(given, said):
    with pytest.raises(CatalogError, match=said) as caught:
        load_profile(given)
    assert "\n" not in str(caught.value)


def test_folder_without_catalogue(tmp_path):
    with pytest.raises(CatalogError, match=r"holds no catalog\.json"):
        load_profile(str(tmp_path))


def own_profile(folder: Path, text: str | None = None, **changes) -> str:
    fields = {
        "name": "mine",
        "title": "My service",
        "kind": "api",
        "url": "https://stac.example.org",
        "collections": ["s2"],
        "assets": {band: [band.lower()] for band in COMMON},
    }
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({**fields, **changes}) if text is None else text)
    return str(file)


def test_a_profile_of_ones_own(tmp_path):
    profile = load_profile(own_profile(tmp_path))
    assert profile.name == "mine"
    assert profile.assets["B8A"] == ("b8a",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"colections": ["s2"]}, r"colections: Extra inputs are not permitted"),
        ({"assets": {band: [band] for band in COMMON if band != "B8A"}}, r"assets: .*no asset key for B8A"),
        ({"assets": {band: [band] for band in COMMON if band != SCL}}, r"assets: .*no asset key for SCL"),
        ({"assets": {band: [] if band == "B05" else [band] for band in COMMON}}, r"assets: .*no asset key for B05"),
        ({"assets": {band: [band] for band in (*COMMON, "B99")}}, r"assets: .*unknown band B99"),
        ({"kind": "wms"}, r"kind: Input should be 'api' or 'static'"),
        ({"url": None}, r"url: a STAC API needs its address"),
        ({"page_size": 0}, r"page_size: Input should be greater than or equal to 1"),
        ({"gdal": {"AWS_SECRET_ACCESS_KEY": "x"}}, r"gdal: .*AWS_SECRET_ACCESS_KEY is a credential: set it in the env"),
        ({"gdal": {"GDAL_HTTP_MAX_RETRY": [1]}}, r"gdal\.GDAL_HTTP_MAX_RETRY: Input should be a valid string"),
    ],
)
def test_wrong_profiles_name_the_field(tmp_path, changes, said):
    file = own_profile(tmp_path, **changes)
    with pytest.raises(CatalogError, match=said) as caught:
        load_profile(file)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "said"), [("a: [", "is no YAML"), ("- a", "holds no fields")])
def test_files_that_are_no_profile(tmp_path, text, said):
    with pytest.raises(CatalogError, match=said) as caught:
        load_profile(own_profile(tmp_path, text))
    assert "\n" not in str(caught.value)


# --- scenes ----------------------------------------------------------------------------------------------------------

STATIC = "https://example.org/catalog.json"  # any: the profile only tells where to look for assets


def test_scene_of_a_static_item():
    scene = scene_from_item(make_item(), load_profile(STATIC))
    assert scene.id == "scene-1"
    assert scene.datetime == dt.datetime(2023, 6, 1, 10, tzinfo=dt.UTC)
    assert scene.datetime.utcoffset() == dt.timedelta(0)
    assert scene.href("B04") == "/data/scene-1/B04.tif"
    assert scene.href(SCL) == "/data/scene-1/SCL.tif"
    assert scene.crs == "EPSG:32631"
    assert scene.footprint.equals(shapely.box(3.0, 50.0, 3.1, 50.1))
    assert scene.scaling == {band: Scaling(1e-4, -0.1) for band in BANDS}


def test_scene_of_an_item_made_in_python():
    item = make_item()
    when = dt.datetime(2023, 6, 1, 10)  # pystac takes naive times for UTC
    made = pystac.Item("made", item.geometry, item.bbox, when, properties_without("datetime"))
    for key, asset in item.assets.items():
        made.add_asset(key, asset.clone())
    made.set_self_href("/data/made.json")
    assert scene_from_item(made, load_profile(STATIC)).datetime == dt.datetime(2023, 6, 1, 10, tzinfo=dt.UTC)


def test_scene_leaves_its_item_alone_and_forgets_its_catalogue():
    item = make_item(links=[{"rel": "root", "href": "https://nowhere.invalid/v1", "type": "application/json"}])
    scene = scene_from_item(item, load_profile(STATIC))
    assert item.assets["B04"].href == "./B04.tif"
    # With the root link kept, this would try to open a connection.
    assert [link["rel"] for link in scene.item.to_dict()["links"]] == ["self"]
    again = pickle.loads(pickle.dumps(scene))
    assert again.href("B8A") == scene.href("B8A")
    assert again.scaling == scene.scaling


@pytest.mark.parametrize(("field", "value"), [("proj:epsg", 32733), ("proj:code", "EPSG:32733")])
def test_projection_by_either_version_of_the_extension(field, value):
    properties = {"datetime": "2023-06-01T00:00:00Z", "s2:processing_baseline": "05.09", field: value}
    scene = scene_from_item(make_item(properties=properties), load_profile(STATIC))
    assert scene.crs == "EPSG:32733"


def test_projection_stated_on_the_assets(shared_data):
    scene = scene_from_item(real_item(shared_data, "cdse__"), load_profile("cdse"))
    assert scene.crs == "EPSG:32655"
    assert scene.href("B04").startswith("s3://eodata/")


def test_scenes_of_all_services_are_surface_reflectance(shared_data):
    for path in sorted((shared_data / "stac_items").glob("*L1C*.json")):
        with pytest.raises(CatalogError, match="Level-1C"):
            scene_from_item(read_item(path), load_profile(STATIC))


def properties_without(*names: str) -> dict:
    return {name: value for name, value in make_item().to_dict()["properties"].items() if name not in names}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"geometry": None}, r"scene-1 has no geometry"),
        ({"geometry": {"type": "Point", "coordinates": [3, 50]}}, r"no area"),
        ({"geometry": {"type": "Polygon"}}, r"cannot be read"),
        ({"properties": properties_without("proj:epsg", "proj:code")}, r"scene-1, asset B02: no projection"),
        (
            {"assets": {band: {"href": f"./{band}.tif"} for band in COMMON if band != "B11"}},
            r"scene-1 has no asset for B11 \(tried B11, B11_20m, swir16; it has B02",
        ),
        ({"assets": {band: {"href": f"./{band}.tif"} for band in BANDS}}, r"scene-1 has no asset for SCL"),
        (
            {
                "assets": {
                    band: {"href": f"./{band}.tif", "raster:bands": [{"offset": 0 if band == "B12" else -0.1}]}
                    for band in COMMON
                }
            },
            r"scene-1, asset B12: declares offset 0",
        ),
        (
            {
                "properties": properties_without("s2:processing_baseline"),
                "assets": {
                    band: {"href": f"./{band}.tif", "raster:bands": [{"offset": 0 if band == "B12" else -0.1}]}
                    for band in COMMON
                },
            },
            r"scene-1 declares different scale/offset for its bands .*B11 0.0001/-0.1, B12 0.0001/0",
        ),
    ],
)
def test_items_that_make_no_scene(changes, said):
    with pytest.raises(CatalogError, match=said) as caught:
        scene_from_item(make_item(**changes), load_profile(STATIC))
    assert "\n" not in str(caught.value)


def test_relative_addresses_need_the_items_own_address():
    item = make_item()
    item.set_self_href(None)
    with pytest.raises(CatalogError, match=r"scene-1, asset B02: address './B02.tif' is relative"):
        scene_from_item(item, load_profile(STATIC))
