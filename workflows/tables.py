"""Tables of results: on the terminal, as Markdown, with their JSON in a folder."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from timesenmap.model.evaluation import Interval
from timesenmap.model.retrieval_report import RetrievalRow

log = logging.getLogger(__name__)


class Sheet(NamedTuple):
    """A table: title, header and rows of text."""

    title: str
    header: list[str]
    rows: list[list[str]]


def percent(value: Interval | float) -> str:
    """A share, with its interval where there is one, in percent."""
    if not isinstance(value, Interval):
        return f"{100 * value:.1f}"
    if value.value is None:
        return "-"
    if value.low is None or value.high is None:
        return f"{100 * value.value:.1f}"
    return f"{100 * value.value:.1f} ({100 * value.low:.1f}-{100 * value.high:.1f})"


def recall_sheet(rows: Sequence[RetrievalRow]) -> Sheet:
    """Recall in every direction, with what chance would give."""
    header = ["question", "right", *(f"recall@{k}" for k in rows[0].ks), "median rank"]
    lines = []
    for row in rows:
        cells = [f"{percent(value)} [{percent(guess)}]" for value, guess in zip(row.recall, row.chance, strict=True)]
        lines.append([row.question, row.right, *cells, f"{row.median_rank:.0f} of {row.gallery}"])
    return Sheet("Retrieval, % (95 % interval) [chance]", header, lines)


def markdown(title: str, sheets: Sequence[Sheet], notes: Sequence[str] = ()) -> str:
    """Tables and notes as a Markdown page."""
    parts = [f"# {title}\n", *(f"{note}\n" for note in notes)]
    for sheet in sheets:
        lines = [sheet.header, ["---"] * len(sheet.header), *([c.replace("|", "\\|") for c in r] for r in sheet.rows)]
        parts.append(f"## {sheet.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
    return "\n".join(parts)


def show(sheets: Sequence[Sheet], notes: Sequence[str] = ()) -> None:
    """Print tables and notes on standard output."""
    console = Console(width=None if Console().is_terminal else 140)
    for sheet in sheets:
        table = Table(title=sheet.title, title_justify="left")
        for name in sheet.header:
            table.add_column(name)
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)
    for note in notes:
        console.print(note, markup=False, highlight=False)


def deliver(
    report: BaseModel,
    sheets: Sequence[Sheet],
    *,
    title: str,
    stem: str,
    out: Path | None,
    as_json: bool,
    notes: Sequence[str] = (),
) -> None:
    """Write JSON and Markdown into ``out`` where it is named, and print the tables, or the JSON alone."""
    content = report.model_dump_json(indent=2)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{stem}.json").write_text(content + "\n", encoding="utf-8")
        (out / f"{stem}.md").write_text(markdown(title, sheets, notes), encoding="utf-8")
        log.info("wrote %s and %s.md", out / f"{stem}.json", stem)
    if as_json:
        click.echo(content)
    else:
        show(sheets, notes)
