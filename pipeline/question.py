"""Questions: what a prompt set asks of pixels, and the answers to several at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timesenmap.model import Encoder
from timesenmap.model.prompts import PromptSet, class_embeddings
from timesenmap.model.zero_shot import hub_means_of
from timesenmap.pipeline.classify import class_probabilities, decide, in_percent

# Embeddings compared with all classes at a time: 6 MB, which stay in the cache, and just a batch of `cosines`.
_ROWS = 4096


@dataclass(frozen=True)
class Question:
    """One prompt set, ready to be compared with pixels: class embeddings (k, d), their codes, hub means (k,) if any.

    Pixels whose class has a probability below ``unknown_below`` (0-1) become unknown. With ``every_class`` the answer
    is not the best class but the probability of each.
    """

    prompt_set: str
    class_embeddings: NDArray[np.float32]
    codes: tuple[int, ...]
    temperature: float
    hub_means: NDArray[np.float64] | None = None
    unknown_below: float = 0.0
    every_class: bool = False

    @classmethod
    def of(cls, prompts: PromptSet, encoder: Encoder, *, unknown_below: float = 0.0) -> "Question":
        """Question that a prompt set asks of the pixels an encoder sees.

        Raises ModelError where the set's hub means were fitted with another encoder or wording.
        """
        return cls(
            prompts.name,
            class_embeddings(prompts, encoder),
            tuple(one.code for one in prompts.classes),
            encoder.config.temperature,
            hub_means_of(prompts, encoder),
            unknown_below,
        )

    @property
    def layers(self) -> int:
        """Layers of the answer: class code and confidence, or one for each class."""
        return len(self.codes) if self.every_class else 2

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability (n, k) of each class for embeddings (n, d); NaN where nothing was observed."""
        return class_probabilities(
            vectors, self.class_embeddings, temperature=self.temperature, hub_means=self.hub_means
        )

    def answer(self, probability: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Answer (layers, n) for the probabilities of the classes (n, k)."""
        if self.every_class:
            return in_percent(probability.T)
        return np.stack(decide(probability, self.codes, unknown_below=self.unknown_below))


def answers(vectors: NDArray[np.float32], questions: Sequence[Question]) -> NDArray[np.uint8]:
    """Answers to all questions (layers, n) for embeddings (n, d), which are gone through once.

    Questions of one prompt set share its probabilities.
    """
    once = {question.prompt_set: question for question in questions}.values()
    out = np.empty((sum(question.layers for question in questions), len(vectors)), np.uint8)
    for start in range(0, len(vectors), _ROWS):
        part = slice(start, start + _ROWS)
        probability = {question.prompt_set: question.probabilities(vectors[part]) for question in once}
        out[:, part] = np.concatenate([question.answer(probability[question.prompt_set]) for question in questions])
    return out
