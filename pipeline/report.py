"""``index.html``: the page that explains a run, in one file that needs no network.

Everything from the record is escaped by Jinja2; the page's content security policy allows no script but its own, and
no connection. Pictures of the maps are embedded at the size of a screen: the GeoTIFFs beside the page hold every
pixel.
"""

import base64
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from timesenmap.pipeline import charts, figures, legend, pictures
from timesenmap.pipeline.curves import STEP, Curves, read_curves
from timesenmap.pipeline.maskers import SCENE_CLASSES, in_words
from timesenmap.pipeline.profile import PHASES
from timesenmap.pipeline.rasters import NO_CLASS, NO_VALUE
from timesenmap.pipeline.record import MapRecord, RunRecord, SceneRecord
from timesenmap.pipeline.whole import write_whole
from timesenmap.pipeline.workspace import stores_at

_LONGEST, _LONGEST_CLASSES = 800, 1600  # pixels of the embedded pictures
_HISTOGRAM_STEP = 5  # percent a bar
NEAR_TIE = 10  # percent of margin below which two classes nearly tie
_UNSEEN = "no clear observation"


def write_report(out: Path, record: RunRecord) -> Path:
    """Write ``index.html`` into the output folder, whole or not at all, and return its path."""
    return write_whole(out / "index.html", render_report(out, record))


def render_report(out: Path, record: RunRecord) -> str:
    """Return the page of a run whose maps lie in ``out``."""
    script = _part("report.js")
    layers = _layers(out, record)
    curves = read_curves(stores_at(out, record.job.get("work")) / "cube.zarr", out / record.observation_map)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "hectares": hectares,
        "percent": figures.percent,
        "duration": duration,
        "thousands": thousands,
        "megabytes": lambda size: f"{size / 1e6:,.1f} MB",
    }
    return environment.from_string(_part("report.html.j2")).render(
        record=record,
        style=Markup(_part("report.css")),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file, allowed by its hash
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        scenes=figures.scenes(record),
        period=figures.period(record),
        attribution=figures.attribution(record),
        crs=figures.crs_name(record.grid),
        metres=figures.metres_a_pixel(record.grid),
        pixel_hectares=figures.pixel_hectares(record.grid),
        area=sum(record.observations.clear_months_histogram) * figures.pixel_hectares(record.grid),
        place=_place(record),
        layers=layers,
        layer_data=[{key: layer.get(key) for key in ("id", "title", "meanings", "of")} for layer in layers],
        no_data_colour=pictures.NO_DATA_COLOUR,
        viewer=_viewer(record, curves),
        curves=curves,
        curves_source="" if curves is None else data_url(curves.picture()),
        month_names=[figures.month_name(month) for month in record.observations.months],
        maps=[_map(map_record, record) for map_record in record.maps],
        unknown_rule=figures.unknown_rule,
        months_chart=_months_chart(record),
        seen_chart=_seen_chart(record),
        masker=in_words(record.masker),
        set_aside=[f"{code} ({SCENE_CLASSES.get(code, 'unknown')})" for code in record.set_aside],
        cloud_dilation=record.cloud_dilation,
        rules=_rules(record.scenes),
        near_tie=NEAR_TIE,
        phases=PHASES,
        months_made=figures.months_made,
        job=json.dumps(record.job, indent=1, ensure_ascii=False, sort_keys=True),
    )


def _part(name: str) -> str:
    return files("timesenmap.pipeline").joinpath(name).read_text(encoding="utf-8")


