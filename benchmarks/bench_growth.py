"""Growth: what four times the area costs make-map in time and in peak memory, and the size of its graphs.

Each map is made by make-map in a process of its own, from 24 generated scenes, with an encoder of almost no weight, so
that what surrounds the encoder is not hidden behind it: the encoder's cost is the same for every pixel by construction.
The default is 512 x 512 and 1024 x 1024 pixels in tiles of 512; with TIMESENMAP_BENCH_FULL=1 it is 512 x 512 to 8192 x
8192 (64 Mpx).

The reference of a line is the map of a quarter of the area; for time it is four times its seconds.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dask.callbacks import Callback
from growth_scenes import CRS, LEFT, TOP, YEAR, make_scenes
from lines import Line, peak_mib

from timesenmap.model import new_encoder
from timesenmap.model.checkpoint import save_encoder

SIDES = (512, 1024, 2048, 4096, 8192) if os.environ.get("TIMESENMAP_BENCH_FULL") else (512, 1024)
TILE = 512


class CountTasks(Callback):  # type: ignore[misc]
    """Counts the tasks of all graphs that Dask computes in this process."""

    def __init__(self) -> None:
        self.tasks = 0
        super().__init__(start=self._count)

    def _count(self, graph: Any) -> None:
        self.tasks += len(graph)


def make_one(scenes: Path, encoder: Path, out: Path, side: int) -> dict[str, float]:
    """Make a map of `side` x `side` pixels in this process and say what it took."""
    from timesenmap.workflows.job import Job  # noqa: PLC0415 - the parent process needs none of it
    from timesenmap.workflows.make_map import make_map  # noqa: PLC0415

    aoi = f"{LEFT},{TOP - 10 * side},{LEFT + 10 * side},{TOP}"
    job = Job(
        aoi=aoi, aoi_crs=CRS, prompts=("land-cover",), year=YEAR, catalog=str(scenes), encoder=str(encoder), out=out,
        tile_size=TILE,
    )  # fmt: skip
    started, worked = time.perf_counter(), time.process_time()
    with CountTasks() as counted:
        record = make_map(job)
    assert record.grid.shape == (side, side), record.grid.shape
    return {
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time() - worked,
        "peak_mib": peak_mib(),
        "tasks": counted.tasks,
    }


def measure(sides: tuple[int, ...], repeats: int) -> dict[int, dict[str, float]]:
    """What maps of some sides take, each in fresh processes in turn; the least of some repeats.

    The least, because others on the machine only ever add to time, and allocators only ever to memory.
    """
    found: dict[int, list[dict[str, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory(prefix="bench-growth-") as place:
        scenes = make_scenes(Path(place) / "scenes", max(sides))
        encoder = Path(place) / "tiny.safetensors"
        save_encoder(new_encoder("small", width=32, depth=1, heads=2, feedforward=64), encoder)
        for turn in range(repeats):
            for side in sides:
                with tempfile.TemporaryDirectory(dir=place) as out:
                    command = [sys.executable, __file__, str(scenes), str(encoder), f"{out}/{turn}", str(side)]
                    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this file
                    if done.returncode:
                        raise RuntimeError(f"{side} x {side}: {done.stderr.strip()}")
                    found[side].append(json.loads(done.stdout.splitlines()[-1]))
                    print(f"{side} x {side}: {found[side][-1]}", file=sys.stderr, flush=True)
    return {side: {key: min(one[key] for one in all_of) for key in all_of[0]} for side, all_of in found.items()}


def lines(repeats: int) -> list[Line]:
    """Time and memory of each map against the one of a quarter of its area, and tasks a tile."""
    found = measure(SIDES, min(repeats, 2))
    made = []
    for less, side in itertools.pairwise(SIDES):
        what, reference = f"make-map, {side} x {side}", f"{less} x {less}"
        ours, theirs = found[side], found[less]
        for key, unit, label, factor in (
            ("seconds", "s", "time", 4),
            ("processor_seconds", "s", "processor time", 4),
            ("peak_mib", "MiB", "peak memory", 1),
        ):
            by = f"{factor} x {reference}" if factor > 1 else reference
            made.append(Line(f"{what}: {label}", unit, ours[key], by, factor * theirs[key], less_is_better=True))
        tiles, fewer = (side // TILE) ** 2, (less // TILE) ** 2
        made.append(
            Line(f"{what}: tasks a tile", "tasks", ours["tasks"] / tiles, reference, theirs["tasks"] / fewer, True)
        )
    return made


if __name__ == "__main__":
    print(json.dumps(make_one(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))))
