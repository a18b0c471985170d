"""Old runs are removed after a good one: ours, older, finished and idle, and nothing else."""

import shutil
from pathlib import Path

import pytest

from timesenmap.pipeline import locks
from timesenmap.pipeline.ledger import Ledger
from timesenmap.workflows.retention import tidy
from timesenmap.workflows.runs import Runs


def make_run(folder: Path) -> Path:
    """A finished run as far as it matters here: maps, record, ledger, list of scenes and two stores."""
    (folder / "work" / "cube.zarr" / "c").mkdir(parents=True)
    (folder / "work" / "cube.zarr" / "zarr.json").write_text("{}")
    (folder / "work" / "labels" / "few.zarr").mkdir(parents=True)
    for name in ("few.tif", "run.json", "work/items.parquet", "work/labels/few.zarr/zarr.json"):
        (folder / name).write_text(name)
    Ledger(folder / "work" / "ledger.sqlite")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Runs from January to June 2020."""
    for month in range(1, 7):
        make_run(tmp_path / f"2020-{month:02d}" / "maps")
    return Runs(tmp_path / "{start}" / "maps")


def folder(runs: Runs, month: int) -> Path:
    return runs.root / f"2020-{month:02d}" / "maps"


def standing(runs: Runs) -> list[int]:
    return sorted(int(period.labels[0][5:]) for period, _ in runs.standing())


def with_stores(runs: Runs) -> list[int]:
    return [month for month in standing(runs) if (folder(runs, month) / "work" / "cube.zarr").exists()]


def test_the_newest_stay(runs: Runs) -> None:
    assert tidy(runs, folder(runs, 6), keep_runs=4, keep_work=2) == []
    assert standing(runs) == [3, 4, 5, 6]
    assert with_stores(runs) == [5, 6]
    assert sorted(path.name for path in runs.root.iterdir()) == ["2020-03", "2020-04", "2020-05", "2020-06"]
    left = {str(path.relative_to(folder(runs, 3))) for path in folder(runs, 3).rglob("*")}
    assert left == {"few.tif", "run.json", "work", "work/items.parquet", "work/ledger.sqlite", "work/lock"}
    before = set(runs.root.rglob("*"))
    assert tidy(runs, folder(runs, 6), keep_runs=4, keep_work=2) == []
    assert set(runs.root.rglob("*")) == before


def test_all_stay_where_nothing_is_said(runs: Runs) -> None:
    assert tidy(runs, folder(runs, 6), keep_runs=None, keep_work=None) == []
    assert standing(runs) == with_stores(runs) == [1, 2, 3, 4, 5, 6]


def test_neither_this_run_nor_a_newer_one_is_touched(runs: Runs) -> None:
    """A run of an old period, made again, tidies up what is older still."""
    assert tidy(runs, folder(runs, 3), keep_runs=1, keep_work=1) == []
    assert standing(runs) == with_stores(runs) == [3, 4, 5, 6]


def test_what_is_not_a_finished_run_of_ours_neither_counts_nor_goes(runs: Runs, tmp_path: Path) -> None:
    (folder(runs, 1) / "run.json").unlink()  # not finished
    (folder(runs, 2) / "work" / "ledger.sqlite").unlink()  # somebody else's
    (folder(runs, 5) / "run.json").unlink()
    (runs.root / "2019-12").mkdir()
    (runs.root / "2019-12" / "maps").symlink_to(folder(runs, 6))
    (runs.root / "notes").mkdir()
    assert tidy(runs, folder(runs, 6), keep_runs=2, keep_work=None) == []
    assert standing(runs) == [1, 2, 4, 5, 6, 12]
    assert (runs.root / "notes").is_dir()


def test_where_another_run_is_at_work_it_is_left_and_said(runs: Runs) -> None:
    with locks.held(folder(runs, 1) / "work" / "lock", "another"):
        (warning,) = tidy(runs, folder(runs, 6), keep_runs=4, keep_work=None)
    assert f"{folder(runs, 1)} was to be tidied up and is left as it is" in warning
    assert "another run is at work there" in warning
    assert standing(runs) == [1, 3, 4, 5, 6]


def test_what_cannot_be_removed_is_a_warning_and_goes_the_next_time(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def half(path: Path) -> None:
        (path / "run.json").unlink()
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", half)
        warnings = tidy(runs, folder(runs, 6), keep_runs=5, keep_work=None)
    assert len(warnings) == 1
    assert "Permission denied" in warnings[0]
    assert standing(runs) == [2, 3, 4, 5, 6]
    assert [path.name for path in runs.removed()] == [".maps.removed"]
    assert shutil.rmtree is remove
    assert tidy(runs, folder(runs, 6), keep_runs=5, keep_work=None) == []
    assert sorted(path.name for path in runs.root.iterdir()) == [f"2020-{month:02d}" for month in range(2, 7)]


def test_a_run_that_is_removed_can_be_made_again(runs: Runs) -> None:
    tidy(runs, folder(runs, 6), keep_runs=5, keep_work=None)
    make_run(folder(runs, 1))
    assert tidy(runs, folder(runs, 6), keep_runs=5, keep_work=None) == []
    assert standing(runs) == [2, 3, 4, 5, 6]
