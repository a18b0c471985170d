"""Stages over all tiles: resumable, each tile written whole and then recorded."""

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.ledger import Ledger, TileResult

log = logging.getLogger(__name__)

# A broken tile must not stop the night; a broken service must not be asked ten thousand times.
_FAILURES_IN_A_ROW = 5


class Advance(Protocol):
    """Told how many pixels are done; `before` says that they were done by an earlier run, in no time."""

    def __call__(self, amount: int, *, before: bool = False) -> None:
        """Take note of it."""


class TilesFailedError(RuntimeError):
    """Some tiles of a stage failed; the others are done and stay (exit code 1)."""


@dataclass(frozen=True)
class Stage:
    """One store to be filled tile by tile.

    Attributes
    ----------
    name : name in the ledger
    signature : hash of all that the store's content depends on; another signature starts it anew
    store : the store, removed before it is made anew
    create : makes the empty store from its template
    """

    name: str
    signature: str
    store: Path
    create: Callable[[], None]


def run_stages(
    ledger: Ledger,
    stages: Sequence[Stage],
    *,
    tiles: Sequence[Tile],
    tile_size: int,
    work: Callable[[Tile, frozenset[str]], Mapping[str, TileResult]],
    advance: Advance,
) -> None:
    """Do the tiles of some stages that are not done yet.

    Parameters
    ----------
    ledger : where finished tiles are recorded
    stages : the stages that share one pass over the tiles
    tiles : all tiles
    tile_size : pixels on a side; an unfinished stage that was begun with another size starts anew
    work : computes one tile for the named stages, writes it whole, and returns checksum and counts for each
    advance : called with the number of pixels of each tile that is done, by this run or before it

    Raises
    ------
    TilesFailedError
        if tiles failed; the rest is done, and the same command tries the failed ones again.
    """
    done = {stage.name: _done(ledger, stage, tiles, tile_size) for stage in stages}
    failures: list[str] = []
    in_a_row = 0
    for tile in tiles:
        wanted = frozenset(name for name, keys in done.items() if tile.key not in keys)
        if wanted and in_a_row < _FAILURES_IN_A_ROW:
            error = _attempt(ledger, tile, wanted, work)
            in_a_row = in_a_row + 1 if error else 0
            if error:
                failures.append(f"{tile.key}: {error}")
                continue
        advance(tile.pixels, before=not wanted)
    if failures:
        msg = (
            f"{stages[0].name}: {len(failures)} of {len(tiles)} tiles failed, first {failures[0]}; "
            "the finished ones are kept, run the same command again to do the rest"
        )
        raise TilesFailedError(msg)
    for stage in stages:
        ledger.complete(stage.name)


def _done(ledger: Ledger, stage: Stage, tiles: Sequence[Tile], tile_size: int) -> set[str]:
    """Keys of the tiles that need no work; makes the store anew where what stands there is of no use."""
    begun = ledger.stage(stage.name, stage.signature) if stage.store.exists() else None
    if begun is not None and begun.complete:  # whatever its tiling: the pixels are the same
        return {tile.key for tile in tiles}
    if begun is None or begun.tile_size != tile_size:
        ledger.forget(stage.name)
        shutil.rmtree(stage.store, ignore_errors=True)
        stage.store.parent.mkdir(parents=True, exist_ok=True)
        stage.create()
        ledger.begin(stage.name, stage.signature, tile_size)
    return ledger.done(stage.name)


def _attempt(
    ledger: Ledger,
    tile: Tile,
    wanted: frozenset[str],
    work: Callable[[Tile, frozenset[str]], Mapping[str, TileResult]],
) -> str | None:
    started = time.monotonic()
    try:
        results = work(tile, wanted)
    except MapError:
        raise
    except Exception as error:  # whatever broke this tile is recorded, and the others go on
        reason = f"{type(error).__name__}: {error}"
        for name in wanted:
            ledger.fail(name, tile.key, reason, time.monotonic() - started)
        log.warning("tile %s failed: %s", tile.key, reason, exc_info=log.isEnabledFor(logging.DEBUG))
        return str(error) or reason
    for name, result in results.items():
        ledger.finish(name, tile.key, result, time.monotonic() - started)
    return None
