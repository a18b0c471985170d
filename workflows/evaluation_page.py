"""The page of an evaluation: the reports of a folder as ``tables.md`` and one self-contained ``index.html``."""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from pydantic import BaseModel, ValidationError

from timesenmap.model.caption_scores import FREQUENT
from timesenmap.model.errors import ModelError
from timesenmap.model.evaluation_pictures import class_picture, reliability_picture
from timesenmap.model.held_out import HeldOutReport
from timesenmap.model.left_out import LeftOutReport
from timesenmap.model.sheets import Sheet, markdown_table
from timesenmap.workflows.evaluation_sheets import (
    held_out_notes,
    held_out_sheets,
    left_out_notes,
    left_out_sheets,
    parcels_notes,
    parcels_sheets,
)
from timesenmap.workflows.parcels import ParcelsReport

_LONG: Final = 14
"""Rows above which a table of the page is folded."""


@dataclass(frozen=True)
class Picture:
    """A picture of the page: file name, what it shows, PNG."""

    name: str
    about: str
    png: bytes

    @property
    def uri(self) -> str:
        """The picture as an address that needs no file."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Section:
    """A part of the page, of one report."""

    title: str
    notes: list[str]
    sheets: list[Sheet]
    pictures: list[Picture] = field(default_factory=list)


def write_report(report: BaseModel, stem: str, out: Path) -> list[Path]:
    """Write a report as ``<stem>.json`` into a folder, and renew the folder's tables, pictures and page.

    Returns
    -------
    list of Path
        The files written.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{stem}.json"
    file.write_text(report.model_dump_json(indent=2) + "\n", "utf-8")
    return [file, *write_page(out)]


def write_page(out: Path) -> list[Path]:
    """Write ``tables.md``, the pictures and ``index.html`` from the reports that lie in a folder.

    Raises
    ------
    ModelError
        A report that is none of this version.
    """
    sections = [section(_read(out / f"{stem}.json", kind)) for stem, kind, section in _PARTS if _has(out, stem)]
    tables = "\n".join(_markdown(section) for section in sections)
    page = _environment().from_string(_template()).render(sections=sections, long=_LONG)
    written = [out / "tables.md", out / "index.html"]
    written[0].write_text(tables, "utf-8")
    written[1].write_text(page, "utf-8")
    for picture in (picture for section in sections for picture in section.pictures):
        written.append(out / f"{picture.name}.png")
        written[-1].write_bytes(picture.png)
    return written


def _has(out: Path, stem: str) -> bool:
    return (out / f"{stem}.json").exists()


def _read(file: Path, kind: type[BaseModel]) -> Any:
    try:
        return kind.model_validate_json(file.read_text("utf-8"))
    except ValidationError:
        raise ModelError(f"'{file}' is no report of this version: remove it, or run its command again") from None


def _held_out(report: HeldOutReport) -> Section:
    diagrams = {"finest captions and land cover": report.reliability} | {
        q.name: q.reliability for q in report.questions
    }
    pictures = [
        Picture(
            "reliability",
            "Reliability diagrams: the share right in each interval of confidence; the dashed line is perfect.",
            reliability_picture(diagrams),
        )
    ]
    pictures += [
        Picture(
            f"classes-{_slug(q.name)}",
            f"F1 of the classes with at least {FREQUENT} series: {q.name}.",
            class_picture(q),
        )
        for q in report.questions[1:]
    ]
    return Section("Held-out cells", held_out_notes(report), held_out_sheets(report), pictures)


def _left_out(report: LeftOutReport) -> Section:
    return Section("Sources left out of training", left_out_notes(report), left_out_sheets(report))


def _parcels(report: ParcelsReport) -> Section:
    return Section("Declared parcels", parcels_notes(report), parcels_sheets(report))


_PARTS: Final[tuple[tuple[str, type[BaseModel], Callable[[Any], Section]], ...]] = (
    ("held-out", HeldOutReport, _held_out),
    ("left-out", LeftOutReport, _left_out),
    ("parcels", ParcelsReport, _parcels),
)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def _markdown(section: Section) -> str:
    """Headings one level down: for a model card that has its own title."""
    parts = [f"## {section.title}\n", *(f"{note}\n" for note in section.notes)]
    parts += [f"### {sheet.title}\n\n{markdown_table(sheet)}" for sheet in section.sheets]
    return "\n".join(parts)


def _template() -> str:
    return files("timesenmap.workflows").joinpath("evaluation.html.j2").read_text("utf-8")


def _environment() -> Environment:
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
