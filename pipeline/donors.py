"""Months that need not be made again: taken tile by tile from a cube that holds them, be it this one or another run's.

A cube says of every tile what its months were made of (`MADE_OF` of `pipeline.cube`), written last and wiped first.
So any cube may be asked, a finished one or one that a killed run left: no ledger is needed to tell what in it is whole.
"""

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timesenmap.pipeline import profile
from timesenmap.pipeline.cube import MADE_OF, month_marks
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.stores import Store, StoreLike

log = logging.getLogger(__name__)

Month = tuple[NDArray[np.uint16], NDArray[np.uint8]]
"""A month of a tile: reflectance (10, y, x) and number of clear observations (y, x)."""


@dataclass(frozen=True)
class Donor:
    """A cube that months may be taken from.

    Attributes
    ----------
    store : of the cube
    name : as records and messages call it: the folder of its run
    covers : positions, in the period to be made, of the months it has
    """

    store: Store
    name: str
    covers: frozenset[int]


def donor_of(store: StoreLike, name: str, period: Period) -> Donor | None:
    """Look whether a store is a cube that says what it is made of, with months of a period; None where it is not."""
    store = Store.at(store)
    try:
        store.require()
        store.array(MADE_OF)
        days = np.asarray(store.array("month")[:]).astype(int)
    except (OSError, KeyError, ValueError):
        return None
    labels = [(dt.date(1970, 1, 1) + dt.timedelta(days=int(day))).strftime("%Y-%m") for day in days]
    covers = frozenset(period.labels.index(label) for label in labels if label in period.labels)
    return Donor(store, name, covers) if covers else None


@profile.timed("reading")
def take_months(donors: Sequence[Donor], tile: Tile, signatures: Sequence[str]) -> dict[int, tuple[Month, str]]:
    """Read the months of a tile that some cube holds just as they would be made.

    Parameters
    ----------
    donors
        Cubes to ask, one after the other, for what those before did not have.
    tile
        Of the same grid, which their signatures vouch for; cubes may be cut into tiles of another size.
    signatures
        Of the twelve months to be had (`month_signatures`).

    Returns
    -------
    dict
        For each month's position what it holds, and the name of the donor. A cube that cannot be read is said in the
        log, and its months are missing.
    """
    marks = month_marks(signatures)
    taken: dict[int, tuple[Month, str]] = {}
    for donor in donors:
        missing = [month for month in sorted(donor.covers) if month not in taken]
        if not missing:
            continue
        try:
            found = _read(donor.store, tile, {month: marks[month] for month in missing})
        except Exception as error:  # whatever is wrong with it: its months are made, as without it
            log.warning("tile %s: months cannot be taken from %s (%s)", tile.key, donor.store, error)
            continue
        taken |= {month: (pixels, donor.name) for month, pixels in found.items()}
    return taken


def _read(store: Store, tile: Tile, wanted: dict[int, np.uint64]) -> dict[int, Month]:
    """Months of a tile by their marks; none where another process wrote, or removed, the cube meanwhile."""
    places = _places(store, tile, wanted)
    if not places:
        return {}
    reflectance, clear = store.array("reflectance"), store.array("clear")
    window = slice(tile.y0, tile.y1), slice(tile.x0, tile.x1)
    counts = np.asarray(clear[(slice(None), *window)])
    found = {
        month: (np.asarray(reflectance[(place, slice(None), *window)]), counts[place])
        for month, place in places.items()
    }
    return found if _places(store, tile, wanted) == places else {}


def _places(store: Store, tile: Tile, wanted: dict[int, np.uint64]) -> dict[int, int]:
    """Where in a cube the wanted months are, of those that all its tiles under this one hold."""
    store.require()
    high, wide = store.array("clear").chunks[1:]
    rows = slice(tile.y0 // high, (tile.y1 - 1) // high + 1)
    cols = slice(tile.x0 // wide, (tile.x1 - 1) // wide + 1)
    held = np.asarray(store.array(MADE_OF)[:, rows, cols]).reshape(12, -1)
    places = {}
    for month, mark in wanted.items():
        here = np.nonzero((held == mark).all(axis=1))[0]
        if here.size:
            places[month] = int(here[0])
    return places
