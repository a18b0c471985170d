"""Scenes of an area and a period: of real static scenes, and of a STAC API that is busy and breaks off."""

import datetime as dt
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from in_thread import in_thread
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry
from urllib3 import HTTPResponse

from timesenmap.catalogs import BANDS, SCL, BackOff, CatalogError, Refused, SceneSearch, ServiceError, find_scenes
from timesenmap.catalogs.footprints import footprint
from timesenmap.catalogs.transport import PatientIO

PLACE = shapely.box(3.02, 50.81, 3.03, 50.82)
YEAR = {"start": dt.date(2018, 1, 1), "end": dt.date(2019, 1, 1)}
FAST = BackOff(attempts=4, factor=0.01, longest=0.05, timeout=5.0)


def make_item(
    id_: str = "scene-1",
    *,
    when: str = "2018-06-01T10:50:31Z",
    ground: BaseGeometry = PLACE,
    baseline: str | None = "02.12",
    tile: str = "31UDS",
    **properties: Any,
) -> dict[str, Any]:
    fields = {
        "datetime": when,
        "platform": "sentinel-2a",
        "grid:code": f"MGRS-{tile}",
        "eo:cloud_cover": 10.0,
        "s2:processing_baseline": baseline,
        "proj:code": "EPSG:32631",
        **properties,
    }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
        "id": id_,
        "collection": "sentinel-2-l2a",
        "geometry": shapely.geometry.mapping(ground),
        "bbox": list(ground.bounds),
        "properties": {name: value for name, value in fields.items() if value is not None},
        "links": [],
        "assets": {key: {"href": f"./{id_}/{key}.tif"} for key in (*BANDS, SCL)},
    }


def write_collection(folder: Path, *items: dict[str, Any]) -> str:
    """Item collection on disk: the smallest static catalogue."""
    file = folder / "items.json"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    return str(file)


def ids(search: SceneSearch) -> list[str]:
    return [scene.id for scene in search.scenes]


# --- static catalogues -----------------------------------------------------------------------------------------------


def read_belgium(belgium: Path) -> list[dict[str, Any]]:
    """All items by listing the folder's files: no link is followed, no library asked."""
    return [json.loads(path.read_text()) for path in sorted(belgium.parent.glob("S2_*/S2_*.json"))]


def test_twelve_months_of_belgium(belgium):
    wanted = [item["id"] for item in read_belgium(belgium) if "2017-12" <= item["properties"]["datetime"] < "2018-12"]
    found = find_scenes(str(belgium), area=PLACE, start=dt.date(2017, 12, 1), end=dt.date(2018, 12, 1))
    assert len(wanted) == 98
    assert ids(found) == sorted(wanted)  # ids begin with the time
    assert found.refused == ()
    assert [scene.datetime for scene in found.scenes] == sorted(scene.datetime for scene in found.scenes)
    for scene in found.scenes:
        for band in (*BANDS, SCL):
            assert Path(scene.href(band)) == belgium.resolve().parent / scene.id / f"{band}.tif"
            assert Path(scene.href(band)).is_file()
        assert {(one.scale, one.offset) for one in scene.scaling.values()} == {(1e-4, 0.0)}
    assert ids(
        find_scenes(str(belgium.parent), area=PLACE, start=dt.date(2017, 12, 1), end=dt.date(2018, 12, 1))
    ) == ids(found)


def test_all_of_belgium_and_none_elsewhere(belgium):
    everything = {"start": dt.date(2010, 1, 1), "end": dt.date(2030, 1, 1)}
    assert len(find_scenes(str(belgium), area=PLACE, **everything).scenes) == len(read_belgium(belgium)) == 118
    assert find_scenes(str(belgium), area=shapely.box(4, 50, 5, 51), **everything).scenes == ()


def test_cloud_cover_of_belgium(belgium):
    clear = [i["id"] for i in read_belgium(belgium) if i["properties"]["eo:cloud_cover"] <= 20 and "S2_2018" in i["id"]]
    assert 0 < len(clear) < 90
    assert ids(find_scenes(str(belgium), area=PLACE, max_cloud_cover=20, **YEAR)) == clear


