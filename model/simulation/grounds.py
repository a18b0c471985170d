"""Towns, bare ground, open water, ice, land after a fire or under a flood, and greenhouses."""

from typing import cast

import numpy as np
import numpy.typing as npt

from timesenmap.model.simulation.endmembers import wetted
from timesenmap.model.simulation.scene import Scene
from timesenmap.model.simulation.settings import Bare, Built, Changed, Frozen, Herbs, Plastic, Water, Woody
from timesenmap.model.simulation.vegetation import crowns, shaded, standing_water
from timesenmap.model.simulation.water import water_reflectance

Floats = npt.NDArray[np.float64]

SALT = np.array([0.50, 0.54, 0.57, 0.58, 0.59, 0.60, 0.60, 0.60, 0.46, 0.33])
"""Halite and gypsum crust, dry (Crowley 1991)."""

FILM = np.array([0.95, 1.0, 1.02, 1.02, 1.02, 1.0, 1.0, 1.0, 0.9, 0.75])
"""Shape of what plastic film reflects itself (Levin et al. 2007)."""


def built(scene: Scene, recipe: Built) -> Floats:
    """(12, 10) roofs, streets and paving, gardens with trees, bare plots, shadow of houses."""
    rng = scene.rng
    sealed = scene.draw(recipe.sealed)
    roofs = scene.draw(recipe.roofs)
    pool = recipe.roof_pool[rng.integers(len(recipe.roof_pool))]
    parts = int(rng.integers(1, 5))
    roof = scene.spectra.mixture(pool, rng, parts)
    street = scene.spectra.mixture("street", rng, 2)
    paving = scene.spectra.mixture("paving", rng, 2)
    paved = rng.uniform(0, 0.6)
    hard = roofs * roof + (1 - roofs) * ((1 - paved) * street + paved * paving)
    # Materials are measured clean, level and in the sun; weathered and tilted ones are darker.
    hard = wetted(hard * scene.draw((0.8, 1.2)), 0.12 * rng.random(12) * (scene.moisture > 0.3))
    hard = scene.under_snow(hard, scene.draw((0.2, 0.8)))
    soil = scene.ground(brightness=recipe.brightness)
    lawn = Herbs(
        lai=(0.8, 4), rest=(0.08, 0.6), litter=(0.2, 0.8), standing=(0, 0.4), watered=scene.chance(recipe.watered)
    )
    open_ground = scene.draw(recipe.bare)
    garden = scene.under_snow(open_ground * soil + (1 - open_ground) * scene.herbs(lawn, soil))
    trees = scene.draw(recipe.trees)
    if trees * (1 - sealed) > 0.03:
        planted = Woody(
            kind="woody", regions=(scene.region,), cover=(trees, trees), lai=(1.5, 5), leaf="broadleaf",
            evergreen=(0, 0.5) if abs(scene.place.lat) > 30 else (0.3, 0.9), understorey=lawn, shade=(0.05, 0.15),
        )  # fmt: skip
        garden = crowns(scene, planted, trees, garden)
    mixed = sealed * hard + (1 - sealed) * garden
    return shaded(mixed, scene.geometry.sun, scene.draw(recipe.shade))


def bare(scene: Scene, recipe: Bare) -> Floats:
    """(12, 10) ground with hardly a plant."""
    wetness = scene.draw(recipe.wetness) * scene.surface_wetness()
    if recipe.pool == "salt":
        crust = scene.draw((0.5, 1.0))
        dry = crust * SALT * scene.draw((0.75, 1.25)) + (1 - crust) * scene.spectra.draw("bright soil", scene.rng)
        wet = scene.climate.at(scene.climate.moisture, scene.days) * scene.draw((0, 1))
        water = standing_water(scene, np.full(12, 0.08), np.tile(dry, (12, 1)))
        under = (np.clip(wet - 0.4, 0, 0.6))[:, None]
        return scene.under_snow((1 - under) * wetted(dry, 0.5 * wetness) + under * water)
    ground = scene.ground(recipe.pool, recipe.brightness, wetness)
    cover = scene.draw(recipe.plants)
    if cover > 0.01:
        plants = scene.herbs(Herbs(leaf="dry grass", lai=(0.5, 2), rest=(0.02, 0.3), litter=(0.2, 0.8)), ground)
        ground = (1 - cover) * ground + cover * plants
    return scene.under_snow(ground)


