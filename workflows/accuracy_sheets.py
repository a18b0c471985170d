"""Tables of an assessment, for the terminal."""

from timesenmap.model.sheets import Sheet
from timesenmap.pipeline.assessment import Assessment, Measure


def sheets(assessment: Assessment) -> list[Sheet]:
    """Accuracies, areas where there are any, and the confusion matrix."""
    found = [_accuracies(assessment)]
    if assessment.proportions is not None:
        found.append(_areas(assessment))
    return [*found, _matrix(assessment)]


def _accuracies(assessment: Assessment) -> Sheet:
    rows = [["all", _percent(assessment.overall_accuracy), "", "", ""]]
    rows += [
        [c.name, "", _percent(c.users_accuracy), _percent(c.producers_accuracy), _percent(c.f1)]
        for c in assessment.classes
    ]
    interval = "" if assessment.confidence is None else f" ({100 * assessment.confidence:g} % interval)"
    header = ["class", "overall", "user's", "producer's", "F1"]
    return Sheet(f"Accuracy of {assessment.map}, %{interval}", header, rows)


def _areas(assessment: Assessment) -> Sheet:
    rows = [
        [c.name, "-" if c.mapped_hectares is None else f"{c.mapped_hectares:,.1f}", *_hectares(c.hectares)]
        for c in assessment.classes
    ]
    if assessment.confidence is None:
        return Sheet("Area, ha", ["class", "map", "reference"], [row[:3] for row in rows])
    header = ["class", "map", "estimate", "standard error", f"{100 * assessment.confidence:g} % interval"]
    return Sheet("Area, ha", header, rows)


def _matrix(assessment: Assessment) -> Sheet:
    columns = assessment.columns
    rows = [
        [entry.name, *(f"{row[i]:,}" for i in columns), f"{sum(row):,}"]
        for entry, row in zip(assessment.classes, assessment.counts, strict=True)
    ]
    sums = [f"{sum(row[i] for row in assessment.counts):,}" for i in columns]
    header = ["map \\ reference", *(assessment.classes[i].name for i in columns), "all"]
    title = f"Confusion matrix, {assessment.unit}: rows map, columns reference"
    return Sheet(title, header, [*rows, ["all", *sums, f"{assessment.compared:,}"]])


def _percent(measure: Measure) -> str:
    if measure.value is None:
        return "-"
    text = f"{100 * measure.value:.1f}"
    if measure.low is None or measure.high is None:
        return text
    return f"{text} ({100 * measure.low:.1f}-{100 * measure.high:.1f})"


def _hectares(measure: Measure | None) -> list[str]:
    if measure is None or measure.value is None:
        return ["-", "-", "-"]
    if measure.low is None or measure.high is None:
        return [f"{measure.value:,.1f}", "-", "-"]
    return [f"{measure.value:,.1f}", f"{measure.standard_error:,.1f}", f"{measure.low:,.1f} - {measure.high:,.1f}"]
