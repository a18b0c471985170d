"""Labelled series: a table of places, each with a calendar year of monthly Sentinel-2 reflectance.

A series file is a parquet with 120 columns ``B02_m01`` .. ``B12_m12`` (band, calendar month; reflectance 0-1,
NaN = no clear observation) beside columns that say where, when and what: at least ``dataset``, ``sample_id``,
``lon``, ``lat``, ``label`` and ``level`` (L2A at the surface, L1C at the top of the atmosphere).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from timesenmap.model.config import DEFAULT_BANDS
from timesenmap.model.errors import ModelError

MONTHS: Final = 12
BRIGHTEST: Final = 2.0
"""No surface reflects more at Sentinel-2's angles, sunlit snow slopes (1.6) included."""

SIMULATED: Final = "simulated"
"""``dataset`` of series that were computed, not observed: they may train, but never choose or test."""

SERIES_COLUMNS: Final = tuple(f"{band}_m{month:02d}" for month in range(1, MONTHS + 1) for band in DEFAULT_BANDS)
"""The 120 reflectance columns, month by month, bands in the order of the encoder."""

DESCRIPTION_COLUMNS: Final = ("dataset", "sample_id", "lon", "lat", "label", "level")
"""Columns a series file must have beside the reflectance."""


@dataclass(frozen=True)
class SeriesTable:
    """Series of many places.

    Frozen because rows of the two members belong together: take rows with :meth:`take`.

    Attributes
    ----------
    reflectance
        float32 (n, 12, 10): January to December, bands in the order of ``DEFAULT_BANDS``, 0-1, NaN = missing.
    frame
        The other columns, n rows, index 0..n-1.
    """

    reflectance: npt.NDArray[np.float32]
    frame: pd.DataFrame

    def __post_init__(self) -> None:
        if self.reflectance.shape != (len(self.frame), MONTHS, len(DEFAULT_BANDS)):
            raise ModelError(
                f"reflectance of shape {self.reflectance.shape} beside {len(self.frame)} described rows: "
                f"give (rows, {MONTHS} months, {len(DEFAULT_BANDS)} bands)"
            )

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.integer]) -> "SeriesTable":
        """Rows by mask or by number."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        return SeriesTable(self.reflectance[index], self.frame.iloc[index].reset_index(drop=True))


def read_series(path: str | Path) -> SeriesTable:
    """Read a parquet of series.

    Raises
    ------
    ModelError
        Missing or unreadable file, missing columns, columns that are not numbers, infinite, negative or
        DN-like values. A few values above 2 (below 1 %: damaged pixels of the source) are kept as they stand;
        :func:`without_damage` sets them aside.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"series '{file}': not found; give a parquet with columns B02_m01 .. B12_m12")
    try:
        data = pd.read_parquet(file)
    except (OSError, ValueError) as error:  # pyarrow's errors derive from these
        raise ModelError(f"series '{file}' is no readable parquet ({str(error).splitlines()[0]})") from None
    missing = [column for column in (*SERIES_COLUMNS, *DESCRIPTION_COLUMNS) if column not in data.columns]
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise ModelError(
            f"series '{file}': {len(missing)} columns missing ({some}); it needs {', '.join(DESCRIPTION_COLUMNS)} "
            "and B02_m01 .. B12_m12"
        )
    for column in (*SERIES_COLUMNS, "lon", "lat"):
        if not pd.api.types.is_numeric_dtype(data[column]):
            raise ModelError(f"series '{file}': column {column} holds {data[column].dtype}, not numbers")
    values = data[list(SERIES_COLUMNS)].to_numpy(np.float32, copy=True)
    check_reflectance(values, source=f"series '{file}'")
    frame = data.drop(columns=list(SERIES_COLUMNS)).reset_index(drop=True)
    return SeriesTable(values.reshape(-1, MONTHS, len(DEFAULT_BANDS)), frame)


def check_reflectance(values: npt.NDArray[np.floating], *, source: str) -> None:
    """Refuse what cannot be reflectance 0-1; ``source`` opens the message."""
    finite = values[np.isfinite(values)]
    if np.isinf(values).any():
        raise ModelError(f"{source} holds infinite values: write NaN where there was no clear observation")
    if not finite.size:
        return
    if finite.min() < -0.1:  # a little below 0 is an atmospheric correction that went too far
        raise ModelError(
            f"{source} holds {finite.min():g}: reflectance cannot be so negative; write NaN where there was no "
            "clear observation, and apply the product's offset once"
        )
    if np.mean(finite > BRIGHTEST) > 0.01:
        raise ModelError(
            f"{source}: values reach {finite.max():g}, which looks like digital numbers; "
            "reflectance 0-1 is expected (usually DN / 10000)"
        )


