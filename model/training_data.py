"""What training sees: pairs of a series and the embedding it is pulled towards, drawn and varied at random.

A source of pairs (:class:`Pairs`) makes whole batches with NumPy; everything random comes from the generator
it is given, which is derived from seed, epoch and batch number. So a resumed run sees what the uninterrupted
one would have seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from timesenmap.model.atmosphere import surface_from_top
from timesenmap.model.captions import UNLABELLED, CaptionTable, Labelled
from timesenmap.model.errors import ModelError
from timesenmap.model.masking import random_subsets, spectral_dropout
from timesenmap.model.series import SIMULATED, SeriesTable, without_damage
from timesenmap.model.training_config import NoiseConfig, TrainingConfig

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class PairBatch(NamedTuple):
    """A batch of pairs.

    ``group`` numbers what the targets say (see :attr:`Pairs.spared`); -1 where a target is like no other.
    """

    reflectance: Tensor  # (B, 12, bands[, patch, patch]) float32, NaN = missing
    targets: Tensor  # (B, d) float32, unit length; (B, photos, d) where they are pooled in training, 0 = no photo
    group: Tensor  # (B,) int64


class Pairs(Protocol):
    """A source of training pairs: captions here, ground photos in ``photo_pairs``."""

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """(n,) how often each place is drawn, relatively."""

    @property
    def spared(self) -> npt.NDArray[np.bool_] | None:
        """(groups, groups): [i, j] is True where a target of group j is no negative to a pair of group i."""

    @property
    def distractors(self) -> Floats | None:
        """(k, d) unit vectors of what no place is: negatives to all, every time."""

    def batch(self, rows: Ints, rng: np.random.Generator) -> PairBatch:
        """Make a batch of the given places."""


class EpochBatches(Dataset[PairBatch]):
    """The batches of one epoch, made when asked for; the last may be short.

    Parameters
    ----------
    pairs
        Where they come from.
    samples, batch
        Places drawn an epoch (with replacement, by weight), and their number a batch.
    seed, epoch
        What the draws depend on.
    part
        (which, of how many): one of several devices gets every so manieth row of each batch, so that all together
        see the batches that one would see alone.
    """

    def __init__(
        self, pairs: Pairs, *, samples: int, batch: int, seed: int, epoch: int, part: tuple[int, int] = (0, 1)
    ) -> None:
        self.pairs = pairs
        self.part = part
        self.batch = batch
        self.seed = seed
        self.epoch = epoch
        weights = pairs.weights / pairs.weights.sum()
        rng = np.random.default_rng([seed, epoch])
        # Systematic sampling: each place is drawn its expected number of times, rounded up or down.
        edges = (rng.random() + np.arange(samples)) / samples
        drawn = np.searchsorted(weights.cumsum(), edges).clip(max=len(weights) - 1)
        self.rows: Ints = rng.permutation(drawn).astype(np.int64)

    def __len__(self) -> int:
        # A last batch with less than a row for each device is left out: none may wait for the others in vain.
        return len(self.rows) // self.batch + (len(self.rows) % self.batch >= self.part[1])

    def __getitem__(self, number: int) -> PairBatch:
        if number >= len(self):
            raise IndexError(number)
        which, of = self.part
        rows = self.rows[number * self.batch : (number + 1) * self.batch][which::of]
        drawn = [self.seed, self.epoch, number, *([which] if of > 1 else [])]
        return self.pairs.batch(rows, np.random.default_rng(drawn))


@dataclass(frozen=True)
class CaptionPairs:
    """Series and one of the sentences that are true of them.

    Attributes
    ----------
    reflectance
        float32 (n, 12, 10) near the surface, NaN = missing (see :func:`surface_series`).
    labelled
        Caption and land cover of the n series, none dropped.
    sources
        str (n,): balanced over together with the caption.
    table, embed
        Caption table, and what turns sentences into unit vectors (m, d).
    config
        Of the run.
    """

    reflectance: Floats
    labelled: Labelled
    sources: npt.NDArray[np.str_]
    table: CaptionTable
    embed: Callable[[Sequence[str]], Floats]
    config: TrainingConfig

    def __post_init__(self) -> None:
        if (self.labelled.caption == UNLABELLED).any():
            raise ModelError("rows without a caption cannot train: leave them out")

    @cached_property
    def weights(self) -> npt.NDArray[np.float64]:
        """(n,) ``count ** -balance`` of the series' caption in its source; simulated series get their share of all."""
        keys = np.char.add(np.char.add(self.sources, "/"), self.labelled.caption.astype(str))
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        weights = counts[inverse].astype(np.float64) ** -self.config.balance
        simulated = self.sources == SIMULATED
        if simulated.any() and not simulated.all():
            share = self.config.simulated_share
            weights[simulated] *= share / weights[simulated].sum()
            weights[~simulated] *= (1 - share) / weights[~simulated].sum()
        return weights

    @property
    def spared(self) -> npt.NDArray[np.bool_]:
        """(captions, captions)."""
        return self.table.spared

    @cached_property
    def sentences(self) -> list[Floats]:
        """Unit vectors (wordings, d) of each caption."""
        wordings = [self.table.wordings(name) for name in self.table.names]
        vectors = self.embed([wording for caption in wordings for wording in caption])
        return np.split(vectors, np.cumsum([len(caption) for caption in wordings])[:-1])

    @cached_property
    def distractors(self) -> Floats | None:
        """Unit vectors of the table's words for what is no land."""
        words = [word for theme in self.table.distractors for word in theme]
        return self.embed(words) if words else None

    @cached_property
    def _filled(self) -> Floats:
        unchanging = np.array([caption.unchanging for caption in self.table.captions.values()])
        return fill_gaps(self.reflectance, unchanging[self.labelled.caption])

    @cached_property
    def _patterns(self) -> npt.NDArray[np.bool_]:
        real = self.sources != SIMULATED
        return np.isfinite(self.reflectance[real] if real.any() else self.reflectance)

    def batch(self, rows: Ints, rng: np.random.Generator) -> PairBatch:
        """Make a batch: values varied, months and bands hidden, a sentence drawn for each series."""
        hiding = self.config.hiding
        series = self.reflectance[rows]
        if hiding.filled:
            whole = rng.random((len(rows), 1, 1)) < hiding.filled
            series = np.where(whole, self._filled[rows], series)
        series = with_noise(series, self.config.noise, rng)
        series = hide(series, self._patterns, self.config, rng)
        truth, landcover = self.labelled.caption[rows], self.labelled.landcover[rows]
        broad = (rng.random(len(rows)) < self.config.landcover_share) & (landcover != UNLABELLED)
        group = np.where(broad, landcover, truth)
        targets = np.stack([self.sentences[g][rng.integers(len(self.sentences[g]))] for g in group])
        return PairBatch(torch.from_numpy(series), torch.from_numpy(targets), torch.from_numpy(group))


