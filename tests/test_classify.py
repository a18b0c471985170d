"""Classes and confidence against plain NumPy and SciPy."""

import numpy as np
import pytest
from scipy.special import softmax

from timesenmap.model.zero_shot import cosines
from timesenmap.pipeline.classify import classify


def _unit(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    x = rng.standard_normal((n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


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


def test_one_class_is_certain(rng: np.random.Generator) -> None:
    found, confidence = classify(_unit(rng, 10, 8), _unit(rng, 1, 8), (42,), temperature=0.01)
    assert set(found) == {42}
    assert set(confidence) == {100}


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


@pytest.mark.parametrize("n", [1, 3, 255, 4095, 4096, 4097, 9000])
def test_bits_of_a_row_do_not_depend_on_its_company(rng: np.random.Generator, n: int) -> None:
    pixels, classes = _unit(rng, 9000, 384), _unit(rng, 44, 384)
    whole = cosines(pixels, classes)
    order = rng.permutation(9000)[:n]
    assert np.array_equal(cosines(pixels[order], classes), whole[order])


def test_hub_correction_moves_pixels_away_from_the_class_that_attracts_all(rng: np.random.Generator) -> None:
    """By hand: (1 + cos/2) / (1 + mean/2 + 1e-6), the authors' score, decides."""
    pixels, classes = _unit(rng, 2000, 64), _unit(rng, 4, 64)
    means = np.array([0.4, 0.0, -0.1, 0.1])
    found, _ = classify(pixels, classes, (1, 2, 3, 4), temperature=0.05, hub_means=means)
    score = (1 + pixels.astype(np.float64) @ classes.T / 2) / (1 + means / 2 + 1e-6)
    assert (found == score.argmax(axis=1) + 1).mean() > 0.999
    plain, _ = classify(pixels, classes, (1, 2, 3, 4), temperature=0.05)
    assert (found == 1).sum() < (plain == 1).sum()
