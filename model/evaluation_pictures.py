"""Pictures of an evaluation, as PNG: reliability diagrams and the classes of a question."""

import io
from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from timesenmap.model.caption_scores import FREQUENT, QuestionReport, Reliability
from timesenmap.model.evaluation_pages import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OWN, _FOREST, _RULE = "#1b6ca8", "#c9a227", "#777777"


def reliability_picture(diagrams: Mapping[str, Reliability]) -> bytes:
    """Draw reliability diagrams side by side: share right against confidence, and below it how many answers there are.

    Parameters
    ----------
    diagrams
        Title -> diagram.

    Returns
    -------
    bytes
        PNG.

    Raises
    ------
    ModelError
        matplotlib is not installed.
    """
    figure = _figure(3.1 * len(diagrams) + 0.5, 4.0)
    axes = figure.subplots(2, len(diagrams), sharex=True, squeeze=False, height_ratios=(3, 1))
    for (title, diagram), upper, lower in zip(diagrams.items(), axes[0], axes[1], strict=True):
        full = [one for one in diagram.bins if one.rows]
        middle = [(one.low + one.high) / 2 for one in full]
        width = diagram.bins[0].high - diagram.bins[0].low
        upper.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--", zorder=3)
        upper.bar(middle, [one.accuracy for one in full], 0.9 * width, color=_OWN, alpha=0.75)
        upper.plot(
            [one.confidence for one in full], [one.accuracy for one in full], "o", color="black", markersize=3, zorder=4
        )
        upper.set_title(f"{fill(title, 40)}\nexpected calibration error {diagram.error:.3f}", fontsize=8)
        upper.set(xlim=(0, 1), ylim=(0, 1))
        lower.bar(middle, [one.rows for one in full], 0.9 * width, color=_RULE)
        lower.set_xlabel("confidence", fontsize=8)
    axes[0][0].set_ylabel("share right", fontsize=8)
    axes[1][0].set_ylabel("series", fontsize=8)
    for one in axes.flat:
        one.tick_params(labelsize=7)
    return _png(figure)


def class_picture(report: QuestionReport) -> bytes:
    """Draw the F1 of the classes of a question, the largest first, beside the forest's; PNG.

    Classes with fewer than ``FREQUENT`` samples are left out.

    Raises
    ------
    ModelError
        matplotlib is not installed.
    """
    classes = [one for one in report.classes if one.rows >= FREQUENT]
    figure = _figure(7.5, 0.9 + 0.26 * len(classes))
    axes = figure.add_subplot()
    places = np.arange(len(classes))
    axes.barh(places - 0.2, [one.f1 for one in classes], 0.4, color=_OWN, label="from words")
    if report.forest is not None:
        axes.barh(places + 0.2, [one.forest_f1 or 0.0 for one in classes], 0.4, color=_FOREST, label="forest")
    axes.set_yticks(places, [f"{one.name} ({one.rows})" for one in classes], fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set(xlim=(0, 1))
    axes.set_xlabel("F1", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_title(report.name, fontsize=9)
    axes.legend(fontsize=7, loc="lower right")
    return _png(figure)


def _figure(width: float, height: float) -> "Figure":
    require_matplotlib()
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra; and Figure alone touches no display

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
