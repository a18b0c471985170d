"""How a run stands, against ledgers whose rows are known and runs that go on, fail, end or are killed."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from timesenmap.catalogs.demonstration import Demonstration
from timesenmap.pipeline import work
from timesenmap.pipeline.announced import AnnouncedStage, Announcement, announced
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.ledger import Ledger, Spent, TileResult
from timesenmap.pipeline.ledger_view import LedgerView, view_ledger
from timesenmap.pipeline.locks import Holder
from timesenmap.pipeline.status import RunStatus, StageStatus, read_status, status_of
from timesenmap.workflows.make_map_command import main
from timesenmap.workflows.status import lines, panel

# 250 x 130 pixels in tiles of 100: columns of 100 and 30 pixels, rows of 100, 100 and 50.
PLAN = Announcement(
    area="here",
    period="2021-01 to 2021-12",
    prompts=("land-cover", "crops"),
    shape=(250, 130),
    stages=(
        AnnouncedStage("cube", "c1", tiles=6, pixels=250 * 130),
        AnnouncedStage("labels:land-cover", "l1", tiles=6, pixels=250 * 130, together=2),
        AnnouncedStage("labels:crops", "l2", tiles=6, pixels=250 * 130, together=2),
    ),
    files={"land-cover.tif": "m1", "observations.tif": "o1"},
)
START = 1_700_000_000.0


def tile(stage: str, key: str, finished: float, *, state: str = "done", **columns: object) -> dict[str, object]:
    row = {"stage": stage, "key": key, "state": state, "attempts": 1, "seconds": 10.0, "bytes": 1000, "error": None}
    profile = json.dumps({"phases": {"reading": 4.0, "rest": 6.0}, "bytes_read": 500}) if state == "done" else None
    return {**row, "profile": profile, "finished": START + finished, "worker": None, **columns}


def stage(name: str, signature: str, *, complete: int = 0, tile_size: int = 100) -> dict[str, object]:
    return {"name": name, "signature": signature, "tile_size": tile_size, "complete": complete}


def view(
    tmp_path: Path, *, stages: object = (), tiles: object = (), files: object = (), state: str = "running"
) -> LedgerView:
    """View of a ledger that holds these rows and the notes of a run that began at START."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with announced(ledger, PLAN):
        notes = dict(view_ledger(ledger.path).notes)
    notes["run state"] = json.dumps({**json.loads(notes["run state"]), "started": START, "state": state})
    return LedgerView(tuple(stages), tuple(tiles), tuple(files), notes)


def standing(view: LedgerView, after: float, *, held: bool | None = True) -> RunStatus:
    return status_of(
        view, out=Path("out"), held=held, holder=Holder("h", 7, "2023-11-14T22:13:20+00:00"), now=START + after
    )


def of(run: RunStatus, name: str) -> StageStatus:
    return next(stage for stage in run.stages if stage.name == name)


def test_counts_rates_and_time_left_of_a_running_stage(tmp_path: Path) -> None:
    """After 40 s: a whole tile, one of 30 columns, one failed; 3 of 6 left at 3 tiles a minute."""
    rows = [
        tile("cube", "r0000c0000", 10),
        tile("cube", "r0000c0001", 20, seconds=9.0),
        tile("cube", "r0001c0000", 30, state="failed", error="OSError: torn", attempts=3, bytes=None),
    ]
    run = standing(view(tmp_path, stages=[stage("cube", "c1")], tiles=rows), 40)
    cube = of(run, "cube")
    assert (run.state, run.host, run.pid) == ("running", "h", 7)
    assert (cube.done, cube.failed, cube.total) == (2, 1, 6)
    assert (cube.pixels, cube.pixels_total) == (100 * 100 + 100 * 30, 32_500)
    assert cube.tiles_per_minute == pytest.approx(2 / (40 / 60))
    assert cube.pixels_per_minute == pytest.approx(13_000 / (40 / 60))
    assert cube.seconds_left == pytest.approx(3 / 3 * 60)
    assert (cube.bytes_read, cube.bytes_written) == (1000, 2000)
    assert [(one.key, one.attempts, one.error) for one in run.failed] == [("r0001c0000", 3, "OSError: torn")]
    assert run.seconds == {"reading": 8.0, "rest": 12.0}
    waiting = of(run, "labels:crops")
    assert (waiting.done, waiting.total, waiting.tiles_per_minute, waiting.seconds_left) == (0, 6, None, None)


