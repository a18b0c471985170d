"""The ledger remembers what was finished, and only that."""

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from timesenmap.pipeline.ledger import Ledger, Spent, TileResult


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def test_counts_sum_over_finished_tiles_only(ledger: Ledger) -> None:
    ledger.begin("cube", "s1", 64)
    ledger.finish("cube", "a", TileResult("x", {"pixels": [1], "months": [1, 2]}), Spent(0.1))
    ledger.finish("cube", "b", TileResult("y", {"pixels": [10], "months": [5, 5]}), Spent(0.1))
    ledger.fail("cube", "c", "no such file", 0.1)
    assert ledger.totals("cube") == {"pixels": [11], "months": [6, 7]}
    assert ledger.done("cube") == {"a", "b"}
    assert ledger.checksums("cube") == {"a": "x", "b": "y"}


def test_failed_tile_that_is_done_later_counts(ledger: Ledger) -> None:
    ledger.begin("cube", "s1", 64)
    ledger.fail("cube", "a", "boom", 0.1)
    assert ledger.done("cube") == set()
    ledger.finish("cube", "a", TileResult("x", {"pixels": [1]}), Spent(0.1))
    assert ledger.done("cube") == {"a"}
    assert ledger.totals("cube") == {"pixels": [1]}


def test_forgotten_stage_is_not_complete_when_begun_again(ledger: Ledger) -> None:
    """Signature A complete, then B begun and killed, then A again: A's store is gone, so A is not complete."""
    ledger.begin("cube", "A", 64)
    ledger.finish("cube", "a", TileResult("x", {}), Spent(0.1))
    ledger.complete("cube")
    ledger.forget("cube")
    ledger.begin("cube", "B", 64)
    assert ledger.stage("cube", "A") is None
    ledger.forget("cube")
    ledger.begin("cube", "A", 64)
    state = ledger.stage("cube", "A")
    assert state is not None
    assert not state.complete
    assert ledger.done("cube") == set()


def test_survives_reopening(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "ledger.sqlite")
    first.begin("cube", "s1", 64)
    first.finish("cube", "a", TileResult("x", {}), Spent(0.1))
    first.keep_note("place", "here")
    first.keep_file("map.tif", "sig", "sha", seconds=0.5, size=10)
    again = Ledger(tmp_path / "ledger.sqlite")
    assert again.done("cube") == {"a"}
    assert again.note("place") == "here"
    assert again.file_signature("map.tif") == ("sig", "sha")
    assert again.file_signature("other.tif") is None


def test_what_was_spent_sums_over_finished_tiles_and_files(ledger: Ledger) -> None:
    """Of the stages and files asked for: a prompt set that is no longer among them does not count."""
    for stage in ("cube", "labels:old"):
        ledger.begin(stage, "s1", 64)
        ledger.finish(stage, "a", TileResult("x", {}, 100), Spent(3.0, {"reading": 2.0, "rest": 1.0}, 7))
    ledger.finish("cube", "b", TileResult("y", {}, 10), Spent(1.0, {"reading": 0.5, "writing": 0.5}, 5))
    ledger.fail("cube", "c", "boom", 99.0)
    ledger.keep_file("map.tif", "sig", "sha", seconds=0.25, size=1000)
    ledger.keep_file("old.tif", "sig", "sha", seconds=9.0, size=1)
    assert ledger.spent({"cube"}, {"map.tif"}) == Spent(
        4.25, {"reading": 2.5, "rest": 1.0, "writing": 0.75}, bytes_read=12, bytes_written=1110
    )


def test_failures_are_kept_with_their_attempts(ledger: Ledger) -> None:
    ledger.begin("cube", "s1", 64)
    ledger.fail("cube", "a", "boom", 0.1)
    ledger.fail("cube", "a", "again", 0.1)
    ledger.fail("cube", "b", "once", 0.1)
    ledger.finish("cube", "b", TileResult("x", {}), Spent(0.1))
    assert ledger.failed("cube") == {"a": "again"}
    assert ledger.any_failed() == {"a"}
    with sqlite3.connect(ledger.path) as db:
        assert db.execute("SELECT key, state, attempts FROM tile ORDER BY key").fetchall() == [
            ("a", "failed", 2),
            ("b", "done", 2),
        ]
    db.close()


def test_ledger_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Before sizes and profiles were kept: its tiles stay done, what they took counts as the rest."""
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(
            "CREATE TABLE stage (name TEXT PRIMARY KEY, signature TEXT, tile_size INTEGER, complete INTEGER DEFAULT 0);"
            "CREATE TABLE tile (stage TEXT, key TEXT, state TEXT, attempts INTEGER, seconds REAL, checksum TEXT,"
            " counts TEXT, error TEXT, finished REAL, PRIMARY KEY (stage, key));"
            "CREATE TABLE file (name TEXT PRIMARY KEY, signature TEXT, sha256 TEXT);"
            "INSERT INTO tile VALUES ('cube', 'a', 'done', 1, 2.0, 'x', '{}', NULL, 0);"
            "INSERT INTO file VALUES ('map.tif', 'sig', 'sha');"
        )
    db.close()
    ledger = Ledger(path)
    ledger.finish("cube", "b", TileResult("y", {}, 5), Spent(1.0, {"reading": 1.0}, 3))
    assert ledger.done("cube") == {"a", "b"}
    assert ledger.spent({"cube"}, {"map.tif"}) == Spent(3.0, {"rest": 2.0, "reading": 1.0}, 3, 5)
    assert ledger.file_signature("map.tif") == ("sig", "sha")


def _write_tiles(path: Path, writer: int, count: int, ready: "multiprocessing.synchronize.Barrier") -> None:
    """What a process of its own does: finish tiles of a stage of its own, and fail and finish those all share."""
    ledger = Ledger(path)
    ready.wait(60)
    ledger.begin(f"labels:{writer}", "s1", 64)
    for number in range(count):
        ledger.finish(
            f"labels:{writer}", f"r{number:04d}c0000", TileResult(f"{writer}", {"pixels": [number]}), Spent(0.1)
        )
        ledger.fail("cube", f"r{number:04d}c0000", f"writer {writer}", 0.1)
        ledger.finish("cube", f"r{number:04d}c0001", TileResult("same", {"pixels": [1]}, 10), Spent(1.0))
    ledger.complete(f"labels:{writer}")


def test_several_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    """Only the process of a run writes; that others may is what lets people look, and mend, while it does."""
    writers, count = 4, 25
    path = tmp_path / "ledger.sqlite"
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(writers)
    processes = [context.Process(target=_write_tiles, args=(path, n, count, ready)) for n in range(writers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * writers
    ledger = Ledger(path)
    for writer in range(writers):
        state = ledger.stage(f"labels:{writer}", "s1")
        assert state is not None
        assert state.complete
        assert ledger.totals(f"labels:{writer}") == {"pixels": [sum(range(count))]}
        assert set(ledger.checksums(f"labels:{writer}").values()) == {str(writer)}
    assert ledger.totals("cube") == {"pixels": [count]}
    with sqlite3.connect(path) as db:
        attempts = db.execute("SELECT attempts FROM tile WHERE stage = 'cube'").fetchall()
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    assert attempts == [(writers,)] * 2 * count  # every attempt of every writer counted
