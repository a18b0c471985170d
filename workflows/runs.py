"""The runs of one job: a folder for each period, where the job's `out` says so by a placeholder."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from timesenmap.pipeline import locks
from timesenmap.pipeline.errors import LockedError, MapError
from timesenmap.pipeline.period import Period

_PLACEHOLDER = re.compile(r"\{(start|end)\}")
_MONTH = r"\d{4}-\d{2}"


def checked_out(out: Path) -> Path:
    """Refuse an output folder with any placeholder but {start} and {end} (ValueError)."""
    check_placeholders(str(out))
    return out


def check_placeholders(text: str) -> None:
    """Refuse a path or address with any placeholder but {start} and {end} (ValueError)."""
    unknown = re.search(r"\{[^{}]*\}|[{}]", _PLACEHOLDER.sub("", text))
    if unknown:
        msg = f"{unknown[0]!r} is no placeholder; {{start}} and {{end}} are: the first and the last month, YYYY-MM"
        raise ValueError(msg)


def has_placeholder(text: str) -> bool:
    """Whether a path or address differs from period to period."""
    return _PLACEHOLDER.search(text) is not None


def in_period(text: str, period: Period) -> str:
    """A path or address with the months of a period for its placeholders."""
    months = {"start": period.labels[0], "end": period.labels[-1]}
    return _PLACEHOLDER.sub(lambda found: months[found[1]], text)


@dataclass(frozen=True)
class Runs:
    """Where the runs of a job are.

    Attributes
    ----------
    pattern : output folder with the placeholders {start} and {end}, as `checked_out` lets it pass
    """

    pattern: Path

    @property
    def many(self) -> bool:
        """Whether each period has a folder of its own."""
        return has_placeholder(str(self.pattern))

    def folder(self, period: Period) -> Path:
        """Output folder of a period."""
        return Path(in_period(str(self.pattern), period))

    def standing(self) -> list[tuple[Period, Path]]:
        """Folders there are, with their periods, newest first; of other things of such a name none."""
        found: list[tuple[Period, Path]] = []
        for path in self._matching(self.pattern):
            period = self._period(path)
            if period is not None and path.is_dir():
                found.append((period, path))
        return sorted(found, key=lambda run: run[0].start, reverse=True)

    def removed(self) -> list[Path]:
        """What is left of folders whose removal was cut short."""
        pattern = self.pattern.with_name(self.removed_name(self.pattern.name))
        return sorted(path for path in self._matching(pattern) if path.is_dir())

    @staticmethod
    def removed_name(name: str) -> str:
        """Name of a folder while it is being removed: of no run, and not shown in listings."""
        return f".{name}.removed"

    def _matching(self, pattern: Path) -> Iterator[Path]:
        """What is called like this, with any months."""
        if not self.many:
            return iter(())
        rest = str(pattern.relative_to(self.root))
        for wildcard in "[?*":
            rest = rest.replace(wildcard, f"[{wildcard}]")
        return self.root.glob(_PLACEHOLDER.sub("[0-9][0-9][0-9][0-9]-[0-9][0-9]", rest))

    @property
    def lock(self) -> Path | None:
        """File that holds two runs of the job apart, whatever their periods; None where there is one folder."""
        if not self.many:
            return None
        name = str(self.pattern.relative_to(self.root)).replace("/", "+")
        return self.root / f".{name}.lock"

    def require_idle(self, folder: Path) -> None:
        """Raise LockedError where a run of the job, or of this folder, is at work; nothing is held nor written."""
        for path, what in ((self.lock, self._what), (folder / "work" / "lock", f"--out {folder}")):
            if path is not None and locks.is_held(path):
                raise LockedError(locks.locked_by(path, what))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold all runs of the job, where each period has its folder; LockedError where one is at work."""
        if self.lock is None:
            yield
            return
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        with locks.held(self.lock, self._what):
            yield

    @property
    def _what(self) -> str:
        return f"--out {self.pattern}"

    @property
    def root(self) -> Path:
        """The folder that all runs lie in, whatever their period."""
        parts = self.pattern.parts
        first = next(n for n, part in enumerate(parts) if _PLACEHOLDER.search(part))
        return Path(*parts[:first])

    def _period(self, folder: Path) -> Period | None:
        """Period whose folder this is."""
        parts = re.split(_PLACEHOLDER.pattern, str(self.pattern))  # text, name, text, name, ..., text
        text = "".join(f"({_MONTH})" if n % 2 else re.escape(part) for n, part in enumerate(parts))
        months = re.fullmatch(text, str(folder))
        if months is None:
            return None
        name, month = parts[1], months[1]
        year = int(month[:4]) if name == "start" else int(month[:4]) - (month[5:] != "12")
        first = int(month[5:]) if name == "start" else int(month[5:]) % 12 + 1
        try:
            period = Period.of(start=f"{year:04d}-{first:02d}")
        except MapError:
            return None
        return period if self.folder(period) == folder else None
