"""How well an encoder answers a question of captions, beside a supervised forest on the same samples.

A question is a set of captions asked of some series (:class:`~timesenmap.model.training_scores.Question`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from timesenmap.model import metrics
from timesenmap.model.caption_scores import (
    FREQUENT,
    QuestionReport,
    SourceScores,
    class_scores,
    compare,
    kept_where_sure,
    reliability,
)
from timesenmap.model.captions import UNLABELLED, CaptionTable
from timesenmap.model.evaluation import resampling_groups
from timesenmap.model.place_evaluation import embed_places
from timesenmap.model.series import SIMULATED
from timesenmap.model.training_scores import Question, cosines, mean_vectors
from timesenmap.model.zero_shot import probabilities

if TYPE_CHECKING:
    from timesenmap.model.encoder import Encoder
    from timesenmap.model.training_series import TrainingData

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CaptionSamples:
    """Labelled series to ask about; no simulated ones.

    Attributes
    ----------
    reflectance
        float32 (n, 12, 10) near the surface, NaN = missing.
    caption, landcover
        int64 (n,) caption numbers, or UNLABELLED.
    frame
        n rows: dataset, lon, lat, and what else is known.
    """

    reflectance: Floats
    caption: Ints
    landcover: Ints
    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def sources(self) -> npt.NDArray[np.str_]:
        """Dataset of each row, str (n,)."""
        return self.frame["dataset"].to_numpy(str)

    @property
    def lat(self) -> npt.NDArray[np.float64]:
        """Latitude of each row in degrees, float64 (n,), NaN = unknown."""
        return self.frame["lat"].to_numpy(np.float64)

    def take(self, rows: npt.NDArray[np.bool_] | Ints) -> "CaptionSamples":
        """Some of the rows, by mask or number."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        frame = self.frame.iloc[index].reset_index(drop=True)
        return CaptionSamples(self.reflectance[index], self.caption[index], self.landcover[index], frame)


@dataclass(frozen=True)
class Answers:
    """Answers to a question.

    Attributes
    ----------
    question
        Rows asked, options and truth.
    predicted
        int64 (n,) index into the options.
    confidence
        float64 (n,) calibrated probability of the answer.
    """

    question: Question
    predicted: Ints
    confidence: npt.NDArray[np.float64]


def sides_of(data: "TrainingData") -> dict[str, npt.NDArray[np.bool_]]:
    """Which rows of :func:`real_samples` train, validate and test; bool (n,) each."""
    rows = (data.table.frame["dataset"] != SIMULATED).to_numpy()
    return {side: getattr(data.split, side)[rows] for side in ("train", "validation", "test")}


def real_samples(data: "TrainingData") -> CaptionSamples:
    """All rows of loaded training data that were measured, whatever side they are on."""
    rows = (data.table.frame["dataset"] != SIMULATED).to_numpy()
    samples = CaptionSamples(data.reflectance, data.labelled.caption, data.labelled.landcover, data.table.frame)
    return samples.take(rows)


def caption_vectors(
    table: CaptionTable, encoder: "Encoder | str", wordings: Sequence[Sequence[str]] | None = None
) -> Floats:
    """Vector of each caption from its wordings (default: those of training); float32 (captions, d).

    ``encoder`` is an encoder or the specification of its text tower.
    """
    from timesenmap.model.towers import embed_texts  # noqa: PLC0415 - torch takes seconds

    words = [table.wordings(name) for name in table.names] if wordings is None else wordings
    vectors = embed_texts([wording for caption in words for wording in caption], encoder).astype(np.float32)
    return mean_vectors(np.split(vectors, np.cumsum([len(caption) for caption in words])[:-1]))


def land_covers(known: CaptionSamples) -> Ints:
    """Numbers of the land covers that some of the samples have: the options of the question of land cover."""
    return np.unique(known.landcover[known.landcover != UNLABELLED])


def crop_sources(table: CaptionTable) -> tuple[str, ...]:
    """Sources whose labels tell at least two crops apart."""
    found = []
    for name, source in table.sources.items():
        named = {entry.caption for entry in source.labels.values() if entry.caption is not None}
        if sum(table.captions[caption].kind != "land" for caption in named) >= 2:
            found.append(name)
    return tuple(found)


