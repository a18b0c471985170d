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
    mixed = np.uint64(0x9E3779B97F4A7C15)
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
    """Voronoi cells of one jittered seed per square of `spacing` metres."""
    column, row = np.floor(x / spacing).astype(np.int64), np.floor(y / spacing).astype(np.int64)
    left, top = column.min() - 1, row.min() - 1
    rows, columns = np.mgrid[top : row.max() + 2, left : column.max() + 2]
    names = scramble(rows, columns, seed)
    seed_x = ((columns + 0.15 + 0.7 * chance(names, 1)) * spacing).astype(np.float32)
    seed_y = ((rows + 0.15 + 0.7 * chance(names, 2)) * spacing).astype(np.float32)
    at = (row - top) * rows.shape[1] + (column - left)
    best = np.zeros(x.shape, np.int64)
    second = np.zeros(x.shape, np.int64)
    near = np.full(x.shape, np.inf, np.float32)
    next_near = np.full(x.shape, np.inf, np.float32)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            index = at + down * rows.shape[1] + right
            square = (x - seed_x.flat[index]) ** 2 + (y - seed_y.flat[index]) ** 2
            closer, between = square < near, (square >= near) & (square < next_near)
            second = np.where(closer, best, np.where(between, index, second))
            next_near = np.where(closer, near, np.where(between, square, next_near))
            best, near = np.where(closer, index, best), np.where(closer, square, near)
    own_x, own_y = seed_x.flat[best], seed_y.flat[best]
    apart = np.hypot(own_x - seed_x.flat[second], own_y - seed_y.flat[second])
    edge = (next_near - near) / (2 * np.maximum(apart, 1e-3))
    return Cells(ident=names.flat[best], x=own_x, y=own_y, edge=edge.astype(np.float32))
