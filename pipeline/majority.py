"""The majority filter of class maps: a pixel takes the class that most pixels around it have."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.legend import UNKNOWN
from timesenmap.pipeline.rasters import NO_CLASS, Raster


@dataclass(frozen=True)
class MajorityFiltered:
    """A class map after a majority filter, computed where it is read; a ``rasters.Raster``.

    A pixel takes the class that more pixels of the ``window`` x ``window`` square around it have than any other; where
    two classes have as many, it keeps its own. No data and unknown (255) neither vote nor change, and nothing votes
    from beyond the map. A pixel's result depends on its square alone, not on the window it is read with.

    Parameters
    ----------
    source
        Class codes (y, x) uint8.
    window
        Side of the square in pixels, odd, 3 or more; MapError for anything else.
    """

    source: Raster
    window: int

    def __post_init__(self) -> None:
        if self.window < 3 or self.window % 2 == 0:
            raise MapError(f"--majority {self.window}: the window has a middle; give an odd number, 3 or more")

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns (y, x)."""
        return self.source.shape

    def __getitem__(self, key: Any, /) -> NDArray[np.uint8]:
        """Filtered codes (y, x) of a window given as two slices without a step."""
        halo = self.window // 2
        inner, margins = [], []
        for part, length in zip(key, self.shape, strict=True):
            start, stop, _ = part.indices(length)
            low, high = max(start - halo, 0), min(stop + halo, length)
            inner.append(slice(low, high))
            margins.append((low - start + halo, stop + halo - high))
        around = np.pad(np.asarray(self.source[tuple(inner)]), margins, constant_values=NO_CLASS)
        return majority(around, self.window)


def majority(around: NDArray[np.uint8], window: int) -> NDArray[np.uint8]:
    """Filter codes (y + window - 1, x + window - 1), a halo on every side, to (y, x)."""
    halo = window // 2
    centre = around[halo:-halo, halo:-halo]
    most = np.zeros(centre.shape, np.int32)
    winner = centre.copy()
    tied = np.zeros(centre.shape, bool)
    for code in np.setdiff1d(around, [NO_CLASS, UNKNOWN.code]):
        votes = _votes(around == code, window)
        more = votes > most
        tied = ~more & (tied | (votes == most))
        winner[more] = code
        np.maximum(most, votes, out=most)
    keeps = tied | (centre == NO_CLASS) | (centre == UNKNOWN.code)
    return np.where(keeps, centre, winner)


def _votes(votes: NDArray[np.bool_], window: int) -> NDArray[np.int32]:
    """Sums of a boolean array over squares, by differences of running sums: the cost does not grow with the window."""
    sums = np.cumsum(np.pad(votes, ((1, 0), (0, 0))), axis=0, dtype=np.int32)
    sums = np.cumsum(np.pad(sums[window:] - sums[:-window], ((0, 0), (1, 0))), axis=1, dtype=np.int32)
    return sums[:, window:] - sums[:, :-window]
