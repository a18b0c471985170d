"""Scores of a training run, against scikit-learn and by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, recall_score

from timesenmap.model.captions import load_captions
from timesenmap.model.training_scores import (
    accuracy,
    calibrated_temperature,
    calibration_error,
    class_f1,
    cosines,
    mean_class_accuracy,
    mean_vectors,
    negative_log_likelihood,
    question,
    typical_questions,
)


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    truth = rng.choice([1, 2, 3, 5, -1], 3000, p=[0.5, 0.2, 0.1, 0.1, 0.1])
    embedded = vectors[truth] + rng.normal(0, 0.35, (3000, 16)).astype(np.float32)
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    return embedded, vectors, truth


def test_scores_are_those_of_scikit_learn(scored):
    embedded, vectors, truth = scored
    options = np.array([5, 0, 1, 2, 3])  # one of them is no row's own
    asked = question(truth, options)
    rows = truth >= 0
    named = options[(embedded[rows] @ vectors[options].T).argmax(1)]
    assert accuracy(embedded, vectors, asked) == pytest.approx(accuracy_score(truth[rows], named))
    f1 = class_f1(embedded, vectors, asked)
    labels = [1, 2, 3, 5]
    expected = f1_score(truth[rows], named, labels=labels, average=None)
    assert [f1[label][0] for label in labels] == pytest.approx(list(expected))
    assert [f1[label][1] for label in labels] == [int((truth == label).sum()) for label in labels]
    assert mean_class_accuracy(embedded, vectors, asked) == pytest.approx(
        recall_score(truth[rows], named, labels=labels, average="macro")
    )


def test_a_question_without_rows_has_no_accuracy(scored):
    embedded, vectors, truth = scored
    assert math.isnan(accuracy(embedded, vectors, question(truth, np.array([4]))))
    only = question(truth, rows=np.array([0, 1, 2]))
    assert set(only.options) == set(truth[:3]) - {-1}


def test_likelihood_is_that_of_scikit_learn(scored):
    embedded, vectors, truth = scored
    asked = question(truth)
    similarity = cosines(embedded, vectors, asked)
    odds = np.exp(similarity / 0.2)
    weights = np.random.default_rng(1).random(len(asked.rows))
    expected = log_loss(asked.answer, odds / odds.sum(1, keepdims=True), sample_weight=weights)
    assert negative_log_likelihood(similarity, asked.answer, 0.2, weights) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("truth_temperature", [0.03, 0.2])
def test_the_temperature_that_made_the_answers_is_found(truth_temperature):
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(5, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    embedded = rng.normal(size=(20_000, 8)).astype(np.float32)
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    logits = embedded @ vectors.T / truth_temperature
    truth = (logits + rng.gumbel(size=logits.shape)).argmax(1)  # a draw from the softmax
    asked = question(truth, np.arange(5))
    found = calibrated_temperature(embedded, vectors, {"all": [asked]}, weights=np.ones(len(truth)))
    assert found == pytest.approx(truth_temperature, rel=0.05)
    similarity = cosines(embedded, vectors, asked)
    assert calibration_error(similarity, asked.answer, found) < 0.02
    assert calibration_error(similarity, asked.answer, found / 4) > 0.05


def test_calibration_error_by_hand():
    # Two answers at 0.9 of which one is right, two at 0.6 of which both are: 0.5 * 0.4 + 0.5 * 0.4.
    similarity = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]]))
    assert calibration_error(similarity, np.array([0, 1, 0, 0]), 1.0) == pytest.approx(0.4)


def test_prompt_sets_for_calibration_hold_nothing_that_is_true_together():
    table = load_captions()
    rng = np.random.default_rng(0)
    names = np.array(["maize", "winter wheat", "forest", "water", "cotton", "wheat", "cereals", "rock", "vineyard"])
    caption = rng.choice([table.numbers[name] for name in names], 500)
    questions = typical_questions(table, caption, table.landcover[caption], rng=rng)
    assert len(questions["choices"]) >= 25
    for asked in questions["choices"]:
        together = table.compatible[np.ix_(asked.options, asked.options)]
        assert together.sum() == len(asked.options), "each is true with itself only"
        np.testing.assert_array_equal(asked.options[asked.answer], caption[asked.rows])
    assert len(questions["land cover"][0].options) == 12
    finest = {table.names[number] for number in questions["captions"][0].options}
    assert finest == {"maize", "winter wheat", "forest", "water", "cotton", "rock", "vineyard"}


def test_mean_vectors_are_unit_means():
    sentences = [np.array([[1, 0], [0, 1]], np.float32), np.array([[0, 1]], np.float32)]
    np.testing.assert_allclose(mean_vectors(sentences), [[0.5**0.5, 0.5**0.5], [0, 1]], rtol=1e-6)
