"""What an assessment of a map found: the record that JSON, page and terminal are made from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from timesenmap.pipeline.accuracy import Estimate, Estimates, normal_quantile
from timesenmap.pipeline.map_file import ClassMap
from timesenmap.pipeline.map_pixels import is_unknown

OLOFSSON = (
    "Olofsson et al. 2014, Good practices for estimating area and assessing accuracy of land change, Remote Sensing of "
    "Environment 148:42-57"
)
STEHMAN = (
    "Stehman 2014, Estimating area and map accuracy for stratified random sampling when the strata are different from "
    "the map classes, International Journal of Remote Sensing 35:4923-4939"
)

_UNKNOWN_LEFT_OUT = "Pixels that the map leaves unknown are left out: the numbers hold for what it classifies."
_UNKNOWN_IS_WRONG = (
    "Pixels that the map leaves unknown count as a class that is never right: they lower the overall and the "
    "producer's accuracies."
)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Measure(_Record):
    """A number; with standard error and confidence interval where it was estimated from a probability sample."""

    value: float | None = Field(description="null where there is nothing to measure")
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None


class ClassAssessment(_Record):
    """One class of the map. Shares 0-1; all null for the class unknown, which the reference cannot be."""

    code: int
    name: str
    colour: str
    users_accuracy: Measure = Field(description="of what the map shows as this class, the share that is it")
    producers_accuracy: Measure = Field(description="of what is this class, the share that the map shows as it")
    f1: Measure
    mapped_hectares: float | None = Field(description="as the map shows it")
    hectares: Measure | None = Field(description="as the reference says it is")


class StratumReport(_Record):
    """A stratum of the sample."""

    name: str
    share: float = Field(description="of the area, 0-1")
    points: int = Field(description="that were used")


class Assessment(_Record):
    """Accuracy of a map. Matrices: rows = map, columns = reference, in the order of ``classes``."""

    map: str
    reference: str
    design: Literal["stratified", "simple", "none", "census"]
    method: str = Field(description="what the numbers are, and after whom")
    confidence: float | None = Field(description="of the intervals, 0-1; null where there are none")
    unit: Literal["points", "pixels"]
    compared: int = Field(description="points or pixels in the matrix of counts")
    overall_accuracy: Measure
    classes: tuple[ClassAssessment, ...]
    counts: tuple[tuple[int, ...], ...] = Field(description="confusion matrix; rows map, columns reference")
    proportions: tuple[tuple[float, ...], ...] | None = Field(description="error matrix as shares of the area")
    strata: tuple[StratumReport, ...]
    left_out: dict[str, int] = Field(description="why -> points or pixels that were not compared")
    notes: tuple[str, ...]

    @property
    def columns(self) -> list[int]:
        """Positions of the classes that have a column worth showing: no reference says unknown."""
        return [i for i, entry in enumerate(self.classes) if not is_unknown(entry.code)]


@dataclass(frozen=True)
class Compared:
    """What was compared, before it is written down.

    ``counts`` (k, k) rows map, columns reference, of the classes ``codes``; ``mapped_hectares`` by code and
    ``hectares`` of all are None where areas mean nothing.
    """

    codes: Sequence[int]
    counts: NDArray[np.int64]
    mapped_hectares: Mapping[int, float] | None
    hectares: float | None


def assessment_of(
    class_map: ClassMap,
    reference: Path,
    compared: Compared,
    estimates: Estimates,
    *,
    design: Literal["stratified", "simple", "none", "census"],
    method: str,
    unit: Literal["points", "pixels"],
    confidence: float | None = None,
    strata: Sequence[StratumReport] = (),
    left_out: Mapping[str, int],
    notes: Sequence[str],
) -> Assessment:
    """Write an assessment down; the arguments are those of the record, intervals are made with ``confidence``."""
    z = 0.0 if confidence is None else normal_quantile(confidence)
    overall = Estimate(estimates.overall.value.reshape(1), estimates.overall.standard_error.reshape(1))
    areas = compared.hectares is not None
    return Assessment(
        map=class_map.path.name,
        reference=reference.name,
        design=design,
        method=method,
        confidence=confidence,
        unit=unit,
        compared=int(compared.counts.sum()),
        overall_accuracy=_measures(overall, z, 1.0)[0],
        classes=_classes(compared, estimates, class_map, z),
        counts=tuple(tuple(row) for row in compared.counts.tolist()),
        proportions=tuple(tuple(row) for row in estimates.matrix.tolist()) if areas else None,
        strata=tuple(strata),
        left_out={why: n for why, n in left_out.items() if n},
        notes=tuple(notes),
    )


def unknown_note(codes: Iterable[int], *, left: bool) -> list[str]:
    """Say how pixels that the map leaves unknown count, where it has any (``codes``), or that they are left out."""
    if left:
        return [_UNKNOWN_LEFT_OUT]
    return [_UNKNOWN_IS_WRONG] if any(is_unknown(code) for code in codes) else []


def referable(class_map: ClassMap) -> dict[int, str]:
    """Classes that a reference may name, by code: all but unknown."""
    return {entry.code: entry.name for entry in class_map.known}


def _classes(compared: Compared, estimates: Estimates, class_map: ClassMap, z: float) -> tuple[ClassAssessment, ...]:
    """Write the numbers of the classes down; ``z`` standard errors each way make the interval."""
    users, producers, f1 = (_measures(e, z, 1.0) for e in (estimates.users, estimates.producers, estimates.f1))
    total = compared.hectares
    areas = None if total is None else _measures(_scaled(estimates.area, total), z, total)
    by_code = {entry.code: entry for entry in class_map.classes}
    nothing = Measure(value=None)
    classes = []
    for i, code in enumerate(compared.codes):
        unknown = is_unknown(code)
        classes.append(
            ClassAssessment(
                code=code,
                name=by_code[code].name,
                colour=by_code[code].colour,
                users_accuracy=nothing if unknown else users[i],
                producers_accuracy=nothing if unknown else producers[i],
                f1=nothing if unknown else f1[i],
                mapped_hectares=None if compared.mapped_hectares is None else compared.mapped_hectares.get(code, 0.0),
                hectares=None if unknown or areas is None else areas[i],
            )
        )
    return tuple(classes)


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(estimate.value * factor, estimate.standard_error * factor)


def _measures(estimate: Estimate, z: float, most: float) -> list[Measure]:
    """Measures with intervals cut to what is possible, 0 to ``most``."""
    found = []
    for value, error in zip(estimate.value.tolist(), estimate.standard_error.tolist(), strict=True):
        if np.isnan(value):
            found.append(Measure(value=None))
        elif np.isnan(error):
            found.append(Measure(value=value))
        else:
            low, high = max(0.0, value - z * error), min(most, value + z * error)
            found.append(Measure(value=value, standard_error=error, low=low, high=high))
    return found
