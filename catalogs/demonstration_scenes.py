"""From the demonstration's ground and sky to what Sentinel-2 measures: DN per band and the SCL.

Arrays are (y, x) or (y, x, band), north up, reflectance 0-1; the bands are in the order of BANDS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from timesenmap.catalogs.bands import BANDS
from timesenmap.catalogs.demonstration_canvas import CELL, PER_PIXEL, Bytes, Mask
from timesenmap.catalogs.demonstration_covers import COVERS, CROPLAND, CROPS, LANDCOVER, cover_year, load_spectra
from timesenmap.catalogs.demonstration_landscape import Landscape
from timesenmap.catalogs.demonstration_noise import Floats, chance, fractal
from timesenmap.catalogs.demonstration_weather import Acquisition, SkyView, draw_sky

FINE = ("B02", "B03", "B04", "B08")  # 10 m; the others 20 m
SCL_NODATA, SCL_DARK, SCL_SHADOW, SCL_PLANTS, SCL_BARE, SCL_WATER = 0, 2, 3, 4, 5, 6
SCL_UNSURE, SCL_CLOUD_LIKELY, SCL_CLOUD, SCL_CIRRUS, SCL_SNOW = 7, 8, 9, 10, 11

EARLY_OR_LATE = 7  # days by which a field may run before or behind its crop's mean
_SHADE_SUNS = ((18.0, 166.0), (32.0, 160.0), (60.0, 148.0))  # elevation, azimuth: December, March, June

# What haze, cloud tops, cirrus and the light left in a shadow look like in each band: shapes, not measurements.
_HAZE = np.array([1.0, 0.72, 0.52, 0.46, 0.40, 0.36, 0.33, 0.30, 0.08, 0.05], np.float32)
_CLOUD = np.array([0.62, 0.61, 0.62, 0.64, 0.66, 0.67, 0.67, 0.68, 0.45, 0.34], np.float32)
_CIRRUS = np.array([0.50, 0.49, 0.49, 0.50, 0.51, 0.51, 0.51, 0.51, 0.30, 0.22], np.float32)
_SHADOW_LOSS = np.array([0.55, 0.62, 0.68, 0.70, 0.72, 0.73, 0.74, 0.75, 0.80, 0.82], np.float32)


@dataclass(frozen=True)
class Ground:
    """The place at 10 m, made once and rendered for every scene.

    `truth` (y, x) codes of LANDCOVER, `crops` (y, x) 1 + position in CROPS or 0; `main` (y, x) position in
    COVERS of the largest cover. Pixel `pair_pixel[i]` consists to `pair_share[i]` of patch `pair_patch[i]`.
    """

    size: int
    seed: int
    truth: Bytes
    crops: Bytes
    main: Bytes
    snow: Floats
    pair_start: npt.NDArray[np.intp]
    pair_patch: npt.NDArray[np.intp]
    pair_share: Floats
    patch_cover: Bytes
    patch_shift: npt.NDArray[np.intp]
    patch_score: Floats  # (12, patches, 3)
    texture: Floats  # (3, y, x)
    slope_east: Floats
    slope_south: Floats
    shade: Floats  # (suns, y, x)


def survey(landscape: Landscape, seed: int) -> Ground:
    """Turn the drawn ground into 10 m pixels made of patches, with what stays the same in every scene."""
    cells = landscape.cover.shape[0]
    size = cells // PER_PIXEL
    rng = np.random.default_rng([seed, 2])
    names, first, which = np.unique(landscape.patch, return_index=True, return_inverse=True)
    row = np.arange(cells) // PER_PIXEL
    pixel = (row[:, None] * size + row[None, :]).ravel()
    pairs, counts = np.unique(pixel * len(names) + which.ravel(), return_counts=True)
    pair_pixel = pairs // len(names)

    def votes(code: Bytes, kinds: int) -> npt.NDArray[np.intp]:
        counted = np.bincount(pixel * kinds + code.ravel(), minlength=size * size * kinds)
        return counted.reshape(size, size, kinds)

    landcover = np.array([cover.landcover for cover in COVERS], np.uint8)
    truth = votes(landcover[landscape.cover], max(LANDCOVER) + 1).argmax(axis=-1)
    of_cover = votes(landscape.cover, len(COVERS))
    main = of_cover.argmax(axis=-1).astype(np.uint8)
    crop = of_cover[..., : len(CROPS)].argmax(axis=-1) + 1
    cover = landscape.cover.ravel()[first]
    fine, smooth = rng.standard_normal((3, size, size)).astype(np.float32), np.empty((3, size, size), np.float32)
    for k in range(3):
        smooth[k] = fractal((size, size), rng, slope=2.6, coarsest=4)
    tall = np.array([c.height > 4 for c in COVERS])[main]
    south, east = np.gradient(_to_pixels(landscape.elevation), 10.0)
    heights = np.array([c.height for c in COVERS], np.float32)[landscape.cover]
    return Ground(
        size=size,
        seed=seed,
        truth=truth.astype(np.uint8),
        crops=np.where(truth == CROPLAND, crop, 0).astype(np.uint8),
        main=main,
        snow=np.array([c.snow for c in COVERS], np.float32)[main],
        pair_start=np.searchsorted(pair_pixel, np.arange(size * size)),
        pair_patch=pairs % len(names),
        pair_share=(counts / PER_PIXEL**2).astype(np.float32),
        patch_cover=cover,
        patch_shift=(chance(names, 1) * (2 * EARLY_OR_LATE + 1)).astype(np.intp),
        patch_score=_scores(len(names), rng),
        texture=np.where(tall, 0.85 * fine + 0.5 * smooth, 0.35 * fine + 0.9 * smooth).astype(np.float32),
        slope_east=np.asarray(east, np.float32),
        slope_south=np.asarray(south, np.float32),
        shade=np.stack([_to_pixels(cast_shade(heights, *sun)) for sun in _SHADE_SUNS]),
    )


def _to_pixels(values: npt.NDArray[np.generic], step: int = PER_PIXEL) -> Floats:
    """Mean of blocks of `step` x `step`."""
    rows, columns = values.shape[0] // step, values.shape[1] // step
    blocks = values.reshape(rows, step, columns, step, *values.shape[2:])
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))


def _scores(patches: int, rng: np.random.Generator) -> Floats:
    """Principal scores of each patch (12, patches, 3): half lasting, half drifting from month to month."""
    drift = rng.standard_normal((12, patches, 3))
    drift = (drift + np.roll(drift, 1, axis=0)) / np.sqrt(2)
    lasting = rng.standard_normal((patches, 3))
    return np.asarray(np.clip((lasting + drift) / np.sqrt(2), -2.2, 2.2), np.float32)


def cast_shade(heights: Floats, elevation: float, azimuth: float) -> Mask:
    """Cells (y, x) in the shadow of something taller between them and the sun (angles in degrees)."""
    angle = np.deg2rad(azimuth)
    shaded = np.zeros(heights.shape, bool)
    rise = np.tan(np.deg2rad(elevation)) * CELL
    cells = heights.shape[0]
    for step in range(1, int(heights.max() / rise) + 1):
        down, right = round(-step * np.cos(angle)), round(step * np.sin(angle))
        rows, columns = slice(max(0, -down), cells - max(0, down)), slice(max(0, -right), cells - max(0, right))
        towards = heights[max(0, down) : cells + min(0, down), max(0, right) : cells + min(0, right)]
        shaded[rows, columns] |= towards - heights[rows, columns] > step * rise
    return shaded


def clear_reflectance(ground: Ground, acquisition: Acquisition) -> Floats:
    """Reflectance of the ground (y, x, 10) in full sun under a clean sky on the day of an acquisition."""
    year, day = cover_year(), acquisition.day
    shifts = np.arange(-EARLY_OR_LATE, EARLY_OR_LATE + 1)
    mean, modes = (table.astype(np.float32) for table in year.on(day + shifts.astype(float)))
    position = (day / 365.25 * 12 - 0.5) % 12
    low, share = int(position), np.float32(position % 1)
    score = ground.patch_score[low] * (1 - share) + ground.patch_score[(low + 1) % 12] * share
    between = np.array([c.between for c in COVERS], np.float32)[ground.patch_cover]
    patch = mean[ground.patch_shift, ground.patch_cover]
    patch += np.einsum("pbk,pk->pb", modes[EARLY_OR_LATE][ground.patch_cover], score * between[:, None])
    spread = ground.pair_share[:, None] * patch[ground.pair_patch]
    pixels = np.add.reduceat(spread, ground.pair_start, axis=0).reshape(ground.size, ground.size, 10)
    within = np.array([c.within for c in COVERS], np.float32)
    rng = np.random.default_rng([ground.seed, 5, acquisition.index])
    drift = rng.standard_normal(ground.texture.shape).astype(np.float32)
    for k in range(3):
        table = modes[EARLY_OR_LATE][:, :, k] * within[:, None]
        # Neighbouring pixels differ in brightness more than in colour: the later components at half weight.
        score_here = (0.94 * ground.texture[k] + 0.34 * drift[k]) * (1.0 if k == 0 else 0.5)
        pixels += table[ground.main] * score_here[..., None]
    floor = 0.35 * year.mean[:, :, :].min(axis=1).astype(np.float32)  # no mixture is darker than a third of its class
    return np.asarray(np.maximum(pixels, floor[ground.main]), np.float32)


def light_on_ground(ground: Ground, acquisition: Acquisition) -> Floats:
    """Factor (y, x) by which slopes and the shade of trees and houses change the ground's brightness."""
    elevation, azimuth = acquisition.sun
    height, angle = np.deg2rad(elevation), np.deg2rad(azimuth)
    towards = -ground.slope_east * np.sin(angle) + ground.slope_south * np.cos(angle)
    # Level-2A leaves about a third of the terrain's effect where it corrects with a coarse elevation model.
    slope = 1 + 0.35 * np.clip(towards / np.tan(height), -0.6, 0.6)
    suns = [sun[0] for sun in _SHADE_SUNS]
    place = float(np.interp(elevation, suns, range(len(suns))))
    low = min(int(place), len(suns) - 2)
    shade = ground.shade[low] * (low + 1 - place) + ground.shade[low + 1] * (place - low)
    return np.asarray(slope * (1 - 0.5 * shade), np.float32)


