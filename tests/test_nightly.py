"""Jobs that run every night: the latest months, a lock for all periods of a job, and a summary whatever happens."""

import datetime as dt
import hashlib
import json
import os
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from killing import few_words
from rolling_fixture import rolling_items

from timesenmap.catalogs.demonstration import Demonstration
from timesenmap.pipeline import locks, work
from timesenmap.pipeline.record import RunRecord
from timesenmap.workflows import make_map_command as command
from timesenmap.workflows.account import Summary


def run(*args: object) -> Result:
    return CliRunner().invoke(command.main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nightly")


@pytest.fixture(scope="module")
def job(place: Demonstration, folder: Path) -> Path:
    """Job file of the latest months of a place whose scenes end in its second February."""
    fields = {
        "aoi": str(place.aoi),
        "prompts": [str(few_words(folder))],
        "start": "latest",
        "items": str(rolling_items(place, folder / "items.json")),
        "catalog": str(place.catalog),
        "out": str(folder / "maps" / "{start}_{end}"),
        "tile_size": 48,
    }
    (folder / "nightly.yaml").write_text(yaml.safe_dump(fields))
    return folder / "nightly.yaml"


@pytest.fixture(scope="module")
def done(job: Path, folder: Path, place: Demonstration) -> Path:
    """Folder of the run of a January, whose summary is beside the job."""
    result = run("--job", job, "--today", f"{place.year + 1}-01-03", "--summary", folder / "done.json")
    assert result.exit_code == 0, result.output
    return folder / "maps" / f"{place.year}-01_{place.year}-12"


def summary_of(path: Path) -> Summary:
    return Summary.model_validate_json(path.read_text())


def test_the_latest_months_have_a_folder_of_their_own(done: Path, place: Demonstration) -> None:
    record = RunRecord.read(done / "run.json")
    assert record.observations.months == tuple(f"{place.year}-{month:02d}" for month in range(1, 13))
    written = yaml.safe_load((done / "job.yaml").read_text())
    assert (written["start"], written["out"]) == (f"{place.year}-01", str(done))


def test_the_job_beside_the_maps_repeats_them_on_any_day(done: Path, tmp_path: Path) -> None:
    result = run("--job", done / "job.yaml", "--out", tmp_path / "again", "--today", "2040-01-01")
    assert result.exit_code == 0, result.output
    assert {path.name: path.read_bytes() for path in done.glob("*.tif")} == {
        path.name: path.read_bytes() for path in (tmp_path / "again").glob("*.tif")
    }


def test_summary_of_a_run_that_is_done(done: Path, job: Path, folder: Path, place: Demonstration) -> None:
    summary = summary_of(folder / "done.json")
    assert (summary.state, summary.exit_code, summary.message) == ("done", 0, "")
    assert summary.started <= summary.finished
    assert summary.started.utcoffset() == dt.timedelta(0)
    assert (summary.job, summary.out) == (str(job), str(done))
    assert (summary.period.start, summary.period.end) == (f"{place.year}-01", f"{place.year}-12")
    assert (summary.tiles.done, summary.tiles.failed, summary.tiles.total) == (4, 0, 4)
    assert summary.pixels == 92 * 92
    assert set(summary.seconds) >= {"prepare", "cube", "labels", "maps"}
    assert {one.file: one.sha256 for one in summary.maps} == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in done.glob("*.tif")
    }
    assert len(summary.maps) == 3
    assert summary.versions == RunRecord.read(done / "run.json").versions


def test_two_nights_of_a_job_never_overlap_whatever_their_months(done: Path, job: Path, tmp_path: Path) -> None:
    """The second says who is at work and does nothing, not even look for scenes."""
    before = {path: path.stat().st_mtime_ns for path in done.parent.rglob("*")}
    lock = done.parent / ".{start}_{end}.lock"
    summary = tmp_path / "summary.json"
    with locks.held(lock, "a night"):
        result = run("--job", job, "--today", "2022-02-01", "--summary", summary)
    assert result.exit_code == 3, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"locked: --out {done.parent / '{start}_{end}'}: another run is at work there (process ")
    assert f"(process {os.getpid()} on " in line
    told = summary_of(summary)
    assert (told.state, told.exit_code, told.message) == ("locked", 3, line)
    assert (told.tiles, told.failed_tiles, told.maps, told.pixels) == (None, (), (), None)
    assert str(told.out).endswith("2021-02_2022-01")
    after = {path: path.stat().st_mtime_ns for path in done.parent.rglob("*")}
    assert {path for path in after if after[path] != before.get(path)} <= {lock}


