"""Clusters that are started for a run, each by the library that knows its kind."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dask
from distributed import Client

from timesenmap.pipeline.errors import ClusterError, MapError
from timesenmap.workflows.cluster_spec import EXAMPLES, LOCAL, SCHEDULER, ClusterSpec, offered

_CONNECT_SECONDS = 15.0
_GIB = 1 << 30

# A tile whose worker died comes back at once, and is tried again elsewhere by us, after a pause.
_SETTINGS = {"distributed.scheduler.allowed-failures": 0}

# Kinds that have their first workers when they are started, without being told to scale.
_AT_ONCE = (LOCAL, "cuda")


@dataclass(frozen=True)
class _Kind:
    """Who starts a kind of cluster: a class, what to install for it, and our fields in its words."""

    module: str
    name: str
    package: str
    options: Callable[[ClusterSpec], Mapping[str, Any]]


def _local(spec: ClusterSpec) -> Mapping[str, Any]:
    return {
        "n_workers": spec.workers.minimum if spec.workers else 1,
        "threads_per_worker": spec.threads or 1,
        "memory_limit": spec.memory or "auto",
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
    }


def _cuda(spec: ClusterSpec) -> Mapping[str, Any]:
    options = {"n_workers": spec.workers and spec.workers.minimum, "memory_limit": spec.memory}
    given = {name: value for name, value in options.items() if value}
    return {"threads_per_worker": spec.threads or 1, "resources": {"GPU": 1}, **given}


def _queued(spec: ClusterSpec) -> dict[str, Any]:
    # One worker a job. It has all cores of the job for its tile, and Dask is told of one: it would hand a worker a tile
    # for each, and, because a run's scheduler knows of two tiles a worker, ask for no more workers than these fill.
    return {"cores": 1, "processes": 1, "memory": f"{(spec.memory or 0) / _GIB:.3f} GiB"}


def _slurm(spec: ClusterSpec) -> Mapping[str, Any]:
    return _queued(spec) | {"job_cpu": spec.threads}


def _pbs(spec: ClusterSpec) -> Mapping[str, Any]:
    return _queued(spec) | {"resource_spec": f"select=1:ncpus={spec.threads}:mem={(spec.memory or 0) >> 20}mb"}


def _lsf(spec: ClusterSpec) -> Mapping[str, Any]:
    return _queued(spec) | {"ncpus": spec.threads}


def _as_it_is(_: ClusterSpec) -> Mapping[str, Any]:
    return {}


KINDS = {
    LOCAL: _Kind("distributed", "LocalCluster", "distributed", _local),
    "cuda": _Kind("dask_cuda", "LocalCUDACluster", "dask-cuda", _cuda),
    "slurm": _Kind("dask_jobqueue", "SLURMCluster", "dask-jobqueue", _slurm),
    "pbs": _Kind("dask_jobqueue", "PBSCluster", "dask-jobqueue", _pbs),
    "lsf": _Kind("dask_jobqueue", "LSFCluster", "dask-jobqueue", _lsf),
    "kubernetes": _Kind("dask_kubernetes.operator", "KubeCluster", "dask-kubernetes", _as_it_is),
    "gateway": _Kind("dask_gateway", "GatewayCluster", "dask-gateway", _as_it_is),
}


@contextmanager
def client_of(value: str, spec: ClusterSpec) -> Iterator[Client]:
    """Client of a cluster, which is started for it and ended with it, unless it was there before.

    Parameters
    ----------
    value : what ``--cluster`` was given, for messages
    spec : the cluster

    Raises
    ------
    MapError
        No scheduler at the address, a library that is not installed, options it does not take.
    ClusterError
        The cluster could not be started.
    """
    with dask.config.set(_SETTINGS):
        if spec.type == SCHEDULER:
            with _found(value, spec) as client:
                yield client
            return
        with _started(value, spec) as started:
            if isinstance(started, Client):
                yield started
                return
            _scale(started, spec)
            with Client(started, set_as_default=False) as client:  # type: ignore[no-untyped-call]
                yield client


def _found(value: str, spec: ClusterSpec) -> Client:
    try:
        with Client(spec.address, timeout=_CONNECT_SECONDS, set_as_default=False):  # type: ignore[no-untyped-call]
            pass
    except (OSError, ValueError) as error:
        raise MapError(
            f"--cluster {value}: no Dask scheduler answers at {spec.address} ({error}); start one (`dask scheduler`) "
            "or mend the address"
        ) from error
    # Its timeout is also how long it tries to come back when the network is cut.
    return Client(spec.address, timeout=spec.patience, set_as_default=False)  # type: ignore[no-untyped-call]


def _started(value: str, spec: ClusterSpec) -> Any:
    make, options = _maker(value, spec)
    try:
        return make(**options)
    except Exception as error:
        cause = _first_cause(error)
        why = f"{type(cause).__name__}: {str(cause).partition(chr(10))[0]}"
        if isinstance(cause, TypeError | ValueError):
            raise MapError(f"--cluster {value}: {spec.type} does not take these options ({why}); {EXAMPLES}") from error
        raise ClusterError(f"--cluster {value}: the {spec.type} cluster could not be started ({why})") from error


def _first_cause(error: BaseException) -> BaseException:
    """Error that others were raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _maker(value: str, spec: ClusterSpec) -> tuple[Any, dict[str, Any]]:
    """What makes the cluster, and the options it is given."""
    others = offered()
    if spec.type in others:
        return others[spec.type].load(), dict(spec.options)
    kind = KINDS[spec.type]
    try:
        make = getattr(importlib.import_module(kind.module), kind.name)
    except ImportError as error:
        raise MapError(f"--cluster {value}: type {spec.type} needs {kind.package} ({error}); pip install it") from error
    return make, {**kind.options(spec), **spec.options}


def _scale(cluster: Any, spec: ClusterSpec) -> None:
    if spec.workers is None:
        return
    if not spec.workers.fixed:
        # None would come before there is work, and there is no work before one is looked at.
        cluster.adapt(minimum=max(1, spec.workers.minimum), maximum=spec.workers.maximum)
    elif spec.type not in _AT_ONCE:
        cluster.scale(spec.workers.maximum)
