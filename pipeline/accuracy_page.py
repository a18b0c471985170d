"""The page of an assessment: one file that needs no network, in the clothes of a run's report."""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from timesenmap.pipeline.accuracy import normal_quantile
from timesenmap.pipeline.assessment import Assessment, Measure


def render_page(assessment: Assessment) -> str:
    """Return the page; everything in it that comes from files is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"hectares": lambda value: f"{value:,.1f}", "percent": _percent, "interval": _interval}
    largest = max((max(row) for row in assessment.counts), default=0)
    return environment.from_string(_part("accuracy.html.j2")).render(
        a=assessment,
        style=Markup(_part("report.css")),  # noqa: S704 - our own file
        largest=max(1, largest),
        z=0.0 if assessment.confidence is None else normal_quantile(assessment.confidence),
        level=None if assessment.confidence is None else f"{100 * assessment.confidence:g} %",
    )


def _part(name: str) -> str:
    return files("timesenmap.pipeline").joinpath(name).read_text(encoding="utf-8")


def _percent(measure: Measure) -> str:
    return "-" if measure.value is None else f"{100 * measure.value:.1f}"


def _interval(measure: Measure) -> str:
    if measure.low is None or measure.high is None:
        return ""
    return f"{100 * measure.low:.1f} to {100 * measure.high:.1f}"
