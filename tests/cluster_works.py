"""Work for clusters in tests: what travels must be importable on the workers."""

import json
import logging
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.ledger import TileResult


@dataclass(frozen=True)
class Told:
    """Notes when and where each tile was tried; some tiles go wrong.

    `wrong` is tile key -> (what, how often): "error", "die", "bad input" or "disk full".
    """

    folder: Path
    wrong: dict[str, tuple[str, int]]
    seconds: float = 0.0

    def __call__(self, tile: Tile, wanted: frozenset[str]) -> dict[str, TileResult]:
        started, number = time.time(), len(list(self.folder.glob(f"{tile.key}.*")))
        what, times = self.wrong.get(tile.key, ("", 0))
        note = self.folder / f"{tile.key}.{number}"
        note.write_text(json.dumps([os.getpid(), started, started]))
        if number < times:
            match what:
                case "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "bad input":
                    raise MapError("no such thing; choose another")
                case "disk full":
                    raise OSError(28, "No space left on device")
                case _:
                    raise RuntimeError(f"broken for the {number + 1}. time")
        time.sleep(self.seconds)
        logging.getLogger("timesenmap.told").warning("tile %s is done", tile.key)
        note.write_text(json.dumps([os.getpid(), started, time.time()]))
        return {name: TileResult(tile.key, {"pixels": [tile.pixels]}) for name in wanted}

    def tries(self, key: str) -> list[tuple[int, float, float]]:
        """(process, start, end) of every attempt at a tile."""
        return [tuple(json.loads(path.read_text())) for path in sorted(self.folder.glob(f"{key}.*"))]
