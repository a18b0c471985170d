"""Soft labels of forests: who teaches, about what, and how much it counts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional
from training_fixture import TABLE, files, make_config, make_series, pairs_of, train, weights_of, words

from timesenmap.model.architecture import TimeSenCLIP
from timesenmap.model.captions import Labelled
from timesenmap.model.config import DEFAULT_BANDS
from timesenmap.model.errors import ModelError
from timesenmap.model.losses import soft_cross_entropy
from timesenmap.model.series import SIMULATED
from timesenmap.model.teachers import DIFFERENCES, features, lessons_of, mixed
from timesenmap.model.training_config import TeacherConfig
from timesenmap.model.training_scores import mean_vectors

__all__ = ["files", "train", "words"]  # fixtures

FEW = TeacherConfig(weight=1.0, lessons=600, trees=20)


@pytest.fixture
def pairs(tmp_path):
    frame = make_series(600)
    simulated = frame["label"].isin(["F"]) & (np.arange(len(frame)) % 2 == 0)
    frame.loc[simulated, "dataset"] = SIMULATED
    return pairs_of(frame, make_config(tmp_path, landcover_share=0.25))


def test_a_source_teaches_about_its_own_captions_only(pairs):
    lessons = lessons_of(pairs, FEW, np.random.default_rng(0))
    asked = np.isfinite(lessons.probability)
    kinds = {
        tuple(TABLE.names[number] for number in np.flatnonzero(row)): int((asked == row).all(1).sum())
        for row in np.unique(asked, axis=0)
    }
    # north has maize, wheat and water, of the land covers cropland and water; south cropland and forest at both levels.
    assert set(kinds) == {("maize", "wheat", "water"), ("cropland", "water"), ("cropland", "forest")}
    np.testing.assert_allclose(np.nansum(lessons.probability, 1), 1, atol=1e-5)
    measured = pairs.sources != SIMULATED
    share = pairs.weights[pairs.sources == "north"].sum() / pairs.weights[measured].sum()
    assert kinds["maize", "wheat", "water"] == pytest.approx(600 * share * 0.75, abs=1)
    assert kinds["cropland", "water"] == pytest.approx(600 * share * 0.25, abs=1)
    assert sum(kinds.values()) == pytest.approx(600, abs=3)


def test_forests_know_what_is_far_from_doubtful(pairs):
    lessons = lessons_of(pairs, FEW, np.random.default_rng(0))
    same = lessons_of(pairs, FEW, np.random.default_rng(0))
    np.testing.assert_array_equal(same.probability, lessons.probability)
    # Mixtures within a few percent of a series of the source are named as it is.
    known = pairs.reflectance[pairs.sources == "north"].reshape(-1, 120)
    truth = pairs.labelled.caption[pairs.sources == "north"]
    rows = np.flatnonzero(np.isfinite(lessons.probability[:, TABLE.numbers["maize"]]))
    distance = np.linalg.norm(lessons.reflectance[rows].reshape(-1, 1, 120) - known, axis=2)
    near = distance.min(1) < np.quantile(distance.min(1), 0.2)
    told = np.nanargmax(lessons.probability[rows], 1)
    assert np.mean(told[near] == truth[distance.argmin(1)][near]) > 0.95
    assert np.nanmax(lessons.probability[rows], 1).min() < 0.7  # and those halfway between two are doubted


def test_each_lesson_is_said_in_a_sentence_of_its_caption(pairs):
    lessons = lessons_of(pairs, FEW, np.random.default_rng(0))
    rng = np.random.default_rng(5)
    used = [set() for _ in TABLE.names]
    for _ in range(50):
        lesson = lessons.draw(7, rng)
        assert lesson.reflectance.shape == (7, 12, 10)
        rows = [np.flatnonzero((lessons.reflectance == one).all((1, 2))) for one in lesson.reflectance]
        for row, told in zip(rows, lesson.probability, strict=True):
            assert any(np.array_equal(lessons.probability[r], told, equal_nan=True) for r in row)
        for number, (vector, sentences) in enumerate(zip(lesson.words, pairs.sentences, strict=True)):
            which = np.flatnonzero((sentences == vector).all(1))
            assert len(which)
            used[number].add(int(which[0]))
    assert all(len(one) == len(sentences) for one, sentences in zip(used, pairs.sentences, strict=True))


def test_mixtures_lie_between_their_two_and_miss_what_either_misses():
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 50, 12, 10), np.float32)
    first[:, 3] = np.nan
    second[:, :, 2] = np.nan
    first[7], second[7] = np.nan, second[7]
    first[7, 0] = 0.5
    second[7, 0] = np.nan  # nothing in common
    series = mixed(first, second, rng)
    gone = np.isnan(first) | np.isnan(second)
    others = np.arange(50) != 7
    np.testing.assert_array_equal(np.isnan(series[others]), gone[others])
    np.testing.assert_array_equal(series[7], first[7])
    low, high = np.minimum(first, second), np.maximum(first, second)
    there = ~gone
    assert (series[there] >= low[there] - 1e-6).all()
    assert (series[there] <= high[there] + 1e-6).all()
    share = ((series - first) / (second - first))[others & (np.arange(50) != 7), 0, 0]
    assert share.min() < 0.2
    assert share.max() > 0.8


def test_forests_see_reflectance_and_normalised_differences():
    series = np.random.default_rng(2).random((4, 12, 10), np.float32)
    series[1, 5] = np.nan
    seen = features(series).reshape(4, 12, 10 + len(DIFFERENCES))
    np.testing.assert_array_equal(seen[..., :10], series)
    red, infrared = (series[..., DEFAULT_BANDS.index(band)] for band in ("B04", "B08"))
    np.testing.assert_allclose(seen[..., 10], (infrared - red) / (infrared + red), rtol=1e-5)
    assert np.isnan(seen[1, 5]).all()


def test_soft_cross_entropy_is_that_of_torch_over_what_is_asked():
    rng = np.random.default_rng(3)
    anchors, vectors = (functional.normalize(torch.from_numpy(rng.normal(size=(n, 8))).float(), dim=1) for n in (5, 6))
    vectors.requires_grad_()
    probability = torch.full((5, 6), torch.nan)
    probability[:, [0, 2, 5]] = torch.from_numpy(rng.dirichlet(np.ones(3), 5)).float()
    loss = soft_cross_entropy(anchors, vectors, 7.0, probability)
    expected = functional.cross_entropy(7.0 * anchors @ vectors[[0, 2, 5]].T, probability[:, [0, 2, 5]])
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert (vectors.grad[[1, 3, 4]] == 0).all()
    assert torch.isfinite(vectors.grad).all()


def test_where_nobody_can_teach_it_is_said(tmp_path):
    frame = make_series(60)
    frame["dataset"] = SIMULATED
    with pytest.raises(ModelError, match="no measured source has 20 series of two captions"):
        lessons_of(pairs_of(frame, make_config(tmp_path)), FEW, np.random.default_rng(0))


def test_lessons_count_by_their_weight(pairs, tmp_path):
    from timesenmap.model.training import import_fit, training_module

    import_fit()
    config = make_config(tmp_path, hiding={"temporal": 0.0}, queue=0, epochs=4)
    network = TimeSenCLIP(config.encoder_config.model_copy(update={"embedding": 8}), dropout=0.0)
    lessons = lessons_of(pairs, FEW, np.random.default_rng(0))
    batch = pairs.batch(np.arange(40), np.random.default_rng(1))

    def loss(weight):
        module = training_module(
            config,
            network,
            pairs,
            held_out=pairs.reflectance[:0],
            labelled=Labelled(pairs.labelled.caption[:0], pairs.labelled.landcover[:0], {}),
            vectors=mean_vectors(pairs.sentences),
            finest=np.arange(5),
        )
        if weight:
            module.begin_lessons(config.model_copy(update={"teacher": TeacherConfig(weight=weight)}), lessons)
        module.log = lambda *_args, **_options: None
        module.trainer = SimpleNamespace(world_size=1, global_rank=0, current_epoch=1)
        return module.training_step(batch, 0).item()

    alone, once, twice = map(loss, (0.0, 1.0, 2.0))
    assert once > alone
    assert twice - alone == pytest.approx(2 * (once - alone), rel=1e-4)


def test_a_taught_encoder_lies_between_what_it_was_and_what_it_became(files, train):
    def weights(name, **teacher):
        lessons = {"weight": 2.0, "epochs": 3, "lessons": 300, "batch": 32, "trees": 5}
        return weights_of(train(make_config(files, out=files / f"{name}.safetensors", teacher=lessons | teacher)).out)

    before, after, halfway = weights("before", weight=0.0), weights("after", mix=1.0), weights("halfway", mix=0.25)
    assert any((after[name] - before[name]).abs().max() > 1e-2 for name in before)
    for name, value in halfway.items():
        torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * after[name], atol=1e-6, rtol=1e-5)