def test_a_run_of_the_folder_alone_holds_it_too(done: Path, job: Path) -> None:
    with locks.held(done / "work" / "lock", "someone"):
        result = run("--job", done / "job.yaml")
        assert result.exit_code == 3, result.output
        assert f"locked: --out {done}: another run is at work there" in result.stderr
    assert (done / "work" / "lock").read_text() == ""


def test_a_lock_that_a_dead_process_left_blocks_nobody(done: Path, job: Path) -> None:
    """What a run wrote into its lock before it was killed stays there, unheld."""
    lock = done.parent / ".{start}_{end}.lock"
    lock.write_text(json.dumps({"host": "node7", "pid": 1, "since": "2021-12-31T23:00:00+00:00"}))
    result = run("--job", job, "--today", "2022-01-31")
    assert result.exit_code == 0, result.output
    assert lock.read_text() == ""


def test_summary_of_bad_input(job: Path, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    result = run("--job", job, "--out", tmp_path / "{strat}", "--summary", path)
    assert result.exit_code == 2
    told = summary_of(path)
    assert (told.state, told.exit_code) == ("bad input", 2)
    assert "'{strat}' is no placeholder" in told.message
    assert told.message == result.stderr.strip()
    assert (told.out, told.period, told.tiles) == (None, None, None)
    result = run("--job", job, "--out", tmp_path / "out", "--today", "2016-05-05", "--summary", path)
    assert result.exit_code == 2
    told = summary_of(path)
    assert (told.state, told.out, told.period.start) == ("bad input", str(tmp_path / "out"), "2015-05")
    assert "no scene from 2015-05-01" in told.message
    assert not (tmp_path / "out").exists()


def test_summary_of_a_run_that_failed_and_of_one_that_was_stopped(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composite, path, ends = (
        work.composite_tile,
        tmp_path / "summary.json",
        [MemoryError("no room"), KeyboardInterrupt()],
    )

    def poisoned(scenes: object, grid: object, tile: object, *args: object, **options: object) -> object:
        if tile.key == "r0000c0001":
            raise ends.pop(0)
        return composite(scenes, grid, tile, *args, **options)

    monkeypatch.setattr(work, "composite_tile", poisoned)
    flags = ["--job", job, "--out", tmp_path / "out", "--today", "2022-01-31", "--summary", path]
    result = run(*flags)
    assert result.exit_code == 1, result.output
    told = summary_of(path)
    assert (told.state, told.exit_code, told.maps) == ("failed", 1, ())
    assert told.message in result.stderr
    assert (told.tiles.done, told.tiles.failed, told.tiles.total) == (3, 1, 4)
    (failed,) = told.failed_tiles
    assert (failed.stage, failed.tile, failed.error) == ("cube", "r0000c0001", "MemoryError: no room")
    result = run(*flags)
    assert result.exit_code == 130, result.output
    told = summary_of(path)
    assert (told.state, told.exit_code) == ("stopped", 130)
    assert told.message == result.stderr.splitlines()[-1]
    assert told.tiles.done == 3


def test_a_broken_program_is_told_as_failed(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timesenmap.workflows.make_map.prepare", None)
    result = run("--job", job, "--out", tmp_path / "out", "--summary", tmp_path / "summary.json")
    assert isinstance(result.exception, TypeError)
    told = summary_of(tmp_path / "summary.json")
    assert (told.state, told.exit_code) == ("failed", 1)
    assert told.message.startswith("failed: TypeError: ")


def test_a_summary_that_cannot_be_written_fails_the_run_but_hides_no_error(job: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    nowhere = tmp_path / "file" / "summary.json"
    result = run("--job", job, "--show-config", "--summary", nowhere)
    assert result.exit_code == 1
    assert "failed: " in result.stderr
    result = run("--job", tmp_path / "no.yaml", "--summary", nowhere)
    assert result.exit_code == 2
    assert "no.yaml" in result.stderr.splitlines()[-1]
