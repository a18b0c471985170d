"""Bar charts as inline SVG, readable without colour, script or network."""

from collections.abc import Sequence
from html import escape

from markupsafe import Markup

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BOTTOM, _TOP = 640, 224, 56, 26, 34, 24
_BAR = "#3f7f97"


def bars(
    heights: Sequence[float],
    *,
    labels: Sequence[str],
    notes: Sequence[str],
    tops: Sequence[str] = (),
    title: str,
    description: str,
    colours: Sequence[str] | None = None,
    top: float | None = None,
    unit: str = "",
) -> Markup:
    """Bar chart of ``heights`` (0 or more), one bar a value.

    Parameters
    ----------
    heights
        What the bars show, in the unit of the axis.
    labels
        Under the bars; or, where there is one more than bars, under the edges between them. Empty ones are left out.
    tops
        Above the bars.
    notes
        What a pointer over each bar reads, e.g. 'March 2018: 81% clear, 9 scenes'.
    title, description
        For readers who hear the chart instead of seeing it.
    colours
        Of the bars, ``#rrggbb``; one dark colour by default.
    top
        Where the axis ends; the next round number above the highest bar by default.
    unit
        Behind the numbers of the axis.
    """
    count = len(heights)
    high = top or _round_up(max([*heights, 0.0]))
    room, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    step = room / max(1, count)
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" xmlns="http://www.w3.org/2000/svg">',
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>",
    ]
    for share in (0.0, 0.5, 1.0):
        y = _TOP + tall * (1 - share)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="rule"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(_short(high * share) + unit)}</text>'
        )
    for i, (height, note) in enumerate(zip(heights, notes, strict=True)):
        x, size = _LEFT + i * step, tall * min(1.0, height / high)
        fill = escape(colours[i] if colours else _BAR)
        parts.append(
            f'<g><title>{escape(note)}</title><rect x="{x + step * 0.1:.2f}" y="{_TOP + tall - size:.2f}" '
            f'width="{step * 0.8:.2f}" height="{size:.2f}" class="bar" fill="{fill}"/></g>'
        )
        if tops:
            parts.append(_label(x + step / 2, _TOP + tall - size - 4, tops[i]))
    start = _LEFT if len(labels) == count + 1 else _LEFT + step / 2
    parts += [_label(start + i * step, _HEIGHT - _BOTTOM + 24, label) for i, label in enumerate(labels) if label]
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704 - every text above went through escape()


def _label(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(text)}</text>'


def _round_up(value: float) -> float:
    """Return the smallest of 1, 2, 2.5, 5, 10 times a power of ten that is not below ``value``; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(power * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if power * factor >= value * (1 - 1e-12))


def _short(value: float) -> str:
    for size, name in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{name}"
    return f"{value:g}"