def test_period_is_half_open_and_in_utc(tmp_path):
    file = write_collection(
        tmp_path,
        make_item("before", when="2017-12-31T23:59:59.999Z", tile="31UDS"),
        make_item("first", when="2018-01-01T00:00:00Z", tile="31UDT"),
        make_item("first-by-offset", when="2018-01-01T01:30:00+01:00", tile="31UDU"),
        make_item("last", when="2018-12-31T23:59:59.999Z", tile="31UDS"),
        make_item("after", when="2019-01-01T00:00:00Z", tile="31UDT"),
    )
    assert ids(find_scenes(file, area=PLACE, **YEAR)) == ["first", "first-by-offset", "last"]


def test_footprint_decides_and_not_its_box(tmp_path):
    triangle = shapely.Polygon([(3.0, 50.0), (4.0, 50.0), (3.0, 51.0)])
    file = write_collection(tmp_path, make_item(ground=triangle))
    assert ids(find_scenes(file, area=shapely.box(3.0, 50.9, 3.1, 51.0), **YEAR)) == ["scene-1"]
    assert ids(find_scenes(file, area=shapely.box(3.9, 50.9, 4.0, 51.0), **YEAR)) == []


def test_nested_catalogue_with_loops_and_relative_links(tmp_path):
    def write(name: str, kind: str, *links: tuple[str, str]) -> None:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        fields = {"type": kind, "stac_version": "1.0.0", "id": name, "description": ""}
        file.write_text(json.dumps({**fields, "links": [{"rel": rel, "href": href} for rel, href in links]}))

    write("catalog.json", "Catalog", ("child", "./2018/collection.json"), ("item", "a.json"), ("root", "catalog.json"))
    write(
        "2018/collection.json",
        "Collection",
        ("parent", "../catalog.json"),
        ("child", "../catalog.json"),
        ("item", "./b.json"),
    )
    (tmp_path / "a.json").write_text(json.dumps(make_item("a")))
    (tmp_path / "2018" / "b.json").write_text(json.dumps(make_item("b", when="2018-07-01T10:50:31Z")))
    found = find_scenes(str(tmp_path), area=PLACE, **YEAR)
    assert [scene.href("B04") for scene in found.scenes] == [
        str(tmp_path / "a" / "B04.tif"),
        str(tmp_path / "2018" / "b" / "B04.tif"),
    ]


def test_collection_narrows_a_static_catalogue(tmp_path):
    other = {**make_item("other", tile="31UDT"), "collection": "landsat"}
    file = write_collection(tmp_path, make_item("ours"), other)
    assert ids(find_scenes(file, area=PLACE, collection="sentinel-2-l2a", **YEAR)) == ["ours"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", r"items\.json is no JSON"),
        ("[]", r"items\.json is no STAC: it holds a list"),
        ('{"type": "Topology"}', r"items\.json is no STAC: its type is 'Topology'"),
    ],
)
def test_files_that_are_no_catalogue(tmp_path, text, said):
    (tmp_path / "items.json").write_text(text)
    with pytest.raises(CatalogError, match=said) as caught:
        find_scenes(str(tmp_path / "items.json"), area=PLACE, **YEAR)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"area": shapely.Polygon()}, "area to search is empty"),
        ({"end": dt.date(2018, 1, 1)}, "period from 2018-01-01 to 2018-01-01 is empty"),
        ({"max_cloud_cover": 101}, "cloud cover 101 is no percentage"),
    ],
)
def test_questions_without_sense(tmp_path, changes, said):
    with pytest.raises(CatalogError, match=said):
        find_scenes(write_collection(tmp_path, make_item()), **{"area": PLACE, **YEAR, **changes})


