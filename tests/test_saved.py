"""Saved searches: what is written is what other programs read, and what comes back is the same scenes."""

import datetime as dt
import json
import warnings
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pystac
import pytest
import rustac
import shapely

from timesenmap.catalogs import (
    BANDS,
    SCL,
    CatalogError,
    Refused,
    Scene,
    SceneSearch,
    find_scenes,
    load_profile,
    scene_from_item,
)
from timesenmap.catalogs.geoparquet import items_to_table, table_to_items
from timesenmap.catalogs.saved import read_items

EVERYWHERE: dict[str, Any] = {
    "area": shapely.box(-180, -90, 180, 90),
    "start": dt.date(2010, 1, 1),
    "end": dt.date(2030, 1, 1),
}
SERVICES = {
    "planetary-computer": "pc__",
    "earth-search": "e84__sentinel-2-l2a__",
    "earth-search-c1": "e84__sentinel-2-c1-l2a__",
    "cdse": "cdse__",
}


def real_fields(shared_data: Path, service: str) -> list[dict[str, Any]]:
    """Items of one service, as it sent them."""
    return [json.loads(path.read_text()) for path in sorted((shared_data / "stac_items").glob(SERVICES[service] + "*"))]


def scenes_of(fields: list[dict[str, Any]], service: str) -> list[Scene]:
    """Those of the items that can be used."""
    scenes = []
    for one in fields:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            item = pystac.Item.from_dict(one)
        try:
            scenes.append(scene_from_item(item, load_profile(service)))
        except CatalogError:
            continue
    return sorted(scenes, key=lambda scene: (scene.datetime, scene.id))


def same(one: Scene, other: Scene) -> None:
    assert (one.id, one.datetime, one.assets, one.signing) == (other.id, other.datetime, other.assets, other.signing)
    assert dict(one.scaling) == dict(other.scaling)
    assert [one.href(band) for band in (*BANDS, SCL)] == [other.href(band) for band in (*BANDS, SCL)]
    assert [one.shape(band) for band in (*BANDS, SCL)] == [other.shape(band) for band in (*BANDS, SCL)]
    assert one.crs == other.crs
    assert shapely.equals_identical(one.footprint, other.footprint)


@pytest.mark.parametrize("service", list(SERVICES))
def test_scenes_of_every_service_come_back(shared_data, tmp_path, service):
    scenes = scenes_of(real_fields(shared_data, service), service)
    assert scenes
    refused = (Refused("bad", "was bad"),)
    SceneSearch(load_profile(service), tuple(scenes), refused).save(tmp_path / "items.parquet")
    found = find_scenes(None, items=tmp_path / "items.parquet", **EVERYWHERE)
    assert found.profile == load_profile(service)
    assert found.refused == refused
    assert len(found.scenes) == len(scenes)
    for one, other in zip(found.scenes, scenes, strict=True):
        same(one, other)
        assert [scaling.rule for scaling in one.scaling.values()] == [
            scaling.rule for scaling in other.scaling.values()
        ]
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("service", list(SERVICES))
def test_another_library_reads_what_is_written(shared_data, tmp_path, service):
    scenes = scenes_of(real_fields(shared_data, service), service)
    path = SceneSearch(load_profile(service), tuple(scenes), ()).save(tmp_path / "items.parquet")
    features = rustac.read_sync(str(path))["features"]
    assert [feature["id"] for feature in features] == [scene.id for scene in scenes]
    for feature, scene in zip(features, scenes, strict=True):
        assert {band: feature["assets"][key]["href"] for band, key in scene.assets.items()} == {
            band: scene.href(band) for band in scene.assets
        }
        assert shapely.geometry.shape(feature["geometry"]).equals(shapely.geometry.shape(scene.item.geometry))
        assert feature["bbox"] == pytest.approx(scene.item.bbox)
        assert dt.datetime.fromisoformat(feature["properties"]["datetime"]) == scene.datetime
        assert feature["properties"]["eo:cloud_cover"] == scene.item.properties["eo:cloud_cover"]
        assert feature["collection"] == scene.item.collection_id


@pytest.mark.parametrize("service", list(SERVICES))
@pytest.mark.parametrize("written_by", ["library", "item collection"])
def test_files_of_other_programs_are_read(shared_data, tmp_path, service, written_by):
    fields = real_fields(shared_data, service)
    if written_by == "library":
        path = tmp_path / "items.parquet"
        rustac.write_sync(str(path), fields)
    else:
        path = tmp_path / "items.json"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": fields}))
    found = find_scenes(None, items=path, skip_bad_items=True, **EVERYWHERE)
    assert found.profile == load_profile(service)  # told by the items' own links
    for one, other in zip(found.scenes, scenes_of(fields, service), strict=True):
        same(one, other)
    assert find_scenes(service, items=path, skip_bad_items=True, **EVERYWHERE).scenes[0].assets == one.assets


def test_same_scenes_give_the_same_bytes(shared_data, tmp_path):
    scenes = tuple(scenes_of(real_fields(shared_data, "planetary-computer"), "planetary-computer"))
    search = SceneSearch(load_profile("planetary-computer"), scenes, ())
    first = search.save(tmp_path / "first.parquet")
    again = find_scenes(None, items=first, **EVERYWHERE).save(tmp_path / "again.parquet")
    assert first.read_bytes() == again.read_bytes()


