"""Town, village, works and farms of the demonstration's ground."""

from __future__ import annotations

import numpy as np
from shapely.geometry import Polygon

from timesenmap.catalogs.demonstration_canvas import Canvas, Mask
from timesenmap.catalogs.demonstration_covers import CODE, CROPS
from timesenmap.catalogs.demonstration_noise import cells, chance, scramble


def paint_town(canvas: Canvas) -> None:
    """Town on the north bank, village in the south-west, a works east of the town, scattered farms."""
    east, south = canvas.x / canvas.size, canvas.y / canvas.size
    wobble = 0.018 * canvas.smooth
    town = np.hypot((east - 0.575) / 1.2, south - 0.475) + wobble
    village = np.hypot((east - 0.20) / 1.5, south - 0.795) + wobble
    farms = cells(canvas.x, canvas.y, spacing=900 * canvas.scale, seed=canvas.seed + 28)
    farm = (np.hypot(canvas.x - farms.x, canvas.y - farms.y) < 38 * canvas.scale) & (canvas.cover < len(CROPS))
    works = canvas.burn(
        Polygon(np.array([(0.705, 0.405), (0.835, 0.435), (0.825, 0.495), (0.695, 0.475)]) * canvas.size)
    )
    roads = canvas.cover == CODE["asphalt"]
    _paint_houses(canvas, (town < 0.112) | (village < 0.050) | farm, dense=town < 0.036)
    _paint_works(canvas, works & (town >= 0.1))
    canvas.paint(roads, "asphalt", 1)


def _paint_houses(canvas: Canvas, built: Mask, *, dense: Mask) -> None:
    """Streets, houses and gardens; closed rows of larger houses where `dense`."""
    bend = 16 * canvas.scale * canvas.smooth
    quarter = cells(canvas.x + bend, canvas.y - bend, spacing=300 * canvas.scale, seed=canvas.seed + 29)
    angle = np.deg2rad(17 + 55 * (chance(quarter.ident, 1) - 0.5))
    a = canvas.x * np.cos(angle) + canvas.y * np.sin(angle) + bend
    b = canvas.y * np.cos(angle) - canvas.x * np.sin(angle) - bend
    street_a, street_b = np.mod(a, 120), np.mod(b, 61)
    street = (street_a < 7.5) | (street_b < 7.0) | (quarter.edge < 4.5)
    lot_a, lot_b = np.floor(a / 18).astype(np.int64), np.floor(b / 61).astype(np.int64) * 2 + (street_b > 34)
    lot = scramble(lot_a, lot_b, quarter.ident)
    inside_a, inside_b = np.mod(a, 18), np.mod(street_b - 7, 27)
    shift = 3 * chance(lot, 1)
    near_street = np.where(lot_b % 2 == 0, inside_b, 27 - inside_b)
    house = (inside_a > 3 + shift) & (inside_a < 13.5 + shift) & (near_street > 3.5) & (near_street < 13.5 + shift)
    house = np.where(dense, (inside_a > 0.5) & (near_street > 0.5) & (near_street < 16), house)
    house &= built & ~street & (chance(lot, 2) < np.where(dense, 0.96, 0.88))
    kind = chance(lot, 3)
    canvas.paint(built, "garden", lot)
    canvas.paint(built & dense, "yard", lot)
    canvas.paint(built & street, "asphalt", 2)
    canvas.paint(house & (kind < 0.62), "red roof", lot)
    canvas.paint(house & (kind >= 0.62), "grey roof", lot)


def _paint_works(canvas: Canvas, built: Mask) -> None:
    """Halls with flat or metal roofs, yards between them."""
    angle = np.deg2rad(13)
    a = canvas.x * np.cos(angle) + canvas.y * np.sin(angle)
    b = canvas.y * np.cos(angle) - canvas.x * np.sin(angle)
    long, deep = 82 * canvas.scale, 64 * canvas.scale
    lot = scramble(np.floor(a / long), np.floor(b / deep), canvas.seed, 5)
    in_a, in_b = np.mod(a, long) / long, np.mod(b, deep) / deep
    reach = 0.55 + 0.3 * chance(lot, 1)
    hall = (in_a > 0.1) & (in_a < reach) & (in_b > 0.15) & (in_b < 0.85) & (chance(lot, 2) < 0.9)
    kind = chance(lot, 3)
    canvas.paint(built, "yard", lot)
    canvas.paint(built & hall & (kind < 0.6), "hall roof", lot)
    canvas.paint(built & hall & (kind >= 0.6), "grey roof", lot)