# --- items that cannot be used ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (make_item("bad", baseline=None), "neither offset nor processing baseline"),
        ({**make_item("bad"), "geometry": None}, "item bad: geometry"),
        ({**make_item("bad"), "assets": {}}, "no asset for B02"),
        (make_item("bad", **{"proj:code": None}), "no projection"),
        (make_item("bad", when="yesterday"), "'yesterday'"),
        (make_item("bad", **{"s2:product_type": "S2MSI1C"}), "Level-1C"),
        ({**make_item("bad"), "properties": None}, "no STAC item"),
        ({**make_item("bad"), "assets": {"B02": {"title": "no address"}}}, "no STAC item"),
    ],
)
def test_bad_items_stop_the_search_or_are_counted(tmp_path, bad, said):
    file = write_collection(tmp_path, make_item("good"), bad)
    with pytest.raises(CatalogError, match=said) as caught:
        find_scenes(file, area=PLACE, **YEAR)
    assert "bad" in str(caught.value)
    assert "\n" not in str(caught.value)
    found = find_scenes(file, area=PLACE, skip_bad_items=True, **YEAR)
    assert ids(found) == ["good"]
    assert [one.id for one in found.refused] == ["bad"]
    assert said in found.refused[0].reason


def test_bad_items_outside_period_and_area_do_not_matter(tmp_path):
    elsewhere = make_item("elsewhere", ground=shapely.box(10, 10, 11, 11), baseline=None)
    file = write_collection(
        tmp_path, make_item(), make_item("later", when="2020-01-01T00:00:00Z", baseline=None), elsewhere
    )
    assert ids(find_scenes(file, area=PLACE, **YEAR)) == ["scene-1"]


def test_item_file_that_is_missing(tmp_path):
    links = [{"rel": "item", "href": name} for name in ("./here.json", "./gone.json")]
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "", "links": links}
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    (tmp_path / "here.json").write_text(json.dumps(make_item("here")))
    with pytest.raises(CatalogError, match=r"item gone cannot be read: file .*gone\.json does not exist"):
        find_scenes(str(tmp_path), area=PLACE, **YEAR)
    found = find_scenes(str(tmp_path), area=PLACE, skip_bad_items=True, **YEAR)
    assert ids(found) == ["here"]
    assert [one.id for one in found.refused] == ["gone"]


def test_child_catalogue_that_is_missing(tmp_path):
    links = [{"rel": "child", "href": "./gone/catalog.json"}]
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "", "links": links}
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    with pytest.raises(CatalogError, match=r"gone/catalog\.json does not exist"):
        find_scenes(str(tmp_path), area=PLACE, skip_bad_items=True, **YEAR)  # unknown how many scenes are missing


def test_cloud_cover_that_is_not_stated(tmp_path):
    file = write_collection(tmp_path, make_item(**{"eo:cloud_cover": None}))
    with pytest.raises(CatalogError, match="scene-1 states no eo:cloud_cover"):
        find_scenes(file, area=PLACE, max_cloud_cover=50, **YEAR)
    assert ids(find_scenes(file, area=PLACE, **YEAR)) == ["scene-1"]


# --- duplicates ------------------------------------------------------------------------------------------------------


def test_reprocessed_acquisitions_are_reduced_to_the_newest_baseline(tmp_path):
    old = make_item("S2A_31UDS_20180601_0_L2A", baseline="02.08")
    new = make_item("S2A_31UDS_20180601_1_L2A", baseline="05.00", when="2018-06-01T10:50:31.024Z")
    for order in ((old, new), (new, old)):
        found = find_scenes(write_collection(tmp_path, *order), area=PLACE, **YEAR)
        assert ids(found) == [new["id"]]
        reason = f"same acquisition as {new['id']}, processed with baseline 02.08 instead of 05.00"
        assert found.refused == (Refused(old["id"], reason),)


def test_ten_is_newer_than_five(tmp_path):
    file = write_collection(tmp_path, make_item("five", baseline="05.11"), make_item("ten", baseline="10.00"))
    assert ids(find_scenes(file, area=PLACE, **YEAR)) == ["ten"]


