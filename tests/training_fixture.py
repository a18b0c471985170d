"""A small world to train on: captions, series of five kinds of land, configurations, and runs without a text tower."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from timesenmap.model.captions import CaptionTable, Labelled
from timesenmap.model.checkpoint import read_module
from timesenmap.model.series import SERIES_COLUMNS
from timesenmap.model.training_config import TrainingConfig, resolve_config
from timesenmap.model.training_data import CaptionPairs


def caption(landcover, *phrasings, **more):
    return {"kind": "land", "landcover": landcover, "phrasings": phrasings, "unseen": ("-",), **more}


TABLE = CaptionTable.model_validate({
    "templates": {"crop": ("{}",), "trees": ("{}",), "land": ("{}",)},
    "captions": {
        "cropland": caption("cropland", "fields"),
        "maize": caption("cropland", "maize plants", within=("cropland",)),
        "wheat": caption("cropland", "bread wheat", within=("cropland",)),
        "water": caption("water", "a lake"),
        "forest": caption("forest", "woodland"),
    },
    "sources": {
        "north": {"about": "x", "labels": {"M": "maize", "W": "wheat", "L": "water", "?": {"drop": "unknown"}}},
        "south": {"about": "x", "labels": {"F": "forest", "C": "cropland"}},
        "simulated": {"about": "x", "labels": {"F": "forest", "W": "wheat"}},
    },
})  # fmt: skip


def make_series(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Series of five kinds of land that differ by season and band, at places a cell each."""
    rng = np.random.default_rng(seed)
    kinds = ["M", "W", "L", "F", "C"]
    labels = rng.choice(kinds, rows)
    months = np.arange(12)
    season = {"M": 8, "W": 2, "L": 0, "F": 6, "C": 5}
    values = np.empty((rows, 12, 10), np.float32)
    for row, label in enumerate(labels):
        length = 30 if label == "F" else 2.0
        green = np.exp(-(((months - season[label]) / length) ** 2)) * (0 if label == "L" else 0.4)
        base = 0.03 if label == "L" else 0.1
        values[row] = base + green[:, None] * np.linspace(0.1, 1.0, 10) + rng.normal(0, 0.01, (12, 10))
    frame = pd.DataFrame(np.maximum(values, 0.001).reshape(rows, -1), columns=list(SERIES_COLUMNS))
    frame["label"] = labels
    frame["dataset"] = np.where(np.isin(labels, ["F", "C"]), "south", "north")
    frame["sample_id"] = np.arange(rows).astype(str)
    frame["lon"] = rng.uniform(0, 5, rows)
    frame["lat"] = rng.uniform(40, 45, rows)
    frame["level"] = "L2A"
    return frame


def make_config(folder: Path, **changes) -> TrainingConfig:
    values = {
        "series": (folder / "series.parquet",),
        "out": folder / "tiny.safetensors",
        "encoder": {"width": 16, "heads": 2, "depth": 1, "feedforward": 16},
        "epochs": 4, "warmup_epochs": 1, "batch": 64, "learning_rate": 3e-3, "queue": 100, "threads": 1,
        "device": "cpu", "hiding": {"months": 0.3, "bands": 0.3, "borrowed": 0.3, "filled": 0.3},
        "split": {"validation": 0.2, "test": 0.2},
    }  # fmt: skip
    return resolve_config(None, {**values, **changes})


@pytest.fixture
def files(tmp_path) -> Path:
    make_series().to_parquet(tmp_path / "series.parquet")
    return tmp_path


def pairs_of(frame, config, seed=0) -> CaptionPairs:
    rng = np.random.default_rng(seed)
    names = {"M": "maize", "W": "wheat", "L": "water", "F": "forest", "C": "cropland"}
    numbers = np.array([TABLE.numbers[names[label]] for label in frame["label"]])
    labelled = Labelled(numbers, TABLE.landcover[numbers], {})
    vectors: dict[str, np.ndarray] = {}

    def embed(texts):
        for text in texts:
            vectors.setdefault(text, rng.normal(size=8).astype(np.float32))
        return np.stack([vectors[text] for text in texts])

    values = frame[list(SERIES_COLUMNS)].to_numpy(np.float32).reshape(-1, 12, 10)
    return CaptionPairs(values, labelled, frame["dataset"].to_numpy(str), TABLE, embed, config)


# Whole runs: the text tower is replaced by fixed random vectors, so that no model is loaded.


@pytest.fixture
def words(monkeypatch):
    def embed(texts, spec):
        vectors = np.stack([np.random.default_rng(list(text.encode())).normal(size=384) for text in texts])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    monkeypatch.setattr("timesenmap.model.training.embed_texts", embed)


@pytest.fixture
def train(words):
    from timesenmap.model.training import train as run

    def trained(config, **options):
        return run(config, captions=TABLE, **options)

    return trained


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return read_module(path)[0].state_dict()
