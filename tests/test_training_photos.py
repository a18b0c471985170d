"""Training on photos: pairs, pooling, whole tiny runs, and what is refused."""

import json
import warnings

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from test_photos import prepared as prepared_photos

from timesenmap.model.checkpoint import read_module
from timesenmap.model.encoder import load_encoder
from timesenmap.model.errors import ModelError
from timesenmap.model.lucas import DIRECTIONS, photo_key
from timesenmap.model.photo_pairs import PhotoPairs, encoder_input
from timesenmap.model.photos import PhotoEmbeddings
from timesenmap.model.pooling import AttentionPooling
from timesenmap.model.shards import Manifest, PreparedRows, Shard
from timesenmap.model.training_config import PhotoTrainingConfig, resolve_config
from timesenmap.model.training_photos import train_photos
from timesenmap.workflows.train_encoder import main

TOWER = "open_clip:a/b"
PLACES, DIM = 60, 16


def number(index):
    return f"{4000 + 20 * index}3000"


def write_crops(folder, image, *, lc1="E20"):
    count = len(image)
    manifest = Manifest.resume_or_start(folder, {"kind": "crops", "shards": 2})
    for shard, rows in enumerate(np.array_split(np.arange(count), 2)):
        columns = {"number": [number(i) for i in rows], "country": ["DE"] * len(rows), "lc1": [lc1] * len(rows)}
        columns |= {name: [""] * len(rows) for name in ("lu1", "bioregion", "habitat")}
        lonlat = np.column_stack([rows * 0.25, np.full(len(rows), 50.0)])
        manifest.add(shard, Shard({"image": image[rows], "lonlat": lonlat}, columns))
    return folder


@pytest.fixture
def data(tmp_path):
    """Places whose photos follow their series; the first has two photos, the second none."""
    rng = np.random.default_rng(0)
    image = rng.integers(300, 4000, (PLACES, 12, 10, 5, 5)).astype(np.uint16)
    image[3, 4] = 0
    vectors = rng.normal(size=(PLACES, 4, DIM)) * 0.3 + rng.normal(size=(PLACES, 1, DIM))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    keys = [photo_key("DE", number(i), direction) for i in range(PLACES) for direction in DIRECTIONS]
    kept = [k for k in range(len(keys)) if k not in (0, 2, 4, 5, 6, 7)]
    write_crops(tmp_path / "crops", image)
    prepared_photos(tmp_path / "photos", [keys[k] for k in kept], vectors.reshape(-1, DIM)[kept], tower=TOWER)
    return tmp_path, image, vectors


def config(folder, **changes) -> PhotoTrainingConfig:
    encoder = {"width": 16, "heads": 2, "depth": 1, "feedforward": 16, "embedding": DIM, "text_tower": TOWER}
    values = {
        "targets": "photos", "crops": (folder / "crops",), "photos": (folder / "photos",),
        "out": str(folder / "out.safetensors"), "size": "small", "encoder": encoder | changes.pop("encoder", {}),
        "epochs": 4, "warmup_epochs": 1, "batch": 16, "learning_rate": 3e-3, "queue": 40, "threads": 1,
        "device": "cpu", "validation_prompts": None, "split": {"validation": 0, "test": 0},
    }  # fmt: skip
    file = folder / "config.json"  # a file, not flags: flags cannot say null
    file.write_text(json.dumps({**values, **changes}, default=str))
    resolved = resolve_config(file, {})
    assert isinstance(resolved, PhotoTrainingConfig)
    return resolved


def pairs_of(folder, **changes):
    crops = PreparedRows([folder / "crops"], kind="crops")
    photos = PhotoEmbeddings([folder / "photos"])
    return PhotoPairs.of(crops, photos, np.arange(PLACES), config(folder, **changes))


