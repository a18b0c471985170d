"""Run Lightning over a training module: checkpoints, logs, early stopping, resuming."""

import logging
import warnings
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from timesenmap.model.training_config import RunConfig
from timesenmap.model.training_module import MONITORED, TrainingModule

log = logging.getLogger(__name__)


class EpochLines(Callback):
    """A log line an epoch, for runs that are not watched."""

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Log the scores."""
        numbers = {name: float(value) for name, value in trainer.callback_metrics.items()}
        scores = ", ".join(f"{name} {value:.4f}" for name, value in sorted(numbers.items()))
        log.info("epoch %d/%d: %s", pl_module.current_epoch + 1, trainer.max_epochs, scores)


def fit(module: TrainingModule, config: RunConfig, *, resume: bool, progress: bool) -> tuple[int, int]:
    """Train ``module`` and leave the best epoch's weights in it (the last's without validation series).

    Checkpoints are written after every epoch; a killed run resumes from the last whole epoch to the same
    weights as one left alone (same seed and machine, CPU).

    Returns
    -------
    epochs trained, epoch of the weights (from 1).
    """
    validates = len(module.held_out) > 0
    checkpoints = config.folder / "checkpoints"
    keep = ModelCheckpoint(
        dirpath=checkpoints,
        filename="best",
        monitor=MONITORED if validates else None,
        mode="max",
        save_last=True,
        enable_version_counter=False,
        # After validation: what is saved then has this epoch's score, and the schedule's last step.
        save_on_train_epoch_end=False if validates else None,
    )
    callbacks: list[Callback] = [keep, EpochLines()]
    if validates and config.patience:
        callbacks.append(EarlyStopping(MONITORED, mode="max", patience=config.patience))
    trainer = Trainer(
        accelerator={"cuda": "gpu"}.get(config.device, config.device),
        devices=1,
        precision=config.precision,
        max_epochs=config.epochs,
        gradient_clip_val=config.clip_gradient,
        callbacks=callbacks,
        logger=CSVLogger(config.folder, name="logs"),
        default_root_dir=config.folder,
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=None if validates else 0,
        reload_dataloaders_every_n_epochs=1,
        log_every_n_steps=1,
    )
    last = checkpoints / "last.ckpt"
    with warnings.catch_warnings():
        # Batches are made by the trainer's own process on purpose (workers: 0): they are cheap NumPy.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*deprecated.*")  # Lightning's own business
        # A resumed run finds its own checkpoints there; another run's folder was refused before.
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        trainer.fit(module, ckpt_path=str(last) if resume and last.exists() else None, weights_only=True)
    best = checkpoints / "best.ckpt"
    if not validates or not best.exists():
        return trainer.current_epoch, trainer.current_epoch
    kept = torch.load(best, map_location="cpu", weights_only=True)
    module.load_state_dict(kept["state_dict"])
    return trainer.current_epoch, int(kept["epoch"]) + 1
