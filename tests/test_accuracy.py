"""The estimators against the worked examples of the papers they come from.

Where a printed number contradicts the equation beside it, the test says so and holds the equation's.
"""

import numpy as np
import pytest

from timesenmap.model import metrics
from timesenmap.pipeline.accuracy import census, normal_quantile, stratified_estimates
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.sampling import allocate, draw, sample_size

# Olofsson et al. 2014, Table 8: deforestation, forest gain, stable forest, stable non-forest; rows map.
OLOFSSON = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
MAPPED_PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
LANDSAT_HECTARES = 0.09
# Stehman 2014, Table 2: (stratum, map class, reference class) of 40 pixels.
STEHMAN = [
    *["AAA"] * 5, "AAC", "AAB", "ABA", "ABB", "ABC",
    "BAA", *["BBB"] * 5, "BBA", "BBA", "BBB", "BBB",
    "CBC", "CBC", *["CCC"] * 3, "CCD", "CCD", "CCB", "CBB", "CBA",
    *["DDD"] * 7, "DDC", "DDC", "DDB",
]  # fmt: skip
STEHMAN_SIZES = np.array([40_000, 30_000, 20_000, 10_000])


def counted(triples, k=4):
    counts = np.zeros((k, k, k), int)
    for stratum, mapped, found in triples:
        counts["ABCD".index(stratum), "ABCD".index(mapped), "ABCD".index(found)] += 1
    return counts


def as_strata(matrix):
    """Counts (h, k, k) of a sample whose strata are the map classes."""
    k = len(matrix)
    counts = np.zeros((k, k, k), int)
    counts[np.arange(k), np.arange(k)] = matrix
    return counts


@pytest.fixture(scope="module")
def olofsson():
    return stratified_estimates(as_strata(OLOFSSON), MAPPED_PIXELS, finite_population=False)


@pytest.fixture(scope="module")
def stehman():
    return stratified_estimates(counted(STEHMAN), STEHMAN_SIZES)


def half(estimate):
    """Half width of a 95 % interval as the paper has it."""
    return 1.96 * estimate.standard_error


def test_olofsson_table_9_error_matrix(olofsson):
    printed = [
        [0.0176, 0, 0.0013, 0.0011],
        [0, 0.0110, 0.0016, 0.0024],
        [0.0019, 0, 0.2967, 0.0213],
        [0.0040, 0.0020, 0.0179, 0.6212],
    ]
    np.testing.assert_array_equal(np.round(olofsson.matrix, 4), printed)


def test_olofsson_accuracies_to_the_printed_digits(olofsson):
    """Section 5.2.1, page 54."""
    assert f"{olofsson.overall.value:.2f} {half(olofsson.overall):.2f}" == "0.95 0.02"
    assert [f"{v:.2f}" for v in olofsson.users.value] == ["0.88", "0.73", "0.93", "0.96"]
    assert [f"{v:.2f}" for v in half(olofsson.users)] == ["0.07", "0.10", "0.04", "0.02"]
    assert [f"{v:.2f}" for v in olofsson.producers.value] == ["0.75", "0.85", "0.93", "0.96"]
    # Printed: 0.21, 0.23, 0.03, 0.01. The second and the last are not what equation 7 gives (0.254 and 0.018).
    assert [f"{v:.2f}" for v in half(olofsson.producers)] == ["0.21", "0.25", "0.03", "0.02"]


def test_olofsson_areas_to_the_printed_hectare(olofsson):
    """Section 5.2.2, page 54."""
    total = MAPPED_PIXELS.sum()
    hectares = olofsson.area.value * total * LANDSAT_HECTARES
    assert np.rint(hectares).tolist() == [21_158, 11_686, 285_770, 581_386]
    assert np.rint(half(olofsson.area) * total * LANDSAT_HECTARES).tolist() == [6_158, 3_756, 15_510, 16_282]
    # Deforestation in pixels: 235,086 +- 68,418. The standard error is printed as 34,097, two digits changed places: it
    # is 68,418 / 1.96 = 34,907.
    assert round(float(olofsson.area.value[0] * total)) == 235_086
    assert round(float(half(olofsson.area)[0] * total)) == 68_418
    assert round(float(olofsson.area.standard_error[0] * total)) == 34_907


