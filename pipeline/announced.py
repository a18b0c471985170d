"""What a run says of itself in its ledger, for those who watch it: what it is about to do, and how it ended."""

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Literal

from timesenmap.pipeline.ledger import Ledger

_NOTE, _RUN_NOTE = "announcement", "run state"

RunState = Literal["running", "finished", "failed", "stopped"]


@dataclass(frozen=True)
class AnnouncedStage:
    """A stage that a run goes through.

    Attributes
    ----------
    name, signature : as in the ledger
    tiles, pixels : of all its tiles
    together : stages that share the pass over the tiles, itself included; a row has its part of the time they took
    """

    name: str
    signature: str
    tiles: int
    pixels: int
    together: int = 1


@dataclass(frozen=True)
class Announcement:
    """What a run is about to do.

    Attributes
    ----------
    area, period, prompts : the job, in words
    shape : rows and columns of the map grid
    stages : in the order in which they are done
    files : signature of every map file, by its name
    """

    area: str
    period: str
    prompts: tuple[str, ...]
    shape: tuple[int, int]
    stages: tuple[AnnouncedStage, ...]
    files: Mapping[str, str]


@dataclass(frozen=True)
class RunNote:
    """How a run stands by its own account; one that was killed says *running* for ever. Times in seconds since 1970.

    Attributes
    ----------
    state : *stopped* is by hand, or by whoever ends a process
    succeeded : when a run in this folder last finished
    """

    state: RunState
    started: float
    ended: float | None = None
    error: str | None = None
    succeeded: float | None = None


@contextmanager
def announced(ledger: Ledger, announcement: Announcement) -> Iterator[None]:
    """Note what a run is about to do and, after it, how it ended; whatever ends it goes on."""
    before = run_note({_RUN_NOTE: ledger.note(_RUN_NOTE) or ""})
    note = RunNote("running", time.time(), succeeded=before.succeeded if before else None)
    ledger.keep_note(_NOTE, json.dumps(asdict(announcement)))
    _keep(ledger, note)
    try:
        yield
    except Exception as error:
        _keep(ledger, replace(note, state="failed", ended=time.time(), error=str(error) or type(error).__name__))
        raise
    except BaseException as error:
        _keep(ledger, replace(note, state="stopped", ended=time.time(), error=type(error).__name__))
        raise
    now = time.time()
    _keep(ledger, replace(note, state="finished", ended=now, succeeded=now))


def announcement(notes: Mapping[str, str]) -> Announcement | None:
    """Read back what the last run was about to do, from the notes of a ledger; None where none says so."""
    if not notes.get(_NOTE):
        return None
    known = json.loads(notes[_NOTE])
    known["stages"] = tuple(AnnouncedStage(**stage) for stage in known["stages"])
    known["prompts"], known["shape"] = tuple(known["prompts"]), tuple(known["shape"])
    return Announcement(**known)


def run_note(notes: Mapping[str, str]) -> RunNote | None:
    """Read back how the last run stands, from the notes of a ledger; None where none says so."""
    return RunNote(**json.loads(notes[_RUN_NOTE])) if notes.get(_RUN_NOTE) else None


def _keep(ledger: Ledger, note: RunNote) -> None:
    with suppress(sqlite3.Error):  # on a full disk; the run ends with its own reason
        ledger.keep_note(_RUN_NOTE, json.dumps(asdict(note)))
