"""Missing passes: found in schedules from which some were taken, and in the real scenes of Belgium."""

import datetime as dt
import json
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pystac
import pytest
import shapely

from timesenmap.catalogs import find_scenes
from timesenmap.catalogs.missing_passes import Passes, expected_passes, missing_in_words, relative_orbit

YEAR: dict[str, Any] = {"start": dt.date(2020, 1, 1), "end": dt.date(2021, 1, 1)}


def scene(when: dt.datetime, *, id_: str = "S2X", **properties: Any) -> Any:
    """What is asked of a scene: id, time, and what its item says."""
    return SimpleNamespace(id=id_, datetime=when, item=SimpleNamespace(properties=properties))


def schedule(first: dt.datetime, days: int, *, lost: tuple[int, ...] = (), **properties: Any) -> list[Any]:
    """Passes until the end of 2020 without those of the given numbers; seconds wander as they do in reality."""
    moments = [first + dt.timedelta(days=days * n, seconds=(37 * n) % 60) for n in range(400 // days)]
    return [scene(m, **properties) for n, m in enumerate(moments) if n not in lost and m.year == 2020]


def day(first: dt.datetime, days: int, number: int) -> dt.date:
    return (first + dt.timedelta(days=days * number)).date()


FIRST = dt.datetime(2020, 1, 3, 10, 50, tzinfo=dt.UTC)
SECOND = dt.datetime(2020, 1, 5, 11, 0, tzinfo=dt.UTC)


def test_nothing_is_missing_from_a_whole_year():
    (one,) = expected_passes(schedule(FIRST, 5, **{"sat:relative_orbit": 51}), **YEAR)
    assert one == Passes("R051", 5, 73, ())
    assert missing_in_words([one]) == ""


def test_what_was_taken_out_is_missing():
    lost = (4, 20, 21, 22, 60)
    scenes = schedule(FIRST, 5, lost=lost, **{"sat:relative_orbit": 51})
    scenes += schedule(SECOND, 10, lost=(7,), **{"sat:relative_orbit": 8})
    two, one = expected_passes(scenes, **YEAR)
    assert one == Passes("R051", 5, 68, tuple(day(FIRST, 5, n) for n in lost))
    assert two == Passes("R008", 10, 36, (day(SECOND, 10, 7),))
    assert missing_in_words([one, two], most=2) == (
        "orbit R051, every 5 days: 5 of 73 missing (2020-01-23, 2020-04-12, ...); "
        "orbit R008, every 10 days: 1 of 37 missing (2020-03-15)"
    )


def test_the_ends_of_the_period_count():
    scenes = [one for one in schedule(FIRST, 5, **{"sat:relative_orbit": 51}) if 2 <= one.datetime.month <= 11]
    (one,) = expected_passes(scenes, **YEAR)
    months = [missing.month for missing in one.missing]
    assert set(months) == {1, 12}
    assert one.found + len(one.missing) == 73
    assert list(one.missing) == sorted(one.missing)


def test_a_period_that_is_not_over_counts_until_now():
    today = dt.datetime.now(dt.UTC)
    scenes = [scene(today - dt.timedelta(days=5 * n, hours=1), **{"sat:relative_orbit": 51}) for n in range(10)]
    start, end = (today - dt.timedelta(days=48)).date(), (today + dt.timedelta(days=300)).date()
    (one,) = expected_passes(scenes, start=start, end=end)
    assert one.missing == ()


def test_tiles_of_one_pass_and_midnight_count_once():
    """Near 160 degrees east the pass is at midnight UTC: its day wanders, its rhythm does not."""
    midnight = dt.datetime(2020, 1, 3, 23, 59, 40, tzinfo=dt.UTC)
    scenes = schedule(midnight, 5, lost=(9,), **{"sat:relative_orbit": 116})
    scenes += [scene(one.datetime + dt.timedelta(seconds=15), **one.item.properties) for one in scenes]
    (one,) = expected_passes(scenes, **YEAR)
    assert (one.days, one.found, len(one.missing)) == (5, 72, 1)


def test_orbits_without_a_name_are_told_by_their_days():
    scenes = schedule(FIRST, 5, lost=(4,)) + schedule(SECOND, 5, lost=(10, 11))
    one, two = expected_passes(scenes, **YEAR)
    assert (one.orbit, one.missing) == ("no. 1", (day(FIRST, 5, 4),))
    assert (two.orbit, two.missing) == ("no. 3", (day(SECOND, 5, 10), day(SECOND, 5, 11)))


def test_too_few_passes_tell_nothing():
    assert expected_passes(schedule(FIRST, 5, **{"sat:relative_orbit": 51})[:5], **YEAR) == ()
    assert expected_passes([], **YEAR) == ()


def test_orbits_of_real_items_by_all_three_statements(shared_data: Path):
    """What the datatake's absolute orbit gives is what the same item states elsewhere."""
    compared = 0
    for path in sorted((shared_data / "stac_items").glob("*.json")):
        fields = json.loads(path.read_text())
        if fields["type"] != "Feature":
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            item = pystac.Item.from_dict(fields)
        orbits = {}
        for name, kept in (("stated", ["sat:relative_orbit"]), ("taken", ["s2:datatake_id", "eopf:datatake_id"])):
            properties = {key: item.properties[key] for key in kept if key in item.properties}
            orbits[name] = relative_orbit(scene(FIRST, **properties))
        named = re.search(r"_R(\d{3})_", item.id)
        orbits["named"] = f"R{named[1]}" if named else None
        said = {orbit for orbit in orbits.values() if orbit}
        assert len(said) <= 1, (path.name, orbits)
        compared += sum(orbit is not None for orbit in orbits.values()) > 1
    assert compared >= 15


def test_the_passes_that_belgium_lacks(belgium: Path):
    """By hand: its two orbits pass on days 1 and 3 (mod 5) after 2017-12-01; the folder names are the dates."""
    first, end = dt.date(2017, 12, 1), dt.date(2018, 12, 1)
    days = {dt.date(int(n[3:7]), int(n[7:9]), int(n[9:11])) for n in (p.name for p in belgium.parent.glob("S2_*"))}
    there = {day for day in days if first <= day < end}
    phases = {(day - first).days % 5 for day in there}
    assert len(phases) == 2
    every = {first + dt.timedelta(days=n) for n in range(365) if n % 5 in phases}
    found = find_scenes(str(belgium), area=shapely.box(3.02, 50.81, 3.03, 50.82), start=first, end=end).scenes
    passes = expected_passes(found, start=first, end=end)
    assert [one.days for one in passes] == [5, 5]
    assert sum(one.found for one in passes) == len(there)
    assert {day for one in passes for day in one.missing} == every - there


@pytest.mark.parametrize("orbit", [1, 143])
def test_orbits_are_written_with_three_digits(orbit):
    assert relative_orbit(scene(FIRST, **{"sat:relative_orbit": orbit})) == f"R{orbit:03d}"
