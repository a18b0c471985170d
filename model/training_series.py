"""Series that train an encoder: read, named, corrected, and on their sides."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from timesenmap.model.captions import UNLABELLED, CaptionTable, Labelled, label_rows
from timesenmap.model.errors import ModelError
from timesenmap.model.series import (
    SIMULATED,
    SeriesTable,
    Split,
    concatenate,
    read_series,
    spatial_cells,
    split_by_group,
)
from timesenmap.model.training_config import SplitConfig
from timesenmap.model.training_data import Floats, surface_series
from timesenmap.model.training_scores import finest_present


@dataclass(frozen=True)
class TrainingData:
    """Labelled series on their sides.

    Attributes
    ----------
    table, labelled, reflectance
        Rows with a caption; reflectance near the surface (n, 12, 10).
    split
        Sides of the rows.
    counts
        What was read and left out, by reason.
    hashes
        SHA-256 of each file by name.
    """

    table: SeriesTable
    labelled: Labelled
    reflectance: Floats
    split: Split
    counts: dict[str, int]
    hashes: dict[str, str]

    @property
    def measured(self) -> npt.NDArray[np.bool_]:
        """Rows of real land, bool (n,): not simulated."""
        return (self.table.frame["dataset"] != SIMULATED).to_numpy()

    def finest(self, captions: CaptionTable) -> npt.NDArray[np.int64]:
        """Captions of measured rows that no other is within: those asked together."""
        return finest_present(captions, self.labelled.caption[self.measured])

    def side(self, rows: npt.NDArray[np.bool_]) -> tuple[Floats, Labelled]:
        """Series and captions of some rows."""
        caption, landcover = self.labelled.caption[rows], self.labelled.landcover[rows]
        return self.reflectance[rows], Labelled(caption=caption, landcover=landcover, dropped={})


def load_training_data(paths: Sequence[Path], split: SplitConfig, captions: CaptionTable) -> TrainingData:
    """Read, label, correct and split the series.

    Raises
    ------
    ModelError
        As :func:`read_series` and :func:`label_rows`; also where ``leave_out`` names nothing, or no row is left.
    """
    table = concatenate([read_series(path) for path in paths])
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    labelled = label_rows(captions, table.frame)
    counts = {"read": len(table), **{f"dropped: {reason}": n for reason, n in labelled.dropped.items()}}

    named = labelled.caption != UNLABELLED
    empty = ~np.isfinite(table.reflectance).any((1, 2))
    excluded = _inside(table, split.exclude)
    counts["without any observation"] = int((named & empty).sum())
    counts["in an excluded box"] = int((named & ~empty & excluded).sum())
    used = named & ~empty & ~excluded
    if not used.any():
        raise ModelError("no series is left to train on: every row was dropped, empty or excluded")
    table = table.take(used)
    labelled = Labelled(labelled.caption[used], labelled.landcover[used], labelled.dropped)

    sides = split_by_group(
        spatial_cells(table.frame, size=split.cell), validation=split.validation, test=split.test, seed=split.seed
    )
    away = _left_out(table, split.leave_out)
    simulated = (table.frame["dataset"] == SIMULATED).to_numpy()
    sides = Split(
        train=(sides.train & ~away) | simulated,
        validation=sides.validation & ~away & ~simulated,
        test=(sides.test | away) & ~simulated,
    )
    counts |= {side: int(getattr(sides, side).sum()) for side in ("train", "validation", "test")}
    counts["simulated, all in train"] = int(simulated.sum())
    if not sides.train.any():
        raise ModelError("no series is left to train on: all cells are held out; lower split.validation or split.test")
    return TrainingData(table, labelled, surface_series(table), sides, counts, hashes)


def _inside(table: SeriesTable, boxes: Sequence[tuple[float, float, float, float]]) -> npt.NDArray[np.bool_]:
    lon, lat = (table.frame[name].to_numpy(np.float64) for name in ("lon", "lat"))
    inside = np.zeros(len(table), bool)
    for west, south, east, north in boxes:
        inside |= (lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)
    return inside


def _left_out(table: SeriesTable, names: Sequence[str]) -> npt.NDArray[np.bool_]:
    away = np.zeros(len(table), bool)
    for name in names:
        rows = (table.frame["dataset"] == name).to_numpy()
        if "region" in table.frame:
            rows |= (table.frame["region"] == name).to_numpy()
        if not rows.any():
            known = sorted(table.frame["dataset"].unique())
            raise ModelError(
                f"leave_out '{name}' is no dataset or region of the series: datasets are {', '.join(known)}"
            )
        away |= rows
    return away
