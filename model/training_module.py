"""The Lightning module of a training run; imported only where training happens (extra ``train``)."""

import math
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from timesenmap.model.architecture import TimeSenCLIP
from timesenmap.model.captions import Labelled
from timesenmap.model.gathering import gathered, undealt
from timesenmap.model.losses import Scale, TargetQueue, info_nce, soft_cross_entropy
from timesenmap.model.masking import draw_masking
from timesenmap.model.pooling import AttentionPooling
from timesenmap.model.teachers import Lessons
from timesenmap.model.training_config import RunConfig, TeacherConfig, TrainingConfig
from timesenmap.model.training_data import EpochBatches, Floats, Ints, PairBatch, Pairs, with_noise
from timesenmap.model.training_scores import accuracy, mean_class_accuracy, question

MONITORED = "validation/score"


class HeldOut(Dataset[Tensor]):
    """Series to validate on, in batches of fixed order."""

    def __init__(self, reflectance: Floats, batch: int) -> None:
        self.reflectance = reflectance
        self.batch = batch

    def __len__(self) -> int:
        return math.ceil(len(self.reflectance) / self.batch)

    def __getitem__(self, number: int) -> Tensor:
        if number >= len(self):
            raise IndexError(number)
        return torch.from_numpy(self.reflectance[number * self.batch : (number + 1) * self.batch])