def water(scene: Scene, recipe: Water) -> Floats:
    """(12, 10) open water with the seasons of algae and mud, sky and sun glint, ice in a long frost."""
    rng = scene.rng
    strength = scene.draw(recipe.season)
    warm = np.cos(2 * np.pi * (scene.days - (215 if not scene.place.southern else 33)) / 365)
    wet = 2 * scene.moisture - 1
    wobble = rng.normal(0, 0.35, (2, 12))
    chlorophyll = scene.draw_log(recipe.chlorophyll) * np.exp(strength * warm + wobble[0])
    particles = scene.draw_log(recipe.particles) * np.exp(strength * wet + wobble[1])
    bottom = wetted(scene.spectra.mixture("sand" if recipe.bottom == "sand" else "soil", rng, 2), np.full(12, 0.8))
    grown = scene.draw((0, 0.8)) if scene.chance(0.5) else 0.0  # weed or algae on the bottom
    bottom = bottom * (1 - grown * np.array([0.7, 0.5, 0.75, 0.5, 0.2, 0.1, 0.1, 0.1, 0.3, 0.3]))
    surface = water_reflectance(
        chlorophyll=chlorophyll,
        particles=particles,
        dissolved=np.full(12, scene.draw_log(recipe.dissolved)),
        depth=np.full(12, scene.draw_log(recipe.depth)),
        bottom=bottom,
        sun_zenith=scene.geometry.sun,
        slope=scene.draw((0.3, 1.1)),
    )
    glint = scene.draw(recipe.glint) * rng.beta(1, 2.5, 12) * np.cos(np.radians(scene.geometry.sun))
    surface = surface + 0.002 + glint[:, None] * np.array([0.95, 0.97, 1, 1, 1.0, 1, 1, 1, 1.0, 0.95])
    # Floating scum of a bloom looks like leaves.
    if chlorophyll.max() > 120:
        scum = np.clip((chlorophyll - 120) / 600, 0, 0.35)[:, None]
        surface = (1 - scum) * surface + scum * np.array([0.03, 0.08, 0.05, 0.15, 0.25, 0.27, 0.27, 0.26, 0.08, 0.04])
    surface = _frozen_over(scene, surface, -9.0 if recipe.salt else -3.0)
    shore = scene.draw(recipe.shore)
    if shore > 0.02:
        bank = scene.herbs(Herbs(lai=(0.2, 3.5), watered=True), scene.ground())
        surface = (1 - shore) * surface + shore * scene.under_snow(bank)
    return surface


def _frozen_over(scene: Scene, surface: Floats, threshold: float) -> Floats:
    """Ice, mostly under snow, where the month behind was colder than the threshold on average."""
    temperature = scene.climate.at(scene.climate.temperature, scene.days - 10)
    ice = 1 / (1 + np.exp((temperature - threshold) / 1.0))
    cover = np.where(ice > 0.5, ice, 0.0)[:, None]
    clear = scene.spectra.draw("glacier ice", scene.rng) * 0.6
    snow = scene.snow_surface()
    white = np.clip(scene.snow + 0.2, 0, 1)[:, None]
    return (1 - cover) * surface + cover * ((1 - white) * clear + white * snow)


