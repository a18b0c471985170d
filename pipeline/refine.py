"""After-care of a class map: majority filter and minimum mapping unit, as recorded steps into a map of its own.

The majority filter comes first, because it can leave patches smaller than the unit; the sieve comes last, so that what
was asked of it holds in the map. The filter is computed block row by block row; the sieve needs the whole map at once.
"""

import math
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
from distributed.system import MEMORY_LIMIT
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from rasterio.features import sieve

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.figures import pixel_hectares
from timesenmap.pipeline.legend import UNKNOWN
from timesenmap.pipeline.majority import MajorityFiltered
from timesenmap.pipeline.map_file import ClassMap, read_class_map
from timesenmap.pipeline.rasters import BLOCK, NO_CLASS, Raster, write_class_map
from timesenmap.pipeline.whole import write_whole
from timesenmap.pipeline.workspace import sha256_of

# Measured with GDAL 3.10: codes, mask and result, and the tables of GDAL's patches; random codes, the worst there is,
# took 27 bytes a pixel where this says 35.
_BYTES_A_PIXEL = 4
_BYTES_A_PATCH = 40


class ClassChange(BaseModel):
    """Pixels and hectares of one class before and after."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: int
    name: str
    pixels_before: int
    pixels_after: int
    hectares_before: float
    hectares_after: float


class RefinementRecord(BaseModel):
    """What was done to a map, written as JSON beside the result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(description="file name of the map that was refined")
    source_sha256: str
    result: str
    result_sha256: str
    steps: tuple[str, ...] = Field(description="in the order in which they were done")
    pixel_hectares: float
    changed_pixels: int
    classes: tuple[ClassChange, ...]


def refine_map(
    source: ClassMap,
    out: Path,
    *,
    majority: int | None = None,
    minimum_mapping_unit: float | None = None,
    connectivity: int = 4,
) -> RefinementRecord:
    """Write a refined copy of a class map, with its legend, and ``<out>.json`` beside it; the source stays as it is.

    Parameters
    ----------
    source
        The map.
    out
        The ``.tif`` to make; it has the source's metadata, its sha256, and a tag ``REFINEMENT_n`` for each step.
    majority
        Window of the majority filter in pixels, odd (see ``MajorityFiltered``).
    minimum_mapping_unit
        Hectares: smaller patches go to their largest neighbour (see ``sieved``).
    connectivity
        4 or 8: whether pixels that touch at a corner are one patch.

    Raises
    ------
    MapError
        Nothing to do, a window or unit out of range, too little memory, ``out`` is the source or no ``.tif``.
    """
    _check_out(source, out)
    values: Raster = source
    steps = []
    if majority is not None:
        values = MajorityFiltered(values, majority)
        steps.append(f"majority filter, window {majority} x {majority} pixels")
    if minimum_mapping_unit is not None:
        smallest = smallest_patch(source, minimum_mapping_unit)
        values = sieved(values, smallest=smallest, connectivity=connectivity)
        steps.append(
            f"minimum mapping unit {minimum_mapping_unit:g} ha ({smallest} pixels, {connectivity}-connected patches)"
        )
    if not steps:
        raise MapError("nothing to do: give --minimum-mapping-unit HECTARES, --majority WINDOW, or both")
    checksum = sha256_of(source.path)
    write_class_map(out, values, source.grid, source.classes, tags=_tags(source, checksum, steps))
    record = _record(source, read_class_map(out), checksum, steps)
    write_whole(out.with_suffix(".json"), record.model_dump_json(indent=2) + "\n")
    return record


def smallest_patch(source: ClassMap, hectares: float) -> int:
    """Pixels that a patch must have to reach a minimum mapping unit; MapError where the unit makes no difference."""
    pixel = pixel_hectares(source.record)
    if not math.isfinite(hectares) or hectares <= pixel:
        raise MapError(
            f"--minimum-mapping-unit {hectares:g}: is no more than a pixel ({pixel:.4g} ha), every patch has that; "
            "give a larger area in hectares"
        )
    smallest = math.ceil(hectares / pixel - 1e-6)  # 0.5 ha of 0.01 ha are 50 pixels, whatever the last bit says
    if smallest >= math.prod(source.shape):
        raise MapError(
            f"--minimum-mapping-unit {hectares:g}: is the whole map {source.path.name} or more; give a smaller area"
        )
    return smallest


