"""Metrics against scikit-learn and worked examples."""

import numpy as np
import pytest

from timesenmap.model import metrics


@pytest.fixture(params=[0, 1, 2])
def predictions(request) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and scores of 7 classes, of which class 5 is never true and class 6 neither true nor predicted."""
    generator = np.random.default_rng(request.param)
    truth = generator.choice(5, size=400, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    scores = generator.normal(size=(400, 7))
    scores[np.arange(400), truth] += 1.0
    scores[:, 6] -= 20
    return truth, scores, scores.argmax(axis=1)


def test_confusion_matrix_is_sklearns(predictions) -> None:
    from sklearn.metrics import confusion_matrix

    truth, _, predicted = predictions
    found = metrics.confusion_matrix(truth, predicted, 7)
    np.testing.assert_array_equal(found, confusion_matrix(truth, predicted, labels=range(7)))


def test_accuracies_are_sklearns(predictions) -> None:
    from sklearn import metrics as oracle

    truth, scores, predicted = predictions
    confusion = metrics.confusion_matrix(truth, predicted, 7)
    assert 5 in predicted
    assert 6 not in predicted
    assert metrics.overall_accuracy(confusion) == pytest.approx(oracle.accuracy_score(truth, predicted), abs=1e-12)
    assert metrics.macro_f1(confusion) == pytest.approx(oracle.f1_score(truth, predicted, average="macro"), abs=1e-12)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = oracle.balanced_accuracy_score(truth, predicted)
    assert metrics.mean_class_accuracy(confusion) == pytest.approx(balanced, abs=1e-12)
    for k in (1, 2, 5):
        expected = oracle.top_k_accuracy_score(truth, scores, k=k, labels=range(7))
        assert metrics.top_k_hits(scores, truth, k).mean() == pytest.approx(expected, abs=1e-12)


def test_class_measures_are_sklearns(predictions) -> None:
    from sklearn.metrics import precision_recall_fscore_support

    truth, _, predicted = predictions
    confusion = metrics.confusion_matrix(truth, predicted, 7)
    precision, recall, f1, _ = precision_recall_fscore_support(truth, predicted, labels=range(7), zero_division=np.nan)
    np.testing.assert_allclose(metrics.class_precisions(confusion), precision, atol=1e-12)
    np.testing.assert_allclose(metrics.class_accuracies(confusion), recall, atol=1e-12)
    # scikit-learn calls F1 0 where precision or recall has nothing to divide by, but the class is there or predicted
    np.testing.assert_allclose(metrics.class_f1(confusion), f1, atol=1e-12)


def test_nothing_to_measure_is_nan_not_zero() -> None:
    empty = np.zeros((3, 3), np.int64)
    assert np.isnan(metrics.overall_accuracy(empty))
    assert np.isnan(metrics.mean_class_accuracy(empty))
    assert np.isnan(metrics.macro_f1(empty))


def test_top_1_is_argmax_even_among_equals() -> None:
    scores = np.array([[0.2, 0.2, 0.1], [0.3, 0.3, 0.3], [0.0, 0.5, 0.5]])
    for truth in ([0, 0, 1], [1, 2, 2]):
        hits = metrics.top_k_hits(scores, np.array(truth), 1)
        np.testing.assert_array_equal(hits, scores.argmax(axis=1) == truth)
    assert metrics.top_k_hits(scores, np.array([2, 2, 0]), 3).all()


def test_calibration_of_a_worked_example() -> None:
    # Two bins of width 0.5. (0, 0.5]: 0.2 wrong, 0.5 right -> confidence 0.35, accuracy 0.5, gap 0.15, 2 rows.
    # (0.5, 1]: 0.6 right, 0.9 right, 1.0 wrong -> confidence 2.5/3, accuracy 2/3, gap 0.5/3, 3 rows.
    found = metrics.calibration(np.array([0.2, 0.5, 0.6, 0.9, 1.0]), np.array([False, True, True, True, False]), bins=2)
    np.testing.assert_array_equal(found.rows, [2, 3])
    np.testing.assert_allclose(found.confidence, [0.35, 2.5 / 3])
    np.testing.assert_allclose(found.accuracy, [0.5, 2 / 3])
    assert found.error == pytest.approx((2 * 0.15 + 3 * (0.5 / 3)) / 5)


def test_calibration_equals_a_plain_loop() -> None:
    generator = np.random.default_rng(3)
    probability = generator.uniform(size=500)
    probability[:3] = [0.0, 1.0, 1 / 3]
    correct = generator.uniform(size=500) < probability**2
    expected = 0.0
    for m in range(15):
        inside = [(m / 15 < p <= (m + 1) / 15) or (m == 0 and p == 0) for p in probability]
        if any(inside):
            expected += sum(inside) / 500 * abs(correct[inside].mean() - probability[inside].mean())
    found = metrics.calibration(probability, correct)
    assert found.error == pytest.approx(expected, abs=1e-12)
    assert found.rows.sum() == 500
    perfect = metrics.calibration(np.array([1.0, 1.0, 0.0]), np.array([True, True, False]))
    assert perfect.error == 0


def test_bootstrap_of_a_mean_has_the_width_of_the_theory() -> None:
    generator = np.random.default_rng(4)
    hits = (generator.uniform(size=900) < 0.7).astype(float)
    [[low, high]] = metrics.bootstrap_intervals(lambda w: (np.average(hits, weights=w),), np.arange(900), draws=2000)
    p = hits.mean()
    half = 1.96 * np.sqrt(p * (1 - p) / 900)
    assert low == pytest.approx(p - half, abs=0.1 * half)
    assert high == pytest.approx(p + half, abs=0.1 * half)


def test_bootstrap_of_places_is_wider_than_of_rows_and_exact_for_equal_places() -> None:
    # 25 places of 20 equal rows each are 25 observations, not 500.
    place = np.repeat(np.arange(25), 20)
    hits = (place % 5 < 3).astype(float)

    def width(groups: np.ndarray) -> float:
        [[low, high]] = metrics.bootstrap_intervals(lambda w: (np.average(hits, weights=w),), groups, draws=2000)
        return high - low

    assert width(place) / width(np.arange(500)) == pytest.approx(np.sqrt(20), rel=0.15)


def test_bootstrap_is_repeatable_and_leaves_out_what_cannot_be_measured() -> None:
    groups = np.arange(4)

    def only_without_the_first(weights: np.ndarray) -> tuple[float, float]:
        return (float("nan") if weights[0] else 1.0, float("nan"))

    once = metrics.bootstrap_intervals(only_without_the_first, groups, draws=50, seed=1)
    np.testing.assert_array_equal(once, metrics.bootstrap_intervals(only_without_the_first, groups, draws=50, seed=1))
    np.testing.assert_array_equal(once, [[1.0, 1.0], [np.nan, np.nan]])


def test_weighted_confusion_is_the_confusion_of_repeated_rows() -> None:
    generator = np.random.default_rng(5)
    truth, predicted = generator.integers(4, size=(2, 60))
    times = generator.integers(4, size=60)
    repeated = metrics.confusion_matrix(np.repeat(truth, times), np.repeat(predicted, times), 4)
    np.testing.assert_array_equal(metrics.weighted_confusion(truth, predicted, 4, times.astype(float)), repeated)


def test_risk_and_coverage_of_a_worked_example() -> None:
    """Ten rows by hand; 0.7 is kept at 0.7, and the row without a confidence never is."""
    probability = np.array([0.95, 0.9, 0.85, 0.7, 0.7, 0.6, 0.5, 0.45, 0.3, np.nan])
    correct = np.array([1, 1, 1, 1, 0, 1, 0, 1, 0, 0], bool)
    found = metrics.risk_coverage(probability, correct, (0.0, 0.3, 0.5, 0.7, 0.9, 0.96))
    np.testing.assert_allclose(found.thresholds, [0.0, 0.3, 0.5, 0.7, 0.9, 0.96])
    np.testing.assert_allclose(found.coverage, [0.9, 0.9, 0.7, 0.5, 0.2, 0.0])
    np.testing.assert_allclose(found.accuracy, [6 / 9, 6 / 9, 5 / 7, 4 / 5, 1.0, np.nan])


def test_calibrated_confidence_keeps_what_it_promises() -> None:
    """Where confidence is calibrated, what is kept is right as often as its mean confidence says."""
    generator = np.random.default_rng(3)
    probability = generator.uniform(0.2, 1, 200_000)
    correct = generator.random(200_000) < probability
    found = metrics.risk_coverage(probability, correct)
    np.testing.assert_allclose(found.coverage, (1 - np.array([0.3, 0.5, 0.7, 0.9])) / 0.8, atol=0.01)
    np.testing.assert_allclose(found.accuracy, (1 + np.array([0.3, 0.5, 0.7, 0.9])) / 2, atol=0.01)


def test_nothing_to_keep_is_nan_not_zero() -> None:
    found = metrics.risk_coverage(np.empty(0), np.empty(0, bool), (0.5,))
    assert np.isnan([*found.coverage, *found.accuracy]).all()