def test_same_baseline_goes_by_processing_time_and_then_by_id(tmp_path):
    made = "s2:generation_time"
    early = make_item("z", **{made: "2018-06-01T14:00:00Z"})
    late = make_item("a", **{made: "2019-01-01T00:00:00Z"})
    assert ids(find_scenes(write_collection(tmp_path, early, late), area=PLACE, **YEAR)) == ["a"]
    assert ids(find_scenes(write_collection(tmp_path, make_item("a"), make_item("b")), area=PLACE, **YEAR)) == ["b"]


@pytest.mark.parametrize(
    "other",
    [
        make_item("other", tile="31UES"),
        make_item("other", platform="sentinel-2b"),
        make_item("other", when="2018-06-01T12:30:31Z"),
        make_item("other", when="2018-06-04T10:50:31Z"),
    ],
)
def test_other_acquisitions_stay(tmp_path, other):
    found = find_scenes(write_collection(tmp_path, make_item(), other), area=PLACE, **YEAR)
    assert sorted(ids(found)) == ["other", "scene-1"]
    assert found.refused == ()


def test_two_halves_of_a_tile_are_both_needed(tmp_path):
    """ESA cuts a tile in two products where one downlink ends: same time, side by side, overlapping a little."""
    north = make_item("north", ground=shapely.box(3.0, 50.814, 3.05, 50.9), baseline="05.00")
    south = make_item("south", ground=shapely.box(3.0, 50.7, 3.05, 50.816), baseline="02.12")
    both = make_item("both", ground=shapely.box(3.0, 50.72, 3.05, 50.88), baseline="02.08")
    found = find_scenes(write_collection(tmp_path, both, north, south), area=PLACE, **YEAR)
    assert ids(found) == ["north", "south"]
    assert [one.id for one in found.refused] == ["both"]


def test_versions_that_cover_different_ground_are_both_needed(tmp_path):
    """A third of the older version's ground is not in the newer one: it must not be lost."""
    old = make_item("old", ground=shapely.box(3.0, 50.7, 3.03, 50.9))
    new = make_item("new", ground=shapely.box(3.01, 50.7, 3.04, 50.9), baseline="05.00")
    assert ids(find_scenes(write_collection(tmp_path, old, new), area=PLACE, **YEAR)) == ["new", "old"]


def test_same_item_listed_twice(tmp_path):
    file = write_collection(tmp_path, make_item(), make_item())
    found = find_scenes(file, area=PLACE, **YEAR)
    assert ids(found) == ["scene-1"]
    assert found.refused == (Refused("scene-1", "item scene-1 is listed more than once: its newest version is used"),)


def test_tile_by_any_name(tmp_path):
    parts = {"grid:code": None, "mgrs:utm_zone": 31, "mgrs:latitude_band": "U", "mgrs:grid_square": "DS"}
    old_parts = {name.replace("mgrs", "sentinel"): value for name, value in parts.items()}
    items = [
        make_item("a", baseline="05.00"),
        make_item("b", **parts),
        make_item("c", **old_parts),
        make_item("d", **{"grid:code": None, "s2:mgrs_tile": "31UDS"}, platform="Sentinel-2A"),
        make_item("S2A_MSIL2A_20180601T105031_N0208_R051_T31UDS_20180601T141257", baseline=None, **{"grid:code": None}),
    ]
    found = find_scenes(write_collection(tmp_path, *items), area=PLACE, **YEAR)
    assert ids(found) == ["a"]
    assert len(found.refused) == 4


# --- antimeridian ----------------------------------------------------------------------------------------------------

FIJI = shapely.MultiPolygon([shapely.box(179.8, -17, 180, -16), shapely.box(-180, -17, -179.8, -16)])


