"""A job that runs again and again: only months that are new or changed are read, and no byte tells how it was made."""

import re
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from killing import few_words, kill_again_and_again, what_must_be_the_same
from rolling_fixture import Feature, rolling_items

from timesenmap.catalogs.demonstration import Demonstration
from timesenmap.pipeline import layers, work
from timesenmap.pipeline.record import MonthsRecord, RunRecord
from timesenmap.workflows import make_map_command as command
from timesenmap.workflows.account import Summary

JANUARY, FEBRUARY = "2022-01-05", "2022-02-05"  # nights after the scenes' first twelve months, and after one more
YEAR = [f"2021-{month:02d}" for month in range(1, 13)]


def run(*args: object) -> Result:
    return CliRunner().invoke(command.main, [str(arg) for arg in args])


def ok(*args: object) -> Result:
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rolling")


@pytest.fixture(scope="module")
def items(place: Demonstration, folder: Path) -> Path:
    """Scenes of fourteen months."""
    assert place.year == 2021
    return rolling_items(place, folder / "items.json")


@pytest.fixture(scope="module")
def changed_items(place: Demonstration, folder: Path) -> Path:
    """The same, but one scene of March less and one of December more (which the others lack)."""
    march = min(one["id"] for one in _features(place, folder) if one["properties"]["datetime"].startswith("2021-03"))
    return rolling_items(place, folder / "changed.json", keep=lambda one: one["id"] != march, more={"2021-12": 3})


def _features(place: Demonstration, folder: Path) -> list[Feature]:
    found: list[Feature] = []
    rolling_items(place, folder / "all.json", keep=lambda one: bool(found.append(one)) or True)
    return found


@pytest.fixture(scope="module")
def flags(place: Demonstration, folder: Path) -> list[object]:
    prompts = few_words(folder)
    return [
        "--aoi",
        place.aoi,
        "--catalog",
        place.catalog,
        "--prompts",
        prompts,
        "--start",
        "latest",
        "--tile-size",
        48,
    ]


@pytest.fixture(scope="module")
def january(flags: list[object], items: Path, folder: Path) -> Path:
    """Folder of the run of a January night."""
    ok(*flags, "--items", items, "--today", JANUARY, "--out", folder / "maps" / "{start}")
    return folder / "maps" / "2021-01"


@pytest.fixture(scope="module")
def fresh_february(flags: list[object], items: Path, folder: Path) -> dict[str, object]:
    """What a run of the next month gives that has nothing to take months from."""
    ok(*flags, "--items", items, "--today", FEBRUARY, "--out", folder / "fresh")
    return what_must_be_the_same(folder / "fresh")


@pytest.fixture(scope="module")
def fresh_changed(flags: list[object], changed_items: Path, folder: Path) -> dict[str, object]:
    """What a run of the January night gives with the changed scenes and nothing to take months from."""
    ok(*flags, "--items", changed_items, "--today", JANUARY, "--out", folder / "fresh-changed")
    return what_must_be_the_same(folder / "fresh-changed")


@contextmanager
def months_read() -> Iterator[Counter[str]]:
    """Count the files that are read, by the month of their scene."""
    read, months = layers.read_asset, Counter()

    def counted(source: layers.AssetSource, *args: object, **options: object) -> object:
        found = re.search(r"_(\d{4})(\d{2})\d{2}T", source.item)
        assert found is not None
        months[f"{found[1]}-{found[2]}"] += 1
        return read(source, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "read_asset", counted)
        yield months


def months_of(out: Path) -> MonthsRecord:
    months = RunRecord.read(out / "run.json").months
    assert months is not None
    return months


def taken_of(out: Path) -> dict[tuple[str, int], list[str]]:
    """Months by where they were taken from and in how many tiles."""
    found: dict[tuple[str, int], list[str]] = {}
    for one in months_of(out).taken:
        found.setdefault((one.source, one.tiles), []).append(one.month)
    return found


