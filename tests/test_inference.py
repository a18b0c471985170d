"""The refolded network against the plain one: the same answers in every variant."""

import numpy as np
import pytest
import torch

from timesenmap.model.architecture import TimeSenCLIP
from timesenmap.model.config import config_of_size
from timesenmap.model.inference import FoldedNetwork

TINY = {"width": 32, "depth": 3, "heads": 4, "feedforward": 48, "embedding": 16}


def network(size: str = "small", **overrides: object) -> TimeSenCLIP:
    """Network in which every weight and bias matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = TimeSenCLIP(config_of_size(size, **overrides)).eval()
        for parameter in module.parameters():
            parameter.data += 0.15 * torch.randn_like(parameter)
    return module


def series(module: TimeSenCLIP, n: int, frames: int = 12) -> torch.Tensor:
    patch = module.config.patch
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 0.6, (n, frames, 10, patch, patch)).astype(np.float32)
    x[rng.random((n, frames)) < 0.3] = np.nan
    x[rng.random(x.shape) < 0.01] = np.nan
    x[0] = np.nan  # nothing at all: the class token is alone
    return torch.from_numpy(x)


def largest_difference(module: TimeSenCLIP, x: torch.Tensor) -> float:
    folded = FoldedNetwork(module, device="cpu", dtype=torch.float32)
    with torch.inference_mode():
        values, present = module.observe(x)
        found, expected = folded(values, present), module.encode_frames(module.frames_of(values, present))
    assert expected[1:].std(0).mean() > 1e-2
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("size", ["small", "medium", "paper"])
def test_full_sizes(size: str) -> None:
    module = network(size)
    assert largest_difference(module, series(module, 30)) < 5e-6


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("presence", [False, True])
@pytest.mark.parametrize(("activation", "head"), [("gelu", "mlp"), ("relu", "linear")])
def test_every_shape_of_network(depth: int, presence: bool, activation: str, head: str) -> None:
    module = network(**{**TINY, "depth": depth}, presence=presence, activation=activation, head=head)
    assert largest_difference(module, series(module, 30)) < 5e-6


@pytest.mark.parametrize("patch", [1, 5, 9])
@pytest.mark.parametrize("frames", [12, 4, 1])
@pytest.mark.parametrize("annual_position", ["mean", "first"])
def test_every_shape_of_input(patch: int, frames: int, annual_position: str) -> None:
    module = network(**TINY, patch=patch, annual_position=annual_position)
    assert largest_difference(module, series(module, 30, frames)) < 5e-6


@pytest.mark.parametrize("size", ["small", "medium", "paper"])
def test_bfloat16_keeps_the_direction(size: str) -> None:
    module = network(size)
    x = series(module, 100)
    folded = FoldedNetwork(module, device="cpu", dtype=torch.bfloat16)
    with torch.inference_mode():
        found, expected = folded(*module.observe(x)), module(x)
    assert found.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found, expected).min() > 0.9995


def test_attention_written_out_is_the_devices_own() -> None:
    # The branch of other devices, run on this one.
    module = network(**TINY)
    folded = FoldedNetwork(module, device="cpu", dtype=torch.float32)
    qkv = torch.from_numpy(np.random.default_rng(1).normal(size=(20, 13, 96)).astype(np.float32))
    hidden = torch.zeros(20, 13)
    hidden[torch.rand(20, 13, generator=torch.Generator().manual_seed(0)) < 0.4] = -torch.inf
    hidden[:, 0] = 0
    columns = hidden.t()[:, :, None].expand(13, 20, 13).flatten(1)
    assert (folded._attend(qkv, hidden) - folded._attend_cpu(qkv, columns)).abs().max() < 1e-5


def test_training_on_does_not_reach_a_folded_network() -> None:
    module = network(**TINY)
    x = series(module, 10)
    folded = FoldedNetwork(module, device="cpu", dtype=torch.float32)
    with torch.inference_mode():
        values, present = module.observe(x)
        before = folded(values, present)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    with torch.inference_mode():
        assert torch.equal(folded(values, present), before)
