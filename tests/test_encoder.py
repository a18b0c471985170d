"""The encoder's promises: the same bits for a pixel always, clear refusals, unit vectors."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from timesenmap.model import Encoder, ModelError, new_encoder
from timesenmap.model import encoder as encoder_module
from timesenmap.model.config import DEFAULT_BANDS

SIZES = ("small", "medium", "paper")
PRECISIONS = ("float32", "bfloat16")


def series(n: int, *, seed: int = 0, gaps: bool = True, shape: tuple[int, ...] = ()) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 0.6, (n, 12, 10, *shape)).astype(np.float32)
    if gaps:
        x[rng.random((n, 12)) < 0.3] = np.nan
        x[rng.random(x.shape) < 0.02] = np.nan
        x[::11] = np.nan
    return x


@pytest.fixture(scope="module", params=[(s, p) for s in SIZES for p in PRECISIONS], ids="-".join)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    size, precision = request.param
    # Two layers of the full width: the kernels of the full depth in a third of the time.
    return new_encoder(size, device="cpu", precision=precision, depth=2)


def test_bits_of_a_pixel_do_not_depend_on_order_number_or_neighbours(encoder: Encoder) -> None:
    n = encoder.batch(12) + 350
    x = series(n)
    expected = encoder.embed(x)
    order = np.random.default_rng(2).permutation(n)
    np.testing.assert_array_equal(encoder.embed(x[order]), expected[order])
    for start, stop in ((0, 1), (7, 8), (n - 1, n), (30, 30 + encoder.batch(12))):
        np.testing.assert_array_equal(encoder.embed(x[start:stop]), expected[start:stop])
    among_nothing = np.full_like(x[:200], np.nan)
    among_nothing[150:] = x[150:200]
    np.testing.assert_array_equal(encoder.embed(among_nothing)[150:], expected[150:200])


@pytest.mark.parametrize("observed", [12, 11, 9, 7, 4, 3, 2, 1])
def test_one_series_has_the_same_bits_at_every_place_of_a_batch(encoder: Encoder, observed: int) -> None:
    for row in series(1, seed=observed, gaps=False):
        row[np.random.default_rng(observed).permutation(12)[observed:]] = np.nan
        found = encoder.embed(np.repeat(row[None], encoder.batch(observed) + 3, axis=0))
        assert len(np.unique(found, axis=0)) == 1
        assert found[0].any()


def test_bits_do_not_depend_on_the_number_of_threads(encoder: Encoder) -> None:
    x = series(2 * encoder.batch(12))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(encoder.embed(x))
            assert torch.get_num_threads() == threads  # a library leaves the caller's setting alone
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])


def test_what_was_not_observed_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that reach the network, padding included: never more than a batch beyond those observed."""
    made = new_encoder("small", device="cpu", precision="float32")
    computed: list[tuple[int, int]] = []
    network = made._network
    monkeypatch.setattr(
        made, "_network", lambda values, *rest: (computed.append(values.shape[:2]), network(values, *rest))[1]
    )
    nothing = np.full((5000, 12, 10), np.nan, np.float32)
    assert not made.embed(nothing).any()
    assert computed == []
    nothing[::2, 3] = 0.2
    nothing[1::4, 7:] = 0.2
    made.embed(nothing)
    assert set(computed) == {(made.batch(5), 5), (made.batch(1), 1)}
    assert len(computed) == -(-2500 // made.batch(1)) + -(-1250 // made.batch(5))


def test_many_threads_may_embed_at_once(encoder: Encoder) -> None:
    parts = [series(40 + 60 * seed, seed=seed) for seed in range(4)]
    expected = [encoder.embed(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(encoder.embed, parts), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("size", SIZES)
def test_bfloat16_points_where_float32_does(size: str) -> None:
    x = series(190)
    full = new_encoder(size, device="cpu", precision="float32").embed(x)
    half = new_encoder(size, device="cpu", precision="bfloat16").embed(x)
    observed = full.any(-1)
    cosine = (full[observed].astype(np.float64) * half[observed]).sum(-1)
    assert cosine.min() >= 0.999


def real_series(folder: Path, step: int) -> NDArray[np.float32]:
    """Every step-th of the labelled series, (n, 12, 10)."""
    columns = [f"{band}_m{month:02d}" for month in range(1, 13) for band in DEFAULT_BANDS]
    files = sorted((folder / "series").glob("*.parquet"))
    table = pd.concat([pd.read_parquet(file, columns=columns)[::step] for file in files])
    return table.to_numpy(np.float32).reshape(-1, 12, 10)


def test_bfloat16_gives_the_same_classes_on_real_series(shared_data: Path) -> None:
    from timesenmap.model import class_embeddings, load_encoder, load_prompt_set

    x = real_series(shared_data, 8)
    full = load_encoder("starter", device="cpu", precision="float32")
    a, b = full.embed(x), load_encoder("starter", device="cpu", precision="bfloat16").embed(x)
    seen = a.any(-1)
    assert seen.sum() > 2000
    assert (a * b).sum(-1)[seen].min() >= 0.9995
    classes = class_embeddings(load_prompt_set("land-cover"), full).T
    assert ((a @ classes).argmax(1) == (b @ classes).argmax(1))[seen].mean() >= 0.995


def test_paper_size_in_bfloat16_points_where_the_module_does_on_real_series(shared_data: Path) -> None:
    made = new_encoder("paper", device="cpu", precision="bfloat16")
    x = real_series(shared_data, 80)
    with torch.inference_mode():
        expected = made.module(torch.from_numpy(x)).numpy()
    found = made.embed(x)
    seen = found.any(-1)
    assert seen.sum() > 100
    assert (found * expected).sum(-1)[seen].min() >= 0.9995


@pytest.mark.parametrize("size", SIZES)
def test_embedding_is_that_of_the_module(size: str) -> None:
    made = new_encoder(size, device="cpu", precision="float32")
    x = series(60)
    with torch.inference_mode():
        expected = made.module(torch.from_numpy(x)).numpy()
    observed = np.isfinite(x).any((1, 2))
    np.testing.assert_allclose(made.embed(x)[observed], expected[observed], atol=2e-6)


def test_unit_length_and_zeros_where_nothing_was_seen(encoder: Encoder) -> None:
    x = series(300)
    found = encoder.embed(x)
    assert found.dtype == np.float32
    assert found.shape == (300, encoder.dim)
    # What an encoder with presence flags needs is one value, one without them a whole month.
    seen = np.isfinite(x).any((1, 2)) if encoder.config.presence else np.isfinite(x).all(2).any(1)
    assert 0 < (~seen).sum() < 300
    np.testing.assert_allclose(np.linalg.norm(found[seen], axis=1), 1, atol=1e-6)
    assert not found[~seen].any()
    assert encoder.embed(x[:0]).shape == (0, encoder.dim)


def test_infinity_counts_as_missing() -> None:
    made = new_encoder("small", device="cpu", precision="float32")
    x = series(5, gaps=False)
    y = x.copy()
    x[:, 3, 2], y[:, 3, 2] = np.nan, np.inf
    np.testing.assert_array_equal(made.embed(x), made.embed(y))


@pytest.mark.parametrize("patch", [5, 9])
def test_patches(patch: int) -> None:
    made = new_encoder("small", device="cpu", precision="float32", patch=patch)
    x = series(10, shape=(patch, patch))
    found = made.embed(x)
    np.testing.assert_array_equal(made.embed(x[3:4]), found[3:4])
    x[1, :, :, 0, 0] += 0.2
    assert np.abs(made.embed(x)[1] - found[1]).max() > 1e-4  # a neighbour matters


@pytest.mark.parametrize("frames", [1, 4])
def test_seasons_and_annual_composites(frames: int) -> None:
    made = new_encoder("small", device="cpu", precision="float32")
    x = series(20, gaps=False)[:, :frames]
    assert made.embed(x).shape == (20, made.dim)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 12, 9), "9 bands (shape (3, 12, 9)): encoder 'fresh-small' takes (n, 12 or 4 or 1 months, 10 bands)"),
        ((3, 11, 10), "11 months"),
        ((12, 10), "shape (12, 10)"),
        ((3, 12, 10, 5, 5), "patches of 5 x 5"),
        ((3, 12, 10, 5), "shape (3, 12, 10, 5)"),
    ],
)
def test_wrong_shapes_are_named(shape: tuple[int, ...], expected: str) -> None:
    made = new_encoder("small", device="cpu", precision="float32")
    with pytest.raises(ModelError) as error:
        made.embed(np.zeros(shape, np.float32))
    assert expected in str(error.value)
    assert "in the order B02 B03 B04 B05 B06 B07 B08 B8A B11 B12" in str(error.value)


