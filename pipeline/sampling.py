"""How many pixels of each class to look at, and which: designs of stratified random samples."""

from collections.abc import Iterable, Mapping
from math import ceil

import numpy as np
from numpy.typing import NDArray

from timesenmap.pipeline.accuracy import Floats
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.map_file import ClassMap
from timesenmap.pipeline.map_pixels import centres, count_pixels, equal_pixel_hectares, is_unknown, row_blocks
from timesenmap.pipeline.reference import match_labels
from timesenmap.pipeline.sample_files import DesignStratum, SampleDesign

ALLOCATIONS = ("equal", "proportional", "optimal")


def stratified_sample(
    class_map: ClassMap,
    *,
    count: int | None = None,
    target_error: float | None = None,
    allocation: str = "proportional",
    least: int = 10,
    accuracies: float | Mapping[str, float] | None = None,
    seed: int = 0,
    without_unknown: bool = False,
) -> tuple[NDArray[np.float64], SampleDesign]:
    """Draw a stratified random sample of a map's pixels; the strata are its classes.

    Parameters
    ----------
    class_map
        The map: read twice, some rows at a time.
    count, target_error
        Pixels in all; or the standard error of the overall accuracy to reach (see ``sample_size``).
    allocation, least
        See ``allocate``.
    accuracies
        User's accuracy expected, of all classes or by class name, 0-1: for ``target_error`` and ``optimal``.
    seed
        Of the draw: the same map and seed give the same sample.
    without_unknown
        Whether pixels that the map leaves unknown are no part of what is sampled.

    Returns
    -------
    tuple
        Middles (n, 2) of the pixels in the map's CRS, in random order, and how they were drawn.

    Raises
    ------
    MapError
        A map whose pixels differ in area, or a sample that cannot be had from it.
    """
    hectares = equal_pixel_hectares(class_map)
    totals = {c: n for c, n in count_pixels(class_map).items() if not (without_unknown and is_unknown(c))}
    codes = sorted(totals)
    if not codes:
        raise MapError(f"map {class_map.path}: every pixel is unknown")
    sizes = np.array([totals[code] for code in codes], np.int64)
    expected = _expected(class_map, codes, accuracies)
    if expected is None and (target_error is not None or allocation == "optimal"):
        raise MapError(
            "--target-se and --allocation optimal need --expected-accuracy, a number for all classes or a YAML of each"
        )
    if (count is None) == (target_error is None):
        raise MapError("give --count N, or --target-se for the number of pixels that this standard error needs")
    if target_error is not None:
        assert expected is not None
        needed = sample_size(target_error, sizes.astype(np.float64), expected)
        count = int(min(max(needed, np.minimum(least, sizes).sum()), sizes.sum()))
    assert count is not None
    divided = allocate(count, sizes, method=allocation, least=least, accuracies=expected)
    pixels = draw(
        row_blocks(class_map), totals, {c: int(n) for c, n in zip(codes, divided, strict=True)}, seed
    )  # (n, 3) row, column, code
    strata = tuple(
        DesignStratum(code=code, name=class_map.names[code], pixels=totals[code], points=int(n))
        for code, n in zip(codes, divided, strict=True)
    )
    design = SampleDesign(
        map=class_map.path.name,
        seed=seed,
        allocation=allocation,
        pixel_hectares=hectares,
        strata=strata,
        stratum_of=tuple(pixels[:, 2].tolist()),
    )
    return centres(class_map, pixels[:, 0], pixels[:, 1]), design


def _expected(class_map: ClassMap, codes: list[int], accuracies: float | Mapping[str, float] | None) -> Floats | None:
    """Accuracy expected of each class (h,); MapError where one is missing or no share."""
    if accuracies is None:
        return None
    if isinstance(accuracies, Mapping):
        match = match_labels(accuracies, {code: class_map.names[code] for code in codes}, None, "--expected-accuracy")
        by_code = {match[name]: value for name, value in accuracies.items()}
        if missing := [class_map.names[code] for code in codes if code not in by_code]:
            raise MapError(f"--expected-accuracy: has no accuracy of class '{missing[0]}'; add it, 0 to 1")
        expected = np.array([by_code[code] for code in codes], np.float64)
    else:
        expected = np.full(len(codes), float(accuracies))
    if not np.all((expected >= 0) & (expected <= 1)):
        raise MapError(f"--expected-accuracy: {expected.tolist()} must lie between 0 and 1")
    return expected


def sample_size(target_error: float, sizes: Floats, accuracies: Floats) -> int:
    """Pixels to sample for a standard error of the overall accuracy.

    Olofsson et al. 2014, equation 13 (Cochran 1977, equation 5.25, for strata large beside the sample), with the
    pixels allocated in proportion to the strata's sizes.

    Parameters
    ----------
    target_error
        Standard error of the overall accuracy that is asked for, 0-1.
    sizes, accuracies
        (h,) size of each stratum in any unit, and the user's accuracy expected there, 0-1.
    """
    deviation = np.sqrt(accuracies * (1 - accuracies))
    return ceil(float(sizes @ deviation / sizes.sum() / target_error) ** 2)


