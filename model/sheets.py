"""Tables of results as text: what reports, pages and the terminal share."""

from collections.abc import Sequence
from typing import NamedTuple

from timesenmap.model.evaluation import Interval


class Sheet(NamedTuple):
    """A table: title, header and rows of text."""

    title: str
    header: list[str]
    rows: list[list[str]]


def percent(value: Interval | float | None) -> str:
    """A share, with its interval where there is one, in percent; '-' for nothing measured."""
    if not isinstance(value, Interval):
        return "-" if value is None else _percent(value)
    if value.value is None:
        return "-"
    if value.low is None or value.high is None:
        return _percent(value.value)
    between = " to " if value.low < 0 else "-"
    return f"{_percent(value.value)} ({_percent(value.low)}{between}{_percent(value.high)})"


def _percent(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f}"  # + 0.0: no "-0.0"


def markdown_table(sheet: Sheet) -> str:
    """Header and rows of a sheet in Markdown, without its title."""
    lines = [sheet.header, ["---"] * len(sheet.header), *([c.replace("|", "\\|") for c in r] for r in sheet.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def markdown(title: str, sheets: Sequence[Sheet], notes: Sequence[str] = ()) -> str:
    """Tables and notes as a Markdown page."""
    parts = [f"# {title}\n", *(f"{note}\n" for note in notes)]
    parts += [f"## {sheet.title}\n\n{markdown_table(sheet)}" for sheet in sheets]
    return "\n".join(parts)
