"""The ground of the demonstration: a river valley with fields, woods, a town, a lake, heath, marsh and pits.

Drawn on cells of 2.5 m so that a 10 m pixel on an edge is a mixture, as in a real image. Arrays are (y, x),
north up; `x` runs east and `y` south, in metres from the upper left corner. Layout follows the place's width,
fields, streets and houses keep their own size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from shapely.geometry import LineString, Polygon

from timesenmap.catalogs.demonstration_canvas import CELL, PER_PIXEL, Bytes, Canvas, Mask
from timesenmap.catalogs.demonstration_covers import CODE, COVERS
from timesenmap.catalogs.demonstration_noise import Cells, Floats, Ints, cells, chance, fractal, scramble
from timesenmap.catalogs.demonstration_town import paint_town

CROP_SHARES = (0.26, 0.14, 0.08, 0.13, 0.23, 0.06, 0.10)  # of arable fields, in the order of CROPS


@dataclass(frozen=True)
class Landscape:
    """The drawn ground, on cells of `CELL` metres.

    `cover` (y, x) position in COVERS; `patch` (y, x) whole number naming the field, stand, roof or garden;
    `elevation` (y, x) metres.
    """

    cover: Bytes
    patch: Ints
    elevation: Floats


def draw_landscape(size: int, seed: int) -> Landscape:
    """Draw the ground of a place of `size` x `size` pixels of 10 m."""
    metres = size * 10.0
    along = (np.arange(size * PER_PIXEL, dtype=np.float32) + 0.5) * np.float32(CELL)
    shape = (len(along), len(along))
    rng = np.random.default_rng([seed, 1])
    canvas = Canvas(
        size=metres,
        scale=float(np.clip(np.sqrt(metres / 3200), 0.45, 1.0)),
        seed=seed,
        x=np.broadcast_to(along[None, :], shape),
        y=np.broadcast_to(along[:, None], shape),
        smooth=fractal(shape, rng, slope=4.0, coarsest=2),
        rough=fractal(shape, rng, slope=2.6, coarsest=6),
        cover=np.full(shape, CODE["meadow"], np.uint8),
        patch=np.zeros(shape, np.int64),
    )
    river = canvas.line(_river_points())
    valley = _valley_distance(canvas)
    _paint_fields(canvas, valley)
    _paint_heath_and_pits(canvas)
    lake = canvas.blob(0.26, 0.43, radius=0.083, flat=0.72, salt=11)
    stream = canvas.line([(0.31, 0.46), (0.37, 0.49), (0.39, 0.55), (0.45, 0.61)])
    _paint_marsh(canvas, lake)
    roads = [canvas.line(points) for points in _ROADS]
    _paint_roads(canvas, roads)
    paint_town(canvas)
    _paint_water(canvas, lake, river, stream)
    canvas.paint(canvas.burn(*(road.buffer(5) for road in roads)) & (canvas.cover == CODE["river"]), "asphalt", 3)
    relief = 45 * (1 - np.exp(-((valley / (0.22 * metres)) ** 2))) + 11 * canvas.smooth * np.sqrt(metres / 3200)
    return Landscape(canvas.cover, canvas.patch, (480 + relief).astype(np.float32))


def _river_points() -> list[tuple[float, float]]:
    return [
        (-0.08, 0.57), (0.02, 0.60), (0.09, 0.67), (0.17, 0.665), (0.22, 0.60), (0.30, 0.605), (0.36, 0.67),
        (0.45, 0.68), (0.50, 0.62), (0.58, 0.60), (0.66, 0.645), (0.72, 0.72), (0.80, 0.715), (0.86, 0.65),
        (0.95, 0.64), (1.08, 0.70),
    ]  # fmt: skip


def _valley_distance(canvas: Canvas) -> Floats:
    """Distance (metres, along y) from the river's smoothed course, its meanders left out."""
    points = np.asarray(_river_points()) * canvas.size
    course = np.interp(canvas.x[0], points[:, 0], np.convolve(np.pad(points[:, 1], 2, "edge"), np.ones(5) / 5, "valid"))
    return np.asarray(np.abs(canvas.y - course[None, :]), np.float32)


# ---------------------------------------------------------------------------------------------- fields, woods


@dataclass(frozen=True)
class _Parcels:
    ident: Ints
    gap: Floats  # distance to the nearest side of the parcel, metres
    lane: Mask  # on a farm track
    hedge: Mask
    block: Cells


