"""The log as JSON: an object a line whatever is said, with what is known of a tile."""

import datetime as dt
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from timesenmap.catalogs.demonstration import Demonstration
from timesenmap.pipeline.grid import Tile, tiles
from timesenmap.pipeline.ledger import Ledger, TileResult
from timesenmap.pipeline.stores import Store
from timesenmap.pipeline.tiling import Stage, TileRun, TilesFailedError
from timesenmap.workflows.logs import JsonLines

GRID = GeoBox.from_bbox((500000, 5600000, 500640, 5600640), crs="EPSG:32631", resolution=10)


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("timesenmap.x", logging.WARNING, __file__, 1, message, args, None)
    made.__dict__.update(extra)
    return made


@given(st.text(), st.text())
def test_any_message_is_one_line_of_valid_json(message: str, error: str) -> None:
    line = JsonLines().format(record("%s", message, error=error))
    assert line.isascii()
    assert "\n" not in line
    said = json.loads(line)
    assert said["message"] == message
    assert said.get("error", "") == error


def test_keys_time_and_traceback() -> None:
    made = record(
        'said "no"\nin two lines', stage="cube", tile="r0001c0002", worker="", attempt=2, seconds=1.5, other=3
    )
    made.created = 1_700_000_000.25
    made.exc_info = (ValueError, ValueError("ä"), None)
    said = json.loads(JsonLines().format(made))
    assert said.pop("exception").endswith("ValueError: ä")
    assert said == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "WARNING",
        "logger": "timesenmap.x",
        "message": 'said "no"\nin two lines',
        "stage": "cube",
        "tile": "r0001c0002",
        "attempt": 2,
        "seconds": 1.5,
    }


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def log() -> Iterator[Kept]:
    logger, kept = logging.getLogger("timesenmap.pipeline.tiling"), Kept()
    level = logger.level
    logger.addHandler(kept)
    logger.setLevel(logging.DEBUG)
    yield kept
    logger.removeHandler(kept)
    logger.setLevel(level)


def test_every_tile_has_its_record(tmp_path: Path, log: Kept) -> None:
    """Done ones at DEBUG, failed ones at WARNING, with stage, tile, attempt, seconds and error."""
    ledger, failed = Ledger(tmp_path / "ledger.sqlite"), []

    def work(tile: Tile, wanted: frozenset[str]) -> dict[str, TileResult]:
        if tile.key == "r0000c0001":
            raise OSError("torn")
        return {name: TileResult("", {}) for name in wanted}

    def run() -> None:
        log.records.clear()
        tile_run = TileRun(ledger, tiles(GRID, 32), 32, on_failure=failed.append)
        stages = [Stage(name, "s", Store.at(tmp_path / name), (tmp_path / name).mkdir) for name in ("b", "a")]
        tile_run.run(stages, work=work, advance=lambda pixels, *, before=False: None)
        tile_run.require_all()

    def said() -> list[tuple[object, ...]]:
        names = ("levelname", "stage", "tile", "attempt", "error")
        records = [one for one in log.records if hasattr(one, "tile")]
        assert all(one.seconds >= 0 for one in records)  # type: ignore[attr-defined]
        return sorted(tuple(getattr(one, name, None) for name in names) for one in records)

    for attempt in (1, 2):
        with pytest.raises(TilesFailedError):
            run()
        done = [("DEBUG", "a,b", key, 1, None) for key in ("r0000c0000", "r0001c0000", "r0001c0001")]
        expected = [("WARNING", "a,b", "r0000c0001", attempt, "OSError: torn")]
        assert said() == [*(done if attempt == 1 else []), *expected]
    assert failed == [32 * 32] * 2


RUN = """
import sys, warnings
import timesenmap.workflows.make_map_command as command
from timesenmap.pipeline import work

composite = work.composite_tile
def broken(scenes, grid, tile, *args, **options):
    if tile.key == "r0000c0001":
        warnings.warn("a library's\\nwarning")
        raise OSError('no "such" scène\\nat all')
    return composite(scenes, grid, tile, *args, **options)
if sys.argv.pop(1) == "tiles":
    work.composite_tile = broken
else:
    def no(*args, **options): raise ZeroDivisionError("nobody expected this")
    command.make_map = no
command.main()
"""


def log_of(what: str, *flags: object) -> tuple[int, list[dict[str, object]]]:
    command = [sys.executable, "-c", RUN, what, "--log-format", "json", *map(str, flags)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, encoding="utf-8")
    return ended.returncode, [json.loads(line) for line in ended.stderr.splitlines()]


def test_a_run_says_nothing_but_json(place: Demonstration, tmp_path: Path) -> None:
    """A library's warning, a failed tile and the last line among it; standard output stays as it is."""
    flags = ["--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year, "--prompts", "land-cover"]
    flags += ["--tile-size", 64, "--out", tmp_path / "out", "-v"]
    code, said = log_of("tiles", *flags)
    assert code == 1
    (failed,) = [one for one in said if one["level"] == "WARNING" and "tile" in one]
    assert failed["error"] == 'OSError: no "such" scène\nat all'
    assert (failed["stage"], failed["tile"], failed["attempt"]) == ("cube", "r0000c0001", 1)
    assert any("a library's\nwarning" in str(one["message"]) for one in said if one["logger"] == "py.warnings")
    assert [one["stage"] for one in said if ": done, " in str(one["message"])] == ["prepare", "prompts"]
    assert any(one["message"].startswith("cube: not all done, ") for one in said if one.get("stage") == "cube")
    assert sum(one["level"] == "DEBUG" and one.get("stage") == "labels:land-cover" for one in said) == 3
    assert said[-1]["level"] == "ERROR"
    assert str(said[-1]["message"]).startswith("failed: 1 of 4 tiles are not done")
    for one in said:
        assert dt.datetime.fromisoformat(str(one["time"])).utcoffset() == dt.timedelta(0)


def test_bad_input_and_the_unexpected_are_json_too(place: Demonstration, tmp_path: Path) -> None:
    code, said = log_of("tiles", "--aoi", tmp_path / "no.gpkg", "--year", 2021, "--prompts", "crops", "--out", tmp_path)
    assert code == 2
    assert said[-1]["message"] == next(one["message"] for one in said if str(one["message"]).startswith("error: "))
    flags = ["--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year, "--prompts", "crops"]
    code, said = log_of("unexpected", *flags, "--out", tmp_path / "out")
    assert code == 1
    assert said[-1]["level"] == "CRITICAL"
    assert said[-1]["message"] == "ZeroDivisionError: nobody expected this"
    assert "in no\n" in str(said[-1]["exception"])
