"""Retrieval against brute force over every pair, chance against enumeration, precision against scikit-learn."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, top_k_accuracy_score

from timesenmap.model.errors import ModelError
from timesenmap.model.retrieval import (
    UNGROUPED,
    best_ranks,
    chance_of,
    groups_of,
    recall_at,
    retrieve_by_text,
)


def unit(shape, seed=0):
    vectors = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def brute_rank(query, gallery, group, groups):
    """Walk down the gallery, best first, wrong before right among equals; position of the first right answer."""
    answers = sorted(range(len(gallery)), key=lambda i: (-float(query @ gallery[i]), groups[i] == group))
    for position, answer in enumerate(answers):
        if groups[answer] == group:
            return position
    return len(gallery)


@pytest.mark.parametrize("cells", [1, 97, 10**9])
def test_ranks_equal_brute_force_with_several_photos_a_place(cells):
    rng = np.random.default_rng(1)
    places = unit((40, 6))
    owners = rng.integers(0, 40, 110)  # some places have many photos, some none
    photos = places[owners] + 0.8 * unit((110, 6), 2)
    photos /= np.linalg.norm(photos, axis=1, keepdims=True)
    for queries, gallery, asked, groups in (
        (photos, places, owners, np.arange(40)),
        (places, photos, np.arange(40), owners),
    ):
        found = best_ranks(queries, gallery, asked, groups, cells=cells)
        expected = [brute_rank(q, gallery, g, groups) for q, g in zip(queries, asked, strict=True)]
        np.testing.assert_array_equal(found, expected)


def test_an_encoder_that_says_the_same_of_everything_finds_nothing():
    same = np.tile(unit((1, 4)), (50, 1))
    ranks = best_ranks(same, same, np.arange(50), np.arange(50))
    np.testing.assert_array_equal(ranks, 49)


def test_ungrouped_items_are_right_for_nothing():
    vectors = unit((4, 3))
    groups = np.array([UNGROUPED, 0, UNGROUPED, 1])
    ranks = best_ranks(vectors, vectors, groups, groups)
    np.testing.assert_array_equal(ranks[[0, 2]], 4)
    np.testing.assert_array_equal(ranks[[1, 3]], 0)


def test_recall_counts_chance_and_interval():
    rng = np.random.default_rng(5)
    places = unit((60, 8))
    owners = np.repeat(np.arange(70), 2)  # ten places have photos but no series
    photos = np.concatenate([places, unit((10, 8), 9)])[owners] + 0.9 * unit((140, 8), 7)
    recall = recall_at(photos.astype(np.float32), places, owners, np.arange(60), ks=(1, 5, 60), draws=400)
    ranks = np.array([brute_rank(q, places, g, np.arange(60)) for q, g in zip(photos, owners, strict=True)])[:120]
    assert (recall.queries, recall.gallery, recall.unanswerable) == (120, 60, 20)
    np.testing.assert_allclose(recall.recall, [(ranks < k).mean() for k in (1, 5, 60)])
    np.testing.assert_allclose(recall.chance, [1 / 60, 5 / 60, 1])
    assert recall.recall[2] == 1
    assert recall.median_rank == np.median(ranks) + 1
    hits = (ranks < 5).reshape(60, 2).mean(1)  # bootstrap by place, done anew
    again = np.quantile([hits[rng.integers(0, 60, 60)].mean() for _ in range(4000)], [0.025, 0.975])
    np.testing.assert_allclose(recall.intervals[1], again, atol=0.03)
    low, high = recall.intervals[0]
    assert low <= recall.recall[0] <= high


def test_chance_equals_enumeration():
    for gallery, relevant, k in itertools.product((5, 6), (1, 2, 4), (1, 2, 3)):
        hits = [
            any(item < relevant for item in order[:k]) for order in itertools.permutations(range(gallery))
        ]  # items below `relevant` are the right ones
        assert chance_of(np.array([relevant]), gallery, k)[0] == pytest.approx(np.mean(hits))


def test_retrieval_by_text_equals_scikit_learn():
    rng = np.random.default_rng(3)
    vectors = unit((7, 12))
    truth = rng.integers(0, 6, 300)  # the seventh class has no place
    embeddings = vectors[truth] + 0.9 * unit((300, 12), 4)
    truth[:20] = UNGROUPED
    names = [f"class {i}" for i in range(7)]
    found = retrieve_by_text(embeddings.astype(np.float32), vectors, truth, names, ks=(1, 10, 1000))
    cosine = (embeddings @ vectors.T)[20:]
    own = truth[20:]
    assert found.classes == tuple(names[:6])
    assert found.rows == tuple(np.bincount(own, minlength=6).tolist())
    for label in range(6):
        expected = average_precision_score(own == label, cosine[:, label])
        assert found.average_precision[label] == pytest.approx(expected, abs=1e-9)
        best = np.argsort(-cosine[:, label])
        assert found.precision[label][1] == pytest.approx((own[best[:10]] == label).mean())
        assert found.precision[label][2] == pytest.approx((own == label).mean())
    assert found.top1 == pytest.approx((cosine.argmax(1) == own).mean())
    assert found.top5 == pytest.approx(top_k_accuracy_score(own, cosine, k=5, labels=np.arange(7)))
    assert found.mean_average_precision == pytest.approx(np.mean(found.average_precision))
    assert found.chance == pytest.approx(1 / 6)


def test_nothing_to_retrieve_is_said():
    vectors = unit((3, 4))
    groups = np.arange(3)
    with pytest.raises(ModelError, match="not one query has an answer"):
        recall_at(vectors, vectors, groups, groups + 10)
    with pytest.raises(ModelError, match="no gallery"):
        best_ranks(vectors, vectors[:0], groups, groups[:0])
    with pytest.raises(ModelError, match="no place is one of"):
        retrieve_by_text(vectors, vectors, np.full(3, UNGROUPED), ["a", "b", "c"])


def test_groups_number_equal_texts_alike():
    groups = groups_of(["NL", "", "BE", "NL"])
    assert groups[1] == UNGROUPED
    assert groups[0] == groups[3] != groups[2]
