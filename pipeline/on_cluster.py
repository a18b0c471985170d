"""Tiles on the workers of a Dask cluster: one task a tile, a wave at a time, again elsewhere where one fails.

The scheduler knows of no more tiles than the workers will soon do, so that its graph does not grow with the area, and
forgets each as it is done. What is done is told to the ledger by this process alone.
"""

import asyncio
import concurrent.futures
import heapq
import logging
import queue
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from distributed import Client, Future, KilledWorker

from timesenmap.pipeline.attempts import Errand, Outcome, Outcomes, Work
from timesenmap.pipeline.errors import ClusterError, MapError
from timesenmap.pipeline.worker import Carried, do_tile

log = logging.getLogger(__name__)

# Attempts at a tile, each on another worker where there is one; a pause is so many times as long as the one before.
_ATTEMPTS = 3
_LONGER = 4

# Tiles that a cluster knows of, for each worker: one that is done and one that is next.
_WAVE = 2

_GLANCE_SECONDS = 1.0


@dataclass(order=True)
class _Try:
    """An errand: when it may be tried, how often it failed and on which workers, how often it was lost on the way."""

    due: float
    number: int
    errand: Errand = field(compare=False)
    attempts: int = field(default=0, compare=False)
    lost: int = field(default=0, compare=False)
    failed_on: set[str] = field(default_factory=set, compare=False)


class _Wave:
    """The tiles of one stage that a cluster knows of, and those that wait to be tried again."""

    def __init__(self, client: Client, work: Work, resources: Mapping[str, float]) -> None:
        self._name = f"timesenmap-{uuid.uuid4().hex}"
        self._client, self._resources = client, dict(resources)
        self._flying: dict[Any, tuple[Future[Any], _Try]] = {}
        self._due: list[_Try] = []
        self._over: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        client.register_plugin(Carried(self._name, work))

    def __len__(self) -> int:
        return len(self._flying) + len(self._due)

    def launch(self, one: _Try, workers: set[str]) -> None:
        """Hand a tile to the cluster; to a worker on which it has not failed, where there is one."""
        elsewhere = workers - one.failed_on if one.failed_on else None
        tile = one.errand.tile
        future = self._client.submit(
            do_tile,
            self._name,
            *one.errand,
            key=(self._name, tile.row, tile.col, one.number, one.attempts, one.lost),
            workers=sorted(elsewhere) if elsewhere else None,
            allow_other_workers=bool(elsewhere),
            resources=self._resources or None,
            pure=False,
        )
        self._flying[future.key] = future, one
        future.add_done_callback(self._over.put)  # type: ignore[no-untyped-call]

    def wait(self, one: _Try) -> None:
        """Try a tile again when it is due."""
        heapq.heappush(self._due, one)

    def due(self) -> Iterator[_Try]:
        """What is due to be tried again."""
        while self._due and self._due[0].due <= time.monotonic():
            yield heapq.heappop(self._due)

    def next_over(self) -> "tuple[Future[Any], _Try] | None":
        """Next task that is over, however it ended; None when none is for a moment."""
        try:
            future = self._over.get(timeout=_GLANCE_SECONDS)
        except queue.Empty:
            return None
        return self._flying.pop(future.key)

    def cancel(self) -> None:
        """Take back what is under way."""
        with suppress(Exception):  # of a cluster that is gone nothing can be taken back
            self._client.cancel([future for future, _ in self._flying.values()], force=True)  # type: ignore[no-untyped-call]
            self._client.unregister_worker_plugin(self._name)  # type: ignore[no-untyped-call]


def workers_of(client: Client) -> set[str]:
    """Addresses of the workers that are there now."""
    return set(client.scheduler_info(n_workers=-1).get("workers", {}))


