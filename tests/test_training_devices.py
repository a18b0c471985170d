"""Training on several devices is training on one: the same batches, negatives, queue and gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch

from timesenmap.model.architecture import TimeSenCLIP
from timesenmap.model.captions import Labelled
from timesenmap.model.config import config_of_size
from timesenmap.model.training import import_fit, training_module
from timesenmap.model.training_config import RunConfig, TrainingConfig
from timesenmap.model.training_data import EpochBatches, PairBatch

PLACES, WORDS = 101, 12


class Places:
    """Series and targets that follow from the place's number alone; two places of three share a target."""

    def __init__(self) -> None:
        rng = np.random.default_rng(4)
        self.reflectance = rng.random((PLACES, 12, 10), np.float32)
        vectors = rng.standard_normal((WORDS, 16)).astype(np.float32)
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    @property
    def weights(self) -> np.ndarray:
        return np.ones(PLACES)

    @property
    def spared(self) -> np.ndarray:
        return np.eye(WORDS, dtype=bool)

    @property
    def distractors(self) -> None:
        return

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> PairBatch:
        words = rows % WORDS
        return PairBatch(
            torch.from_numpy(self.reflectance[rows]), torch.from_numpy(self.vectors[words]), torch.from_numpy(words)
        )


def _config(folder: Path, devices: int) -> RunConfig:
    return TrainingConfig(
        series=(folder / "none.parquet",),
        out=folder / "encoder.safetensors",
        encoder={"width": 16, "depth": 1, "heads": 2, "feedforward": 16, "embedding": 16},
        dropout=0,
        epochs=2,
        warmup_epochs=0,
        batch=28,  # 101 places: the last batch has 17, of which one device gets 9 and the other 8
        learning_rate=3e-3,
        queue=40,
        device="cpu",
        devices=devices,
        threads=1,
    )


def _trained(folder: Path, devices: int) -> dict[str, torch.Tensor]:
    config = _config(folder, devices)
    torch.manual_seed(0)
    encoder = TimeSenCLIP(config_of_size("small", **{"name": "tiny", **config.encoder}))
    places = Places()
    nothing = Labelled(np.empty(0, np.int64), np.empty(0, np.int64), {})
    fit = import_fit()
    module = training_module(
        config,
        encoder,
        places,
        held_out=np.empty((0, 12, 10), np.float32),
        labelled=nothing,
        vectors=places.vectors,
        finest=np.arange(WORDS),
    )
    # Plain gradient descent: AdamW's first steps are signs of gradients, and the sign of a rounding error is chance.
    descent = {"configure_optimizers": lambda self: torch.optim.SGD(self.parameters(), 0.1)}
    module.__class__ = type("Descending", (type(module),), descent)
    assert fit(module, config, resume=False, progress=False) == (2, 2)
    return module.state_dict()


def test_two_devices_end_with_the_weights_and_the_queue_of_one(tmp_path: Path) -> None:
    one, two = _trained(tmp_path / "one", 1), _trained(tmp_path / "two", 2)
    assert one.keys() == two.keys()
    moved = False
    for name, tensor in one.items():
        torch.testing.assert_close(
            two[name], tensor, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
        moved |= "in_proj_weight" in name
    assert moved
    assert one["queue.groups"].tolist() == two["queue.groups"].tolist()
    assert int(one["queue.seen"]) == int(two["queue.seen"]) == 2 * PLACES


@pytest.mark.parametrize("devices", [2, 3])
def test_devices_share_each_batch_without_overlap(devices: int) -> None:
    options = {"samples": PLACES, "batch": 28, "seed": 0, "epoch": 0}
    alone = EpochBatches(Places(), **options)
    parts = [EpochBatches(Places(), **options, part=(which, devices)) for which in range(devices)]
    for number in range(len(alone)):
        dealt = torch.cat([part[number].reflectance for part in parts])
        whole = alone[number].reflectance
        assert len(dealt) == len(whole)
        assert {tuple(row) for row in dealt.flatten(1).tolist()} == {tuple(row) for row in whole.flatten(1).tolist()}


def test_a_last_batch_too_small_for_all_devices_is_left_out() -> None:
    options = {"samples": 57, "batch": 28, "seed": 0, "epoch": 0}
    assert len(EpochBatches(Places(), **options)) == 3
    assert [len(EpochBatches(Places(), **options, part=(which, 2))) for which in (0, 1)] == [2, 2]


def test_more_devices_than_a_batch_can_feed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch 28 leaves less than two for each of 15 devices"):
        _config(tmp_path, 15)
