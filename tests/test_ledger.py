"""The ledger remembers what was finished, and only that."""

from pathlib import Path

import pytest

from timesenmap.pipeline.ledger import Ledger, TileResult


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def test_counts_sum_over_finished_tiles_only(ledger: Ledger) -> None:
    ledger.begin("cube", "s1", 64)
    ledger.finish("cube", "a", TileResult("x", {"pixels": [1], "months": [1, 2]}), 0.1)
    ledger.finish("cube", "b", TileResult("y", {"pixels": [10], "months": [5, 5]}), 0.1)
    ledger.fail("cube", "c", "no such file", 0.1)
    assert ledger.totals("cube") == {"pixels": [11], "months": [6, 7]}
    assert ledger.done("cube") == {"a", "b"}
    assert ledger.checksums("cube") == {"a": "x", "b": "y"}


def test_failed_tile_that_is_done_later_counts(ledger: Ledger) -> None:
    ledger.begin("cube", "s1", 64)
    ledger.fail("cube", "a", "boom", 0.1)
    assert ledger.done("cube") == set()
    ledger.finish("cube", "a", TileResult("x", {"pixels": [1]}), 0.1)
    assert ledger.done("cube") == {"a"}
    assert ledger.totals("cube") == {"pixels": [1]}


def test_forgotten_stage_is_not_complete_when_begun_again(ledger: Ledger) -> None:
    """Signature A complete, then B begun and killed, then A again: A's store is gone, so A is not complete."""
    ledger.begin("cube", "A", 64)
    ledger.finish("cube", "a", TileResult("x", {}), 0.1)
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
    first.finish("cube", "a", TileResult("x", {}), 0.1)
    first.keep_note("place", "here")
    first.keep_file("map.tif", "sig", "sha")
    again = Ledger(tmp_path / "ledger.sqlite")
    assert again.done("cube") == {"a"}
    assert again.note("place") == "here"
    assert again.file_signature("map.tif") == ("sig", "sha")
    assert again.file_signature("other.tif") is None
