"""What the demonstration's ground is painted on: coordinates, noise, covers and patches on cells of 2.5 m."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.features import rasterize
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry

from timesenmap.catalogs.demonstration_covers import CODE
from timesenmap.catalogs.demonstration_noise import Floats, Ints, chance, scramble

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

CELL = 2.5  # metres
PER_PIXEL = 4  # cells along a 10 m pixel


@dataclass
class Canvas:
    """What the painters share: coordinates, noises, and the cover and patch they paint on."""

    size: float  # metres
    scale: float  # of fields, streets and houses: smaller in small places
    seed: int
    x: Floats
    y: Floats
    smooth: Floats
    rough: Floats
    cover: Bytes
    patch: Ints

    def paint(self, where: Mask, name: str, patch: npt.ArrayLike = 0) -> None:
        """Set cover and patch where the mask is true."""
        self.cover[where] = CODE[name]
        self.patch[where] = np.broadcast_to(scramble(patch, CODE[name], self.seed), where.shape)[where]

    def burn(self, *shapes: BaseGeometry) -> Mask:
        """Mask of the cells whose centre lies in one of the shapes."""
        burnt = rasterize(
            [(shape, 1) for shape in shapes if not shape.is_empty],
            out_shape=self.cover.shape,
            transform=Affine.scale(CELL, CELL),
            dtype="uint8",
        )
        return np.asarray(burnt, bool)

    def bump(self, u: float, v: float, *, radius: float) -> Floats:
        """Bell of height 1 around a point of the place, all in shares of its width."""
        square = (self.x / self.size - u) ** 2 + (self.y / self.size - v) ** 2
        return np.asarray(np.exp(-square / radius**2), np.float32)

    def blob(self, u: float, v: float, *, radius: float, flat: float = 1.0, salt: int = 0) -> Polygon:
        """Rounded irregular polygon around a point of the place, in shares of its width."""
        angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        waves = np.ones_like(angle)
        for k in range(2, 7):
            phase = 2 * np.pi * float(chance(self.seed, salt, k))
            waves += 0.42 / k * np.sin(k * angle + phase)
        reach = radius * waves * self.size
        return Polygon(
            np.column_stack([u * self.size + reach * np.cos(angle), v * self.size + reach * np.sin(angle) * flat])
        )

    def line(self, points: Sequence[tuple[float, float]]) -> LineString:
        """Smooth line through points given in shares of the place's width."""
        knots = np.asarray(points, float) * self.size
        smoothed = LineString(knots)
        for _ in range(3):  # Chaikin's corner cutting
            at = np.asarray(smoothed.coords)
            cut = np.stack([0.75 * at[:-1] + 0.25 * at[1:], 0.25 * at[:-1] + 0.75 * at[1:]], axis=1)
            smoothed = LineString([at[0], *cut.reshape(-1, 2), at[-1]])
        return smoothed
