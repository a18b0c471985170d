"""Lessons after training: a trained network learns from forests, and keeps a part of what it was.

Lessons tell it more of the places they are about, and make it forget of other places and words. Weights between those
before and those after have most of the one without the other (numbers in the model card).

Source of the mean of weights: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv 2109.01903.
"""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from timesenmap.model.teachers import lessons_of

if TYPE_CHECKING:
    from timesenmap.model.training_config import TrainingConfig
    from timesenmap.model.training_data import CaptionPairs
    from timesenmap.model.training_module import TrainingModule

log = logging.getLogger(__name__)


def teach(
    module: "TrainingModule",
    pairs: "CaptionPairs",
    config: "TrainingConfig",
    fit: Callable[..., tuple[int, int]],
    *,
    resume: bool = False,
    progress: bool = False,
) -> tuple[int, int]:
    """Train a trained module on, with lessons, and leave the mean of its weights before and after in it.

    Parameters
    ----------
    module, pairs, config
        As they were trained.
    fit
        What trains (``training_fit.fit``).
    resume, progress
        As of the training before.

    Returns
    -------
    epochs trained, epoch of the weights (from 1), both of the lessons.

    Raises
    ------
    ModelError
        As :func:`~timesenmap.model.teachers.lessons_of`.
    """
    before = {name: value.detach().clone() for name, value in module.encoder.state_dict().items()}
    log.info("growing forests that label %d series", config.teacher.lessons)
    lessons = lessons_of(pairs, config.teacher, np.random.default_rng([config.seed, 3]))
    module.begin_lessons(config.taught, lessons)
    epochs = fit(module, config.taught, resume=resume, progress=progress)
    module.encoder.load_state_dict(between(before, module.encoder.state_dict(), config.teacher.mix))
    return epochs


def between(before: Mapping[str, Tensor], after: Mapping[str, Tensor], mix: float) -> dict[str, Tensor]:
    """Weights ``(1 - mix) * before + mix * after`` of one network in two states."""
    return {name: value.lerp(after[name].to(value), mix) for name, value in before.items()}
