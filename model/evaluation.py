"""Zero-shot evaluation of an encoder on labelled series (as in Jain et al. 2026, ISPRS J. 236:99-119)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from timesenmap.model import metrics
from timesenmap.model.errors import ModelError
from timesenmap.model.prompts import Family, PromptSet
from timesenmap.model.series import SeriesTable, spatial_cells, without_damage
from timesenmap.model.zero_shot import Composites, hub_corrected, match_labels, probabilities

if TYPE_CHECKING:
    from timesenmap.model.encoder import Encoder

# Fewer places than this make an interval of their own chance; rows are drawn instead, and the report says so.
FEWEST_CELLS = 10


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Report):
    """A number with its 95 % bootstrap interval, 0-1."""

    value: float | None = Field(description="the measure; null where there is nothing to measure")
    low: float | None = Field(description="lower end")
    high: float | None = Field(description="upper end")


class ClassReport(_Report):
    """How one class was told; null where the class has no rows or was never predicted."""

    code: int
    name: str
    rows: int = Field(description="rows that are this class")
    predicted: int = Field(description="rows that were given this class")
    accuracy: float | None = Field(description="share of its rows that were told (recall, producer's accuracy)")
    precision: float | None = Field(description="share of the rows given this class that are it (user's accuracy)")
    f1: float | None


class ZeroShotReport(_Report):
    """Zero-shot accuracy of one encoder, prompt set, prompt family and kind of composite on one table."""

    data: str = Field(description="file of the series")
    labels: str = Field(description="its column of class names")
    prompts: str
    prompts_sha256: str
    family: Family
    encoder: str
    encoder_sha256: str
    composites: Composites
    hub_correction: bool = Field(description="scores divided by the means kept with the prompt set")
    rows: int = Field(description="rows evaluated")
    rows_unobserved: int = Field(description="rows of a class of the set without any observation, left out")
    rows_left_out: int = Field(description="rows whose value is no class of the set")
    left_out: dict[str, int] = Field(description="those values with their rows; '' is an empty cell")
    top1: float
    top5: float
    mean_class_accuracy: float = Field(description="over the classes that have rows")
    macro_f1: float = Field(description="over the classes that have rows or were predicted")
    expected_calibration_error: float = Field(description="15 bins of the winning class's probability")
    chance: float = Field(description="one over the number of classes")
    majority: float = Field(description="share of the largest class")
    intervals: dict[str, Interval] = Field(description="95 % bootstrap intervals")
    resampled: str = Field(description="what the intervals draw")
    classes: tuple[ClassReport, ...]
    confusion_matrix: tuple[tuple[int, ...], ...] = Field(description="rows truth, columns prediction, in class order")


@dataclass(frozen=True)
class LabelledSeries:
    """The rows of a table whose label is a class of a prompt set.

    Attributes
    ----------
    reflectance
        float32 (n, 12, 10), 0-1, NaN = missing; damaged values set aside.
    truth
        int64 (n,): number of the class in the set.
    groups
        int64 (n,): what the bootstrap draws.
    resampled
        What that is, in words.
    others
        Values that are no class of the set, with their rows.
    unobserved
        Rows left out because they hold no observation at all.
    """

    reflectance: NDArray[np.float32]
    truth: NDArray[np.int64]
    groups: NDArray[np.int64]
    resampled: str
    others: dict[str, int]
    unobserved: int


def labelled_series(table: SeriesTable, prompt_set: PromptSet, *, labels: str) -> LabelledSeries:
    """Take the rows whose label is a class of the set; the rest is counted.

    Raises
    ------
    ModelError
        No such column, or not one row of a class of the set.
    """
    if labels not in table.frame.columns:
        columns = ", ".join(str(column) for column in table.frame.columns)
        raise ModelError(f"labels column '{labels}' is not in the series; choose one of {columns}")
    matched = match_labels(table.frame[labels], prompt_set)
    known = matched.index >= 0
    if not known.any():
        classes = ", ".join(f"'{c.name}'" for c in prompt_set.classes[:5])
        values = ", ".join(f"'{value}'" for value in list(matched.others)[:5]) or "none"
        raise ModelError(
            f"column '{labels}' holds no class of prompt set '{prompt_set.name}': the classes are {classes}, ..., "
            f"the values are {values}, ...; choose another column or set, or add the values as aliases of its classes"
        )
    reflectance = without_damage(table.reflectance)
    observed = ~np.isnan(reflectance).all(axis=(1, 2))
    if not (known & observed).any():
        raise ModelError(
            f"column '{labels}': its {known.sum()} rows of prompt set '{prompt_set.name}' hold no observation"
        )
    rows = known & observed
    groups, resampled = resampling_groups(table.frame[rows])
    return LabelledSeries(
        reflectance[rows], matched.index[rows], groups, resampled, matched.others, int((known & ~observed).sum())
    )


def resampling_groups(frame: pd.DataFrame) -> tuple[NDArray[np.int64], str]:
    """What the bootstrap draws, int64 (n,), and what that is in words: spatial cells, or rows where cells are few."""
    _, cells = np.unique(spatial_cells(frame), return_inverse=True)
    count = int(cells.max()) + 1
    if count >= FEWEST_CELLS:
        return cells.astype(np.int64), f"{count} cells of 0.1 degrees"
    return np.arange(len(frame)), f"rows ({count} cells of 0.1 degrees are too few)"


def zero_shot_report(
    series: LabelledSeries,
    cosine: NDArray[np.float32],
    prompt_set: PromptSet,
    encoder: "Encoder",
    *,
    data: str,
    labels: str,
    family: Family = "descriptive",
    composites: Composites = "monthly",
    hub_means: NDArray[np.float64] | None = None,
) -> ZeroShotReport:
    """Measure one variant.

    Parameters
    ----------
    series
        What the table held of the set.
    cosine
        float32 (n, k): cosines of the series' embeddings with the class vectors of the variant.
    prompt_set, encoder, data, labels, family, composites
        What they were made with, for the record.
    hub_means
        (k,) fitted means to correct the scores by, or None.
    """
    scores = cosine if hub_means is None else hub_corrected(cosine, hub_means)
    truth, k = series.truth, len(prompt_set.classes)
    predicted = scores.argmax(axis=1)
    top5 = metrics.top_k_hits(scores, truth, 5)
    winning = probabilities(scores, temperature=encoder.config.temperature).max(axis=1)
    confusion = metrics.confusion_matrix(truth, predicted, k)

    def measured(weights: NDArray[np.float64]) -> tuple[float, ...]:
        drawn = metrics.weighted_confusion(truth, predicted, k, weights)
        return (
            metrics.overall_accuracy(drawn),
            float(np.average(top5, weights=weights)),
            metrics.mean_class_accuracy(drawn),
            metrics.macro_f1(drawn),
        )

    values = measured(np.ones(len(truth)))
    names = ("top1", "top5", "mean_class_accuracy", "macro_f1")
    ends = metrics.bootstrap_intervals(measured, series.groups)
    return ZeroShotReport(
        data=data,
        labels=labels,
        prompts=prompt_set.name,
        prompts_sha256=prompt_set.sha256,
        family=family,
        encoder=encoder.name,
        encoder_sha256=encoder.sha256,
        composites=composites,
        hub_correction=hub_means is not None,
        rows=len(truth),
        rows_unobserved=series.unobserved,
        rows_left_out=sum(series.others.values()),
        left_out=series.others,
        **dict(zip(names, values, strict=True)),
        expected_calibration_error=metrics.calibration(winning, predicted == truth).error,
        chance=1 / k,
        majority=float(confusion.sum(axis=1).max() / len(truth)),
        intervals={
            name: Interval(value=value, low=_number(low), high=_number(high))
            for name, value, (low, high) in zip(names, values, ends, strict=True)
        },
        resampled=series.resampled,
        classes=_class_reports(prompt_set, confusion),
        confusion_matrix=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def _class_reports(prompt_set: PromptSet, confusion: NDArray[np.int64]) -> tuple[ClassReport, ...]:
    accuracy, precision = metrics.class_accuracies(confusion), metrics.class_precisions(confusion)
    f1 = metrics.class_f1(confusion)
    return tuple(
        ClassReport(
            code=entry.code,
            name=entry.name,
            rows=int(confusion[i].sum()),
            predicted=int(confusion[:, i].sum()),
            accuracy=_number(accuracy[i]),
            precision=_number(precision[i]),
            f1=_number(f1[i]),
        )
        for i, entry in enumerate(prompt_set.classes)
    )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