class OnCluster:
    """Does tiles on the workers of a cluster.

    Parameters
    ----------
    client : connected to its scheduler; the workers are set up
    expected : workers that there will be at most, one or more; those that are there, where there are more
    resources : Dask resources that a tile needs, by the phase of its work (``reading``, ``encoding``)
    patience : seconds to wait for a worker when the last one is gone
    pause : seconds before the second attempt at a tile
    """

    def __init__(
        self,
        client: Client,
        *,
        expected: int = 1,
        resources: Mapping[str, Mapping[str, float]] | None = None,
        patience: float = 600.0,
        pause: float = 2.0,
    ) -> None:
        self._client, self._expected, self._resources = client, expected, dict(resources or {})
        self._patience, self._pause = patience, pause
        self._address = client.scheduler_info(n_workers=0)["address"]
        self._seen = time.monotonic()
        self._there: set[str] = set()
        self._ask_again = 0.0

    def run(self, work: Work, errands: Iterable[Errand]) -> Outcomes:
        """Do tiles and tell of each as it is done, or given up after three attempts.

        Raises
        ------
        MapError
            What the work raises of these, at once.
        ClusterError
            The scheduler, or every worker, is gone and does not come back.
        """
        wave = _Wave(self._client, work, self._resources.get(getattr(work, "phase", ""), {}))
        tries = (_Try(0.0, number, errand) for number, errand in enumerate(errands))
        self._seen = time.monotonic()
        try:
            while True:
                workers = self._workers()
                for one in wave.due():
                    wave.launch(one, workers)
                for one in islice(tries, max(0, _WAVE * max(self._expected, len(workers)) - len(wave))):
                    wave.launch(one, workers)
                if not len(wave):
                    return
                over = wave.next_over()
                if over is None:
                    self._require_life()
                    continue
                future, one = over
                outcome = self._outcome(future, one)
                if outcome is None or self._again(one, outcome):
                    one.due = time.monotonic() + self._pause * _LONGER ** max(0, one.attempts - 1)
                    wave.wait(one)
                else:
                    yield one.errand, outcome
        finally:
            wave.cancel()

    def _workers(self) -> set[str]:
        """Addresses of the workers that are there; asked once a second, and while the scheduler is away not at all."""
        if time.monotonic() >= self._ask_again and self._client.status == "running":
            self._there = workers_of(self._client)
            self._ask_again = time.monotonic() + _GLANCE_SECONDS
        return self._there

    def _outcome(self, future: Future[Any], one: _Try) -> Outcome | None:
        """Outcome of a task that is over; None where it was lost with the scheduler, and is no fault of the tile's."""
        try:
            outcome: Outcome = future.result()
        except MapError:
            raise
        except (asyncio.CancelledError, concurrent.futures.CancelledError):
            self._require_life()
            one.lost += 1
            return None
        except KilledWorker as error:
            one.attempts += error.allowed_failures  # so often the scheduler tried it elsewhere by itself
            died = OSError(f"the worker {error.last_worker.address} died while it had this tile (out of memory?)")
            return Outcome.failed(died, worker=error.last_worker.address)
        except Exception as error:
            return Outcome.failed(error)
        return outcome

    def _again(self, one: _Try, outcome: Outcome) -> bool:
        """Tell whether a tile deserves another attempt, and remember where it failed."""
        if outcome.error is None or outcome.disk_full:
            return False
        one.attempts += 1
        one.failed_on.add(outcome.worker)
        if one.attempts >= _ATTEMPTS:
            return False
        log.warning(
            "tile %s failed on %s (attempt %d of %d), is tried again elsewhere: %s",
            one.errand.tile.key, outcome.worker or "the cluster", one.attempts, _ATTEMPTS, outcome.reason,
        )  # fmt: skip
        return True

    def _require_life(self) -> None:
        """Raise ClusterError where there is no scheduler any more, or no worker for too long."""
        kept = "what is done is kept; run the same command again"
        if self._client.status not in ("running", "connecting"):
            raise ClusterError(f"the scheduler {self._address} is gone: {kept}")
        if self._workers():
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > self._patience:
            raise ClusterError(f"no worker of the cluster was there for {self._patience:.0f} s: {kept}")


def phases(resources: Collection[str]) -> dict[str, dict[str, float]]:
    """Dask resources by phase, from the names that workers declare.

    Where some declare ``GPU``, tiles are encoded by these alone; where others declare ``CPU``, those read the scenes.
    """
    wanted = {"encoding": "GPU", "reading": "CPU"} if "GPU" in resources else {}
    return {phase: {name: 1.0} for phase, name in wanted.items() if name in resources}
