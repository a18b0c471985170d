"""One scene for each acquisition: reprocessed and repeated items are reduced to the newest."""

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Iterable

import shapely
from shapely.geometry.base import BaseGeometry

from timesenmap.catalogs.radiometry import item_baseline
from timesenmap.catalogs.scenes import Scene

SAME_PASS = dt.timedelta(seconds=60)
"""Services give the sensing time of the tile or the start of the datatake, to the second or the millisecond; a
satellite comes back to a tile no sooner than an orbit (100 minutes) later."""

SAME_GROUND = 0.9
"""Part of a footprint that must be covered by newer scenes of its acquisition for it to be a duplicate. ESA cuts some
tiles in two products where one downlink ends and the next begins: those lie side by side and are both needed
(github.com/microsoft/PlanetaryComputer issue 256)."""

_TILE = re.compile(r"(\d{1,2})([C-X])([A-Z]{2})")
_PROCESSED = ("s2:generation_time", "processing:datetime", "created", "updated")


def reduce_duplicates(scenes: Iterable[Scene]) -> tuple[list[Scene], list[tuple[Scene, str]]]:
    """Keep one scene for each acquisition and piece of ground.

    Scenes of one platform, MGRS tile and pass are ranked by processing baseline, then by processing time, then by id;
    from the best down, each is kept unless those kept already cover its footprint. Scenes whose platform or tile is
    unknown are only compared by id.

    Returns
    -------
    kept
        Scenes in order of sensing time and id.
    reduced
        The others, each with the reason in words.
    """
    kept: list[Scene] = []
    reduced: list[tuple[Scene, str]] = []
    for group in _groups(scenes):
        chosen: list[tuple[Scene, BaseGeometry]] = []
        for scene in sorted(group, key=_rank, reverse=True):
            ground = scene.footprint
            covered = shapely.union_all([other for _, other in chosen]).intersection(ground).area
            if any(other.id == scene.id for other, _ in chosen):
                reduced.append((scene, f"item {scene.id} is listed more than once: its newest version is used"))
            elif covered >= SAME_GROUND * ground.area:
                reduced.append((scene, _reason(scene, chosen[0][0])))
            else:
                chosen.append((scene, ground))
        kept += [scene for scene, _ in chosen]
    return sorted(kept, key=_order), sorted(reduced, key=lambda pair: _order(pair[0]))


def mgrs_tile(scene: Scene) -> str | None:
    """MGRS tile of a scene ("31UDS"), as any of the known services states it, or None."""
    fields = scene.item.properties
    for prefix in ("mgrs", "sentinel"):
        parts = [fields.get(f"{prefix}:{name}") for name in ("utm_zone", "latitude_band", "grid_square")]
        if all(parts):
            return _tile("".join(str(part) for part in parts))
    for text in (fields.get("s2:mgrs_tile"), fields.get("grid:code")):
        if text and (tile := _tile(str(text).removeprefix("MGRS-"))):
            return tile
    named = re.search(r"_T(\d\d[C-X][A-Z]{2})(_|$)", scene.id)
    return named[1] if named else None


def _tile(text: str) -> str | None:
    match = _TILE.fullmatch(text.upper())
    return f"{int(match[1]):02d}{match[2]}{match[3]}" if match else None


def _groups(scenes: Iterable[Scene]) -> list[list[Scene]]:
    places: dict[tuple[str, ...], list[Scene]] = defaultdict(list)
    for scene in scenes:
        platform, tile = scene.item.properties.get("platform"), mgrs_tile(scene)
        places[(str(platform).lower(), tile) if platform and tile else (scene.id,)].append(scene)
    groups: list[list[Scene]] = []
    for place in places.values():
        ordered = sorted(place, key=_order)
        for i, scene in enumerate(ordered):
            if i and scene.datetime - ordered[i - 1].datetime <= SAME_PASS:
                groups[-1].append(scene)
            else:
                groups.append([scene])
    return groups


def _rank(scene: Scene) -> tuple[float, str, str]:
    fields = scene.item.properties
    processed = next((str(fields[name]) for name in _PROCESSED if fields.get(name)), "")
    return (item_baseline(scene.item) or 0.0, processed, scene.id)


def _order(scene: Scene) -> tuple[dt.datetime, str]:
    return (scene.datetime, scene.id)


def _reason(scene: Scene, newer: Scene) -> str:
    old, new = (item_baseline(one.item) for one in (scene, newer))
    if old is not None and new is not None and old != new:
        return f"same acquisition as {newer.id}, processed with baseline {old:05.2f} instead of {new:05.2f}"
    return f"same acquisition as {newer.id}, processed earlier"
