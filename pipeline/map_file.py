"""Class maps read back from disk: where they lie, what their codes mean, their pixels window by window."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.windows import Window

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.legend import UNKNOWN, LegendEntry, check_classes
from timesenmap.pipeline.rasters import BLOCK, NO_CLASS
from timesenmap.pipeline.record import GridRecord

_LEGEND_HINT = "keep the .aux.xml and .qml that make-map wrote beside it, under the map's own name"


@dataclass(frozen=True)
class ClassMap:
    """A class map on disk; pixels are read when they are asked for.

    It is a ``rasters.Raster``: ``class_map[y0:y1, x0:x1]`` gives the codes (y, x) uint8 of a window, and MapError
    where one of them is neither a class, no data nor unknown.

    Parameters
    ----------
    path
        The file: GeoTIFF or VRT.
    grid
        Where its pixels lie: north-up, with a CRS.
    classes
        Code, name and colour by ascending code; ``legend.UNKNOWN`` (255) among them where pixels may be unknown.
    tags
        GDAL metadata of the file (title, period, encoder, prompts, ...).
    """

    path: Path
    grid: GeoBox
    classes: tuple[LegendEntry, ...]
    tags: dict[str, str]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns (y, x)."""
        height, width = self.grid.shape
        return int(height), int(width)

    @property
    def known(self) -> tuple[LegendEntry, ...]:
        """The classes without ``legend.UNKNOWN``."""
        return tuple(entry for entry in self.classes if entry != UNKNOWN)

    @property
    def names(self) -> dict[int, str]:
        """Class name by code."""
        return {entry.code: entry.name for entry in self.classes}

    @property
    def title(self) -> str:
        """The title in the metadata, else the file's name."""
        return self.tags.get("TITLE") or self.path.stem

    @property
    def confidence_path(self) -> Path:
        """Where ``make-map`` puts the confidence of this map; there may be no such file."""
        return self.path.with_name(f"{self.path.stem}.confidence{self.path.suffix}")

    @property
    def record(self) -> GridRecord:
        """The grid as reports and areas take it (``figures.pixel_hectares``)."""
        return GridRecord(
            crs=str(self.grid.crs),
            shape=self.shape,
            transform=tuple(self.grid.affine)[:6],
            resolution=abs(self.grid.affine.a),
        )

    def windows(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of the map's block rows, from north to south."""
        height, width = self.shape
        for y0 in range(0, height, BLOCK):
            yield slice(y0, min(y0 + BLOCK, height)), slice(0, width)

    def __getitem__(self, key: Any, /) -> NDArray[np.uint8]:
        """Codes (y, x) of a window given as two slices without a step."""
        codes = read_window(self.path, key)
        meaningful = np.zeros(256, dtype=bool)
        meaningful[[NO_CLASS, *self.names]] = True
        if not meaningful[codes].all():
            bad = ", ".join(map(str, np.unique(codes[~meaningful[codes]])))
            raise MapError(f"map {self.path}: pixels have codes without a name ({bad}); {_LEGEND_HINT}")
        return codes

    def pixels(self) -> NDArray[np.int64]:
        """Count the pixels by code (256,), no data (0) and unknown (255) included."""
        counts = np.zeros(256, np.int64)
        for window in self.windows():
            counts += np.bincount(self[window].ravel(), minlength=256)
        return counts


def read_class_map(path: Path) -> ClassMap:
    """Open a class map as ``make-map`` writes it: one band of uint8 codes, 0 = no data, 255 = unknown.

    Names come from the category names (``.aux.xml``, or in a VRT itself), colours from the colour table; a map that
    lacks either takes both from its QGIS style (``.qml``).

    Raises
    ------
    MapError
        No such file, not readable, several bands, another type or no-data value, not north-up, no CRS, no names.
    """
    try:
        with rasterio.open(path) as source:
            _check(path, source)
            grid = GeoBox(source.shape, source.transform, source.crs.to_wkt())
            tags = {name: value for name, value in source.tags().items() if name != "AREA_OR_POINT"}
            colours = _colour_table(source)
    except RasterioError as error:
        raise MapError(f"map {path}: cannot be read ({_one_line(error)}); name a class map of make-map") from error
    return ClassMap(path, grid, tuple(_classes(path, colours)), tags)


def read_window(path: Path, key: tuple[slice, slice]) -> NDArray[np.uint8]:
    """Values (y, x) uint8 of a window of a file's first band, given as two slices without a step."""
    with rasterio.open(path) as source:
        values: NDArray[np.uint8] = source.read(1, window=Window.from_slices(*key, *source.shape))
    return values


def require_same_grid(one: ClassMap, path: Path) -> None:
    """Refuse a file (another map, a confidence map) whose pixels are not those of a map; MapError says what differs."""
    ours, theirs = _grid_facts(one.path), _grid_facts(path)
    differing = [f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name]]
    if differing:
        raise MapError(
            f"maps {one.path} and {path}: not the same grid ({'; '.join(differing)}); make both with the same --aoi, "
            "--resolution and --crs"
        )


