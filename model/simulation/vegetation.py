"""Grass, meadows, shrubs, forests, orchards and wetlands: crowns, what is between them, shadow and standing water."""

from typing import Final, cast

import numpy as np
import numpy.typing as npt

from timesenmap.model.simulation.scene import Scene
from timesenmap.model.simulation.settings import Grass, Herbs, Meadow, Wetland, Woody
from timesenmap.model.simulation.water import water_reflectance

Floats = npt.NDArray[np.float64]

SKYLIGHT: Final = np.array([0.28, 0.22, 0.16, 0.18, 0.22, 0.23, 0.23, 0.23, 0.12, 0.08])
"""Light in a shadow over light in the sun: from the sky, and in the near infrared through and between crowns."""


def shaded(surface: Floats, sun_zenith: Floats, share: float) -> Floats:
    """A surface (n, 10) with the share in shadow that crowns or houses cast; ``share`` with the sun at 45 degrees."""
    shadow = 1 - np.exp(np.log1p(-min(share, 0.95)) * np.tan(np.radians(np.minimum(sun_zenith, 72))))
    return cast("Floats", surface * (1 - shadow[:, None] * (1 - SKYLIGHT)))


def meadow(scene: Scene, recipe: Meadow) -> Floats:
    """(12, 10) grass that is cut or grazed and grows again."""
    cuts = round(scene.draw(recipe.cuts))
    first, last = recipe.cut_season
    dates = np.linspace(first, last, cuts) + scene.rng.normal(0, 12, cuts)
    days = scene.days + (182.5 if scene.place.southern else 0.0)
    left, regrowth = scene.draw(recipe.left), scene.draw((14, 26))
    since = np.min(np.where((gap := (days[:, None] - dates) % 365) < 200, gap, 200), axis=1)
    factor = left + (1 - left) * (1 - np.exp(-((since / regrowth) ** 1.5)))
    if scene.chance(recipe.new):
        # Sown in spring or after the harvest of what stood before: bare until it has come up.
        factor = factor * np.clip((days % 365 - scene.draw((75, 250))) / scene.draw((50, 80)), 0, 1)
    ground = scene.ground()
    cut = scene.herbs(recipe.herbs, ground, factor=factor)
    # Hay lies for some days after a cut.
    hay = (np.exp(-since / 5.0) * scene.draw((0.1, 0.5)))[:, None]
    return scene.under_snow((1 - hay) * cut + hay * scene.spectra.draw("straw", scene.rng))


def grass(scene: Scene, recipe: Grass) -> Floats:
    """(12, 10) wild herbs, with trees or shrubs here and there."""
    open_land = scene.under_snow(scene.herbs(recipe.herbs, scene.ground(recipe.ground)))
    cover = scene.draw(recipe.woody)
    if cover < 0.02:
        return open_land
    leaf = recipe.woody_leaf if not scene.chance(recipe.evergreen) else "evergreen"
    trees = Woody(
        kind="woody", regions=(scene.region,), cover=(cover, cover), lai=(1, 3.5), leaf=leaf,
        evergreen=(1, 1) if leaf == "evergreen" else (0, 0.1), understorey=recipe.herbs, shade=(0.05, 0.2),
    )  # fmt: skip
    return crowns(scene, trees, cover, open_land)


def woody(scene: Scene, recipe: Woody) -> Floats:
    """(12, 10) crowns over an understorey."""
    ground = scene.ground(recipe.ground)
    litter = scene.spectra.draw("litter", scene.rng) * scene.draw((0.6, 0.95))
    herbs = recipe.understorey
    if scene.chance(recipe.bare_understorey):
        herbs = herbs.model_copy(update={"lai": (0.0, 0.3), "litter": (0.0, 0.2)})
    covered = scene.draw(herbs.litter)
    floor = (1 - covered) * ground + covered * litter
    below = scene.under_snow(scene.herbs(herbs, floor))
    return crowns(scene, recipe, scene.draw(recipe.cover), below)