def _layers(out: Path, record: RunRecord) -> list[dict[str, Any]]:
    """Pictures of all maps with what their legend and the pointer need: colour -> what it means."""
    layers = []
    area = figures.aoi_in_grid(record)
    for i, map_record in enumerate(record.maps):
        colours = _distinct(map_record)
        values = pictures.read_picture(out / map_record.class_map, longest=_LONGEST_CLASSES, categories=True)
        entries = [c._replace(colour=colours[c.code]) for c in legend.check_classes(map_record.legend)]
        unseen = (values == NO_CLASS) & pictures.area_mask(area, record.grid, values.shape)
        layers.append(
            {
                "id": f"classes-{i}",
                "title": map_record.title,
                "kind": "classes",
                "file": map_record.class_map,
                "source": data_url(pictures.colour_classes(values, entries, unseen=unseen)),
                "meanings": {c.colour: c.name for c in entries} | {pictures.NO_DATA_COLOUR: _UNSEEN},
                "unseen": _UNSEEN if map_record.no_data_pixels else "",
                "entries": figures.class_areas(map_record, record.grid),
                "unknown": figures.unknown_area(map_record, record.grid),
            }
        )
        ramps = {"confidence": (map_record.confidence_map, legend.CONFIDENCE)}
        if map_record.margin_map is not None:
            ramps["margin"] = (map_record.margin_map, legend.MARGIN)
        for kind, (file, ramp) in ramps.items():
            layer = _ramp_layer(out / file, f"{map_record.title}: {kind}", kind, ramp, record)
            layers.append(layer | {"id": f"{kind}-{i}", "of": kind})
    layers.append(_ramp_layer(out / record.observation_map, "Months seen", "observations", legend.OBSERVATIONS, record))
    return layers


def _ramp_layer(path: Path, title: str, kind: str, ramp: legend.Ramp, record: RunRecord) -> dict[str, Any]:
    values = pictures.read_picture(path, longest=_LONGEST, categories=False)
    area = figures.aoi_in_grid(record)
    unseen = (values == NO_VALUE) & pictures.area_mask(area, record.grid, values.shape)
    table = ramp.table()
    return {
        "id": kind,
        "title": title,
        "kind": kind,
        "file": path.name,
        "source": data_url(pictures.colour_ramp(values, ramp, unseen=unseen)),
        "meanings": {_hex(table[n]): f"{n}{ramp.unit}" for n in range(ramp.minimum, ramp.maximum + 1)}
        | {pictures.NO_DATA_COLOUR: _UNSEEN},
        "ramp": ramp,
        "gradient": ", ".join(
            f"{colour} {100 * (value - ramp.minimum) / (ramp.maximum - ramp.minimum):.0f}%"
            for value, colour in ramp.stops
        ),
    }


def _distinct(map_record: MapRecord) -> dict[int, str]:
    """Colours by code, no two the same: the page tells classes under the pointer by their colour.

    Where a prompt set gives one colour twice, the later class gets one a shade away that no eye tells apart.
    """
    taken = {pictures.NO_DATA_COLOUR: 0}
    for c in legend.check_classes(map_record.legend):
        red, green, blue = legend.rgb(c.colour)
        while (colour := f"#{red:02x}{green:02x}{blue:02x}") in taken:
            blue = (blue + 1) % 256
        taken[colour] = c.code
    return {code: colour for colour, code in taken.items() if code}


def _hex(colour: Iterable[int]) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in colour)


def data_url(picture: Image.Image) -> str:
    """Return a palette or grey picture as an address that needs no file."""
    buffer = io.BytesIO()
    transparency = {key: value for key, value in picture.info.items() if key == "transparency"}
    picture.save(buffer, format="PNG", optimize=True, **transparency)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _viewer(record: RunRecord, curves: Curves | None) -> dict[str, Any]:
    """What the page's script needs to place pictures, outline and scale, and to read the curves."""
    height, width = record.grid.shape
    rings = pictures.outlines(figures.aoi_in_grid(record), record.grid)
    return {
        "width": width,
        "height": height,
        "transform": record.grid.transform,
        "metres": figures.metres_a_pixel(record.grid),
        "outline": [np.round(ring, 2).ravel().tolist() for ring in rings],
        "curves": None
        if curves is None
        else {
            "every": curves.every,
            "step": STEP,
            "rows": curves.values.shape[1],
            "columns": curves.values.shape[2],
            "months": [figures.month_name(month) for month in record.observations.months],
        },
    }


