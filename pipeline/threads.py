"""How many threads a tile may use in this process: one for each core it may run on, or what a cluster granted it."""

from dask.system import CPU_COUNT

_granted: list[int] = []


def threads_of_a_tile() -> int:
    """Threads for the work of a tile: as granted, else one a core (affinity and cgroup quota count)."""
    return _granted[-1] if _granted else int(CPU_COUNT)


def grant_threads(threads: int) -> None:
    """Let each tile that is done in this process use so many threads from now on."""
    _granted[:] = [threads]
