"""The authors' checkpoints: a transcription of their inference in plain PyTorch is the oracle."""

import argparse
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from torch import nn

from timesenmap.model import Encoder, ModelError, load_encoder
from timesenmap.model.import_checkpoint import import_checkpoint, parse_band_order
from timesenmap.workflows.import_checkpoint import main

# Facts of their data code: mean and std there, an offset and a range in truth.
THEIR_BANDS = ["B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"]
THEIR_MEAN = [67.0, 122.0, 93.27, 158.5, 160.77, 174.27, 162.27, 149.0, 84.5, 66.27]
THEIR_STD = [2089.0, 2598.45, 3214.5, 3620.45, 4033.61, 4613.0, 4825.45, 4945.72, 5140.84, 4414.45]


class Theirs(nn.Module):
    """Their encoder at inference, by the names of its parameters; dimensions as asked."""

    def __init__(self, bands: int, *, frames: int, patch: int, width: int, depth: int) -> None:
        super().__init__()
        # Index 0 of their sequence is a rearrangement without parameters.
        self.spectral_embedding = nn.Sequential(nn.Flatten(2), nn.Linear(bands * patch**2, width))
        self.time_pos_encoding = nn.Parameter(torch.randn(1, frames, width))
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        layer = nn.TransformerEncoderLayer(width, 8, 96, dropout=0.1, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.mlp_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        for parameter in self.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)

    @torch.no_grad()
    def embed(self, image: torch.Tensor) -> torch.Tensor:
        x = self.spectral_embedding(image)
        positions = self.time_pos_encoding
        if x.shape[1] == 1:
            # nearest-neighbour resampling of the positions to one
            grid = positions.permute(0, 2, 1)[..., None]  # (1, width, frames, 1)
            positions = nn.functional.interpolate(grid, size=(1, 1), mode="nearest")[..., 0].permute(0, 2, 1)
        elif (x.shape[1], positions.shape[1]) == (4, 12):
            positions = positions.reshape(1, 4, 3, -1).median(dim=2).values
        tokens = torch.cat([self.class_token.repeat(len(x), 1, 1), x + positions], dim=1)
        out = self.mlp_head(self.transformer(tokens)[:, 0])
        return out / out.norm(dim=-1, keepdim=True)


def their_input(reflectance: NDArray[np.float32], bands: list[str]) -> torch.Tensor:
    picks = [THEIR_BANDS.index(band) for band in bands]
    mean, std = (np.array(v)[picks].reshape(-1, 1, 1) for v in (THEIR_MEAN, THEIR_STD))
    return torch.from_numpy(np.clip((reflectance * 10_000.0 - mean) / std, 0, 1).astype(np.float32))


def checkpoint(theirs: Theirs, path: Path, prefix: str, **extra: object) -> Path:
    """Lightning checkpoint as theirs: the encoder under the prefix, and what else the learner holds."""
    state = OrderedDict((prefix + key, value) for key, value in theirs.state_dict().items())
    # The validation copy of the encoder has other values: taking it would go unnoticed but for these tests.
    state.update({f"TS_ViT.{key}": torch.zeros_like(value) for key, value in theirs.state_dict().items()})
    state["learner.queue"] = torch.randn(64, 128)
    state["learner.queue_ptr"] = torch.zeros(1, dtype=torch.long)
    state["logit_scale"] = torch.tensor(2.66)
    arguments = argparse.Namespace(ARCH="ViT-B/32", channels=["B4", "B3", "B2"], LR=1e-4, device=0)
    torch.save(
        {
            "epoch": 199,
            "global_step": 27000,
            "pytorch-lightning_version": "2.0.0",
            "state_dict": state,
            "loops": {"fit_loop": {"state_dict": {}}},
            "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": {"best_model_score": torch.tensor(1.5)}},
            "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-4}]}],
            "lr_schedulers": [{"T_max": 10}],
            "hparams_name": "kwargs",
            "hyper_parameters": {"args": arguments, "classes": ["forest", "water"]},
            **extra,
        },
        path,
    )
    return path


@pytest.fixture
def theirs() -> Theirs:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return Theirs(10, frames=12, patch=1, width=64, depth=3).eval()