def without_damage(reflectance: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Set aside values no land can have; returns a copy (n, 12, 10).

    Some 2021 series of Flanders have 20 m bands in which no-data (65535) was averaged with data at the
    source: short-wave infrared above 1, where even snow is dark. All 20 m bands of such a month go.
    """
    cleaned = reflectance.copy()
    twenty_metres = [DEFAULT_BANDS.index(band) for band in ("B05", "B06", "B07", "B8A", "B11", "B12")]
    infrared = [DEFAULT_BANDS.index(band) for band in ("B11", "B12")]
    with np.errstate(invalid="ignore"):
        damaged = (cleaned[:, :, infrared] > 1.0).any(-1)  # (n, 12)
        cleaned[cleaned > BRIGHTEST] = np.nan
    rows, months = np.nonzero(damaged)
    cleaned[rows[:, None], months[:, None], np.array(twenty_metres)] = np.nan
    return cleaned


def concatenate(tables: Sequence[SeriesTable]) -> SeriesTable:
    """All rows of several tables; columns only some have are empty for the others."""
    if not tables:
        raise ModelError("no series given: name at least one parquet")
    # Frames without their all-empty columns: pandas would guess the type of those otherwise.
    frames = [table.frame.dropna(axis=1, how="all") for table in tables]
    columns = list(dict.fromkeys(column for table in tables for column in table.frame.columns))
    frame = pd.concat(frames, ignore_index=True).reindex(columns=columns)
    return SeriesTable(np.concatenate([table.reflectance for table in tables]), frame)


def spatial_cells(frame: pd.DataFrame, *, size: float = 0.1) -> npt.NDArray[np.str_]:
    """Cell of each row: places of one cell of ``size`` degrees belong together whatever their source.

    A row without coordinates is a cell of its own, named by its source and sample.

    Returns
    -------
    array of str (n,)
        ``"E<column>N<row>"`` with column = floor(lon / size) and row = floor(lat / size), or
        ``"<dataset>/<sample_id>"``.
    """
    lon, lat = frame["lon"].to_numpy(np.float64), frame["lat"].to_numpy(np.float64)
    placed = np.isfinite(lon) & np.isfinite(lat)
    cells = (frame["dataset"].astype(str) + "/" + frame["sample_id"].astype(str)).to_numpy(object)
    # Rounded first: 0.3 / 0.1 is 2.9999999999999996 in floating point.
    column = np.floor(np.round(lon[placed] / size, 9)).astype(int)
    row = np.floor(np.round(lat[placed] / size, 9)).astype(int)
    cells[placed] = [f"E{c}N{r}" for c, r in zip(column, row, strict=True)]
    return cast("npt.NDArray[np.str_]", cells.astype(str))


def group_shares(groups: npt.NDArray[np.str_], *, seed: int) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each row, the same for all rows of a group, uniform over groups.

    It is a hash of seed and group name: a group's number does not depend on which other rows are present,
    so that a test cell stays a test cell when files are added.
    """
    names, inverse = np.unique(groups, return_inverse=True)
    digests = [hashlib.sha256(f"{seed}:{name}".encode()).digest()[:7] for name in names]
    numbers = np.array([int.from_bytes(digest, "big") for digest in digests], np.float64) / 2.0**56
    return numbers[inverse]


@dataclass(frozen=True)
class Split:
    """Which rows train, which choose (early stopping, temperature) and which test; bool (n,) each, disjoint."""

    train: npt.NDArray[np.bool_]
    validation: npt.NDArray[np.bool_]
    test: npt.NDArray[np.bool_]


def split_by_group(groups: npt.NDArray[np.str_], *, validation: float = 0.1, test: float = 0.2, seed: int = 0) -> Split:
    """Split rows so that a group (a spatial cell, a source, a country) is never on two sides.

    Parameters
    ----------
    groups
        str (n,): group of each row.
    validation, test
        Shares of the groups (not of the rows).
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise ModelError(f"validation {validation} and test {test}: shares must be positive and leave some to train")
    shares = group_shares(groups, seed=seed)
    testing = shares < test
    choosing = ~testing & (shares < test + validation)
    return Split(train=~testing & ~choosing, validation=choosing, test=testing)
