"""What ``--cluster`` may say: this machine, a Dask scheduler, or a file that describes a cluster to start."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from dask.system import CPU_COUNT
from dask.utils import parse_bytes
from distributed.system import MEMORY_LIMIT
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from timesenmap.pipeline.errors import MapError

LOCAL, SCHEDULER = "local", "scheduler"
STARTED = (LOCAL, "cuda", "slurm", "pbs", "lsf", "kubernetes", "gateway")
"""Kinds of cluster that are started for a run, beside those that other packages offer."""

# Packages offer a kind of their own under this entry point: a function that takes `options` as keywords and returns a
# cluster of Dask, or a connected Client.
ENTRY_POINT = "timesenmap.clusters"

EXAMPLES = "workflows/clusters has an example of each kind"

# Of this machine: a process for so many cores, as far as memory allows. Sixteen blocks of a tile are encoded at once,
# but a month is composited by fewer threads; a tile of 1024 x 1024 takes 1 to 2 GiB.
_CORES_A_PROCESS, _BYTES_A_PROCESS = 8, 3 << 30


class Workers(BaseModel):
    """How many workers: a number, or as many as there is work for, between two numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    minimum: int = Field(0, ge=0)
    maximum: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum > self.maximum:
            msg = f"minimum {self.minimum} is more than maximum {self.maximum}"
            raise ValueError(msg)
        return self

    @property
    def fixed(self) -> bool:
        """Whether there is nothing to adapt."""
        return self.minimum == self.maximum


def _fixed_number(value: Any) -> Any:
    return {"minimum": value, "maximum": value} if isinstance(value, int) and not isinstance(value, bool) else value


def _bytes(value: Any) -> Any:
    return parse_bytes(value) if isinstance(value, str) else value


class ClusterSpec(BaseModel):
    """A cluster as a file describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str = Field(description="local, scheduler, cuda, slurm, pbs, lsf, kubernetes, gateway, or an entry point")
    address: str | None = Field(None, description="of type scheduler: tcp://host:8786")
    workers: Annotated[Workers | None, BeforeValidator(_fixed_number)] = Field(
        None, description="a number, or minimum and maximum: workers then come and go with the work (one stays)"
    )
    threads: int | None = Field(
        None, ge=1, description="threads of a worker; a worker does one tile at a time with all of them"
    )
    memory: Annotated[int | None, BeforeValidator(_bytes)] = Field(None, gt=0, description="of a worker, as 8 GiB")
    patience: float = Field(
        3600.0,
        gt=0,
        description="seconds to wait for the first worker, for another when the last one is gone, and for a "
        "scheduler that is not heard of",
    )
    gpu: bool = Field(False, description="refuse to begin unless a worker has a GPU")
    options: dict[str, Any] = Field(default_factory=dict, description="passed on to what starts the cluster")

    @model_validator(mode="after")
    def _check(self) -> Self:
        kinds = [*STARTED, SCHEDULER, *offered()]
        if self.type not in kinds:
            msg = f"type {self.type!r} is unknown; choose of {', '.join(kinds)}"
            raise ValueError(msg)
        if (self.type == SCHEDULER) != (self.address is not None):
            raise ValueError("address goes with type scheduler, and with no other")
        if self.type == SCHEDULER and (self.workers or self.options):
            raise ValueError("a scheduler that runs has its workers already: drop workers and options")
        if self.type in ("slurm", "pbs", "lsf") and (self.threads is None or self.memory is None):
            msg = f"threads and memory of a worker must be given for {self.type}"
            raise ValueError(msg)
        return self

    @property
    def in_this_process(self) -> bool:
        """Whether tiles are done one after the other by make-map itself."""
        return self.type == LOCAL and self.workers is None


def offered() -> dict[str, Any]:
    """Kinds of cluster that other packages offer: entry points by name."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT)}


def read_cluster(value: str) -> ClusterSpec:
    """Understand what ``--cluster`` was given: ``local``, the address of a scheduler, or a file.

    Raises
    ------
    MapError
        naming the field, its value and what it takes.
    """
    if value == LOCAL:
        return this_machine()
    if "://" in value:
        return ClusterSpec.model_validate({"type": SCHEDULER, "address": value, "patience": 60.0})
    try:
        fields = yaml.safe_load(Path(value).read_text(encoding="utf-8"))
    except OSError as error:
        raise MapError(
            f"--cluster {value}: cannot be read ({error.strerror}); give local, tcp://scheduler:8786 or a YAML file "
            f"({EXAMPLES})"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MapError(f"--cluster {value}: is not YAML ({' '.join(str(error).split())}); {EXAMPLES}") from error
    try:
        return ClusterSpec.model_validate(fields)
    except ValidationError as error:
        raise MapError(f"--cluster {value}: {_first_problem(error)}; {EXAMPLES}") from error


def this_machine(cores: int = CPU_COUNT, memory: int = MEMORY_LIMIT) -> ClusterSpec:
    """Describe the processes that this machine is good for; where it is one, tiles are done in that of make-map."""
    processes = min(cores // _CORES_A_PROCESS, memory // _BYTES_A_PROCESS)
    if processes < 2:
        return ClusterSpec.model_validate({"type": LOCAL})
    shares = {"threads": cores // processes, "memory": memory // processes}
    return ClusterSpec.model_validate({"type": LOCAL, "workers": processes, **shares})


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown field {field!r}; the fields are {', '.join(ClusterSpec.model_fields)}"
    if problem["type"] == "missing":
        return f"{field} is missing"
    reason = problem["msg"].removeprefix("Value error, ")
    return f"{field} {problem['input']!r}: {reason}" if field else reason
