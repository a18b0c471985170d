"""One month's composite: the masked median of its observations, computed on integers.

Pure NumPy, and fast, because a country has 10^12 of these numbers: time is sorted with a network of
element-wise minimum and maximum, which runs over whole rows of pixels in SIMD registers, where ``np.sort`` along
a short axis and ``np.nanmedian`` call a routine for every pixel.
"""

from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SCL_SET_ASIDE = frozenset({0, 1, 3, 8, 9, 10})
"""Scene classes that are no clear view of the ground: no data, saturated or defective, cloud shadow, cloud of medium
and high probability, thin cirrus (Sentinel-2 Products Specification Document, "Scene Classification")."""

# Pixels sorted at a time: the observations of one band then stay in the cache of a core.
_STRIP = 1 << 15


def composite(
    dn: NDArray[np.uint16],
    scl: NDArray[np.uint8],
    multiply: NDArray[np.float64],
    add: NDArray[np.float64],
    *,
    set_aside: Collection[int] = SCL_SET_ASIDE,
    passes: Sequence[int] | None = None,
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Take the median of the clear observations of each pixel.

    A scene shows a pixel clearly where its scene class is not set aside and all its bands have data (DN > 0). Scenes
    of one pass of a satellite are one observation: of those that show a pixel clearly the first is taken.

    Parameters
    ----------
    dn
        Digital numbers (time, band, y, x), 0 = no data.
    scl
        Scene classification (time, y, x).
    multiply, add
        (time, band): reflectance * 10000 = dn * multiply + add.
    set_aside
        Scene classes that are not clear.
    passes
        (time,) a number for each scene, the same for scenes of one pass; by default each is a pass of its own.

    Returns
    -------
    reflectance : ndarray
        uint16 (band, y, x), reflectance * 10000: the median, in even numbers the mean of the two middle
        observations, rounded half to even, then kept within 1..65535; 0 without clear observation.
    clear : ndarray
        uint8 (y, x), number of clear observations, 255 for 255 and more.

    Raises
    ------
    ValueError
        Shapes that do not belong together.
    """
    times, bands, height, width = dn.shape
    if scl.shape != (times, height, width) or multiply.shape != (times, bands) or add.shape != (times, bands):
        msg = f"dn {dn.shape}, scl {scl.shape}, multiply {multiply.shape}, add {add.shape} do not belong together"
        raise ValueError(msg)
    reflectance = np.zeros((bands, height * width), np.uint16)
    clear = np.zeros(height * width, np.uint8)
    if times == 0:
        return reflectance.reshape(bands, height, width), clear.reshape(height, width)
    together = _together(range(times) if passes is None else passes, times)
    looks_clear = np.ones(256, bool)
    looks_clear[list(set_aside)] = False
    dn, scl = dn.reshape(times, bands, -1), scl.reshape(times, -1)
    for first in range(0, height * width, _STRIP):
        strip = slice(first, first + _STRIP)
        masked = ~(looks_clear[scl[:, strip]] & (dn[:, :, strip].min(axis=1) > 0))  # (time, strip)
        for scenes in together:
            _first_alone(masked, scenes)
        count = times - masked.sum(axis=0)  # (strip,)
        clear[strip] = np.minimum(count, 255)
        if not count.any():
            continue
        # Where the two middle ones of the clear observations are in (time, strip) once that is sorted and flat.
        place = np.arange(len(count))
        middle = (count - 1).clip(0) // 2 * len(count) + place, (count // 2).clip(0, times - 1) * len(count) + place
        seen = count > 0
        for band in range(bands):
            median = _masked_median(dn[:, band, strip], masked, middle, multiply[:, band], add[:, band])
            reflectance[band, strip] = np.clip(median, 1, 65535) * seen
    return reflectance.reshape(bands, height, width), clear.reshape(height, width)


def _together(passes: Sequence[int], times: int) -> list[list[int]]:
    """Positions of the scenes of each pass that has more than one."""
    if len(passes) != times:
        msg = f"{len(passes)} numbers of passes for {times} scenes"
        raise ValueError(msg)
    members: dict[int, list[int]] = {}
    for position, number in enumerate(passes):
        members.setdefault(number, []).append(position)
    return [positions for positions in members.values() if len(positions) > 1]


def _first_alone(masked: NDArray[np.bool_], scenes: Sequence[int]) -> None:
    """Mask, in (time, n), every scene of a pass where one before it is not masked."""
    seen = ~masked[scenes[0]]
    for scene in scenes[1:]:
        clear = ~masked[scene]
        masked[scene] |= seen
        seen |= clear


def _masked_median(
    dn: NDArray[np.uint16],
    masked: NDArray[np.bool_],
    middle: tuple[NDArray[np.intp], NDArray[np.intp]],
    multiply: NDArray[np.float64],
    add: NDArray[np.float64],
) -> NDArray[np.int32] | NDArray[np.float64]:
    """Median over time (time, n) -> (n,), rounded half to even; where nothing is clear the value means nothing."""
    whole = bool((multiply == 1).all() and (add == np.rint(add)).all() and (np.abs(add) < 2**29).all())
    values: NDArray[np.uint16] | NDArray[np.int32] | NDArray[np.float64]
    shift = 0
    if whole and (add == add[0]).all():
        # All scenes alike, the common case: sort the numbers as they are, 16 bits each. The sentinel may equal
        # a real 65535, which does no harm: equal values are interchangeable, and the masked ones are counted.
        shift = int(add[0])
        values = np.where(masked, np.uint16(65535), dn)
    elif whole:
        values = np.where(masked, np.int32(2**30 - 1), dn + add.astype(np.int32)[:, None])
    else:
        values = np.where(masked, 1e300, dn * multiply[:, None] + add[:, None])
    _sort_time(values)
    low, high = (values.reshape(-1)[place] for place in middle)
    if not whole:
        mean: NDArray[np.float64] = np.rint((low + high) / 2)
        return mean
    total: NDArray[np.int32] = low.astype(np.int32) + high.astype(np.int32) + 2 * shift
    half = total >> 1
    even: NDArray[np.int32] = half + (total & half & 1)  # x.5 to the even neighbour: half, or the one above
    return even


def _sort_time(values: NDArray[np.generic]) -> None:
    """Sort (time, n) along time, in place."""
    spare = np.empty_like(values[0])
    for low, high in _network(len(values)):
        np.minimum(values[low], values[high], out=spare)
        np.maximum(values[low], values[high], out=values[high])
        values[low] = spare


@lru_cache(maxsize=256)
def _network(size: int) -> tuple[tuple[int, int], ...]:
    """Comparators of Batcher's odd-even merge sort for `size` values (Knuth, TAOCP vol. 3, 5.2.2, algorithm M)."""
    comparators = []
    top = 1 << max(size - 1, 0).bit_length() >> 1
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            comparators += [(i, i + d) for i in range(size - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return tuple(comparators)
