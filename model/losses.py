"""InfoNCE with in-batch negatives and a queue of earlier targets.

Source: Jain et al. 2026, ISPRS J. 236:99-119 (temperature 0.07, queue of 2,048, learnable scale kept at most
100); InfoNCE: van den Oord et al. 2018, arXiv 1807.03748; the queue: He et al. 2020, arXiv 1911.05722.
"""

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from timesenmap.model.errors import ModelError

LARGEST_SCALE: Final = 100.0
"""Bound of 1 / temperature, as in CLIP."""


def info_nce(
    anchors: Tensor,
    targets: Tensor,
    scale: Tensor | float,
    *,
    queue: Tensor | None = None,
    excluded: Tensor | None = None,
) -> Tensor:
    """Mean over the batch of -log softmax(scale * cosine) at each anchor's own target.

    Parameters
    ----------
    anchors, targets
        (B, d) unit vectors; row i of both belong together. Any B, the last short batch included.
    scale
        1 / temperature.
    queue
        (Q, d) earlier targets, negatives to all; Q may be 0.
    excluded
        (B, B + Q) bool: columns (targets, then queue) that do not count against an anchor, such as the same
        caption in other words. Its diagonal has no effect: an anchor's own target always counts.

    Returns
    -------
    Tensor
        Scalar. 0 where an anchor has nothing to be told apart from.
    """
    columns = targets if queue is None else torch.cat([targets, queue.to(targets)])
    logits = scale * anchors @ columns.T  # (B, B + Q)
    own = torch.arange(len(anchors), device=anchors.device)
    if excluded is not None:
        if excluded.shape != logits.shape:
            raise ModelError(f"excluded has shape {tuple(excluded.shape)}, the logits {tuple(logits.shape)}")
        keep = ~excluded
        keep[own, own] = True
        logits = logits.masked_fill(~keep, -math.inf)
    return functional.cross_entropy(logits.float(), own)


def soft_cross_entropy(anchors: Tensor, vectors: Tensor, scale: Tensor | float, probability: Tensor) -> Tensor:
    """Mean over the batch of the cross-entropy between given probabilities and softmax(scale * cosine).

    Source: Hinton et al. 2015, arXiv 1503.02531.

    Parameters
    ----------
    anchors
        (B, d) unit vectors.
    vectors
        (K, d) unit vectors of what is asked.
    scale
        1 / temperature.
    probability
        (B, K) probability of each, NaN where it is not asked of an anchor: the softmax is over the others.

    Returns
    -------
    Tensor
        Scalar.
    """
    asked = torch.isfinite(probability)
    logits = (scale * anchors @ vectors.T).float().masked_fill(~asked, -math.inf)
    told = functional.log_softmax(logits, -1).masked_fill(~asked, 0.0)
    return -(probability.nan_to_num(0.0) * told).sum(-1).mean()


class TargetQueue(nn.Module):
    """The latest targets of earlier batches, oldest overwritten first.

    Buffers, so that a checkpoint resumes with the same negatives.

    Parameters
    ----------
    size
        Targets kept (the paper: 2,048); 0 keeps none.
    dim
        Length of a target.
    """

    targets: Tensor
    groups: Tensor
    seen: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("targets", torch.zeros(size, dim))
        self.register_buffer("groups", torch.full((size,), -1, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def held(self) -> tuple[Tensor, Tensor]:
        """Targets (Q, d) and their groups (Q,) so far, Q <= size."""
        filled = min(int(self.seen), self.size)
        return self.targets[:filled], self.groups[:filled]

    @torch.no_grad()
    def push(self, targets: Tensor, groups: Tensor) -> None:
        """Add a batch, of which the last ``size`` rows stay."""
        if not self.size:
            return
        count = min(len(targets), self.size)
        skipped = len(targets) - count
        places = (torch.arange(count, device=self.targets.device) + int(self.seen) + skipped) % self.size
        # Copies: the tensors handed out by held() may still be needed by a backward pass.
        updated, labels = self.targets.clone(), self.groups.clone()
        updated[places] = targets[skipped:].detach().to(updated)
        labels[places] = groups[skipped:].to(labels)
        self.targets, self.groups = updated, labels
        self.seen = self.seen + len(targets)


class Scale(nn.Module):
    """1 / temperature: fixed, or learnt in the logarithm and kept at most 100.

    Parameters
    ----------
    temperature
        Its (initial) value.
    learn
        Whether to learn it.
    """

    log_scale: Tensor

    def __init__(self, temperature: float, *, learn: bool) -> None:
        super().__init__()
        value = torch.tensor(-math.log(temperature))
        if learn:
            self.log_scale = nn.Parameter(value)
        else:
            self.register_buffer("log_scale", value)

    def forward(self) -> Tensor:
        """Return the scale."""
        return self.log_scale.exp()

    @torch.no_grad()
    def keep_bounded(self) -> None:
        """Call after every step: clamping the parameter, not the result, leaves it a gradient to come back by."""
        self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