def without_tiling(same: dict[str, object]) -> dict[str, object]:
    """What does not depend on the tile size."""
    return {name: value for name, value in same.items() if name != "tiles"}


def test_a_new_folder_makes_every_month(january: Path) -> None:
    assert months_of(january) == MonthsRecord(made=tuple(YEAR), taken=())


def test_next_month_reads_that_month_alone(
    january: Path, fresh_february: dict[str, object], flags: list[object], items: Path
) -> None:
    summary = january.parent / "february.json"
    pattern = january.parent / "{start}"
    before = what_must_be_the_same(january)
    with months_read() as read:
        result = ok(*flags, "--items", items, "--today", FEBRUARY, "--out", pattern, "--summary", summary)
    assert set(read) == {"2022-01"}
    out = january.parent / "2021-02"
    assert what_must_be_the_same(out) == fresh_february
    assert what_must_be_the_same(january) == before
    assert months_of(out).made == ("2022-01",)
    assert taken_of(out) == {(str(january), 4): YEAR[1:]}
    said = f"2022-01 made; 2021-02 to 2021-12 (11 months) taken from {january}"
    assert f"cube: {said}" in result.stderr
    assert said in (out / "index.html").read_text()
    told = Summary.model_validate_json(summary.read_text())
    assert (told.months_made, told.months_taken_over) == (("2022-01",), tuple(YEAR[1:]))
    profile = RunRecord.read(out / "run.json").profile
    assert 0 < profile.bytes_read < RunRecord.read(january / "run.json").profile.bytes_read / 4


def test_another_tile_size_takes_them_too(
    january: Path, fresh_february: dict[str, object], flags: list[object], items: Path, tmp_path: Path
) -> None:
    shutil.copytree(january, tmp_path / "2021-01")
    with months_read() as read:
        ok(*flags, "--items", items, "--today", FEBRUARY, "--out", tmp_path / "{start}", "--tile-size", 32)
    assert set(read) == {"2022-01"}
    out = tmp_path / "2021-02"
    assert without_tiling(what_must_be_the_same(out)) == without_tiling(fresh_february)
    assert taken_of(out) == {(str(tmp_path / "2021-01"), 9): YEAR[1:]}


def test_a_folder_that_is_named_gives_months(
    january: Path, fresh_february: dict[str, object], flags: list[object], items: Path, tmp_path: Path
) -> None:
    with months_read() as read:
        ok(*flags, "--items", items, "--today", FEBRUARY, "--out", tmp_path / "out", "--reuse", january)
    assert set(read) == {"2022-01"}
    assert what_must_be_the_same(tmp_path / "out") == fresh_february
    result = run(*flags, "--items", items, "--today", FEBRUARY, "--out", tmp_path / "new", "--reuse", tmp_path)
    assert result.exit_code == 2
    assert f"--reuse {tmp_path}: holds no cube" in result.stderr
    assert not (tmp_path / "new").exists()


def test_changed_months_of_a_folder_are_made_again_and_no_other(
    january: Path, fresh_changed: dict[str, object], flags: list[object], changed_items: Path, tmp_path: Path
) -> None:
    """A scene of March was withdrawn and one of December came in."""
    out = tmp_path / "out"
    shutil.copytree(january, out)
    with months_read() as read:
        result = ok(*flags, "--items", changed_items, "--today", JANUARY, "--out", out)
    assert set(read) == {"2021-03", "2021-12"}
    assert what_must_be_the_same(out) == fresh_changed
    assert months_of(out).made == ("2021-03", "2021-12")
    assert taken_of(out) == {("", 4): [month for month in YEAR if month not in ("2021-03", "2021-12")]}
    assert "2021-03, 2021-12 made; 2021-01 to 2021-02 (2 months), 2021-04 to 2021-11 (8 months) kept" in result.stderr
    assert what_must_be_the_same(january) != fresh_changed


