"""What all commands share: exit codes and the one clear line for bad input."""

import logging
import sqlite3
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from timesenmap.catalogs.errors import CatalogError, ServiceError
from timesenmap.model.errors import ModelError
from timesenmap.pipeline.errors import ClusterError, MapError, SceneReadError
from timesenmap.pipeline.tiling import TilesFailedError

log = logging.getLogger(__name__)

BAD_INPUT = (CatalogError, ModelError, MapError)
FAILED = (ServiceError, SceneReadError, ClusterError, TilesFailedError, OSError, sqlite3.Error)


def with_exit_codes(command: Callable[..., None]) -> Callable[..., None]:
    """Exit 0 when done, 2 on bad input, 1 when something failed; the last line says what and what to do."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
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
            raise SystemExit(130) from error

    return run
