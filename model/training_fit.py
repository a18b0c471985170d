"""Run Lightning over a training module: checkpoints, logs, early stopping, resuming."""

import logging
import warnings
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
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


def _strategy(config: RunConfig) -> str:
    """Several devices get processes for the training alone: what comes before and after it happens once, here.

    CUDA cannot be used after a fork; on the CPU a fork spares the children the import that `ensure_torchvision` mends.
    """
    if config.devices == 1:
        return "auto"
    return "ddp_fork" if config.device == "cpu" or not torch.cuda.is_available() else "ddp_spawn"


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
    # After validation: what is saved then has this epoch's score, and the schedule's last step.
    when: dict[str, Any] = {
        "dirpath": checkpoints,
        "enable_version_counter": False,
        "save_on_train_epoch_end": False if validates else None,
    }
    # Two callbacks: the one's save_last writes last.ckpt only in epochs that are the best so far.
    callbacks: list[Callback] = [EpochLines()]
    if config.average:
        # Before the checkpoints, which then hold the average. The queue's buffers are no weights.
        callbacks.append(EMAWeightAveraging(decay=config.average, use_buffers=False))
    if validates:
        callbacks.append(ModelCheckpoint(filename="best", monitor=MONITORED, mode="max", **when))
    callbacks.append(ModelCheckpoint(filename="last", monitor=None, **when))
    if validates and config.patience:
        callbacks.append(EarlyStopping(MONITORED, mode="max", patience=config.patience))
    trainer = Trainer(
        accelerator={"cuda": "gpu"}.get(config.device, config.device),
        devices=config.devices,
        strategy=_strategy(config),
        use_distributed_sampler=False,  # the module deals the batches out itself, and each device validates on all
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
    epochs = int(torch.load(last, map_location="cpu", weights_only=True)["epoch"]) + 1
    best = checkpoints / "best.ckpt"
    kept = torch.load(best if validates and best.exists() else last, map_location="cpu", weights_only=True)
    module.load_state_dict(kept["state_dict"])
    return epochs, int(kept["epoch"]) + 1