def test_digital_numbers_are_refused() -> None:
    made = new_encoder("small", device="cpu", precision="float32")
    with pytest.raises(ModelError, match="type uint16: give float32 from 0 to 1"):
        made.embed(np.zeros((1, 12, 10), np.uint16))


def test_fresh_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    a, b = new_encoder("small", seed=3), new_encoder("small", seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert a.sha256 == b.sha256 != new_encoder("small", seed=4).sha256
    assert new_encoder("small", seed=3, name="other").sha256 != a.sha256  # the configuration is part of it


def test_an_encoder_is_a_copy_of_its_module() -> None:
    made = new_encoder("small", device="cpu", precision="float32")
    x = series(4, gaps=False)
    before = made.embed(x)
    with torch.no_grad():
        made.module.class_token += 1
    np.testing.assert_array_equal(made.embed(x), before)
    assert np.abs(Encoder(made.module, device="cpu").embed(x) - before).max() > 1e-3


def test_device_and_precision_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = "cuda" if not torch.cuda.is_available() else "mps"
    with pytest.raises(ModelError, match=f"device '{absent}' is not on this machine: choose auto, cpu"):
        new_encoder("small", device=absent)
    with pytest.raises(ModelError, match="device 'gpu' is not"):
        new_encoder("small", device="gpu")
    with pytest.raises(ModelError, match="precision 'half' is unknown: choose auto, float32 or bfloat16"):
        new_encoder("small", precision="half")
    for native, chosen in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(encoder_module, "has_native_bfloat16", lambda device, native=native: native)
        assert new_encoder("small", device="cpu").precision == chosen
