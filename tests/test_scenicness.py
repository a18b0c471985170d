"""Scenicness against SciPy, plain loops and great-circle distances."""

import csv
import math

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from scipy.stats import bootstrap, pearsonr

from timesenmap.model.errors import ModelError
from timesenmap.model.scenicness import (
    Ratings,
    load_scenic_prompts,
    pearson,
    rate_points,
    read_ratings,
    scenic_scores,
)


def unit(shape, seed=0):
    vectors = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_ratings_are_the_means_of_the_votes(shared_data):
    folder = shared_data / "scenicornot"
    ratings = read_ratings(folder / "votes.csv", folder / "places.csv", least=3)
    votes = {}
    with (folder / "votes.csv").open() as file:
        for row in csv.DictReader(file):
            votes.setdefault(row["place"], []).append(int(row["rating"]))
    with (folder / "places.csv").open() as file:
        places = {row["id"]: (float(row["lon"]), float(row["lat"])) for row in csv.DictReader(file)}
    expected = sorted((*places[p], sum(v) / len(v), len(v)) for p, v in votes.items() if len(v) >= 3)
    found = sorted(zip(ratings.lon, ratings.lat, ratings.rating, ratings.votes, strict=True))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert len(found) > 40
    assert ratings.left_out["places with fewer than 3 votes"] == len(votes) - len(found)


def test_bad_votes_and_places_are_counted(tmp_path):
    pd.DataFrame({"place": [1, 1, 1, 2, 2, 3, 9], "rating": [4, 8, 11, "x", 5, 6, 7]}).to_csv(tmp_path / "v.csv")
    pd.DataFrame({"id": [1, 2, 3], "lat": [51, 52, None], "lon": [-2, -3, -4]}).to_csv(tmp_path / "p.csv")
    ratings = read_ratings(tmp_path / "v.csv", tmp_path / "p.csv", least=2)
    assert (ratings.lon.tolist(), ratings.rating.tolist(), ratings.votes.tolist()) == ([-2], [6], [2])
    assert ratings.left_out == {
        "votes that are no rating of 1 to 10": 2,
        "places without coordinates": 2,
        "places with fewer than 2 votes": 1,
    }
    with pytest.raises(ModelError, match="has 9 votes"):
        read_ratings(tmp_path / "v.csv", tmp_path / "p.csv", least=9)
    with pytest.raises(ModelError, match="no column place, rating; it has"):
        read_ratings(tmp_path / "p.csv", tmp_path / "p.csv")
    with pytest.raises(ModelError, match="cannot be read"):
        read_ratings(tmp_path / "none.csv", tmp_path / "p.csv")


def haversine(lon1, lat1, lon2, lat2):
    p, q = math.radians(lat1), math.radians(lat2)
    a = math.sin((q - p) / 2) ** 2 + math.cos(p) * math.cos(q) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    return 2 * 6_371_008.8 * math.asin(math.sqrt(a))


def test_points_take_the_mean_of_the_places_within_reach():
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-2.21, -2.2, 80), rng.uniform(57.7, 57.705, 80)  # about 600 m by 550 m
    ratings = Ratings(*rng.uniform((-2.21, 57.7, 1), (-2.2, 57.705, 10), (60, 3)).T, np.full(60, 3), {})
    found = rate_points(lon, lat, ratings, metres=100)
    close = 0
    for i in range(80):
        distances = [haversine(lon[i], lat[i], x, y) for x, y in zip(ratings.lon, ratings.lat, strict=True)]
        if any(abs(d - 100) < 1 for d in distances):  # sphere and ellipsoid differ by up to half a percent
            close += 1
            continue
        near = [r for r, d in zip(ratings.rating, distances, strict=True) if d <= 100]
        assert found[i] == pytest.approx(np.mean(near)) if near else np.isnan(found[i])
    assert np.isnan(found).any()
    assert close < 40


@pytest.mark.parametrize("lat", [0.0, 60.0, -75.0])
def test_reach_is_in_metres_at_any_latitude(lat):
    step = 99.0 / (111_320 * math.cos(math.radians(lat)))
    ratings = Ratings(np.array([10.0 + step]), np.array([lat]), np.array([7.0]), np.array([3]), {})
    assert rate_points(np.array([10.0]), np.array([lat]), ratings)[0] == 7
    assert np.isnan(rate_points(np.array([10.0 - 0.03 * step]), np.array([lat]), ratings)[0])


def test_late_ensembling_averages_after_the_softmax_and_early_before():
    places, scenic, plain = unit((30, 8), 1), unit((3, 8), 2), unit((4, 8), 3)
    late = np.zeros(30)
    for i, place in enumerate(places):
        answers = [softmax(np.array([place @ s, place @ p]) / 0.05)[0] for s in scenic for p in plain]
        late[i] = 1 + 9 * np.mean(answers)
    np.testing.assert_allclose(scenic_scores(places, scenic, plain, temperature=0.05), late, rtol=1e-5)
    means = [v.mean(0) / np.linalg.norm(v.mean(0)) for v in (scenic, plain)]
    early = [1 + 9 * softmax(np.array([place @ m for m in means]) / 0.05)[0] for place in places]
    found = scenic_scores(places, scenic, plain, temperature=0.05, ensembling="early")
    np.testing.assert_allclose(found, early, rtol=1e-5)
    assert np.abs(found - late).max() > 0.1
    cold = scenic_scores(places, scenic, plain, temperature=1e-5)
    assert np.isfinite(cold).all()


def test_pearson_equals_scipy_and_its_interval_a_bootstrap():
    rng = np.random.default_rng(4)
    x = rng.normal(size=300)
    y = 0.6 * x + rng.normal(size=300)
    found = pearson(x, y, draws=2000)
    assert found.r == pytest.approx(pearsonr(x, y).statistic, abs=1e-12)
    assert found.rows == 300
    again = bootstrap(
        (x, y), lambda a, b: pearsonr(a, b).statistic, paired=True, vectorized=False, method="percentile",
        n_resamples=2000, rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    np.testing.assert_allclose([found.low, found.high], [again.low, again.high], atol=0.02)


def test_correlation_of_nothing_is_refused():
    with pytest.raises(ModelError, match="2 rows"):
        pearson(np.arange(2), np.arange(2))
    with pytest.raises(ModelError, match="must vary"):
        pearson(np.arange(5), np.ones(5))


def test_scenic_prompts_are_shipped_and_checked(tmp_path):
    shipped = load_scenic_prompts()
    assert len(shipped.scenic) == len(set(shipped.scenic)) > 3
    assert not set(shipped.scenic) & set(shipped.plain)
    for content, words in (
        ("scenic: [a]\n", "plain: Field required"),
        ("scenic: [a]\nplain: ['']\n", r"plain\.0"),
        ("scenic: [a]\nplain: [b]\nugly: [c]\n", "ugly"),
        ("scenic: [a\n", "cannot be read"),
    ):
        file = tmp_path / "prompts.yaml"
        file.write_text(content)
        with pytest.raises(ModelError, match=words):
            load_scenic_prompts(file)