def test_olofsson_equations_5_to_7_written_out(olofsson):
    """The variances as the paper writes them, term by term."""
    n, sizes = OLOFSSON.sum(axis=1), MAPPED_PIXELS.astype(float)
    share = sizes / sizes.sum()
    p = OLOFSSON / n[:, None]
    users = np.diag(p)
    overall = np.sqrt(sum(share**2 * users * (1 - users) / (n - 1)))
    assert olofsson.overall.standard_error == pytest.approx(overall)
    np.testing.assert_allclose(olofsson.users.standard_error, np.sqrt(users * (1 - users) / (n - 1)))
    for j in range(4):
        found = sum(sizes * p[:, j])
        producers = sizes[j] * users[j] / found
        first = sizes[j] ** 2 * (1 - producers) ** 2 * users[j] * (1 - users[j]) / (n[j] - 1)
        others = [sizes[i] ** 2 * p[i, j] * (1 - p[i, j]) / (n[i] - 1) for i in range(4) if i != j]
        variance = (first + producers**2 * sum(others)) / found**2
        assert olofsson.producers.value[j] == pytest.approx(producers)
        assert olofsson.producers.standard_error[j] == pytest.approx(np.sqrt(variance))


def test_stehman_to_the_printed_digits(stehman):
    """Pages 4932-4936: what the paper works out."""
    assert [f"{v:.2f}" for v in stehman.area.value[[0, 2]]] == ["0.35", "0.20"]
    assert [f"{v:.3f}" for v in stehman.area.standard_error[[0, 2]]] == ["0.082", "0.064"]
    assert f"{stehman.overall.value:.2f} {stehman.overall.standard_error:.3f}" == "0.63 0.085"
    assert f"{stehman.users.value[1]:.3f} {stehman.users.standard_error[1]:.3f}" == "0.574 0.125"
    assert f"{stehman.producers.value[1]:.3f}" == "0.794"
    assert f"{stehman.matrix[1, 2]:.2f}" == "0.08"


def test_stehman_error_of_the_producers_accuracy_of_class_b(stehman):
    """Printed: 0.114. That leaves the variance of x in stratum D (0.1 in the paper's Table 3) out of equation 28."""
    counts, sizes = counted(STEHMAN), STEHMAN_SIZES.astype(float)
    y, x = counts[:, 1, 1] / 10, counts[:, :, 1].sum(axis=1) / 10
    ratio = (sizes @ y) / (sizes @ x)
    s_y, s_x, s_xy = (10 / 9 * (a - b) for a, b in ((y, y**2), (x, x**2), (y, y * x)))
    assert s_x[3] == pytest.approx(0.1)

    def error(s_x):
        terms = sizes**2 * (1 - 10 / sizes) * (s_y + ratio**2 * s_x - 2 * ratio * s_xy) / 10
        return np.sqrt(terms.sum()) / (sizes @ x)

    assert f"{error(s_x * [1, 1, 1, 0]):.3f}" == "0.114"
    assert stehman.producers.standard_error[1] == pytest.approx(error(s_x))


def test_errors_of_accuracies_and_f1_agree_with_repeated_sampling():
    """10,000 samples of a known population: the spread of the estimates is what a sample says it is."""
    population = np.array([[[50, 8, 2], [5, 20, 5], [0, 1, 4]], [[10, 2, 0], [4, 60, 9], [1, 3, 16]]])
    sizes, drawn = population.sum(axis=(1, 2)), [20, 30]
    generator = np.random.default_rng(1)
    samples = [
        generator.multivariate_hypergeometric(population[h].ravel(), drawn[h], size=10_000).reshape(-1, 3, 3)
        for h in range(2)
    ]
    found = [stratified_estimates(np.stack(pair), sizes) for pair in zip(*samples, strict=True)]
    truth = census(population.sum(axis=0))
    for name in ("overall", "area", "users", "producers", "f1"):
        values = np.array([getattr(e, name).value for e in found])[..., :2] if name != "overall" else np.array(
            [e.overall.value for e in found]
        )  # fmt: skip
        errors = np.array([getattr(e, name).standard_error for e in found])
        errors = errors if name == "overall" else errors[:, :2]
        exact = getattr(truth, name).value if name == "overall" else getattr(truth, name).value[:2]
        np.testing.assert_allclose(values.mean(axis=0), exact, atol=0.01)
        # of ratios the variance is an approximation (Taylor series), and the samples here are small
        np.testing.assert_allclose(np.sqrt((errors**2).mean(axis=0)), values.std(axis=0), rtol=0.06)


def test_simple_random_sample_is_one_stratum():
    """Overall accuracy and area are plain proportions with their binomial errors (Cochran 1977, equation 3.8)."""
    matrix = np.array([[30, 10], [5, 55]])
    found = stratified_estimates(matrix[None], np.array([10_000]))
    assert found.overall.value == pytest.approx(0.85)
    assert found.overall.standard_error == pytest.approx(np.sqrt((1 - 0.01) * 0.85 * 0.15 / 99))
    assert found.area.standard_error[0] == pytest.approx(np.sqrt((1 - 0.01) * 0.35 * 0.65 / 99))


