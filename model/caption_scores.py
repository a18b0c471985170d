"""What is measured of the answers to a question of captions, and a forest's answers beside it.

Macro F1 is the mean over the classes present, that is, those with samples; once more over those with at least
``FREQUENT``, as the F1 of a class with one sample is a coin thrown once.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from timesenmap.model import metrics
from timesenmap.model.evaluation import Interval

Ints = npt.NDArray[np.int64]

FREQUENT: Final = 5
"""Samples a class needs to count among the frequent ones."""


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scores(_Report):
    """Accuracy of one way to tell the classes; 95 % intervals."""

    accuracy: Interval
    macro_f1: Interval = Field(description="mean F1 over the classes present")
    macro_f1_frequent: Interval = Field(description=f"over those with at least {FREQUENT} samples")


class ClassScores(_Report):
    """How one class was told; null where the class was never given, or no forest was grown."""

    name: str
    rows: int
    predicted: int
    recall: float
    precision: float | None
    f1: float
    forest_recall: float | None = None
    forest_precision: float | None = None
    forest_f1: float | None = None


class ReliabilityBin(_Report):
    """Series whose confidence fell into one interval."""

    low: float
    high: float
    rows: int
    confidence: float | None = Field(description="mean; null in an empty bin")
    accuracy: float | None


class Reliability(_Report):
    """A reliability diagram: confidence beside accuracy, in bins of equal width."""

    error: float = Field(description="expected calibration error")
    bins: tuple[ReliabilityBin, ...]


class Kept(_Report):
    """What is kept, and how good it is, where only answers of at least some confidence count."""

    confidence: float
    coverage: float = Field(description="share of the rows kept")
    accuracy: float | None = Field(description="share of the kept rows that is right")


class SourceScores(_Report):
    """The rows of one source, asked with the options of the whole question."""

    name: str
    rows: int
    classes: int = Field(description="classes present")
    scores: Scores
    forest: Scores | None
    calibration_error: float


class QuestionReport(_Report):
    """What an encoder made of one question."""

    name: str
    rows: int
    options: int
    classes_present: int
    classes_frequent: int
    resampled: str = Field(description="what the intervals draw")
    scores: Scores
    forest: Scores | None
    difference: Interval | None = Field(description="macro F1 of the encoder less the forest's, on the same draws")
    reliability: Reliability
    kept: tuple[Kept, ...]
    classes: tuple[ClassScores, ...] = Field(description="classes present, the largest first")
    sources: tuple[SourceScores, ...]


def compare(
    truth: Ints, predicted: Ints, forest: Ints | None, options: int, groups: Ints
) -> tuple[Scores, Scores | None, Interval | None]:
    """Scores of the answers and of the forest, with the difference of their macro F1, on the same draws of groups."""
    told = [predicted] if forest is None else [predicted, forest]
    frequent = np.bincount(truth, minlength=options) >= FREQUENT

    def measured(weights: npt.NDArray[np.float64]) -> list[float]:
        values = []
        for one in told:
            confusion = metrics.weighted_confusion(truth, one, options, weights)
            values += [metrics.overall_accuracy(confusion), present_f1(confusion), present_f1(confusion, frequent)]
        return [*values, values[1] - values[4]] if forest is not None else values

    values = measured(np.ones(len(truth)))
    ends = metrics.bootstrap_intervals(measured, groups)
    intervals = [_interval(value, low, high) for value, (low, high) in zip(values, ends, strict=True)]
    own = Scores(accuracy=intervals[0], macro_f1=intervals[1], macro_f1_frequent=intervals[2])
    if forest is None:
        return own, None, None
    reference = Scores(accuracy=intervals[3], macro_f1=intervals[4], macro_f1_frequent=intervals[5])
    return own, reference, intervals[6]


def present_f1(confusion: npt.NDArray[np.number], among: npt.NDArray[np.bool_] | None = None) -> float:
    """Mean F1 over the classes that have rows in a confusion matrix (k, k), and are in ``among`` (k,); nan if none."""
    present = confusion.sum(axis=1) > 0
    if among is not None:
        present &= among
    return float(metrics.class_f1(confusion)[present].mean()) if present.any() else float("nan")


def class_scores(
    names: Sequence[str], truth: Ints, predicted: Ints, forest: Ints | None = None
) -> tuple[ClassScores, ...]:
    """Scores of every class present, the largest first."""
    own = _per_class(metrics.confusion_matrix(truth, predicted, len(names)))
    reference = None if forest is None else _per_class(metrics.confusion_matrix(truth, forest, len(names)))
    counts, given = (np.bincount(one, minlength=len(names)) for one in (truth, predicted))
    found = []
    for i in sorted(np.flatnonzero(counts).tolist(), key=lambda i: (-counts[i], names[i])):
        told = {} if reference is None else dict(zip(_FOREST, reference[i], strict=True))
        recall, precision, f1 = own[i]
        assert recall is not None and f1 is not None  # the class has rows  # noqa: PT018
        found.append(
            ClassScores(
                name=names[i],
                rows=int(counts[i]),
                predicted=int(given[i]),
                recall=recall,
                precision=precision,
                f1=f1,
                **told,
            )
        )
    return tuple(found)


_FOREST: Final = ("forest_recall", "forest_precision", "forest_f1")


def _per_class(confusion: npt.NDArray[np.int64]) -> list[tuple[float | None, ...]]:
    measures = (metrics.class_accuracies(confusion), metrics.class_precisions(confusion), metrics.class_f1(confusion))
    return [tuple(None if np.isnan(v) else float(v) for v in values) for values in zip(*measures, strict=True)]


def reliability(confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_]) -> Reliability:
    """Reliability diagram of answers, 15 bins."""
    found = metrics.calibration(confidence, correct)
    bins = tuple(
        ReliabilityBin(
            low=float(low), high=float(high), rows=int(rows),
            confidence=None if not rows else float(sure), accuracy=None if not rows else float(right),
        )
        for low, high, rows, sure, right in zip(
            found.edges[:-1], found.edges[1:], found.rows, found.confidence, found.accuracy, strict=True
        )
    )  # fmt: skip
    return Reliability(error=found.error, bins=bins)


def kept_where_sure(confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_]) -> tuple[Kept, ...]:
    """Coverage and accuracy for some least confidences."""
    found = metrics.risk_coverage(confidence, correct)
    return tuple(
        Kept(confidence=float(least), coverage=float(share), accuracy=None if np.isnan(right) else float(right))
        for least, share, right in zip(found.thresholds, found.coverage, found.accuracy, strict=True)
    )


def _interval(value: float, low: float, high: float) -> Interval:
    numbers = (None if np.isnan(number) else float(number) for number in (value, low, high))
    return Interval(**dict(zip(("value", "low", "high"), numbers, strict=True)))
