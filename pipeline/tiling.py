"""Stages over all tiles: resumable, each tile written whole and then recorded; what fails does not stop the rest."""

import logging
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Protocol

from timesenmap.pipeline.attempts import Errand, Executor, Here, Outcome, Work
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.ledger import Ledger
from timesenmap.pipeline.memory import give_back
from timesenmap.pipeline.stores import Store

log = logging.getLogger(__name__)

# A broken tile must not stop the night; a broken service must not be asked ten thousand times.
_FAILURES_IN_A_ROW = 5

# Of failed tiles, how many the last message names; the ledger has all.
_NAMED = 20


class Advance(Protocol):
    """Told how many pixels are done; `before` says that they were done by an earlier run, in no time."""

    def __call__(self, amount: int, *, before: bool = False) -> None:
        """Take note of it."""


class TilesFailedError(RuntimeError):
    """Some tiles of a stage are not done; the others are and stay (exit code 1)."""


@dataclass(frozen=True)
class Stage:
    """One store to be filled tile by tile.

    Attributes
    ----------
    name : name in the ledger
    signature : hash of all that the store's content depends on; another signature starts it anew
    store : the store, removed before it is made anew
    create : makes the empty store from its template
    stays : whether the store that stands, of other inputs, may stay, its tiles to be written over one by one
    """

    name: str
    signature: str
    store: Store
    create: Callable[[], None]
    stays: Callable[[], bool] = lambda: False