def frozen(scene: Scene, recipe: Frozen) -> Floats:
    """(12, 10) snow all year, or ice that the summer lays bare."""
    rng = scene.rng
    season = np.cos(2 * np.pi * (scene.days - (213 if not scene.place.southern else 31)) / 365)
    melting = np.clip((season - scene.draw((-0.2, 0.5))) / 0.3, 0, 1)
    share = scene.draw(recipe.ice)
    ice = np.stack([scene.spectra.mixture("glacier ice", rng, 2)] * 12) * rng.uniform(0.85, 1.1, (12, 1))
    rock = scene.ground("rock", (0.5, 0.9))
    debris = scene.draw(recipe.debris)
    bare_ice = (1 - debris) * ice + debris * rock
    aged = np.clip(melting * scene.draw((0.4, 1.0)), 0, 1)[:, None]
    snow = (1 - aged) * scene.snow_surface() + aged * scene.spectra.mixture("glacier snow", rng, 2)
    uncovered = (melting * share)[:, None]
    return (1 - uncovered) * snow + uncovered * bare_ice


def burnt(scene: Scene, recipe: Changed, before: Floats) -> Floats:
    """(12, 10) land of ``before`` with a fire in it: char and ash, which fade as plants come back."""
    rng = scene.rng
    months = scene.draw(recipe.months)  # until a third of the char is left
    dry = int(np.argmin(scene.climate.at(scene.climate.moisture, scene.days) + rng.normal(0, 0.15, 12)))
    fire = scene.days[dry] - (365 if scene.chance(0.25) else 0)
    since = scene.days - fire
    severity = scene.draw(recipe.share)
    lasting = scene.draw((30.4, 40)) * months
    cover = np.where(since >= 0, severity * np.exp(-np.clip(since, 0, None) / lasting), 0.0)
    char = scene.spectra.mixture("char", rng, 2)
    ash = scene.spectra.draw("ash", rng)
    grey = np.where(since >= 0, 0.3 * rng.random() * np.exp(-np.clip(since, 0, None) / 25), 0)[:, None]
    black = (1 - grey) * char + grey * ash
    ground = scene.ground("soil", (0.45, 0.8))
    after = 0.65 * ground + 0.35 * before * 0.7  # what the fire leaves between: soil and scorched remains
    gone = np.where(since >= 0, severity, 0.0)[:, None]
    mixed = (1 - gone) * before + gone * after
    return scene.under_snow((1 - cover[:, None]) * mixed + cover[:, None] * black, 0.8)


def flooded(scene: Scene, recipe: Changed, before: Floats) -> Floats:
    """(12, 10) land of ``before`` under water for some months."""
    middle = scene.days[int(np.argmax(scene.moisture + scene.rng.normal(0, 0.3, 12)))]
    half = 15.2 * scene.draw(recipe.months)
    distance = np.abs((scene.days - middle + 182.5) % 365 - 182.5)
    cover = (scene.draw(recipe.share) / (1 + np.exp((distance - half) / 7)))[:, None]
    water_there = standing_water(scene, np.full(12, scene.draw((0.3, 2.5))), before)
    return cast("Floats", (1 - cover) * before + cover * water_there)


def greenhouse(scene: Scene, recipe: Plastic) -> Floats:
    """(12, 10) plants and soil under film, whitened in the hot months."""
    inside = Herbs(leaf="broad crop", lai=(0.2, 3.5), rest=(0.5, 1), litter=(0, 0.2), watered=True)
    crop = scene.herbs(inside, scene.ground())
    film, through = scene.draw(recipe.film), scene.draw(recipe.through)
    warm = np.clip(scene.climate.at(scene.climate.temperature, scene.days) / 30, 0, 1) * scene.draw((0, 0.25))
    reflected = (film + warm)[:, None] * FILM
    passed = through * np.array([0.9, 0.93, 0.95, 0.95, 0.96, 0.96, 0.96, 0.96, 0.9, 0.72])
    covered = reflected + (1 - reflected) * passed**2 * crop
    share = scene.draw(recipe.cover)
    outside = scene.under_snow(scene.ground())
    return cast("Floats", share * covered + (1 - share) * outside)
