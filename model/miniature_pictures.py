"""Ground pictures of simulated places, drawn: sky, horizon, ground in perspective, plants, water, houses, snow.

Source of nothing but imagination; what matters is that a picture shows what the place's series is made of.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from timesenmap.model.miniature_places import KINDS, SimulatedPlace

SIZE: Final = 64

Colour = tuple[int, int, int]
Pixels = NDArray[np.float64]

_GROUND: Final = {
    "leaves": (70, 130, 45), "straw": (205, 175, 95), "blossom": (235, 215, 40), "crowns": (50, 100, 40),
    "branches": (95, 80, 65), "needles": (28, 62, 40), "heather": (130, 85, 110), "water": (70, 105, 140),
    "snow": (240, 243, 248), "roofs": (120, 118, 118), "rock": (140, 138, 132),
}  # fmt: skip


def draw_view(place: SimulatedPlace, rng: np.random.Generator, *, blocked: float = 0.2) -> Image.Image:
    """One picture from the place.

    Parameters
    ----------
    place
        What stands there.
    rng
        Light, sky, angle and the position of every plant.
    blocked
        Chance that a neighbouring kind of land fills the picture instead.

    Returns
    -------
    Image
        RGB, SIZE x SIZE.
    """
    if rng.random() < blocked:
        other = place.neighbours[int(rng.integers(len(place.neighbours)))]
        place = SimulatedPlace(
            other, place.neighbours, place.shift, place.density, place.redness, place.brightness, place.visit
        )
    horizon = int(rng.integers(SIZE // 3, SIZE // 2))
    pixels = np.empty((SIZE, SIZE, 3))
    _sky(pixels, horizon, rng)
    _ground(pixels, place, horizon, rng)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    _THINGS[KINDS[place.kind].name](ImageDraw.Draw(image), place, horizon, rng)
    light = rng.normal(0, 0.1)
    grain = rng.normal(0, 5, (SIZE, SIZE, 1))
    lit = np.asarray(image, np.float64) * np.exp(light) * np.exp(rng.normal(0, 0.03, 3)) + grain
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def _sky(pixels: Pixels, horizon: int, rng: np.random.Generator) -> None:
    cloud = rng.random()
    top = np.array((80.0, 130, 215)) * (1 - cloud) + np.array((165.0, 170, 178)) * cloud
    low = np.array((195.0, 215, 240)) * (1 - cloud) + np.array((205.0, 208, 212)) * cloud
    height = np.linspace(0, 1, horizon)[:, None, None]
    pixels[:horizon] = top + (low - top) * height


def soil_colour(place: SimulatedPlace) -> NDArray[np.float64]:
    """Colour of the bare soil, grey to red, dark to bright, as its spectrum."""
    return np.array((145.0, 118, 88)) * place.brightness * (1 + 0.3 * place.redness * np.array((0.5, -0.1, -0.5)))


def _colour(place: SimulatedPlace, cover: str) -> NDArray[np.float64]:
    return soil_colour(place) if cover == "soil" else np.array(_GROUND[cover], np.float64)


def _ground(pixels: Pixels, place: SimulatedPlace, horizon: int, rng: np.random.Generator) -> None:
    """The plane below the horizon: what covers it on the day of the visit, in clumps or in converging rows."""
    y, x = np.mgrid[horizon:SIZE, 0:SIZE].astype(float)
    depth = (y - horizon + 1) / (SIZE - horizon)  # 0 far, 1 near
    shares = {cover: share[place.visit] for cover, share in place.shares().items()}
    covers = sorted(shares, key=lambda cover: shares[cover])
    name = KINDS[place.kind].name
    if name in _ROWS:
        spacing, phase = _ROWS[name], rng.uniform(0, 6.3)
        vanishing = rng.uniform(-0.3, 1.3) * SIZE
        order = 0.5 + 0.5 * np.sin((x - vanishing) / (depth * SIZE / 3 + 1) * spacing + phase)
    else:
        order = _clumps(rng, depth)
    order = np.argsort(np.argsort(order.ravel())).reshape(order.shape) / order.size  # uniform 0-1
    plane = np.empty((*order.shape, 3))
    plane[:] = _colour(place, covers[-1])
    edge = 1.0
    for cover in covers:
        plane[(order <= edge) & (order > edge - shares[cover])] = _colour(place, cover)
        edge -= shares[cover]
    far = np.array((150.0, 165, 175))
    veil = 0.35 * (1 - depth[..., None]) ** 2
    pixels[horizon:] = plane * (1 - veil) + far * veil + rng.normal(0, 10, (*order.shape, 1)) * depth[..., None]


def _clumps(rng: np.random.Generator, depth: Pixels) -> Pixels:
    """Smooth noise, stretched along the horizon far away."""
    coarse = rng.normal(size=(6, 10))
    rows = np.clip((1 - 1 / (1 + 3 * depth)) / 0.75 * 5, 0, 5)
    columns = np.broadcast_to(np.linspace(0, 9, SIZE), depth.shape)
    top, left = rows.astype(int).clip(max=4), columns.astype(int).clip(max=8)
    down, right = rows - top, columns - left
    upper = coarse[top, left] * (1 - right) + coarse[top, left + 1] * right
    lower = coarse[top + 1, left] * (1 - right) + coarse[top + 1, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down + rng.normal(0, 0.3, depth.shape))


_ROWS: Final = {"maize": 5.0, "sugar beet": 7.0, "vineyard": 2.2, "rice": 6.0}

Things = Callable[[ImageDraw.ImageDraw, SimulatedPlace, int, np.random.Generator], None]
"""Draws what stands on the ground; ``_`` is the place in those that look the same everywhere."""


def _nothing(draw: ImageDraw.ImageDraw, _: SimulatedPlace, horizon: int, rng: np.random.Generator) -> None:
    """Now and then a far line of trees stands on the horizon."""
    if rng.random() < 0.5:
        for x in rng.uniform(0, SIZE, int(rng.integers(2, 10))):
            r = rng.uniform(1, 3)
            draw.ellipse((x - r, horizon - 1.5 * r, x + r, horizon + 1), fill=_vary((60, 90, 60), rng))


def _ears(draw: ImageDraw.ImageDraw, place: SimulatedPlace, horizon: int, rng: np.random.Generator) -> None:
    """Fine upright strokes: stalks and ears."""
    _nothing(draw, place, horizon, rng)
    shares = place.shares()
    ripe = shares["straw"][place.visit] > shares["leaves"][place.visit]
    for _ in range(int(160 * place.density)):
        y = rng.uniform(horizon + 2, SIZE)
        x, height = rng.uniform(0, SIZE), 1 + 9 * (y - horizon) / SIZE
        draw.line((x, y, x, y - height), fill=_vary((215, 185, 105) if ripe else (95, 150, 60), rng))


def _tall(draw: ImageDraw.ImageDraw, place: SimulatedPlace, horizon: int, rng: np.random.Generator) -> None:
    """Maize: once grown, a wall of stalks and hanging leaves."""
    grown = place.shares()["leaves"][place.visit]
    _nothing(draw, place, horizon, rng)
    for x in rng.uniform(0, SIZE, int(45 * grown)):
        foot = rng.uniform(horizon + 6, SIZE)
        height = 22 * grown * (foot - horizon) / (SIZE - horizon) + 4
        green = _vary((75, 140, 45), rng)
        draw.line((x, foot, x, foot - height), fill=green)
        for part in (0.4, 0.65, 0.9):
            top = foot - part * height
            draw.line((x, top, x + rng.choice((-4, 4)), top + 2), fill=green)


def _tufts(draw: ImageDraw.ImageDraw, place: SimulatedPlace, horizon: int, rng: np.random.Generator) -> None:
    """Low plants in tufts: beet."""
    _nothing(draw, place, horizon, rng)
    grown = place.shares()["leaves"][place.visit]
    for _ in range(int(70 * grown)):
        y = rng.uniform(horizon + 3, SIZE)
        x, r = rng.uniform(0, SIZE), 0.6 + 3.2 * (y - horizon) / (SIZE - horizon)
        draw.ellipse((x - r, y - 0.6 * r, x + r, y + 0.6 * r), fill=_vary((60, 125, 50), rng))


def _flowers(draw: ImageDraw.ImageDraw, place: SimulatedPlace, horizon: int, rng: np.random.Generator) -> None:
    _nothing(draw, place, horizon, rng)
    for _ in range(int(rng.integers(10, 50))):
        x, y = rng.uniform(0, SIZE), rng.uniform(horizon + 4, SIZE)
        colour = ((245, 245, 245), (240, 210, 60), (200, 90, 160))[int(rng.integers(3))]
        draw.point((x, y), fill=colour)


def _broadleaves(draw: ImageDraw.ImageDraw, place: SimulatedPlace, horizon: int, rng: np.random.Generator) -> None:
    """Trunks under a canopy that hides most of the sky."""
    green = _GROUND["crowns"]
    for y in (horizon * 0.2, horizon * 0.6, horizon * 0.9):
        for x in rng.uniform(-4, SIZE + 4, int(9 * place.density) + 4):
            r = rng.uniform(5, 10)
            draw.ellipse((x - r, y - r, x + r, y + 0.8 * r), fill=_vary(green, rng))
    for x in rng.uniform(0, SIZE, int(rng.integers(3, 8))):
        width = rng.uniform(1, 3)
        draw.rectangle((x, horizon * 0.6, x + width, rng.uniform(horizon + 4, SIZE - 8)), fill=_vary((85, 65, 50), rng))


def _conifers(draw: ImageDraw.ImageDraw, place: SimulatedPlace, horizon: int, rng: np.random.Generator) -> None:
    for foot in (horizon + 2, horizon + 8, horizon + 15):
        for x in rng.uniform(-4, SIZE + 4, int(8 * place.density) + 3):
            height, half = rng.uniform(20, 36), rng.uniform(4, 7)
            draw.polygon([(x - half, foot), (x + half, foot), (x, foot - height)], fill=_vary(_GROUND["needles"], rng))


def _posts(draw: ImageDraw.ImageDraw, place: SimulatedPlace, horizon: int, rng: np.random.Generator) -> None:
    """Vines: leaves on posts."""
    _nothing(draw, place, horizon, rng)
    for _ in range(int(rng.integers(10, 18))):
        foot = rng.uniform(horizon + 5, SIZE)
        x, height = rng.uniform(0, SIZE), 18 * (foot - horizon) / (SIZE - horizon)
        r = 0.35 * height + 1
        draw.ellipse((x - r, foot - height, x + r, foot - 0.4 * height), fill=_vary((90, 135, 50), rng))
        draw.line((x, foot, x, foot - height), fill=(110, 85, 60), width=1)


def _olives(draw: ImageDraw.ImageDraw, place: SimulatedPlace, horizon: int, rng: np.random.Generator) -> None:
    for _ in range(int(12 * place.density)):
        foot = rng.uniform(horizon + 2, SIZE - 6)
        x, r = rng.uniform(0, SIZE), 2 + 8 * (foot - horizon) / (SIZE - horizon)
        draw.line((x, foot, x, foot - r), fill=(90, 80, 70), width=2)
        draw.ellipse((x - r, foot - 2.4 * r, x + r, foot - 0.7 * r), fill=_vary((120, 135, 105), rng))


def _shrubs(draw: ImageDraw.ImageDraw, place: SimulatedPlace, horizon: int, rng: np.random.Generator) -> None:
    for _ in range(int(45 * place.density)):
        y = rng.uniform(horizon, SIZE)
        x, r = rng.uniform(0, SIZE), 1 + 5 * (y - horizon) / SIZE
        colour = ((140, 80, 125), (110, 95, 75), (95, 110, 70))[int(rng.integers(3))]
        draw.ellipse((x - r, y - 0.7 * r, x + r, y + 0.7 * r), fill=_vary(colour, rng))


def _glints(draw: ImageDraw.ImageDraw, _: SimulatedPlace, horizon: int, rng: np.random.Generator) -> None:
    """Far shore and light on the water."""
    draw.rectangle((0, horizon - 3, SIZE, horizon), fill=_vary((60, 85, 60), rng))
    for _number in range(25):
        y = rng.uniform(horizon + 1, SIZE)
        x, length = rng.uniform(0, SIZE), 2 + 10 * (y - horizon) / SIZE
        draw.line((x, y, x + length, y), fill=_vary((165, 190, 215), rng))


def _houses(draw: ImageDraw.ImageDraw, _: SimulatedPlace, horizon: int, rng: np.random.Generator) -> None:
    x = float(rng.uniform(-8, 2))
    while x < SIZE:
        width, height = rng.uniform(9, 18), rng.uniform(10, 22)
        foot = horizon + rng.uniform(2, 10)
        wall = ((225, 215, 200), (190, 120, 95), (240, 238, 230))[int(rng.integers(3))]
        draw.rectangle((x, foot - height, x + width, foot), fill=_vary(wall, rng))
        roof = [(x - 1, foot - height), (x + width + 1, foot - height), (x + width / 2, foot - height - 7)]
        draw.polygon(roof, fill=_vary((150, 70, 55), rng))
        for window in (0.2, 0.6):
            left, top = x + window * width, foot - 0.7 * height
            draw.rectangle((left, top, left + 2, top + 3), fill=(70, 80, 95))
        x += width + rng.uniform(0, 6)


def _boulders(draw: ImageDraw.ImageDraw, place: SimulatedPlace, horizon: int, rng: np.random.Generator) -> None:
    grey = np.clip(np.array(_GROUND["rock"]) * place.brightness, 40, 230)
    for _ in range(22):
        y = rng.uniform(horizon - 2, SIZE)
        x, r = rng.uniform(0, SIZE), 2 + 8 * max(0.0, (y - horizon) / SIZE)
        angles = np.sort(rng.uniform(0, 6.3, 6))
        outline = [(x + r * np.cos(a) * rng.uniform(0.7, 1.2), y + 0.7 * r * np.sin(a)) for a in angles]
        draw.polygon(outline, fill=_vary((int(grey[0]), int(grey[1]), int(grey[2])), rng, spread=25))


def _mountains(draw: ImageDraw.ImageDraw, _: SimulatedPlace, horizon: int, rng: np.random.Generator) -> None:
    for x in rng.uniform(0, SIZE, 4):
        height, half = rng.uniform(0.5, 0.95) * horizon, rng.uniform(12, 24)
        draw.polygon(
            [(x - half, horizon), (x + half, horizon), (x, horizon - height)], fill=_vary((120, 122, 130), rng)
        )
        cap = 0.45
        draw.polygon(
            [(x - cap * half, horizon - (1 - cap) * height), (x + cap * half, horizon - (1 - cap) * height),
             (x, horizon - height)],
            fill=(240, 243, 248),
        )  # fmt: skip


def _vary(colour: Colour, rng: np.random.Generator, *, spread: float = 12.0) -> Colour:
    shade = rng.normal(0, spread / 3, 3) + rng.normal(0, spread)
    r, g, b = (int(value) for value in np.clip(np.array(colour) + shade, 0, 255))
    return r, g, b


_THINGS: Final[dict[str, Things]] = {
    "wheat": _ears, "maize": _tall, "sugar beet": _tufts, "rape": _nothing, "rice": _nothing, "meadow": _flowers,
    "dry grassland": _nothing, "broadleaved forest": _broadleaves, "coniferous forest": _conifers,
    "vineyard": _posts, "olive grove": _olives, "heath": _shrubs, "lake": _glints, "town": _houses,
    "bare rock": _boulders, "snowy mountains": _mountains,
}  # fmt: skip
