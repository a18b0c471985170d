"""How well classes were told: accuracies, F1, calibration, and how sure these numbers are. NumPy only.

Classes are numbered 0..k-1. A confusion matrix has the truth along its rows and the prediction along its columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer]
Floats = NDArray[np.float64]


def confusion_matrix(truth: Integers, predicted: Integers, classes: int) -> NDArray[np.int64]:
    """Count of every pair of true and predicted class.

    Parameters
    ----------
    truth, predicted
        (n,) integers 0..classes-1.
    classes
        Number of classes k.

    Returns
    -------
    numpy.ndarray
        int64 (k, k), rows = truth, columns = prediction.
    """
    pairs = truth.astype(np.int64) * classes + predicted
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def top_k_hits(scores: NDArray[np.floating], truth: Integers, k: int) -> NDArray[np.bool_]:
    """Whether the true class is among the k best-scored ones.

    Of equal scores the class of the lower number comes first, as in argmax, so that k = 1 is exactly the argmax.

    Parameters
    ----------
    scores
        (n, classes), higher is better.
    truth
        (n,) integers.

    Returns
    -------
    numpy.ndarray
        bool (n,).
    """
    own = np.take_along_axis(scores, truth[:, None].astype(np.int64), axis=1)  # (n, 1)
    before = np.arange(scores.shape[1])[None] < truth[:, None]
    ahead = (scores > own) | ((scores == own) & before)
    return cast("NDArray[np.bool_]", ahead.sum(axis=1) < k)


def overall_accuracy(confusion: NDArray[np.number]) -> float:
    """Share of the rows whose class was told (top-1 accuracy); nan without rows."""
    return float(_ratio(np.trace(confusion), confusion.sum()))


def class_accuracies(confusion: NDArray[np.number]) -> Floats:
    """Share told of each true class (recall, producer's accuracy): (k,), nan for a class without rows."""
    return _ratio(np.diagonal(confusion), confusion.sum(axis=1))


def class_precisions(confusion: NDArray[np.number]) -> Floats:
    """Share of each predicted class that is right (user's accuracy): (k,), nan for a class never predicted."""
    return _ratio(np.diagonal(confusion), confusion.sum(axis=0))


def class_f1(confusion: NDArray[np.number]) -> Floats:
    """F1 of each class: (k,), nan for a class neither there nor predicted."""
    return _ratio(2 * np.diagonal(confusion), confusion.sum(axis=1) + confusion.sum(axis=0))


def mean_class_accuracy(confusion: NDArray[np.number]) -> float:
    """Mean of the class accuracies over the classes that have rows (balanced accuracy); nan without rows."""
    return _mean(class_accuracies(confusion))


def macro_f1(confusion: NDArray[np.number]) -> float:
    """Mean F1 over the classes that are there or were predicted; nan without rows."""
    return _mean(class_f1(confusion))


def _ratio(part: NDArray[np.number], whole: NDArray[np.number]) -> Floats:
    empty = np.full(np.shape(whole), np.nan)
    return cast("Floats", np.divide(part, whole, out=empty, where=np.asarray(whole) > 0))


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


@dataclass(frozen=True)
class Calibration:
    """A reliability diagram and its expected calibration error.

    Attributes
    ----------
    error
        Expected calibration error: mean distance of confidence and accuracy, bins weighted by their rows.
    edges
        (bins + 1,) edges of the bins of confidence; a bin holds its upper edge, the first one 0 as well.
    rows
        (bins,) number of rows.
    confidence, accuracy
        (bins,) mean confidence and share told; nan in empty bins.
    """

    error: float
    edges: Floats
    rows: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats


def calibration(probability: NDArray[np.floating], correct: NDArray[np.bool_], *, bins: int = 15) -> Calibration:
    """Compare confidence with accuracy (Guo et al. 2017, "On Calibration of Modern Neural Networks", ICML, eq. 3).

    Parameters
    ----------
    probability
        (n,) probability of the predicted class, 0-1.
    correct
        (n,) whether the prediction is right.
    bins
        Number of equally wide bins of confidence.
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    values = probability.astype(np.float64)
    index = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, bins - 1)
    rows = np.bincount(index, minlength=bins)
    confidence = _ratio(np.bincount(index, weights=values, minlength=bins), rows)
    accuracy = _ratio(np.bincount(index, weights=correct.astype(np.float64), minlength=bins), rows)
    gaps = np.nan_to_num(np.abs(accuracy - confidence))
    error = float((gaps * rows).sum() / rows.sum()) if rows.sum() else float("nan")
    return Calibration(error, edges, rows, confidence, accuracy)


def weighted_confusion(truth: Integers, predicted: Integers, classes: int, weights: Floats) -> Floats:
    """Confusion matrix of rows counted `weights` times each: float64 (k, k)."""
    pairs = truth.astype(np.int64) * classes + predicted
    counts = np.bincount(pairs, weights=weights, minlength=classes * classes)
    return counts.astype(np.float64).reshape(classes, classes)


def bootstrap_intervals(
    measure: Callable[[Floats], Sequence[float]],
    groups: Integers,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Floats:
    """Percentile bootstrap intervals of some measures, drawing whole groups (Efron and Tibshirani 1993, chapter 13).

    Rows of one place resemble each other; drawing places rather than rows keeps the interval from looking surer
    than it is. Give every row a group of its own for the plain bootstrap.

    Parameters
    ----------
    measure
        From weights (n,), how often each row was drawn, to m numbers; nan (nothing to measure) is left out.
    groups
        (n,) integer group of each row.
    draws, level, seed
        Number of draws, coverage of the intervals, seed of the draws.

    Returns
    -------
    numpy.ndarray
        float64 (m, 2): lower and upper end of each measure; nan where no draw could be measured.
    """
    names, inverse = np.unique(groups, return_inverse=True)
    generator = np.random.default_rng(seed)
    measured = []
    for _ in range(draws):
        counts = np.bincount(generator.integers(len(names), size=len(names)), minlength=len(names))
        measured.append(measure(counts[inverse].astype(np.float64)))
    ends = [(1 - level) / 2, (1 + level) / 2]
    columns = [column[~np.isnan(column)] for column in np.array(measured, np.float64).T]
    return np.array([np.quantile(c, ends) if c.size else [np.nan, np.nan] for c in columns])


@dataclass(frozen=True)
class RiskCoverage:
    """What is kept, and how good it is, where only confident predictions count.

    Attributes
    ----------
    thresholds
        (t,) least confidence of what is kept, 0-1.
    coverage
        (t,) share of the rows kept; nan without rows.
    accuracy
        (t,) share of the kept rows that is right (1 - selective risk); nan where none is kept.
    """

    thresholds: Floats
    coverage: Floats
    accuracy: Floats


def risk_coverage(
    probability: NDArray[np.floating], correct: NDArray[np.bool_], thresholds: Sequence[float] = (0.3, 0.5, 0.7, 0.9)
) -> RiskCoverage:
    """Trade coverage for accuracy: keep the rows whose confidence is at least a threshold.

    Selective classification by the confidence of the prediction (Geifman and El-Yaniv 2017, "Selective
    Classification for Deep Neural Networks", NeurIPS, section 2). A row exactly at a threshold is kept, as
    ``make-map --unknown-below`` keeps a pixel; a row whose confidence is nan is never kept.

    Parameters
    ----------
    probability
        (n,) calibrated probability of the predicted class, 0-1.
    correct
        (n,) whether the prediction is right.
    thresholds
        Confidences to cut at.
    """
    cuts = np.asarray(thresholds, np.float64)
    kept = probability.astype(np.float64)[None] >= cuts[:, None]  # (t, n)
    rows = kept.sum(axis=1)
    coverage = _ratio(rows, np.full(len(cuts), kept.shape[1]))
    return RiskCoverage(cuts, coverage, _ratio((kept & correct).sum(axis=1), rows))