@dataclass(frozen=True)
class SceneArrays:
    """What a scene holds: DN per band (y, x) uint16, 0 = no data, SCL (y, x) uint8 at 20 m."""

    dn: dict[str, npt.NDArray[np.uint16]]
    scl: Bytes

    @property
    def cloud_cover(self) -> float:
        """Percentage of the valid pixels that the SCL calls cloud or cirrus."""
        valid = self.scl != SCL_NODATA
        return float(100 * np.isin(self.scl, (SCL_CLOUD_LIKELY, SCL_CLOUD, SCL_CIRRUS)).sum() / max(valid.sum(), 1))


def render_scene(ground: Ground, acquisition: Acquisition, seen: Mask) -> SceneArrays:
    """Measure the place at one acquisition; `seen` (y, x) is true where the swath covers a 20 m pixel."""
    rng = np.random.default_rng([ground.seed, 6, acquisition.index])
    sky = draw_sky(acquisition, ground.size, ground.seed)
    light = light_on_ground(ground, acquisition)
    clear = clear_reflectance(ground, acquisition) * light[..., None]
    if acquisition.snow:
        lying = (np.clip(ground.snow + 0.12 * ground.texture[0], 0, 1) * acquisition.snow)[..., None]
        clear = clear * (1 - lying) + lying * light[..., None] * load_spectra()["snow"].mean[0].astype(np.float32)
    gain = np.float32(1 + (0.015 if acquisition.orbit.partial else -0.015) + 0.012 * rng.standard_normal())
    scl = classify(_to_pixels(clear, 2), sky, seen)
    measured = _through_atmosphere(clear * gain, sky, acquisition, rng)
    dn = {}
    for band, name in enumerate(BANDS):
        fine = name in FINE
        values = measured[..., band] if fine else _to_pixels(measured[..., band], 2)
        noise = rng.standard_normal(values.shape).astype(np.float32)
        values = values + noise * (0.0009 + 0.006 * values)
        digital = np.clip(np.rint(values * 10000) + acquisition.offset, 1, 65535).astype(np.uint16)
        covered = np.repeat(np.repeat(seen, 2, axis=0), 2, axis=1) if fine else seen
        dn[name] = np.where(covered, digital, 0).astype(np.uint16)
    return SceneArrays(dn=dn, scl=scl)


