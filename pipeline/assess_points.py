"""Compare a map with points whose class is known, in the way in which they were drawn."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from timesenmap.pipeline.accuracy import census, stratified_estimates
from timesenmap.pipeline.assessment import (
    OLOFSSON,
    STEHMAN,
    Assessment,
    Compared,
    StratumReport,
    assessment_of,
    referable,
    unknown_note,
)
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.legend import UNKNOWN
from timesenmap.pipeline.map_file import ClassMap
from timesenmap.pipeline.map_pixels import (
    OUTSIDE,
    codes_at,
    count_pixels,
    equal_pixel_hectares,
    pixels_at,
)
from timesenmap.pipeline.projection import grid_crs
from timesenmap.pipeline.rasters import NO_CLASS
from timesenmap.pipeline.reference import as_text, match_labels, read_points
from timesenmap.pipeline.sample_files import ID_FIELD, REFERENCE_FIELD, read_design
from timesenmap.pipeline.strata import Strata, chosen_strata

Design = Literal["stratified", "simple", "none"]
Unknown = Literal["class", "left-out"]
Labels = Mapping[str, str | None]
_NAMED = 10  # points named in a note
_UNKNOWN = "unknown in the map"
_LIKE_THE_OTHERS = "The estimates take the points that were not compared to be like the others of their strata."


class _LeftOut:
    """Points that are not compared: how many, and which, by reason."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.notes: list[str] = []

    def drop(self, sample: "_Sample", where: NDArray[np.bool_], why: str) -> "_Sample":
        """Return the sample without some of its points."""
        if where.any():
            named = sample.ids[where]
            more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
            listed = ", ".join(as_text(name) for name in named[:_NAMED])
            self.counts[why] = len(named)
            self.notes.append(f"Points {why}, not compared: {len(named)} ({ID_FIELD} {listed}{more}).")
        return sample.kept(~where)

    def assumption(self) -> list[str]:
        """Return what is taken for granted where points of a probability sample are missing."""
        return [_LIKE_THE_OTHERS] if set(self.counts) - {_UNKNOWN} else []


@dataclass(frozen=True)
class _Sample:
    """Points that can be compared: id, pixel, map code and reference code (n,), and a field of strata if asked for."""

    ids: NDArray[np.object_]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    mapped: NDArray[np.int64]
    found: NDArray[np.int64]
    stratum: NDArray[np.object_] | None

    def kept(self, where: NDArray[np.bool_]) -> "_Sample":
        stratum = None if self.stratum is None else self.stratum[where]
        rows, columns, mapped, found = (v[where] for v in (self.rows, self.columns, self.mapped, self.found))
        return _Sample(self.ids[where], rows, columns, mapped, found, stratum)


def assess_points(
    class_map: ClassMap,
    path: Path,
    *,
    field: str = REFERENCE_FIELD,
    mapping: Labels | None = None,
    design: Design | None = None,
    strata: str | None = None,
    strata_sizes: Path | None = None,
    confidence: float = 0.95,
    unknown: Unknown = "class",
) -> Assessment:
    """Assess a map with points whose class is known.

    Parameters
    ----------
    class_map
        The map.
    path
        The points (see ``reference.read_points``); the design that ``sample-map`` left beside them is used.
    field
        Their class: a name or code of the map's classes, or a label of ``mapping``.
    mapping
        Reference label -> class, or None (see ``reference.read_mapping``).
    design
        How the points were drawn; may be left out where ``sample-map`` drew them.
    strata
        A raster, or a field of the points; the map's classes by default.
    strata_sizes
        YAML of stratum -> hectares, where the strata are a field.
    confidence
        Of the intervals, 0-1.
    unknown
        Pixels that the map leaves unknown (255) are a class of their own that is never right, or are left out of the
        map.

    Raises
    ------
    MapError
        Bad input: the message says which and what to do.
    """
    drawn = read_design(path)
    if design is None and drawn is None:
        raise MapError(
            f"reference {path}: how were the points drawn? --design stratified (at random within the classes of the "
            "map, or within --strata), simple (at random), or none (chosen otherwise)"
        )
    if drawn is not None and design == "simple":
        raise MapError(f"reference {path}: was drawn by sample-map in strata; leave --design out")
    design = design or "stratified"
    if design != "stratified" and (strata is not None or strata_sizes is not None):
        raise MapError(f"--strata goes with --design stratified, not with {design}")
    totals = count_pixels(class_map)
    if unknown == "left-out":
        totals.pop(UNKNOWN.code, None)
    strata_field = strata if strata is not None and not Path(strata).exists() else None
    sample, left_out = _read_sample(class_map, path, field, mapping, strata_field, left=unknown == "left-out")
    if design == "none":
        return _described(class_map, path, sample, left_out)
    chosen = chosen_strata(
        class_map,
        totals,
        design=drawn,
        simple=design == "simple",
        raster=None if strata is None or strata_field else Path(strata),
        field=sample.stratum,
        field_sizes=strata_sizes,
        ids=sample.ids,
        rows=sample.rows,
        columns=sample.columns,
        mapped=sample.mapped,
        without_unknown=unknown == "left-out",
    )
    sample = left_out.drop(sample, chosen.index < 0, "without a stratum")
    chosen = chosen.kept()
    codes = sorted(set(totals) | set(sample.mapped.tolist()) | set(sample.found.tolist()))
    counts = _counts(sample, codes, chosen.index, len(chosen.names))
    estimates = stratified_estimates(counts, chosen.sizes)
    pixel = equal_pixel_hectares(class_map)
    mapped = {code: pixels * pixel for code, pixels in totals.items()}
    compared = Compared(codes, counts.sum(axis=0), mapped, chosen.hectares)
    total = chosen.sizes.sum()
    return assessment_of(
        class_map,
        path,
        compared,
        estimates,
        design=design,
        method=_method(chosen, simple=design == "simple"),
        confidence=confidence,
        unit="points",
        strata=tuple(
            StratumReport(name=name, share=float(size / total), points=int(n))
            for name, size, n in zip(chosen.names, chosen.sizes, counts.sum(axis=(1, 2)), strict=True)
        ),
        left_out=left_out.counts,
        notes=[
            *left_out.notes,
            *left_out.assumption(),
            *_flawless(class_map, codes, counts.sum(axis=0)),
            *unknown_note(totals, left=unknown == "left-out"),
        ],
    )


