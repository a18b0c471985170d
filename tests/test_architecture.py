"""The network against PyTorch's own TransformerEncoder and NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from timesenmap.model.architecture import Frames, TimeSenCLIP
from timesenmap.model.config import (
    DEFAULT_BANDS,
    PAPER_LOW,
    PAPER_SPAN,
    EncoderConfig,
    config_of_size,
    flops_per_pixel,
)
from timesenmap.model.errors import ModelError

TINY = {"width": 32, "depth": 3, "heads": 4, "feedforward": 48, "embedding": 16}


def network(size: str = "small", seed: int = 0, **overrides: object) -> TimeSenCLIP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = TimeSenCLIP(config_of_size(size, **overrides)).eval()
        # Fresh positions and biases are nearly zero: make every parameter matter.
        for parameter in module.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return module


def series(n: int, *, months: int = 12, patch: int = 1, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    shape = (n, months, 10) if patch == 1 else (n, months, 10, patch, patch)
    return torch.from_numpy(rng.uniform(0, 0.6, shape).astype(np.float32))


def plain_transformer(module: TimeSenCLIP, tokens: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
    """nn.TransformerEncoder with the module's weights over tokens (B, S, width): the class token's output."""
    config = module.config
    layer = nn.TransformerEncoderLayer(
        config.width, config.heads, config.feedforward, 0.0, config.activation, batch_first=True
    )
    encoder = nn.TransformerEncoder(layer, config.depth, enable_nested_tensor=False).eval()
    for theirs, ours in zip(encoder.layers, module.layers, strict=True):
        theirs.load_state_dict(ours.state_dict())
    return encoder(tokens, src_key_padding_mask=hidden)[:, 0]


def plain_forward(module: TimeSenCLIP, reflectance: torch.Tensor) -> torch.Tensor:
    """The whole encoder written out with NumPy scaling and PyTorch's own layers; missing months are masked."""
    config = module.config
    x = reflectance.numpy().astype(np.float64)
    x = x.reshape(*x.shape[:3], config.patch, config.patch)
    missing = np.isnan(x)
    low, span = (np.array(v).reshape(1, 1, -1, 1, 1) for v in (config.low, config.span))
    values = np.clip((x * 10_000 - low) / span, 0, 1)
    values[missing] = 0
    n, months, bands = x.shape[:3]
    features = values.reshape(n, months, -1)
    middle = config.patch // 2
    hidden = missing.reshape(n, months, -1).any(-1)
    if config.presence:
        flags = 1 - missing.reshape(n, months, bands, -1).mean(-1)
        features = np.concatenate([features, flags], -1)
        hidden = missing[..., middle, middle].all(-1)
    tokens = module.embedding(torch.from_numpy(features).float()) + module.positions
    tokens = torch.cat([module.class_token.expand(n, 1, -1), tokens], 1)
    hidden = np.concatenate([np.zeros((n, 1), bool), hidden], 1)
    out = module.head(plain_transformer(module, tokens, torch.from_numpy(hidden)))
    return out / out.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("size", ["small", "medium", "paper"])
def test_equals_pytorchs_transformer_encoder_in_full_size(size: str) -> None:
    module, x = network(size), series(24)
    x[::3, 4] = np.nan
    x[5, 2:11] = np.nan
    with torch.inference_mode():
        found, expected = module(x), plain_forward(module, x)
    assert (found - expected).abs().max() < 1e-5
    assert expected.std(0).mean() > 1e-3  # the inputs matter to the answer


@pytest.mark.parametrize("patch", [1, 5, 9])
@pytest.mark.parametrize("presence", [False, True])
@pytest.mark.parametrize(("activation", "head"), [("gelu", "mlp"), ("relu", "linear")])
def test_equals_pytorchs_transformer_encoder_in_every_variant(
    patch: int, presence: bool, activation: str, head: str
) -> None:
    module = network(**TINY, patch=patch, presence=presence, activation=activation, head=head)
    rng = np.random.default_rng(1)
    x = series(40, patch=patch)
    x[torch.from_numpy(rng.random((40, 12)) < 0.4)] = np.nan
    x[torch.from_numpy(rng.random(x.shape) < 0.01)] = np.nan
    with torch.inference_mode():
        assert (module(x) - plain_forward(module, x)).abs().max() < 1e-5