def test_another_way_to_tell_clouds_makes_every_month(
    january: Path, flags: list[object], items: Path, tmp_path: Path
) -> None:
    out, other = tmp_path / "out", [*flags, "--items", items, "--today", JANUARY, "--set-aside", "0,1,3,9"]
    shutil.copytree(january, out)
    with months_read() as read:
        ok(*other, "--out", out)
    assert set(read) == set(YEAR)
    assert months_of(out) == MonthsRecord(made=tuple(YEAR), taken=())
    ok(*other, "--out", tmp_path / "fresh")
    assert what_must_be_the_same(out) == what_must_be_the_same(tmp_path / "fresh")


def test_a_tile_that_failed_one_night_gives_the_next_what_it_still_holds(
    january: Path,
    fresh_changed: dict[str, object],
    flags: list[object],
    changed_items: Path,
    tmp_path: Path,
) -> None:
    """One night with one more cloud class fails in a tile; the next, as before, finds that tile as it stood."""
    out, broken = tmp_path / "out", "r0001c0000"
    shutil.copytree(january, out)
    composite = work.composite_tile

    def poisoned(scenes: object, grid: object, tile: object, *args: object, **options: object) -> object:
        if tile.key == broken:
            raise MemoryError("no room")
        return composite(scenes, grid, tile, *args, **options)

    same = [*flags, "--items", changed_items, "--today", JANUARY, "--out", out]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "composite_tile", poisoned)
        assert run(*same, "--set-aside", "0,1,3,9").exit_code == 1
    ok(*same)
    assert what_must_be_the_same(out)["few.tif"] == fresh_changed["few.tif"]
    kept = [month for month in YEAR if month not in ("2021-03", "2021-12")]
    assert taken_of(out) == {("", 1): kept}
    assert months_of(out).made == tuple(YEAR)


def test_a_cube_of_an_earlier_version_is_made_anew(
    january: Path, flags: list[object], items: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(january, out)
    shutil.rmtree(out / "work" / "cube.zarr" / "made_of")
    with sqlite3.connect(out / "work" / "ledger.sqlite") as db:
        db.execute("UPDATE stage SET signature = 'of old' WHERE name = 'cube'")
        db.execute("DROP TABLE taken")
    ok(*flags, "--items", items, "--today", JANUARY, "--out", out)
    assert months_of(out).made == tuple(YEAR)
    assert without_tiling(what_must_be_the_same(out)) == without_tiling(what_must_be_the_same(january))


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_kills_while_months_are_made_again_change_no_byte_and_leave_nothing(
    january: Path, flags: list[object], changed_items: Path, tmp_path: Path
) -> None:
    """In a folder whose cube is brought up to date, beside another run it may take months from."""
    same = [*flags, "--items", changed_items, "--today", JANUARY, "--reuse", january]
    hit = kill_again_and_again(same, tmp_path, kills=10, seed=11, begun=january)
    assert hit["cube"] > 0


def test_old_runs_go_after_a_good_one_and_only_then(
    january: Path, flags: list[object], items: Path, tmp_path: Path
) -> None:
    pattern, summary = tmp_path / "{start}", tmp_path / "summary.json"
    for start in ("2020-11", "2020-12", "2021-01"):
        shutil.copytree(january, tmp_path / start)
    keep = ["--items", items, "--out", pattern, "--keep-runs", 3, "--keep-work", 1, "--summary", summary]
    assert run(*flags, *keep, "--today", "2016-01-01").exit_code == 2
    assert len(list(tmp_path.glob("20*"))) == 3
    ok(*flags, *keep, "--today", FEBRUARY)
    assert sorted(path.name for path in tmp_path.glob("20*")) == ["2020-12", "2021-01", "2021-02"]
    assert [path.parent.parent.name for path in tmp_path.glob("*/work/*.zarr")] == ["2021-02"]
    assert (tmp_path / "2021-01" / "few.tif").read_bytes() == (january / "few.tif").read_bytes()
    assert Summary.model_validate_json(summary.read_text()).months_made == ("2022-01",)