def learning_rate_factor(step: int, *, warmup: int, total: int) -> float:
    """Linear warm-up to 1 over ``warmup`` steps, then a cosine to 0 at ``total``."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class TrainingModule(LightningModule):
    """An encoder with its loss, queue and validation.

    Everything random within a step (dropout, masking) is seeded from seed, epoch and batch number, so that a
    resumed run repeats what the uninterrupted one does.

    Parameters
    ----------
    config
        Of the run.
    encoder
        The network to train.
    pairs
        Where training batches come from.
    held_out, labelled, vectors, finest
        Validation series (n, 12, bands), their captions, the unit vectors (captions, d) of all captions and
        the numbers of those asked together.
    pooling
        What makes one target of several photos, trained along; only for pairs whose targets are (B, photos, d).
    """

    spared: Tensor | None
    distractors: Tensor

    def __init__(
        self,
        config: RunConfig,
        encoder: TimeSenCLIP,
        pairs: Pairs,
        *,
        held_out: Floats,
        labelled: Labelled,
        vectors: Floats,
        finest: Ints,
        pooling: AttentionPooling | None = None,
    ) -> None:
        super().__init__()
        self.run = config
        self.encoder = encoder
        # A trained encoder has a temperature, near which a learnt one is to begin.
        begins = encoder.config.temperature if config.start and config.learn_temperature else config.temperature
        self.scale = Scale(begins, learn=config.learn_temperature)
        self.queue = TargetQueue(config.queue, encoder.config.embedding)
        self.pairs = pairs
        self.held_out = held_out
        self.labelled = labelled
        self.vectors = vectors
        self.finest = finest
        self.pooling = pooling
        self.lessons: Lessons | None = None
        self.teacher = TeacherConfig()
        self.samples = config.samples or len(pairs.weights)
        spared = pairs.spared
        self.register_buffer("spared", None if spared is None else torch.from_numpy(spared), persistent=False)
        away = pairs.distractors
        away = np.empty((0, encoder.config.embedding), np.float32) if away is None else away
        self.register_buffer("distractors", torch.from_numpy(away), persistent=False)
        self._embedded: list[Tensor] = []

    def begin_lessons(self, run: TrainingConfig, lessons: Lessons) -> None:
        """Go on as another run, in which series with soft labels of the captions count as its teacher says."""
        self.run, self.lessons, self.teacher = run, lessons, run.teacher

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Batches of the current epoch; Lightning asks anew before each."""
        batches = EpochBatches(
            self.pairs,
            samples=self.samples,
            batch=self.run.batch,
            seed=self.run.seed,
            epoch=self.current_epoch,
            part=(self.global_rank, self.trainer.world_size),
        )
        return DataLoader(batches, batch_size=None, num_workers=self.run.workers)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Validation series."""
        return DataLoader(HeldOut(self.held_out, self.run.batch), batch_size=None)

    def excluded(self, group: Tensor, others: Tensor) -> Tensor | None:
        """(B, B + O) bool: targets of this batch (B,) and of others (O,) that do not count against an anchor."""
        if self.spared is None:
            return None
        groups = torch.cat([group, others])
        known = (group >= 0)[:, None] & (groups >= 0)[None, :]
        return self.spared[group.clamp(min=0)[:, None], groups.clamp(min=0)[None, :]] & known

    def on_train_batch_start(self, batch: PairBatch, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Seed what the step draws."""
        rank = [self.global_rank] if self.trainer.world_size > 1 else []
        seeds = np.random.SeedSequence([self.run.seed, self.current_epoch, batch_idx, *rank])
        torch.manual_seed(int(seeds.generate_state(1)[0]))

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        rng = np.random.default_rng([self.run.seed, self.current_epoch, batch_idx, 1])
        masking = draw_masking(rng, share=self.run.hiding.temporal, frames=batch.reflectance.shape[1])
        anchors = self.encoder(batch.reflectance, masking=masking)
        targets = batch.targets if self.pooling is None else self.pooling(batch.targets)
        parts = gathered(targets.detach(), batch.group)
        # The other devices' targets are negatives as well, as they would be in one batch.
        others = [part for rank, part in enumerate(parts) if rank != self.global_rank]
        held, held_groups = self.queue.held()
        negatives = torch.cat([*(part.targets for part in others), held.to(targets), self.distractors.to(targets)])
        unlike = held_groups.new_full((len(self.distractors),), -1)
        groups = torch.cat([*(part.groups for part in others), held_groups, unlike])
        loss = info_nce(anchors, targets, self.scale(), queue=negatives, excluded=self.excluded(batch.group, groups))
        whole = undealt(parts)
        self.queue.push(*whole)  # the same on every device
        # Lightning averages gradients over the devices: a part counts by its rows.
        loss = loss * (len(anchors) * len(parts) / len(whole.groups))
        if self.lessons is not None:
            loss = loss + self.teacher.weight * self._taught(self.lessons, batch_idx)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(anchors))
        return loss

    def _taught(self, lessons: Lessons, batch_idx: int) -> Tensor:
        """Loss of some lessons: whole series, each device's own."""
        rng = np.random.default_rng([self.run.seed, self.current_epoch, batch_idx, 2, self.global_rank])
        drawn = lessons.draw(self.teacher.batch, rng)
        varied = with_noise(drawn.reflectance, self.run.noise, rng)
        series, probability, words = (
            torch.from_numpy(values).to(self.device) for values in (varied, drawn.probability, drawn.words)
        )
        return soft_cross_entropy(self.encoder(series), words, self.scale(), probability)

    def on_train_batch_end(self, outputs: Any, batch: PairBatch, batch_idx: int) -> None:  # noqa: ARG002
        """Keep the scale within its bound."""
        self.scale.keep_bounded()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Embed a batch."""
        self._embedded.append(self.encoder(batch).float().cpu())

    def on_validation_epoch_end(self) -> None:
        """Zero-shot accuracy: over the finest captions present, and mean over land-cover classes."""
        embedded = torch.cat(self._embedded).numpy()
        self._embedded.clear()
        captions = accuracy(embedded, self.vectors, question(self.labelled.caption, self.finest))
        landcover = mean_class_accuracy(embedded, self.vectors, question(self.labelled.landcover))
        scores = [score for score in (captions, landcover) if math.isfinite(score)]
        self.log("validation/captions", captions)
        self.log("validation/landcover", landcover)
        self.log(MONITORED, float(np.mean(scores)), prog_bar=True)

    def configure_optimizers(self) -> Any:
        """AdamW; warm-up and cosine a step."""
        optimizer = torch.optim.AdamW(
            (p for p in self.parameters() if p.requires_grad),
            lr=self.run.learning_rate,
            weight_decay=self.run.weight_decay,
        )
        steps = math.ceil(self.samples / self.run.batch)
        warmup, total = round(self.run.warmup_epochs * steps), self.run.epochs * steps
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, warmup=warmup, total=total)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
