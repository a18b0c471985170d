"""What training hides from the encoder: the paper's temporal masking, and random months and bands.

Source of the temporal masking: Jain et al. 2026, ISPRS J. 236:99-119. Random subsets of months and bands are
this project's own, for the captions target: labelled series of different sources lack different months and
bands, and an encoder can learn the source from the pattern instead of the land from the values.
"""

from functools import partial
from typing import Final, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from timesenmap.model.architecture import Frames, Masking

Strategy = Literal["median", "quarter", "random"]
STRATEGIES: Final[tuple[Strategy, ...]] = ("median", "quarter", "random")
QUARTER: Final = 3

Floats = npt.NDArray[np.float32]


def median_frame(frames: Frames) -> Frames:
    """One frame: the median of the observed frames' embeddings, at the mean temporal position.

    The lower of two middle values, as ``torch.median``. A year without any observation stays unobserved.
    """
    tokens, positions, present = frames
    median = torch.where(present[..., None], tokens, torch.nan).nanmedian(1, keepdim=True).values  # (B, 1, width)
    some = present.any(1, keepdim=True)  # (B, 1)
    median = torch.where(some[..., None], median, 0.0)
    return Frames(median, positions.mean(-2, keepdim=True), some)


def drop_frames(frames: Frames, kept: npt.NDArray[np.bool_]) -> Frames:
    """Hide the frames not ``kept`` (T,); the others keep their own month's position.

    A year of which nothing observed would be left is left whole: it has no month to spare.
    """
    keep: Tensor = torch.from_numpy(kept).to(frames.present.device)
    present = frames.present & keep
    present = torch.where(present.any(1, keepdim=True), present, frames.present)
    return frames._replace(present=present)


def kept_frames(strategy: Strategy, frames: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which of ``frames`` stay, bool (T,), under "quarter" or "random".

    quarter: a contiguous quarter (3 of 12 frames) goes. random: 1 to T - 1 frames go, each number equally likely.
    """
    kept = np.ones(frames, bool)
    if strategy == "quarter":
        start = rng.integers(frames - QUARTER + 1)
        kept[start : start + QUARTER] = False
    else:
        gone = rng.integers(1, frames)
        kept[rng.choice(frames, gone, replace=False)] = False
    return kept


def draw_strategy(rng: np.random.Generator, *, share: float = 0.5) -> Strategy | None:
    """What happens to a batch: nothing, or (for ``share`` of the batches) one of three with equal chance."""
    if rng.random() >= share:
        return None
    return STRATEGIES[rng.integers(len(STRATEGIES))]


def draw_masking(rng: np.random.Generator, *, share: float = 0.5, frames: int = 12) -> Masking | None:
    """Temporal masking of one batch, for ``TimeSenCLIP.forward(..., masking=)``; None leaves it alone.

    With fewer than four frames there is no quarter to drop and nothing is done.
    """
    strategy = draw_strategy(rng, share=share)
    if strategy is None or frames <= QUARTER:
        return None
    if strategy == "median":
        return median_frame
    return partial(drop_frames, kept=kept_frames(strategy, frames, rng))


def spectral_dropout(
    reflectance: Floats, rng: np.random.Generator, *, share: float, hidden: npt.ArrayLike = np.nan
) -> Floats:
    """Hide each band of each series with probability ``share``, in all its months; at least one band stays.

    Parameters
    ----------
    reflectance
        (n, months, bands), NaN = missing.
    hidden
        What a hidden band holds, a number or one a band: NaN for encoders that know presence; the ``low`` of
        the scaling (in reflectance) for those that do not, so that it becomes 0 as in the paper's ablation.
    """
    count, _, bands = reflectance.shape
    gone = rng.random((count, bands)) < share
    rescued = rng.integers(bands, size=count)
    gone[np.arange(count), rescued] &= ~gone.all(1)
    fill = np.broadcast_to(np.asarray(hidden, np.float32), (bands,))
    observed = np.isfinite(reflectance)
    return np.where(gone[:, None, :] & observed, fill, reflectance)


def random_subsets(
    reflectance: Floats,
    patterns: npt.NDArray[np.bool_],
    rng: np.random.Generator,
    *,
    months: float,
    bands: float,
    borrowed: float,
) -> Floats:
    """Hide random months and bands, so that what is missing says little about the land.

    Parameters
    ----------
    reflectance
        (n, 12, bands), NaN = missing; returned is a copy with more NaN.
    patterns
        (m, 12, bands) bool, True = observed: the patterns of missing months and bands of real sources.
    months
        Share of the series of which only a random number of the observed months (1 to all, equally likely)
        stays: half of them any months, half of them in a row.
    bands
        Share of the series of which a random number of bands (4 to all) stays.
    borrowed
        Share of the series that take over the missing months and bands of a random one of ``patterns``.

    A series of which nothing would be left is left whole.
    """
    count, frames, width = reflectance.shape
    keep = np.ones(reflectance.shape, bool)
    choose = rng.random((3, count, 1, 1))
    observed = np.isfinite(reflectance)
    observed_months = observed.any(2)

    # Order the observed months at random, or from a random month on; keep the first so many.
    scattered = rng.random((count, frames))
    start = rng.integers(frames, size=(count, 1))
    in_a_row = (np.arange(frames) - start) % frames / frames
    order = np.where(rng.random((count, 1)) < 0.5, scattered, in_a_row)
    rank = np.where(observed_months, order, 2.0).argsort(1).argsort(1)
    stay = np.ceil(rng.random(count) * observed_months.sum(1))[:, None]
    keep &= (choose[0] >= months) | (rank < stay)[:, :, None]

    rank = rng.random((count, width)).argsort(1).argsort(1)
    stay = rng.integers(min(4, width), width + 1, size=(count, 1))
    keep &= (choose[1] >= bands) | (rank < stay)[:, None, :]

    lent = patterns[rng.integers(len(patterns), size=count)]
    keep &= (choose[2] >= borrowed) | lent

    keep |= ~(keep & observed).any((1, 2), keepdims=True)
    return cast("Floats", np.where(keep, reflectance, np.float32(np.nan)))
