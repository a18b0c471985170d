"""Scenes of one pass of a satellite: cut apart by tiles and zones, they show the ground once."""

import datetime as dt
from collections.abc import Sequence

import shapely

from timesenmap.catalogs.radiometry import item_baseline
from timesenmap.catalogs.scenes import Scene

ONE_PASS = dt.timedelta(minutes=10)
"""Scenes that meet on the ground and were sensed this close together are of one pass, whatever their platform.

Neighbouring tiles follow each other within 15 seconds, and services that state the start of the datatake give both
the same time. The next pass over a place comes 30 minutes later at the soonest (three satellites on one orbit of 100
minutes, near the poles). Two satellites that fly in tandem, 30 seconds apart, see the same clouds: one pass.
"""

# Footprints are simplified outlines: in degrees, how far apart those of scenes that share pixels may lie.
_SLACK = 0.05


def passes_of(scenes: Sequence[Scene]) -> list[int]:
    """Number the passes that scenes belong to.

    Two scenes are of one pass where their footprints meet and they were sensed at most `ONE_PASS` apart, or where
    other scenes link them so: a pass is as long as the area. Which tiles or zones they are cut into plays no part.

    Returns
    -------
    list of int
        For each scene the position of the earliest one (by sensing time, then id) of its pass.
    """
    order = sorted(range(len(scenes)), key=lambda i: (scenes[i].datetime, scenes[i].id))
    times = [scene.datetime for scene in scenes]
    ground = [scene.footprint for scene in scenes]
    leader = list(range(len(scenes)))

    def lead(i: int) -> int:
        while leader[i] != i:
            i = leader[i]
        return i

    place = {i: n for n, i in enumerate(order)}
    first = 0
    for n, i in enumerate(order):
        while times[i] - times[order[first]] > ONE_PASS:
            first += 1
        for j in order[first:n]:
            one, other = lead(i), lead(j)
            if one != other and shapely.dwithin(ground[i], ground[j], _SLACK):
                early, late = sorted((one, other), key=place.__getitem__)
                leader[late] = early
    return [lead(i) for i in range(len(scenes))]


def precedence(scene: Scene) -> tuple[float, str]:
    """Key to sort scenes by, the one whose clear pixels are taken first: newest processing baseline, then id."""
    return (-(item_baseline(scene.item) or 0.0), scene.id)
