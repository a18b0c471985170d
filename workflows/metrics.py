"""Metrics of a run for Prometheus, as a file that node_exporter's textfile collector reads.

https://prometheus.io/docs/instrumenting/exposition_formats (text format 0.0.4) and /docs/practices/naming. The file is
written by a thread of its own, from the ledger: no tile waits for it, and nothing in it changes a map.
"""

import logging
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.profile import PHASES
from timesenmap.pipeline.status import RunStatus, read_status
from timesenmap.pipeline.whole import write_whole
from timesenmap.workflows.commands import Ending, ending_of

log = logging.getLogger("timesenmap.metrics")

SECONDS = 10.0
"""Between two writes, at least; and fifty times as long as the last one took, where a ledger is large."""

State = Literal["running", "finished", "failed", "locked", "stopped"]
_ENDED: Mapping[str, State] = {
    "done": "finished",
    "failed": "failed",
    "bad input": "failed",
    "locked": "locked",
    "stopped": "stopped",
}
_STATES: tuple[State, ...] = ("running", "finished", "failed", "locked", "stopped")


_SUCCESS = re.compile(r"^timesenmap_last_success_timestamp_seconds\{.*\} (\d+\.?\d*)$", re.MULTILINE)


@dataclass(frozen=True)
class Family:
    """Values of one metric: by the labels that tell them apart."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    values: Mapping[tuple[tuple[str, str], ...], float]


@contextmanager
def metrics_in(path: Path | None, out: Path, *, name: str | None = None, seconds: float = SECONDS) -> Iterator[None]:
    """Write the metrics of the run that goes on inside: at once, every so many seconds, and how it ended.

    Parameters
    ----------
    path : the file, rewritten whole each time; None writes nothing
    out : output folder of the run
    name : of the job; by default that of its output folder

    Raises
    ------
    MapError
        The file cannot be written; nothing has begun. Later, that is but a warning.
    """
    if path is None:
        yield
        return
    writer = _Writer(path, out, name or out.resolve().name, time.time())
    try:
        writer.write("running")
    except OSError as error:
        raise MapError(f"--metrics {path}: cannot be written ({error.strerror}); name a file elsewhere") from error
    over = threading.Event()
    thread = threading.Thread(target=_keep_writing, args=(writer, over, seconds), name="metrics", daemon=True)
    thread.start()
    ending = Ending("done", 0)
    try:
        yield
    except BaseException as error:
        ending = ending_of(error)
        raise
    finally:
        over.set()
        thread.join()
        writer.try_to_write(_ENDED[ending.state], exit_code=ending.exit_code)


def _keep_writing(writer: "_Writer", over: threading.Event, seconds: float) -> None:
    pause = seconds
    while not over.wait(pause):
        began = time.monotonic()
        writer.try_to_write("running")
        pause = max(seconds, 50 * (time.monotonic() - began))


class _Writer:
    """Writes the file of one run."""

    def __init__(self, path: Path, out: Path, name: str, started: float) -> None:
        self._path, self._out, self._started = path, out, started
        self._labels = {"run": name, "out": str(out.resolve())}
        self._succeeded = _last_success(path)

    def write(self, state: State, *, exit_code: int | None = None) -> None:
        try:
            run = read_status(self._out)
        except (MapError, sqlite3.Error):  # no ledger yet, or it cannot be read now
            run = None
        now = time.time()
        succeeded = now if exit_code == 0 else max(self._succeeded, (run and run.succeeded) or 0.0)
        made = [
            _one("start_timestamp_seconds", "gauge", "When the run started, in seconds since 1970.", self._started),
            Family(
                "run_state",
                "gauge",
                "1 for the state the run is in, 0 for the others.",
                {(("state", one),): float(one == state) for one in _STATES},
            ),
        ]
        if exit_code is not None:
            made.append(_one("end_timestamp_seconds", "gauge", "When the run ended, in seconds since 1970.", now))
            made.append(_one("exit_code", "gauge", "What make-map exited with; 0 is success.", exit_code))
        if succeeded:
            said = "When a run of the job last succeeded, in seconds since 1970."
            made.append(_one("last_success_timestamp_seconds", "gauge", said, succeeded))
        # Else the ledger is of the run before.
        if run is not None and run.announced is not None and (run.started or 0.0) >= self._started:
            made += progress(run)
        write_whole(self._path, text(made, self._labels))

    def try_to_write(self, state: State, *, exit_code: int | None = None) -> None:
        try:
            self.write(state, exit_code=exit_code)
        except OSError as error:
            log.warning("--metrics %s: cannot be written (%s)", self._path, error)


def _last_success(path: Path) -> float:
    """When a run last succeeded, by the file that one before this left; 0 where none says so."""
    try:
        found = _SUCCESS.search(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return 0.0
    return float(found[1]) if found else 0.0


def progress(run: RunStatus) -> list[Family]:
    """Metrics of how far a run is, from its ledger."""
    stages = [stage for stage in run.stages if stage.name != "maps"]
    maps = [stage for stage in run.stages if stage.name == "maps"]

    def by_stage(name: str, said: str, values: Iterable[int | None]) -> Family:
        named = zip(stages, values, strict=True)
        return Family(name, "gauge", said, {(("stage", one.name),): float(n) for one, n in named if n is not None})

    return [
        by_stage("tiles_planned", "Tiles of the stage.", (stage.total for stage in stages)),
        by_stage("tiles_done", "Tiles of the stage that are done, by whichever run.", (one.done for one in stages)),
        by_stage("tiles_failed", "Tiles of the stage that failed when last tried.", (one.failed for one in stages)),
        by_stage("pixels_planned", "Pixels of the stage's tiles.", (one.pixels_total for one in stages)),
        by_stage("pixels_done", "Pixels of the stage's tiles that are done.", (one.pixels for one in stages)),
        _one("map_files_planned", "gauge", "Map files of the run.", sum(one.total or 0 for one in maps)),
        _one("map_files_done", "gauge", "Map files that stand.", sum(one.done for one in maps)),
        Family(
            "phase_seconds_total",
            "counter",
            "Seconds of work on tiles and maps that are done, by phase, over all workers and runs.",
            {(("phase", phase),): run.seconds.get(phase, 0.0) for phase in PHASES},
        ),
        _one(
            "read_bytes_total",
            "counter",
            "Bytes of scenes read for tiles that are done.",
            sum(stage.bytes_read for stage in run.stages),
        ),
        _one(
            "written_bytes_total",
            "counter",
            "Bytes of tiles and maps that are done, as they lie on disk.",
            sum(stage.bytes_written for stage in run.stages),
        ),
    ]


def text(families: Iterable[Family], labels: Mapping[str, str]) -> str:
    """Metrics in Prometheus' text format, each value with these labels beside its own."""
    lines = []
    for family in families:
        name = f"timesenmap_{family.name}"
        lines += [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
        for own, value in family.values.items():
            said = ",".join(f'{label}="{_escaped(content)}"' for label, content in {**labels, **dict(own)}.items())
            lines.append(f"{name}{{{said}}} {value!r}")
    return "\n".join(lines) + "\n"


def _one(name: str, kind: Literal["gauge", "counter"], said: str, value: float) -> Family:
    return Family(name, kind, said, {(): float(value)})


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
