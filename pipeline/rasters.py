"""The maps of a run as cloud-optimised GeoTIFFs, each with its legend beside it.

A map is made in a temporary folder beside the target (:mod:`timesenmap.pipeline.cog`) and takes the target's name when
it is whole and has been read back: a full disk is an error and not a broken map, and nothing is left behind on failure.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from timesenmap.pipeline import legend, overviews
from timesenmap.pipeline.cog import BLOCK, Layout, Raster, build_cog, levels_of

__all__ = [
    "BLOCK",
    "NO_CLASS",
    "NO_VALUE",
    "Raster",
    "write_class_map",
    "write_confidence_map",
    "write_margin_map",
    "write_observation_map",
    "write_probability_map",
]

NO_CLASS = 0
NO_VALUE = 255


def write_class_map(
    path: Path,
    values: Raster,
    grid: GeoBox,
    classes: Sequence[legend.LegendClass],
    *,
    tags: Mapping[str, str],
    levels: int | None = None,
) -> None:
    """Write a class map: COG with colour table and mode overviews, ``.tif.aux.xml`` with names, ``.qml`` style.

    Parameters
    ----------
    path
        The ``.tif`` to make or replace; the sidecars take its name.
    values
        uint8 (y, x), 0 = no data, otherwise the code of one of ``classes``.
    grid
        Where the pixels lie; north-up.
    classes
        Code, name and colour of every class, present or not; ``legend.UNKNOWN`` among them where 255 may occur.
    tags
        GDAL metadata of the file (title, year, licence line, ...).
    levels
        Overviews and the map itself; by default down to one that fits in a block. All sheets of a map have as many.

    Raises
    ------
    MapError
        Where the classes contradict each other (see ``legend.check_classes``).
    ValueError
        Where shapes differ, the grid is not north-up, or a value is not a class.
    """
    entries = legend.check_classes(classes)
    _write_map(
        path,
        values,
        grid,
        nodata=NO_CLASS,
        allowed=[NO_CLASS, *(entry.code for entry in entries)],
        halve=overviews.mode_of_four,
        bands=["class"],
        colours=legend.colour_table(entries),
        sidecars={
            path.with_name(path.name + ".aux.xml"): legend.aux_xml(entries),
            path.with_suffix(".qml"): legend.qml(legend.palette_pipe(entries)),
        },
        tags=tags,
        levels=levels,
    )


def write_confidence_map(
    path: Path, values: Raster, grid: GeoBox, *, tags: Mapping[str, str], levels: int | None = None
) -> None:
    """Write confidence, uint8 (y, x) 0..100 percent and 255 = no data: COG with averaged overviews, ``.qml``.

    Raises ValueError where shapes differ, the grid is not north-up, or a value is neither.
    """
    _write_ramp_map(path, values, grid, ramp=legend.CONFIDENCE, bands=["confidence (%)"], tags=tags, levels=levels)


def write_margin_map(
    path: Path, values: Raster, grid: GeoBox, *, tags: Mapping[str, str], levels: int | None = None
) -> None:
    """Write the margin of the best class, uint8 (y, x) 0..100 percent and 255 = no data: COG with averaged overviews.

    With a ``.qml`` style. Raises ValueError where shapes differ, the grid is not north-up, or a value is neither.
    """
    _write_ramp_map(path, values, grid, ramp=legend.MARGIN, bands=["margin (%)"], tags=tags, levels=levels)


def write_probability_map(
    path: Path,
    values: Raster,
    grid: GeoBox,
    classes: Sequence[legend.LegendClass],
    *,
    tags: Mapping[str, str],
    levels: int | None = None,
) -> None:
    """Write the probability of every class, uint8 (class, y, x) 0..100 percent and 255 = no data: COG, ``.qml``.

    Bands are in the order of ``classes`` and described by their names; overviews are averages.
    Raises ValueError where shapes differ, the grid is not north-up, or a value is neither.
    """
    names = [entry.name for entry in classes]
    _write_ramp_map(path, values, grid, ramp=legend.CONFIDENCE, bands=names, tags=tags, levels=levels)


def write_observation_map(
    path: Path, values: Raster, grid: GeoBox, *, tags: Mapping[str, str], levels: int | None = None
) -> None:
    """Write months seen, uint8 (y, x) 0..12 and 255 = no data: COG with averaged overviews, ``.qml``.

    Raises ValueError where shapes differ, the grid is not north-up, or a value is neither.
    """
    _write_ramp_map(path, values, grid, ramp=legend.OBSERVATIONS, bands=["clear months"], tags=tags, levels=levels)


def _write_ramp_map(
    path: Path,
    values: Raster,
    grid: GeoBox,
    *,
    ramp: legend.Ramp,
    bands: Sequence[str],
    tags: Mapping[str, str],
    levels: int | None,
) -> None:
    _write_map(
        path,
        values,
        grid,
        nodata=NO_VALUE,
        allowed=[*range(ramp.minimum, ramp.maximum + 1), NO_VALUE],
        halve=overviews.mean_of_four,
        bands=bands,
        colours=None,
        sidecars={path.with_suffix(".qml"): legend.qml(legend.ramp_pipe(ramp))},
        tags=tags,
        levels=levels,
    )


def _write_map(
    path: Path,
    values: Raster,
    grid: GeoBox,
    *,
    nodata: int,
    allowed: Sequence[int],
    halve: overviews.Halve,
    bands: Sequence[str],
    colours: Mapping[int, tuple[int, int, int, int]] | None,
    sidecars: Mapping[Path, str],
    tags: Mapping[str, str],
    levels: int | None,
) -> None:
    height, width = grid.shape
    if grid.crs is None:
        raise ValueError(f"{path.name}: the grid has no CRS")
    shape = (height, width) if len(values.shape) == 2 else (len(bands), height, width)
    if tuple(values.shape) != shape:
        raise ValueError(f"{path.name}: values are {tuple(values.shape)}, the map is {shape} (..., y, x)")
    if grid.affine.e >= 0 or grid.affine.b or grid.affine.d:
        raise ValueError(f"{path.name}: the grid is not north-up (transform {tuple(grid.affine)[:6]})")
    is_allowed = np.zeros(256, dtype=bool)
    is_allowed[list(allowed)] = True
    layout = Layout(grid, nodata, halve, bands, colours, tags, levels or levels_of(max(height, width)))
    with _workshop(path) as folder:
        cog = build_cog(folder, values, layout, partial(_check, is_allowed=is_allowed, name=path.name))
        for sidecar, text in sidecars.items():
            (folder / sidecar.name).write_text(text, encoding="utf-8")
        for sidecar in sidecars:
            (folder / sidecar.name).replace(sidecar)
        cog.replace(path)  # last: where the map is, its legend is


def _check(block: NDArray[Any], window: Window, *, is_allowed: NDArray[np.bool_], name: str) -> None:
    """Refuse values (band, y, x) of a window that no map may hold."""
    if block.dtype != np.uint8:
        raise ValueError(f"{name}: values are {block.dtype}, a map holds uint8")
    if not all(is_allowed[band].all() for band in block):  # band by band, for the sake of memory
        bad = np.setdiff1d(block, np.flatnonzero(is_allowed)).tolist()
        (y0, y1), (x0, x1) = window.toranges()
        raise ValueError(f"{name}: rows {y0}-{y1 - 1}, columns {x0}-{x1 - 1} hold values without a meaning: {bad}")


@contextmanager
def _workshop(path: Path) -> Iterator[Path]:
    """Temporary folder ``<name>.part`` beside the target: renaming out of it is atomic; emptied in any case."""
    folder = path.with_name(path.name + ".part")
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
