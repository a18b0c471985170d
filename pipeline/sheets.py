"""Maps of large areas: sheets, each a map of its own, and a VRT that shows them as one.

A sheet is a window of the grid whose side is a multiple of a block, so that its overviews are those of the whole map,
pixel for pixel. Sheets that the area does not touch are left out. The VRT has colours, names and metadata of its
sheets, and overviews that are read from theirs; its paths are relative.
"""

import glob
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree as ET

import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox

from timesenmap.pipeline.aoi import Aoi
from timesenmap.pipeline.cog import Raster
from timesenmap.pipeline.grid import Tile, tiles
from timesenmap.pipeline.whole import write_whole

FOLDER = "sheets"

# A gigapixel: a sheet of one band stays below the 4 GB up to which a TIFF is a plain one, and a country has a dozen.
SHEET = 32_768


@dataclass(frozen=True)
class SheetValues:
    """The values (y, x) or (band, y, x) of one sheet of a map; a ``cog.Raster``."""

    values: Raster
    sheet: Tile

    @property
    def shape(self) -> tuple[int, ...]:
        """Those of the sheet."""
        return (*self.values.shape[:-2], *self.sheet.shape)

    def __getitem__(self, key: Any, /) -> Any:
        """Values of a window given in pixels of the sheet, by slices without a step."""
        *bands, rows, columns = key
        y0, x0 = self.sheet.y0, self.sheet.x0
        moved = slice(rows.start + y0, rows.stop + y0), slice(columns.start + x0, columns.stop + x0)
        return self.values[(*bands, *moved)]


def cut(grid: GeoBox, size: int, aoi: Aoi) -> list[Tile]:
    """Sheets of a grid, `size` pixels on a side, that an area touches; none where the whole grid fits in one."""
    return tiles(grid, size, aoi=aoi) if max(grid.shape.yx) > size else []


def sheet_file(name: str, sheet: Tile) -> str:
    """File of a sheet of the map `name`, in the output folder."""
    return f"{FOLDER}/{name}.{sheet.key}.tif"


def write_mosaic(path: Path, sheets: Mapping[Tile, Path], grid: GeoBox) -> None:
    """Write the VRT of a map's sheets, and its ``.qml`` style; each whole or not at all.

    Parameters
    ----------
    path
        The ``.vrt`` to make or replace.
    sheets
        The files, with what each covers of the grid; they lie in or below the folder of `path`, and have as many levels
        as a whole sheet (``cog.levels_of`` its side).
    grid
        That of the whole map.
    """
    first = next(iter(sheets.values()))
    document = _described(first)
    height, width = grid.shape.yx
    document.set("rasterXSize", str(width))
    document.set("rasterYSize", str(height))
    a, b, c, d, e, f = tuple(grid.affine)[:6]
    _found(document, "GeoTransform").text = ", ".join(repr(float(n)) for n in (c, a, b, f, d, e))
    for metadata in document.findall("Metadata[@domain='IMAGE_STRUCTURE']"):
        document.remove(metadata)  # says LAYOUT=COG, which a VRT is not
    for band in document.findall("VRTRasterBand"):
        template = _found(band, "SimpleSource")
        band.remove(template)
        for sheet, file in sheets.items():
            band.append(_source(template, sheet, file.relative_to(path.parent).as_posix()))
    with rasterio.open(first) as source:
        factors = source.overviews(1)
    if factors:
        ET.SubElement(document, "OverviewList").text = " ".join(map(str, factors))
    ET.indent(document)
    style = first.with_suffix(".qml")
    if style.is_file():
        write_whole(path.with_suffix(".qml"), style.read_bytes())
    write_whole(path, ET.tostring(document, encoding="unicode") + "\n")  # last: where the map is, its style is


def remove_other_form(out: Path, name: str, kept: Sequence[str]) -> None:
    """Remove what an earlier run left of a map in another form: one file instead of sheets, or sheets of another size.

    `kept` are the map's files as they are now, relative to the output folder; sidecars stay with their file.
    """
    found = [out / f"{name}.tif", out / f"{name}.vrt"]
    if (out / FOLDER).is_dir():
        found += sorted((out / FOLDER).glob(f"{glob.escape(name)}.r[0-9]*c[0-9]*.tif"))
    for path in found:
        if path.relative_to(out).as_posix() not in kept:
            path.unlink(missing_ok=True)
            path.with_name(path.name + ".aux.xml").unlink(missing_ok=True)
            if path.parent != out:
                path.with_suffix(".qml").unlink(missing_ok=True)
    if (out / FOLDER).is_dir() and not any((out / FOLDER).iterdir()):
        (out / FOLDER).rmdir()


def _described(sheet: Path) -> ET.Element:
    """Let GDAL describe one sheet as a VRT: CRS, metadata, and bands with colours, names and no data."""
    with TemporaryDirectory() as folder:
        vrt = Path(folder) / "sheet.vrt"
        rasterio.shutil.copy(sheet, vrt, driver="VRT")
        return ET.fromstring(vrt.read_bytes())  # noqa: S314 - written by GDAL a moment ago


def _source(template: ET.Element, sheet: Tile, file: str) -> ET.Element:
    source = deepcopy(template)
    name = _found(source, "SourceFilename")
    name.text = file
    name.set("relativeToVRT", "1")
    height, width = sheet.shape
    size = {"xSize": str(width), "ySize": str(height)}
    properties = _found(source, "SourceProperties")
    properties.set("RasterXSize", str(width))
    properties.set("RasterYSize", str(height))
    _found(source, "SrcRect").attrib.update({"xOff": "0", "yOff": "0", **size})
    _found(source, "DstRect").attrib.update({"xOff": str(sheet.x0), "yOff": str(sheet.y0), **size})
    return source


def _found(parent: ET.Element, tag: str) -> ET.Element:
    element = parent.find(tag)
    assert element is not None, f"GDAL wrote a VRT without {tag}"
    return element