def crowns(scene: Scene, recipe: Woody, cover: float, below: Floats) -> Floats:
    """(12, 10) crowns covering a share of what is below, with the shadow they cast on it and on each other."""
    irrigated = scene.chance(recipe.irrigated)
    green = scene.greenness(watered=irrigated or scene.climate.moisture.min() > 0.25, earlier=scene.draw((-12, 8)))
    kept = scene.draw(recipe.evergreen)
    lai = scene.draw(recipe.lai) * (1.0 if irrigated else scene.fed**0.5)
    surface = np.zeros_like(below)
    if kept < 0.98:
        gone = scene.draw(recipe.gone)
        area = lai * (gone + (1 - gone) * green**1.5)
        twigs = scene.draw(recipe.bark) * (1 - green[:, None])
        bark = scene.spectra.draw("bark", scene.rng) * scene.draw((0.4, 0.8))
        under = (1 - twigs) * below + twigs * bark
        vigour = np.clip(green * 1.15, 0, 1)
        leaves = scene.leaves(recipe.leaf, vigour, yellowing=scene.draw((0.4, 0.85)), brown=scene.draw((0.1, 0.8)))
        surface += (1 - kept) * scene.canopy(leaves, area, under, (0.0, 0.06))
    if kept > 0.02:
        hardness = scene.draw((0.75, 0.95))
        area = lai * (hardness + (1 - hardness) * green)
        vigour = 0.7 + 0.3 * green
        leaves = scene.leaves(recipe.evergreen_leaf, vigour, yellowing=scene.draw((0.1, 0.5)), brown=0.1)
        needles = scene.canopy(leaves, area, below, (0.0, 0.06))
        held = 0.35 * scene.rng.beta(1, 3)  # snow held by crowns
        surface += kept * scene.under_snow(needles, held)
    dead = scene.draw(recipe.dead)
    if dead > 0.01:
        wood = 0.5 * (scene.spectra.draw("bark", scene.rng) + scene.spectra.draw("litter", scene.rng))
        surface = (1 - dead) * surface + dead * scene.under_snow(np.tile(wood * scene.draw((0.6, 1.0)), (12, 1)))
    shade = scene.draw(recipe.shade)
    # Between crowns the ground lies in their shadow, the more the higher and denser they stand.
    between = shaded(below, scene.geometry.sun, min(0.9, shade * (1 + 1.5 * cover)))
    return cover * shaded(surface, scene.geometry.sun, shade) + (1 - cover) * between


def standing_water(scene: Scene, depth: Floats, bottom: Floats) -> Floats:
    """(12, 10) shallow, mostly dark water of a marsh, a paddy or a flood."""
    size = scene.days.size
    return water_reflectance(
        chlorophyll=np.full(size, scene.draw_log((1, 60))),
        particles=np.full(size, scene.draw_log((0.5, 60))),
        dissolved=np.full(size, scene.draw_log((0.2, 6))),
        depth=depth,
        bottom=bottom,
        sun_zenith=scene.geometry.sun,
    ) + scene.draw((0.002, 0.015))


def wetland(scene: Scene, recipe: Wetland) -> Floats:
    """(12, 10) plants in standing water or on wet ground; more water when the climate is wet."""
    moisture = scene.moisture
    level = (moisture - moisture.min()) / max(float(np.ptp(moisture)), 0.15)
    most = scene.draw(recipe.flooding)
    flooded = most * (dry := scene.draw(recipe.drying)) + most * (1 - dry) * level
    # Ground between the pools dries as far as they do.
    wetness = scene.rng.uniform(0.25, 0.9, 12) * (dry + (1 - dry) * level)
    ground = scene.ground(recipe.ground, wetness=wetness)
    water = standing_water(scene, np.full(12, scene.draw(recipe.depth)), ground)
    base = (1 - flooded[:, None]) * ground + flooded[:, None] * water
    # Where water stands there is less litter to be seen; herbs are sparser in the deepest part.
    plants = scene.herbs(recipe.herbs, base, factor=1 - 0.3 * flooded)
    open_water = (flooded * scene.draw((0.0, 0.5)))[:, None]
    surface = scene.under_snow((1 - open_water) * plants + open_water * water)
    cover = scene.draw(recipe.woody)
    if cover < 0.02:
        return surface
    evergreen = scene.chance(recipe.evergreen)
    shrubs = Woody(
        kind="woody", regions=(scene.region,), cover=(cover, cover), lai=(1, 3), leaf=recipe.woody_leaf,
        evergreen=(1, 1) if evergreen else (0, 0.1), evergreen_leaf=recipe.woody_leaf,
        understorey=Herbs(lai=(0, 0.1)), shade=(0.03, 0.12),
    )  # fmt: skip
    return crowns(scene, shrubs, cover, surface)