def test_pairs_are_a_place_and_the_mean_of_its_photos(data):
    folder, image, vectors = data
    pairs, without = pairs_of(folder)
    assert without == 1
    np.testing.assert_array_equal(pairs.places, [0, *range(2, PLACES)])
    rows = np.array([0, 2, 5])
    batch = pairs.batch(rows, np.random.default_rng(0))
    places = pairs.places[rows]
    expected = image[places][..., 2, 2] / 10_000.0
    expected[places == 3, 4] = np.nan
    np.testing.assert_allclose(batch.reflectance, expected, rtol=1e-6)
    assert (batch.group == -1).all()
    means = np.stack([vectors[0, [1, 3]].mean(0), *vectors[places[1:]].mean(1)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert ((batch.targets.numpy() * means).sum(1) > 1 - 1e-5).all()


def test_one_random_photo_is_one_of_the_places_own(data):
    folder, _, vectors = data
    pairs, _ = pairs_of(folder, pooling="random")
    drawn = set()
    for seed in range(40):
        targets = pairs.batch(np.array([0, 7]), np.random.default_rng(seed)).targets.numpy()
        near = targets @ vectors[[0, 8]].transpose(0, 2, 1)  # (place, target, photo)
        drawn |= {(place, int(near[place, place].argmax())) for place in (0, 1)}
        assert (near[[0, 1], [0, 1]].max(1) > 1 - 1e-5).all()
    assert drawn == {(0, 1), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3)}


def test_attention_pools_in_training_and_starts_as_the_mean(data):
    folder, _, _ = data
    photos = pairs_of(folder, pooling="attention")[0].batch(np.arange(4), np.random.default_rng(0)).targets
    assert photos.shape == (4, 4, DIM)
    pooling = AttentionPooling(DIM)
    mean = pairs_of(folder)[0].batch(np.arange(4), np.random.default_rng(0)).targets
    torch.testing.assert_close(pooling(photos), mean, atol=1e-5, rtol=0)
    torch.nn.init.normal_(pooling.score.weight, generator=torch.Generator().manual_seed(0))
    for pooled, four in zip(pooling(photos).detach().numpy(), photos.numpy(), strict=True):
        there = four[np.abs(four).sum(1) > 0]
        weights = np.exp(there @ pooling.score.weight.detach().numpy()[0])
        expected = (weights / weights.sum()) @ there
        np.testing.assert_allclose(pooled, expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.parametrize(("patch", "months"), [(5, 12), (1, 4), (1, 1)])
def test_input_is_cut_and_composited_for_the_encoder(data, patch, months):
    folder, image, _ = data
    crops = PreparedRows([folder / "crops"], kind="crops")
    bands = ["B08", "B02"]
    encoder = config(folder, encoder={"patch": patch, "months": months, "bands": bands}).encoder_config
    found = encoder_input(crops, np.array([9, 3]), encoder)
    window = slice(2 - patch // 2, 3 + patch // 2)
    years = np.where(image > 0, image / 10_000.0, np.nan)[[9, 3]][:, :, [6, 0], window, window]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, of the month without observation
        expected = np.nanmedian(years.reshape(2, months, 12 // months, 2, patch, patch), axis=2)
    np.testing.assert_allclose(found, expected[..., 0, 0] if patch == 1 else expected, rtol=1e-5)


def test_noise_and_spectral_dropout_reach_every_pixel_of_a_patch(data):
    folder, image, _ = data
    crops, encoder = PreparedRows([folder / "crops"], kind="crops"), config(folder, encoder={"patch": 5}).encoder_config
    plain = encoder_input(crops, np.arange(2, 30), encoder)
    batch = pairs_of(folder, encoder={"patch": 5}, hiding={"spectral": 0.4})[0].batch(
        np.arange(1, 29), np.random.default_rng(0)
    )
    hidden = np.isnan(batch.reflectance.numpy()) & ~np.isnan(plain)
    per_band = hidden.reshape(28, 12, 10, 25)
    observed = ~np.isnan(plain).reshape(28, 12, 10, 25)
    np.testing.assert_array_equal(per_band, per_band.any((1, 3), keepdims=True) & observed)  # bands go as a whole
    assert 0.25 < per_band.any((1, 3)).mean() < 0.55
    assert not per_band.any((1, 3)).all(1).any()
    np.testing.assert_array_equal(batch.reflectance.numpy()[~hidden], plain[~hidden])
    noisy = pairs_of(folder, encoder={"patch": 5}, noise={"brightness": 0.3})[0]
    factor = noisy.batch(np.arange(1, 29), np.random.default_rng(0)).reflectance.numpy() / plain
    spread = np.nanstd(np.nanmean(factor, axis=(1, 2, 3, 4)))
    assert 0.1 < spread < 0.6


@pytest.mark.parametrize("pooling", ["mean", "random", "attention"])
def test_a_run_learns_and_writes_an_encoder(data, pooling):
    folder, _, _ = data
    result = train_photos(config(folder, pooling=pooling, epochs=30, encoder={"patch": 5}))
    losses = [
        float(line.split(",")[column])
        for lines in [(folder / "out.training" / "logs" / "version_0" / "metrics.csv").read_text().splitlines()]
        for column in [lines[0].split(",").index("train/loss")]
        for line in lines[1:]
        if line.split(",")[column]
    ]
    assert losses[-1] < losses[2] - 0.1
    assert result.report["counts"] == {"train": PLACES - 1, "without a photo": 1, "validation": 0}
    encoder = load_encoder(folder / "out.safetensors", device="cpu")
    assert encoder.config.text_tower == TOWER
    assert encoder.config.training_data.startswith(f"photos ({pooling}) of 59 places: crops (")
    assert json.loads((folder / "out.training" / "report.json").read_text())["encoder"]["sha256"] == result.sha256


def test_a_stopped_run_ends_with_the_weights_of_one_left_alone(data, monkeypatch):
    folder, _, _ = data
    whole = train_photos(config(folder, pooling="attention", out=folder / "whole.safetensors"))
    stopping = config(folder, pooling="attention", out=folder / "cut.safetensors")
    made = []
    original = PhotoPairs.batch

    def interrupted(self, rows, rng):
        made.append(1)
        if len(made) == 7:  # in the second epoch
            raise RuntimeError("power cut")
        return original(self, rows, rng)

    monkeypatch.setattr(PhotoPairs, "batch", interrupted)
    with pytest.raises(RuntimeError, match="power cut"):
        train_photos(stopping)
    monkeypatch.setattr(PhotoPairs, "batch", original)
    resumed = train_photos(stopping, resume=True)
    assert resumed.epochs == whole.epochs == (4, 4)
    first, second = (read_module(folder / f"{name}.safetensors")[0].state_dict() for name in ("whole", "cut"))
    for name, weights in first.items():
        assert torch.equal(weights, second[name]), name
    again = train_photos(stopping, resume=True)  # finished: only read again
    assert again.sha256 == resumed.sha256
    assert len(made) == 7


def test_what_cannot_be_trained_on_is_named(data):
    folder, _, _ = data
    for changes, words in (
        ({"encoder": {"patch": 9}}, r"takes 9 x 9 pixels, the crops have 5 x 5: prepare them with --patch 9"),
        ({"encoder": {"text_tower": "open_clip:c/d"}}, "embedded by 'open_clip:a/b' .* 'open_clip:c/d'"),
        ({"encoder": {"embedding": 32}}, r"\(16 numbers\).*\(32\)"),
        (
            {"validation_prompts": "crops", "split": {"validation": 0.5}},
            "no place to validate on is a class of 'crops'",
        ),
        ({"validation_prompts": "land-cover", "validation_labels": "colour"}, "validation_labels 'colour': choose"),
        ({"crops": (folder / "photos",)}, "holds photos, not crops"),
    ):
        with pytest.raises(ModelError, match=words):
            train_photos(config(folder, **changes))
    for changes, words in (
        ({"hiding": {"months": 0.5}}, "are for captions"),
        ({"series": ("a.parquet",)}, "series: Extra inputs"),
        ({"pooling": "max"}, "pooling: Input should be"),
        ({"photos": ()}, "photos: Tuple should have at least 1 item"),
    ):
        with pytest.raises(ModelError, match=words):
            config(folder, **changes)
    write_crops(folder / "elsewhere", np.ones((PLACES, 12, 10, 1, 1), np.uint16))
    manifest = Manifest.resume_or_start(folder / "others", {"kind": "photos", "shards": 1, "tower": TOWER, "dim": DIM})
    manifest.add(0, Shard({"embedding": np.eye(DIM, dtype=np.float16)[:1]}, {"key": ["FR_99999999N"]}))
    with pytest.raises(ModelError, match="no place has a photo"):
        train_photos(config(folder, photos=(folder / "others",)))


def test_the_command_trains_on_photos(data):
    folder, _, _ = data
    file = folder / "run.yaml"
    encoder = {"width": 16, "heads": 2, "depth": 1, "feedforward": 16, "embedding": DIM, "text_tower": TOWER}
    file.write_text(json.dumps({
        "targets": "photos", "size": "small", "encoder": encoder, "warmup_epochs": 1, "queue": 40,
        "validation_prompts": None, "photos": [str(folder / "photos")],
    }))  # fmt: skip
    arguments = ["--config", str(file), "--crops", str(folder / "crops"), "--out", str(folder / "c.safetensors")]
    arguments += ["--epochs", "2", "--batch", "16", "--device", "cpu", "--threads", "1"]
    run = CliRunner().invoke(main, arguments)
    assert run.exit_code == 0, run.output
    assert load_encoder(folder / "c.safetensors", device="cpu").name == "c"
    run = CliRunner().invoke(main, [*arguments, "--show-config"])
    assert "pooling: mean" in run.stdout
    run = CliRunner().invoke(main, arguments)
    assert run.exit_code == 2
    assert "holds another run" in run.stderr
