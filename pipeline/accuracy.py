"""Accuracies and areas from a sample of pixels whose class is known, with their standard errors. NumPy only.

One set of estimators serves every design. Strata that are the map classes give the numbers of Olofsson et al. 2014
("Good practices for estimating area and assessing accuracy of land change", Remote Sensing of Environment 148:42-57,
equations 1-11); strata that are not, those of Stehman 2014 ("Estimating area and map accuracy for stratified random
sampling when the strata are different from the map classes", International Journal of Remote Sensing 35:4923-4939); a
simple random sample is a single stratum. Each number is a mean, or a ratio of two means, of 0-1 variables, so that its
variance follows from their products within the strata (Stehman 2014, equations 25 and 28).

Counts have the axes (stratum, map class, reference class); map classes and reference classes are the same k classes in
the same order.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import cast

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.integer]


@dataclass(frozen=True)
class Estimate:
    """Numbers and their standard errors, of one shape; nan where there is nothing to estimate from."""

    value: Floats
    standard_error: Floats


@dataclass(frozen=True)
class Estimates:
    """What a sample says of a map and of the land under it.

    Attributes
    ----------
    matrix
        (k, k) error matrix in proportions of the area: rows map, columns reference; it sums to 1.
    overall
        () share of the area whose class is right.
    users, producers, f1
        (k,) of each class; nan for a class that no sampled pixel was mapped as (users), or is (producers).
    area
        (k,) share of the area that is each class, whatever the map says.
    """

    matrix: Floats
    overall: Estimate
    users: Estimate
    producers: Estimate
    f1: Estimate
    area: Estimate


def stratified_estimates(counts: Counts, sizes: Floats | Counts, *, finite_population: bool = True) -> Estimates:
    """Estimate accuracies and areas from a stratified random sample.

    Parameters
    ----------
    counts
        (h, k, k) sampled pixels by stratum, map class and reference class.
    sizes
        (h,) pixels of each stratum, sampled or not; their unit matters for the finite population correction alone.
    finite_population
        Whether variances shrink with the share of a stratum that was sampled (factor 1 - n/N: Stehman 2014, equations
        25 and 28). Olofsson et al. 2014 leave it out, which changes nothing that is seen where maps are large.

    Raises
    ------
    ValueError
        A stratum with fewer than two pixels sampled that is not sampled wholly: it has no variance.
    """
    sampled = counts.sum(axis=(1, 2))
    population = np.asarray(sizes, np.float64)
    share: Floats = population / population.sum()
    whole = sampled >= population
    if np.any((sampled < 2) & ~whole) or np.any(sampled == 0):
        raise ValueError(f"strata with {sampled.tolist()} pixels sampled of {population.tolist()}: two are needed")
    # Var(mean) of a 0-1 variable in a stratum is (mean of its square - square of its mean) / (n - 1).
    spread: Floats = 1.0 / np.maximum(sampled - 1, 1).astype(np.float64)
    if finite_population:
        spread = spread * np.where(whole, 0.0, 1.0 - sampled / population)
    weight: Floats = share**2 * spread  # (h,)

    means: Floats = counts.astype(np.float64) / sampled[:, None, None]  # (h, k, k)
    right = np.diagonal(means, axis1=1, axis2=2)  # (h, k)
    mapped, found = means.sum(axis=2), means.sum(axis=1)  # (h, k)
    all_right = right.sum(axis=1)  # (h,)
    return Estimates(
        matrix=np.einsum("h,hij->ij", share, means),
        overall=Estimate(share @ all_right, np.sqrt(weight @ (all_right * (1 - all_right)))),
        users=_ratio(share, weight, right, mapped, squares=(right, mapped, right)),
        producers=_ratio(share, weight, right, found, squares=(right, found, right)),
        # F1 = 2 right / (mapped + found) is a ratio, too: of variables that are 0 or 2, and 0, 1 or 2.
        f1=_ratio(share, weight, 2 * right, mapped + found, squares=(4 * right, mapped + found + 2 * right, 4 * right)),
        area=Estimate(share @ found, np.sqrt(weight @ (found * (1 - found)))),
    )


def _ratio(share: Floats, weight: Floats, y: Floats, x: Floats, *, squares: tuple[Floats, Floats, Floats]) -> Estimate:
    """Ratio of two means (k,) from the strata's means (h, k) of y and x, and of yy, xx and xy (``squares``)."""
    yy, xx, xy = squares
    whole = share @ x
    value = _divided(share @ y, whole)
    residual = (yy - y**2) + value**2 * (xx - x**2) - 2 * value * (xy - y * x)
    variance: Floats = weight @ residual
    return Estimate(value, _divided(np.sqrt(np.maximum(variance, 0.0)), whole))


def census(counts: Counts | Floats) -> Estimates:
    """Accuracies of pixels that are all known: the same numbers without standard errors (nan).

    Parameters
    ----------
    counts
        (k, k) pixels, or any sample that stands for itself alone: rows map, columns reference.
    """
    matrix = counts / counts.sum()
    right, mapped, found = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    return Estimates(
        matrix=matrix,
        overall=_exact(np.asarray(right.sum())),
        users=_exact(_divided(right, mapped)),
        producers=_exact(_divided(right, found)),
        f1=_exact(_divided(2 * right, mapped + found)),
        area=_exact(found),
    )


def normal_quantile(confidence: float) -> float:
    """Half width of a confidence interval in standard errors: 1.96 for 0.95."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def _exact(value: Floats) -> Estimate:
    return Estimate(value, np.full(np.shape(value), np.nan))


def _divided(part: Floats, whole: Floats) -> Floats:
    return cast("Floats", np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0))
