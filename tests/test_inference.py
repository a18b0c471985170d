"""The refolded network against the plain one: the same answers in every variant."""

import numpy as np
import pytest
import torch

from timesenmap.model.architecture import TimeSenCLIP
from timesenmap.model.config import config_of_size
from timesenmap.model.inference import FoldedNetwork, Product

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
    return torch.from_numpy(x)


def answers(module: TimeSenCLIP, x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """What the folded network says of observed frames alone, and the plain one of all with a mask."""
    folded = FoldedNetwork(module, device="cpu", dtype=dtype)
    with torch.inference_mode():
        values, present = module.observe(x)
        expected = module.encode_frames(module.frames_of(values, present))
        found = torch.full_like(expected, torch.nan)
        for observed in range(x.shape[1] + 1):  # where nothing is, the class token is alone
            rows = (present.sum(1) == observed).nonzero()[:, 0]
            if len(rows):
                places = present[rows].nonzero()[:, 1].view(len(rows), observed)
                found[rows] = folded(values[rows[:, None], places], places, x.shape[1])
    return found, expected


def largest_difference(module: TimeSenCLIP, x: torch.Tensor) -> float:
    found, expected = answers(module, x, torch.float32)
    assert expected.std(0).mean() > 1e-2
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
    found, expected = answers(module, series(module, 100), torch.bfloat16)
    assert found.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found, expected).min() > 0.9995


@pytest.mark.parametrize("tokens", [1, 5, 13])
def test_attention_written_out_is_the_devices_own(tokens: int) -> None:
    # The branch of other devices, run on this one.
    folded = FoldedNetwork(network(**TINY), device="cpu", dtype=torch.float32)
    qkv = torch.from_numpy(np.random.default_rng(1).normal(size=(20, tokens, 96)).astype(np.float32))
    assert (folded._attend(qkv) - folded._attend_cpu(qkv)).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ["none", "gelu", "relu"])
def test_packed_products_are_the_plain_ones(
    activation: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a build of torch has no oneDNN the plain product serves."""
    rng = np.random.default_rng(2)
    weight, bias, x = (torch.from_numpy(rng.normal(size=size)).to(dtype) for size in ((24, 40), 24, (70, 40)))
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch has no oneDNN")
    packed = Product(weight, bias, activation, rows=70)(x)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    plain = Product(weight, bias, activation, rows=70)(x)
    linear = x.double() @ weight.double().t() + bias.double()
    expected = {"none": linear, "gelu": torch.nn.functional.gelu(linear), "relu": linear.clamp(min=0)}[activation]
    tolerance = 1e-5 if dtype == torch.float32 else 0.2  # half a step of bfloat16 above 16 is 0.06
    for found in (packed, plain):
        assert found.dtype == dtype
        assert (found.double() - expected).abs().max() < tolerance


def test_training_on_does_not_reach_a_folded_network() -> None:
    module = network(**TINY)
    x = series(module, 10)
    folded = FoldedNetwork(module, device="cpu", dtype=torch.float32)
    places = torch.arange(12).expand(10, 12)
    with torch.inference_mode():
        values, _ = module.observe(x.nan_to_num(0.3))
        before = folded(values, places, 12)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    with torch.inference_mode():
        assert torch.equal(folded(values, places, 12), before)
