"""The twelve months of a map."""

import datetime as dt
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timesenmap.pipeline.errors import MapError

_FIRST_IMAGES = 2015  # Sentinel-2A, launched 23 June 2015


@dataclass(frozen=True)
class Period:
    """Twelve consecutive calendar months (UTC), from the first day of the first one.

    Parameters
    ----------
    start
        First day of the first month.
    """

    start: dt.date

    def __post_init__(self) -> None:
        if self.start.day != 1:
            raise MapError(f"period from {self.start}: begins with the first day of a month; give --start YYYY-MM")

    @classmethod
    def latest(cls, today: dt.date) -> "Period":
        """Last twelve months that are over on a day: on 1 and on 30 November 2026, November 2025 to October 2026."""
        return cls(dt.date(today.year - 1, today.month, 1))

    @classmethod
    def of(cls, year: int | None = None, start: str | None = None) -> "Period":
        """Make a period from a year (January to December) or a first month "YYYY-MM"; MapError otherwise."""
        if (year is None) == (start is None):
            said = "neither" if year is None else f"both --year {year} and --start {start}"
            raise MapError(f"period: {said} given; give either --year YYYY or --start YYYY-MM")
        if start is None:
            assert year is not None
            start = f"{year:04d}-01"
        if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", start):
            raise MapError(f"period from {start!r}: not a month; give --start YYYY-MM, for example 2023-10, or latest")
        first = dt.date(int(start[:4]), int(start[5:]), 1) if int(start[:4]) else dt.date.min
        if not _FIRST_IMAGES <= first.year < dt.MAXYEAR:
            raise MapError(f"period from {start}: Sentinel-2 sees the Earth since {_FIRST_IMAGES}; give a later --year")
        return cls(first)

    @property
    def months(self) -> tuple[tuple[int, int], ...]:
        """The twelve (year, month)."""
        first = self.start.year * 12 + self.start.month - 1
        return tuple((number // 12, number % 12 + 1) for number in range(first, first + 12))

    @property
    def end(self) -> dt.date:
        """First day after the last month (exclusive)."""
        return dt.date(self.start.year + 1, self.start.month, 1)

    @property
    def labels(self) -> tuple[str, ...]:
        """The twelve months as "YYYY-MM"."""
        return tuple(f"{year:04d}-{month:02d}" for year, month in self.months)

    @property
    def month_starts(self) -> NDArray[np.datetime64]:
        """First days of the months, datetime64[ns]: the cube's month coordinate."""
        return np.array([f"{label}-01" for label in self.labels], dtype="datetime64[ns]")

    def month_of(self, when: dt.datetime) -> int | None:
        """Position (0-11) of the month in which a moment lies (aware ones in UTC), or None outside the period."""
        utc = when if when.tzinfo is None else when.astimezone(dt.UTC)
        position = (utc.year - self.start.year) * 12 + utc.month - self.start.month
        return position if 0 <= position < 12 else None
