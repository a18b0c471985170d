"""Progress of the stages: bars with rate and time left on a terminal, plain log lines elsewhere."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from timesenmap.pipeline.tiling import Advance
from timesenmap.workflows.logs import console

log = logging.getLogger("timesenmap")

# A log line every half minute, or every tenth of a stage where that takes some seconds: a night's log stays readable.
_QUIET_SECONDS = 30.0
_SHORT_SECONDS = 5.0


class Stages:
    """Runs named stages, shows how far they are, and remembers how long each took."""

    def __init__(self, *, bars: bool | None = None) -> None:
        self._bars = sys.stderr.isatty() if bars is None else bars
        self._pace = _Pace(0, "")
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Advance]:
        """Show one stage; yields ``advance(n)``, to be called with each amount that is done."""
        started = time.monotonic()
        try:
            with self._bar(name, total, unit) if self._bars else self._lines(name, total, unit) as advance:
                yield advance
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - started, 3)

    def failed(self, amount: int) -> None:
        """Take note of a tile of so many pixels that failed in the stage that is under way."""
        self._pace.failed += 1
        self._pace.given_up += amount

    @contextmanager
    def _bar(self, name: str, total: int, unit: str) -> Iterator[Advance]:
        columns = (
            TextColumn("{task.description:<14}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[pace]}"),
        )
        pace = self._pace = _Pace(total, unit)
        with Progress(*columns, console=console()) as progress:
            task = progress.add_task(name, total=total, pace="")

            def advance(amount: int, *, before: bool = False) -> None:
                pace.add(amount, before=before)
                progress.update(task, advance=amount, pace=str(pace))

            yield advance
            progress.update(task, pace=str(pace))

    @contextmanager
    def _lines(self, name: str, total: int, unit: str) -> Iterator[Advance]:
        started = said = time.monotonic()
        pace = self._pace = _Pace(total, unit)
        tenth = 0

        def advance(amount: int, *, before: bool = False) -> None:
            nonlocal said, tenth
            pace.add(amount, before=before)
            now = time.monotonic()
            due = _SHORT_SECONDS if 10 * pace.done // total > tenth else _QUIET_SECONDS
            if pace.done < total and now - said >= due:
                log.info("%s: %d %% (%s)", name, 100 * pace.done // total, str(pace), extra={"stage": name})
                said, tenth = now, 10 * pace.done // total

        yield advance
        state = "done" if pace.done >= total else "not all done"
        seconds = time.monotonic() - started
        known = {"stage": name, "seconds": round(seconds, 3)}
        log.info("%s: %s, %s%s in %.1f s%s", name, state, si(pace.done), unit, seconds, pace.trouble, extra=known)


class _Pace:
    """How fast a stage goes and how long it still takes.

    What an earlier run did is done, but took no time; what failed is not waited for.
    """

    def __init__(self, total: int, unit: str) -> None:
        self.total, self.unit = total, unit
        self.done = self._mine = self.failed = self.given_up = 0
        self._started = time.monotonic()

    def add(self, amount: int, *, before: bool) -> None:
        self.done += amount
        self._mine += 0 if before else amount

    def __str__(self) -> str:
        if not self._mine:
            return self.trouble.removeprefix(", ")
        rate = self._mine / max(time.monotonic() - self._started, 1e-9)
        left = max(0, self.total - self.done - self.given_up) / rate
        return f"{si(rate)}{self.unit}/s, {duration(left)} left{self.trouble}"

    @property
    def trouble(self) -> str:
        """How many tiles failed, after a comma; empty where none did."""
        return f", {self.failed} failed" if self.failed else ""


def duration(seconds: float) -> str:
    """Time as people say it: "45 s", "12 min", "3.5 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def byte_size(amount: float) -> str:
    """Bytes for people: "1.2 GB", "3.4 MB", "56 kB"."""
    if amount < 1e5:
        return f"{amount / 1e3:.0f} kB"
    return f"{amount / 1e9:.1f} GB" if amount >= 1e9 else f"{amount / 1e6:.1f} MB"


def si(value: float) -> str:
    """Three digits and a prefix: "1.23 M", "45.6 " (a unit may follow)."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g} "
