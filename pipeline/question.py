"""Questions: what a prompt set asks of pixels, and the answers to several at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from timesenmap.model import Encoder
from timesenmap.model.prompts import PromptSet, class_embeddings
from timesenmap.model.zero_shot import hub_means_of
from timesenmap.pipeline.answer_kinds import LABELS, MARGINS, PROBABILITIES, AnswerKind
from timesenmap.pipeline.classify import Choice, choose

# Embeddings compared with all classes at a time: 6 MB, which stay in the cache, and just a batch of `cosines`.
_ROWS = 4096


@dataclass(frozen=True)
class Question:
    """One prompt set, ready to be compared with pixels: class embeddings (k, d), their codes, hub means (k,) if any.

    Pixels whose class has a probability below ``unknown_below`` (0-1) become unknown. `kind` is what it is answered
    with.
    """

    prompt_set: str
    class_embeddings: NDArray[np.float32]
    codes: tuple[int, ...]
    temperature: float
    hub_means: NDArray[np.float64] | None = None
    unknown_below: float = 0.0
    kind: AnswerKind = LABELS

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

    def answered_with(self, kind: AnswerKind) -> "Question":
        """The same question, to be answered with another kind."""
        return replace(self, kind=kind)

    @property
    def layers(self) -> int:
        """Layers of the answer."""
        return self.kind.layers(len(self.codes))

    def choice(self, vectors: NDArray[np.float32]) -> Choice:
        """How pixels with embeddings (n, d) choose among the classes."""
        return choose(vectors, self.class_embeddings, temperature=self.temperature, hub_means=self.hub_means)

    def answer(self, choice: Choice) -> NDArray[np.uint8]:
        """Answer (layers, n) of pixels that choose so."""
        return _ANSWERS[self.kind](choice, self)


_ANSWERS: Mapping[AnswerKind, Callable[[Choice, Question], NDArray[np.uint8]]] = {
    LABELS: lambda choice, question: choice.labels(question.codes, unknown_below=question.unknown_below),
    PROBABILITIES: lambda choice, _: choice.probabilities(),
    MARGINS: lambda choice, _: choice.margins(),
}


def answers(vectors: NDArray[np.float32], questions: Sequence[Question]) -> NDArray[np.uint8]:
    """Answers to all questions (layers, n) for embeddings (n, d), which are gone through once.

    Questions of one prompt set share its choice.
    """
    once = {question.prompt_set: question for question in questions}.values()
    out = np.empty((sum(question.layers for question in questions), len(vectors)), np.uint8)
    for start in range(0, len(vectors), _ROWS):
        part = slice(start, start + _ROWS)
        choices = {question.prompt_set: question.choice(vectors[part]) for question in once}
        out[:, part] = np.concatenate([question.answer(choices[question.prompt_set]) for question in questions])
    return out