def surface_series(table: SeriesTable) -> Floats:
    """Reflectance of a table made alike: damage set aside, top-of-atmosphere (L1C) rows corrected; (n, 12, 10)."""
    reflectance = without_damage(table.reflectance)
    top = table.frame["level"].to_numpy(object) == "L1C"
    unknown = ~top & (table.frame["level"].to_numpy(object) != "L2A")
    if unknown.any():
        value = table.frame["level"].to_numpy(object)[unknown][0]
        raise ModelError(f"level '{value}' of {unknown.sum()} series is unknown: write L2A (surface) or L1C (top)")
    reflectance[top] = surface_from_top(reflectance[top], table.frame["lat"].to_numpy(np.float64)[top])
    return reflectance


def fill_gaps(reflectance: Floats, unchanging: npt.NDArray[np.bool_]) -> Floats:
    """Complete series for training, as far as neighbours say what is missing; returns a copy (n, 12, 10).

    Bands missing throughout are predicted from the others by least squares over the series that have both;
    months between two observed ones are interpolated in time. Months before the first or after the last stay
    missing, except in ``unchanging`` (n,) series, where the nearest month stands for them. This widens
    the training data only: the encoder itself is never given filled values.
    """
    filled = _fill_bands(reflectance)
    months = np.arange(12)
    for series, constant in zip(filled, unchanging, strict=True):
        for band in range(series.shape[1]):
            known = np.flatnonzero(np.isfinite(series[:, band]))
            if len(known) in (0, 12):
                continue
            outside = {} if constant else {"left": np.nan, "right": np.nan}
            series[:, band] = np.interp(months, known, series[known, band], **outside)
    return filled


def _fill_bands(reflectance: Floats) -> Floats:
    """Predict missing bands of otherwise observed months from the bands present."""
    filled = reflectance.copy()
    flat = filled.reshape(-1, filled.shape[-1])
    observed = np.isfinite(flat)
    complete = flat[observed.all(1)].astype(np.float64)
    if len(complete) < 100:  # too few to learn ten bands from
        return filled
    for pattern in np.unique(observed[observed.any(1) & ~observed.all(1)], axis=0):
        if pattern.sum() < 4:
            continue
        inputs = np.column_stack([complete[:, pattern], np.ones(len(complete))])
        weights, *_ = np.linalg.lstsq(inputs, complete[:, ~pattern], rcond=None)
        rows = np.flatnonzero((observed == pattern).all(1))
        given = np.column_stack([flat[rows][:, pattern], np.ones(len(rows))])
        flat[np.ix_(rows, np.flatnonzero(~pattern))] = np.maximum(given @ weights, 1e-4)
    return filled


def with_noise(series: Floats, noise: NoiseConfig, rng: np.random.Generator) -> Floats:
    """Vary the values of series (n, 12, bands): factors a series, a band, a month; noise a value."""
    count, months, bands = series.shape
    factor = (
        rng.normal(0, noise.brightness, (count, 1, 1))
        + rng.normal(0, noise.colour, (count, 1, bands))
        + rng.normal(0, noise.month, (count, months, 1))
    )
    varied = series * np.exp(factor) + rng.normal(0, noise.value, series.shape)
    return np.maximum(varied, 1e-4).astype(np.float32)  # NaN stays NaN


def hide(series: Floats, patterns: npt.NDArray[np.bool_], config: TrainingConfig, rng: np.random.Generator) -> Floats:
    """Hide months and bands of series (n, 12, bands) as ``config.hiding`` says."""
    hiding = config.hiding
    if hiding.months or hiding.bands or hiding.borrowed:
        series = random_subsets(
            series, patterns, rng, months=hiding.months, bands=hiding.bands, borrowed=hiding.borrowed
        )
    if hiding.spectral:
        encoder = config.encoder_config
        hidden: Any = np.nan if encoder.presence else np.array(encoder.low) / 10_000.0
        series = spectral_dropout(series, rng, share=hiding.spectral, hidden=hidden)
    return series
