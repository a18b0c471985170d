"""Two class maps of one grid compared: from-to matrix and change map.

Both maps are read twice, block row by block row: once to count the pairs of classes, once to write the change map,
whose codes follow from the counts.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.legend import UNKNOWN, LegendEntry, rgb
from timesenmap.pipeline.map_file import ClassMap, read_window, require_same_grid
from timesenmap.pipeline.rasters import NO_CLASS

NO_CHANGE = LegendEntry(1, "no change", "#efefe9")
UNCERTAIN = LegendEntry(2, "uncertain change", "#b9a7c9")
OTHER = LegendEntry(3, "other change", "#3a3a3a")
_FIRST_PAIR, _LAST_PAIR = 4, 254
_OF_THE_LATER = 0.7  # of a pair's colour; the rest is what the ground was before


@dataclass(frozen=True)
class Pair:
    """A change from one class to another; ``code`` is its value in the change map (see ``changes``)."""

    code: int
    earlier: LegendEntry
    later: LegendEntry
    pixels: int
    uncertain_pixels: int

    @property
    def entry(self) -> LegendEntry:
        """Legend of the pair: named "from → to", in the later class's colour, tinted with the earlier one's."""
        channels = zip(rgb(self.earlier.colour), rgb(self.later.colour), strict=True)
        mixed = [round((1 - _OF_THE_LATER) * before + _OF_THE_LATER * after) for before, after in channels]
        return LegendEntry(self.code, f"{self.earlier.name} → {self.later.name}", "#{:02x}{:02x}{:02x}".format(*mixed))


@dataclass(frozen=True)
class Comparison:
    """Two maps of the same ground with the same classes.

    Parameters
    ----------
    earlier, later
        The maps.
    uncertain_below
        Probability (0..1): a change is uncertain where the confidence of either map is below it. None: no change is.
    """

    earlier: ClassMap
    later: ClassMap
    uncertain_below: float | None

    @property
    def classes(self) -> tuple[LegendEntry, ...]:
        """Classes of both maps, in the colours of the later one; ``legend.UNKNOWN`` last where either map has it."""
        unknown = UNKNOWN in (*self.earlier.classes, *self.later.classes)
        return (*self.later.known, *([UNKNOWN] if unknown else []))

    def count(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pixels (256, 256) by earlier and later code: all of them, and those that are uncertain changes."""
        counts = np.zeros((2, 256 * 256), np.int64)
        for window in self.earlier.windows():
            before, after = self.earlier[window], self.later[window]
            pairs = before.astype(np.int32) * 256 + after
            counts[0] += np.bincount(pairs.ravel(), minlength=256 * 256)
            counts[1] += np.bincount(pairs[self.uncertain(window, before, after)], minlength=256 * 256)
        return counts[0].reshape(256, 256), counts[1].reshape(256, 256)

    def uncertain(
        self, window: tuple[slice, slice], before: NDArray[np.uint8], after: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """Where (y, x) the codes of a window differ and a confidence is too low; not where one is no class."""
        if self.uncertain_below is None:
            return np.zeros(before.shape, bool)
        confidence = np.minimum(*(read_window(m.confidence_path, window) for m in (self.earlier, self.later)))
        low = confidence < round(100 * self.uncertain_below, 6)  # 100 * 0.07 is a little above 7
        classless = [NO_CLASS, UNKNOWN.code]
        found: NDArray[np.bool_] = (before != after) & low
        found &= ~np.isin(before, classless) & ~np.isin(after, classless)
        return found


def compare(earlier: ClassMap, later: ClassMap, *, uncertain_below: float | None = None) -> Comparison:
    """Check that two maps can be compared.

    Raises
    ------
    MapError
        Other grids or other classes, saying what differs; a probability outside 0..1; confidence maps that are not
        beside the maps.
    """
    require_same_grid(earlier, later.path)
    _require_same_classes(earlier, later)
    if uncertain_below is not None:
        if not 0 < uncertain_below <= 1:
            raise MapError(f"--uncertain-below {uncertain_below:g}: is no probability; give one above 0, up to 1")
        for one in (earlier, later):
            if not one.confidence_path.is_file():
                raise MapError(
                    f"--uncertain-below: {one.path} has no {one.confidence_path.name} beside it, where make-map writes "
                    "the confidence; compare maps as make-map wrote them, or leave the option out"
                )
            require_same_grid(one, one.confidence_path)
    return Comparison(earlier, later, uncertain_below)


def _require_same_classes(earlier: ClassMap, later: ClassMap) -> None:
    before, after = ({entry.code: entry.name for entry in one.known} for one in (earlier, later))
    differing = [
        f"{code} is {before.get(code, 'nothing')!r} and {after.get(code, 'nothing')!r}"
        for code in sorted(before.keys() | after.keys())
        if before.get(code) != after.get(code)
    ]
    if differing:
        shown = "; ".join(differing[:5]) + (f"; and {len(differing) - 5} more" if len(differing) > 5 else "")
        raise MapError(
            f"maps {earlier.path} and {later.path}: not the same classes ({shown}); make both with the same --prompts"
        )


def changes(comparison: Comparison, pixels: NDArray[np.int64], uncertain: NDArray[np.int64]) -> list[Pair]:
    """Pairs of different classes that occur, by certain pixels, largest first (ties by code).

    Codes 4 to 254 of the change map go to the first 251; the rest share ``OTHER``'s. Pairs of which nothing is certain
    have ``UNCERTAIN``'s.
    """
    known = [entry for entry in comparison.classes if entry != UNKNOWN]
    counts = [
        (one, other, int(pixels[one.code, other.code]), int(uncertain[one.code, other.code]))
        for one in known
        for other in known
        if one != other and pixels[one.code, other.code]
    ]
    counts.sort(key=lambda pair: (pair[3] - pair[2], -pair[3], pair[0].code, pair[1].code))
    pairs = []
    for code, (one, other, count, unsure) in enumerate(counts, start=_FIRST_PAIR):
        own = code if code <= _LAST_PAIR else OTHER.code
        pairs.append(Pair(UNCERTAIN.code if count == unsure else own, one, other, count, unsure))
    return pairs


def change_legend(comparison: Comparison, pairs: list[Pair]) -> list[LegendEntry]:
    """Classes of the change map that can occur: no change, uncertain, other, the pairs, unknown."""
    return [
        NO_CHANGE,
        *([] if comparison.uncertain_below is None else [UNCERTAIN]),
        *([OTHER] if any(pair.code == OTHER.code for pair in pairs) else []),
        *(pair.entry for pair in pairs if pair.code >= _FIRST_PAIR),
        *([UNKNOWN] if UNKNOWN in comparison.classes else []),
    ]


@dataclass(frozen=True)
class ChangeCodes:
    """Codes of the change map, computed where they are read; a ``rasters.Raster``.

    0 where either map has no data, else 255 where either is unknown, else what ``change_legend`` says.
    """

    comparison: Comparison
    pairs: list[Pair]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns (y, x)."""
        return self.comparison.earlier.shape

    def __getitem__(self, key: Any, /) -> NDArray[np.uint8]:
        """Codes (y, x) of a window given as two slices without a step."""
        before, after = self.comparison.earlier[key], self.comparison.later[key]
        codes = self._table()[before, after]
        codes[self.comparison.uncertain(key, before, after)] = UNCERTAIN.code
        return codes

    def _table(self) -> NDArray[np.uint8]:
        """Code (256, 256) by earlier and later class."""
        table = np.full((256, 256), NO_CHANGE.code, np.uint8)
        for pair in self.pairs:
            table[pair.earlier.code, pair.later.code] = pair.code
        table[UNKNOWN.code, :] = table[:, UNKNOWN.code] = UNKNOWN.code
        table[NO_CLASS, :] = table[:, NO_CLASS] = NO_CLASS
        return table
