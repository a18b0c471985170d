"""Zero-shot classification of series: composites, scores, the hub correction, labels of a table.

A pixel's score for a class is the cosine of its embedding with the class's vector (Jain et al. 2026, ISPRS J.
236:99-119). Some classes score high with everything (hubs); the authors' test script divides the score
1 + cosine / 2 of a class by its mean over the test set. Here that mean is fitted once, over a set one names, and
kept with the prompt set: a map made block by block is then corrected alike everywhere.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from timesenmap.model.errors import ModelError
from timesenmap.model.prompts import HubMeans, PromptSet

if TYPE_CHECKING:
    from timesenmap.model.encoder import Encoder

Composites = Literal["monthly", "seasonal", "annual"]
FRAMES: dict[Composites, int] = {"monthly": 12, "seasonal": 4, "annual": 1}


def composited(reflectance: NDArray[np.float32], composites: Composites) -> NDArray[np.float32]:
    """Reduce twelve months to four seasons or one year by the median of what was observed.

    Seasons are the quarters of the calendar year, as the encoder's four temporal positions are made (paper).
    Where an even number of months was observed the median is the mean of the middle two.

    Parameters
    ----------
    reflectance
        float32 (n, 12, ...) January to December, NaN = missing.
    composites
        "monthly" returns it as it is, "seasonal" (n, 4, ...), "annual" (n, 1, ...).

    Raises
    ------
    ModelError
        Unknown kind of composite, or a series that has not twelve months.
    """
    if composites not in FRAMES:
        raise ModelError(f"composites '{composites}' is unknown; choose one of {', '.join(FRAMES)}")
    if reflectance.shape[1] != 12:
        raise ModelError(f"series of {reflectance.shape[1]} months cannot be composited; give January to December")
    if composites == "monthly":
        return reflectance
    frames = FRAMES[composites]
    months = reflectance.reshape(len(reflectance), frames, 12 // frames, *reflectance.shape[2:])
    return _median(months)


def _median(months: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median along axis 2, NaN where nothing was observed: np.nanmedian without its warning, and faster."""
    ordered = np.sort(months, axis=2)  # NaN last
    count = (~np.isnan(months)).sum(axis=2, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=2)
    high = np.take_along_axis(ordered, count // 2, axis=2)  # the same one where the count is odd
    return cast("NDArray[np.float32]", ((low + high) / np.float32(2)).squeeze(axis=2))


# BLAS picks its kernels by the shape of a product, so that the last bits of a row may change with the number of
# rows. Products of one fixed shape give every pixel the same bits whatever tile or chunk it comes in.
_ROWS = 4096


def cosines(embeddings: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of every embedding with every class.

    Parameters
    ----------
    embeddings
        float32 (n, d), unit rows; a row of zeros where nothing was observed.
    vectors
        float32 (k, d), unit rows.

    Returns
    -------
    numpy.ndarray
        float32 (n, k); the bits of a row depend on that row alone.
    """
    n, d = embeddings.shape
    out = np.empty((-(-n // _ROWS) * _ROWS, len(vectors)), np.float32)
    weights = np.ascontiguousarray(vectors.T)
    block = np.empty((_ROWS, d), np.float32)  # copied first: BLAS gathers its operands faster from the cache
    for start in range(0, n, _ROWS):
        rows = embeddings[start : start + _ROWS]
        block[: len(rows)] = rows
        block[len(rows) :] = 0
        np.matmul(block, weights, out=out[start : start + _ROWS])
    return out[:n]


def fit_hub_means(
    cosine: NDArray[np.float32],
    prompt_set: PromptSet,
    encoder: "Encoder",
) -> HubMeans:
    """Mean cosine of every class over a fitting set, to be kept with the prompt set.

    Parameters
    ----------
    cosine
        (n, k) of the fitting set's twelve-month series with the descriptive prompts, classes in the set's order.
        No labels are needed, but the set should hold the classes as often as the maps will.
    prompt_set, encoder
        What the cosines were made with; their hashes are recorded.
    """
    if not len(cosine):
        raise ModelError("the hub correction cannot be fitted on no series; give some")
    means = tuple(round(float(mean), 7) for mean in cosine.mean(axis=0, dtype=np.float64))
    return HubMeans(
        encoder_sha256=encoder.sha256, wording_sha256=prompt_set.wording_sha256, rows=len(cosine), means=means
    )


def hub_means_of(prompt_set: PromptSet, encoder: "Encoder") -> NDArray[np.float64] | None:
    """Means kept with the prompt set, (k,); None where it has none.

    Raises
    ------
    ModelError
        The means were fitted with another encoder or other prompts.
    """
    hub = prompt_set.hub_means
    if hub is None:
        return None
    remedy = "fit them again (evaluate-encoder zero-shot --fit-hub-means) or take hub_means out of the file"
    if hub.encoder_sha256 != encoder.sha256:
        raise ModelError(
            f"prompt set '{prompt_set.name}': its hub_means are of the encoder {hub.encoder_sha256[:12]}, "
            f"this one, '{encoder.name}', is {encoder.sha256[:12]}; {remedy}"
        )
    if hub.wording_sha256 != prompt_set.wording_sha256:
        raise ModelError(
            f"prompt set '{prompt_set.name}': its prompts were changed since its hub_means were fitted; {remedy}"
        )
    return np.array(hub.means, np.float64)


def hub_corrected(cosine: NDArray[np.float32], means: NDArray[np.float64]) -> NDArray[np.float32]:
    """Correct cosines for classes that attract everything.

    The authors' corrected score of class k is (1 + cosine / 2) / (1 + mean_k / 2 + 1e-6). It is brought back to the
    scale of a cosine, by the average denominator, so that the calibrated temperature still means what it did;
    the winner is the same. Each row is corrected by itself: blocks of a map need not know each other.

    Parameters
    ----------
    cosine
        float32 (n, k).
    means
        (k,) mean cosine of every class over the fitting set.

    Returns
    -------
    numpy.ndarray
        float32 (n, k); equal to `cosine` where all means are equal.
    """
    denominator = 1 + means / 2 + 1e-6  # (k,)
    gain = denominator.mean() / denominator
    return cast("NDArray[np.float32]", (gain * (2 + cosine.astype(np.float64)) - 2).astype(np.float32))


def softmax_terms(
    scores: NDArray[np.float32], *, temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Softmax of scores / temperature along the classes, before the division.

    Parameters
    ----------
    scores
        float32 (n, k).
    temperature
        Of the encoder's calibration.

    Returns
    -------
    tuple
        Weights, float64 (k, n): exp of how far a class is behind the best, which has just 1. And their totals, (n,):
        a class has the probability weight / total. The bits of a pixel depend on that pixel alone; both are NaN where
        a score is no number.
    """
    weights = scores.T.astype(np.float64, order="C")  # a class a row: what follows goes along memory, in place
    weights /= temperature
    weights -= weights.max(axis=0)
    np.exp(weights, out=weights)
    return weights, _total(weights)


def _total(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum (k, n) over the classes, in the order in which NumPy sums a row of k: pairwise, by eights.

    A last bit decides what lies just at a threshold: maps made when NumPy summed rows stay as they are.
    """
    classes = len(weights)
    if classes > 128:
        half = classes // 2 // 8 * 8
        return _total(weights[:half]) + _total(weights[half:])
    eights = classes // 8 * 8
    if eights:
        part = weights[:8].copy()
        for first in range(8, eights, 8):
            part += weights[first : first + 8]
        total = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]))
    else:
        total = np.zeros(weights.shape[1])
    for row in weights[eights:]:
        total += row
    return cast("NDArray[np.float64]", total)


def probabilities(scores: NDArray[np.float32], *, temperature: float) -> NDArray[np.float64]:
    """Softmax of scores / temperature along the classes: (n, k) to float64 (n, k)."""
    weights, total = softmax_terms(scores, temperature=temperature)
    return (weights / total).T


@dataclass(frozen=True)
class MatchedLabels:
    """Which class of a prompt set each row of a table is.

    Attributes
    ----------
    index
        int64 (n,): number of the class in the set, -1 for a row whose value is no class of it.
    others
        Values that are no class, with their rows, the most frequent first; "" stands for an empty cell.
    """

    index: NDArray[np.int64]
    others: dict[str, int]


def match_labels(values: pd.Series, prompt_set: PromptSet) -> MatchedLabels:
    """Find the class of every value by name or alias, upper or lower case, outer blanks ignored."""
    classes = {label: i for i, entry in enumerate(prompt_set.classes) for label in entry.labels}
    texts = ["" if pd.isna(value) else " ".join(str(value).split()) for value in values]
    index = np.array([classes.get(text.casefold(), -1) for text in texts], np.int64)
    left = pd.Series([text for text, i in zip(texts, index, strict=True) if i < 0], dtype=object)
    return MatchedLabels(index, {str(value): int(rows) for value, rows in left.value_counts(sort=True).items()})
