"""Compare a map with a raster of classes, wall to wall or in parts: a census, from which nothing need be estimated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from timesenmap.pipeline.accuracy import census
from timesenmap.pipeline.assessment import Assessment, Compared, assessment_of, referable, unknown_note
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.legend import NO_DATA_NAME, UNKNOWN
from timesenmap.pipeline.map_file import ClassMap
from timesenmap.pipeline.map_pixels import blocks_beside, equal_pixel_hectares, open_class_raster
from timesenmap.pipeline.rasters import NO_CLASS
from timesenmap.pipeline.reference import match_labels


def assess_raster(
    class_map: ClassMap,
    path: Path,
    *,
    mapping: Mapping[str, str | None] | None = None,
    areas: bool = True,
    unknown: Literal["class", "left-out"] = "class",
) -> Assessment:
    """Compare a map with a raster of classes, pixel by pixel of the map, where both have data.

    Parameters
    ----------
    class_map
        The map.
    path
        Raster of whole numbers on any grid, taken by the nearest pixel. Its categories' names are its labels, else its
        values; 0 without a name is no data.
    mapping, unknown
        As in ``assess_points``.
    areas
        Whether to give areas, which needs a map whose pixels are equal in area.

    Raises
    ------
    MapError
        Bad input: the message says which and what to do.
    """
    names = open_class_raster(path, "reference")
    by_value, pixels = _joint_counts(class_map, path)
    if names.get(0, NO_DATA_NAME) == NO_DATA_NAME and "0" not in (mapping or {}):
        by_value.pop(0, None)
    labels = {value: names.get(value, str(value)) for value in by_value}
    match = match_labels(labels.values(), referable(class_map), mapping, f"reference {path}")
    left_out = {"without reference": pixels - sum(int(counts.sum()) for counts in by_value.values())}
    confusion = np.zeros((256, 256), np.int64)
    for value, counts in by_value.items():
        code = match[labels[value]]
        confusion[:, NO_CLASS if code is None else code] += counts
    left_out["left out by --classes"] = int(confusion[:, NO_CLASS].sum())
    confusion[:, NO_CLASS] = 0
    if unknown == "left-out":
        left_out["unknown in the map"] = int(confusion[UNKNOWN.code].sum())
        confusion[UNKNOWN.code] = 0
    codes = np.flatnonzero(confusion.any(axis=0) | confusion.any(axis=1)).tolist()
    if not codes:
        raise MapError(f"reference {path}: has no pixel with a class where map {class_map.path} has one")
    matrix = confusion[np.ix_(codes, codes)]
    compared = Compared(codes, matrix, None, None)
    if areas:
        pixel = equal_pixel_hectares(class_map)
        mapped = {code: float(count) * pixel for code, count in zip(codes, matrix.sum(axis=1), strict=True)}
        compared = Compared(codes, matrix, mapped, float(matrix.sum()) * pixel)
    method = (
        f"Every pixel of the map where the reference has a class was compared ({matrix.sum() / pixels:.1%} of the "
        "map), so nothing is estimated and there are no intervals. The numbers hold for these pixels; errors of the "
        "reference count as errors of the map."
    )
    return assessment_of(
        class_map,
        path,
        compared,
        census(matrix),
        design="census",
        method=method,
        unit="pixels",
        left_out=left_out,
        notes=[*_not_compared(left_out), *unknown_note(codes, left=unknown == "left-out")],
    )


def _not_compared(left_out: Mapping[str, int]) -> list[str]:
    reasons = [f"{pixels:,} {why}" for why, pixels in left_out.items() if pixels]
    return [f"Pixels of the map that were not compared: {', '.join(reasons)}."] if reasons else []


def _joint_counts(class_map: ClassMap, path: Path) -> tuple[dict[int, NDArray[np.int64]], int]:
    """Pixels of each code (256,) by value of the reference, where both have data; and pixels with a class in all."""
    by_value: dict[int, NDArray[np.int64]] = {}
    pixels = 0
    for codes, values, has_value in blocks_beside(class_map, path):
        has_class = codes != NO_CLASS
        pixels += int(has_class.sum())
        both = has_class & has_value
        present, index = np.unique(values[both], return_inverse=True)
        joint = np.bincount(index * 256 + codes[both], minlength=256 * len(present)).reshape(len(present), 256)
        for value, counts in zip(present.tolist(), joint, strict=True):
            by_value[value] = by_value.get(value, np.zeros(256, np.int64)) + counts
    return by_value, pixels
