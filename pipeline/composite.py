"""One month's composite: the masked median of its observations, computed on integers.

Pure NumPy, and fast, because a country has 10^12 of these numbers: the middle of the observations is found with a
network of element-wise minimum and maximum, which runs over whole rows of pixels in SIMD registers, where ``np.sort``
along a short axis and ``np.nanmedian`` call a routine for every pixel. What is not clear becomes, in turn, the largest
and the smallest number, so that the middle of all is the middle of what is clear, in the same places for every pixel.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCL_SET_ASIDE = frozenset({0, 1, 3, 8, 9, 10})
"""Scene classes that are no clear view of the ground: no data, saturated or defective, cloud shadow, cloud of medium
and high probability, thin cirrus (Sentinel-2 Products Specification Document, "Scene Classification")."""

# Pixels at a time: the observations of one band then stay in the cache of a core.
_STRIP = 1 << 15


def clear_classes(set_aside: Collection[int]) -> NDArray[np.bool_]:
    """Which of the 256 scene classes are a clear view, bool (256,): a table to look classes up in."""
    clear = np.ones(256, bool)
    clear[list(set_aside)] = False
    return clear


def composite(
    dn: Sequence[NDArray[np.uint16]] | NDArray[np.uint16],
    scl: Sequence[NDArray[np.unsignedinteger[Any]]] | NDArray[np.unsignedinteger[Any]],
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
        Digital numbers (time, band, y, x), 0 = no data: one array, or one (band, y, x) for each scene.
    scl
        Scene classification (time, y, x), 0 to 255, likewise.
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
    times, (bands, height, width) = len(dn), _shape(dn)
    shapes = {one.shape for one in dn}, {one.shape for one in scl}
    fit = len(scl) == times and (not times or shapes == ({(bands, height, width)}, {(height, width)}))
    if not fit or multiply.shape != (times, bands) or add.shape != (times, bands):
        msg = f"dn {times} of {shapes[0]}, scl {len(scl)} of {shapes[1]}, multiply {multiply.shape}, add {add.shape}"
        raise ValueError(f"{msg} do not belong together")
    reflectance = np.zeros((bands, height, width), np.uint16)
    clear = np.zeros((height, width), np.uint8)
    numbers = list(range(times)) if passes is None else list(passes)
    if len(numbers) != times:
        msg = f"{len(numbers)} numbers of passes for {times} scenes"
        raise ValueError(msg)
    looks_clear = clear_classes(set_aside)
    step = max(1, _STRIP // max(width, 1))
    for first in range(0, height, step):
        rows = slice(first, first + step)
        seen = _seen([one[:, rows] for one in dn], [one[rows] for one in scl], looks_clear, numbers)
        if not seen.positions:
            continue
        clear[rows] = np.minimum(seen.count, 255)
        for band in range(bands):
            values = [dn[position][band, rows] for position in seen.positions]
            scaling = multiply[seen.positions, band], add[seen.positions, band]
            reflectance[band, rows] = _masked_median(values, seen, *scaling)
    return reflectance, clear


def _shape(dn: Sequence[NDArray[np.uint16]] | NDArray[np.uint16]) -> tuple[int, int, int]:
    """Bands, height and width; of an array they are known even without a scene."""
    bands, height, width = dn.shape[1:] if isinstance(dn, np.ndarray) else dn[0].shape if dn else (0, 0, 0)
    return bands, height, width


@dataclass(frozen=True)
class _Seen:
    """What is clear in a strip of pixels (y, x).

    Attributes
    ----------
    positions
        Scenes that show some of its pixels clearly, the n that matter.
    keep
        n arrays (y, x): 65535 where the scene shows the pixel clearly, else 0.
    fill
        n arrays (y, x): 65535 where the first, third, ... scene is masked in that pixel, else 0; so that of k masked
        observations k // 2 become the smallest number, and as many, or one more, the largest.
    odd
        Where k is odd.
    count
        n - k, uint16.
    """

    positions: list[int]
    keep: list[NDArray[np.uint16]]
    fill: list[NDArray[np.uint16]]
    odd: NDArray[np.bool_]
    count: NDArray[np.uint16]


def _seen(
    dn: Sequence[NDArray[np.uint16]],
    scl: Sequence[NDArray[np.unsignedinteger[Any]]],
    looks_clear: NDArray[np.bool_],
    passes: Sequence[int],
) -> _Seen:
    positions: list[int] = []
    keep: list[NDArray[np.uint16]] = []
    shown: dict[int, NDArray[np.bool_]] = {}  # by a pass so far
    for position, (bands, classes) in enumerate(zip(dn, scl, strict=True)):
        clear = looks_clear[classes]
        if not clear.any():
            continue
        for band in bands:
            clear &= band > 0
        number = passes[position]
        before = shown.get(number)
        if before is None:
            shown[number] = clear.copy() if passes.count(number) > 1 else clear
        else:
            clear &= ~before
            before |= clear
        if clear.any():
            positions.append(position)
            keep.append(clear * np.uint16(65535))
    shape = scl[0].shape if len(scl) else (0, 0)
    odd, count = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
    fill = []
    for clear16 in keep:
        masked = ~clear16
        fill.append(masked & ~odd)
        odd ^= masked
        count += clear16 & 1
    return _Seen(positions, keep, fill, odd > 0, count)


def _masked_median(
    dn: Sequence[NDArray[np.uint16]], seen: _Seen, multiply: NDArray[np.float64], add: NDArray[np.float64]
) -> NDArray[Any]:
    """Median over the scenes, each (y, x), rounded half to even and kept within 1..65535; 0 where nothing is clear."""
    if not (multiply == 1).all() or (add != np.rint(add)).any() or (np.abs(add) >= 2**29).any():
        observed = [values * m + a for values, m, a in zip(dn, multiply, add, strict=True)]
        low, high = _middle(_masked(observed, seen, 1e300), seen.odd)
        mean: NDArray[Any] = np.clip(np.rint((low + high) / 2), 1, 65535)
        return mean * (seen.count > 0)
    shift, more = int(add.min()), (add - add.min()).astype(int).tolist()
    if abs(shift) < 2**15 and all(not a or int(one.max()) + a < 2**16 for one, a in zip(dn, more, strict=True)):
        # The common case: 16 bits each hold what the numbers are above the smallest offset. The largest may equal a
        # real 65535, which does no harm: equal values are interchangeable.
        values = [one + np.uint16(a) if a else one for one, a in zip(dn, more, strict=True)]
        values = [(one & keep) | fill for one, keep, fill in zip(values, seen.keep, seen.fill, strict=True)]
        return _mean_of_integers(*_middle(values, seen.odd), shift) * (seen.count > 0)
    whole = [values + np.int32(a) for values, a in zip(dn, add, strict=True)]
    low, high = _middle(_masked(whole, seen, 2**30 - 1), seen.odd)
    total = low + high
    half = total >> 1
    even: NDArray[Any] = np.clip(half + (total & half & 1), 1, 65535)
    return even * (seen.count > 0)


def _masked(values: Sequence[NDArray[Any]], seen: _Seen, largest: float) -> list[NDArray[Any]]:
    """Put the largest number, or the smallest, in place of what is not clear."""
    result = []
    for one, keep, fill in zip(values, seen.keep, seen.fill, strict=True):
        limit = one.dtype.type(largest)
        result.append(np.where(keep > 0, one, np.where(fill > 0, limit, -limit)))
    return result


def _middle(values: list[NDArray[Any]], odd: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Find the two middle values of the clear ones among n; equal where their number is odd. Works on its input.

    With k masked, k // 2 of them smallest and the rest largest, the middle of the clear ones is the middle of all
    where k is even; where it is odd, the middle is one place, or half a place, further down.
    """
    size = len(values)
    low, high = (size - 1) // 2, size // 2
    below = max(high - 1, 0)
    spare = np.empty_like(values[0])
    for one, other, smaller, larger in _network(size):
        a, b = values[one], values[other]
        if smaller and larger:
            np.minimum(a, b, out=spare)
            np.maximum(a, b, out=b)
            values[one], spare = spare, a
        elif smaller:
            np.minimum(a, b, out=a)
        else:
            np.maximum(a, b, out=b)
    if low == high:
        return np.where(odd, values[below], values[low]), values[high]
    return values[low], np.where(odd, values[low], values[high])


