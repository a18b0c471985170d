"""Numbers and words that several descriptions of a run share: areas, period, places in the grid's CRS."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyproj
import shapely

from timesenmap.pipeline import projection
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.record import ClassRecord, GridRecord, MapRecord, MonthsRecord, RunRecord

_MONTH_NAMES = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


@dataclass(frozen=True)
class ClassArea:
    """One class of a map with its area; ``share`` (0..1) is of the pixels seen; confidence 0..100."""

    code: int
    name: str
    colour: str
    pixels: int
    hectares: float
    share: float
    mean_confidence: float | None


def pixel_hectares(grid: GridRecord) -> float:
    """Area of a pixel: of the grid's cells in a projected CRS, the mean geodesic area in a geographic one.

    The projected area is not corrected for the projection's scale: in UTM that is off by at most 0.2 % within a
    zone, and nothing in an equal-area CRS.
    """
    a, b, _, d, e, _ = grid.transform
    crs = pyproj.CRS.from_user_input(grid.crs)
    if crs.is_projected:
        metres = crs.axis_info[0].unit_conversion_factor
        return abs(a * e - b * d) * metres**2 / 1e4
    area, _ = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(shapely.segmentize(extent(grid), 0.1))
    return float(abs(area)) / (grid.shape[0] * grid.shape[1]) / 1e4


def metres_a_pixel(grid: GridRecord) -> float:
    """Width of a pixel on the ground in metres; in a geographic CRS that of the middle row."""
    crs = pyproj.CRS.from_user_input(grid.crs)
    if crs.is_projected:
        return abs(grid.transform[0]) * float(crs.axis_info[0].unit_conversion_factor)
    middle = extent(grid).centroid
    _, _, metres = pyproj.Geod(ellps="WGS84").inv(middle.x, middle.y, middle.x + abs(grid.transform[0]), middle.y)
    return float(metres)


def class_areas(map_record: MapRecord, grid: GridRecord) -> list[ClassArea]:
    """Classes that occur in a map, largest first (ties by code)."""
    hectares, seen = pixel_hectares(grid), _pixels_seen(map_record)
    areas = [_area(c, c.name, hectares, seen) for c in map_record.classes if c.pixels]
    return sorted(areas, key=lambda area: (-area.pixels, area.code))


def unknown_area(map_record: MapRecord, grid: GridRecord) -> ClassArea | None:
    """What a map leaves unknown, be it nothing; None where nothing was to be left."""
    if map_record.unknown is None:
        return None
    name = f"{map_record.unknown.name} ({unknown_rule(map_record)})"
    return _area(map_record.unknown, name, pixel_hectares(grid), _pixels_seen(map_record))


def unknown_rule(map_record: MapRecord) -> str:
    """Return the confidence under which a map's pixels are unknown, in words: 'below 60%'."""
    return f"below {100 * map_record.unknown_below:g}%"


def _pixels_seen(map_record: MapRecord) -> int:
    return sum(c.pixels for c in map_record.legend)


def _area(c: ClassRecord, name: str, pixel: float, seen: int) -> ClassArea:
    return ClassArea(
        code=c.code,
        name=name,
        colour=c.colour,
        pixels=c.pixels,
        hectares=c.pixels * pixel,
        share=c.pixels / max(1, seen),
        mean_confidence=c.mean_confidence,
    )


def share_below(histogram: Sequence[int] | None, percent: int) -> float | None:
    """Share (0..1) of the pixels of a histogram (101 counts by percent) that have less; None where it has none."""
    total = sum(histogram or ())
    return sum((histogram or ())[:percent]) / total if total else None


def mean_confidence(map_record: MapRecord) -> float | None:
    """Mean of the map's confidence in percent; None where nothing is classified."""
    counts = np.asarray(map_record.confidence_histogram)
    return float(counts @ np.arange(101) / counts.sum()) if counts.any() else None


def period(record: RunRecord) -> str:
    """Return the twelve months in words: 'January to December 2018', 'August 2017 to July 2018'."""
    first, last = record.observations.months[0], record.observations.months[-1]
    start = month_name(first) if first[:4] == last[:4] else f"{month_name(first)} {first[:4]}"
    return f"{start} to {month_name(last)} {last[:4]}"