def test_a_pause_between_two_runs_slows_nothing(tmp_path: Path) -> None:
    """Two tiles were done a day before this run began, and a failed one is to be tried again."""
    rows = [
        tile("cube", "r0000c0000", -86_000),
        tile("cube", "r0000c0001", -85_990),
        tile("cube", "r0001c0000", -85_980, state="failed"),
        tile("cube", "r0001c0001", 20),
    ]
    cube = of(standing(view(tmp_path, stages=[stage("cube", "c1")], tiles=rows), 30), "cube")
    # Its work began at 10, before that the run made ready.
    assert cube.tiles_per_minute == pytest.approx(1 / (20 / 60))
    assert cube.seconds_left == pytest.approx(3 * 20)


def test_the_rate_is_that_of_late(tmp_path: Path) -> None:
    """A tile a second for an hour, then one in 20 s for half an hour: the last ten minutes count."""
    times = [*range(1, 3601), *range(3620, 5401, 20)]
    plan = replace(PLAN, shape=(100 * 5000, 100), stages=(AnnouncedStage("cube", "c1", 5000, 5000 * 10_000),))
    rows = [tile("cube", f"r{n:04d}c0000", when, seconds=1.0) for n, when in enumerate(times)]
    known = view(tmp_path, stages=[stage("cube", "c1")], tiles=rows)
    ledger = Ledger(tmp_path / "other.sqlite")
    with announced(ledger, plan):
        known = replace(known, notes={**known.notes, "announcement": ledger.note("announcement") or ""})
    cube = of(standing(known, 5400), "cube")
    assert cube.tiles_per_minute == pytest.approx(3.0)
    assert cube.pixels_per_minute == pytest.approx(30_000)
    assert cube.seconds_left == pytest.approx((5000 - len(times)) / 3 * 60)


def test_stages_of_one_pass_do_not_look_twice_as_fast(tmp_path: Path) -> None:
    """A row has half of the 20 s that both took."""
    rows = [tile(name, "r0000c0000", 120) for name in ("labels:land-cover", "labels:crops")]
    begun = [stage("labels:land-cover", "l1"), stage("labels:crops", "l2")]
    run = standing(view(tmp_path, stages=begun, tiles=rows), 120)
    assert of(run, "labels:crops").tiles_per_minute == pytest.approx(3.0)


def test_rows_of_other_inputs_do_not_count(tmp_path: Path) -> None:
    """The labels of an earlier encoder, and its map, are to be made anew; the cube of another tile size stays."""
    stages = [stage("cube", "c1", complete=1, tile_size=250), stage("labels:crops", "old", complete=1)]
    rows = [tile("cube", "r0000c0000", -100), tile("labels:crops", "r0000c0000", -90)]
    files = [
        {"name": "land-cover.tif", "signature": "old", "seconds": 1.0, "bytes": 7},
        {"name": "observations.tif", "signature": "o1", "seconds": 2.0, "bytes": 9},
    ]
    run = standing(view(tmp_path, stages=stages, tiles=rows, files=files), 10)
    cube = of(run, "cube")
    assert (cube.done, cube.total, cube.pixels, cube.pixels_total) == (1, 1, 32_500, 32_500)
    assert of(run, "labels:crops").done == 0
    assert (of(run, "maps").done, of(run, "maps").total, of(run, "maps").bytes_written) == (1, 2, 9)
    assert run.seconds == {"reading": 4.0, "rest": 6.0, "writing": 2.0}


@pytest.mark.parametrize(
    ("state", "held", "expected"),
    [
        ("running", True, "running"),
        ("finished", True, "running"),  # the next run has the lock, and says in a moment what it will do
        ("running", False, "unfinished"),
        ("finished", False, "finished"),
        ("failed", False, "failed"),
        ("stopped", False, "stopped"),
        ("running", None, "running"),
        ("failed", None, "failed"),
    ],
)
def test_state(tmp_path: Path, state: str, held: bool | None, expected: str) -> None:
    run = standing(view(tmp_path, state=state), 10, held=held)
    assert run.state == expected
    assert (run.pid == 7) is (expected == "running")


