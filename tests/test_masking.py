"""Temporal masking as in the paper, and random subsets of months and bands."""

from collections import Counter

import numpy as np
import pytest
import torch

from timesenmap.model.architecture import Frames, TimeSenCLIP
from timesenmap.model.config import config_of_size
from timesenmap.model.masking import (
    draw_masking,
    draw_strategy,
    drop_frames,
    kept_frames,
    median_frame,
    random_subsets,
    spectral_dropout,
)


def make_frames(batch=3, months=12, width=4, seed=0):
    rng = np.random.default_rng(seed)
    tokens = torch.from_numpy(rng.normal(size=(batch, months, width))).float()
    positions = torch.from_numpy(rng.normal(size=(months, width))).float()
    return Frames(tokens, positions, torch.ones(batch, months, dtype=torch.bool))


def test_half_of_the_batches_are_masked_each_strategy_a_third_of_them():
    rng = np.random.default_rng(1)
    draws = 30_000
    counts = Counter(draw_strategy(rng) for _ in range(draws))
    expected = {None: 1 / 2, "median": 1 / 6, "quarter": 1 / 6, "random": 1 / 6}
    assert set(counts) == set(expected)
    for strategy, share in expected.items():
        deviation = np.sqrt(share * (1 - share) / draws)
        assert abs(counts[strategy] / draws - share) < 4 * deviation


def test_a_quarter_is_three_frames_in_a_row_anywhere():
    rng = np.random.default_rng(2)
    starts = Counter()
    for _ in range(2000):
        gone = np.flatnonzero(~kept_frames("quarter", 12, rng))
        assert len(gone) == 3
        assert gone[-1] - gone[0] == 2
        starts[int(gone[0])] += 1
    assert set(starts) == set(range(10))
    assert min(starts.values()) > 120  # 200 expected


def test_random_drops_one_to_eleven_frames_equally_often():
    rng = np.random.default_rng(3)
    gone = Counter()
    which = np.zeros(12)
    for _ in range(6600):
        kept = kept_frames("random", 12, rng)
        gone[int((~kept).sum())] += 1
        which += ~kept
    assert set(gone) == set(range(1, 12))
    assert min(gone.values()) > 480  # 600 expected
    assert which.max() / which.min() < 1.1


def test_the_median_frame_is_the_median_of_the_observed_frames():
    frames = make_frames()
    frames.present[0, 5:] = False  # five observed: the middle one is certain
    frames.present[2] = False
    result = median_frame(frames)
    assert result.tokens.shape == (3, 1, 4)
    np.testing.assert_allclose(result.tokens[0, 0], np.median(frames.tokens[0, :5].numpy(), axis=0))
    lower = np.sort(frames.tokens[1].numpy(), axis=0)[5]  # of twelve, the lower middle one, as torch.median
    np.testing.assert_allclose(result.tokens[1, 0], lower)
    np.testing.assert_allclose(result.positions[0], frames.positions.numpy().mean(0), rtol=1e-5, atol=1e-7)
    assert result.present[:, 0].tolist() == [True, True, False]
    assert torch.isfinite(result.tokens).all()


def test_the_median_passes_gradients_without_nan():
    frames = make_frames()
    frames.present[0, 2:] = False
    tokens = frames.tokens.clone().requires_grad_()
    median_frame(frames._replace(tokens=tokens)).tokens.sum().backward()
    assert torch.isfinite(tokens.grad).all()
    assert tokens.grad[0, 2:].abs().sum() == 0


def test_a_kept_frame_keeps_its_own_months_position():
    """Dropping by mask equals removing the frames and their positions from the input of the transformer."""
    network = TimeSenCLIP(config_of_size("small", width=16, heads=2, depth=2, feedforward=16)).eval()
    torch.nn.init.normal_(network.positions)
    series = torch.rand(5, 12, 10)
    kept = np.zeros(12, bool)
    kept[[1, 4, 9]] = True
    with torch.no_grad():
        masked = network(series, masking=lambda frames: drop_frames(frames, kept))
        frames = network.frames_of(*network.observe(series))
        rows = torch.from_numpy(np.flatnonzero(kept))
        cut = Frames(frames.tokens[:, rows], network.positions[rows], frames.present[:, rows])
        removed = torch.nn.functional.normalize(network.encode_frames(cut), dim=-1)
        moved = Frames(frames.tokens[:, rows], network.positions[:3], frames.present[:, rows])
        elsewhere = torch.nn.functional.normalize(network.encode_frames(moved), dim=-1)
    torch.testing.assert_close(masked, removed, rtol=1e-4, atol=1e-5)
    assert (masked - elsewhere).abs().max() > 1e-3