@pytest.mark.parametrize(
    ("ground", "met"),
    [
        (FIJI, True),  # cut at the antimeridian, as RFC 7946 wants it
        (shapely.box(179.9, -17, 180.5, -16), True),  # runs past 180
        (shapely.box(-180.5, -17, -179.9, -16), True),
        # Drawn across without being cut: as it stands it would cover all but the place itself.
        (shapely.Polygon([(179.5, -17), (-179.5, -17), (-179.5, -16), (179.5, -16)]), True),
        (shapely.Polygon([(179.1, -17), (-179.95, -17), (-179.95, -16), (179.1, -16)]), True),
        (shapely.box(178.0, -17, 179.7, -16), False),
        (shapely.box(-179.7, -17, -178.0, -16), False),
        (shapely.box(0, -17, 1, -16), False),
        (shapely.Polygon([(179.5, 17), (-179.5, 17), (-179.5, 18), (179.5, 18)]), False),
    ],
)
def test_scenes_at_the_antimeridian(tmp_path, ground, met):
    file = write_collection(tmp_path, make_item(ground=ground))
    for area in (FIJI, shapely.box(179.8, -17, 180.2, -16)):
        assert ids(find_scenes(file, area=area, **YEAR)) == (["scene-1"] if met else [])


def test_footprints_of_real_items_at_the_antimeridian(shared_data):
    for name in ("T01WCP_20230626T022157", "T01KAB_20230822T021825", "T60CWS"):
        cut = json.loads(next((shared_data / "stac_items").glob(f"*{name}*.json")).read_text())["geometry"]
        shape = shapely.geometry.shape(cut)
        assert shape.geom_type == "MultiPolygon"  # its service has cut it
        past_180 = shapely.union_all([translate(part, 360 if part.bounds[0] < 0 else 0) for part in shape.geoms])
        uncut = shapely.transform(past_180, lambda xy: np.where(xy > [180, 90], xy - [360, 0], xy))
        assert past_180.geom_type == uncut.geom_type == "Polygon"
        assert uncut.area > 40 * shape.area  # as drawn, it covers the other side of the Earth
        for geometry in (shape, past_180, uncut):
            found = footprint(shapely.geometry.mapping(geometry))
            assert -180 <= found.bounds[0] < -170
            assert 170 < found.bounds[2] <= 180
            assert found.symmetric_difference(shape).area < 1e-9


# --- a STAC API, on this machine -------------------------------------------------------------------------------------