def test_a_run_that_waits_for_workers_is_not_taken_for_the_one_before(tmp_path: Path) -> None:
    """It holds the lock since an hour after the last run began, and has not said what it will do."""
    rows = [tile("cube", "r0000c0000", 10)]
    known = view(tmp_path, stages=[stage("cube", "c1")], tiles=rows, state="failed")
    holder = Holder("h2", 8, "2023-11-14T23:13:20+00:00")
    run = status_of(known, out=Path("out"), held=True, holder=holder, now=START + 3700)
    assert (run.state, run.host, run.started, run.announced) == ("running", "h2", START + 3600, None)
    assert (of(run, "cube").done, of(run, "cube").total, of(run, "cube").tiles_per_minute) == (1, None, None)
    assert "out: running on h2 (process 8) since 2023-11-14 23:13:20 UTC" in lines(run)


def test_how_a_run_ended_is_noted_and_the_last_success_kept(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "work" / "ledger.sqlite") if (tmp_path / "work").mkdir() is None else None
    assert ledger is not None
    with announced(ledger, PLAN):
        pass
    first = read_status(tmp_path)
    assert first.state == "finished"
    assert first.succeeded == first.ended
    for error, state, said in (
        (OSError("disk\nfull"), "failed", "disk\nfull"),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
    ):
        with pytest.raises(type(error)), announced(ledger, PLAN):
            raise error
        run = read_status(tmp_path)
        assert (run.state, run.error, run.succeeded) == (state, said, first.succeeded)
    assert run.announced == PLAN


def test_folders_of_earlier_versions_show_what_they_have(tmp_path: Path) -> None:
    """No plan, no sizes, no profiles, no times: what is done can be told, not of how much."""
    (tmp_path / "work").mkdir()
    with sqlite3.connect(tmp_path / "work" / "ledger.sqlite") as db:
        db.executescript(
            "CREATE TABLE stage (name TEXT PRIMARY KEY, signature TEXT, tile_size INTEGER, complete INTEGER DEFAULT 0);"
            "CREATE TABLE tile (stage TEXT, key TEXT, state TEXT, attempts INTEGER, seconds REAL, checksum TEXT,"
            " counts TEXT, error TEXT, finished REAL, PRIMARY KEY (stage, key));"
            "CREATE TABLE file (name TEXT PRIMARY KEY, signature TEXT, sha256 TEXT);"
            "CREATE TABLE note (key TEXT PRIMARY KEY, value TEXT);"
            "INSERT INTO stage VALUES ('cube', 's', 64, 0);"
            "INSERT INTO tile VALUES ('cube', 'r0000c0000', 'done', 1, 2.0, 'x', '{}', NULL, 5.0);"
        )
    db.close()
    run = read_status(tmp_path)
    assert (run.state, of(run, "cube").done, of(run, "cube").total) == ("unfinished", 1, None)
    assert any(line.split()[:3] == ["cube", "1", "?"] for line in lines(run))


def status(*args: object) -> Result:
    return CliRunner().invoke(main, ["status", *map(str, args)])


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    for out in (tmp_path / "missing", tmp_path):
        result = status(out)
        assert result.exit_code == 2
        assert f"error: {out}: no run has begun there" in result.stderr
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "ledger.sqlite").write_text("a diary, which is no SQLite database" * 100)
    result = status(tmp_path)
    assert result.exit_code == 2
    assert "is no ledger of make-map" in result.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["work", "ledger.sqlite"]


