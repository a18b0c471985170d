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


def class_probabilities(
    embeddings: NDArray[np.float32],
    class_embeddings: NDArray[np.float32],
    *,
    temperature: float,
    hub_means: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Probability of every class in every pixel, from which all that is told of a prompt set follows.

    Parameters
    ----------
    embeddings : (n, d) float32, unit rows; a row of zeros means no observation
    class_embeddings : (k, d) float32, unit rows
    temperature : softmax temperature of the encoder's calibration
    hub_means : (k,) mean cosine of each class over a fitting set, where the prompt set carries the hub correction

    Returns
    -------
    (n, k) float64, 0-1; NaN in all classes where nothing was observed. The bits of a row depend on that row alone.

    Raises
    ------
    FloatingPointError
        Embeddings that are not numbers: no class can be told, and none is made up.
    """
    cosine = cosines(embeddings, class_embeddings)
    scores = cosine if hub_means is None else hub_corrected(cosine, hub_means)
    probability = probabilities(scores, temperature=temperature)
    broken = np.isnan(probability).any(axis=1)
    if broken.any():
        msg = f"{broken.sum()} of {len(scores)} embeddings are not numbers; is the encoder sound?"
        raise FloatingPointError(msg)
    probability[~embeddings.any(axis=1)] = np.nan
    return probability


def decide(
    probability: NDArray[np.float64], codes: Sequence[int], *, unknown_below: float = 0.0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Class and confidence of every pixel.

    Parameters
    ----------
    probability : (n, k) float64 of the classes; NaN = no observation
    codes : the k class codes, 1..254
    unknown_below : probability 0-1; a pixel whose winner has less is unknown, one that has just as much is not

    Returns
    -------
    (n,) uint8 class codes (0 = no data, 255 = unknown), (n,) uint8 confidence 0-100 in percent (255 = no data), of
    unknown pixels, too. The probability is compared before it is rounded to percent.
    """
    winner = probability.argmax(axis=1)
    best = np.take_along_axis(probability, winner[:, None], axis=1)[:, 0]
    told = np.where(best < unknown_below, np.uint8(UNKNOWN.code), np.asarray(codes, np.uint8)[winner])
    return np.where(np.isnan(best), np.uint8(NO_CLASS), told), in_percent(best)


def in_percent(probability: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Probabilities as uint8 percent, 0-100, each rounded by itself; 255 = no data, where they are NaN."""
    return np.nan_to_num(np.rint(100 * probability), copy=False, nan=NO_CONFIDENCE).astype(np.uint8)
