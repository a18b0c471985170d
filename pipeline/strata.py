"""The strata of a sample: their names and sizes, and the stratum of each point."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from timesenmap.pipeline.accuracy import Floats
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.map_file import ClassMap
from timesenmap.pipeline.map_pixels import (
    blocks_beside,
    equal_pixel_hectares,
    is_unknown,
    open_class_raster,
    values_beside,
)
from timesenmap.pipeline.rasters import NO_CLASS
from timesenmap.pipeline.reference import as_text, read_yaml
from timesenmap.pipeline.sample_files import SampleDesign


@dataclass(frozen=True)
class Strata:
    """Strata of a sample.

    ``sizes`` (h,) in pixels and ``hectares`` of all together; ``index`` (n,) the stratum of each point, -1 = none;
    ``are_map_classes`` where each point's stratum is the class that the assessed map gives it.
    """

    names: tuple[str, ...]
    sizes: Floats
    hectares: float
    index: NDArray[np.int64]
    are_map_classes: bool = False

    def kept(self) -> "Strata":
        """Without the points that have no stratum; MapError for strata that nothing can be said about."""
        index = self.index[self.index >= 0]
        points = np.bincount(index, minlength=len(self.names))
        poor = (points < 2) & (points < self.sizes)
        if poor.any():
            listed = ", ".join(f"'{self.names[i]}' ({points[i]} points)" for i in np.flatnonzero(poor))
            raise MapError(
                f"too few points with a reference in {listed}: two in every stratum are needed for a standard error; "
                "interpret more of them, or name the strata that the points were drawn in with --strata"
            )
        if (points > self.sizes).any():
            i = int(np.flatnonzero(points > self.sizes)[0])
            raise MapError(
                f"stratum '{self.names[i]}' has {points[i]} points but {self.sizes[i]:g} pixels; check its size"
            )
        return Strata(self.names, self.sizes, self.hectares, index, self.are_map_classes)


def chosen_strata(
    class_map: ClassMap,
    totals: Mapping[int, int],
    *,
    design: SampleDesign | None,
    simple: bool,
    raster: Path | None,
    field: NDArray[np.object_] | None,
    field_sizes: Path | None,
    ids: NDArray[np.object_],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    mapped: NDArray[np.int64],
    without_unknown: bool,
) -> Strata:
    """Find the strata: named by the user, else left by ``sample-map``, else the map's classes; one for a simple sample.

    Parameters
    ----------
    class_map, totals
        The map, and code -> pixels of it that are assessed.
    design
        What ``sample-map`` left beside the points.
    simple
        Whether there is a single stratum.
    raster, field, field_sizes
        A raster of strata; or the value (n,) of a field of the points, with a YAML of stratum -> hectares.
    ids, rows, columns, mapped
        (n,) of the points: id, pixel and class in the map.
    without_unknown
        Whether pixels unknown in the map are no part of what is assessed.
    """
    if field is None and field_sizes is not None:
        raise MapError("--strata-sizes goes with a field of the points: name it with --strata")
    if simple:
        pixels = sum(totals.values())
        hectares = pixels * equal_pixel_hectares(class_map)
        return Strata(("the map",), np.array([float(pixels)]), hectares, np.zeros(len(mapped), np.int64))
    if raster is not None:
        return _of_raster(class_map, raster, rows, columns, without_unknown=without_unknown)
    if field is not None:
        return _of_field(class_map, field, field_sizes)
    if design is not None:
        return _of_design(class_map, design, totals, ids, mapped, without_unknown=without_unknown)
    codes = sorted(totals)
    sizes = np.array([totals[code] for code in codes], np.float64)
    hectares = float(sizes.sum()) * equal_pixel_hectares(class_map)
    names = tuple(class_map.names[code] for code in codes)
    return Strata(names, sizes, hectares, np.searchsorted(codes, mapped).astype(np.int64), are_map_classes=True)


def _of_raster(
    class_map: ClassMap, raster: Path, rows: NDArray[np.int64], columns: NDArray[np.int64], *, without_unknown: bool
) -> Strata:
    """Strata from a raster: their sizes are counted at the pixels of the map that are assessed."""
    names = open_class_raster(raster, "--strata")
    nothing = [NO_CLASS, *(code for code in class_map.names if without_unknown and is_unknown(code))]
    pixels: dict[int, int] = {}
    for codes, values, has_value in blocks_beside(class_map, raster):
        present, counts = np.unique(values[has_value & ~np.isin(codes, nothing)], return_counts=True)
        for value, count in zip(present.tolist(), counts.tolist(), strict=True):
            pixels[value] = pixels.get(value, 0) + count
    if not pixels:
        raise MapError(f"--strata {raster}: has no data where map {class_map.path} has a class")
    found = sorted(pixels)
    values_there, there = values_beside(class_map, raster, rows, columns)
    index = np.array(
        [found.index(v) if t and v in pixels else -1 for v, t in zip(values_there, there, strict=True)], np.int64
    )
    sizes = np.array([pixels[value] for value in found], np.float64)
    labels = tuple(names.get(value, str(value)) for value in found)
    return Strata(labels, sizes, float(sizes.sum()) * equal_pixel_hectares(class_map), index)


def _of_field(class_map: ClassMap, field: NDArray[np.object_], sizes_file: Path | None) -> Strata:
    """Strata from a field of the points: nobody but the user knows their sizes."""
    if sizes_file is None:
        raise MapError(
            "--strata is a field of the points: name the size of each stratum in hectares with --strata-sizes FILE"
        )
    content = read_yaml(sizes_file, "--strata-sizes")
    hectares = {}
    for name, size in content.items():
        if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < float("inf"):
            raise MapError(f"--strata-sizes {sizes_file}: '{name}' has {size!r}; give hectares, a number above 0")
        hectares[as_text(name)] = float(size)
    labels = [as_text(value) for value in field]
    if strange := sorted({label for label in labels if label} - set(hectares)):
        raise MapError(f"--strata-sizes {sizes_file}: has no size of stratum '{strange[0]}'; add it in hectares")
    names = list(hectares)
    sizes = np.array(list(hectares.values()))
    index = np.array([names.index(label) if label else -1 for label in labels], np.int64)
    return Strata(tuple(names), sizes / equal_pixel_hectares(class_map), float(sizes.sum()), index)


def _of_design(
    class_map: ClassMap,
    design: SampleDesign,
    totals: Mapping[int, int],
    ids: NDArray[np.object_],
    mapped: NDArray[np.int64],
    *,
    without_unknown: bool,
) -> Strata:
    """Strata as ``sample-map`` left them: classes of the map that it sampled, which may be another than this."""
    numbers = [as_text(name) for name in ids]
    known = {str(i): code for i, code in enumerate(design.stratum_of, start=1)}
    if strange := [number for number in numbers if number not in known]:
        raise MapError(
            f"the design beside the points knows no point with id '{strange[0]}'; leave ids as sample-map wrote them"
        )
    if len(set(numbers)) < len(numbers):
        raise MapError("two points have the same id; leave the ids as sample-map wrote them")
    same_map = design.map == class_map.path.name
    sampled_unknown = any(is_unknown(stratum.code) for stratum in design.strata)
    if same_map and any(is_unknown(code) for code in totals) and not sampled_unknown:
        raise MapError(
            f"the sample was drawn without what {design.map} leaves unknown: assess it with --unknown left-out"
        )
    drawn_in = np.array([known[number] for number in numbers], np.int64)
    strata = list(design.strata)
    if without_unknown:
        strata = [stratum for stratum in strata if not is_unknown(stratum.code)]
        if any(is_unknown(code) for code in class_map.names) and not same_map:
            raise MapError(
                f"the sample was drawn from {design.map}: what {class_map.path.name} leaves unknown can only be left "
                "out with --strata naming that map, so that the rest of its strata can be counted"
            )
    codes = [stratum.code for stratum in strata]
    sizes = np.array([stratum.pixels for stratum in strata], np.float64)
    index = np.array([codes.index(code) if code in codes else -1 for code in drawn_in], np.int64)
    same = bool(np.array_equal(drawn_in, mapped)) and dict(zip(codes, sizes.tolist(), strict=True)) == dict(totals)
    names = tuple(stratum.name for stratum in strata)
    return Strata(names, sizes, float(sizes.sum()) * design.pixel_hectares, index, are_map_classes=same)