class StacApi(ThreadingHTTPServer):
    """The least of a STAC API: landing page, collections, and a search in pages that follow each other by POST.

    It does not filter at all, so that a test sees what is checked on this side. `answers` are statuses for the next
    requests, first come, first served ("cut": half of the body; "garbage": a body that is no JSON; 200: as it should
    be); when they are used up, all is well.
    """

    def __init__(self, items: list[dict[str, Any]], *, page: int = 2, cql2: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.items, self.page, self.cql2 = items, page, cql2
        self.answers: list[int | str] = []
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.collections = ["sentinel-2-l2a", "landsat"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def searches(self) -> list[dict[str, Any]]:
        return [body for method, path, body in self.requests if (method, path) == ("POST", "/search")]

    def reply(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/":
            filters = ["https://api.stacspec.org/v1.0.0/item-search#filter"] * self.cql2
            conforms = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
            return {
                "type": "Catalog",
                "id": "api",
                "description": "",
                "stac_version": "1.0.0",
                "conformsTo": [*conforms, *filters, "https://api.stacspec.org/v1.0.0/collections"],
                "links": [
                    {"rel": "self", "href": self.url},
                    {"rel": "root", "href": self.url},
                    {"rel": "data", "href": f"{self.url}/collections"},
                    {"rel": "search", "href": f"{self.url}/search", "method": "POST", "type": "application/geo+json"},
                ],
            }
        if path == "/collections":
            extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
            shared = {"type": "Collection", "stac_version": "1.0.0", "description": "", "license": "other", "links": []}
            return {"collections": [{**shared, "id": id_, "extent": extent} for id_ in self.collections], "links": []}
        items = [item for item in self.items if item["collection"] in body["collections"]]
        first = int(body.get("token", 0))
        page = [self.with_addresses(item) for item in items[first : first + self.page]]
        answer = {"type": "FeatureCollection", "features": page, "links": []}
        if first + self.page < len(items):
            following = {**body, "token": first + self.page}
            link = {"rel": "next", "href": f"{self.url}/search", "method": "POST", "body": following}
            answer["links"] = [link]
        return answer

    def with_addresses(self, item: dict[str, Any]) -> dict[str, Any]:
        here = f"{self.url}/collections/{item['collection']}/items/{item['id']}"
        # A root link that cannot be followed: nothing may try to.
        return {**item, "links": [{"rel": "self", "href": here}, {"rel": "root", "href": "http://127.0.0.1:9/"}]}


class Answer(BaseHTTPRequestHandler):
    server: StacApi

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or "{}")
        self.server.requests.append((self.command, self.path, body))
        status = self.server.answers.pop(0) if self.server.answers else 200
        text = json.dumps(self.server.reply(self.path, body)).encode()
        if status == "garbage":
            text = b"<html>maintenance</html>"
        self.send_response(status if isinstance(status, int) else 200)
        if status == 429:
            self.send_header("Retry-After", "3600")  # longer than anybody would wait
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text[: len(text) // 2] if status == "cut" else text)

    do_POST = do_GET

    def log_message(self, *args: Any) -> None:
        pass


SEVEN = [make_item(f"day-{day}", when=f"2018-06-0{day}T10:50:31Z") for day in range(1, 8)]


@pytest.fixture
def api() -> Iterator[StacApi]:
    with in_thread(StacApi(list(SEVEN))) as server:
        yield server


def ask(
    api: StacApi, *, area: BaseGeometry = PLACE, collection: str | None = "sentinel-2-l2a", **more: Any
) -> SceneSearch:
    return find_scenes(api.url, area=area, collection=collection, back_off=FAST, **{**YEAR, **more})


def test_one_paged_search(api):
    found = ask(api)
    assert ids(found) == [item["id"] for item in SEVEN]
    first, *following = api.searches()
    assert len(following) == 3  # 7 items in pages of 2
    assert [page["token"] for page in following] == [2, 4, 6]
    assert first["collections"] == ["sentinel-2-l2a"]
    assert first["datetime"] == "2018-01-01T00:00:00Z/2019-01-01T00:00:00Z"
    assert shapely.geometry.shape(first["intersects"]).equals(PLACE)
    assert "filter" not in first
    assert found.scenes[0].href("B04") == f"{api.url}/collections/sentinel-2-l2a/items/day-1/B04.tif"
    assert found.scenes[0].item.to_dict()["links"] == [
        {"rel": "self", "href": f"{api.url}/collections/sentinel-2-l2a/items/day-1", "type": "application/json"}
    ]


def test_back_off_when_the_service_is_busy_or_breaks_off(api):
    api.answers = [200, 429, 503, 200, "cut", 500, 200, 504, "cut", 502]
    assert ids(ask(api)) == [item["id"] for item in SEVEN]
    assert api.answers == []
    tried = [page.get("token", 0) for page in api.searches()]
    assert tried == [0, 0, 0, 2, 2, 2, 4, 4, 4, 4, 6]


def test_no_service_makes_a_run_wait_for_an_hour():
    retry = PatientIO(BackOff(longest=60.0)).session.get_adapter("https://example.org").max_retries
    for asked, waits in (("3600", 60.0), ("5", 5.0)):
        assert retry.get_retry_after(HTTPResponse(headers={"Retry-After": asked}, status=429)) == waits


def test_service_that_stays_busy(api):
    api.answers = [200, *[503] * 50]
    with pytest.raises(ServiceError, match=r"STAC API http://127.* cannot be searched .*503.*earth-search") as caught:
        ask(api)
    assert "\n" not in str(caught.value)
    assert len(api.searches()) == 1 + FAST.attempts


def test_service_that_is_not_there():
    with StacApi([]) as closed:
        url = closed.url
    with pytest.raises(ServiceError, match=f"STAC API {url} cannot be searched") as caught:
        find_scenes(url, area=PLACE, back_off=FAST, collection="sentinel-2-l2a", **YEAR)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("answers", [["garbage"], [404], [200, 400], [200, "garbage"]])
def test_answers_that_are_no_stac(api, answers):
    api.answers = answers
    with pytest.raises(CatalogError, match="cannot be searched"):
        ask(api)


def test_static_catalogue_over_http_says_what_to_do(api, monkeypatch):
    monkeypatch.setattr(
        api, "reply", lambda *_: {"type": "Catalog", "id": "c", "description": "", "stac_version": "1.0.0", "links": []}
    )
    with pytest.raises(CatalogError, match=r"no STAC API with item search; give the address of its catalog\.json"):
        ask(api)


def test_static_catalogue_over_http(api, monkeypatch):
    collection = {"type": "FeatureCollection", "features": SEVEN}
    monkeypatch.setattr(api, "reply", lambda *_: collection)
    api.answers = [503, "cut"]
    found = find_scenes(f"{api.url}/archive/items.json", area=PLACE, back_off=FAST, **YEAR)
    assert ids(found) == [item["id"] for item in SEVEN]
    assert found.scenes[0].href("B04") == f"{api.url}/archive/day-1/B04.tif"


def test_cloud_cover_is_asked_as_cql2_and_checked(api):
    api.items[3] = make_item("cloudy", when="2018-06-04T10:50:31Z", **{"eo:cloud_cover": 80.0})
    assert "cloudy" not in ids(ask(api, max_cloud_cover=50))
    first = api.searches()[0]
    assert first["filter"] == {"op": "<=", "args": [{"property": "eo:cloud_cover"}, 50]}
    assert first["filter-lang"] == "cql2-json"


def test_cloud_cover_of_an_api_without_filters(api):
    api.cql2 = False
    api.items[3] = make_item("cloudy", when="2018-06-04T10:50:31Z", **{"eo:cloud_cover": 80.0})
    assert "cloudy" not in ids(ask(api, max_cloud_cover=50))
    assert "filter" not in api.searches()[0]


def test_answers_are_checked_for_period_area_and_duplicates(api):
    api.items += [
        make_item("far", ground=shapely.box(10, 10, 11, 11)),
        make_item("late", when="2019-01-01T00:00:00Z"),
        SEVEN[0],
        make_item("new", when=SEVEN[1]["properties"]["datetime"], baseline="05.00"),
    ]
    found = ask(api)
    assert ids(found) == ["day-1", "new", *(f"day-{day}" for day in range(3, 8))]
    assert [one.id for one in found.refused] == ["day-1", "day-2"]


def test_area_across_the_antimeridian_is_asked_in_two_parts(api):
    api.items = [make_item(ground=FIJI)]
    assert ids(ask(api, area=shapely.box(179.8, -17, 180.2, -16))) == ["scene-1"]
    assert shapely.geometry.shape(api.searches()[0]["intersects"]).equals(FIJI)


def test_area_with_a_thousand_vertices_is_asked_by_its_box(api):
    circle = shapely.Point(3.025, 50.815).buffer(0.005, quad_segs=500)
    api.items = [make_item("in"), make_item("corner", tile="31UDT", ground=shapely.box(3.0296, 50.8196, 3.03, 50.82))]
    assert ids(ask(api, area=circle)) == ["in"]
    assert shapely.geometry.shape(api.searches()[0]["intersects"]).equals(shapely.box(*circle.bounds))


def test_collection_that_the_api_does_not_have(api):
    with pytest.raises(CatalogError, match=r"no collection sentinel-2 \(it has sentinel-2-l2a\)"):
        ask(api, collection="sentinel-2")
    api.items = []
    assert ask(api).scenes == ()  # it has this one: just nothing there


def test_api_without_collection_named(api):
    with pytest.raises(CatalogError, match=r"several collections \(sentinel-2-l2a\); name one with --collection"):
        ask(api, collection=None)
