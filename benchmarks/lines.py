"""What a benchmark is made of: lines that compare ours with a reference, timed in turn in one run."""

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Line:
    """One comparison: a figure of ours, the same figure of a reference, and their ratio.

    Attributes
    ----------
    what : what was measured, the size of the work included
    unit : unit of both figures, such as ``pixels/s``, ``s`` or ``MiB``
    ours, theirs : the figures
    reference : what the reference is
    less_is_better : for seconds and bytes; rates are better when they are greater
    """

    what: str
    unit: str
    ours: float
    reference: str
    theirs: float
    less_is_better: bool = False

    @property
    def ratio(self) -> float:
        """How many times better ours is: 2 = twice as fast, or half the seconds or bytes."""
        return self.theirs / self.ours if self.less_is_better else self.ours / self.theirs


def seconds_of(functions: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median seconds of each function, called in turn `repeats` times after one round that does not count.

    In turn, because on a shared machine a slow minute should meet all of them alike.
    """
    for function in functions:
        function()
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, taken in zip(functions, seconds, strict=True):
            started = time.perf_counter()
            function()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in seconds]


def peak_mib() -> float:
    """Peak memory of this process so far in MiB.

    Of this program alone where the kernel tells (VmHWM): ``ru_maxrss`` begins with that of the process that started it.
    """
    status = Path("/proc/self/status")
    peaks = (
        [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        if status.exists()
        else []
    )
    return int(peaks[0]) / 1024 if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def machine() -> str:
    """Processor, its cores, and what decides the speed on it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []
    )
    processor = names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
    threads = os.environ.get("OMP_NUM_THREADS", "as many as cores")
    return (
        f"{processor}, {os.cpu_count()} cores, OMP_NUM_THREADS: {threads}, torch {version('torch').partition('+')[0]}"
    )