def _map(map_record: MapRecord, record: RunRecord) -> dict[str, Any]:
    areas = figures.class_areas(map_record, record.grid)
    unknown = figures.unknown_area(map_record, record.grid)
    rows = areas if unknown is None else [*areas, unknown]
    return {
        "record": map_record,
        "rows": rows,
        "largest": max((area.share for area in rows), default=0.0) or 1.0,
        "unknown": unknown,
        "absent": [c.name for c in map_record.classes if not c.pixels],
        "classified": sum(area.hectares for area in areas),
        "mean_confidence": figures.mean_confidence(map_record),
        "near_ties": figures.share_below(map_record.margin_histogram, NEAR_TIE),
        "chart": _confidence_chart(map_record),
    }


def _confidence_chart(map_record: MapRecord) -> Markup:
    counts = map_record.confidence_histogram
    total = sum(counts) or 1
    table = legend.CONFIDENCE.table()
    starts = list(range(0, 100, _HISTOGRAM_STEP))
    # The last bar holds 100 as well.
    sums = [sum(counts[s : s + _HISTOGRAM_STEP + (s + _HISTOGRAM_STEP == 100)]) for s in starts]
    shares = [100 * n / total for n in sums]
    mean = figures.mean_confidence(map_record)
    return charts.bars(
        shares,
        labels=[f"{s}%" if s % 20 == 0 else "" for s in (*starts, 100)],
        notes=[
            f"{s}-{s + _HISTOGRAM_STEP}%: {share:.1f}% of the pixels" for s, share in zip(starts, shares, strict=True)
        ],
        title=f"Confidence of {map_record.title}",
        description="nothing is classified" if mean is None else f"mean {mean:.0f}%",
        colours=[_hex(table[s + _HISTOGRAM_STEP // 2]) for s in starts],
        unit="%",
    )


def _months_chart(record: RunRecord) -> Markup:
    observations = record.observations
    shares = [100 * share for share in observations.clear_share_by_month]
    rows = list(zip(observations.months, shares, observations.scenes_by_month, strict=True))
    return charts.bars(
        shares,
        labels=[f"{figures.month_name(month)[:3]}" for month in observations.months],
        notes=[f"{figures.month_name(month)} {month[:4]}: {share:.0f}% seen, {n} scenes" for month, share, n in rows],
        title="Share of the area seen clearly, by month",
        description="; ".join(f"{figures.month_name(month)} {share:.0f}%" for month, share, _ in rows),
        tops=[str(n) for n in observations.scenes_by_month],
        top=100,
        unit="%",
    )


def _seen_chart(record: RunRecord) -> Markup:
    counts = record.observations.clear_months_histogram
    shares = [100 * n / (sum(counts) or 1) for n in counts]
    table = legend.OBSERVATIONS.table()
    return charts.bars(
        shares,
        labels=[str(n) for n in range(13)],
        notes=[f"{n} months: {share:.1f}% of the area" for n, share in enumerate(shares)],
        title="Months seen clearly, by share of the area",
        description="; ".join(f"{n}: {share:.0f}%" for n, share in enumerate(shares) if share >= 0.5),
        colours=[_hex(table[n]) for n in range(13)],
        unit="%",
    )


def _rules(scenes: Iterable[SceneRecord]) -> list[tuple[str, int]]:
    """How many scenes each radiometry rule was applied to, most used first."""
    return Counter(rule for scene in scenes for rule in sorted(set(scene.radiometry.values()))).most_common()


def _place(record: RunRecord) -> str:
    centre = shapely.geometry.shape(record.aoi).representative_point()
    north, east = "N" if centre.y >= 0 else "S", "E" if centre.x >= 0 else "W"
    return f"{abs(centre.y):.3f}° {north}, {abs(centre.x):.3f}° {east}"


def hectares(value: float) -> str:
    """Area for people: three figures at least, thousands apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"


def thousands(value: float) -> str:
    """Count with its thousands apart."""
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Seconds for people: '0.8 s', '81 s', '12 min', '3 h 05 min'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
