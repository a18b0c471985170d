"""How a run stands: which tiles of which stage are done or failed, how fast it goes, and what is left.

Read from the ledger and the lock of an output folder, while a run is under way or after; nothing there is written,
taken or kept waiting.
"""

import datetime as dt
import re
import sqlite3
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from timesenmap.pipeline.announced import AnnouncedStage, Announcement, RunNote, announcement, run_note
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.ledger import profile_of
from timesenmap.pipeline.ledger_view import LedgerView, Row, view_ledger
from timesenmap.pipeline.locks import Holder, holder, is_held

State = Literal["running", "unfinished", "finished", "failed", "stopped"]

# A rate is that of the last ten minutes, or of the last twenty tiles where these took longer.
_LATELY_SECONDS = 600.0
_LATELY_TILES = 20
_SLOWEST = 5


@dataclass(frozen=True)
class StageStatus:
    """How far one stage is.

    Attributes
    ----------
    name : as in the ledger; ``maps`` are the map files
    done, failed, total : tiles, or files; the total is None where an earlier version began the stage
    pixels, pixels_total : of the tiles that are done, and of all; None for files and as above
    tiles_per_minute, pixels_per_minute : lately, in the run that is under way or was the last; None without such tiles
    seconds_left : at that rate, for what is neither done nor failed; None where nothing goes on
    bytes_read, bytes_written : by the tiles that are done, in whichever run
    """

    name: str
    done: int
    failed: int
    total: int | None
    pixels: int | None
    pixels_total: int | None
    tiles_per_minute: float | None
    pixels_per_minute: float | None
    seconds_left: float | None
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True)
class TileStatus:
    """One tile worth a look: a failed one, or one of the slowest that are done."""

    stage: str
    key: str
    seconds: float
    attempts: int
    error: str | None = None
    worker: str | None = None


@dataclass(frozen=True)
class RunStatus:
    """How a run stands at one moment. Times in seconds since 1970.

    Attributes
    ----------
    state : *running*; *finished*; *failed*, with its `error`; *stopped* by hand; *unfinished*: it was killed
    host, pid : who is writing, where it said so
    started, ended, succeeded : the last run; when a run in this folder last finished
    announced : what the run was about to do; None where it has not said so yet, or an earlier version ran
    seconds : by phase (`timesenmap.pipeline.profile.PHASES`), of the tiles and files that are done
    """

    out: Path
    moment: float
    state: State
    host: str | None
    pid: int | None
    started: float | None
    ended: float | None
    succeeded: float | None
    error: str | None
    announced: Announcement | None
    stages: tuple[StageStatus, ...]
    failed: tuple[TileStatus, ...]
    slowest: tuple[TileStatus, ...]
    seconds: Mapping[str, float]


def read_status(out: Path) -> RunStatus:
    """Read how the run in an output folder stands.

    Raises
    ------
    MapError
        There is no run in the folder.
    sqlite3.Error
        Its ledger cannot be read.
    """
    lock = out / "work" / "lock"
    try:
        for _ in range(3):  # until no run began or ended between two looks
            held, view = is_held(lock), view_ledger(out / "work" / "ledger.sqlite")
            if is_held(lock) == held:
                break
    except FileNotFoundError as error:
        raise MapError(
            f"{out}: no run has begun there (work/ledger.sqlite is missing); name the --out folder of a run"
        ) from error
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise MapError(
                f"{out}: work/ledger.sqlite is no ledger of make-map; name the --out folder of a run"
            ) from error
        raise
    return status_of(view, out=out, held=held, holder=holder(lock), now=time.time())


def status_of(view: LedgerView, *, out: Path, held: bool | None, holder: Holder | None, now: float) -> RunStatus:
    """Work out how a run stands from its ledger, whether its lock is held, by whom, and the time."""
    plan, note = announcement(view.notes), run_note(view.notes)
    running = held is True or (held is None and note is not None and note.state == "running")
    locked = _moment(holder.since) if holder and running else None
    if note and locked and locked > note.started:  # a run that has not said yet what it will do
        plan = note = None
    since = note.started if note else locked
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in view.tiles:
        rows[row["stage"]].append(row)
    begun: dict[str, Row] = {row["name"]: row for row in view.stages}
    stages, tiles = [], []
    for stage in plan.stages if plan else _stages_found(view):
        row = begun.get(stage.name, {})
        mine = rows[stage.name] if row.get("signature") == stage.signature else []  # else to be done anew
        shape = plan.shape if plan else None
        stages.append(_stage(stage, row, mine, shape=shape, since=since or 0.0, now=now if running else None))
        tiles += mine
    files = [row for row in view.files if plan is None or plan.files.get(row["name"]) == row["signature"]]
    stages.append(_files(files, plan))
    whole = all(stage.total is not None and stage.done >= stage.total for stage in stages) and bool(view.stages)
    slowest = sorted((row for row in tiles if row["state"] == "done"), key=lambda row: -(row["seconds"] or 0.0))
    return RunStatus(
        out=out,
        moment=now,
        state=_state(note, running=running, complete=whole or (plan is None and (out / "run.json").is_file())),
        host=holder.host if holder and running else None,
        pid=holder.pid if holder and running else None,
        started=since,
        ended=note.ended if note and not running else None,
        succeeded=note.succeeded if note else None,
        error=note.error if note and note.state != "finished" and not running else None,
        announced=plan,
        stages=tuple(stages),
        failed=tuple(_tile(row) for row in tiles if row["state"] == "failed"),
        slowest=tuple(map(_tile, slowest[:_SLOWEST])),
        seconds=_seconds(tiles, files),
    )