def answer(embeddings: Floats, vectors: Floats, asked: Question, *, temperature: float) -> Answers:
    """Let words answer: the option of the largest cosine, with its probability.

    Parameters
    ----------
    embeddings, vectors
        (rows, d) and (captions, d), unit length.
    temperature
        The encoder's, calibrated.
    """
    similarity = cosines(embeddings, vectors, asked).astype(np.float32)
    odds = probabilities(similarity, temperature=temperature)
    return Answers(asked, similarity.argmax(1).astype(np.int64), odds.max(1))


@dataclass(frozen=True)
class EncodedSamples:
    """Samples with everything that their questions need.

    Attributes
    ----------
    encoder, table
        What is tested, and in whose words.
    samples, embeddings
        Measured series and their embeddings (n, d).
    vectors
        (captions, d) of the words of training.
    """

    encoder: "Encoder"
    table: CaptionTable
    samples: CaptionSamples
    embeddings: Floats
    vectors: Floats

    @classmethod
    def of(cls, encoder: "Encoder", table: CaptionTable, samples: CaptionSamples, vectors: Floats) -> "EncodedSamples":
        """Embed samples, for questions in words whose ``vectors`` (captions, d) are known."""
        return cls(encoder, table, samples, embed_places(encoder, samples.reflectance), vectors)

    @property
    def temperature(self) -> float:
        """The encoder's, calibrated in training."""
        return self.encoder.config.temperature

    def answer(self, asked: Question, *, embeddings: Floats | None = None, vectors: Floats | None = None) -> Answers:
        """Answers to a question, from other embeddings or words where they are given."""
        seen = self.embeddings if embeddings is None else embeddings
        return answer(seen, self.vectors if vectors is None else vectors, asked, temperature=self.temperature)


def question_report(
    name: str,
    answers: Answers,
    samples: CaptionSamples,
    table: CaptionTable,
    *,
    forest: Ints | None = None,
    by_source: bool = True,
) -> QuestionReport:
    """Measure the answers to a question.

    Parameters
    ----------
    name
        Of the question, for people.
    answers, samples
        Answers about rows of the samples.
    table
        Whose captions were asked.
    forest
        int64 (n,) index into the options that a forest told of the same rows.
    by_source
        Measure the rows of each source as well.
    """
    asked = answers.question
    frame = samples.frame.iloc[asked.rows]
    groups, resampled = resampling_groups(frame)
    own, reference, difference = compare(asked.answer, answers.predicted, forest, len(asked.options), groups)
    counts = np.bincount(asked.answer, minlength=len(asked.options))
    sources = np.unique(samples.sources[asked.rows]) if by_source else ()
    return QuestionReport(
        name=name,
        rows=len(asked.rows),
        options=len(asked.options),
        classes_present=int((counts > 0).sum()),
        classes_frequent=int((counts >= FREQUENT).sum()),
        resampled=resampled,
        scores=own,
        forest=reference,
        difference=difference,
        reliability=reliability(answers.confidence, answers.predicted == asked.answer),
        kept=kept_where_sure(answers.confidence, answers.predicted == asked.answer),
        classes=class_scores(
            [table.names[option] for option in asked.options], asked.answer, answers.predicted, forest
        ),
        sources=tuple(_source_scores(source, answers, samples, forest) for source in sources),
    )


def _source_scores(source: str, answers: Answers, samples: CaptionSamples, forest: Ints | None) -> SourceScores:
    asked = answers.question
    rows = np.flatnonzero(samples.sources[asked.rows] == source)
    truth, predicted = asked.answer[rows], answers.predicted[rows]
    groups, _ = resampling_groups(samples.frame.iloc[asked.rows[rows]])
    told = None if forest is None else forest[rows]
    own, reference, _ = compare(truth, predicted, told, len(asked.options), groups)
    return SourceScores(
        name=str(source),
        rows=len(rows),
        classes=len(np.unique(truth)),
        scores=own,
        forest=reference,
        calibration_error=metrics.calibration(answers.confidence[rows], predicted == truth).error,
    )
