"""What all commands share: exit codes and the one clear line for bad input."""

import logging
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, NoReturn

import click

from timesenmap.catalogs.errors import CatalogError, ServiceError
from timesenmap.model.errors import ModelError
from timesenmap.pipeline.errors import ClusterError, LockedError, MapError, SceneReadError
from timesenmap.pipeline.tiling import TilesFailedError
from timesenmap.workflows.logs import speaks_json

log = logging.getLogger(__name__)

BAD_INPUT = (CatalogError, ModelError, MapError)
FAILED = (ServiceError, SceneReadError, ClusterError, TilesFailedError, OSError, sqlite3.Error)


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which schedulers end a job at its time limit: the command stops as it does on Ctrl-C."""


@dataclass(frozen=True)
class Ending:
    """How a command ended: in a word, as exit code, and the last line it says."""

    state: Literal["done", "failed", "bad input", "locked", "stopped"]
    exit_code: int
    message: str = ""


def ending_of(error: BaseException) -> Ending:
    """How a command ends that raised this."""
    if isinstance(error, LockedError):
        return Ending("locked", 3, f"locked: {error}")
    if isinstance(error, KeyboardInterrupt):
        number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
        return Ending(
            "stopped", 128 + number, "stopped: what was finished is kept; run the same command again to go on"
        )
    if isinstance(error, BAD_INPUT) and not isinstance(error, FAILED):
        return Ending("bad input", 2, f"error: {error}")
    name = "" if isinstance(error, FAILED) else f"{type(error).__name__}: "
    return Ending("failed", 1, f"failed: {name}{error}")


def with_exit_codes(command: Callable[..., None]) -> Callable[..., None]:
    """Exit 0 when done, 2 on bad input, 3 where another run is at work, 1 when something failed.

    The last line says what, and what to do. A command that was stopped exits with 128 and the number of the signal, as
    shells have it: 130 (Ctrl-C), 143 (SIGTERM). What no command foresees keeps its traceback.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with _sigterm_stops():
                command(*args, **kwargs)
        except (*FAILED, *BAD_INPUT, LockedError, KeyboardInterrupt) as error:
            log.debug("failed", exc_info=True)
            ending = ending_of(error)
            _say(ending.message)
            raise SystemExit(ending.exit_code) from error

    return run


def _say(last: str) -> None:
    if speaks_json():
        log.error("%s", last)
    else:
        click.echo(last, err=True)


@contextmanager
def _sigterm_stops() -> Iterator[None]:
    """Raise Terminated on the first SIGTERM. Schedulers send several, and no other must cut the stop short."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python has signals in its main thread alone
        return

    def stop(number: int, _: object) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
