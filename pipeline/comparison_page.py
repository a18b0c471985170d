"""``index.html`` of a comparison, in one file that needs no network and no script; in the clothes of a run's report."""

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from timesenmap.pipeline import figures, pictures
from timesenmap.pipeline.comparison_record import ComparisonRecord, legend_of
from timesenmap.pipeline.map_file import read_class_map
from timesenmap.pipeline.report import data_url, hectares, thousands
from timesenmap.pipeline.whole import write_whole

_LONGEST = 1600  # pixels of the embedded picture
_LEGEND_ROWS = 24
_CHANGES_SHOWN = 15  # the rest is folded


def write_comparison_page(out: Path, record: ComparisonRecord) -> Path:
    """Write ``index.html`` into the folder that holds the change map, and return its path."""
    return write_whole(out / "index.html", render_comparison(out, record))


def render_comparison(out: Path, record: ComparisonRecord) -> str:
    """Return the page of a comparison whose change map lies in ``out``."""
    change_map = read_class_map(out / record.change_map)
    values = pictures.read_picture(change_map.path, longest=_LONGEST, categories=True)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"hectares": hectares, "thousands": thousands, "percent": figures.percent}
    return environment.from_string(_part("comparison.html.j2")).render(
        record=record,
        style=Markup(_part("report.css")),  # noqa: S704 - our own file
        picture=data_url(pictures.colour_classes(values, change_map.classes)),
        legend=legend_of(record, longest=_LEGEND_ROWS),
        changes_shown=_CHANGES_SHOWN,
        crs=figures.crs_name(record.grid),
        metres=figures.metres_a_pixel(record.grid),
        attribution=change_map.tags.get("ATTRIBUTION"),
    )


def _part(name: str) -> str:
    return files("timesenmap.pipeline").joinpath(name).read_text(encoding="utf-8")
