"""Stores on a disk and in an object storage: the same content, whole tiles, failures in words."""

import os
import pickle
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from cube_fixture import make_cube
from object_server import CUT, ObjectServer, object_server
from odc.geo.geobox import GeoBox

from timesenmap.pipeline import objects
from timesenmap.pipeline.answer_kinds import LABELS, create_answer_store, write_answer
from timesenmap.pipeline.cube import create_cube, open_cube, tile_checksum, write_tile
from timesenmap.pipeline.curves import read_curves
from timesenmap.pipeline.errors import MapError, StoreError
from timesenmap.pipeline.grid import Tile, tiles
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.stores import Store, check_store, stored_bytes

GRID = GeoBox.from_bbox((500000, 5600000, 500960, 5600640), crs="EPSG:32631", resolution=10)
PERIOD = Period.of(year=2018)
SECRET = "wJalrXUtnFEMIsecretsecretsecretEXAMPLEKEY"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    quick = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=5)}
    for name in ("PATIENT", "BRIEF"):
        monkeypatch.setattr(objects, name, {"max_retries": 3, "backoff": quick})
    with object_server(monkeypatch) as server:
        yield server


@pytest.fixture(params=["disk", "objects"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "disk":
        return Store.at(tmp_path / "place")
    request.getfixturevalue("server")
    return Store.at("s3://bucket/some/prefix/")


def content(store: Store, folder: Path) -> dict[str, bytes]:
    """What lies under a store, by name, however it is kept."""
    if not store.is_remote:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: store.read(name) or b"" for name in objects.sizes(store.location)}


def test_a_location_is_all_a_store_is() -> None:
    store = Store.at("s3://bucket/prefix/") / "labels" / "crops.zarr"
    assert str(store) == "s3://bucket/prefix/labels/crops.zarr"
    assert store.name == "crops.zarr"
    assert pickle.loads(pickle.dumps(store)) == store
    assert Store.at("out") == Store.at(Path.cwd() / "out") == Store.at(Path("out"))


def test_objects_are_the_files_of_a_disk(server: ObjectServer, tmp_path: Path) -> None:
    """A cube of an object storage has the very objects, byte for byte, that a cube of a disk has as files."""
    disk, remote = Store.at(tmp_path / "cube.zarr"), Store.at("s3://bucket/prefix/cube.zarr")
    reflectance = make_cube(tmp_path / "cube.zarr", GRID, tile_size=32)
    create_cube(remote, GRID, PERIOD, tile_size=32)
    for tile in tiles(GRID, 32):
        block = np.ascontiguousarray(reflectance[..., tile.y0 : tile.y1, tile.x0 : tile.x1])
        write_tile(remote, tile, block, (block[:, 0] > 0).astype(np.uint8))
    files = content(disk, tmp_path / "cube.zarr")
    assert len(files) > 12
    assert content(remote, tmp_path) == files
    assert {key for key in server.objects if not key.startswith("prefix/cube.zarr/")} == set()


def test_a_cube_anywhere_is_written_read_and_removed(place: Store) -> None:
    cube = place / "cube.zarr"
    assert not cube.exists()
    reflectance = make_cube(cube, GRID, tile_size=32)
    assert cube.exists()
    assert np.array_equal(open_cube(cube)["reflectance"].values, reflectance)
    first, *_, last = tiles(GRID, 32)
    for tile in (first, last):
        window = (..., slice(tile.y0, tile.y1), slice(tile.x0, tile.x1))
        block = reflectance[window], (reflectance[:, 0] > 0)[window].astype(np.uint8)
        assert tile_checksum(cube, tile) == write_tile(cube, tile, *map(np.ascontiguousarray, block))
    whole = sum(stored_bytes(cube, tile, "reflectance", "clear") for tile in tiles(GRID, 32))
    assert whole > reflectance.size  # random numbers do not shrink to half
    with pytest.raises(FileExistsError, match="remove it"):
        create_cube(cube, GRID, PERIOD, tile_size=32)
    cube.remove()
    assert not cube.exists()
    assert stored_nothing(place)
    cube.remove()
    with pytest.raises(MapError, match="cannot be opened"):
        open_cube(cube)


def stored_nothing(place: Store) -> bool:
    if place.is_remote:
        return objects.sizes(place.location) == {}
    return [path for path in Path(place.location).rglob("*") if path.is_file()] == []


def test_labels_of_no_data_are_no_objects(place: Store) -> None:
    """What is all fill value is not written; written over what was there, it is removed."""
    store, tile = place / "labels" / "few.zarr", Tile(0, 0, 0, 32, 0, 32)
    create_answer_store(LABELS, store, (64, 96), classes=4, tile_size=32)
    inside = np.ones((32, 32), bool)
    labels = np.random.default_rng(1).integers(1, 5, (2, 32, 32)).astype(np.uint8)
    assert (
        write_answer(LABELS, store, tile, labels, inside).bytes
        == stored_bytes(store, tile, "class", "confidence")
        > 100
    )
    assert np.array_equal(store.array("class")[:32, :32], labels[0])
    assert write_answer(LABELS, store, tile, labels, ~inside).bytes == 0
    assert not np.asarray(store.array("class")[:]).any()


def test_curves_of_a_cube_anywhere(place: Store, tmp_path: Path) -> None:
    assert read_curves(place / "cube.zarr", tmp_path / "observations.tif") is None


def test_more_objects_than_one_page_are_all_removed(server: ObjectServer) -> None:
    server.objects |= {f"prefix/labels/c/{number}": b"x" for number in range(2500)}
    server.objects |= {"prefix/labels-of-others/zarr.json": b"x", "prefix/labels.zarr": b"x"}
    Store.at("s3://bucket/prefix/labels").remove()
    assert set(server.objects) == {"prefix/labels-of-others/zarr.json", "prefix/labels.zarr"}


def test_a_large_tile_is_one_object(server: ObjectServer, tmp_path: Path) -> None:
    """Sent in parts, seen by nobody before the last part has come."""
    grid, store = GeoBox((512, 512), GRID.affine, GRID.crs), Store.at("s3://bucket/cube.zarr")
    (tile,) = tiles(grid, 512)
    create_cube(store, grid, PERIOD, tile_size=512)
    seen = []

    def watch(method: str, key: str, number: int) -> None:
        if method == "PUT":
            seen.append((key, key in server.objects))

    server.plan = watch
    reflectance = np.random.default_rng(3).integers(1, 65535, (12, 10, 512, 512)).astype(np.uint16)
    write_tile(store, tile, reflectance, np.ones((12, 512, 512), np.uint8))
    parts = [there for key, there in seen if key.startswith("cube.zarr/reflectance/c")]
    assert len(parts) > 2
    assert not any(parts)
    assert np.array_equal(store.array("reflectance")[:], reflectance)


def test_requests_of_a_tile_are_few(server: ObjectServer) -> None:
    """Each is paid for, and takes its time.

    Three open the arrays, three write, one wipes what the tile was made of; and Zarr asks for a shard it will write.
    """
    store = Store.at("s3://bucket/cube.zarr")
    create_cube(store, GRID, PERIOD, tile_size=32)
    first, *_, last = tiles(GRID, 32)
    for tile in (first, last):
        server.asked.clear()
        block = np.full((12, 10, *tile.shape), 7, np.uint16), np.ones((12, *tile.shape), np.uint8)
        write_tile(store, tile, *block, signatures=["ab" * 32] * 12)
        assert server.asked == {"GET": 4, "PUT": 3, "POST": 1}
        server.asked.clear()
        stored_bytes(store, tile, "reflectance", "clear")
        assert server.asked == {"GET": 2, "HEAD": 2}


def test_a_service_that_fails_for_a_while_is_asked_again(server: ObjectServer) -> None:
    server.plan = lambda method, key, number: (503, 500)[number % 2] if number < 2 else None
    reflectance = make_cube(Store.at("s3://bucket/cube.zarr"), GRID, tile_size=32)
    assert np.array_equal(Store.at("s3://bucket/cube.zarr").array("reflectance")[:], reflectance)
    assert min(server.failed[503], server.failed[500]) > 10


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "POST"])
def test_a_service_that_fails_for_good_is_named(server: ObjectServer, method: str) -> None:
    store = Store.at("s3://bucket/cube.zarr")
    create_cube(store, GRID, PERIOD, tile_size=32)
    tile, *_ = tiles(GRID, 32)
    server.plan = lambda asked, key, number: 507 if asked == method else None
    block = np.full((12, 10, 32, 32), 7, np.uint16), np.ones((12, 32, 32), np.uint8)
    do = {"HEAD": partial(stored_bytes, store, tile, "clear"), "POST": store.remove}
    with pytest.raises(StoreError, match=r"^s3://bucket/cube.zarr.*: the service answered 507 Insufficient Storage"):
        do.get(method, partial(write_tile, store, tile, *block))()


