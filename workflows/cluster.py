"""Where the tiles of a run are done: in this process, or by workers that are looked at before any tile begins."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from distributed import Client

from timesenmap.pipeline.attempts import Executor, Here
from timesenmap.pipeline.encode import EncoderRef
from timesenmap.pipeline.errors import ClusterError, MapError
from timesenmap.pipeline.on_cluster import OnCluster, phases, workers_of
from timesenmap.pipeline.stores import Store
from timesenmap.pipeline.worker import Facts, SetUp, facts, facts_as_dict, in_words
from timesenmap.pipeline.workspace import OWNER, mark_of
from timesenmap.workflows.cluster_kinds import client_of
from timesenmap.workflows.cluster_spec import ClusterSpec, read_cluster

log = logging.getLogger("timesenmap.cluster")


@dataclass(frozen=True)
class Place:
    """Where tiles are done.

    Attributes
    ----------
    executor : does them
    encoding : device and precision of those who encode; None is as this process does
    dashboard : address of Dask's dashboard, or empty
    client : connected to the cluster; None where there is none
    """

    executor: Executor
    encoding: tuple[str, str] | None = None
    dashboard: str = ""
    client: Client | None = None

    def require_stores(self, stores: Store) -> None:
        """Refuse workers that do not see the stores of the run, or may not write there, before any tile begins."""
        mine = stores.read(OWNER)
        answers: dict[str, Any] = self.client.run(mark_of, stores, on_error="return") if self.client else {}
        for worker, answer in answers.items():
            if isinstance(answer, BaseException):
                raise MapError(f"on worker {worker}: {answer}")
            if answer != mine:
                raise MapError(
                    f"--work {stores}: worker {worker} does not see what is written there; name a folder that all "
                    "workers share, or an object storage (s3://BUCKET/FOLDER)"
                )

    def encoder(self, here: EncoderRef) -> EncoderRef:
        """The encoder as those load it who encode."""
        if self.encoding is None:
            return here
        device, precision = self.encoding
        return replace(here, device=device, precision=precision)


@contextmanager
def open_cluster(value: str) -> Iterator[Place]:
    """Have the cluster that ``--cluster`` names for one run: started or found, its workers looked at and set up.

    Raises
    ------
    MapError
        What is asked for cannot be: a wrong file or option, no scheduler at the address, workers without the package,
        with other versions, or without the GPU asked for. No tile has begun.
    ClusterError
        It could not be started, or no worker came in time.
    """
    spec = read_cluster(value)
    if spec.in_this_process:
        yield Place(Here())
        return
    with client_of(value, spec) as client:
        _await_workers(client, value, spec)
        mine = facts()
        found = _facts_of_workers(client, mine, value)
        known = client.scheduler_info(n_workers=-1)
        declared = {name for worker in known["workers"].values() for name in worker.get("resources", {})}
        device, precision = _encoding(found, declared, value, gpu=spec.gpu)
        level = logging.getLogger("timesenmap").getEffectiveLevel()
        client.register_plugin(SetUp(mine, spec.threads, level))
        client.forward_logging("timesenmap", level)  # type: ignore[no-untyped-call]
        expected = spec.workers.maximum if spec.workers else len(found)
        dashboard = str(client.dashboard_link) if "dashboard" in known["services"] else ""
        log.info(
            "cluster: %d workers now, %d expected; encoding on %s in %s; dashboard: %s",
            len(found), expected, device, precision, dashboard or "none",
        )  # fmt: skip
        executor = OnCluster(client, expected=expected, resources=phases(declared), patience=spec.patience)
        yield Place(executor, (device, precision), dashboard, client)


def _await_workers(client: Client, value: str, spec: ClusterSpec) -> None:
    """Wait for the first worker."""
    if not workers_of(client):
        log.info("cluster: waiting for the first worker, for %.0f s at most", spec.patience)
    try:
        client.wait_for_workers(1, timeout=spec.patience)
    except TimeoutError as error:
        raise ClusterError(
            f"--cluster {value}: no worker came within {spec.patience:.0f} s; look at the queue and at the logs of its "
            "jobs, or give more `patience`"
        ) from error


def _facts_of_workers(client: Client, mine: Facts, value: str) -> dict[str, Facts]:
    """Ask scheduler and workers what they are; refuse those that would misunderstand, or compute other bytes."""
    versions: Any = client.get_versions()
    scheduler = versions["scheduler"]["packages"]
    apart = {name: (mine.versions[name], str(scheduler.get(name))) for name in ("dask", "distributed")}
    apart = {name: (here, there) for name, (here, there) in apart.items() if here != there}
    if apart:
        raise MapError(f"--cluster {value}: the scheduler differs: {in_words(apart)}; install the same there as here")
    found: dict[str, Facts] = {}
    answers: dict[str, Any] = client.run(facts_as_dict, on_error="return")
    for worker, answer in answers.items():
        if isinstance(answer, BaseException):
            raise MapError(
                f"--cluster {value}: worker {worker} cannot do tiles ({type(answer).__name__}: {answer}); install "
                "timesenmap there as here"
            )
        found[worker] = Facts(**answer)
        apart = mine.differences(found[worker])
        if apart:
            raise MapError(
                f"--cluster {value}: worker {worker} differs: {in_words(apart)}; install the same there as here"
            )
    processors = sorted({one.processor for one in found.values()})
    if len(processors) > 1:
        log.warning("cluster: processors differ (%s), and so may the last bits of embeddings", ", ".join(processors))
    return found


def _encoding(found: Mapping[str, Facts], declared: set[str], value: str, *, gpu: bool) -> tuple[str, str]:
    """Device and precision in which all tiles are encoded: bytes must not depend on who does a tile."""
    devices = {one.device for one in found.values()}
    if gpu and "cuda" not in devices:
        raise MapError(
            f"--cluster {value}: gpu is asked for, and none of {len(found)} workers has a GPU that torch can use; "
            "start them where there is one, or drop gpu"
        )
    if len(devices) > 1 and "GPU" not in declared:
        raise MapError(
            f"--cluster {value}: some workers have a GPU and others none; start those that have one with "
            "`--resources GPU=1`, and tiles are encoded there"
        )
    device = "cuda" if "cuda" in devices else min(devices)
    precisions = {one.precision for one in found.values() if one.device == device}
    return device, "bfloat16" if precisions == {"bfloat16"} else "float32"
