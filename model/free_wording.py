"""Words that no training saw: whether they find the land they mean, and nonsense finds nothing.

The user-like prompts are in ``free_wording.yaml``, the ``unseen`` wordings in ``captions.yaml``.
"""

from collections.abc import Iterable, Mapping
from importlib import resources

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BaseModel, ConfigDict, Field

from timesenmap.model.caption_evaluation import EncodedSamples
from timesenmap.model.captions import CaptionTable
from timesenmap.model.errors import ModelError
from timesenmap.model.training_scores import Question

Floats = npt.NDArray[np.float32]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FreeWording(_Model):
    """Prompts as users write them."""

    prompts: dict[str, str] = Field(description="prompt -> caption it should find", min_length=1)
    nonsense: tuple[str, ...] = Field(description="prompts for what is in no series", min_length=1)


class PromptScores(_Model):
    """One caption asked for in words of its own beside the other options in the words of training."""

    prompt: str
    caption: str
    question: str
    rows: int = Field(description="series that are the caption")
    recall: float
    precision: float | None
    f1: float
    f1_trained: float = Field(description="F1 of the caption asked for in the words of training")
    nearest: str = Field(description="option whose words of training the prompt is closest to")


class NonsenseScores(_Model):
    """Nonsense asked beside the land covers."""

    prompt: str
    won: float = Field(description="share of the series it was given")
    confidence: float | None = Field(description="mean calibrated confidence where it won")
    confident: float = Field(description="share of the series it was given with a confidence of at least one half")


def load_free_wording() -> FreeWording:
    """Read the shipped prompts."""
    text = resources.files("timesenmap.model").joinpath("free_wording.yaml").read_text("utf-8")
    return FreeWording.model_validate(yaml.safe_load(text))


def check_wording(wording: FreeWording, table: CaptionTable) -> None:
    """Check prompts against a caption table.

    Raises
    ------
    ModelError
        A prompt for something that is no caption, or one that occurs in training.
    """
    check_unseen(table, (*wording.prompts, *wording.nonsense))
    for prompt, caption in wording.prompts.items():
        if caption not in table.numbers:
            raise ModelError(f"free wording '{prompt}' should find '{caption}', which is no caption: name one")


def unseen_wordings(table: CaptionTable) -> list[tuple[str, ...]]:
    """Return the wordings of each caption that were kept out of training.

    Raises
    ------
    ModelError
        One of them is a wording of training, of this caption or another.
    """
    wordings = [caption.unseen for caption in table.captions.values()]
    check_unseen(table, (wording for caption in wordings for wording in caption))
    return wordings


def check_unseen(table: CaptionTable, prompts: Iterable[str]) -> None:
    """Refuse prompts that are a sentence of training, whatever their case and article."""
    trained = {_plain(wording): name for name in table.names for wording in table.wordings(name)}
    trained |= {_plain(word): "nothing (a distractor)" for theme in table.distractors for word in theme}
    for prompt in prompts:
        if _plain(prompt) in trained:
            raise ModelError(
                f"'{prompt}' is kept for the test of free wording but trains '{trained[_plain(prompt)]}': "
                "take it out of one of the two"
            )


def _plain(text: str) -> str:
    words = text.casefold().split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in {"a", "an", "the"} else words)


def prompt_scores(
    tested: EncodedSamples, asked: Mapping[str, Question], wording: FreeWording, prompts: Floats
) -> tuple[PromptScores, ...]:
    """Ask for one caption at a time in a user's words, the others in those of training.

    Prompts whose caption no sample has are left out.

    Parameters
    ----------
    tested
        Samples and encoder.
    asked
        Questions by name; a prompt is asked in every one that has its caption.
    wording, prompts
        The prompts and their unit vectors (prompts, d).
    """
    trained = {name: tested.answer(q).predicted for name, q in asked.items()}
    found = []
    for vector, (prompt, caption) in zip(prompts, wording.prompts.items(), strict=True):
        number = tested.table.numbers[caption]
        worded = tested.vectors.copy()
        worded[number] = vector
        for name, q in asked.items():
            own = q.options[q.answer] == number
            if not own.any():
                continue
            given = q.options[tested.answer(q, vectors=worded).predicted] == number
            recall, precision, f1 = _told(own, given)
            nearest = q.options[(tested.vectors[q.options] @ vector).argmax()]
            found.append(
                PromptScores(
                    prompt=prompt,
                    caption=caption,
                    question=name,
                    rows=int(own.sum()),
                    recall=recall,
                    precision=precision,
                    f1=f1,
                    f1_trained=_told(own, q.options[trained[name]] == number)[2],
                    nearest=tested.table.names[nearest],
                )
            )
    return tuple(found)


def _told(own: npt.NDArray[np.bool_], given: npt.NDArray[np.bool_]) -> tuple[float, float | None, float]:
    """Recall, precision and F1 of a class that some rows are."""
    both = int((own & given).sum())
    precision = both / int(given.sum()) if given.any() else None
    return both / int(own.sum()), precision, 2 * both / int(own.sum() + given.sum())


def nonsense_scores(
    tested: EncodedSamples, land: Question, wording: FreeWording, prompts: Floats
) -> tuple[NonsenseScores, ...]:
    """Ask each nonsense prompt, and then all of them, beside the land covers.

    Parameters
    ----------
    tested
        Samples and encoder.
    land
        The question of the land covers.
    wording, prompts
        The prompts and the unit vectors (m, d) of the nonsense among them.
    """
    sets = [(prompt, vector[None]) for prompt, vector in zip(wording.nonsense, prompts, strict=True)]
    found = []
    for name, asked in [*sets, ("all of them", prompts)]:
        vectors = np.concatenate([tested.vectors, asked])
        options = np.concatenate([land.options, np.arange(len(tested.vectors), len(vectors))])
        told = tested.answer(Question(land.rows, options, land.answer), vectors=vectors)
        won = told.predicted >= len(land.options)
        found.append(
            NonsenseScores(
                prompt=name,
                won=float(won.mean()),
                confidence=float(told.confidence[won].mean()) if won.any() else None,
                confident=float((won & (told.confidence >= 0.5)).mean()),
            )
        )
    return tuple(found)