def test_a_bucket_that_went_away_is_no_hole_in_the_map(server: ObjectServer) -> None:
    """Zarr takes what is missing for no data; where all is missing, that would be a map of nothing."""
    store = Store.at("s3://gone/cube.zarr")
    with pytest.raises(FileNotFoundError):
        store.array("reflectance")
    with pytest.raises(StoreError, match=r"s3://gone/cube.zarr.*no such bucket \(404 Not Found, NoSuchBucket\)"):
        create_answer_store(LABELS, store, (64, 96), classes=4, tile_size=32)
    with pytest.raises(StoreError, match=r"s3://gone/cube.zarr/owner.json: there is no such bucket"):
        store.write_new("owner.json", b"mine")


@pytest.mark.parametrize("times", [2, 99])
def test_an_answer_that_breaks_off_is_asked_for_again(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """By us: obstore asks again only for what has not begun. Four times more, and then the object is named."""
    monkeypatch.setattr(objects, "_AGAIN", (0.0,) * 4)
    store = Store("s3://bucket/labels")
    create_answer_store(LABELS, store, (64, 96), classes=4, tile_size=32)
    server.objects["labels/note"] = b"of some length"
    server.plan = lambda method, key, number: CUT if method == "GET" and number < times else None
    server.numbers.clear()
    if times == 2:
        assert objects.read("s3://bucket/labels", "note") == b"of some length"
        assert store.array("class").shape == (64, 96)
        assert server.failed[CUT] >= 4
        return
    with pytest.raises(StoreError, match="s3://bucket/labels/note: "):
        objects.read("s3://bucket/labels", "note")
    assert server.failed[CUT] == 5
    with pytest.raises(StoreError, match=r"s3://bucket/labels/\S*zarr.json: "):
        store.array("class")


def test_checking_leaves_nothing(place: Store, tmp_path: Path) -> None:
    check_store(place)
    assert stored_nothing(place)
    assert not (tmp_path / "place").exists()


@pytest.mark.parametrize(
    ("method", "status", "doing", "cause"),
    [
        ("PUT", 403, "writing", "access is refused to these keys"),
        ("GET", 403, "reading", "access is refused to these keys"),
        ("POST", 403, "deleting", "access is refused to these keys"),
        ("PUT", 401, "writing", "the service asks for other credentials"),
        ("PUT", 500, "writing", "the service answered 500 Internal Server Error"),
    ],
)
def test_what_is_refused_is_named_before_the_run(
    server: ObjectServer, method: str, status: int, doing: str, cause: str
) -> None:
    server.plan = lambda asked, key, number: status if asked == method else None
    with pytest.raises(MapError, match=rf"^--work s3://bucket/p: {doing} an object failed: {cause}.*AsPlanned.*; \w+"):
        check_store(Store.at("s3://bucket/p"))


@pytest.mark.parametrize(
    ("work", "endpoint", "words"),
    [
        ("s3://other/p", None, r"no such bucket \(404 Not Found, NoSuchBucket\); make it, or correct"),
        ("s3://bucket/p", "http://127.0.0.1:9", r"service http://127.0.0.1:9 cannot be reached; look at the address"),
        ("s3://bucket/p", "127.0.0.1:9", r"AWS_ENDPOINT_URL 127.0.0.1:9: is no address; write https://HOST"),
        ("s3://bucket/p", "http://", r"AWS_ENDPOINT_URL http://: is no address; write https://HOST"),
        ("s3://", None, "is no place in an object storage; write s3://BUCKET"),
        ("ftp://host/p", None, "--work ftp://host/p: is no place in an object storage"),
        ("https://host/p", None, "--work https://host/p: is no place in an object storage"),
        ("s3:/bucket/p", None, "--work s3:/bucket/p: is neither a path nor an address; write s3://BUCKET"),
    ],
)
def test_a_wrong_address_is_named_before_the_run(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch, work: str, endpoint: str | None, words: str
) -> None:
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(MapError, match=words):
        check_store(Store.at(work))


def test_a_folder_that_cannot_be_is_named_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MapError, match=r"--work .*file/work: .*file is a file; name a folder"):
        check_store(Store.at(tmp_path / "file" / "work"))
    with pytest.raises(MapError, match=r"--work /proc/work: nothing can be written in /proc \(.+\); name a folder"):
        check_store(Store.at("/proc/work"))


