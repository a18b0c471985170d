"""What all commands share: exit codes and the one clear line for bad input."""

import logging
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NoReturn

import click

from timesenmap.catalogs.errors import CatalogError, ServiceError
from timesenmap.model.errors import ModelError
from timesenmap.pipeline.errors import ClusterError, MapError, SceneReadError
from timesenmap.pipeline.tiling import TilesFailedError

log = logging.getLogger(__name__)

BAD_INPUT = (CatalogError, ModelError, MapError)
FAILED = (ServiceError, SceneReadError, ClusterError, TilesFailedError, OSError, sqlite3.Error)


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which schedulers end a job at its time limit: the command stops as it does on Ctrl-C."""


def with_exit_codes(command: Callable[..., None]) -> Callable[..., None]:
    """Exit 0 when done, 2 on bad input, 1 when something failed; the last line says what and what to do.

    A command that was stopped exits with 128 and the number of the signal, as in a shell: 130 (Ctrl-C), 143 (SIGTERM).
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with _sigterm_stops():
                command(*args, **kwargs)
        except FAILED as error:
            log.debug("failed", exc_info=True)
            click.echo(f"failed: {error}", err=True)
            raise SystemExit(1) from error
        except BAD_INPUT as error:
            click.echo(f"error: {error}", err=True)
            raise SystemExit(2) from error
        except KeyboardInterrupt as error:
            click.echo("stopped: what was finished is kept; run the same command again to go on", err=True)
            number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
            raise SystemExit(128 + number) from error

    return run


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