def _parcels(canvas: Canvas) -> _Parcels:
    """Fields: blocks of land in their own directions, cut into rows, and rows into fields."""
    seed, scale = canvas.seed, canvas.scale
    bend = 26 * scale * canvas.smooth
    block = cells(canvas.x + bend, canvas.y - bend, spacing=640 * scale, seed=seed + 21)
    angle = np.deg2rad(18 + 75 * (chance(block.ident, 1) - 0.5))
    east, south = canvas.x - block.x + bend, canvas.y - block.y - bend
    a = east * np.cos(angle) + south * np.sin(angle)
    b = south * np.cos(angle) - east * np.sin(angle)
    depth = (130 + 120 * chance(block.ident, 2)) * scale
    row_place = b / depth + chance(block.ident, 3)
    row = np.floor(row_place).astype(np.int64)
    row_gap = np.minimum(row_place - row, row + 1 - row_place) * depth
    width = (55 + 120 * chance(block.ident, row, 4) ** 1.5) * scale
    turn = 2 * np.pi * chance(block.ident, row, 5)
    place = a / width + 0.35 * np.sin(1.9 * a / width + turn)
    column = np.floor(place).astype(np.int64)
    side_gap = np.minimum(place - column, column + 1 - place) * width
    side = np.floor(row_place + 0.5).astype(np.int64)  # the row's nearer long side, the same from both rows
    kind = chance(block.ident, side, 6)
    lane = ((block.edge < 2.6) | ((row_gap < 1.8) & (kind < 0.45))) & (scale > 0)
    hedge = ((row_gap < 4.5) & (kind > 0.80)) | ((block.edge > 2.6) & (block.edge < 8) & (chance(block.ident, 7) > 0.8))
    return _Parcels(
        ident=scramble(block.ident, row, column),
        gap=np.minimum(np.minimum(row_gap, side_gap), block.edge).astype(np.float32),
        lane=np.asarray(lane),
        hedge=np.asarray(hedge),
        block=block,
    )


def _paint_fields(canvas: Canvas, valley: Floats) -> None:
    """Fields, meadows of the valley floor, and woods that follow the fields' edges."""
    parcels = _parcels(canvas)
    names, which, cells_in = np.unique(parcels.ident, return_inverse=True, return_counts=True)
    which = which.reshape(parcels.ident.shape)

    def average(values: Floats) -> npt.NDArray[np.float64]:
        return np.asarray(np.bincount(which.ravel(), values.ravel(), len(names)) / cells_in)

    woody = (
        canvas.bump(0.15, 0.12, radius=0.24)
        + canvas.bump(0.86, 0.90, radius=0.22)
        + 0.9 * canvas.bump(0.55, 0.10, radius=0.09)
        + 0.9 * canvas.bump(0.04, 0.88, radius=0.12)
        + 0.8 * canvas.bump(0.93, 0.46, radius=0.07)
        + 0.07 * canvas.smooth
    )
    low = average(valley) + 40 * canvas.scale * (chance(names, 31) - 0.5) < 0.055 * canvas.size
    meadow = low | (chance(names, 32) < 0.13) | (cells_in * CELL**2 < 2200 * canvas.scale**2)
    crop = np.searchsorted(np.cumsum(CROP_SHARES)[:-1], chance(names, 33), side="right")
    code = np.where(meadow, CODE["meadow"], crop).astype(np.uint8)
    canvas.cover[:] = code[which]
    canvas.patch[:] = parcels.ident
    wood = (average(woody) > 0.52)[which] | (woody > 0.80)
    open_land = ~wood
    canvas.paint(open_land & (parcels.gap < 1.4), "meadow", 1)
    canvas.paint(open_land & parcels.hedge & (canvas.rough > -1.1), "hedge", parcels.block.ident)
    _paint_woods(canvas, wood)
    canvas.paint(parcels.lane, "track", 1)


def _paint_woods(canvas: Canvas, wood: Mask) -> None:
    """Woods of stands, the north-west mostly coniferous, the south-east mostly broadleaved; a few clearings."""
    bend = 9 * canvas.rough
    stand = cells(canvas.x + bend, canvas.y - bend, spacing=85 * canvas.scale, seed=canvas.seed + 22)
    crowns = cells(canvas.x, canvas.y, spacing=16, seed=canvas.seed + 23)
    north_west = (stand.x + stand.y) / canvas.size < 1.0
    needles = chance(stand.ident, 1) + 0.22 * canvas.smooth < np.where(north_west, 0.66, 0.22)
    odd = chance(crowns.ident, 2) < 0.08  # single trees of the other kind
    canvas.paint(wood & (needles ^ odd), "coniferous forest", scramble(stand.ident, crowns.ident % 7))
    canvas.paint(wood & ~(needles ^ odd), "broadleaved forest", scramble(stand.ident, crowns.ident % 7))
    clearing = (chance(stand.ident, 3) < 0.045) & (stand.edge > 4)
    canvas.paint(wood & clearing, "heath", stand.ident)


