"""Classes and confidence against plain NumPy and SciPy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from timesenmap.model.zero_shot import cosines
from timesenmap.pipeline.answer_kinds import MARGINS, PROBABILITIES
from timesenmap.pipeline.classify import choose
from timesenmap.pipeline.legend import UNKNOWN
from timesenmap.pipeline.question import Question, answers


def _unit(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    x = rng.standard_normal((n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def classify(
    pixels: np.ndarray, classes: np.ndarray, codes: Sequence[int], *, unknown_below: float = 0.0, **scale: Any
) -> tuple[np.ndarray, np.ndarray]:
    found, confidence = choose(pixels, classes, **scale).labels(codes, unknown_below=unknown_below)
    return found, confidence


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_against_scipy(rng: np.random.Generator) -> None:
    pixels, classes = _unit(rng, 5000, 384), _unit(rng, 7, 384)
    codes = (3, 1, 9, 250, 17, 5, 8)
    found, confidence = classify(pixels, classes, codes, temperature=0.05)
    probability = softmax(pixels.astype(np.float64) @ classes.T.astype(np.float64) / 0.05, axis=1)
    top_two = np.sort(probability, axis=1)[:, -2:]
    clear_winner = top_two[:, 1] - top_two[:, 0] > 1e-4
    assert np.array_equal(found[clear_winner], np.array(codes)[probability.argmax(axis=1)][clear_winner])
    assert np.abs(confidence - 100 * probability.max(axis=1)).max() <= 0.51


def plainly(
    scores: np.ndarray, codes: Sequence[int], unseen: np.ndarray, *, temperature: float, unknown_below: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Class, confidence, margin and probabilities in NumPy's own words, a pixel a row and a division for each class."""
    logits = scores.astype(np.float64) / temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability = weights / weights.sum(axis=1, keepdims=True)
    ranked = np.sort(probability, axis=1)
    margin = ranked[:, -1] - ranked[:, -2] if len(codes) > 1 else ranked[:, -1]
    told = np.where(ranked[:, -1] < unknown_below, 255, np.asarray(codes)[probability.argmax(axis=1)])
    told[unseen] = 0
    percent = [np.rint(100 * values) for values in (ranked[:, -1], margin, probability.T)]
    for values in percent:
        values[..., unseen] = 255
    return told, *percent


