"""Passes of the satellites that one would expect among the scenes of a place, and that are not there.

Sentinel-2 comes back to a place on the same relative orbit every 10 days with one satellite, every 5 with two. What
rhythm a place was really seen in is taken from the scenes themselves: for each relative orbit, the most frequent
number of days between two passes. A longer interval means that passes are missing: not acquired, not published, not
in this catalogue, or refused.
"""

import datetime as dt
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from timesenmap.catalogs.scenes import Scene

# Fewer passes tell no rhythm.
_FEWEST = 6

# Scenes of one pass are cut from it within minutes; the next orbit comes after 100.
_ONE_PASS = dt.timedelta(minutes=30)

# Relative orbit from the absolute one: (absolute - shift) mod 143 + 1, fitted to items that state both.
_SHIFT = {"A": 141, "B": 27, "C": 114}
_DATATAKE = re.compile(r"GS2([A-C])_\w+?_(\d{6})_")
_NAMED = re.compile(r"_R(\d{3})_")
_DATATAKES = ("s2:datatake_id", "eopf:datatake_id")
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Passes:
    """Passes over a place on one relative orbit, within a period.

    Attributes
    ----------
    orbit
        "R051"; "no. 1", "no. 2" where the items do not say.
    days
        Most frequent number of days between two passes.
    found
        How many there are.
    missing
        Days on which one more was to be expected, in their order.
    """

    orbit: str
    days: int
    found: int
    missing: tuple[dt.date, ...]


def expected_passes(scenes: Sequence[Scene], *, start: dt.date, end: dt.date) -> tuple[Passes, ...]:
    """Compare the scenes of a place with the rhythm of their own orbits.

    Parameters
    ----------
    scenes
        All scenes of the place in the period, whatever their cloud cover.
    start, end
        First day, and the day after the last; a period that is not over yet counts until now.

    Returns
    -------
    Orbits in order of their names, without those that were seen too seldom to tell (fewer than 6 passes).
    """
    first = dt.datetime(start.year, start.month, start.day, tzinfo=dt.UTC)
    last = min(dt.datetime(end.year, end.month, end.day, tzinfo=dt.UTC), dt.datetime.now(dt.UTC))
    orbits: dict[str, list[dt.datetime]] = defaultdict(list)
    anchor = min((scene.datetime for scene in scenes), default=first)
    for scene in scenes:
        orbits[relative_orbit(scene) or _phase(scene.datetime, anchor)].append(scene.datetime)
    found = []
    for orbit in sorted(orbits):
        times = _passes(orbits[orbit])
        if len(times) >= _FEWEST:
            days = _rhythm(times)
            found.append(Passes(orbit, days, len(times), tuple(_missing(times, days, first, last))))
    return tuple(found)


def relative_orbit(scene: Scene) -> str | None:
    """Relative orbit of a scene ("R051"), as its item states it or as its product or datatake is named, or None."""
    fields = scene.item.properties
    stated = fields.get("sat:relative_orbit")
    if stated is not None:
        return f"R{int(stated):03d}"
    for text in (scene.id, str(fields.get("s2:product_uri") or "")):
        if named := _NAMED.search(text):
            return f"R{named[1]}"
    for name in _DATATAKES:
        if take := _DATATAKE.match(str(fields.get(name) or "")):
            return f"R{(int(take[2]) - _SHIFT[take[1]]) % 143 + 1:03d}"
    return None


def missing_in_words(passes: Iterable[Passes], *, most: int = 6) -> str:
    """Say what is missing, orbit by orbit, naming at most so many days of each; empty where nothing is."""
    parts = []
    for one in passes:
        if one.missing:
            days = ", ".join(day.isoformat() for day in one.missing[:most])
            more = ", ..." if len(one.missing) > most else ""
            parts.append(
                f"orbit {one.orbit}, every {one.days} days: {len(one.missing)} of "
                f"{one.found + len(one.missing)} missing ({days}{more})"
            )
    return "; ".join(parts)


def _phase(moment: dt.datetime, anchor: dt.datetime) -> str:
    """Stand-in for the orbit: passes of one are whole multiples of 5 days apart, to a few minutes."""
    return f"no. {round((moment - anchor) / _DAY) % 5 + 1}"


def _passes(times: Iterable[dt.datetime]) -> list[dt.datetime]:
    passes: list[dt.datetime] = []
    for time in sorted(times):
        if not passes or time - passes[-1] > _ONE_PASS:
            passes.append(time)
    return passes


def _rhythm(times: Sequence[dt.datetime]) -> int:
    days = Counter(round((later - time) / _DAY) for time, later in pairwise(times))
    return max(days, key=lambda number: (days[number], number)) or 1


def _missing(times: Sequence[dt.datetime], days: int, start: dt.datetime, end: dt.datetime) -> list[dt.date]:
    step = dt.timedelta(days=days)
    missing: list[dt.date] = []
    before = times[0] - step
    while before >= start:
        missing.insert(0, before.date())
        before -= step
    for time, later in zip(times, [*times[1:], None], strict=True):
        expected = time + step
        # Half a rhythm before the next pass there is no other one.
        while expected < (end if later is None else later - step / 2):
            missing.append(expected.date())
            expected += step
    return missing