def _grid_facts(path: Path) -> dict[str, object]:
    try:
        with rasterio.open(path) as source:
            return {"CRS": source.crs, "size (y, x)": source.shape, "transform": tuple(source.transform)[:6]}
    except RasterioError as error:
        raise MapError(f"map {path}: cannot be read ({_one_line(error)}); check the path") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _check(path: Path, source: Any) -> None:
    remedy = "name a class map of make-map, not its confidence, probabilities or margin"
    if source.count != 1 or source.dtypes[0] != "uint8":
        kind = ", ".join(sorted(set(source.dtypes)))
        raise MapError(f"map {path}: {source.count} bands of {kind}, a class map is one band of uint8; {remedy}")
    if source.nodata != NO_CLASS:
        raise MapError(f"map {path}: its no-data value is {source.nodata}, that of a class map is {NO_CLASS}; {remedy}")
    if source.crs is None:
        raise MapError(f"map {path}: has no CRS; give it the one it was made in (gdal_edit.py -a_srs)")
    transform = source.transform
    if transform.e >= 0 or transform.b or transform.d:
        raise MapError(f"map {path}: is not north-up (transform {tuple(transform)[:6]}); warp it with gdalwarp")


def _colour_table(source: Any) -> dict[int, str]:
    try:
        table = source.colormap(1)
    except ValueError:  # rasterio's word for a band without a colour table
        return {}
    return {code: "#{:02x}{:02x}{:02x}".format(*colour[:3]) for code, colour in table.items()}


def _classes(path: Path, colours: dict[int, str]) -> list[LegendEntry]:
    names = _category_names(path)
    if names and colours:
        return check_classes(LegendEntry(code, name, colours[code]) for code, name in names.items())
    styled = _styled(path.with_suffix(".qml"))
    if not styled:
        lacking = "category names" if colours else "a colour table"
        raise MapError(f"map {path}: has neither {lacking} nor a QGIS style that names its classes; {_LEGEND_HINT}")
    return check_classes(styled)


def _category_names(path: Path) -> dict[int, str]:
    """Names by code; GDAL keeps those of a GeoTIFF beside it and those of a VRT inside it."""
    beside = path.with_name(path.name + ".aux.xml")
    for file in (beside, path) if path.suffix.lower() == ".vrt" else (beside,):
        found = _xml(file)
        categories = [] if found is None else found.findall(".//CategoryNames/Category")
        names = {code: category.text for code, category in enumerate(categories) if code != NO_CLASS and category.text}
        if names:
            return names
    return {}


def _styled(style: Path) -> list[LegendEntry]:
    found = _xml(style)
    entries = [] if found is None else found.findall(".//colorPalette/paletteEntry")
    return [LegendEntry(int(e.get("value", "")), e.get("label", ""), e.get("color", "")) for e in entries]


def _xml(file: Path) -> ET.Element | None:
    if not file.is_file():
        return None
    try:
        return ET.fromstring(file.read_bytes())  # noqa: S314 - expat expands no external entities
    except ET.ParseError as error:
        raise MapError(f"{file}: is no XML ({error}); {_LEGEND_HINT}") from error
