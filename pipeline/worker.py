"""What happens on the workers of a cluster: they say what they are, are set up, and do tiles, one at a time each.

Everything here runs in a worker's process. The work of a stage reaches it once, carried by a plugin: a task is a tile
and two names. Workers that join later are given the same plugins.
"""

import hashlib
import logging
import pickle
import platform
import threading
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import rasterio
import torch
from distributed import Worker, WorkerPlugin, get_worker

from timesenmap.model.encoder import choose_device, choose_precision
from timesenmap.pipeline.attempts import Outcome, Work, attempt
from timesenmap.pipeline.cog import limit_block_cache
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.threads import grant_threads

log = logging.getLogger(__name__)

# What may make another machine compute other bytes, or misunderstand what is sent to it.
_PACKAGES = ("timesenmap", "torch", "numpy", "zarr", "rasterio", "dask", "distributed", "shapely", "odc-geo")
_ROOMS = ("timesenmap.catalogs", "timesenmap.model", "timesenmap.pipeline")

_works: dict[str, Work] = {}
_one_tile_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Facts:
    """What a process is: versions by package, a hash of our code, the device it encodes on, its kind of processor."""

    versions: dict[str, str]
    code: str
    device: str
    precision: str
    processor: str

    def differences(self, other: "Facts") -> dict[str, tuple[str, str]]:
        """Versions that differ, as package: (ours, theirs); our code counts as one where only it differs."""
        mine, theirs = self.versions, other.versions
        apart = {name: (mine[name], theirs.get(name, "none")) for name in mine if mine[name] != theirs.get(name)}
        if not apart and self.code != other.code:
            apart["timesenmap's code"] = (self.code[:12], other.code[:12])
        return apart


def facts() -> Facts:
    """Say what this process is."""
    device = choose_device("auto")
    versions = {name: _version(name) for name in _PACKAGES}
    versions |= {"GDAL": rasterio.__gdal_version__, "Python": ".".join(platform.python_version_tuple()[:2])}
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return Facts(versions, _code(), device, choose_precision("auto", device=device), processor)


def facts_as_dict() -> dict[str, Any]:
    """Say what this process is, in plain types that any client can read."""
    return asdict(facts())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


@lru_cache(maxsize=1)
def _code() -> str:
    """Hash of the sources that decide what a tile is; two checkouts of one version may differ."""
    digest = hashlib.sha256()
    for room in _ROOMS:
        folder = Path(str(import_module(room).__file__)).parent
        for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".yaml")):
            digest.update(f"{room}/{path.relative_to(folder)}".encode() + path.read_bytes())
    return digest.hexdigest()


class SetUp(WorkerPlugin):
    """Sets a worker up for tiles: GDAL's cache, threads, log.

    Parameters
    ----------
    expected : what the run's own process is
    threads : of a tile; by default those of the worker
    level : of the log that is forwarded
    """

    name = "timesenmap"

    def __init__(self, expected: Facts, threads: int | None, level: int) -> None:
        self._expected, self._threads, self._level = expected, threads, level

    def setup(self, worker: Worker) -> None:
        """Set up; called on the worker."""
        limit_block_cache()
        threads = self._threads or worker.state.nthreads
        grant_threads(threads)
        torch.set_num_threads(threads)
        logging.getLogger("timesenmap").setLevel(self._level)
        apart = self._expected.differences(facts())
        _unfit[:] = [f"worker {worker.address}: {in_words(apart)}"] if apart else []
        if apart:
            log.error("%s", _unfit[0])


class Carried(WorkerPlugin):
    """Carries the work of a stage to every worker, once."""

    def __init__(self, name: str, work: Work) -> None:
        self.name, self._work = name, pickle.dumps(work)

    def setup(self, worker: Worker) -> None:  # noqa: ARG002 - distributed passes it by name
        """Unpack the work; called on the worker."""
        _works[self.name] = pickle.loads(self._work)  # noqa: S301 - from the run that the cluster serves

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        """Forget the work; called on the worker."""
        _works.pop(self.name, None)


# Why this worker must not do tiles; none where it may.
_unfit: list[str] = []


class UnfitWorkerError(RuntimeError):
    """A worker that joined during the run is not like the others."""


def do_tile(name: str, tile: Tile, wanted: frozenset[str]) -> Outcome:
    """Do a tile of the work of this name; the task of a cluster."""
    worker = str(get_worker().address)
    if _unfit or name not in _works:
        reason = _unfit[0] if _unfit else f"worker {worker} has not received the work of this stage"
        return Outcome.failed(UnfitWorkerError(reason), worker=worker)
    with _one_tile_at_a_time:  # whatever its number of threads: they are for this tile
        return attempt(_works[name], tile, wanted, worker=worker)


def in_words(differences: dict[str, tuple[str, str]]) -> str:
    """Say how a worker differs: "torch 2.13.0 here, 2.11.0 there"."""
    return "; ".join(f"{name} {here} here, {there} there" for name, (here, there) in differences.items())
