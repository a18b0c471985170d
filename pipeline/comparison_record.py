"""The record of a comparison, written as ``comparison.json``; the page is made from it and the change map."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from timesenmap.pipeline.comparison import (
    NO_CHANGE,
    OTHER,
    UNCERTAIN,
    ChangeCodes,
    Comparison,
    Pair,
    change_legend,
    changes,
)
from timesenmap.pipeline.figures import pixel_hectares
from timesenmap.pipeline.legend import UNKNOWN, LegendEntry
from timesenmap.pipeline.map_file import ClassMap
from timesenmap.pipeline.rasters import write_class_map
from timesenmap.pipeline.record import GridRecord
from timesenmap.pipeline.workspace import sha256_of

CHANGE_MAP = "change.tif"
NOT_AN_ESTIMATE = (
    "Differences of two maps are not an estimate of the area that changed: the errors of both maps add up, and where "
    "little changes most of the difference may be error. Such an estimate needs a sample of reference data, with "
    "confidence intervals (Olofsson et al. 2014, Remote Sensing of Environment 148, 42-57)."
)
# Metadata that should be the same in both maps, in words.
_SAME = {"ENCODER": "encoder", "PROMPTS": "prompts", "MASKER": "cloud mask", "UNKNOWN_BELOW": "threshold of unknown"}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Share(_Record):
    """Pixels, hectares and share (0..1) of the pixels that have data in both maps."""

    pixels: int
    hectares: float
    share: float


class MapSource(_Record):
    """A map that was compared."""

    file: str
    title: str
    period: str
    sha256: str


class ClassBalance(_Record):
    """One class: what it was, what it is, what it lost and gained; unknown (255) is neither loss nor gain."""

    code: int
    name: str
    colour: str
    earlier: Share
    later: Share
    lost: Share
    gained: Share


class ChangeRecord(_Record):
    """One change: ``certain`` is the part of its area that has its ``code`` in the change map."""

    code: int
    colour: str = Field(description="in the change map")
    from_code: int
    to_code: int
    name: str
    area: Share
    certain: Share


class Matrix(_Record):
    """From-to matrix: rows are classes of the earlier map, columns of the later one, in the order of ``codes``."""

    codes: tuple[int, ...]
    names: tuple[str, ...]
    pixels: tuple[tuple[int, ...], ...]
    hectares: tuple[tuple[float, ...], ...]
    shares: tuple[tuple[float, ...], ...]
    uncertain_pixels: tuple[tuple[int, ...], ...]


class ComparisonRecord(_Record):
    """Everything the page says."""

    title: str
    earlier: MapSource
    later: MapSource
    grid: GridRecord
    pixel_hectares: float
    uncertain_below: float | None
    change_map: str
    change_map_sha256: str
    seen: Share = Field(description="pixels with data in both maps; shares are of these")
    unchanged: Share
    changed: Share = Field(description="uncertain changes left out")
    uncertain: Share
    unknown: Share = Field(description="unknown in either map, or in both")
    no_data_pixels: int = Field(description="no data in either map, or in both")
    changes: tuple[ChangeRecord, ...] = Field(description="by certain pixels, largest first")
    classes: tuple[ClassBalance, ...]
    matrix: Matrix
    notes: tuple[str, ...]

    def share_of(self, pixels: int) -> Share:
        """Area and share of a number of pixels."""
        return _Shares(self.pixel_hectares, self.seen.pixels).of(pixels)


class _Shares(NamedTuple):
    """Turns pixels into hectares and shares: area of a pixel, and pixels with data in both maps."""

    pixel_hectares: float
    seen: int

    def of(self, pixels: int) -> Share:
        area, share = round(pixels * self.pixel_hectares, 4), round(pixels / max(1, self.seen), 8)
        return Share(pixels=pixels, hectares=area, share=share)


def write_comparison(comparison: Comparison, out: Path) -> ComparisonRecord:
    """Write the change map into a folder, and return the record of the comparison."""
    pixels, uncertain = comparison.count()
    pairs = changes(comparison, pixels, uncertain)
    earlier, later = (_source(one) for one in (comparison.earlier, comparison.later))
    title = f"Change: {earlier.title} → {later.title}"
    rule = comparison.uncertain_below
    write_class_map(
        out / CHANGE_MAP,
        ChangeCodes(comparison, pairs),
        comparison.earlier.grid,
        change_legend(comparison, pairs),
        tags={
            **{key: comparison.later.tags[key] for key in ("ATTRIBUTION",) if key in comparison.later.tags},
            "TITLE": title,
            "EARLIER": f"{earlier.file} sha256:{earlier.sha256}",
            "LATER": f"{later.file} sha256:{later.sha256}",
            **({} if rule is None else {"UNCERTAIN_BELOW": f"{rule:g}"}),
        },
    )
    return _record(comparison, pixels, uncertain, pairs, title=title, sources=(earlier, later), out=out)


def _record(
    comparison: Comparison,
    pixels: NDArray[np.int64],
    uncertain: NDArray[np.int64],
    pairs: list[Pair],
    *,
    title: str,
    sources: tuple[MapSource, MapSource],
    out: Path,
) -> ComparisonRecord:
    grid = comparison.earlier.record
    seen = int(pixels[1:, 1:].sum())
    shares = _Shares(pixel_hectares(grid), seen)
    known = [entry.code for entry in comparison.classes if entry != UNKNOWN]
    among = pixels[np.ix_(known, known)]
    unsure = int(uncertain.sum())
    unchanged = int(np.trace(among))
    return ComparisonRecord(
        title=title,
        earlier=sources[0],
        later=sources[1],
        grid=grid,
        pixel_hectares=shares.pixel_hectares,
        uncertain_below=comparison.uncertain_below,
        change_map=CHANGE_MAP,
        change_map_sha256=sha256_of(out / CHANGE_MAP),
        seen=shares.of(seen),
        unchanged=shares.of(unchanged),
        changed=shares.of(int(among.sum()) - unchanged - unsure),
        uncertain=shares.of(unsure),
        unknown=shares.of(seen - int(among.sum())),
        no_data_pixels=int(pixels.sum()) - seen,
        changes=tuple(_change(pair, shares) for pair in pairs),
        classes=tuple(_balance(entry, pixels, known, shares) for entry in comparison.classes),
        matrix=_matrix(comparison.classes, pixels, uncertain, shares),
        notes=tuple(_notes(comparison)),
    )


def _source(one: ClassMap) -> MapSource:
    return MapSource(
        file=one.path.name, title=one.title, period=one.tags.get("PERIOD", "not stated"), sha256=sha256_of(one.path)
    )


def _change(pair: Pair, shares: _Shares) -> ChangeRecord:
    shared = {entry.code: entry.colour for entry in (OTHER, UNCERTAIN)}
    return ChangeRecord(
        code=pair.code,
        colour=shared.get(pair.code, pair.entry.colour),
        from_code=pair.earlier.code,
        to_code=pair.later.code,
        name=pair.entry.name,
        area=shares.of(pair.pixels),
        certain=shares.of(pair.pixels - pair.uncertain_pixels),
    )


def _balance(entry: LegendEntry, pixels: NDArray[np.int64], known: list[int], shares: _Shares) -> ClassBalance:
    others = [code for code in known if code != entry.code] if entry.code in known else []
    return ClassBalance(
        code=entry.code,
        name=entry.name,
        colour=entry.colour,
        earlier=shares.of(int(pixels[entry.code, 1:].sum())),
        later=shares.of(int(pixels[1:, entry.code].sum())),
        lost=shares.of(int(pixels[entry.code, others].sum())),
        gained=shares.of(int(pixels[others, entry.code].sum())),
    )


def _matrix(
    classes: tuple[LegendEntry, ...], pixels: NDArray[np.int64], uncertain: NDArray[np.int64], shares: _Shares
) -> Matrix:
    """Of the classes that occur in either map, unknown included."""
    occurs = pixels[1:, 1:].sum(axis=0) + pixels[1:, 1:].sum(axis=1)
    found = [entry for entry in classes if occurs[entry.code - 1]]
    codes = [entry.code for entry in found]
    rows = [[shares.of(int(pixels[one, other])) for other in codes] for one in codes]
    return Matrix(
        codes=tuple(codes),
        names=tuple(entry.name for entry in found),
        pixels=tuple(tuple(cell.pixels for cell in row) for row in rows),
        hectares=tuple(tuple(cell.hectares for cell in row) for row in rows),
        shares=tuple(tuple(cell.share for cell in row) for row in rows),
        uncertain_pixels=tuple(tuple(int(uncertain[one, other]) for other in codes) for one in codes),
    )


def _notes(comparison: Comparison) -> list[str]:
    """Say what a reader should know before trusting the numbers."""
    notes = [f"{NOT_AN_ESTIMATE} sample-map draws one from the change map, and assess-map computes the areas."]
    earlier, later = comparison.earlier.tags, comparison.later.tags
    differing = [words for tag, words in _SAME.items() if earlier.get(tag) != later.get(tag)]
    if differing:
        notes.append(f"The maps differ in their {' and '.join(differing)}: a part of the change may come from that.")
    if _refinements(earlier) != _refinements(later):
        notes.append("The maps were not refined alike: a part of the change may come from that.")
    period = earlier.get("PERIOD", "")
    if period > later.get("PERIOD", period):
        notes.append("The first map is of a later period than the second: change is shown backwards in time.")
    return notes


def _refinements(tags: dict[str, str]) -> dict[str, str]:
    return {name: step for name, step in tags.items() if name.startswith("REFINEMENT_")}


def legend_of(record: ComparisonRecord, *, longest: int) -> list[tuple[str, str, Share]]:
    """Colour, name and area of what the change map shows, in reading order; kinds beyond ``longest`` in one row."""
    shared = (OTHER.code, UNCERTAIN.code)
    own = [change for change in record.changes if change.code not in shared]
    rows = [(change.colour, change.name, change.certain) for change in own[:longest]]
    if len(own) > longest:
        rest = record.share_of(sum(change.certain.pixels for change in own[longest:]))
        rows.append(("#ffffff", f"{len(own) - longest} more kinds of change, each with its colour", rest))
    other = [change.certain.pixels for change in record.changes if change.code == OTHER.code]
    if other:
        rows.append((OTHER.colour, f"{OTHER.name} ({len(other)} kinds)", record.share_of(sum(other))))
    if record.uncertain.pixels:
        rows.append((UNCERTAIN.colour, UNCERTAIN.name, record.uncertain))
    rows.append((NO_CHANGE.colour, NO_CHANGE.name, record.unchanged))
    if record.unknown.pixels:
        rows.append((UNKNOWN.colour, "unknown in either map", record.unknown))
    return rows