def test_flags_of_a_run_are_refused_before_status(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--year", "2024", "status", str(tmp_path)])
    assert result.exit_code == 2
    assert "--year has no meaning for 'status'" in result.stderr


def test_help_names_status_and_keeps_the_flags() -> None:
    text = CliRunner().invoke(main, ["--help"]).stdout
    assert "[OPTIONS] [status OUT]" in text
    assert "status  Say how the run in the output folder OUT stands." in text
    assert "--aoi" in text
    assert "--watch SECONDS" in CliRunner().invoke(main, ["status", "--help"]).stdout


COMMAND = "from timesenmap.workflows.make_map_command import main; main()"

WRITER = """
import sys, time
from pathlib import Path
from timesenmap.pipeline.announced import announced
from timesenmap.pipeline.ledger import Spent, TileResult
from timesenmap.pipeline.workspace import open_workspace
sys.path.insert(0, {tests!r})
from test_status import PLAN
with open_workspace(Path(sys.argv[1]), {{"crs": "EPSG:32631"}}) as space, announced(space.ledger, PLAN):
    space.ledger.begin("cube", "c1", 100)
    print("begun", flush=True)
    for n in range(100_000):
        time.sleep(0.02)
        space.ledger.finish("cube", f"r{{n % 3:04d}}c0000", TileResult("x", {{}}), Spent(0.1))
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds an output folder and records fifty tiles a second."""
    code = WRITER.format(tests=str(Path(__file__).parent))
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_run_is_watched_while_it_writes_and_after_it_was_killed(
    tmp_path: Path, writer: "subprocess.Popen[str]"
) -> None:
    """Looked at again and again it goes on, nothing is made in its folder, and its end is seen at once."""
    out = tmp_path / "out"
    before = {path.name for path in (out / "work").iterdir()} - {"ledger.sqlite-journal"}
    recorded = 0
    while recorded < 10:
        run = read_status(out)
        assert run.state == "running"
        assert writer.poll() is None
        now = sum(row["attempts"] for row in view_ledger(out / "work" / "ledger.sqlite").tiles)
        assert now >= recorded
        recorded = now
    assert json.loads(status(out, "--json").stdout)["state"] == "running"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    run = read_status(out)
    assert run.state == "unfinished"
    assert of(run, "cube").done == 3
    assert {path.name for path in (out / "work").iterdir()} - {"ledger.sqlite-journal"} == before


def test_a_row_that_was_torn_by_a_kill_is_not_believed(tmp_path: Path) -> None:
    """The writer died with half a transaction on disk; only a writer may take it back, so a copy is read."""
    path = tmp_path / "ledger.sqlite"
    Ledger(path).finish("cube", "a", TileResult("x", {}), Spent(1.0))
    torn = (
        "import os, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1]); db.execute('PRAGMA cache_size = 2')\n"
        "db.execute('UPDATE tile SET error = hex(zeroblob(100000)), state = \\'failed\\'')\n"
        "db.executemany('INSERT INTO note VALUES (?, hex(zeroblob(5000)))', [(str(n),) for n in range(50)])\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", torn, str(path)], check=True)
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert set(files) == {"ledger.sqlite", "ledger.sqlite-journal"}
    with pytest.raises(sqlite3.OperationalError), sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        db.execute("SELECT * FROM tile").fetchall()
    db.close()
    known = view_ledger(path)
    assert [(row["key"], row["state"]) for row in known.tiles] == [("a", "done")]
    assert known.notes == {}
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == files