def sieved(values: Raster, *, smallest: int, connectivity: int) -> NDArray[np.uint8]:
    """Give patches of less than ``smallest`` pixels to their largest neighbour (GDAL's sieve).

    No data and unknown (255) are walls: they stay, they receive nothing, and they do not join patches. Where the
    largest neighbour is too small as well, both go to its largest neighbour, and so on. So a small patch remains only
    where walls and other small patches are all that it can be given to. Patches of equal size: GDAL takes the first.

    Raises
    ------
    MapError
        Where the map with its patches needs more memory than there is.
    """
    _check_memory(_BYTES_A_PIXEL * math.prod(values.shape))
    codes = np.empty(values.shape, np.uint8)
    for y0 in range(0, len(codes), BLOCK):
        codes[y0 : y0 + BLOCK] = values[y0 : min(y0 + BLOCK, len(codes)), 0 : codes.shape[1]]
    _check_memory(memory_needed(codes))
    within = (codes != NO_CLASS) & (codes != UNKNOWN.code)
    result: NDArray[np.uint8] = sieve(codes, smallest, mask=within, connectivity=connectivity)
    return result


def memory_needed(codes: NDArray[np.uint8]) -> int:
    """Bytes that the sieve of a map (y, x) needs: so many a pixel, and so many for each patch that GDAL begins.

    GDAL reads line by line and begins a patch where a pixel differs from those above and to the left; the map's first
    line and column are too few to be counted.
    """
    begun = 0
    for y0 in range(0, len(codes), BLOCK):
        rows = np.pad(codes[max(y0 - 1, 0) : y0 + BLOCK], ((int(y0 == 0), 0), (1, 0)), mode="edge")
        begun += int(np.count_nonzero((rows[1:, 1:] != rows[:-1, 1:]) & (rows[1:, 1:] != rows[1:, :-1])))
    return _BYTES_A_PIXEL * codes.size + _BYTES_A_PATCH * begun


def _check_memory(needed: int) -> None:
    # MEMORY_LIMIT knows of containers, psutil of what others have taken.
    available = min(psutil.virtual_memory().available, MEMORY_LIMIT)
    if needed > available:
        raise MapError(
            f"--minimum-mapping-unit: the sieve needs the whole map in memory, {needed / 1e9:.1f} GB, and "
            f"{available / 1e9:.1f} GB are free; use a larger machine, map a smaller area, or use --majority alone, "
            "which works by rows of blocks"
        )


def _check_out(source: ClassMap, out: Path) -> None:
    if out.suffix != ".tif":
        raise MapError(f"--out {out}: a map is a GeoTIFF; give a name that ends in .tif")
    if out.resolve() == source.path.resolve():
        raise MapError(f"--out {out}: is the map itself, which stays as it is; give another name")


def _tags(source: ClassMap, checksum: str, steps: list[str]) -> dict[str, str]:
    done = sum(name.startswith("REFINEMENT_") for name in source.tags)
    return {
        **source.tags,
        "TIFFTAG_SOFTWARE": f"timesenmap {version('timesenmap')}",
        "SOURCE": source.path.name,
        "SOURCE_SHA256": checksum,
        **{f"REFINEMENT_{number}": step for number, step in enumerate(steps, start=done + 1)},
    }


def _record(source: ClassMap, result: ClassMap, checksum: str, steps: list[str]) -> RefinementRecord:
    before, after = source.pixels(), result.pixels()
    pixel = pixel_hectares(source.record)
    return RefinementRecord(
        source=source.path.name,
        source_sha256=checksum,
        result=result.path.name,
        result_sha256=sha256_of(result.path),
        steps=tuple(steps),
        pixel_hectares=pixel,
        changed_pixels=sum(int(np.count_nonzero(source[at] != result[at])) for at in source.windows()),
        classes=tuple(
            ClassChange(
                code=entry.code,
                name=entry.name,
                pixels_before=int(before[entry.code]),
                pixels_after=int(after[entry.code]),
                hectares_before=round(before[entry.code] * pixel, 4),
                hectares_after=round(after[entry.code] * pixel, 4),
            )
            for entry in source.classes
        ),
    )