def allocate(
    count: int, sizes: NDArray[np.int64], *, method: str, least: int, accuracies: Floats | None = None
) -> NDArray[np.int64]:
    """Divide a sample among strata.

    Parameters
    ----------
    count
        Pixels in all.
    sizes
        (h,) pixels of each stratum: none gets more.
    method
        ``equal``; ``proportional`` to the sizes; ``optimal``: in proportion to size times the standard deviation
        of being right (Neyman's allocation, Cochran 1977, section 5.5).
    least
        Each stratum gets so many at least, or all its pixels.
    accuracies
        (h,) user's accuracy expected in each stratum, 0-1; for ``optimal``.

    Returns
    -------
    numpy.ndarray
        int64 (h,) that sums to ``count``.

    Raises
    ------
    MapError
        Fewer pixels than the least for all strata, or more than there are.
    """
    floor = np.minimum(least, sizes)
    if not floor.sum() <= count <= sizes.sum():
        raise MapError(
            f"{count} pixels cannot be divided among {len(sizes)} classes with {int(sizes.sum())} pixels and at least "
            f"{least} of each (or all): ask for {floor.sum()} to {sizes.sum()}, or change --least"
        )
    wanted: Floats = np.ones(len(sizes)) if method == "equal" else sizes.astype(np.float64)
    if method == "optimal":
        assert accuracies is not None, "Neyman's allocation needs the accuracies expected"
        deviation = np.sqrt(accuracies * (1 - accuracies))
        if deviation.any():  # else every class is expected to be wholly right, or wholly wrong
            wanted = wanted * deviation
    exact = _within(wanted, floor, sizes, count)
    whole = np.floor(exact + 1e-9).astype(np.int64)
    rest = np.where(whole < sizes, exact - whole, -1.0)
    whole[np.argsort(-rest, kind="stable")[: count - whole.sum()]] += 1
    return whole


def _within(wanted: Floats, floor: NDArray[np.int64], ceiling: NDArray[np.int64], count: int) -> Floats:
    """Multiple of ``wanted``, kept within its bounds, that sums to ``count``; by bisection, as the sum only grows."""
    low, high = 0.0, float(count) / wanted[wanted > 0].min()
    for _ in range(200):
        middle = (low + high) / 2
        if np.clip(middle * wanted, floor, ceiling).sum() < count:
            low = middle
        else:
            high = middle
    exact = np.clip(high * wanted, floor, ceiling)
    missing = count - exact.sum()
    if missing > 0.5:  # strata that nobody wants anything of (weight 0) take what the others cannot
        exact = exact + missing * (ceiling - exact) / (ceiling - exact).sum()
    return np.asarray(exact, np.float64)


def draw(
    blocks: Iterable[tuple[int, NDArray[np.uint8]]],
    sizes: Mapping[int, int],
    counts: Mapping[int, int],
    seed: int,
) -> NDArray[np.int64]:
    """Draw pixels of each class at random, without replacement, in one pass over the map.

    Which pixels of a class are drawn is decided beforehand, by their rank in the order of rows: so the sample depends
    on the map and the seed, not on the blocks.

    Parameters
    ----------
    blocks
        First row, and uint8 (y, x) codes of whole rows, from the first row to the last.
    sizes, counts
        Code -> pixels in the map, pixels to draw.
    seed
        Of the draw, and of the order.

    Returns
    -------
    numpy.ndarray
        int64 (n, 3): row, column and code, in random order.
    """
    ranks = {
        code: np.sort(np.random.default_rng([seed, code]).choice(sizes[code], count, replace=False))
        for code, count in counts.items()
    }
    seen = dict.fromkeys(counts, 0)
    drawn = []
    for first_row, block in blocks:
        flat = block.ravel()
        present = np.flatnonzero(np.bincount(flat, minlength=256))
        for code in (int(c) for c in present if int(c) in ranks):
            places = np.flatnonzero(flat == code)
            start, end = np.searchsorted(ranks[code], [seen[code], seen[code] + len(places)])
            chosen = places[ranks[code][start:end] - seen[code]]
            rows, columns = np.divmod(chosen, block.shape[1])
            drawn.append(np.column_stack([rows + first_row, columns, np.full(len(chosen), code)]))
            seen[code] += len(places)
    pixels = np.concatenate(drawn).astype(np.int64)
    pixels = pixels[np.lexsort((pixels[:, 1], pixels[:, 0]))]  # not in the order of blocks before it is shuffled
    return np.asarray(np.random.default_rng(seed).permutation(pixels, axis=0), np.int64)
