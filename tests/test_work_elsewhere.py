"""make-map with its stores elsewhere: in an object storage, or in another folder."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from killing import few_words
from object_server import ObjectServer, object_server

from timesenmap.catalogs.demonstration import Demonstration
from timesenmap.pipeline import objects, open_cube, open_maps
from timesenmap.workflows import make_map_command as command

WORK = "s3://bucket/nights/first"
SECRET = "any-secret-will-do"  # of `object_server`


def run(*args: object) -> Result:
    return CliRunner().invoke(command.main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with pytest.MonkeyPatch.context() as environment:
        quick = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=5)}
        environment.setattr(objects, "PATIENT", {"max_retries": 2, "backoff": quick})
        with object_server(environment) as server:
            yield server


@pytest.fixture(scope="module")
def job(place: Demonstration, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Flags of a small map, without --out and --work."""
    words = few_words(tmp_path_factory.mktemp("words"))
    return [
        "--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year, "--prompts", words, "--tile-size", 48,
        "--keep-embeddings", "--probabilities", "--margin", "--max-cloud-cover", 0,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def here(job: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose stores are in its own folder."""
    out = tmp_path_factory.mktemp("here") / "out"
    result = run(*job, "--out", out)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def there(job: list[object], server: ObjectServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with its stores in an object storage."""
    out = tmp_path_factory.mktemp("there") / "out"
    result = run(*job, "--out", out, "--work", WORK)
    assert result.exit_code == 0, result.output
    return out


def what_is_the_same(out: Path) -> dict[str, object]:
    """Hashes of all maps and what lies beside them; checksum, counts and bytes of every tile."""
    same: dict[str, object] = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.iterdir())
        if path.name.endswith((".tif", ".aux.xml", ".qml", ".png"))
    }
    db = sqlite3.connect(out / "work" / "ledger.sqlite")
    same["tiles"] = db.execute("SELECT stage, key, state, checksum, counts, bytes FROM tile ORDER BY 1, 2").fetchall()
    db.close()
    return same


def tile_objects(server: ObjectServer, prefix: str) -> set[str]:
    return {key for key in server.objects if key.startswith(prefix) and "/c/" in key}


def test_the_same_bytes_wherever_the_stores_lie(here: Path, there: Path) -> None:
    same = what_is_the_same(here)
    assert len(same) >= 6
    assert what_is_the_same(there) == same


def test_what_is_here_and_what_is_there(there: Path, server: ObjectServer) -> None:
    assert {path.name for path in (there / "work").iterdir()} == {"items.parquet", "ledger.sqlite", "lock"}
    stores = {key.removeprefix("nights/first/").partition(".zarr/")[0] for key in server.objects}
    assert stores == {"owner.json", "cube", "embeddings", "labels/few", "probabilities/few", "margins/few"}
    assert json.loads(server.objects["nights/first/owner.json"])["out"].startswith(str(there))


def test_python_finds_the_stores(here: Path, there: Path) -> None:
    mine, theirs = open_cube(here), open_cube(there)
    assert np.array_equal(mine["reflectance"].values, theirs["reflectance"].values, equal_nan=True)
    assert np.array_equal(mine["clear"].values, theirs["clear"].values)
    assert list(open_maps(there)) == list(open_maps(here))


def test_the_report_has_the_curves(here: Path, there: Path) -> None:
    """They are read from the cube: a grey picture of twelve months below each other."""
    pages = [(out / "index.html").read_text() for out in (here, there)]
    curves = [page.partition('id="curves"')[2].partition("base64,")[2].partition('"')[0] for page in pages]
    assert curves[0] == curves[1]
    assert len(curves[0]) > 1000


def test_no_key_is_written_anywhere(there: Path, server: ObjectServer) -> None:
    written = [path.read_bytes() for path in there.rglob("*") if path.is_file()] + list(server.objects.values())
    assert len(written) > 30
    assert not [content for content in written if SECRET.encode() in content or b"AKIAANYBODY" in content]
    assert yaml.safe_load((there / "job.yaml").read_text())["work"] == WORK
    assert json.loads((there / "run.json").read_text())["job"]["work"] == WORK


def test_a_second_run_writes_no_tile(job: list[object], there: Path, server: ObjectServer) -> None:
    before = tile_objects(server, "nights/first")
    put: list[str] = []
    server.plan = lambda method, key, number: put.append(f"{method} {key}") if method in ("PUT", "DELETE") else None
    result = run(*job, "--out", there, "--work", WORK)
    server.plan = lambda method, key, number: None
    assert result.exit_code == 0, result.output
    assert tile_objects(server, "nights/first") == before
    assert all("/probe-" in one for one in put), put  # that the stores can be written is looked at each time


