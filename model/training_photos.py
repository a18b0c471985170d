"""Training as in the paper: from prepared crops and photo embeddings to a ``.safetensors``.

Source: Jain et al. 2026, ISPRS J. 236:99-119.
"""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from timesenmap.model.architecture import TimeSenCLIP
from timesenmap.model.captions import UNLABELLED, Labelled
from timesenmap.model.encoder import Encoder
from timesenmap.model.errors import ModelError
from timesenmap.model.photo_pairs import PhotoPairs, encoder_input
from timesenmap.model.photos import PhotoEmbeddings
from timesenmap.model.pooling import AttentionPooling
from timesenmap.model.prepare import label_names
from timesenmap.model.prompts import class_embeddings, load_prompt_set
from timesenmap.model.series import Split, spatial_cells, split_by_group
from timesenmap.model.shards import MANIFEST, PreparedRows
from timesenmap.model.training import (
    TrainingResult,
    deliver,
    first_network,
    import_fit,
    prepare_folder,
    training_module,
)
from timesenmap.model.training_config import PhotoTrainingConfig
from timesenmap.model.training_data import Floats, Ints
from timesenmap.model.training_scores import Question, accuracy, calibrated_temperature, mean_class_accuracy, question
from timesenmap.model.zero_shot import match_labels

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOutPlaces:
    """Places the run chooses its weights by.

    Attributes
    ----------
    reflectance
        As the encoder takes it, (n, months, bands[, patch, patch]).
    truth
        int64 (n,): class in the prompt set.
    vectors
        (classes, d): of the prompt set, from the encoder's tower.
    """

    reflectance: Floats
    truth: Ints
    vectors: Floats

    @property
    def labelled(self) -> Labelled:
        """The truth, as the training module takes it."""
        return Labelled(caption=self.truth, landcover=self.truth, dropped={})

    @property
    def asked(self) -> Question:
        """All classes asked of every place."""
        return question(self.truth, np.arange(len(self.vectors)))


def train_photos(config: PhotoTrainingConfig, *, resume: bool = False, progress: bool = False) -> TrainingResult:
    """Train an encoder on photos, calibrate and write it.

    Parameters
    ----------
    config
        The run.
    resume
        Go on from the run folder's last checkpoint; without one, start.
    progress
        Show a progress bar.

    Raises
    ------
    ModelError
        Bad data or configuration, a run folder already in use, the extra ``train`` not installed.
    """
    fit = import_fit()
    if config.threads:
        torch.set_num_threads(config.threads)
    crops, photos = PreparedRows(config.crops, kind="crops"), PhotoEmbeddings(config.photos)
    sides = _sides(crops, config)
    pairs, without = PhotoPairs.of(crops, photos, np.flatnonzero(sides.train), config)
    held_out = _held_out(crops, sides, config)
    counts = {"train": len(pairs.places), "without a photo": without, "validation": len(held_out.truth)}
    hashes = {str(path.name): _hash(path) for path in (*config.crops, *config.photos, *config.validation)}
    network, begun = first_network(config)
    prepare_folder(config, hashes | begun, resume=resume)
    module = training_module(
        config,
        network,
        pairs,
        held_out=held_out.reflectance,
        labelled=held_out.labelled,
        vectors=held_out.vectors,
        finest=np.arange(len(held_out.vectors)),
        pooling=AttentionPooling(photos.dim) if config.pooling == "attention" else None,
    )
    log.info("training on %d places, validating on %d", counts["train"], counts["validation"])
    epochs = fit(module, config, resume=resume, progress=progress)

    report: dict[str, Any] = {"counts": counts, "data": hashes, "temperature": config.temperature}
    if counts["validation"]:
        report |= _scores(network, held_out)
    files = ", ".join(f"{name} ({digest[:12]})" for name, digest in hashes.items())
    training_data = f"photos ({config.pooling}) of {counts['train']} places: {files}"
    return deliver(network, config, report, training_data=training_data, begun=begun, epochs=epochs)


def _sides(crops: PreparedRows, config: PhotoTrainingConfig) -> Split:
    """Which places train and validate: cells apart, unless places to validate on are named."""
    if config.validation:
        every = np.ones(len(crops), bool)
        return Split(train=every, validation=~every, test=~every)
    frame = crops.frame.assign(dataset="sen4map", sample_id=crops.frame["number"])
    lonlat = crops.read("lonlat", np.arange(len(crops)))
    frame = frame.assign(lon=lonlat[:, 0], lat=lonlat[:, 1])
    split = config.split
    cells = spatial_cells(frame, size=split.cell)
    sides = split_by_group(cells, validation=split.validation, test=split.test, seed=split.seed)
    if not sides.train.any():
        raise ModelError("no place is left to train on: lower split.validation or split.test")
    return sides


def _held_out(crops: PreparedRows, sides: Split, config: PhotoTrainingConfig) -> HeldOutPlaces:
    encoder = config.encoder_config
    if config.validation_prompts is None:
        empty = encoder_input(crops, np.empty(0, np.int64), encoder)
        return HeldOutPlaces(empty, np.empty(0, np.int64), np.empty((0, encoder.embedding), np.float32))
    if config.validation:
        crops = PreparedRows(config.validation, kind="crops")
        rows = np.arange(len(crops))
    else:
        rows = np.flatnonzero(sides.validation)
    prompt_set = load_prompt_set(config.validation_prompts)
    names = label_names(crops)
    if config.validation_labels not in names.columns:
        raise ModelError(
            f"validation_labels '{config.validation_labels}': choose one of {', '.join(map(str, names.columns))}"
        )
    truth = match_labels(names[config.validation_labels], prompt_set).index
    rows = rows[truth[rows] != UNLABELLED]
    if not len(rows):
        raise ModelError(
            f"no place to validate on is a class of '{config.validation_prompts}' by its {config.validation_labels}: "
            "name another set or label, raise split.validation, or set validation_prompts to null"
        )
    if len(rows) > config.validation_rows:
        rows = np.sort(np.random.default_rng([config.seed, 3]).choice(rows, config.validation_rows, replace=False))
    vectors = class_embeddings(prompt_set, encoder.text_tower)
    return HeldOutPlaces(encoder_input(crops, rows, encoder), truth[rows], vectors)


def _scores(network: TimeSenCLIP, held_out: HeldOutPlaces) -> dict[str, Any]:
    """Calibrated temperature and accuracies on the held-out places."""
    embedded = Encoder(network, device="cpu", precision="float32").embed(held_out.reflectance)
    _, inverse, sizes = np.unique(held_out.truth, return_inverse=True, return_counts=True)
    weights = sizes[inverse].astype(np.float64) ** -0.5
    asked = held_out.asked
    return {
        "temperature": calibrated_temperature(embedded, held_out.vectors, {"classes": [asked]}, weights=weights),
        "validation": {
            "rows": len(held_out.truth),
            "options": len(held_out.vectors),
            "accuracy": accuracy(embedded, held_out.vectors, asked),
            "mean_class_accuracy": mean_class_accuracy(embedded, held_out.vectors, asked),
        },
    }


def _hash(folder: Path) -> str:
    """Hash of prepared data: its manifest holds the hashes of the shards."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