def test_state_dict_of_a_layer_is_that_of_pytorchs() -> None:
    module = network(**TINY)
    theirs = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True).state_dict()
    ours = module.layers[0].state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_a_missing_month_is_as_if_its_frame_were_not_there() -> None:
    module = network(**TINY, presence=False)
    x = series(6)
    kept = [0, 3, 4, 8, 11]
    masked = x.clone()
    masked[:, [m for m in range(12) if m not in kept]] = np.nan
    with torch.inference_mode():
        tokens, positions, present = module.frames_of(*module.observe(x))
        dropped = module.encode_frames(Frames(tokens[:, kept], positions[kept], present[:, kept]))
        expected = dropped / dropped.norm(dim=-1, keepdim=True)
        assert (module(masked) - expected).abs().max() < 1e-5
        assert (module(masked) - module(x)).abs().max() > 1e-3


def test_scaling_matches_the_papers_constants() -> None:
    module = network(**TINY, presence=False)
    x = np.array([np.array(PAPER_LOW) + f * np.array(PAPER_SPAN) for f in (-0.1, 0.0, 0.25, 1.0, 1.7)]) / 10_000
    values, present = module.observe(torch.from_numpy(x[None].astype(np.float32)))
    expected = np.broadcast_to(np.array([0.0, 0.0, 0.25, 1.0, 1.0])[:, None], (5, 10))
    np.testing.assert_allclose(values[0].numpy(), expected, atol=2e-6)
    assert present.all()
    unclamped = network(**TINY, presence=False, clamp=False)
    values, _ = unclamped.observe(torch.from_numpy(x[None].astype(np.float32)))
    np.testing.assert_allclose(values[0, :, 0].numpy(), [-0.1, 0, 0.25, 1, 1.7], atol=2e-6)


def test_patches_are_flattened_band_by_band() -> None:
    # (c h w), as the authors do: weights of a checkpoint depend on it.
    module = network(**TINY, presence=False, patch=5, clamp=False)
    x = torch.arange(250, dtype=torch.float32).reshape(1, 1, 10, 5, 5)
    scaled = (x.numpy()[0, 0] * 10_000 - np.array(PAPER_LOW)[:, None, None]) / np.array(PAPER_SPAN)[:, None, None]
    np.testing.assert_allclose(module.observe(x)[0][0, 0].numpy(), scaled.ravel(), rtol=1e-5)


def test_missing_band_is_zero_with_a_lowered_flag_or_hides_its_month() -> None:
    x = series(1)
    x[0, 3, 7] = np.nan
    values, present = network(**TINY, presence=True).observe(x)
    assert values.shape == (1, 12, 20)
    assert values[0, 3, 7] == 0
    flags = np.ones((12, 10))
    flags[3, 7] = 0
    np.testing.assert_array_equal(values[0, :, 10:].numpy(), flags)
    assert present.all()
    values, present = network(**TINY, presence=False).observe(x)
    assert torch.isfinite(values).all()
    assert present[0].tolist() == [True] * 3 + [False] + [True] * 8


def test_month_of_a_patch_counts_by_its_centre_and_flags_by_their_share() -> None:
    module = network(**TINY, presence=True, patch=5)
    x = series(1, patch=5)
    x[0, 0, :, 2, 2] = np.nan  # the pixel itself is missing
    x[0, 1, :, 0] = np.nan  # the row above is missing
    values, present = module.observe(x)
    assert present[0, :3].tolist() == [False, True, True]
    np.testing.assert_allclose(values[0, :3, -1].numpy(), [24 / 25, 20 / 25, 1], rtol=1e-6)


