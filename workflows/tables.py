"""Tables of results: on the terminal, as Markdown, with their JSON in a folder."""

import logging
from collections.abc import Sequence
from pathlib import Path

import click
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from timesenmap.model.retrieval_report import RetrievalRow
from timesenmap.model.sheets import Sheet, markdown, percent

log = logging.getLogger(__name__)


def recall_sheet(rows: Sequence[RetrievalRow]) -> Sheet:
    """Recall in every direction, with what chance would give."""
    header = ["question", "right", *(f"recall@{k}" for k in rows[0].ks), "median rank"]
    lines = []
    for row in rows:
        cells = [f"{percent(value)} [{percent(guess)}]" for value, guess in zip(row.recall, row.chance, strict=True)]
        lines.append([row.question, row.right, *cells, f"{row.median_rank:.0f} of {row.gallery}"])
    return Sheet("Retrieval, % (95 % interval) [chance]", header, lines)


def show(sheets: Sequence[Sheet], notes: Sequence[str] = ()) -> None:
    """Print tables and notes on standard output."""
    console = Console(width=None if Console().is_terminal else 140)
    for sheet in sheets:
        table = Table(title=sheet.title, title_justify="left")
        for name in sheet.header:
            table.add_column(name, overflow="fold")
        for row in sheet.rows:
            table.add_row(*map(Text, row))  # as it stands: names may hold brackets
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
