"""Clouds and their shadows, widened: what lies beside a cloud is often cloud too."""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLOUDS = frozenset({3, 8, 9, 10})
"""Scene classes that are widened where they are set aside: cloud shadow, cloud of medium and high probability, thin
cirrus. Not snow, dark areas or saturated pixels, which are as large as they look."""

NEAR_CLOUD = 255
"""Made-up scene class of the pixels that widening adds; ESA's end at 11."""


@dataclass(frozen=True)
class Widening:
    """How far which scene classes are widened, on the scene's own raster: so it is the same for every tile.

    Attributes
    ----------
    classes
        Scene classes (SCL).
    metres
        Distance between pixel centres, at most.
    """

    classes: tuple[int, ...]
    metres: float

    @classmethod
    def of(cls, set_aside: Collection[int], metres: float) -> "Widening | None":
        """Widening of the clouds among the classes set aside; None where nothing is to be widened."""
        classes = tuple(sorted(CLOUDS.intersection(set_aside)))
        return cls(classes, float(metres)) if classes and metres > 0 else None

    def margin(self, pixel: float) -> int:
        """Pixels around a window that decide about it, for a raster of this pixel size in metres."""
        return math.floor(self.metres / pixel)

    def __call__(self, scl: NDArray[np.uint16], pixel: float) -> NDArray[np.uint16]:
        """Give the scene classes (y, x) with `NEAR_CLOUD` around clouds, but not over them or over no data (0)."""
        cloud = np.isin(scl, self.classes)
        near = within(cloud, self.metres / pixel)
        return np.where(near & ~cloud & (scl != 0), scl.dtype.type(NEAR_CLOUD), scl)


def within(mask: NDArray[np.bool_], distance: float) -> NDArray[np.bool_]:
    """Find the pixels whose centre is at most `distance` pixels away from one of the mask's.

    Row by row of a disc: each of its rows is one window sum along x, whatever its length.
    """
    height, width = mask.shape
    if not mask.any():
        return np.zeros_like(mask)
    found = mask.copy()
    reach = min(math.floor(distance), max(height, width))
    before = np.zeros((height, width + 1), np.int32)
    np.cumsum(mask, axis=1, out=before[:, 1:])  # mask pixels of a row left of each edge between pixels
    for down in range(min(reach, height - 1) + 1):
        half = min(math.floor(math.sqrt(distance**2 - down**2)), width)
        right = np.minimum(np.arange(width) + half + 1, width)
        left = np.maximum(np.arange(width) - half, 0)
        row = before[:, right] > before[:, left]  # (y, x): a mask pixel within `half` in the same row
        found[down:] |= row[: height - down]
        found[: height - down] |= row[down:]
    return found
