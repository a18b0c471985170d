"""Embeddings to classes: cosine with the text embeddings, class, calibrated confidence, margin, what stays unknown.

Zero-shot classification as in Jain et al. 2026 (ISPRS J. 236:99-119): a class is the unit mean of its prompts' text
embeddings; a pixel takes the class of highest cosine. Confidence is the softmax of cosine / temperature, with the
temperature that was calibrated on held-out data and travels with the encoder. It is a choice among the classes asked
for: of k classes the winner has at least 1 / k, whatever the pixel shows. The margin is what separates the winner from
the second best, in probability: near 0 two classes tie.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timesenmap.model.zero_shot import cosines, hub_corrected, probabilities
from timesenmap.pipeline.answer_kinds import NO_CLASS, NO_PERCENT
from timesenmap.pipeline.legend import UNKNOWN


@dataclass(frozen=True)
class Choice:
    """How n pixels choose among k classes, from which all that is told of a prompt set follows.

    Attributes
    ----------
    probability : (n, k) float64, 0-1; NaN in all classes where nothing was observed. The bits of a row depend on that
        row alone.
    """

    probability: NDArray[np.float64]

    def labels(self, codes: Sequence[int], *, unknown_below: float = 0.0) -> NDArray[np.uint8]:
        """Class and confidence of every pixel.

        Parameters
        ----------
        codes : the k class codes, 1..254
        unknown_below : probability 0-1; a pixel whose winner has less is unknown, one that has just as much is not

        Returns
        -------
        (2, n) uint8: class codes (0 = no data, 255 = unknown), and confidence 0-100 in percent (255 = no data), of
        unknown pixels, too. The probability is compared before it is rounded to percent.
        """
        winner = self.probability.argmax(axis=1)
        best = np.take_along_axis(self.probability, winner[:, None], axis=1)[:, 0]
        told = np.where(best < unknown_below, np.uint8(UNKNOWN.code), np.asarray(codes, np.uint8)[winner])
        return np.stack([np.where(np.isnan(best), np.uint8(NO_CLASS), told), in_percent(best)])

    def probabilities(self) -> NDArray[np.uint8]:
        """Probability of every class, (k, n) in percent, each rounded by itself; 255 = no data."""
        return in_percent(self.probability.T)

    def margins(self) -> NDArray[np.uint8]:
        """Probability of the best class minus that of the second best, (1, n) in percent; 255 = no data.

        The difference is rounded, not its terms, and it is that of unknown pixels, too. An only class has no second
        and all of the probability: 100.
        """
        if self.probability.shape[1] == 1:
            return in_percent(self.probability.T)
        top = np.partition(self.probability, -2, axis=1)
        return in_percent((top[:, -1] - top[:, -2])[None])


def choose(
    embeddings: NDArray[np.float32],
    class_embeddings: NDArray[np.float32],
    *,
    temperature: float,
    hub_means: NDArray[np.float64] | None = None,
) -> Choice:
    """Compare pixels with classes.

    Parameters
    ----------
    embeddings : (n, d) float32, unit rows; a row of zeros means no observation
    class_embeddings : (k, d) float32, unit rows
    temperature : softmax temperature of the encoder's calibration
    hub_means : (k,) mean cosine of each class over a fitting set, where the prompt set carries the hub correction

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
    return Choice(probability)


def in_percent(probability: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Probabilities as uint8 percent, 0-100, each rounded by itself; 255 = no data, where they are NaN."""
    return np.nan_to_num(np.rint(100 * probability), copy=False, nan=NO_PERCENT).astype(np.uint8)