def test_another_job_is_refused(job: list[object], there: Path, tmp_path: Path, server: ObjectServer) -> None:
    before = dict(server.objects)
    result = run(*job, "--out", tmp_path / "other", "--work", WORK + "/")
    assert result.exit_code == 2
    assert f"--work {WORK}: holds the stores of {there} on " in result.output
    assert "name another place" in result.output
    assert not (tmp_path / "other").exists()
    assert server.objects == before


def test_a_place_that_cannot_be_is_refused_before_anything(job: list[object], tmp_path: Path) -> None:
    for work, words in (
        ("s3://nowhere/first", "--work s3://nowhere/first: writing an object failed: there is no such bucket"),
        ("gopher://bucket/first", "--work gopher://bucket/first: is no place in an object storage"),
    ):
        result = run(*job, "--out", tmp_path / "out", "--work", work)
        assert result.exit_code == 2
        assert words in result.output
        assert not (tmp_path / "out").exists()


def test_stores_that_move_are_made_again(job: list[object], here: Path, server: ObjectServer, tmp_path: Path) -> None:
    """What was recorded of the stores in one place says nothing of another; back again, neither."""
    out, one, other = tmp_path / "out", tmp_path / "fast disk", "s3://bucket/moved"
    for number, work in enumerate((one, other, one)):
        result = run(*job, "--out", out, "--work", work)
        assert result.exit_code == 0, result.output
        assert what_is_the_same(out) == what_is_the_same(here)
        left = f"stores are made anew in {work}; those of earlier runs are left in {(one, one, other)[number]}"
        assert (left in result.output) == (number > 0)
    assert {path.name for path in one.iterdir()} == {
        "owner.json", "cube.zarr", "embeddings.zarr", "labels", "probabilities", "margins",
    }  # fmt: skip


def test_a_tile_that_cannot_be_stored_fails_by_name_and_is_done_later(
    job: list[object], here: Path, server: ObjectServer, tmp_path: Path
) -> None:
    """The bucket is full for one tile of the cube and one of the labels."""
    out, work = tmp_path / "out", "s3://bucket/full"
    full = ("full/cube.zarr/reflectance/c/0/0/1/1", "full/labels/few.zarr/confidence/c/0/0")
    server.plan = lambda method, key, number: 507 if method == "PUT" and key in full else None
    result = run(*job, "--out", out, "--work", work)
    server.plan = lambda method, key, number: None
    assert result.exit_code == 1, result.output
    assert (
        "cube r0001c0001: s3://bucket/full/cube.zarr/reflectance/c/0/0/1/1: the service answered 507" in result.output
    )
    assert "labels r0000c0000" in result.output or "labels:few r0000c0000" in result.output
    assert not (out / "few.tif").exists()
    result = run(*job, "--out", out, "--work", work, "--retry-failed")
    assert result.exit_code == 0, result.output
    assert what_is_the_same(out) == what_is_the_same(here)


def test_each_period_has_its_place_and_goes_with_its_run(
    job: list[object], server: ObjectServer, tmp_path: Path
) -> None:
    """Months come from the other period's cube in its bucket; old stores are removed there, before their folder."""
    first, second = "s3://bucket/rolling/2021-01", "s3://bucket/rolling/2021-02"
    where = [*job[:4], *job[6:], "--out", tmp_path / "maps" / "{start}", "--work", "s3://bucket/rolling/{start}"]
    result = run(*where, "--start", "2021-01")
    assert result.exit_code == 0, result.output
    assert tile_objects(server, "rolling/2021-01/cube.zarr")
    summary = tmp_path / "summary.json"
    result = run(*where, "--start", "2021-02", "--keep-work", 1, "--summary", summary)
    assert result.exit_code == 0, result.output
    taken = json.loads(summary.read_text())
    assert len(taken["months_taken_over"]) == 11
    assert taken["warnings"] == [] or "tidied" not in str(taken["warnings"])
    assert not [key for key in server.objects if key.startswith("rolling/2021-01")]
    assert yaml.safe_load((tmp_path / "maps" / "2021-02" / "job.yaml").read_text())["work"] == second
    assert (tmp_path / "maps" / "2021-01" / "few.tif").exists()
    assert first != second
    result = run(*where, "--start", "2021-03", "--keep-runs", 1)
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "maps").iterdir() if path.is_dir()] == ["2021-03"]
    assert {key.split("/")[1] for key in server.objects if key.startswith("rolling/")} == {"2021-03"}


def test_a_folder_for_each_period_needs_a_place_for_each(job: list[object], tmp_path: Path) -> None:
    for work, words in (
        ("s3://bucket/one", "needs {start} or {end}, too"),
        ("s3://bucket/{month}", "'{month}' is no placeholder"),
    ):
        result = run(*job, "--out", tmp_path / "{start}", "--work", work)
        assert result.exit_code == 2
        assert words in result.output
