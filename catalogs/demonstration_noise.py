"""Repeatable randomness for the demonstration: fractal noise, hashed numbers, irregular cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def fractal(
    shape: tuple[int, int], rng: np.random.Generator, *, slope: float, coarsest: float = 1.0, stretch: float = 1.0
) -> Floats:
    """Noise (y, x) whose power falls with frequency to the power `slope`, mean 0 and standard deviation 1.

    `coarsest` cuts wavelengths longer than 1 / coarsest of the image; `stretch` > 1 draws it out along x.
    """
    fy = np.fft.fftfreq(shape[0])[:, None] * shape[0]
    fx = np.fft.rfftfreq(shape[1])[None, :] * shape[1] * stretch
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = np.inf
    amplitude = np.where(frequency >= coarsest, frequency, np.inf) ** (-slope / 2)
    white = np.fft.rfft2(rng.standard_normal(shape))
    noise = np.fft.irfft2(white * amplitude, s=shape)
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)


def scramble(*parts: npt.ArrayLike) -> Ints:
    """Mix integers to one well-spread non-negative integer, elementwise (broadcasts)."""
    mixed: npt.NDArray[np.uint64] = np.array(0x9E3779B97F4A7C15, np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            mixed = mixed ^ np.asarray(part).astype(np.int64).astype(np.uint64)
            mixed = mixed * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x94D049BB133111EB)
            mixed = mixed ^ (mixed >> np.uint64(32))
    return np.asarray(mixed >> np.uint64(1)).astype(np.int64)


def chance(*parts: npt.ArrayLike) -> Floats:
    """Uniform number in [0, 1) that depends on the integers only, elementwise (broadcasts)."""
    return np.asarray((scramble(*parts) >> 39) / 2.0**24, np.float32)


@dataclass(frozen=True)
class Cells:
    """Irregular cells around scattered seeds, one value per point (y, x).

    `ident` names the cell, `x` and `y` are its seed (metres), `edge` the distance to the nearest edge (metres).
    """

    ident: Ints
    x: Floats
    y: Floats
    edge: Floats


def cells(x: Floats, y: Floats, *, spacing: float, seed: int) -> Cells:
    """Voronoi cells of one jittered seed per square of `spacing` metres; `edge` is half of (second - first)."""
    left, top = int(np.floor(x.min() / spacing)) - 1, int(np.floor(y.min() / spacing)) - 1
    right, bottom = int(np.floor(x.max() / spacing)) + 2, int(np.floor(y.max() / spacing)) + 2
    rows, columns = np.mgrid[top:bottom, left:right]
    names = scramble(rows, columns, seed)
    seed_x = ((columns + 0.15 + 0.7 * chance(names, 1)) * spacing).astype(np.float32).ravel()
    seed_y = ((rows + 0.15 + 0.7 * chance(names, 2)) * spacing).astype(np.float32).ravel()
    best = np.empty(x.shape, np.int32)
    edge = np.empty(x.shape, np.float32)
    for start in range(0, x.shape[0], 32):  # strips that stay in the processor's cache: three times faster
        strip = slice(start, start + 32)
        own, gap = _nearest(x[strip], y[strip], (left, top, columns.shape[1]), spacing, (seed_x, seed_y))
        best[strip], edge[strip] = own, gap
    return Cells(ident=names.ravel()[best], x=seed_x[best], y=seed_y[best], edge=edge)


def _nearest(
    x: Floats, y: Floats, table: tuple[int, int, int], spacing: float, seeds: tuple[Floats, Floats]
) -> tuple[npt.NDArray[np.int32], Floats]:
    """Index of the nearest seed among the nine squares around, and half the lead over the second nearest."""
    left, top, width = table
    at = (np.floor(y / spacing).astype(np.int32) - top) * width + (np.floor(x / spacing).astype(np.int32) - left)
    best = np.zeros(x.shape, np.int32)
    near = np.full(x.shape, np.inf, np.float32)
    second = np.full(x.shape, np.inf, np.float32)
    for down in (-width, 0, width):
        for right in (-1, 0, 1):
            index = at + np.int32(down + right)
            square = (x - seeds[0][index]) ** 2 + (y - seeds[1][index]) ** 2
            second = np.minimum(second, np.maximum(near, square))
            best = np.where(square < near, index, best)
            near = np.minimum(near, square)
    return best, np.asarray((np.sqrt(second) - np.sqrt(near)) / 2, np.float32)
