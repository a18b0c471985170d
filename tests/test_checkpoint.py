"""Checkpoints: written whole, read back to the bit, and refused with a reason when they do not fit."""

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from timesenmap.model import Encoder, ModelError, load_encoder, new_encoder
from timesenmap.model import checkpoint as checkpoint_module
from timesenmap.model.checkpoint import save_encoder

TINY = {"width": 32, "depth": 2, "heads": 4, "feedforward": 48, "embedding": 16}


@pytest.fixture
def fresh() -> Encoder:
    return new_encoder("small", seed=5, device="cpu", precision="float32", name="tiny", temperature=0.031, **TINY)


@pytest.fixture
def saved(fresh: Encoder, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_encoder(fresh, path)
    return path


def rewrite(path: Path, metadata: dict[str, str] | None, **tensors: torch.Tensor | None) -> None:
    """Write the checkpoint again with other metadata and with tensors replaced, added or (None) left out."""
    with safe_open(path, "pt") as file:
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    held.update({name.replace("__", "."): tensor for name, tensor in tensors.items() if tensor is not None})
    for name, tensor in tensors.items():
        if tensor is None:
            del held[name.replace("__", ".")]
    save_file(held, path, metadata)


def described(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["timesenmap"])


def refusal(path: Path | str) -> str:
    with pytest.raises(ModelError) as error:
        load_encoder(path)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_round_trip_is_exact(fresh: Encoder, saved: Path) -> None:
    loaded = load_encoder(saved, device="cpu", precision="float32")
    assert loaded.config == fresh.config
    assert loaded.sha256 == fresh.sha256 == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert (loaded.name, loaded.dim) == ("tiny", 16)
    x = np.random.default_rng(0).uniform(0, 0.5, (9, 12, 10)).astype(np.float32)
    np.testing.assert_array_equal(loaded.embed(x), fresh.embed(x))


def test_every_field_is_in_the_metadata_and_weights_are_plain_safetensors(fresh: Encoder, saved: Path) -> None:
    assert described(saved) == json.loads(fresh.config.model_dump_json())
    assert set(described(saved)) == set(type(fresh.config).model_fields)
    with safe_open(saved, "pt") as file:
        names = set(file.keys())
        assert torch.equal(file.get_tensor("class_token"), fresh.module.class_token)
    assert names == set(fresh.module.state_dict())


def test_same_encoder_same_bytes(fresh: Encoder, saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "deep" / "er" / "other.safetensors"
    assert save_encoder(fresh.module, other) == fresh.sha256
    assert other.read_bytes() == saved.read_bytes()


def test_failed_write_leaves_the_old_file_and_nothing_else(
    fresh: Encoder, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_encoder(new_encoder("small", seed=9), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_other_ending_is_refused(fresh: Encoder, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model.pt': an encoder is written as .safetensors"):
        save_encoder(fresh, tmp_path / "model.pt")


def test_missing_file_and_unknown_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not found" in refusal(tmp_path / "none.safetensors")
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    assert "is a folder" in refusal(folder)
    monkeypatch.setattr(checkpoint_module, "shipped_encoders", lambda: ("starter", "other"))
    message = refusal("strater")
    assert "'strater'" in message
    assert "starter, other" in message


def test_shipped_encoder_by_name(fresh: Encoder, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_module.resources, "files", lambda package: saved.parent)
    monkeypatch.chdir(tmp_path)
    Path("tiny").write_text("a file of that name in the working folder does not hide it")
    assert load_encoder("tiny").sha256 == fresh.sha256
    assert "is no .safetensors file" in refusal("./tiny")


def test_pickles_are_never_opened(fresh: Encoder, tmp_path: Path) -> None:
    for suffix in ("ckpt", "safetensors"):
        path = tmp_path / f"theirs.{suffix}"
        torch.save({"state_dict": fresh.module.state_dict()}, path)
        message = refusal(path)
        assert "PyTorch checkpoint (pickle)" in message
        assert "import-checkpoint" in message
    torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
    assert "pickle" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"abc", b"\x89HDF\r\n\x1a\n" + bytes(100), b"{}" * 50, bytes(64)])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert "is no .safetensors file" in refusal(path)


def test_truncated_at_any_place_is_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    header = struct.unpack("<Q", whole[:8])[0]
    for length in (12, 8 + header // 2, 8 + header, 8 + header + 100, len(whole) - 1):
        saved.write_bytes(whole[:length])
        assert "cut short" in refusal(saved)
    saved.write_bytes(whole + b"x")
    assert "damaged" in refusal(saved)


def test_foreign_safetensors_and_metadata(saved: Path) -> None:
    good = described(saved)
    rewrite(saved, {"format": "pt"})
    message = refusal(saved)
    assert "of another program" in message
    assert "import-checkpoint" in message
    rewrite(saved, {"timesenmap": "not json"})
    assert "is not a JSON object" in refusal(saved)
    rewrite(saved, {"timesenmap": json.dumps({**good, "format": 2})})
    assert "format 2, this version reads format 1: upgrade" in refusal(saved)
    rewrite(saved, {"timesenmap": json.dumps({**good, "colour": "red"})})
    assert "colour: Extra inputs are not permitted" in refusal(saved)
    rewrite(saved, {"timesenmap": json.dumps({**good, "bands": ["B02"]})})
    assert "low has 10 values for 1 bands" in refusal(saved)


def test_tensors_that_do_not_fit_the_description(saved: Path) -> None:
    metadata = {"timesenmap": json.dumps(described(saved))}
    whole = saved.read_bytes()
    cases: list[tuple[dict[str, torch.Tensor | None], str]] = [
        ({"layers__1__norm2__bias": None}, "1 missing, 0 unknown, such as layers.1.norm2.bias"),
        ({"extra": torch.ones(1)}, "0 missing, 1 unknown, such as extra"),
        ({"class_token": torch.ones(33)}, "class_token is torch.float32 (33,)"),
        ({"class_token": torch.ones(32, dtype=torch.float64)}, "class_token is torch.float64"),
        ({"class_token": torch.full((32,), torch.nan)}, "class_token holds NaN or infinity"),
    ]
    for tensors, expected in cases:
        saved.write_bytes(whole)
        rewrite(saved, metadata, **tensors)
        assert expected in refusal(saved)


def test_a_huge_description_is_refused_without_allocating_it(saved: Path) -> None:
    rewrite(saved, {"timesenmap": json.dumps({**described(saved), "width": 2**20, "depth": 1000})})
    assert "does not hold the weights its metadata describes" in refusal(saved)