def test_positions_of_seasons_and_of_the_year() -> None:
    module = network(**TINY)
    p = module.positions.detach().numpy()
    np.testing.assert_array_equal(module.frame_positions(12).detach().numpy(), p)
    np.testing.assert_array_equal(module.frame_positions(4).detach().numpy(), np.median(p.reshape(4, 3, -1), axis=1))
    np.testing.assert_allclose(module.frame_positions(1)[0].detach().numpy(), p.mean(0), atol=1e-6)
    first = network(**TINY, annual_position="first")
    np.testing.assert_array_equal(first.frame_positions(1)[0].detach().numpy(), first.positions[0].detach().numpy())
    with pytest.raises(ModelError, match=r"7 frames given.*takes 12, 4, 1"):
        module.frame_positions(7)


def test_masking_hook_changes_the_frames_and_gradients_reach_every_parameter() -> None:
    module = network(**TINY).train()
    x = series(8)

    def keep_february(frames: Frames) -> Frames:
        return Frames(frames.tokens[:, 1:2], frames.positions[1:2], frames.present[:, 1:2])

    only = torch.full_like(x, np.nan)
    only[:, 1] = x[:, 1]
    out = module(x, masking=keep_february)
    assert (out - module(only)).abs().max() < 1e-5
    module(x)[:, 0].sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_dropout_acts_in_training_only() -> None:
    config = config_of_size("small", **TINY)
    module = TimeSenCLIP(config, dropout=0.5)
    x = series(4)
    assert not torch.equal(module.train()(x), module(x))
    assert torch.equal(module.eval()(x), module(x))


def counted_flops(run: Callable[[], object]) -> int:
    """Operations torch counts; its fused kernels, which it cannot see into, are switched off."""
    counter, fast = FlopCounterMode(display=False), torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:
            run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops())


@pytest.mark.parametrize("size", ["small", "medium", "paper"])
@pytest.mark.parametrize("head", ["mlp", "linear"])
def test_flops_per_pixel_is_what_torch_counts(size: str, head: str) -> None:
    module = network(size, head=head)
    assert counted_flops(lambda: module(series(7))) == 7 * flops_per_pixel(module.config)


def test_small_has_fifteen_times_fewer_operations_than_paper() -> None:
    paper, small = network("paper"), network("small")
    assert flops_per_pixel(small.config) * 15 <= flops_per_pixel(paper.config)
    # and not only with the class token alone in the last layer
    assert counted_flops(lambda: plain_forward(paper, series(2))) >= 15 * counted_flops(
        lambda: plain_forward(small, series(2))
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"bands": ("B02", "B02")}, "bands B02, B02 repeat"),
        ({"bands": ("red", "nir")}, "low has 10 values for 2 bands"),
        ({"low": (1.0,)}, "low has 1 values for 10 bands"),
        ({"span": (0.0,) * 10}, "span 0.0 is not positive"),
        ({"heads": 3}, "width 128 is not a multiple of heads 3"),
        ({"patch": 3}, "patch: Input should be 1, 5 or 9"),
        ({"widht": 64}, "widht: Extra inputs are not permitted"),
        ({"text_tower": "bert"}, "'bert' is no text tower"),
        ({"temperature": 0.0}, "temperature"),
        ({"format": 2}, "format"),
    ],
)
def test_configuration_refuses_what_does_not_fit(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError) as error:
        config_of_size("small", **overrides)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_scaling_follows_the_bands() -> None:
    config = config_of_size("small", bands=("B08", "B02"))
    assert config.low == (PAPER_LOW[DEFAULT_BANDS.index("B08")], PAPER_LOW[0])
    assert config.span == (PAPER_SPAN[DEFAULT_BANDS.index("B08")], PAPER_SPAN[0])
    assert isinstance(config, EncoderConfig)
    with pytest.raises(ModelError, match="'huge' is no encoder size: choose one of paper, medium, small"):
        config_of_size("huge")
