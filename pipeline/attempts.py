"""One attempt at a tile: done wherever the tile is, told in a value that travels back."""

import errno
import logging
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from timesenmap.pipeline import profile
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.ledger import Spent, TileResult

log = logging.getLogger(__name__)

Work = Callable[[Tile, frozenset[str]], Mapping[str, TileResult]]
"""Computes one tile for the named stages, writes it whole, and returns checksum and counts for each."""


@dataclass(frozen=True)
class Outcome:
    """What became of a tile.

    Attributes
    ----------
    results : by stage, what the tile left behind; empty where it failed
    spent : what the attempt took, for all stages together
    error : message of what broke it; None where it is done
    cause : name of that error's type
    disk_full : the error, or one behind it, is that of a full disk
    worker : who did it; empty for the process of make-map itself
    """

    results: Mapping[str, TileResult] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)
    error: str | None = None
    cause: str = ""
    disk_full: bool = False
    worker: str = ""

    @property
    def reason(self) -> str:
        """Type and message of the error."""
        return f"{self.cause}: {self.error}"

    @classmethod
    def failed(cls, error: BaseException, *, seconds: float = 0.0, worker: str = "") -> "Outcome":
        """Outcome of an attempt that an error ended."""
        return cls({}, Spent(seconds), str(error), type(error).__name__, _is_disk_full(error), worker)


def attempt(work: Work, tile: Tile, wanted: frozenset[str], *, worker: str = "") -> Outcome:
    """Do a tile; whatever broke it is told, so that the others go on. MapError (bad input) is raised."""
    started = time.monotonic()
    try:
        with profile.measured() as meter:
            results = work(tile, wanted)
    except MapError:
        raise
    except Exception as error:
        log.debug("tile %s", tile.key, exc_info=True)
        return Outcome.failed(error, seconds=time.monotonic() - started, worker=worker)
    return Outcome(results, Spent(time.monotonic() - started, meter.seconds, meter.bytes_read), worker=worker)


def _is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


class Errand(NamedTuple):
    """A tile and the stages that are wanted of it."""

    tile: Tile
    wanted: frozenset[str]


Outcomes = Generator[tuple[Errand, Outcome], None, None]
"""Tiles as they are done or given up."""


class Executor(Protocol):
    """Where tiles are done."""

    def run(self, work: Work, errands: Iterable[Errand]) -> Outcomes:
        """Do tiles and tell of each as it is done or given up, in any order.

        Errands are taken when there is room for them. Whoever closes the iterator before its end wants no more of it.
        """


class Here:
    """Tiles one after the other in this process, each with all of its threads."""

    def run(self, work: Work, errands: Iterable[Errand]) -> Outcomes:
        """Do tiles in order."""
        for errand in errands:
            yield errand, attempt(work, errand.tile, errand.wanted)
