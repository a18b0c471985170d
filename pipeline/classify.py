"""Embeddings to classes: cosine with the text embeddings, argmax, calibrated confidence, and what stays unknown.

Zero-shot classification as in Jain et al. 2026 (ISPRS J. 236:99-119): a class is the unit mean of its prompts' text
embeddings; a pixel takes the class of highest cosine. Confidence is the softmax of cosine / temperature, with the
temperature that was calibrated on held-out data and travels with the encoder. It is a choice among the classes asked
for: of k classes the winner has at least 1 / k, whatever the pixel shows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from timesenmap.model.zero_shot import cosines, hub_corrected, probabilities
from timesenmap.pipeline.legend import UNKNOWN

NO_CLASS = 0
NO_CONFIDENCE = 255


def classify(
    embeddings: NDArray[np.float32],
    class_embeddings: NDArray[np.float32],
    codes: Sequence[int],
    *,
    temperature: float,
    hub_means: NDArray[np.float64] | None = None,
    unknown_below: float = 0.0,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Class and confidence of every pixel.

    Parameters
    ----------
    embeddings : (n, d) float32, unit rows; a row of zeros means no observation
    class_embeddings : (k, d) float32, unit rows, in the order of `codes`
    codes : the k class codes, 1..254
    temperature : softmax temperature of the encoder's calibration
    hub_means : (k,) mean cosine of each class over a fitting set, where the prompt set carries the hub correction
    unknown_below : probability 0-1; a pixel whose winner has less is unknown, one that has just as much is not

    Returns
    -------
    (n,) uint8 class codes (0 = no data, 255 = unknown), (n,) uint8 confidence 0-100 in percent (255 = no data), of
    unknown pixels, too. The probability is compared before it is rounded to percent.

    Raises
    ------
    FloatingPointError
        Embeddings that are not numbers: no class can be told, and none is made up.
    """
    scores = _scores(embeddings, class_embeddings, hub_means)
    winner = scores.argmax(axis=1)
    probability = np.take_along_axis(_probabilities(scores, temperature), winner[:, None], axis=1)[:, 0]
    observed = embeddings.any(axis=1)
    told = np.where(probability < unknown_below, np.uint8(UNKNOWN.code), np.asarray(codes, np.uint8)[winner])
    classes = np.where(observed, told, np.uint8(NO_CLASS))
    return classes, _percent(probability, embeddings)


def class_probabilities(
    embeddings: NDArray[np.float32],
    class_embeddings: NDArray[np.float32],
    *,
    temperature: float,
    hub_means: NDArray[np.float64] | None = None,
) -> NDArray[np.uint8]:
    """Probability of every class in every pixel, whose highest is the confidence that `classify` gives.

    Parameters and errors are those of `classify`.

    Returns
    -------
    (k, n) uint8 percent, 0-100, each rounded by itself, so that a pixel's sum may miss 100; 255 = no data.
    """
    scores = _scores(embeddings, class_embeddings, hub_means)
    return _percent(_probabilities(scores, temperature).T, embeddings)


def _scores(
    embeddings: NDArray[np.float32], class_embeddings: NDArray[np.float32], hub_means: NDArray[np.float64] | None
) -> NDArray[np.float32]:
    cosine = cosines(embeddings, class_embeddings)
    return cosine if hub_means is None else hub_corrected(cosine, hub_means)


def _probabilities(scores: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    probability = probabilities(scores, temperature=temperature)
    broken = np.isnan(probability).any(axis=1)
    if broken.any():
        msg = f"{broken.sum()} of {len(scores)} embeddings are not numbers; is the encoder sound?"
        raise FloatingPointError(msg)
    return probability


def _percent(probability: NDArray[np.float64], embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Percent (..., n) of probabilities; no data where the pixel's embedding is of zeros."""
    return np.where(embeddings.any(axis=1), np.rint(100 * probability), NO_CONFIDENCE).astype(np.uint8)