def test_keys_come_from_a_named_profile_and_from_nowhere_else(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The keys of AWS_ACCESS_KEY_ID may be those of the scenes; those of the stores are then in a profile."""
    (tmp_path / "credentials").write_text(f"[mine]\naws_access_key_id = AKIAMINE\naws_secret_access_key = {SECRET}\n")
    (tmp_path / "config").write_text(f"[profile mine]\nregion = eu-north-1\nendpoint_url = {server.url}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-scenes")
    signed: list[str] = []
    monkeypatch.setattr("object_server._Handler.log_message", lambda self, *_: signed.append(str(self.headers)))
    monkeypatch.setattr("object_server._Handler.log_request", lambda self, *_: signed.append(str(self.headers)))
    monkeypatch.setenv(objects.WORK_PROFILE, "mine")
    check_store(Store.at("s3://bucket/p"))
    assert signed
    assert all("Credential=AKIAMINE/" in one and "/eu-north-1/s3/" in one for one in signed)
    assert not any("of-the-scenes" in one for one in signed)
    monkeypatch.setenv(objects.WORK_PROFILE, "theirs")
    with pytest.raises(MapError, match=f"{objects.WORK_PROFILE} theirs: no keys of this profile"):
        check_store(Store.at("s3://bucket/p"))
    monkeypatch.delenv(objects.WORK_PROFILE)
    signed.clear()
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    check_store(Store.at("s3://bucket/p"))  # keys in the environment win over a profile, as everywhere
    assert all("Credential=AKIAANYBODY000000000/" in one for one in signed)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    signed.clear()
    check_store(Store.at("s3://bucket/p"))
    assert all("Credential=AKIAMINE/" in one for one in signed)


def test_what_a_service_tells_of_keys_is_not_repeated() -> None:
    """Amazon's answers to a wrong signature name the key and what was signed."""
    answer = (
        "The operation lacked the necessary privileges: Error performing PUT https://bucket.s3.amazonaws.com/p?list-type=2"
        " in 2ms - Server returned non-2xx status code: 403 Forbidden: <Error><Code>SignatureDoesNotMatch</Code>"
        "<Message>no match</Message><AWSAccessKeyId>AKIAVERYOWN</AWSAccessKeyId>"
        f"<StringToSign>{SECRET}</StringToSign></Error>"
        "\n\nDebug source:\nPermissionDenied { AKIAVERYOWN }"
    )
    cause, remedy = objects.diagnosis(RuntimeError(answer))
    assert cause == "the secret key is wrong (403 Forbidden, SignatureDoesNotMatch)"
    assert remedy.startswith("correct AWS_ACCESS_KEY_ID")
    assert "AKIA" not in repr(Store.at("s3://bucket/p"))
    assert os.environ.get("AWS_SECRET_ACCESS_KEY", SECRET) not in str(Store.at("s3://bucket/p"))


def test_of_two_that_write_a_new_mark_one_succeeds(place: Store) -> None:
    assert place.read("owner.json") is None
    assert place.write_new("owner.json", b"mine")
    assert not place.write_new("owner.json", b"yours")
    assert place.read("owner.json") == b"mine"


@pytest.mark.parametrize("status", [501, 412])
def test_a_mark_where_conditions_are_not_known_or_the_answer_was_lost(server: ObjectServer, status: int) -> None:
    """Some services cannot write on condition; and one asked twice says that what it just wrote is there already."""
    place = Store.at("s3://bucket/p")

    def lost(method: str, key: str, number: int) -> int | None:
        if method != "PUT" or number:
            return None
        if status == 412:
            server.objects[key] = b"mine"
        return status

    server.plan = lost
    assert place.write_new("owner.json", b"mine")
    assert server.objects == {"p/owner.json": b"mine"}