def test_lines_and_panel_say_the_same(tmp_path: Path) -> None:
    """Tiles that one thing broke share a line; the first twenty are shown, or all."""
    why = ["OSError: [red]\nscene 0", "OSError: scene 1"]
    rows = [
        *(tile("cube", f"r{n:04d}c0000", n, state="failed", error=why[n % 2], attempts=1 + n // 24) for n in range(25)),
        tile("cube", "r0030c0000", 30, worker="tcp://w2"),
    ]
    run = standing(view(tmp_path, stages=[stage("cube", "c1")], tiles=rows), 40)
    plain = "\n".join(lines(run))
    assert "out: running on h (process 7) since 2023-11-14 22:13:20 UTC" in plain
    assert "here, 2021-01 to 2021-12, land-cover, crops" in plain
    assert "failed (25, the first 20; --all shows all):" in plain
    even, odd = (", ".join(f"r{n:04d}c0000" for n in range(first, 20, 2)) for first in (0, 1))
    assert f"  cube {even}, tried once: OSError: [red] scene 0" in plain
    assert f"  cube {odd}, tried once: OSError: scene 1" in plain
    assert "r0020c0000" not in plain
    assert "  cube r0024c0000, tried 2 times: OSError: [red] scene 0" in "\n".join(lines(run, shown=None))
    assert "cube r0030c0000 on tcp://w2 10.0 s" in plain
    console = Console(width=400, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(panel(run))
    shown = capture.get()
    for line in plain.splitlines():
        assert " ".join(line.split()) in " ".join(shown.split())


def test_the_reason_of_a_failure_is_shown_once(tmp_path: Path) -> None:
    """By the failed tiles where there are some; else in a line of its own."""
    known = view(tmp_path, stages=[stage("cube", "c1")], state="failed")
    note = json.dumps({**json.loads(known.notes["run state"]), "error": "no\nroom on the disk"})
    known = replace(known, notes={**known.notes, "run state": note})
    assert lines(standing(known, 9, held=False))[2] == "no room on the disk"
    broken = replace(known, tiles=(tile("cube", "r0000c0000", 5, state="failed", error="OSError: no room"),))
    said = "\n".join(lines(standing(broken, 9, held=False)))
    assert said.count("room") == 1
    assert "run the same command again to go on, with --retry-failed to do just what failed" in said


def test_make_map_from_first_tile_to_the_end(
    place: Demonstration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at from within: running with the counts of the moment; then failed with the reason; then finished."""
    out, composite, seen = tmp_path / "out", work.composite_tile, []

    def watched(scenes: object, grid: object, one: Tile, *args: object, **options: object) -> object:
        seen.append(json.loads(status(out, "--json").stdout))
        if one.key == "r0001c0001" and len(seen) < 10:
            raise MemoryError("no room")
        return composite(scenes, grid, one, *args, **options)

    monkeypatch.setattr(work, "composite_tile", watched)
    flags = ["--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year, "--prompts", "land-cover"]
    flags += ["--tile-size", 32, "--out", out]
    began = time.time()
    assert CliRunner().invoke(main, [str(flag) for flag in flags]).exit_code == 1
    assert [one["stages"][0]["done"] for one in seen] == [0, 1, 2, 3, 4, 4, 5, 6, 7]
    assert {one["state"] for one in seen} == {"running"}
    assert [stage["total"] for stage in seen[0]["stages"]] == [9, 9, 3]
    assert seen[8]["failed"][0]["error"] == "MemoryError: no room"
    failed = json.loads(status(out, "--json").stdout)
    assert failed["state"] == "failed"
    assert "1 of 9 tiles are not done" in failed["error"]
    assert [stage["done"] for stage in failed["stages"]] == [8, 8, 0]
    assert failed["succeeded"] is None
    assert CliRunner().invoke(main, [str(flag) for flag in (*flags, "--retry-failed")]).exit_code == 0
    run = read_status(out)
    assert (run.state, run.error, run.failed) == ("finished", None, ())
    assert [(stage.done, stage.total) for stage in run.stages] == [(9, 9), (9, 9), (3, 3)]
    assert run.started is not None
    assert began < run.started < time.time()
    record = json.loads((out / "run.json").read_text())
    assert sum(run.seconds.values()) == pytest.approx(sum(record["profile"]["seconds"].values()), abs=0.02)
    assert sum(stage.bytes_read for stage in run.stages) == record["profile"]["bytes_read"]
    assert sum(stage.bytes_written for stage in run.stages) == record["profile"]["bytes_written"]
    assert run.stages[0].pixels == record["grid"]["shape"][0] * record["grid"]["shape"][1]


def test_watch_ends_with_the_run(tmp_path: Path, writer: "subprocess.Popen[str]") -> None:
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, "status", str(tmp_path / "out"), "--watch", "0.1"],
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        assert f": running on {socket.gethostname()} (process {writer.pid}) since" in watching.stdout.readline()
        writer.kill()
        rest = watching.stdout.read()
    assert watching.returncode == 0
    assert rest.count("not running and not finished") == 1