def test_the_file_is_geoparquet(shared_data, tmp_path):
    scenes = scenes_of(real_fields(shared_data, "earth-search"), "earth-search")
    path = SceneSearch(load_profile("earth-search"), tuple(scenes), ()).save(tmp_path / "items.parquet")
    schema = pq.read_schema(path)
    geo = json.loads(schema.metadata[b"geo"])
    assert (geo["version"], geo["primary_column"]) == ("1.1.0", "geometry")
    column = geo["columns"]["geometry"]
    assert column["encoding"] == "WKB"
    bounds = [shapely.geometry.shape(scene.item.geometry).bounds for scene in scenes]
    edges = list(zip(*bounds, strict=True))
    assert column["bbox"] == [min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3])]
    assert json.loads(schema.metadata[b"stac-geoparquet"]) == {"version": "1.1.0"}
    assert str(schema.field("datetime").type) == "timestamp[us, tz=UTC]"


def test_no_signature_is_stored(shared_data, tmp_path):
    fields = real_fields(shared_data, "planetary-computer")[:3]
    for item in fields:
        for asset in item["assets"].values():
            asset["href"] += "?st=2024-01-01&se=2024-01-02&sp=rl&sig=SECRET%3D"
    signed = tmp_path / "signed.json"
    signed.write_text(json.dumps({"type": "FeatureCollection", "features": fields}))
    found = find_scenes(None, items=signed, **EVERYWHERE)
    assert "?" not in found.scenes[0].href("B04")  # it is signed anew when it is read
    assert b"SECRET" not in found.save(tmp_path / "items.parquet").read_bytes()
    # A service without a signer of ours: read as it is given, stored without.
    own = find_scenes("https://stac.example.org/v1", items=signed, **EVERYWHERE)
    assert own.scenes[0].href("B04").endswith("&sig=SECRET%3D")
    assert b"SECRET" not in own.save(tmp_path / "own.parquet").read_bytes()


def item(id_: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": id_,
        "geometry": {"type": "Polygon", "coordinates": [[[3, 50], [4.1, 50], [4.1, 51.3], [3, 50]]]},
        "links": [],
        "assets": {"a": {"href": "/a.tif", "roles": [], "nothing": None, "bands": [{"name": "x"}, {"gsd": 0.1}]}},
        "properties": {"datetime": "2020-01-01T00:00:00.123456Z", **properties},
    }


def test_what_a_table_cannot_say_as_it_is():
    one = item("1", mixed="text", number=3, nested={"a": 1, "empty": {}}, created="2021-05-05T00:00:00+02:00")
    two = item("2", mixed=[1, 2], number=2.5, nested={"b": [None, "c"]}, lost=None)
    table = items_to_table([one, two])
    back = table_to_items(table)
    assert back[0]["properties"] == {
        "datetime": "2020-01-01T00:00:00.123456Z",
        "mixed": "text",  # of two types: JSON in the table
        "number": 3,
        "nested": {"a": 1},  # no empty objects
        "created": "2021-05-04T22:00:00.000000Z",
    }
    assert back[1]["properties"]["mixed"] == [1, 2]
    assert back[1]["properties"]["nested"] == {"b": [None, "c"]}
    assert back[0]["assets"] == {"a": {"href": "/a.tif", "roles": [], "bands": [{"name": "x"}, {"gsd": 0.1}]}}
    assert back[0]["geometry"] == one["geometry"]
    assert back[0]["bbox"] == [3, 50, 4.1, 51.3]


def test_a_column_that_cannot_be_a_time_is_kept():
    back = table_to_items(items_to_table([item("1", datetime=None, start_datetime="2020-01-01T00:00:00Z")]))
    assert back[0]["properties"] == {"start_datetime": "2020-01-01T00:00:00.000000Z"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.parquet", None, r"gone\.parquet: cannot be read \(No such file"),
        ("torn.parquet", b"PAR1 and no more", r"torn\.parquet: cannot be read as stac-geoparquet"),
        ("text.json", b"no json", r"text\.json is no JSON"),
        ("list.json", b"[]", r"holds a list"),
        ("catalog.json", b'{"type": "Catalog"}', r"is a Catalog, not saved items .*--catalog"),
        ("none.json", b'{"type": "FeatureCollection", "features": []}', r"none\.json: holds no item"),
    ],
)
def test_files_that_are_no_items(tmp_path, name, content, says):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CatalogError, match=says) as caught:
        read_items(path)
    assert "\n" not in str(caught.value)


def test_tables_that_are_no_items(tmp_path):
    table = items_to_table([item("1")])
    path = tmp_path / "items.parquet"
    pq.write_table(table.drop_columns(["assets"]), path)
    with pytest.raises(CatalogError, match=r"no stac-geoparquet: it has no column assets"):
        read_items(path)


def test_a_catalogue_recorded_by_another_version(shared_data, tmp_path):
    scenes = tuple(scenes_of(real_fields(shared_data, "cdse"), "cdse"))
    path = SceneSearch(load_profile("cdse"), scenes, ()).save(tmp_path / "items.parquet")
    table = pq.read_table(path)
    for name, says in (("cdse", None), ("mine", r"recorded in it \(mine\) cannot be read .* --catalog")):
        said = json.loads(table.schema.metadata[b"timesenmap"])
        said["profile"] |= {"name": name, "of_the_future": True}
        metadata = {**table.schema.metadata, b"timesenmap": json.dumps(said).encode()}
        pq.write_table(table.replace_schema_metadata(metadata), path)
        if says is None:
            assert read_items(path).profile == load_profile("cdse")
        else:
            with pytest.raises(CatalogError, match=says):
                read_items(path)
            assert find_scenes("cdse", items=path, **EVERYWHERE).profile.name == "cdse"