class TileRun:
    """One run over all tiles, stage after stage. A tile that fails is left out of the stages that need it.

    Parameters
    ----------
    ledger : where finished and failed tiles are recorded
    tiles : all tiles
    tile_size : pixels on a side; an unfinished stage that was begun with another size starts anew
    executor : where tiles are done; in this process by default
    retry_failed : do only the tiles that failed when they were last tried, and those that wait for them
    on_failure : told the pixels of each tile that fails
    """

    def __init__(
        self,
        ledger: Ledger,
        tiles: Sequence[Tile],
        tile_size: int,
        *,
        executor: Executor | None = None,
        retry_failed: bool = False,
        on_failure: Callable[[int], None] | None = None,
    ) -> None:
        self._ledger, self._tiles, self._tile_size = ledger, tiles, tile_size
        self._executor = executor or Here()
        self._only = ledger.any_failed() if retry_failed else None
        self._on_failure = on_failure
        self._undone: set[str] = set()
        self._failures: list[str] = []

    def run(self, stages: Sequence[Stage], *, work: Work, advance: Advance, reach: int = 0) -> None:
        """Do the tiles of some stages that are not done yet; those that failed before come last.

        Parameters
        ----------
        stages : the stages that share one pass over the tiles
        work : does a tile
        advance : called with the number of pixels of each tile that is done, by this run or before it
        reach : how many tiles around it a tile needs of the stages before

        Raises
        ------
        TilesFailedError
            Five tiles in a row failed with the same type of error, or the disk is full: the run stops.
        MapError
            What `work` raises of these, at once; or tiles to be tried again are of other inputs.
        """
        done = {stage.name: self._begin(stage) for stage in stages}
        waiting = _around(self._undone, self._tiles, reach)
        chosen = None if self._only is None else _around(self._only, self._tiles, reach)

        def errands() -> Iterator[Errand]:
            for tile in self._order(stages):
                wanted = frozenset(name for name, keys in done.items() if tile.key not in keys)
                if not wanted:
                    advance(tile.pixels, before=True)
                elif tile.key in waiting or (chosen is not None and tile.key not in chosen):
                    self._undone.add(tile.key)
                else:
                    yield Errand(tile, wanted)

        causes: list[str] = []
        with closing(self._executor.run(work, errands())) as outcomes:
            for (tile, wanted), outcome in outcomes:
                self._record(tile, wanted, outcome)
                if outcome.error is None:
                    causes = []
                    advance(tile.pixels)
                    continue
                self._undone.add(tile.key)
                if self._on_failure is not None:
                    self._on_failure(tile.pixels)
                self._failures.append(f"{stages[0].name} {tile.key}: {outcome.error}")
                causes = [*causes, outcome.cause] if outcome.cause in causes else [outcome.cause]
                self._stop_if_hopeless(stages[0], outcome, len(causes))
        give_back()
        if not self._undone:
            for stage in stages:
                self._ledger.complete(stage.name)

    def require_all(self) -> None:
        """Raise TilesFailedError where some tile is not done in some stage, saying which failed and why."""
        if not self._undone:
            return
        count = f"{len(self._undone)} of {len(self._tiles)} tiles are not done, so no map was written; "
        if not self._failures:
            raise TilesFailedError(f"{count}none of them failed: run the same command without --retry-failed")
        shown = self._failures[:_NAMED]
        if len(self._failures) > _NAMED:
            shown.append(f"and {len(self._failures) - _NAMED} more, see {self._ledger.path}")
        raise TilesFailedError(
            f"{count}what is done is kept. Run the same command again, or with --retry-failed to do just the "
            f"{len(self._failures)} that failed: {'; '.join(shown[:1])}" + "".join(f"\n  {one}" for one in shown[1:])
        )

    def _order(self, stages: Sequence[Stage]) -> list[Tile]:
        """All tiles, those that failed before last: broken ones must not keep a run from the others."""
        failed = {key for stage in stages for key in self._ledger.failed(stage.name)}
        return sorted(self._tiles, key=lambda tile: tile.key in failed)

    def _begin(self, stage: Stage) -> set[str]:
        """Keys of the tiles that need no work; makes the store anew where what stands there is of no use."""
        begun = self._ledger.stage(stage.name, stage.signature) if stage.store.exists() else None
        if begun is not None and begun.complete:  # whatever its tiling: the pixels are the same
            return {tile.key for tile in self._tiles}
        if begun is None or begun.tile_size != self._tile_size:
            if self._only is not None and self._ledger.failed(stage.name):
                raise MapError(
                    f"--retry-failed: the tiles of {stage.name} that failed are of other inputs or of another tile "
                    "size; run the command without it"
                )
            if not (self._ledger.is_begun(stage.name) and stage.stays()):  # begun: the store was made to its end
                self._ledger.forget(stage.name)
                stage.store.remove()
                stage.create()
            self._ledger.begin(stage.name, stage.signature, self._tile_size)
        return self._ledger.done(stage.name)

    def _record(self, tile: Tile, wanted: frozenset[str], outcome: Outcome) -> None:
        """Write what became of a tile into the ledger and the log; only the process of the run does so."""
        worker, seconds, attempt = outcome.worker, outcome.spent.seconds, 1
        known = {"stage": ",".join(sorted(wanted)), "tile": tile.key, "worker": worker, "seconds": round(seconds, 3)}
        if outcome.error is None:
            spent = outcome.spent.share(len(wanted))
            for name, result in outcome.results.items():
                attempt = self._ledger.finish(name, tile.key, result, spent, worker=worker)
            log.debug("tile %s done in %.1f s", tile.key, seconds, extra={**known, "attempt": attempt})
            return
        with suppress(sqlite3.Error):  # on a full disk the ledger cannot be written either
            for name in wanted:
                attempt = self._ledger.fail(name, tile.key, outcome.reason, seconds, worker=worker)
        known |= {"attempt": attempt, "error": outcome.reason}
        log.warning("tile %s failed: %s", tile.key, outcome.reason, extra=known)

    def _stop_if_hopeless(self, stage: Stage, outcome: Outcome, in_a_row: int) -> None:
        kept = "the run stopped and wrote no map; what is done is kept"
        if outcome.disk_full:
            raise TilesFailedError(
                f"the disk of {stage.store} is full ({outcome.error}): {kept}. Make room and run the same command again"
            )
        if in_a_row >= _FAILURES_IN_A_ROW:
            raise TilesFailedError(
                f"{stage.name}: {in_a_row} tiles failed one after the other with {outcome.cause}: {kept}. "
                f"Mend the cause and run the same command again. {self._failures[-1]}"
            )


def _around(keys: Collection[str], tiles: Sequence[Tile], reach: int) -> set[str]:
    """Keys and those of the tiles at most `reach` rows and columns away."""
    if not reach or not keys:
        return set(keys)
    steps = range(-reach, reach + 1)
    near = {(t.row + row, t.col + col) for t in tiles if t.key in keys for row in steps for col in steps}
    return {tile.key for tile in tiles if (tile.row, tile.col) in near}