def _read_sample(
    class_map: ClassMap, path: Path, field: str, mapping: Labels | None, strata_field: str | None, *, left: bool
) -> tuple[_Sample, _LeftOut]:
    """Points with a class on both sides; why the others were left out, and which."""
    wanted = [field, *([strata_field] if strata_field else [])]
    points = read_points(path, wanted, grid_crs(class_map.grid), optional=[ID_FIELD])
    labels = np.array([as_text(value) for value in points.fields[field]], object)
    if not (labels != "").any():
        raise MapError(f"reference {path}: field '{field}' is empty in all {len(points)} points; fill it in")
    match = match_labels(
        [label for label in labels if label], referable(class_map), mapping, f"reference {path}, field '{field}'"
    )
    rows, columns = pixels_at(class_map, points.x, points.y)
    ids = points.fields.get(ID_FIELD, np.arange(1, len(points) + 1).astype(object))
    found = np.array(
        [-1 if not label else NO_CLASS if match[label] is None else match[label] for label in labels], np.int64
    )
    stratum = points.fields[strata_field] if strata_field else None
    sample = _Sample(ids, rows, columns, codes_at(class_map, rows, columns), found, stratum)
    left_out = _LeftOut()
    sample = left_out.drop(sample, sample.mapped == OUTSIDE, "outside the map")
    sample = left_out.drop(sample, sample.mapped == NO_CLASS, "where the map has no data")
    sample = left_out.drop(sample, sample.found == -1, "without reference")
    sample = left_out.drop(sample, sample.found == NO_CLASS, "left out by --classes")
    if left:
        sample = left_out.drop(sample, sample.mapped == UNKNOWN.code, _UNKNOWN)
    if not len(sample.ids):
        reasons = ", ".join(f"{n} {why}" for why, n in left_out.counts.items())
        raise MapError(f"reference {path}: no point can be compared with map {class_map.path} ({reasons})")
    return sample, left_out


def _described(class_map: ClassMap, path: Path, sample: _Sample, left_out: _LeftOut) -> Assessment:
    """Plain numbers of points that are no probability sample."""
    codes = sorted(set(sample.mapped.tolist()) | set(sample.found.tolist()))
    counts = _counts(sample, codes, np.zeros(len(sample.ids), np.int64), 1)[0]
    method = (
        "The points are not a probability sample: these numbers describe the points and not the map. They have no "
        "intervals, and areas cannot be estimated from them."
    )
    return assessment_of(
        class_map,
        path,
        Compared(codes, counts, None, None),
        census(counts),
        design="none",
        method=method,
        confidence=None,
        unit="points",
        strata=(),
        left_out=left_out.counts,
        notes=[*left_out.notes, *unknown_note(codes, left=_UNKNOWN in left_out.counts)],
    )


def _counts(sample: _Sample, codes: list[int], stratum: NDArray[np.int64], strata: int) -> NDArray[np.int64]:
    """Points by stratum, map class and reference class (h, k, k)."""
    k = len(codes)
    i, j = np.searchsorted(codes, sample.mapped), np.searchsorted(codes, sample.found)
    return np.bincount((stratum * k + i) * k + j, minlength=strata * k * k).reshape(strata, k, k)


def _flawless(class_map: ClassMap, codes: list[int], counts: NDArray[np.int64]) -> list[str]:
    """Warn of intervals without width: what was never seen to fail has no variance, and is not therefore certain."""
    points, right = counts.sum(axis=1), np.diagonal(counts)
    pairs = zip(codes, points.tolist(), right.tolist(), strict=True)
    listed = [f"{class_map.names[code]} ({n})" for code, n, r in pairs if n and n == r]
    if not listed:
        return []
    return [f"All points are right in {', '.join(listed)}: with few points an interval without width is no certainty."]


def _method(strata: Strata, *, simple: bool) -> str:
    if simple:
        return f"Estimated from a simple random sample, a single stratum after {STEHMAN}."
    if strata.are_map_classes:
        return (
            f"Estimated from a stratified random sample whose strata are the classes of the map, after {OLOFSSON}; "
            "with the finite population correction."
        )
    return f"Estimated from a stratified random sample whose strata are not the classes of the map, after {STEHMAN}."