def series(n: int, frames: int, patch: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(frames).uniform(0, 0.6, (n, frames, 10, patch, patch)).astype(np.float32)


@pytest.mark.parametrize("prefix", ["learner.TS_ViT.", "learner.ts_encoder."])
@pytest.mark.parametrize("swapped", [False, True])
def test_embeddings_are_those_of_their_inference(theirs: Theirs, prefix: str, swapped: bool, tmp_path: Path) -> None:
    bands = ["B4", "B3", "B2", *THEIR_BANDS[3:]] if swapped else THEIR_BANDS
    path = checkpoint(theirs, tmp_path / "their.ckpt", prefix)
    encoder = Encoder(import_checkpoint(path, band_order=",".join(bands)), device="cpu", precision="float32")
    for frames in (12, 4, 1):
        x = series(50, frames)  # bands in the order the checkpoint was trained with
        expected = theirs.embed(their_input(x, bands)).numpy()
        np.testing.assert_allclose(encoder.embed(x[..., 0, 0]), expected, atol=1e-5)
        assert expected.std(0).mean() > 1e-3


@pytest.mark.parametrize(("frames", "patch"), [(12, 5), (4, 1), (1, 9)])
def test_other_frames_and_patches(frames: int, patch: int, tmp_path: Path) -> None:
    theirs = Theirs(10, frames=frames, patch=patch, width=64, depth=2).eval()
    path = checkpoint(theirs, tmp_path / "their.ckpt", "learner.ts_encoder.")
    module = import_checkpoint(path, band_order=THEIR_BANDS, months=frames, patch=patch)
    encoder = Encoder(module, device="cpu", precision="float32")
    x = series(20, frames, patch)
    expected = theirs.embed(their_input(x, THEIR_BANDS)).numpy()
    np.testing.assert_allclose(encoder.embed(x if patch > 1 else x[..., 0, 0]), expected, atol=1e-5)


def test_command_writes_an_encoder_that_loads(theirs: Theirs, tmp_path: Path) -> None:
    path, out = checkpoint(theirs, tmp_path / "their.ckpt", "learner.TS_ViT."), tmp_path / "out.safetensors"
    order = "B4 B3 B2 B5 B6 B7 B8 B8A B11 B12"
    done = CliRunner().invoke(main, [str(path), str(out), "--band-order", order, "--clip", "RN50/openai"])
    assert done.exit_code == 0, done.output
    encoder = load_encoder(out, device="cpu", precision="float32")
    assert encoder.sha256 in done.output
    config = encoder.config
    assert config.bands[:4] == ("B04", "B03", "B02", "B05")
    assert config.low[:3] == (93.27, 122.0, 67.0)
    assert config.text_tower == "open_clip:RN50/openai"
    assert (config.name, config.activation, config.head, config.presence) == ("their", "relu", "linear", False)
    x = series(5, 12)
    expected = theirs.embed(their_input(x, order.split())).numpy()
    np.testing.assert_allclose(encoder.embed(x[..., 0, 0]), expected, atol=1e-5)


def test_command_does_not_guess_the_band_order(theirs: Theirs, tmp_path: Path) -> None:
    path, out = checkpoint(theirs, tmp_path / "their.ckpt", "learner.TS_ViT."), tmp_path / "out.safetensors"
    done = CliRunner().invoke(main, [str(path), str(out)])
    assert done.exit_code == 2
    assert "--band-order" in done.output
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--band-order", "B2,B3"], "names 2 bands, the checkpoint was trained with 10"),
        (["--band-order", "B2,B3,B4,B5,B6,B7,B8,B8A,B11,B11"], "names B11 more than once"),
        (["--band-order", "B2,B3,B4,B5,B6,B7,B8,B8A,B11,B10"], "band 'B10' of the band order is unknown"),
        (["--band-order", ",".join(THEIR_BANDS), "--months", "4"], "12 frames a year, 4 asked for: give --months 12"),
        (["--band-order", ",".join(THEIR_BANDS), "--patch", "5"], "not a multiple of patch 5 x 5"),
        (["--band-order", ",".join(THEIR_BANDS), "--heads", "7"], "width 64 is not a multiple of heads 7"),
    ],
)
def test_command_refuses_what_does_not_fit(theirs: Theirs, arguments: list[str], message: str, tmp_path: Path) -> None:
    path, out = checkpoint(theirs, tmp_path / "their.ckpt", "learner.TS_ViT."), tmp_path / "out.safetensors"
    done = CliRunner().invoke(main, [str(path), str(out), *arguments])
    assert done.exit_code == 2
    assert message in done.output
    assert done.output.count("\n") == 1
    assert not out.exists()


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("harm-done"),))


def test_code_in_a_checkpoint_is_not_run(theirs: Theirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = checkpoint(theirs, tmp_path / "their.ckpt", "learner.TS_ViT.", callbacks=Harmful())
    with pytest.raises(ModelError, match=r"could run code: where you trust it, save its weights alone"):
        import_checkpoint(path, band_order=THEIR_BANDS)
    assert not (tmp_path / "harm-done").exists()


def test_other_files_are_refused(theirs: Theirs, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"

    def refusal() -> str:
        with pytest.raises(ModelError) as error:
            import_checkpoint(path, band_order=THEIR_BANDS)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "not found" in refusal()
    path.write_bytes(b"no checkpoint at all")
    assert str(path) in refusal()
    whole = checkpoint(theirs, path, "learner.TS_ViT.").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "copy it again" in refusal()
    torch.save({"state_dict": {"model.weight": torch.ones(1)}}, path)
    assert "holds neither of learner.TS_ViT. and learner.ts_encoder." in refusal()
    torch.save([1, 2], path)
    assert "no state_dict" in refusal()
    checkpoint(theirs, path, "learner.TS_ViT.")
    state = torch.load(path, weights_only=False)["state_dict"]
    torch.save({"state_dict": {**state, "learner.ts_encoder.class_token": torch.ones(1, 1, 64)}}, path)
    assert "holds both" in refusal()
    torch.save({"state_dict": {**state, "learner.TS_ViT.conv.weight": torch.ones(1)}}, path)
    assert "'learner.TS_ViT.conv.weight', which the authors' encoder does not have" in refusal()
    del state["learner.TS_ViT.transformer.layers.1.norm2.bias"]
    torch.save({"state_dict": state}, path)
    assert "Missing key(s) in state_dict" in refusal()
    del state["learner.TS_ViT.class_token"]
    torch.save({"state_dict": state}, path)
    assert "lacks class_token" in refusal()


@pytest.mark.parametrize("text", ["B2,B3,B8A", "B02 B03 B8A", "b2, b3,b8a", "2 3 8a"])
def test_band_names_in_either_spelling(text: str) -> None:
    assert parse_band_order(text) == ("B02", "B03", "B8A")
