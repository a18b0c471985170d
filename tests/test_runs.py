"""Folders of a job's runs: named by their period, found again, and nothing else taken for one."""

import datetime as dt
from pathlib import Path

import pytest

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.period import Period
from timesenmap.workflows.job import Job, resolve_job
from timesenmap.workflows.runs import Runs

FLAGS: dict[str, object] = {"aoi": "3,50,4,51", "prompts": ("land-cover",)}


def _job(**fields: object) -> Job:
    return resolve_job(FLAGS | fields, None)


@pytest.mark.parametrize(
    ("today", "first", "last"),
    [
        ("2026-11-01", "2025-11", "2026-10"),
        ("2026-11-30", "2025-11", "2026-10"),
        ("2026-12-01", "2025-12", "2026-11"),
        ("2026-12-31", "2025-12", "2026-11"),
        ("2027-01-01", "2026-01", "2026-12"),
        ("2024-02-29", "2023-02", "2024-01"),
    ],
)
def test_latest_is_the_twelve_months_that_are_over(today: str, first: str, last: str) -> None:
    period = Period.latest(dt.date.fromisoformat(today))
    assert (period.labels[0], period.labels[-1]) == (first, last)
    assert period.end <= dt.date.fromisoformat(today)
    job = _job(start="latest", out="maps/{start}_{end}").settled(dt.date.fromisoformat(today))
    assert (job.start, str(job.out)) == (first, f"maps/{first}_{last}")


def test_a_settled_job_names_its_month_and_folder_and_is_a_job(tmp_path: Path) -> None:
    asked = _job(start="latest", out="maps/{end}", keep_runs=3, keep_work=1, reuse="other")
    settled = asked.settled(dt.date(2026, 11, 30))
    path = tmp_path / "job.yaml"
    path.write_text(settled.to_yaml())
    again = resolve_job({}, path)
    assert again == settled == again.settled(dt.date(2031, 1, 1))
    assert (again.start, str(again.out), again.keep_runs, again.keep_work) == ("2025-11", "maps/2026-10", None, None)


def test_what_names_its_months_keeps_them() -> None:
    job = _job(year=2024, out="maps/{start}")
    assert job.settled(dt.date(2026, 1, 1)).year == 2024
    assert str(job.settled().out) == "maps/2024-01"
    assert str(_job(year=2024, out="maps").settled().out) == "maps"


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("maps/{begin}", "'{begin}' is no placeholder"),
        ("maps/{start}/{year}", "'{year}' is no placeholder"),
        ("maps/{start", "'{' is no placeholder"),
        ("maps/{}", "'{}' is no placeholder"),
        ("maps/{start:%Y}", "'{start:%Y}' is no placeholder"),
    ],
)
def test_unknown_placeholders_are_refused(out: str, says: str) -> None:
    with pytest.raises(MapError) as error:
        _job(start="latest", out=out)
    assert says in str(error.value)
    assert "{start} and {end} are" in str(error.value)


@pytest.mark.parametrize("field", ["keep_runs", "keep_work"])
def test_retention_needs_a_folder_for_each_period(field: str) -> None:
    with pytest.raises(MapError, match=f"{field} needs a folder for each period"):
        _job(start="latest", out="maps", **{field: 3})
    with pytest.raises(MapError, match=f"--{field.replace('_', '-')} 0"):
        _job(start="latest", out="maps/{start}", **{field: 0})


@pytest.mark.parametrize("pattern", ["{start}_{end}", "{end}/maps", "a [x] {start}{end}*", "{start}/{start}"])
def test_folders_are_found_again_newest_first(tmp_path: Path, pattern: str) -> None:
    runs = Runs(tmp_path / pattern)
    periods = [Period.of(start=start) for start in ("2024-11", "2023-01", "2025-01", "2023-12")]
    for period in periods:
        runs.folder(period).mkdir(parents=True)
    for other in ("2023-01", "2023-13_2024-12", "2023-01_2024-01", "x2023-01_2023-12", "a x 2023-012023-12*"):
        (tmp_path / other).mkdir(exist_ok=True)
    (tmp_path / "2022-01_2022-12").write_text("no folder")
    found = runs.standing()
    assert [period.labels[0] for period, _ in found] == ["2025-01", "2024-11", "2023-12", "2023-01"]
    assert all(path == runs.folder(period) for period, path in found)


def test_one_folder_is_no_family(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "maps")
    assert (runs.many, runs.lock, runs.standing()) == (False, None, [])


def test_the_lock_lies_beside_the_folders_and_is_of_one_pattern(tmp_path: Path) -> None:
    lock = Runs(tmp_path / "north-{start}" / "maps").lock
    assert lock == tmp_path / ".north-{start}+maps.lock"
    assert Runs(tmp_path / "south-{start}" / "maps").lock != lock
