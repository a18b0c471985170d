"""Embeddings to classes: cosine with the text embeddings, argmax, calibrated confidence.

Zero-shot classification as in Jain et al. 2026 (ISPRS J. 236:99-119): a class is the unit mean of its prompts' text
embeddings; a pixel takes the class of highest cosine. Confidence is the softmax of cosine / temperature, with the
temperature that was calibrated on held-out data and travels with the encoder.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NO_CLASS = 0
NO_CONFIDENCE = 255

# BLAS picks its kernels by the shape of a product, so that the last bits of a row may change with the number of rows.
# Products of one fixed shape give every pixel the same bits whatever tile or chunk it comes in.
_ROWS = 4096


def cosines(embeddings: NDArray[np.float32], class_embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of every pixel with every class.

    Parameters
    ----------
    embeddings : (n, d) float32, unit rows (a row of zeros where nothing was observed)
    class_embeddings : (k, d) float32, unit rows

    Returns
    -------
    (n, k) float32; the bits of a row depend on that row alone.
    """
    n, d = embeddings.shape
    out = np.empty((n, len(class_embeddings)), np.float32)
    weights = np.ascontiguousarray(class_embeddings.T)
    padded = np.zeros((_ROWS, d), np.float32)
    for start in range(0, n, _ROWS):
        rows = min(_ROWS, n - start)
        padded[:rows] = embeddings[start : start + rows]
        out[start : start + rows] = (padded @ weights)[:rows]
    return out


def classify(
    embeddings: NDArray[np.float32],
    class_embeddings: NDArray[np.float32],
    codes: Sequence[int],
    *,
    temperature: float,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Class and confidence of every pixel.

    Parameters
    ----------
    embeddings : (n, d) float32, unit rows; a row of zeros means no observation
    class_embeddings : (k, d) float32, unit rows, in the order of `codes`
    codes : the k class codes, 1..254
    temperature : softmax temperature of the encoder's calibration

    Returns
    -------
    (n,) uint8 class codes (0 = no data), (n,) uint8 confidence 0-100 in percent (255 = no data).
    """
    cosine = cosines(embeddings, class_embeddings)
    winner = cosine.argmax(axis=1)
    logits = cosine.astype(np.float64) / temperature
    top = np.take_along_axis(logits, winner[:, None], axis=1)
    probability = 1.0 / np.exp(logits - top).sum(axis=1)
    observed = embeddings.any(axis=1)
    classes = np.where(observed, np.asarray(codes, np.uint8)[winner], np.uint8(NO_CLASS))
    confidence = np.where(observed, np.rint(100 * probability), NO_CONFIDENCE).astype(np.uint8)
    return classes, confidence
