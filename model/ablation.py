"""Ablations: the same training with one thing changed, and what it costs in accuracy.

Source: Jain et al. 2026, ISPRS J. 236:99-119, which varies temporal masking, spectral dropout and the pooling of
the photos, and tests with twelve months, four seasons and one annual composite.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from timesenmap.model.encoder import Encoder, load_encoder
from timesenmap.model.errors import ModelError
from timesenmap.model.evaluation import Interval
from timesenmap.model.place_evaluation import embed_places, labelled_places, one_month_left, told
from timesenmap.model.prompts import class_embeddings, load_prompt_set
from timesenmap.model.training_config import PhotoTrainingConfig
from timesenmap.model.training_photos import train_photos
from timesenmap.model.zero_shot import composited

Vary = Literal["masking", "pooling", "spectral"]

VARIED: Final[dict[Vary, dict[str, dict[str, Any]]]] = {
    "masking": {"temporal masking": {"temporal": 0.5}, "no temporal masking": {"temporal": 0.0}},
    "pooling": {
        "mean of the photos": {"pooling": "mean"},
        "one random photo": {"pooling": "random"},
        "attention over the photos": {"pooling": "attention"},
    },
    "spectral": {"no spectral dropout": {"spectral": 0.0}, "spectral dropout": {"spectral": 0.1}},
}
"""What is varied -> name of the variant -> fields that differ (of the run, or of what it hides)."""


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AblationRow(_Report):
    """Accuracy of one variant with one kind of input."""

    variant: str
    frames: str = Field(description="what the encoder was shown of each year")
    top1: Interval
    mean_class: Interval


class AblationReport(_Report):
    """Accuracies of all variants on the same places."""

    data: str
    prompts: str
    labels: str
    places: int
    classes: int
    chance: float
    encoders: dict[str, str] = Field(description="SHA-256 of each variant's encoder")
    rows: tuple[AblationRow, ...]

    def top1(self, variant: str, frames: str = "12 months") -> Interval:
        """Accuracy of a variant."""
        return next(row.top1 for row in self.rows if (row.variant, row.frames) == (variant, frames))


def variants(config: PhotoTrainingConfig, vary: Sequence[Vary]) -> dict[str, PhotoTrainingConfig]:
    """Configuration of each variant: the run with one thing changed, what is as the run named first.

    The run itself is called "as configured"; a variant that equals it, or an earlier one, is left out.
    """
    found = {"as configured": config}
    for what in vary:
        for name, changes in VARIED[what].items():
            hidden = {key: value for key, value in changes.items() if key in type(config.hiding).model_fields}
            fields = {key: value for key, value in changes.items() if key not in hidden}
            values = {**config.model_dump(), **fields, "hiding": {**config.hiding.model_dump(), **hidden}}
            slug = name.replace(" ", "-")
            same = PhotoTrainingConfig.model_validate(values)
            if all(same != other for other in found.values()):
                values["out"] = config.out.with_name(f"{config.out.stem}-{slug}.safetensors")
                values["run_folder"] = None
                found[name] = PhotoTrainingConfig.model_validate(values)
    return found


def ablate(
    config: PhotoTrainingConfig,
    vary: Sequence[Vary],
    *,
    data: str | Path,
    prompts: str,
    labels: str,
    seed: int = 0,
    progress: bool = False,
    advance: Callable[[int], None] | None = None,
) -> AblationReport:
    """Train every variant (or go on with what an earlier call left) and test all on the same places.

    Parameters
    ----------
    config
        The run; variants are written beside its ``out``.
    vary
        What to vary.
    data, prompts, labels
        Prepared crops to test on, prompt set, and which label of a place names its class.
    seed
        Of the month that is left in "1 month left".
    progress, advance
        Show bars of the training; called with 1 after each variant.
    """
    encoders: dict[str, Encoder] = {}
    for name, variant in variants(config, vary).items():
        train_photos(variant, resume=True, progress=progress)  # a finished run is only read again
        encoders[name] = load_encoder(variant.out, device=config.device)
        if advance:
            advance(1)
    return compare(encoders, data=data, prompts=prompts, labels=labels, seed=seed)


def compare(
    encoders: dict[str, Encoder], *, data: str | Path, prompts: str, labels: str, seed: int = 0
) -> AblationReport:
    """Test encoders of one text tower on the same places, with twelve months, seasons, a year, and one month."""
    prompt_set = load_prompt_set(prompts)
    towers = {encoder.config.text_tower for encoder in encoders.values()}
    if len(towers) != 1:
        raise ModelError(f"encoders of different text towers cannot be compared: {', '.join(sorted(towers))}")
    rows = []
    for name, encoder in encoders.items():
        places = labelled_places(data, prompt_set, encoder, labels=labels)
        vectors = class_embeddings(prompt_set, encoder)
        shown = {
            "12 months": places.reflectance,
            "4 seasons": composited(places.reflectance, "seasonal"),
            "1 year": composited(places.reflectance, "annual"),
            "1 month left": one_month_left(places.reflectance, np.random.default_rng(seed)),
        }
        for frames, years in shown.items():
            if years.shape[1] not in encoder.config.frame_counts:
                continue
            result = told(embed_places(encoder, years), vectors, places.truth, places.groups)
            rows.append(AblationRow(variant=name, frames=frames, top1=result.top1, mean_class=result.mean_class))
    return AblationReport(
        data=str(data),
        prompts=prompt_set.name,
        labels=labels,
        places=len(places.truth),
        classes=len(prompt_set.classes),
        chance=1 / len(prompt_set.classes),
        encoders={name: encoder.sha256 for name, encoder in encoders.items()},
        rows=tuple(rows),
    )
