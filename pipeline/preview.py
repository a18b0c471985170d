"""``preview.png``: the maps of a run in one picture, with legend, confidence, scale and north.

Drawn at twice the size and reduced at the end, so that lines and letters come out smooth. One map is laid out wide
(map left, legend right), several as cards in two columns.
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from timesenmap.pipeline import figures, lettering, pictures
from timesenmap.pipeline.legend import CONFIDENCE, Ramp
from timesenmap.pipeline.record import MapRecord, RunRecord
from timesenmap.pipeline.whole import write_whole

_SCALE = 2  # drawn this much larger than the picture
_INK, _SOFT, _FAINT, _PAPER, _OUTLINE = "#1d2529", "#5b666c", "#c9cfd2", "#ffffff", "#20262a"
_MARGIN, _GAP, _PANEL = 44 * _SCALE, 40 * _SCALE, 760 * _SCALE
_TITLE, _HEADING, _TEXT, _SMALL = 34 * _SCALE, 25 * _SCALE, 19 * _SCALE, 16 * _SCALE
_LEGEND_ROW, _SWATCH, _LINE = 28 * _SCALE, 18 * _SCALE, 2 * _SCALE
_WIDE_COLUMN = 430 * _SCALE  # legend beside a single map
_INSET = 230 * _SCALE  # confidence below a map among several


def write_preview(out: Path, record: RunRecord) -> Path:
    """Write ``preview.png`` into the output folder, whole or not at all, and return its path."""
    picture = draw_preview(out, record)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return write_whole(out / "preview.png", buffer.getvalue())


def draw_preview(out: Path, record: RunRecord) -> Image.Image:
    """Return the picture of a run whose maps lie in ``out``."""
    if len(record.maps) == 1:
        body = _wide(out, record, record.maps[0])
    else:
        body = _in_columns([_card(out, record, map_record) for map_record in record.maps])
    head = _head(record, body.width)
    foot = _foot(record, body.width)
    return _stack([head, body, foot], gap=_GAP * 3 // 4, margin=_MARGIN).reduce(_SCALE)


def _head(record: RunRecord, room: int) -> Image.Image:
    facts = [
        figures.period(record),
        f"{figures.metres_a_pixel(record.grid):.3g} m pixels",
        figures.scenes(record),
        f"encoder {record.encoder.name}",
    ]
    titles = lettering.wrap(record.title, _TITLE, room)[:2]
    head = _paper(room, len(titles) * _TITLE * 5 // 4 + _TEXT * 3 // 2)
    draw = ImageDraw.Draw(head)
    for i, line in enumerate(titles):
        lettering.write(draw, (0, _TITLE + i * _TITLE * 5 // 4), line, _TITLE, fill=_INK)
    line = lettering.shorten("  ·  ".join(facts), _TEXT, room)
    lettering.write(draw, (0, head.height - _TEXT // 4), line, _TEXT, fill=_SOFT)
    return head


def _foot(record: RunRecord, room: int) -> Image.Image:
    pixels = "pixels seen" if any(map_record.unknown for map_record in record.maps) else "classified pixels"
    lines = lettering.wrap(
        f"{figures.attribution(record)}. Each pixel has the class whose description in words is nearest to its year of "
        f"observations. Shares are of the {pixels}; more in index.html.",
        _SMALL,
        room,
    )
    foot = _paper(room, len(lines) * _SMALL * 3 // 2)
    draw = ImageDraw.Draw(foot)
    for i, line in enumerate(lines):
        lettering.write(draw, (0, _SMALL + i * _SMALL * 3 // 2), line, _SMALL, fill=_SOFT)
    return foot


def _wide(out: Path, record: RunRecord, map_record: MapRecord) -> Image.Image:
    """One map: picture left, legend and confidence right."""
    panel = _stack([_panel(out, record, map_record, _PANEL), _scale_strip(record, _PANEL)], gap=_GAP // 4)
    inset = _confidence(out, record, map_record, _WIDE_COLUMN * 3 // 4)
    rows = max(8, (panel.height - inset.height - _GAP - _HEADING * 2) // _LEGEND_ROW)
    heading = _heading(map_record.title, _WIDE_COLUMN)
    column = _stack([heading, _legend(record, map_record, _WIDE_COLUMN, columns=1, rows=rows), inset], gap=_GAP // 2)
    return _beside([panel, column], gap=_GAP)


def _card(out: Path, record: RunRecord, map_record: MapRecord) -> Image.Image:
    """One map among several: title, picture, scale, then legend and confidence side by side."""
    room = _PANEL - _INSET - _GAP // 2
    inset = _confidence(out, record, map_record, _INSET)
    rows = max(8, inset.height // _LEGEND_ROW, math.ceil(len(map_record.legend) / 2))
    legend = _legend(record, map_record, room, columns=2, rows=min(rows, 15))
    parts = [
        _heading(map_record.title, _PANEL),
        _panel(out, record, map_record, _PANEL),
        _scale_strip(record, _PANEL),
        _beside([_padded(legend, room), inset], gap=_GAP // 2),
    ]
    return _stack(parts, gap=_GAP // 3)


def _panel(out: Path, record: RunRecord, map_record: MapRecord, side: int) -> Image.Image:
    values = pictures.read_picture(out / map_record.class_map, longest=side, categories=True)
    return _map_picture(pictures.colour_classes(values, map_record.legend), record, side)


def _map_picture(coloured: Image.Image, record: RunRecord, side: int, *, line: int = _LINE) -> Image.Image:
    """Fit a coloured map into a square of ``side``: grey where the area has no data, its outline on top."""
    height, width = record.grid.shape
    zoom = side / max(height, width)
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    area = figures.aoi_in_grid(record)
    picture = _paper(*size)
    picture.paste(pictures.NO_DATA_COLOUR, mask=Image.fromarray(pictures.area_mask(area, record.grid, size[::-1])))
    enlarged = coloured.convert("RGBA").resize(size, Image.Resampling.NEAREST)
    picture.paste(enlarged, mask=enlarged.getchannel("A"))
    draw = ImageDraw.Draw(picture)
    for ring in pictures.outlines(area, record.grid):
        corners = [(float(x) * zoom, float(y) * zoom) for x, y in ring]
        draw.line(corners, fill=_OUTLINE, width=line, joint="curve")
    return picture


def _scale_strip(record: RunRecord, side: int) -> Image.Image:
    """Scale bar on the left, CRS and north arrow on the right; as wide as the map above it."""
    height, width = record.grid.shape
    zoom = side / max(height, width)
    metres_a_dot = figures.metres_a_pixel(record.grid) / zoom
    room = max(round(width * zoom), 300 * _SCALE)
    strip = _paper(room, 30 * _SCALE)
    draw = ImageDraw.Draw(strip)
    metres = _round_length(width * zoom * 0.3 * metres_a_dot)
    bar = round(metres / metres_a_dot)
    middle, end, base = 18 * _SCALE, 5 * _SCALE, 18 * _SCALE + _SMALL // 4
    draw.line([(1, middle - end), (1, middle), (bar, middle), (bar, middle - end)], fill=_INK, width=_LINE)
    label = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    lettering.write(draw, (bar + 10 * _SCALE, base), label, _SMALL, fill=_INK)
    tip = room - 8 * _SCALE
    arrow = [(tip, 2 * _SCALE), (tip + 7 * _SCALE, 24 * _SCALE), (tip, 19 * _SCALE), (tip - 7 * _SCALE, 24 * _SCALE)]
    draw.polygon(arrow, fill=_INK)
    lettering.write(draw, (tip - 13 * _SCALE, base), "N", _SMALL, fill=_INK, anchor="rs")
    left = bar + 24 * _SCALE + lettering.width(label, _SMALL)
    name = figures.crs_name(record.grid)
    if left + lettering.width(name, _SMALL) < tip - 50 * _SCALE:
        lettering.write(draw, (tip - 40 * _SCALE, base), name, _SMALL, fill=_SOFT, anchor="rs")
    return strip


def _round_length(most: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten that is not above ``most``."""
    power = 10.0 ** math.floor(math.log10(most))
    return max(factor * power for factor in (1.0, 2.0, 5.0) if factor * power <= most)


