"""The numbers of an encoder's model card on the test cells of its split: named from words, a forest beside it.

Only measured series count; nothing here is used to choose anything.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from timesenmap.model.caption_evaluation import (
    Answers,
    CaptionSamples,
    EncodedSamples,
    caption_vectors,
    crop_sources,
    land_covers,
    question_report,
    real_samples,
    sides_of,
)
from timesenmap.model.caption_scores import QuestionReport, Reliability, Scores, compare, reliability
from timesenmap.model.captions import CaptionTable, load_captions
from timesenmap.model.errors import ModelError
from timesenmap.model.evaluation import resampling_groups
from timesenmap.model.forest import TREES, forest_predictions, require_scikit_learn
from timesenmap.model.free_wording import (
    FreeWording,
    NonsenseScores,
    PromptScores,
    check_wording,
    load_free_wording,
    nonsense_scores,
    prompt_scores,
    unseen_wordings,
)
from timesenmap.model.metrics import calibration
from timesenmap.model.place_evaluation import embed_places
from timesenmap.model.shown import SHOWN, variants_of
from timesenmap.model.training_scores import Question, finest_present, question

if TYPE_CHECKING:
    from timesenmap.model.encoder import Encoder
    from timesenmap.model.training_config import TrainingConfig

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

LAND: Final = "land cover"
FINEST: Final = "finest captions"
CROPS: Final = "finest captions of the crop sources"
PRESENT: Final = "all captions present in the crop sources, broader ones as well"

QUESTIONS: Final = (PRESENT, CROPS, FINEST, LAND)
PARTS: Final = 1 + len(QUESTIONS) + 1 + SHOWN
"""Parts that a report is made of, for progress."""


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WordingScores(_Report):
    """A question whose options are all asked for in words that no training saw."""

    question: str
    rows: int
    scores: Scores
    calibration_error: float


class ShownScores(_Report):
    """A question where the encoder was shown a part of the year only."""

    shown: str
    question: str
    rows: int = Field(description="series with anything left")
    scores: Scores
    calibration_error: float


class HeldOutReport(_Report):
    """Everything measured on the test cells of a split."""

    encoder: str
    encoder_sha256: str
    temperature: float
    captions: int
    data: dict[str, str] = Field(description="SHA-256 of each series file")
    split_seed: int
    cell: float = Field(description="size of a cell in degrees")
    sides: dict[str, int] = Field(description="measured series that train, choose and test")
    sources: dict[str, int] = Field(description="series tested of each source")
    trees: int = Field(description="of the forest beside")
    questions: tuple[QuestionReport, ...]
    reliability: Reliability = Field(description="land cover and finest captions together")
    wordings: tuple[WordingScores, ...]
    prompts: tuple[PromptScores, ...]
    nonsense: tuple[NonsenseScores, ...]
    shown: tuple[ShownScores, ...]

    def question(self, name: str) -> QuestionReport:
        """Report of a question by name."""
        return next(report for report in self.questions if report.name == name)


def questions_of(samples: CaptionSamples, everything: CaptionSamples, table: CaptionTable) -> dict[str, Question]:
    """Questions of the card, asked of the samples; those with fewer than two classes to tell are left out.

    Parameters
    ----------
    samples
        To test on.
    everything
        All measured series, on whatever side: the options are what they are called.
    table
        Caption table.
    """
    of_crops = everything.take(np.isin(everything.sources, crop_sources(table)))
    rows = np.flatnonzero(np.isin(samples.sources, crop_sources(table)))
    asked = {
        PRESENT: question(samples.caption, rows=rows),
        CROPS: question(samples.caption, finest_present(table, of_crops.caption), rows=rows),
        FINEST: question(samples.caption, finest_present(table, everything.caption)),
        LAND: question(samples.landcover, land_covers(everything)),
    }
    return {name: q for name, q in asked.items() if len(np.unique(q.answer)) > 1}


def held_out_report(
    encoder: "Encoder",
    config: "TrainingConfig",
    *,
    captions: CaptionTable | None = None,
    wording: FreeWording | None = None,
    trees: int = TREES,
    threads: int = 1,
    advance: Callable[[str], None] = lambda _: None,
) -> HeldOutReport:
    """Test an encoder on the test cells of a run's split.

    Parameters
    ----------
    encoder
        What to test.
    config
        The run that trained it: its series and its split.
    captions, wording
        Caption table and prompts of users; default: the project's.
    trees, threads
        Of the forest beside.
    advance
        Called with the name of each part that is done; see :data:`PARTS`.

    Raises
    ------
    ModelError
        As :func:`~timesenmap.model.training.load_training_data`; nothing to test on the test side, or too little for
        a forest.
    """
    from timesenmap.model.towers import embed_texts  # noqa: PLC0415 - torch takes seconds
    from timesenmap.model.training_series import load_training_data  # noqa: PLC0415

    require_scikit_learn()
    table = load_captions() if captions is None else captions
    wording = load_free_wording() if wording is None else wording
    unseen = unseen_wordings(table)
    check_wording(wording, table)
    data = load_training_data(config.series, config.split, table)
    everything, sides = real_samples(data), sides_of(data)
    samples = everything.take(sides["test"])
    asked = questions_of(samples, everything, table)
    if LAND not in asked or FINEST not in asked:
        raise ModelError(
            f"{len(samples)} measured series are on the test side, with less than two land covers or captions to "
            "tell: give split.test a larger share, or add series"
        )
    tested = EncodedSamples.of(encoder, table, samples, caption_vectors(table, encoder))
    answers = {name: tested.answer(q) for name, q in asked.items()}
    advance("embeddings")
    questions = []
    for name, told in answers.items():
        forest = forest_answers(samples, told.question, trees=trees, threads=threads)
        questions.append(question_report(name, told, samples, table, forest=forest))
        advance("forest")
    broad = {name: asked[name] for name in (FINEST, LAND)}
    words = [*wording.prompts, *wording.nonsense]
    free = embed_texts(words, encoder).astype(np.float32)
    prompts, nonsense = free[: len(wording.prompts)], free[len(wording.prompts) :]
    wordings = _wordings(tested, broad, unseen)
    advance("words")
    names, counts = np.unique(samples.sources, return_counts=True)
    return HeldOutReport(
        encoder=encoder.name,
        encoder_sha256=encoder.sha256,
        temperature=tested.temperature,
        captions=len(table.names),
        data=data.hashes,
        split_seed=config.split.seed,
        cell=config.split.cell,
        sides={side: int(rows.sum()) for side, rows in sides.items()},
        sources=dict(zip(names.tolist(), counts.tolist(), strict=True)),
        trees=trees,
        questions=tuple(questions),
        reliability=reliability(
            np.concatenate([answers[name].confidence for name in broad]),
            np.concatenate([answers[name].predicted == asked[name].answer for name in broad]),
        ),
        wordings=wordings,
        prompts=prompt_scores(tested, broad, wording, prompts),
        nonsense=nonsense_scores(tested, asked[LAND], wording, nonsense),
        shown=_shown(tested, broad, advance),
    )


def forest_answers(samples: CaptionSamples, asked: Question, *, trees: int = TREES, threads: int = 1) -> Ints:
    """What a forest cross-validated on the rows of a question answers; int64 (n,) index into the options."""
    return forest_predictions(samples.reflectance[asked.rows], asked.answer, trees=trees, threads=threads)


def _wordings(
    tested: EncodedSamples, asked: Mapping[str, Question], unseen: Sequence[Sequence[str]]
) -> tuple[WordingScores, ...]:
    vectors = caption_vectors(tested.table, tested.encoder, unseen)
    found = []
    for name, q in asked.items():
        told = tested.answer(q, vectors=vectors)
        found.append(WordingScores(question=name, rows=len(q.rows), **_measured(told, tested.samples)))
    return tuple(found)


def _shown(
    tested: EncodedSamples, asked: Mapping[str, Question], advance: Callable[[str], None]
) -> tuple[ShownScores, ...]:
    samples = tested.samples
    found = []
    for shown in variants_of(samples.reflectance, samples.lat):
        embeddings = embed_places(tested.encoder, shown.reflectance)
        for name, q in asked.items():
            left = shown.rows[q.rows]
            if not left.any():
                continue
            told = tested.answer(Question(q.rows[left], q.options, q.answer[left]), embeddings=embeddings)
            measured = _measured(told, samples)
            found.append(ShownScores(shown=shown.name, question=name, rows=int(left.sum()), **measured))
        advance("shown")
    return tuple(found)


def _measured(told: Answers, samples: CaptionSamples) -> dict[str, Any]:
    """Scores and calibration error of answers."""
    q = told.question
    groups, _ = resampling_groups(samples.frame.iloc[q.rows])
    scores, _, _ = compare(q.answer, told.predicted, None, len(q.options), groups)
    return {
        "scores": scores,
        "calibration_error": calibration(told.confidence, told.predicted == q.answer).error,
    }