def month_name(month: str) -> str:
    """Name of a month 'YYYY-MM' in English, whatever the machine's language."""
    return _MONTH_NAMES[int(month[5:7]) - 1]


def months_made(months: MonthsRecord) -> str:
    """Say in a line which months of a cube were made and which taken over."""
    parts = [f"{_listed(months.made)} made" if months.made else "no month made"]
    for source, found in groupby(months.taken, key=lambda one: one.source):
        labels = [one.month for one in found]
        parts.append(f"{_listed(labels)} taken from {source}" if source else f"{_listed(labels)} kept as they stood")
    return "; ".join(parts)


def _listed(labels: Sequence[str]) -> str:
    """Months as people say them: "2021-02 to 2021-12 (11 months)", "2022-01"."""
    runs: list[list[str]] = []
    for label in labels:
        if runs and _number(label) == _number(runs[-1][-1]) + 1:
            runs[-1].append(label)
        else:
            runs.append([label])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]} ({len(run)} months)" for run in runs)


def _number(label: str) -> int:
    return int(label[:4]) * 12 + int(label[5:])


def percent(share: float) -> str:
    """Share (0..1) for people: '41%', '2.4%', '<0.1%'."""
    return f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}" if share >= 0.0005 else "<0.1%" if share else "0%"


def from_copernicus(record: RunRecord) -> bool:
    """Whether the scenes are Copernicus data, as their licence line says; the demonstration's are generated."""
    return "copernicus" in record.attribution.lower()


def scenes(record: RunRecord) -> str:
    """Return the number of scenes in words: '118 Sentinel-2 scenes', '1 scene'."""
    count = len(record.scenes)
    return f"{count} {'Sentinel-2 ' if from_copernicus(record) else ''}scene{'' if count == 1 else 's'}"


def attribution(record: RunRecord) -> str:
    """Return the licence line of a run's scenes."""
    return licence_line(record.attribution, record.observations.months)


def licence_line(credit: str, months: Sequence[str]) -> str:
    """Return the credit of scenes with the years of the data, as the Copernicus terms ask for; months are 'YYYY-MM'."""
    if any(letter.isdigit() for letter in credit):
        return credit
    years = sorted({month[:4] for month in months})
    return f"{credit} {'-'.join(years)}"


def extent(grid: GridRecord) -> shapely.Polygon:
    """Outline of the grid in its own CRS."""
    a, _, c, _, e, f = grid.transform
    height, width = grid.shape
    ys, xs = sorted((f, f + e * height)), sorted((c, c + a * width))
    return shapely.box(xs[0], ys[0], xs[1], ys[1])


def footprint(grid: GridRecord) -> shapely.Geometry:
    """Outline of the grid in lon/lat (EPSG:4326), cut at the antimeridian; MapError where it has none."""
    outline = projection.to_lon_lat(extent(grid), pyproj.CRS.from_user_input(grid.crs))
    if outline is None:
        raise MapError(f"the grid ({grid.crs}) has no outline in longitude and latitude")
    return outline


def aoi_in_grid(record: RunRecord) -> shapely.Geometry:
    """Return the area of interest in the grid's CRS; MapError where it has no place there."""
    area = shapely.geometry.shape(record.aoi)
    if not isinstance(area, shapely.Polygon | shapely.MultiPolygon):
        raise MapError(f"the area of interest is a {area.geom_type}: a polygon is needed")
    moved = projection.project(area, projection.LON_LAT, pyproj.CRS.from_user_input(record.grid.crs))
    if moved is None:
        raise MapError(f"the area of interest cannot be drawn in the grid's CRS ({record.grid.crs})")
    return moved


def crs_name(grid: GridRecord) -> str:
    """Name of the CRS for people: 'WGS 84 / UTM zone 31N (EPSG:32631)'."""
    crs = pyproj.CRS.from_user_input(grid.crs)
    authority = crs.to_authority()
    return f"{crs.name} ({':'.join(authority)})" if authority else str(crs.name)
