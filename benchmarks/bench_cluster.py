"""The cluster: what a tile costs the scheduler, what the scheduler keeps, and what a second worker is worth.

Empty tiles go through the ledger and the waves of make-map to two worker processes that do nothing. The reference of
the overhead is the limit asked for, 50 ms a tile; that of memory is the same process after a tenth of the tiles. There
are 1,000 tiles, and 10,000 with TIMESENMAP_BENCH_FULL=1.

Weak scaling: two workers of one thread do twice the area in the time in which one does it once. The reference is what
this machine allows: the same in two processes that know nothing of each other, as cores of a machine share more than a
cluster's. Each area has its own scenes, encoder of size small, land-cover prompts.
"""

import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
from growth_scenes import CRS, LEFT, TOP, YEAR, make_scenes
from lines import Line
from odc.geo.geobox import GeoBox

from timesenmap.pipeline.grid import Tile, tiles
from timesenmap.pipeline.ledger import Ledger, TileResult
from timesenmap.pipeline.on_cluster import OnCluster
from timesenmap.pipeline.stores import Store
from timesenmap.pipeline.tiling import Stage, TileRun
from timesenmap.pipeline.worker import SetUp, facts
from timesenmap.workflows.cluster_kinds import client_of
from timesenmap.workflows.cluster_spec import ClusterSpec

FULL = bool(os.environ.get("TIMESENMAP_BENCH_FULL"))
EMPTY_TILES = 10_000 if FULL else 1_000
LIMIT_MS = 50.0
SIDE, TILE = 512, 256


@dataclass(frozen=True)
class Nothing:
    """Work that does nothing."""

    def __call__(self, tile: Tile, wanted: frozenset[str]) -> Mapping[str, TileResult]:
        """Do nothing, and say so."""
        return {name: TileResult("0" * 64, {"pixels": [tile.pixels]}) for name in wanted}


def empty_tiles(count: int) -> tuple[float, float, float]:
    """Milliseconds a tile, and MiB of the scheduler's process after a tenth of the tiles and after all of them."""
    side = 16 * int(count**0.5)
    grid = GeoBox.from_bbox((0, 0, 10 * side, 10 * side), crs="EPSG:32631", resolution=10)
    them = tiles(grid, 16)
    memory: list[float] = []
    process = psutil.Process()

    def advance(_: int, *, before: bool = False) -> None:
        assert not before
        memory.append(process.memory_info().rss / 2**20)

    two = ClusterSpec.model_validate({"type": "local", "workers": 2, "threads": 1})
    with tempfile.TemporaryDirectory(prefix="bench-cluster-") as place, client_of("", two) as client:
        client.register_plugin(SetUp(facts(), None, logging.WARNING))
        ledger, store = Ledger(Path(place) / "ledger.sqlite"), Path(place) / "store"
        stage = Stage("cube", "s", Store.at(store), store.mkdir)
        run = TileRun(ledger, them, 16, executor=OnCluster(client))
        started = time.perf_counter()
        run.run([stage], work=Nothing(), advance=advance)
        took = time.perf_counter() - started
        assert len(ledger.done("cube")) == len(them)
    return 1000 * took / len(them), memory[len(memory) // 10], statistics.mean(memory[-20:])


def _map(scenes: str, out: str, *, areas: int, cluster: str) -> float:
    """Make a map of some areas side by side, and say how many seconds its tiles took."""
    from timesenmap.workflows.job import Job  # noqa: PLC0415 - the parent process of workers needs none of it
    from timesenmap.workflows.make_map import make_map  # noqa: PLC0415

    job = Job(
        aoi=f"{LEFT},{TOP - 10 * SIDE},{LEFT + 10 * SIDE * areas},{TOP}", aoi_crs=CRS, prompts=("land-cover",),
        year=YEAR, catalog=scenes, out=out, tile_size=TILE, cluster=cluster,
    )  # fmt: skip
    seconds = make_map(job).timings
    return seconds["cube"] + seconds["labels"]


def _alone(scenes: str, out: str) -> float:
    return _map(scenes, out, areas=1, cluster=_workers(Path(out)))


def _workers(out: Path, workers: int = 1) -> str:
    path = out.with_suffix(".yaml")
    path.write_text(f"type: local\nworkers: {workers}\nthreads: 1\n")
    return str(path)


def weak_scaling(repeats: int) -> tuple[float, float]:
    """How many times the area two workers do in the time of one: in a cluster, and in two runs side by side."""
    ours, theirs = [], []
    with tempfile.TemporaryDirectory(prefix="bench-cluster-") as place:
        scenes = str(make_scenes(Path(place) / "scenes", 2 * SIDE))
        for turn in range(repeats):
            outs = [str(Path(place) / f"{turn}-{name}") for name in ("one", "two", "left", "right")]
            one = _alone(scenes, outs[0])
            two = _map(scenes, outs[1], areas=2, cluster=_workers(Path(outs[1]), 2))
            with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
                both = list(pool.map(_alone, [scenes] * 2, outs[2:]))
            ours.append(2 * one / two)
            theirs.append(2 * one / max(both))
            print(f"one {one:.1f} s, two {two:.1f} s, side by side {both}", file=sys.stderr, flush=True)
    return statistics.median(ours), statistics.median(theirs)


def lines(repeats: int) -> list[Line]:
    """Overhead and memory of the scheduler over empty tiles, and weak scaling."""
    each, early, late = empty_tiles(EMPTY_TILES)
    what = f"{EMPTY_TILES:,} empty tiles, two workers"
    ours, theirs = weak_scaling(min(repeats, 3))
    return [
        Line(f"{what}: a tile", "ms", each, "the limit asked for", LIMIT_MS, less_is_better=True),
        Line(f"{what}: memory of the scheduler", "MiB", late, "after a tenth of them", early, less_is_better=True),
        Line(f"{2 * SIDE} x {SIDE} pixels by two workers: areas in the time of one", "times", ours,
             "two runs side by side", theirs),
    ]  # fmt: skip
