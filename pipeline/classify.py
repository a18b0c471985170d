"""Embeddings to classes: cosine with the text embeddings, argmax, calibrated confidence, and what stays unknown.

Zero-shot classification as in Jain et al. 2026 (ISPRS J. 236:99-119): a class is the unit mean of its prompts' text
embeddings; a pixel takes the class of highest cosine. Confidence is the softmax of cosine / temperature, with the
temperature that was calibrated on held-out data and travels with the encoder. It is a choice among the classes asked
for: of k classes the winner has at least 1 / k, whatever the pixel shows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from timesenmap.model.zero_shot import cosines, hub_corrected
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
    cosine = cosines(embeddings, class_embeddings)
    if hub_means is not None:
        cosine = hub_corrected(cosine, hub_means)
    winner = cosine.argmax(axis=1)
    logits = cosine.astype(np.float64) / temperature
    top = np.take_along_axis(logits, winner[:, None], axis=1)
    probability = 1.0 / np.exp(logits - top).sum(axis=1)
    if np.isnan(probability).any():
        msg = f"{np.isnan(probability).sum()} of {len(embeddings)} embeddings are not numbers; is the encoder sound?"
        raise FloatingPointError(msg)
    observed = embeddings.any(axis=1)
    told = np.where(probability < unknown_below, np.uint8(UNKNOWN.code), np.asarray(codes, np.uint8)[winner])
    classes = np.where(observed, told, np.uint8(NO_CLASS))
    confidence = np.where(observed, np.rint(100 * probability), NO_CONFIDENCE).astype(np.uint8)
    return classes, confidence
