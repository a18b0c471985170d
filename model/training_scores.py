"""How well embeddings name land, and how sure they may be of it: scores and temperature of a training run.

Everything here is zero-shot: the cosine of an embedding with the vectors of words, the largest wins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from timesenmap.model.captions import UNLABELLED, CaptionTable
from timesenmap.model.errors import ModelError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def mean_vectors(sentences: Sequence[Floats]) -> Floats:
    """Vector of each caption: mean of the unit vectors (m, d) of its sentences, of unit length again; (k, d)."""
    means = np.stack([vectors.mean(0) for vectors in sentences])
    return cast("Floats", means / np.linalg.norm(means, axis=1, keepdims=True))


@dataclass(frozen=True)
class Question:
    """A set of captions asked of some rows, one of which is each row's own.

    Attributes
    ----------
    rows
        int (n,): rows of the embeddings asked.
    options
        int (k,): caption numbers to choose from.
    answer
        int (n,): index into ``options`` of each row's own caption.
    """

    rows: Ints
    options: Ints
    answer: Ints


def question(truth: Ints, options: Ints | None = None, *, rows: Ints | None = None) -> Question:
    """Ask every row with a caption among ``options`` (default: all captions present in ``truth``)."""
    asked = np.arange(len(truth)) if rows is None else rows
    present = np.unique(truth[asked]) if options is None else np.asarray(options, np.int64)
    present = present[present != UNLABELLED]
    asked = asked[np.isin(truth[asked], present)]
    order = np.argsort(present)
    answer = order[np.searchsorted(present[order], truth[asked])] if len(present) else np.empty(0, np.int64)
    return Question(rows=asked, options=present, answer=answer.astype(np.int64))


def finest_present(table: CaptionTable, caption: Ints) -> Ints:
    """Captions among ``caption`` (n,) within which no other of them is: what one place has only one of.

    They exclude each other, related ones apart. A caption counts as finest although the table holds narrower
    ones, where those are nobody's.
    """
    present = np.unique(caption[caption != UNLABELLED])
    broader = {table.numbers[other] for number in present for other in table.captions[table.names[number]].within}
    return np.array([number for number in present if number not in broader], np.int64)


def cosines(embeddings: Floats, vectors: Floats, asked: Question) -> npt.NDArray[np.float64]:
    """Cosines (n, k) of a question's rows with its options; embeddings and vectors of unit length."""
    return embeddings[asked.rows].astype(np.float64) @ vectors[asked.options].astype(np.float64).T


def accuracy(embeddings: Floats, vectors: Floats, asked: Question) -> float:
    """Share of the rows named rightly; NaN without rows."""
    if not len(asked.rows):
        return float("nan")
    return float(np.mean(cosines(embeddings, vectors, asked).argmax(1) == asked.answer))


def class_f1(embeddings: Floats, vectors: Floats, asked: Question) -> dict[int, tuple[float, int]]:
    """F1 and number of rows of every option that is any row's own, by caption number."""
    named = cosines(embeddings, vectors, asked).argmax(1) if len(asked.rows) else asked.answer
    scores = {}
    for index, option in enumerate(asked.options):
        own, given = asked.answer == index, named == index
        if own.any():
            scores[int(option)] = (float(2 * (own & given).sum() / (own.sum() + given.sum())), int(own.sum()))
    return scores


def mean_class_accuracy(embeddings: Floats, vectors: Floats, asked: Question, *, least: int = 5) -> float:
    """Mean over the classes with at least ``least`` rows of the share of their rows named rightly; NaN if none."""
    if not len(asked.rows):
        return float("nan")
    right = cosines(embeddings, vectors, asked).argmax(1) == asked.answer
    counts = np.bincount(asked.answer, minlength=len(asked.options))
    shares = [right[asked.answer == index].mean() for index in np.flatnonzero(counts >= least)]
    return float(np.mean(shares)) if shares else float("nan")


def typical_questions(
    table: CaptionTable, caption: Ints, landcover: Ints, *, rng: np.random.Generator, random_sets: int = 30
) -> dict[str, list[Question]]:
    """Make prompt sets like those of users, by kind: what the temperature is calibrated over.

    ``land cover``: all land-cover captions. ``captions``: the finest captions present. ``choices``: 3 to 12
    random captions present of which no two may be true of one place, asked of the rows that are one of them.
    """
    present = np.unique(caption[caption != UNLABELLED])
    choices = []
    for _ in range(random_sets):
        size = int(rng.integers(3, 13))
        options: list[int] = []
        for candidate in rng.permutation(present):
            if len(options) < size and not table.compatible[candidate, options].any():
                options.append(int(candidate))
        choices.append(question(caption, np.array(options, np.int64)))
    land = np.unique(table.landcover[table.landcover != UNLABELLED])
    asked = {
        "land cover": [question(landcover, land)],
        "captions": [question(caption, finest_present(table, caption))],
        "choices": choices,
    }
    return {kind: [q for q in questions if len(q.rows)] for kind, questions in asked.items()}


def negative_log_likelihood(
    similarity: npt.NDArray[np.float64],
    answer: Ints,
    temperature: float,
    weights: npt.NDArray[np.float64] | None = None,
) -> float:
    """Mean of -log softmax(similarity / temperature) at the answers; similarity (n, k), weights (n,)."""
    logits = similarity / temperature
    logits = logits - logits.max(1, keepdims=True)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(answer)), answer]
    return float(np.average(losses, weights=weights))


def calibrated_temperature(
    embeddings: Floats,
    vectors: Floats,
    questions: Mapping[str, Sequence[Question]],
    *,
    weights: npt.NDArray[np.float64],
    bounds: tuple[float, float] = (0.005, 1.0),
) -> float:
    """Temperature with the least negative log likelihood, each kind of prompt set counting alike.

    Parameters
    ----------
    embeddings
        (rows, d) of held-out series.
    weights
        (rows,) what a row counts, so that the largest source does not decide alone.

    Notes
    -----
    The likelihood has one minimum in the temperature: golden-section search in its logarithm.
    """
    kinds = [
        [(cosines(embeddings, vectors, q), q.answer, weights[q.rows]) for q in asked]
        for asked in questions.values()
        if asked
    ]
    if not kinds:
        raise ModelError("no held-out series to calibrate the temperature on: give the split a larger validation share")

    def loss(log_temperature: float) -> float:
        t = float(np.exp(log_temperature))
        return float(np.mean([np.mean([negative_log_likelihood(s, a, t, w) for s, a, w in kind]) for kind in kinds]))

    low, high = np.log(bounds[0]), np.log(bounds[1])
    ratio = (5**0.5 - 1) / 2
    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def calibration_error(
    similarity: npt.NDArray[np.float64], answer: Ints, temperature: float, *, bins: int = 15
) -> float:
    """Expected calibration error of the winner's probability, ``bins`` equal intervals of confidence."""
    logits = similarity / temperature
    odds = np.exp(logits - logits.max(1, keepdims=True))
    confidence = odds.max(1) / odds.sum(1)
    right = similarity.argmax(1) == answer
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(right[place == b].mean() - confidence[place == b].mean()) * np.mean(place == b) for b in np.unique(place)
    ]
    return float(np.sum(gaps))