def _legend(record: RunRecord, map_record: MapRecord, room: int, *, columns: int, rows: int) -> Image.Image:
    """Classes that occur, with their share; those too many for ``rows`` lines together; last what has no class."""
    entries: list[tuple[str, str, float | None]] = [
        (area.colour, area.name, area.share) for area in figures.class_areas(map_record, record.grid)
    ]
    unknown = figures.unknown_area(map_record, record.grid)
    classless: list[tuple[str, str, float | None]] = []
    if unknown is not None and unknown.pixels:
        classless.append((unknown.colour, unknown.name, unknown.share))
    if map_record.no_data_pixels:
        classless.append((pictures.NO_DATA_COLOUR, "no clear observation", None))
    places = columns * rows - len(classless)
    if len(entries) > places:
        rest = entries[places - 1 :]
        entries = [*entries[: places - 1], (_PAPER, f"{len(rest)} more classes", sum(s or 0 for *_, s in rest))]
    entries = [*entries, *classless]
    used = max(1, min(rows, math.ceil(len(entries) / columns)))
    legend = _paper(room, used * _LEGEND_ROW)
    draw = ImageDraw.Draw(legend)
    column_room = (room - (columns - 1) * _GAP // 2) // columns
    for i, (colour, name, share) in enumerate(entries):
        x, y = i // used * (column_room + _GAP // 2), i % used * _LEGEND_ROW
        draw.rectangle([x, y, x + _SWATCH, y + _SWATCH], fill=colour, outline=_FAINT, width=_SCALE)
        number = "" if share is None else figures.percent(share)
        base, right = y + _SWATCH - 3 * _SCALE, x + column_room
        lettering.write(draw, (right, base), number, _SMALL, fill=_SOFT, anchor="rs")
        start = x + _SWATCH + 9 * _SCALE
        left_over = right - start - lettering.width(number, _SMALL) - 8 * _SCALE
        size = _SMALL if lettering.width(name, _SMALL) <= left_over else _SMALL * 17 // 20
        lettering.write(draw, (start, base), lettering.shorten(name, size, left_over), size, fill=_INK)
    return legend


def _confidence(out: Path, record: RunRecord, map_record: MapRecord, side: int) -> Image.Image:
    """Small map of confidence with its colour bar and mean."""
    values = pictures.read_picture(out / map_record.confidence_map, longest=side, categories=False)
    picture = _map_picture(pictures.colour_ramp(values, CONFIDENCE), record, side, line=_LINE // 2)
    mean = figures.mean_confidence(map_record)
    title = "Confidence" if mean is None else f"Confidence, mean {mean:.0f}%"
    return _stack([_line(title, _SMALL, _INK), picture, _colour_bar(CONFIDENCE, side)], gap=_GAP // 5)


def _colour_bar(ramp: Ramp, room: int) -> Image.Image:
    bar = _paper(room, 34 * _SCALE)
    draw = ImageDraw.Draw(bar)
    table = ramp.table()
    for x in range(room):
        value = ramp.minimum + round(x / max(1, room - 1) * (ramp.maximum - ramp.minimum))
        red, green, blue = (int(channel) for channel in table[value])
        draw.line([(x, 0), (x, 11 * _SCALE)], fill=(red, green, blue))
    for x, value, anchor in ((0, ramp.minimum, "ls"), (room, ramp.maximum, "rs")):
        lettering.write(draw, (x, 29 * _SCALE), f"{value}{ramp.unit}", _SMALL, fill=_SOFT, anchor=anchor)
    return bar


def _line(text: str, size: int, fill: str) -> Image.Image:
    line = _paper(max(1, math.ceil(lettering.width(text, size))), size * 5 // 4)
    lettering.write(ImageDraw.Draw(line), (0, size), text, size, fill=fill)
    return line


def _heading(text: str, room: int) -> Image.Image:
    return _line(lettering.shorten(text, _HEADING, room), _HEADING, _INK)


def _paper(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), _PAPER)


def _padded(picture: Image.Image, width: int) -> Image.Image:
    sheet = _paper(max(width, picture.width), picture.height)
    sheet.paste(picture)
    return sheet


def _stack(parts: Sequence[Image.Image], *, gap: int, margin: int = 0) -> Image.Image:
    """Pictures below one another, flush left."""
    width = max(part.width for part in parts) + 2 * margin
    sheet = _paper(width, sum(part.height for part in parts) + gap * (len(parts) - 1) + 2 * margin)
    y = margin
    for part in parts:
        sheet.paste(part, (margin, y))
        y += part.height + gap
    return sheet


def _beside(parts: Sequence[Image.Image], *, gap: int) -> Image.Image:
    """Pictures beside one another, flush at the top."""
    sheet = _paper(sum(part.width for part in parts) + gap * (len(parts) - 1), max(part.height for part in parts))
    x = 0
    for part in parts:
        sheet.paste(part, (x, 0))
        x += part.width + gap
    return sheet


def _in_columns(cards: Sequence[Image.Image], columns: int = 2) -> Image.Image:
    width = max(card.width for card in cards)
    rows = [
        _beside([_padded(card, width) for card in cards[i : i + columns]], gap=_GAP)
        for i in range(0, len(cards), columns)
    ]
    return _stack(rows, gap=_GAP)