def test_a_census_agrees_with_the_metrics_of_evaluations():
    found = census(OLOFSSON)
    truth_in_rows = OLOFSSON.T
    assert found.overall.value == pytest.approx(metrics.overall_accuracy(truth_in_rows))
    np.testing.assert_allclose(found.users.value, metrics.class_precisions(truth_in_rows))
    np.testing.assert_allclose(found.producers.value, metrics.class_accuracies(truth_in_rows))
    np.testing.assert_allclose(found.f1.value, metrics.class_f1(truth_in_rows))
    assert np.isnan(found.users.standard_error).all()


def test_a_stratum_sampled_wholly_adds_no_error():
    counts = np.array([[[1, 0], [0, 0]], [[2, 3], [4, 41]]])
    assert stratified_estimates(counts, np.array([1, 50])).overall.standard_error == 0
    with pytest.raises(ValueError, match="two are needed"):
        stratified_estimates(counts, np.array([2, 50]))


def test_classes_without_points_have_no_accuracy():
    found = stratified_estimates(as_strata(np.array([[5, 3], [0, 0]]))[:1], np.array([100]))
    assert np.isnan(found.users.value[1])
    assert np.isnan(found.users.standard_error[1])
    assert found.producers.value.tolist() == [1, 0]


def test_quantiles():
    assert normal_quantile(0.95) == pytest.approx(1.959964, abs=1e-6)
    assert normal_quantile(0.68268949) == pytest.approx(1, abs=1e-6)


def test_sample_size_and_allocations_of_olofsson():
    """Section 5.1.1 and Table 5: 641 pixels for a standard error of 0.01; the columns Equal and Prop."""
    shares, expected = np.array([0.02, 0.015, 0.32, 0.645]), np.array([0.7, 0.6, 0.9, 0.95])
    assert sample_size(0.01, shares, expected) == 641
    assert allocate(640, MAPPED_PIXELS, method="equal", least=2).tolist() == [160] * 4
    assert allocate(641, MAPPED_PIXELS, method="proportional", least=2).tolist() == [13, 10, 205, 413]


def test_allocations_keep_their_bounds_and_their_sum():
    sizes = np.array([3, 500, 90_000, 9_497])
    for method in ("equal", "proportional", "optimal"):
        for count in (163, 400, 5_000, 100_000):
            found = allocate(count, sizes, method=method, least=50, accuracies=np.array([0.5, 0.9, 0.99, 1.0]))
            assert found.sum() == count
            assert (found <= sizes).all()
            assert (found >= [3, 50, 50, 50]).all()
    neyman = allocate(1_000, np.array([100_000, 100_000]), method="optimal", least=2, accuracies=np.array([0.5, 0.9]))
    assert neyman.tolist() == [625, 375]  # 0.5 to 0.3
    with pytest.raises(MapError, match=r"cannot be divided among 4 classes.*ask for 153 to 100000"):
        allocate(100, sizes, method="equal", least=50)


def test_draw_does_not_depend_on_the_blocks():
    values = np.random.default_rng(3).integers(0, 4, (97, 61)).astype(np.uint8)
    sizes = {code: int((values == code).sum()) for code in (1, 2, 3)}
    counts = {1: 7, 2: 40, 3: sizes[3]}

    def drawn(step, seed=5):
        blocks = [(y, values[y : y + step]) for y in range(0, len(values), step)]
        return draw(blocks, sizes, counts, seed)

    whole = drawn(97)
    for step in (1, 7, 50):
        np.testing.assert_array_equal(drawn(step), whole)
    assert (values[whole[:, 0], whole[:, 1]] == whole[:, 2]).all()
    assert len(np.unique(whole[:, :2], axis=0)) == len(whole) == sum(counts.values())
    assert not np.array_equal(drawn(97, seed=6), whole)
    assert (np.diff(whole[:, 0]) < 0).sum() > 30  # in random order


def test_every_pixel_of_a_class_is_equally_likely():
    values = np.ones((5, 4), np.uint8)
    hits = np.zeros((5, 4), int)
    for seed in range(4_000):
        pixels = draw([(0, values[:2]), (2, values[2:])], {1: 20}, {1: 5}, seed)
        hits[pixels[:, 0], pixels[:, 1]] += 1
    assert hits.min() > 880  # 1000 expected, standard deviation 27
    assert hits.max() < 1_120
