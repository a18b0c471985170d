"""Where the time of a run goes: seconds by phase and bytes read, measured while a tile is worked on.

Whoever does the work of a phase says so (`timed`, `reading`); who has it done collects (`measured`). All seconds are
wall time: what several threads do at once is divided among their phases (`divided`), so that phases add up to the time
the tile took, less what belongs to none. One tile at a time in a process. Nothing of it enters a map.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = {
    "reading": "reading scenes",
    "decoding": "decoding scenes",
    "resampling": "resampling onto the grid",
    "masking": "telling clouds",
    "compositing": "compositing",
    "encoding": "encoding pixels",
    "classifying": "classifying",
    "writing": "writing",
    "rest": "laying out the work and counting",
}
"""Phases and what they are in words. *reading* is waiting for bytes of scenes (on a busy machine for a core, too), and
reading the cube back; *decoding* the processor time of reading scenes: decompression, and what encryption costs."""


class Meter:
    """Seconds by phase, and bytes read; threads may add at the same time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.bytes_read = 0
        self._lock = threading.Lock()

    def add(self, seconds: dict[str, float], *, bytes_read: int = 0) -> None:
        """Add seconds to phases."""
        with self._lock:
            for phase, more in seconds.items():
                self.seconds[phase] = self.seconds.get(phase, 0.0) + more
            self.bytes_read += bytes_read


# Module-wide and not a context variable: Dask's threads do not inherit those.
_meter: Meter | None = None


@contextmanager
def measured() -> Iterator[Meter]:
    """Collect what is spent inside, in all threads; what belongs to no phase becomes *rest* at the end."""
    started = time.perf_counter()
    with _collected() as meter:
        yield meter
    meter.add({"rest": max(0.0, time.perf_counter() - started - sum(meter.seconds.values()))})


@contextmanager
def divided() -> Iterator[None]:
    """Divide the wall time of what threads do inside among their phases, in proportion to what each spent."""
    outer, started = _meter, time.perf_counter()
    with _collected() as inner:
        yield
    wall, spent = time.perf_counter() - started, sum(inner.seconds.values())
    if outer is not None and spent:
        shares = {phase: wall * seconds / spent for phase, seconds in inner.seconds.items()}
        outer.add(shares, bytes_read=inner.bytes_read)


@contextmanager
def timed(phase: str) -> Iterator[None]:
    """Count what is done inside as one of `PHASES`, less what is counted there as another."""
    with _clocked() as clock:
        yield
    spend({phase: clock.elapsed - clock.within})


@contextmanager
def reading() -> Iterator[None]:
    """Count what is done inside as reading or, as far as this thread was computing, decoding."""
    computing = time.thread_time()
    with _clocked() as clock:
        yield
    computing = min(time.thread_time() - computing, clock.elapsed)
    decoding = max(0.0, computing - clock.within)
    spend({"reading": max(0.0, clock.elapsed - clock.within - decoding), "decoding": decoding})


def spend(seconds: dict[str, float], *, bytes_read: int = 0) -> None:
    """Count seconds by phase, or bytes, where someone collects."""
    if _meter is not None:
        _meter.add(seconds, bytes_read=bytes_read)


@contextmanager
def _collected() -> Iterator[Meter]:
    global _meter  # noqa: PLW0603 - see above
    before, _meter = _meter, Meter()
    try:
        yield _meter
    finally:
        _meter = before


class _Clock:
    """Seconds between two moments in one thread, and how many of them inner clocks counted."""

    elapsed = within = 0.0


_running = threading.local()


@contextmanager
def _clocked() -> Iterator[_Clock]:
    outer: _Clock | None = getattr(_running, "clock", None)
    clock = _running.clock = _Clock()
    started = time.perf_counter()
    try:
        yield clock
    finally:
        clock.elapsed = time.perf_counter() - started
        _running.clock = outer
        if outer is not None:
            outer.within += clock.elapsed