def _state(note: RunNote | None, *, running: bool, complete: bool) -> State:
    if running:
        return "running"
    if note is None:
        return "finished" if complete else "unfinished"
    return "unfinished" if note.state == "running" else note.state


def _stage(
    stage: AnnouncedStage,
    begun: Row,
    rows: Sequence[Row],
    *,
    shape: tuple[int, int] | None,
    since: float,
    now: float | None,
) -> StageStatus:
    """How far a stage is; `since` is when the run started, `now` is None where it does not go on."""
    done = [row for row in rows if row["state"] == "done"]
    size = begun.get("tile_size")
    sizes = [_pixels(row["key"], size, shape) for row in done] if shape and size else []
    complete = bool(begun.get("complete")) and bool(rows)  # under whatever tile size
    known = stage.tiles > 0
    total = len(done) if complete else stage.tiles if known else None
    pixels = stage.pixels if complete and known else sum(sizes)
    lately = [(row["finished"], n) for row, n in zip(done, sizes or [0] * len(done), strict=True) if row["finished"]]
    began = min(
        (row["finished"] - (row["seconds"] or 0.0) * stage.together for row in rows if (row["finished"] or 0) >= since),
        default=since,
    )
    failed = [row for row in rows if row["state"] == "failed"]
    left = (total or 0) - len(done) - sum((row["finished"] or 0.0) >= since for row in failed)
    goes_on = now is not None and left > 0
    tiles_rate, pixel_rate = _rates(lately, since=max(since, began), now=now if goes_on else None)
    return StageStatus(
        name=stage.name,
        done=len(done),
        failed=len(failed),
        total=total,
        pixels=pixels if known else None,
        pixels_total=stage.pixels if known else None,
        tiles_per_minute=tiles_rate,
        pixels_per_minute=pixel_rate if known else None,
        seconds_left=60.0 * left / tiles_rate if goes_on and tiles_rate else None,
        bytes_read=sum(_profile(row)[1] for row in done),
        bytes_written=sum(row["bytes"] or 0 for row in done),
    )


def _rates(
    finished: Sequence[tuple[float, int]], *, since: float, now: float | None
) -> tuple[float | None, float | None]:
    """Tiles and pixels a minute of late.

    Parameters
    ----------
    finished : when each tile was done, and its pixels
    since : what was done before was done by another run, or before a pause, and does not count
    now : until when; the last tile where nothing goes on
    """
    times = sorted(when for when, _ in finished if when >= since)
    if not times:
        return None, None
    until = max(times[-1], now or 0.0)
    twenty = times[-_LATELY_TILES - 1] if len(times) > _LATELY_TILES else since
    first = max(since, min(until - _LATELY_SECONDS, twenty))
    minutes = max(until - first, 1e-3) / 60.0
    late = [pixels for when, pixels in finished if when > first]
    return len(late) / minutes, sum(late) / minutes


def _files(rows: Sequence[Row], plan: Announcement | None) -> StageStatus:
    total, size = len(plan.files) if plan else None, sum(row["bytes"] or 0 for row in rows)
    return StageStatus("maps", len(rows), 0, total, None, None, None, None, None, 0, size)


def _stages_found(view: LedgerView) -> tuple[AnnouncedStage, ...]:
    """Stages that were begun, in their order, where no run said what it would do."""
    return tuple(AnnouncedStage(row["name"], row["signature"], 0, 0) for row in view.stages)


def _pixels(key: str, size: int, shape: tuple[int, int]) -> int:
    """Pixels of a tile, known by its key, of a grid that was cut into tiles of `size` pixels."""
    row, col = map(int, re.findall(r"\d+", key))
    return min(size, shape[0] - row * size) * min(size, shape[1] - col * size)


def _tile(row: Row) -> TileStatus:
    return TileStatus(
        row["stage"], row["key"], row["seconds"] or 0.0, row["attempts"] or 1, row["error"], row["worker"]
    )


def _seconds(tiles: Sequence[Row], files: Sequence[Row]) -> dict[str, float]:
    spent: dict[str, float] = defaultdict(float)
    for row in tiles:
        if row["state"] == "done":
            for phase, seconds in _profile(row)[0].items():
                spent[phase] += seconds
    for row in files:
        spent["writing"] += row["seconds"] or 0.0
    return dict(spent)


def _profile(row: Row) -> tuple[dict[str, float], int]:
    return profile_of(row["profile"], row["seconds"] or 0.0)


def _moment(since: str) -> float | None:
    """Seconds since 1970 of a time in ISO 8601; None where it is none."""
    try:
        return dt.datetime.fromisoformat(since).timestamp()
    except (TypeError, ValueError):
        return None