def _through_atmosphere(ground: Floats, sky: SkyView, acquisition: Acquisition, rng: np.random.Generator) -> Floats:
    """What reaches the satellite: cloud shadow, haze, cirrus and cloud over the ground (y, x, 10)."""
    size = ground.shape[0]
    haze = acquisition.haze * (1 + 0.35 * fractal((size, size), rng, slope=3.5))
    seen = ground * (1 - sky.shadow[..., None] * _SHADOW_LOSS) + haze[..., None] * _HAZE
    seen += sky.cirrus[..., None] * (_CIRRUS - seen)
    tops = _CLOUD * (1 + 0.13 * sky.light[..., None])
    return np.asarray(seen + sky.cloud[..., None] * (tops - seen), np.float32)


def classify(clear: Floats, sky: SkyView, seen: Mask) -> Bytes:
    """Label 20 m pixels as the scene classification of Level-2A does, from the truth.

    Parameters
    ----------
    clear
        Reflectance of the ground without clouds, (y, x, 10) at 20 m.
    sky
        Clouds, cirrus and shadows at 10 m.
    seen
        True where the swath covers the pixel, (y, x) at 20 m.

    Returns
    -------
    SCL classes (y, x): 0 no data, 2 dark, 3 cloud shadow, 4 vegetation, 5 not vegetated, 6 water,
    7 unclassified (thin borders of clouds), 8 and 9 cloud, 10 thin cirrus, 11 snow.
    """
    b03, b04, b08, b11 = (clear[..., BANDS.index(name)] for name in ("B03", "B04", "B08", "B11"))
    ndvi, ndsi = (b08 - b04) / (b08 + b04), (b03 - b11) / (b03 + b11)
    cloud, cirrus, shadow = (_to_pixels(layer, 2) for layer in (sky.cloud, sky.cirrus, sky.shadow))
    scl = np.full(ndvi.shape, SCL_BARE, np.uint8)
    scl[(b08 < 0.09) & (b11 < 0.09)] = SCL_DARK
    scl[(ndvi > 0.42) & (b08 > 0.1)] = SCL_PLANTS
    scl[(b08 < 0.12) & (b08 < 1.15 * b03) & (b11 < 0.06)] = SCL_WATER
    scl[(ndsi > 0.4) & (b03 > 0.2)] = SCL_SNOW
    scl[shadow > 0.25] = SCL_SHADOW
    scl[cirrus > 0.12] = SCL_CIRRUS
    scl[cloud > 0.03] = SCL_UNSURE
    scl[cloud > 0.1] = SCL_CLOUD_LIKELY
    scl[cloud > 0.6] = SCL_CLOUD
    scl[~seen] = SCL_NODATA
    return scl