def _paint_heath_and_pits(canvas: Canvas) -> None:
    """Sandy heath in the north-east with a quarry beside it, a gravel pit by the lake."""
    suits = canvas.bump(0.80, 0.19, radius=0.17) + 0.09 * canvas.smooth + 0.015 * canvas.rough
    heath = suits > 0.47
    clump = cells(canvas.x, canvas.y, spacing=24, seed=canvas.seed + 24)
    canvas.paint(heath, "heath", scramble(clump.ident % 5, 1))
    canvas.paint(heath & (chance(clump.ident, 1) < 0.07), "coniferous forest", clump.ident)
    canvas.paint(heath & (chance(clump.ident, 1) > 0.93), "broadleaved forest", clump.ident)
    canvas.paint(heath & (canvas.rough > 2.0), "sand", 2)
    quarry = canvas.blob(0.885, 0.325, radius=0.052, salt=12)
    canvas.paint(canvas.burn(quarry), "quarry", cells(canvas.x, canvas.y, spacing=55, seed=canvas.seed).ident)
    canvas.paint(canvas.burn(quarry.buffer(-0.030 * canvas.size)), "sand", 1)
    canvas.paint(canvas.burn(canvas.blob(0.895, 0.335, radius=0.013, salt=13)), "lake", 2)
    canvas.paint(canvas.burn(canvas.blob(0.372, 0.375, radius=0.030, salt=14)), "sand", 3)
    canvas.paint(canvas.burn(canvas.blob(0.378, 0.372, radius=0.014, salt=15)), "quarry", 4)


# ---------------------------------------------------------------------------------------------- water, roads


def _paint_marsh(canvas: Canvas, lake: Polygon) -> None:
    """Reeds around the lake and a marsh between lake and river, with willows."""
    belt = canvas.burn(lake.buffer(0.017 * canvas.size)) & (canvas.smooth + 0.4 * canvas.rough > -0.9)
    suits = 1.15 * canvas.bump(0.31, 0.545, radius=0.075) + 0.8 * canvas.bump(0.17, 0.53, radius=0.05)
    marsh = suits + 0.05 * canvas.smooth + 0.06 * canvas.rough > 0.55
    clump = cells(canvas.x, canvas.y, spacing=30, seed=canvas.seed + 25)
    canvas.paint(belt | marsh, "wetland", scramble(clump.ident % 6, 1))
    canvas.paint((belt | marsh) & (chance(clump.ident, 1) < 0.09) & (clump.edge > 3), "broadleaved forest", clump.ident)
    canvas.paint(marsh & (canvas.rough < -1.9), "lake", 3)


def _paint_water(canvas: Canvas, lake: Polygon, river: LineString, stream: LineString) -> None:
    """River and stream with trees along their banks, and the lake."""
    width = max(0.0062 * canvas.size, 11.0)  # half of it, metres
    open_bank = np.isin(canvas.cover, [code for code, c in enumerate(COVERS) if c.landcover in {2, 5, 8}])
    banks = canvas.burn(river.buffer(width + 13)) & (canvas.rough > 0.1)
    banks |= canvas.burn(stream.buffer(9)) & (canvas.rough > -0.2)
    crowns = cells(canvas.x, canvas.y, spacing=14, seed=canvas.seed + 26)
    canvas.paint(banks & open_bank, "broadleaved forest", crowns.ident % 11)
    canvas.paint(canvas.burn(stream.buffer(3.2)), "river", 2)
    canvas.paint(canvas.burn(river.buffer(width)), "river", 1)
    bars = canvas.burn(river.buffer(width)) & ~canvas.burn(river.buffer(0.62 * width)) & (canvas.rough > 1.35)
    canvas.paint(bars, "quarry", 5)
    canvas.paint(canvas.burn(lake), "lake", 1)
    canvas.paint(canvas.burn(canvas.blob(0.245, 0.425, radius=0.012, salt=16)), "broadleaved forest", 5)


_ROADS = (  # in shares of the place's width: west to east through the town, north to south, south, to the quarry
    ((-0.05, 0.30), (0.12, 0.33), (0.36, 0.33), (0.47, 0.42), (0.58, 0.47), (0.75, 0.50), (1.05, 0.57)),
    ((0.62, -0.05), (0.66, 0.18), (0.62, 0.36), (0.58, 0.47), (0.545, 0.62), (0.52, 0.78), (0.60, 1.05)),
    ((-0.05, 0.77), (0.10, 0.76), (0.20, 0.79), (0.36, 0.80), (0.52, 0.78), (0.72, 0.83), (1.05, 0.80)),
    ((0.66, 0.18), (0.76, 0.29), (0.87, 0.33)),
)


def _paint_roads(canvas: Canvas, roads: Sequence[LineString]) -> None:
    verge = canvas.burn(*(road.buffer(10) for road in roads))
    trees = canvas.burn(*(road.buffer(9.5).difference(road.buffer(6)) for road in roads[:1]))
    avenue = cells(canvas.x, canvas.y, spacing=15, seed=canvas.seed + 27)
    canvas.paint(verge, "meadow", 2)
    canvas.paint(trees & (chance(avenue.ident, 1) < 0.35) & (avenue.edge > 2), "hedge", 2)
    canvas.paint(canvas.burn(*(road.buffer(4.6) for road in roads)), "asphalt", 1)