def test_a_year_that_would_be_empty_is_left_whole():
    frames = make_frames(batch=2)
    frames.present[0] = False
    frames.present[0, 3] = True
    kept = np.ones(12, bool)
    kept[2:5] = False
    present = drop_frames(frames, kept).present
    assert present[0].tolist() == frames.present[0].tolist()
    assert present[1].tolist() == kept.tolist()


def test_short_years_are_left_alone_and_masking_is_repeatable():
    assert draw_masking(np.random.default_rng(0), share=1.0, frames=1) is None
    frames = make_frames()
    for seed in range(8):
        first = draw_masking(np.random.default_rng(seed), share=1.0)(frames)
        second = draw_masking(np.random.default_rng(seed), share=1.0)(frames)
        assert torch.equal(first.present, second.present)
    assert draw_masking(np.random.default_rng(0), share=0.0) is None


@pytest.fixture
def series():
    values = np.random.default_rng(4).random((4000, 12, 10), np.float32)
    values[:2000, 6:] = np.nan  # half of them have half a year
    values[::2, :, 7] = np.nan
    return values


def test_subsets_only_hide_and_leave_something(series):
    patterns = np.isfinite(series[:100])
    result = random_subsets(series, patterns, np.random.default_rng(5), months=0.7, bands=0.7, borrowed=0.7)
    kept = np.isfinite(result)
    assert (kept <= np.isfinite(series)).all()
    assert kept.any((1, 2)).all()
    np.testing.assert_array_equal(result[kept], series[kept])
    assert np.isfinite(series[:2000, :6, 0]).all(), "the input is left as it was"


def test_any_number_of_months_stays_equally_often(series):
    whole = np.ones((1, 12, 10), bool)
    result = random_subsets(series, whole, np.random.default_rng(6), months=1.0, bands=0.0, borrowed=0.0)
    months = np.isfinite(result).any(2).sum(1)
    for rows, most in ((slice(0, 2000), 6), (slice(2000, 4000), 12)):
        counts = np.bincount(months[rows], minlength=most + 1)[1:]
        assert len(counts) == most
        assert counts.min() > 2000 / most * 0.7
    # Half of the subsets are runs of months (December is next to January), which few random choices are.
    six = np.isfinite(result[2000:][months[2000:] == 6]).any(2)
    changes = (six != np.roll(six, 1, axis=1)).sum(1)
    assert 0.4 < np.mean(changes == 2) < 0.65


def test_bands_and_borrowed_patterns(series):
    whole = np.ones((1, 12, 10), bool)
    result = random_subsets(series, whole, np.random.default_rng(7), months=0.0, bands=1.0, borrowed=0.0)
    hidden = np.isfinite(series) & ~np.isfinite(result)
    months = np.isfinite(series).any(2)
    for row in range(50):
        assert len({tuple(h) for h in hidden[row, months[row]]}) == 1, "a band goes in all months"
    stay = 10 - hidden[1::2].any(1).sum(1)  # rows that had all bands
    assert set(stay) == set(range(4, 11))

    lent = np.zeros((2, 12, 10), bool)
    lent[0, 1] = True
    lent[1, :, :3] = True
    borrowed = random_subsets(series, lent, np.random.default_rng(8), months=0.0, bands=0.0, borrowed=1.0)
    kept, had = np.isfinite(borrowed), np.isfinite(series)
    by_pattern = [(kept == (had & pattern)).all((1, 2)) for pattern in lent]
    assert (by_pattern[0] | by_pattern[1]).all()
    assert 0.4 < by_pattern[0].mean() < 0.6
    none = random_subsets(series, lent, np.random.default_rng(8), months=0.0, bands=0.0, borrowed=0.0)
    np.testing.assert_array_equal(none, series)


def test_a_pattern_that_leaves_nothing_is_not_taken_over():
    series = np.full((1, 12, 10), np.nan, np.float32)
    series[0, 0] = 0.5
    december = np.zeros((1, 12, 10), bool)
    december[0, 11] = True
    result = random_subsets(series, december, np.random.default_rng(0), months=0.0, bands=0.0, borrowed=1.0)
    np.testing.assert_array_equal(result, series)


@pytest.mark.parametrize("hidden", [np.nan, 0.01])
def test_spectral_dropout_hides_whole_bands(series, hidden):
    result = spectral_dropout(series, np.random.default_rng(9), share=0.3, hidden=hidden)
    changed = ~((result == series) | (np.isnan(result) & np.isnan(series)))
    full = changed[1::2]  # all bands there
    share = full[:, 0].mean()
    assert abs(share - 0.3) < 0.02
    np.testing.assert_array_equal(full[:, 0], full[:, 3])
    assert not np.isfinite(result[np.isnan(series)]).any(), "what was missing stays missing"
    if np.isfinite(hidden):
        assert np.allclose(result[changed], hidden)
    everything = spectral_dropout(series[1::2], np.random.default_rng(9), share=0.999)
    assert np.isfinite(everything).any((1, 2)).all()