@pytest.mark.parametrize("k", [1, 2, 7, 8, 9, 16, 44, 128, 129, 254])
@pytest.mark.parametrize(("temperature", "hub"), [(0.003, False), (0.05, True), (0.4, False)])
def test_every_byte_is_that_of_plain_numpy(rng: np.random.Generator, k: int, temperature: float, hub: bool) -> None:
    """With classes and pixels that tie, pixels unseen or orthogonal to a class, and a threshold just at a pixel."""
    pixels, classes = _unit(rng, 6001, 32), _unit(rng, k, 32)
    classes[k // 2 :: 5] = classes[k // 3]
    pixels[::50] = classes[rng.integers(0, k, len(pixels[::50]))]
    pixels[1::97] = 0
    pixels[2::97] = _axes(31, d=32) - _axes(30, d=32)
    classes[:, 30] = classes[:, 31]  # so that every class has a cosine of 0 with these, though they were seen
    means = rng.uniform(-0.2, 0.4, k) if hub else None
    scores = cosines(pixels, classes)
    if means is not None:
        scale = 1 + means / 2 + 1e-6
        scores = (scale.mean() / scale * (2 + scores.astype(np.float64)) - 2).astype(np.float32)
    codes = rng.permutation(np.arange(1, 255))[:k].tolist()
    choice = choose(pixels, classes, temperature=temperature, hub_means=means)
    unseen = np.zeros(6001, bool)
    unseen[1::97] = True
    logits = scores.astype(np.float64) / temperature
    best = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    for below in (0.0, float(np.sort(best)[3000]), float(np.nextafter(np.sort(best)[3000], 2))):
        expected = plainly(scores, codes, unseen, temperature=temperature, unknown_below=below)
        found = (*choice.labels(codes, unknown_below=below), choice.margins()[0], choice.probabilities())
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.dtype == np.uint8
            np.testing.assert_array_equal(ours, theirs)
    assert not (found[0] == 0)[2::97].any()


def test_one_class_is_certain(rng: np.random.Generator) -> None:
    found, confidence = classify(_unit(rng, 10, 8), _unit(rng, 1, 8), (42,), temperature=0.01)
    assert set(found) == {42}
    assert set(confidence) == {100}


def test_an_only_class_leads_by_all_there_is(rng: np.random.Generator) -> None:
    pixels = _unit(rng, 10, 8)
    pixels[3] = 0
    margin = choose(pixels, _unit(rng, 1, 8), temperature=0.01).margins()
    assert margin.tolist() == [[100] * 3 + [255] + [100] * 6]


def test_margin_is_the_rounded_difference_of_the_best_two(rng: np.random.Generator) -> None:
    pixels, classes = _unit(rng, 5000, 64), _unit(rng, 6, 64)
    pixels[11] = 0
    ((*margin,),) = choose(pixels, classes, temperature=0.1).margins()
    ranked = np.sort(softmax(pixels.astype(np.float64) @ classes.T.astype(np.float64) / 0.1, axis=1), axis=1)
    expected = 100 * (ranked[:, -1] - ranked[:, -2])
    seen = np.arange(5000) != 11
    off = np.abs(np.array(margin, float) - expected)[seen]
    assert off.max() <= 0.5 + 1e-4  # the cosines are float32
    assert margin[11] == 255
    rounded_first = np.rint(100 * ranked[:, -1]) - np.rint(100 * ranked[:, -2])
    assert (rounded_first[seen] != np.rint(expected[seen])).any()  # so the difference is what was rounded


def test_a_tie_has_no_margin_and_unknown_pixels_keep_theirs() -> None:
    tie = (_axes(0) + _axes(1)) / np.float32(np.sqrt(2))
    choice = choose(np.concatenate([tie, _axes(0)]), _axes(0, 1), temperature=THREE_TO_ONE)
    assert choice.margins().tolist() == [[0, 50]]
    assert choice.labels((7, 9), unknown_below=0.9).tolist() == [[255, 255], [50, 75]]


def test_unseen_pixels_are_no_data(rng: np.random.Generator) -> None:
    pixels = _unit(rng, 4, 16)
    pixels[[1, 3]] = 0
    found, confidence = classify(pixels, _unit(rng, 3, 16), (1, 2, 3), temperature=0.1)
    assert list(found[[1, 3]]) == [0, 0]
    assert list(confidence[[1, 3]]) == [255, 255]
    assert (found[[0, 2]] > 0).all()


def test_sharp_temperature_does_not_overflow(rng: np.random.Generator) -> None:
    _, confidence = classify(_unit(rng, 100, 16), _unit(rng, 3, 16), (1, 2, 3), temperature=1e-5)
    assert set(confidence) == {100}


# Cosines of 1 and 0 at this temperature are probabilities of 0.75 and 0.25.
THREE_TO_ONE = 1 / np.log(3)


def _axes(*rows: int, d: int = 4) -> np.ndarray:
    return np.eye(d, dtype=np.float32)[list(rows)]


@pytest.mark.parametrize(
    ("unknown_below", "expected"), [(0.0, 7), (0.7499, 7), (0.7501, UNKNOWN.code), (1.0, UNKNOWN.code)]
)
def test_unknown_is_below_the_threshold(unknown_below: float, expected: int) -> None:
    found, confidence = classify(_axes(0), _axes(0, 1), (7, 9), temperature=THREE_TO_ONE, unknown_below=unknown_below)
    assert list(found) == [expected]
    assert list(confidence) == [75]


def test_exactly_at_the_threshold_is_known_and_a_bit_below_is_not() -> None:
    """A tie of two classes has a probability of exactly 1/2; its winner is the class that comes first."""
    tie = (_axes(0) + _axes(1)) / np.float32(np.sqrt(2))
    for below, expected in ((0.5, 9), (np.nextafter(0.5, 1), UNKNOWN.code)):
        found, confidence = classify(tie, _axes(0, 1), (9, 7), temperature=0.05, unknown_below=float(below))
        assert (list(found), list(confidence)) == ([expected], [50])


def test_the_probability_is_compared_before_it_is_rounded(rng: np.random.Generator) -> None:
    pixels, classes = _unit(rng, 20_000, 64), _unit(rng, 5, 64)
    probability = softmax(pixels.astype(np.float64) @ classes.T.astype(np.float64) / 0.2, axis=1).max(axis=1)
    below = 0.4
    found, confidence = classify(pixels, classes, (1, 2, 3, 4, 5), temperature=0.2, unknown_below=below)
    unknown, far = found == UNKNOWN.code, np.abs(probability - below) > 1e-6
    assert np.array_equal(unknown[far], (probability < below)[far])
    assert unknown[confidence == 39].all()
    assert 0 < unknown[confidence == 40].mean() < 1  # 39.5 to 40.5 %
    assert not unknown[confidence == 41].any()
    known = found != UNKNOWN.code
    plain, same = classify(pixels, classes, (1, 2, 3, 4, 5), temperature=0.2)
    assert np.array_equal(found[known], plain[known])
    assert np.array_equal(confidence, same)


def test_unseen_pixels_are_no_data_not_unknown(rng: np.random.Generator) -> None:
    pixels = _unit(rng, 4, 16)
    pixels[[1, 3]] = 0
    found, confidence = classify(pixels, _unit(rng, 3, 16), (1, 2, 3), temperature=0.1, unknown_below=1.0)
    assert list(found) == [255, 0, 255, 0]
    assert list(confidence[[1, 3]]) == [255, 255]
    assert (confidence[[0, 2]] <= 100).all()


def test_the_only_class_is_never_unknown(rng: np.random.Generator) -> None:
    found, _ = classify(_unit(rng, 10, 8), _unit(rng, 1, 8), (42,), temperature=0.01, unknown_below=1.0)
    assert set(found) == {42}


def test_what_is_unknown_does_not_depend_on_company(rng: np.random.Generator) -> None:
    """The threshold is the very probability of one of the pixels: a last bit would tell."""
    pixels, classes = _unit(rng, 9000, 384), _unit(rng, 7, 384)
    logits = cosines(pixels, classes).astype(np.float64) / 0.1
    probability = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    below = float(np.sort(probability)[4500])
    whole, _ = classify(pixels, classes, range(1, 8), temperature=0.1, unknown_below=below)
    assert (whole == UNKNOWN.code).sum() == 4500
    for n in (1, 255, 4097):
        some = rng.permutation(9000)[:n]
        part, _ = classify(pixels[some], classes, range(1, 8), temperature=0.1, unknown_below=below)
        assert np.array_equal(part, whole[some])


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_embeddings_that_are_not_numbers_are_no_class(rng: np.random.Generator, broken: float) -> None:
    pixels = _unit(rng, 5, 16)
    pixels[2, 3] = broken
    with pytest.raises(FloatingPointError, match="1 of 5 embeddings are not numbers"):
        classify(pixels, _unit(rng, 3, 16), (1, 2, 3), temperature=0.1, unknown_below=0.5)


@pytest.mark.parametrize("n", [1, 3, 255, 4095, 4096, 4097, 9000])
def test_bits_of_a_row_do_not_depend_on_its_company(rng: np.random.Generator, n: int) -> None:
    pixels, classes = _unit(rng, 9000, 384), _unit(rng, 44, 384)
    whole = cosines(pixels, classes)
    order = rng.permutation(9000)[:n]
    assert np.array_equal(cosines(pixels[order], classes), whole[order])


@pytest.mark.parametrize("means", [None, np.array([0.4, 0.0, -0.1, 0.1])])
def test_probabilities_are_scipys_and_the_best_is_the_confidence(
    rng: np.random.Generator, means: np.ndarray | None
) -> None:
    pixels, classes = _unit(rng, 5000, 64), _unit(rng, 4, 64)
    pixels[7] = 0
    found = choose(pixels, classes, temperature=0.1, hub_means=means).probabilities()
    assert (found.shape, found.dtype) == ((4, 5000), np.uint8)
    score = pixels.astype(np.float64) @ classes.T.astype(np.float64)
    if means is not None:  # the authors' score, brought back to the scale of a cosine by the mean denominator
        scale = 1 + means / 2 + 1e-6
        score = 2 * ((1 + score / 2) / scale * scale.mean() - 1)
    expected = 100 * softmax(score / 0.1, axis=1).T
    assert (found[:, 7] == 255).all()
    seen = np.arange(5000) != 7
    assert np.abs(found[:, seen] - expected[:, seen]).max() <= 0.51
    labels, confidence = classify(pixels, classes, (0, 1, 2, 3), temperature=0.1, hub_means=means)
    assert np.array_equal(found[labels, np.arange(5000)], confidence)


def test_hub_correction_moves_pixels_away_from_the_class_that_attracts_all(rng: np.random.Generator) -> None:
    """By hand: (1 + cos/2) / (1 + mean/2 + 1e-6), the authors' score, decides."""
    pixels, classes = _unit(rng, 2000, 64), _unit(rng, 4, 64)
    means = np.array([0.4, 0.0, -0.1, 0.1])
    found, _ = classify(pixels, classes, (1, 2, 3, 4), temperature=0.05, hub_means=means)
    score = (1 + pixels.astype(np.float64) @ classes.T / 2) / (1 + means / 2 + 1e-6)
    assert (found == score.argmax(axis=1) + 1).mean() > 0.999
    plain, _ = classify(pixels, classes, (1, 2, 3, 4), temperature=0.05)
    assert (found == 1).sum() < (plain == 1).sum()


@pytest.mark.parametrize("n", [1, 4095, 9001])
def test_all_questions_in_one_pass_are_answered_as_each_alone(rng: np.random.Generator, n: int) -> None:
    pixels = _unit(rng, n, 64)
    pixels[::7] = 0
    hub = np.array([0.1, 0.0, 0.3])
    a = Question("a", _unit(rng, 5, 64), (9, 8, 7, 6, 5), 0.1, unknown_below=0.4)
    b = Question("b", _unit(rng, 3, 64), (1, 2, 3), 0.2, hub_means=hub)
    every, lead = a.answered_with(PROBABILITIES), b.answered_with(MARGINS)
    found = answers(pixels, [every, b, a, lead])
    assert found.shape == (5 + 2 + 2 + 1, n)
    expected = [
        choose(pixels, a.class_embeddings, temperature=0.1).probabilities(),
        classify(pixels, b.class_embeddings, b.codes, temperature=0.2, hub_means=hub),
        classify(pixels, a.class_embeddings, a.codes, temperature=0.1, unknown_below=0.4),
        choose(pixels, b.class_embeddings, temperature=0.2, hub_means=hub).margins(),
    ]
    np.testing.assert_array_equal(found, np.concatenate(expected))
    assert (found[:5, ::7] == 255).all()
    assert (found[5, ::7] == 0).all()
