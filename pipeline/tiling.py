"""One stage over all tiles: resumable, each tile written whole and then recorded."""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.ledger import Ledger, TileResult

log = logging.getLogger(__name__)

# A broken tile must not stop the night; a broken service must not be asked ten thousand times.
_FAILURES_IN_A_ROW = 5


class TilesFailedError(RuntimeError):
    """Some tiles of a stage failed; the others are done and stay (exit code 1)."""


def run_stage(
    ledger: Ledger,
    *,
    stage: str,
    signature: str,
    tile_size: int,
    tiles: Sequence[Tile],
    store: Path,
    create: Callable[[], object],
    work: Callable[[Tile], TileResult],
    advance: Callable[[int], None],
) -> bool:
    """Do the tiles of a stage that are not done yet.

    Parameters
    ----------
    ledger : where finished tiles are recorded
    stage, signature : name of the stage and hash of all its result depends on; another signature starts it anew
    tile_size : pixels on a side; an unfinished stage that was begun with another size starts anew
    tiles : all tiles of the stage
    store : the stage's store, removed before `create` makes it anew from its template
    work : reads, computes and writes one tile whole, and returns its checksum and counts
    advance : called with the number of pixels of each tile that is done

    Returns
    -------
    True if anything was computed, False if the stage stood finished.

    Raises
    ------
    TilesFailedError
        if tiles failed; the rest is done, and the same command tries the failed ones again.
    """
    begun = ledger.stage(stage, signature) if store.exists() else None
    if begun is not None and begun.complete:  # whatever its tiling: the pixels are the same
        advance(sum(tile.pixels for tile in tiles))
        return False
    if begun is None or begun.tile_size != tile_size:
        ledger.forget(stage)
        shutil.rmtree(store, ignore_errors=True)
        store.parent.mkdir(parents=True, exist_ok=True)
        create()
        ledger.begin(stage, signature, tile_size)
    done = ledger.done(stage)
    failures: list[str] = []
    in_a_row = 0
    pending = [tile for tile in tiles if tile.key not in done]
    for tile in tiles:
        if tile.key in done:
            advance(tile.pixels)
    for tile in pending:
        started = time.monotonic()
        try:
            result = work(tile)
        except MapError:
            raise
        except Exception as error:  # whatever broke this tile is recorded, and the others go on
            ledger.fail(stage, tile.key, f"{type(error).__name__}: {error}", time.monotonic() - started)
            log.warning("%s: tile %s failed: %s", stage, tile.key, error)
            failures.append(f"{tile.key}: {error}")
            in_a_row += 1
            if in_a_row >= _FAILURES_IN_A_ROW:
                break
            continue
        in_a_row = 0
        ledger.finish(stage, tile.key, result, time.monotonic() - started)
        advance(tile.pixels)
    if failures:
        msg = (
            f"{stage}: {len(failures)} of {len(tiles)} tiles failed, first {failures[0]}; "
            "the finished ones are kept, run the same command again to do the rest"
        )
        raise TilesFailedError(msg)
    ledger.complete(stage)
    return True