def _mean_of_integers(low: NDArray[np.uint16], high: NDArray[np.uint16], shift: int) -> NDArray[np.uint16]:
    """Mean plus a shift of less than 2**15 either way, rounded half to even, kept within 1..65535: all in 16 bits."""
    differ = low ^ high
    mean = (low & high) + (differ >> 1)  # rounded down
    mean += differ & (mean + shift % 2) & 1  # x.5 to the even neighbour: this one, or the one above
    if shift < 0:
        return np.maximum(mean, 1 - shift) + np.uint16(65536 + shift)
    return np.minimum(mean, 65535 - shift) + np.uint16(shift)


@lru_cache(maxsize=256)
def _network(size: int) -> tuple[tuple[int, int, bool, bool], ...]:
    """Comparators that put the middle of `size` values in its places, and which of their two outcomes is used.

    Batcher's odd-even merge sort (Knuth, TAOCP vol. 3, 5.2.2, algorithm M), without what only sorts the rest: the
    places around the middle, (size - 1) // 2 and size // 2, and for an odd size the one below.
    """
    needed = {(size - 1) // 2, size // 2, max(size // 2 - 1, 0)}
    used: list[tuple[int, int, bool, bool]] = []
    for low, high in reversed(_sorting_network(size)):
        if low in needed or high in needed:
            used.append((low, high, low in needed, high in needed))
            needed |= {low, high}
    return tuple(reversed(used))


def _sorting_network(size: int) -> list[tuple[int, int]]:
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
    return comparators
