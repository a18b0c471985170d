"""Places to evaluate on, from prepared crops or a parquet of series, and what is measured of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from timesenmap.model import metrics
from timesenmap.model.config import DEFAULT_BANDS
from timesenmap.model.errors import ModelError
from timesenmap.model.evaluation import Interval, LabelledSeries, labelled_series, resampling_groups
from timesenmap.model.prepare import label_names
from timesenmap.model.prompts import PromptSet
from timesenmap.model.sen4map import centre_of, from_cube
from timesenmap.model.series import read_series, without_damage
from timesenmap.model.shards import PreparedRows
from timesenmap.model.zero_shot import match_labels

if TYPE_CHECKING:
    from timesenmap.model.encoder import Encoder

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Places:
    """Places with a year each.

    Attributes
    ----------
    years
        float32 (n, 12, bands), or (n, 12, bands, patch, patch) for encoders of patches; 0-1, NaN = missing.
    frame
        n rows: lon, lat, and what is known of the places (see ``label_names``); for crops also number and nuts0.
    """

    years: Floats
    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame)

    def observed(self) -> NDArray[np.bool_]:
        """Whether a place has any observation, bool (n,)."""
        return np.asarray(np.isfinite(self.years).reshape(len(self), -1).any(1), bool)

    def take(self, rows: NDArray[np.bool_] | Ints) -> "Places":
        """Some of the places, by mask or number."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        return Places(self.years[index], self.frame.iloc[index].reset_index(drop=True))


def read_places(data: str | Path, encoder: "Encoder") -> Places:
    """Read a folder of prepared crops, cut to the encoder's patch, or a parquet of series.

    Raises
    ------
    ModelError
        Neither of the two, other bands, or patches that the data do not have.
    """
    config = encoder.config
    if config.bands != DEFAULT_BANDS:
        raise ModelError(
            f"encoder '{encoder.name}' takes bands {', '.join(config.bands)}, not {', '.join(DEFAULT_BANDS)}"
        )
    if not Path(data).is_dir():
        if config.patch > 1:
            raise ModelError(f"encoder '{encoder.name}' takes patches of {config.patch} pixels: name prepared crops")
        table = read_series(data)
        return Places(without_damage(table.reflectance), table.frame)
    crops = PreparedRows([data], kind="crops")
    size = crops.shape("image")[-1]
    if size < config.patch:
        raise ModelError(
            f"encoder '{encoder.name}' takes {config.patch} x {config.patch} pixels, '{data}' has {size} x {size}: "
            f"prepare crops with --patch {config.patch}"
        )
    window = centre_of(size, config.patch)
    rows = np.arange(len(crops))
    years = from_cube(crops.read("image", rows)[..., window, window])
    lonlat = crops.read("lonlat", rows)
    frame = label_names(crops).assign(
        number=crops.frame["number"], nuts0=crops.frame["country"], lon=lonlat[:, 0], lat=lonlat[:, 1],
        dataset="sen4map", sample_id=crops.frame["number"],
    )  # fmt: skip
    return Places(years[..., 0, 0] if config.patch == 1 else years, frame)


def labelled_places(data: str | Path, prompt_set: PromptSet, encoder: "Encoder", *, labels: str) -> LabelledSeries:
    """Take the places whose label is a class of the set, from crops or a parquet; the rest is counted."""
    if not Path(data).is_dir():
        return labelled_series(read_series(data), prompt_set, labels=labels)
    places = read_places(data, encoder)
    if labels not in places.frame.columns:
        known = "landcover, landuse, crop, habitat, country, bioregion, lc1 or lu1"
        raise ModelError(f"labels '{labels}' are not in prepared crops: choose {known}")
    matched = match_labels(places.frame[labels], prompt_set)
    known_rows = matched.index >= 0
    if not known_rows.any():
        values = ", ".join(f"'{value}'" for value in list(matched.others)[:5])
        raise ModelError(
            f"no place of '{data}' is a class of '{prompt_set.name}' by its {labels}: they are {values}, ..."
        )
    kept = places.take(known_rows)
    groups, resampled = resampling_groups(kept.frame)
    return LabelledSeries(kept.years, matched.index[known_rows], groups, resampled, matched.others, 0)


def one_month_left(years: Floats, rng: np.random.Generator) -> Floats:
    """Hide all but one observed month of each place, drawn at random; (n, 12, ...) with NaN = missing."""
    observed = np.isfinite(years).reshape(*years.shape[:2], -1).any(2)  # (n, 12)
    kept = np.where(observed, rng.random(observed.shape), -1.0).argmax(1)
    left = np.full_like(years, np.nan)
    rows = np.arange(len(years))
    left[rows, kept] = years[rows, kept]
    return left


@dataclass(frozen=True)
class Told:
    """How often places were given their own class: all alike, and as the mean over the classes that have places."""

    top1: Interval
    mean_class: Interval


def told(embeddings: Floats, vectors: Floats, truth: Ints, groups: Ints, *, draws: int = 1000) -> Told:
    """Zero-shot accuracies with bootstrap intervals.

    Parameters
    ----------
    embeddings, vectors
        (n, d) and (k, d) of unit length.
    truth, groups
        int (n,): class of each place, and what the bootstrap draws whole.
    draws
        Of the bootstrap.
    """
    k = len(vectors)
    predicted = (embeddings @ vectors.T).argmax(1)

    def measured(weights: NDArray[np.float64]) -> tuple[float, float]:
        confusion = metrics.weighted_confusion(truth, predicted, k, weights)
        return metrics.overall_accuracy(confusion), metrics.mean_class_accuracy(confusion)

    values = measured(np.ones(len(truth)))
    ends = metrics.bootstrap_intervals(measured, groups, draws=draws)
    top1, mean_class = (
        Interval(value=value, low=float(low), high=float(high)) for value, (low, high) in zip(values, ends, strict=True)
    )
    return Told(top1, mean_class)


def embed_places(encoder: "Encoder", years: Floats, *, rows: int = 4096) -> Floats:
    """Embed places in blocks; (n, d)."""
    blocks = [encoder.embed(years[start : start + rows]) for start in range(0, len(years), rows)]
    return cast("Floats", np.concatenate(blocks)) if blocks else np.empty((0, encoder.dim), np.float32)
