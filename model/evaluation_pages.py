"""Evaluation reports for reading: Markdown tables and pictures of confusion matrices."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from timesenmap.model.errors import ModelError
from timesenmap.model.evaluation import ZeroShotReport
from timesenmap.model.sheets import Sheet, markdown_table, percent

_MEASURES = {"top1": "top-1", "top5": "top-5", "mean_class_accuracy": "mean class", "macro_f1": "macro F1"}


def summary_sheet(reports: Sequence[ZeroShotReport]) -> Sheet:
    """One row for every variant, in percent with 95 % intervals."""
    header = ["family", "composites", "hub correction", *_MEASURES.values(), "calibration error"]
    rows = [
        [
            r.family,
            r.composites,
            "yes" if r.hub_correction else "no",
            *(percent(r.intervals[name]) for name in _MEASURES),
            percent(r.expected_calibration_error),
        ]
        for r in reports
    ]
    return Sheet(f"Zero-shot {reports[0].prompts}, % (95 % interval)", header, rows)


def class_sheet(report: ZeroShotReport) -> Sheet:
    """One row for every class that has rows or was predicted, and what it is taken for most."""
    header = ["code", "class", "rows", "predicted", "accuracy", "precision", "F1", "mostly taken for"]
    rows = []
    for i, entry in enumerate(report.classes):
        if not entry.rows and not entry.predicted:
            continue
        wrong = [0 if j == i else count for j, count in enumerate(report.confusion_matrix[i])]
        most = int(np.argmax(wrong))
        numbers = [percent(value) for value in (entry.accuracy, entry.precision, entry.f1)]
        taken = f"{report.classes[most].name} ({wrong[most]})" if wrong[most] else "-"
        rows.append([str(entry.code), entry.name, str(entry.rows), str(entry.predicted), *numbers, taken])
    return Sheet(f"Classes, {report.family} prompts, {report.composites} composites, %", header, rows)


def notes(report: ZeroShotReport) -> list[str]:
    """Sentences a reader of the numbers needs."""
    encoder = f"encoder {report.encoder} ({report.encoder_sha256[:12]})"
    prompts = f"prompts {report.prompts} ({report.prompts_sha256[:12]})"
    baselines = f"guessing tells {100 * report.chance:.1f} %, the largest class alone {100 * report.majority:.1f} %"
    lines = [
        f"{report.rows} series of {report.data}, column {report.labels}; {encoder}, {prompts}.",
        f"For comparison: {baselines}. Intervals: 95 %, bootstrap over {report.resampled}.",
    ]
    if report.rows_left_out:
        head = ", ".join(f"{value or '(empty)'} {rows}" for value, rows in list(report.left_out.items())[:8])
        more = "" if len(report.left_out) <= 8 else f" and {len(report.left_out) - 8} more values"
        lines.append(f"Left out, no class of the set: {report.rows_left_out} rows ({head}{more}).")
    if report.rows_unobserved:
        lines.append(f"Left out, without any observation: {report.rows_unobserved} rows.")
    return lines


def markdown(reports: Sequence[ZeroShotReport]) -> str:
    """Every variant, then the classes of each variant."""
    parts = [
        f"# Zero-shot: {reports[0].prompts}\n",
        "\n".join(notes(reports[0])) + "\n",
        markdown_table(summary_sheet(reports)),
    ]
    for report in reports:
        parts.append(f"## {report.family} prompts, {report.composites} composites\n")
        parts.append(markdown_table(class_sheet(report)))
    return "\n".join(parts)


def require_matplotlib() -> None:
    """Refuse early where pictures cannot be drawn.

    Raises
    ------
    ModelError
        matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ModelError("pictures of confusion matrices need matplotlib; pip install 'timesenmap[train]'")


def save_confusion_picture(report: ZeroShotReport, path: Path) -> None:
    """Draw a confusion matrix as PNG: rows truth, shares of each row, counts written where they fit.

    Classes without rows and never predicted are left out of the picture.
    """
    require_matplotlib()
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra; and Figure alone touches no display

    counts = np.array(report.confusion_matrix)
    used = np.flatnonzero((counts.sum(axis=0) + counts.sum(axis=1)) > 0)
    counts = counts[np.ix_(used, used)]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [report.classes[i].name[:40] for i in used]
    size = 3.2 + 0.42 * len(used)
    figure = Figure(figsize=(size + 0.8, size), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.argwhere(counts > 0):
        colour = "white" if shares[i, j] > 0.6 else "black"
        axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(used)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(used)), names, fontsize=8)
    axes.set_xlabel("given")
    axes.set_ylabel("true")
    hub = ", hub correction" if report.hub_correction else ""
    axes.set_title(
        f"{report.prompts}: {report.family} prompts, {report.composites}{hub}\n"
        f"top-1 {100 * report.top1:.1f} %, mean class {100 * report.mean_class_accuracy:.1f} %, {report.rows} series",
        fontsize=9,
    )
    figure.colorbar(image, label="share of the true class", shrink=0.7)
    figure.savefig(path, format="png")
