"""Embeddings to classes: cosine with the text embeddings, class, calibrated confidence, margin, what stays unknown.

Zero-shot classification as in Jain et al. 2026 (ISPRS J. 236:99-119): a class is the unit mean of its prompts' text
embeddings; a pixel takes the class of highest cosine. Confidence is the softmax of cosine / temperature, with the
temperature that was calibrated on held-out data and travels with the encoder. It is a choice among the classes asked
for: of k classes the winner has at least 1 / k, whatever the pixel shows. The margin is what separates the winner from
the second best, in probability: near 0 two classes tie.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from timesenmap.model.zero_shot import cosines, hub_corrected, softmax_terms
from timesenmap.pipeline.answer_kinds import NO_CLASS, NO_PERCENT
from timesenmap.pipeline.legend import UNKNOWN


@dataclass(frozen=True)
class Choice:
    """How n pixels choose among k classes, from which all that is told of a prompt set follows.

    The probability of a class is its weight / total; it is divided out only where it is asked for.

    Attributes
    ----------
    weights : (k, n) float64, 0-1; just 1 for the best class
    total : (n,) float64, sum of the weights
    unseen : (m,) which pixels have no observation, whatever the rest says of them
    """

    weights: NDArray[np.float64]
    total: NDArray[np.float64]
    unseen: NDArray[np.intp]

    @cached_property
    def _winner(self) -> NDArray[np.uint8]:
        """Number (n,) of the best class, the first of those that tie: how many come before it.

        Faster than argmax, which NumPy does a pixel at a time, across the rows of memory.
        """
        before = self.weights != 1
        for number in range(1, len(before)):
            before[number] &= before[number - 1]
        return cast("NDArray[np.uint8]", before.view(np.uint8).sum(axis=0, dtype=np.uint8))

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
        best = 1 / self.total
        told = np.asarray(codes, np.uint8)[self._winner]
        told[best < unknown_below] = UNKNOWN.code
        told[self.unseen] = NO_CLASS
        return np.stack([told, self._in_percent(best)])

    def probabilities(self) -> NDArray[np.uint8]:
        """Probability of every class, (k, n) in percent, each rounded by itself; 255 = no data."""
        return self._in_percent(self.weights / self.total)

    def margins(self) -> NDArray[np.uint8]:
        """Probability of the best class minus that of the second best, (1, n) in percent; 255 = no data.

        The difference is rounded, not its terms, and it is that of unknown pixels, too. An only class has no second
        and all of the probability: 100.
        """
        others = self.weights.copy()
        others[self._winner, np.arange(len(self.total))] = 0
        return self._in_percent(1 / self.total - others.max(axis=0) / self.total)[None]

    def _in_percent(self, probability: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Probabilities (..., n) as uint8 percent, 0-100, each rounded by itself; 255 = no data."""
        percent = np.rint(100 * probability).astype(np.uint8)
        percent[..., self.unseen] = NO_PERCENT
        return percent


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
    weights, total = softmax_terms(scores, temperature=temperature)
    broken = np.isnan(total)
    if broken.any():
        msg = f"{broken.sum()} of {len(scores)} embeddings are not numbers; is the encoder sound?"
        raise FloatingPointError(msg)
    zero = np.flatnonzero(cosine[:, 0] == 0)  # as every cosine of a row of zeros is
    return Choice(weights, total, zero[~embeddings[zero].any(axis=1)])
