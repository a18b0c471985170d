"""Targets of all devices, so that training on several has the negatives and the queue of training on one."""

from typing import NamedTuple

import torch
from torch import Tensor, distributed


class Part(NamedTuple):
    """What one device has of a batch."""

    targets: Tensor  # (B, d)
    groups: Tensor  # (B,) int64


def gathered(targets: Tensor, groups: Tensor) -> list[Part]:
    """Gather the parts of a batch from all devices, in the order of their ranks; without gradient.

    Parameters
    ----------
    targets, groups
        (B, d) and (B,) of this device. B may differ between devices, as in a last short batch.

    Returns
    -------
    list of Part
        One a device; this device's alone where there is only one.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return [Part(targets, groups)]
    devices = distributed.get_world_size()
    size = torch.tensor([len(targets)], device=targets.device)
    sizes = [torch.zeros_like(size) for _ in range(devices)]
    distributed.all_gather(sizes, size)
    counts = [int(count) for count in sizes]
    longest = max(counts)  # all_gather wants equal shapes
    padded_targets = targets.new_zeros((longest, targets.shape[1]))
    padded_targets[: len(targets)] = targets
    padded_groups = groups.new_zeros(longest)
    padded_groups[: len(groups)] = groups
    all_targets = [torch.empty_like(padded_targets) for _ in range(devices)]
    all_groups = [torch.empty_like(padded_groups) for _ in range(devices)]
    distributed.all_gather(all_targets, padded_targets)
    distributed.all_gather(all_groups, padded_groups)
    return [Part(t[:n], g[:n]) for t, g, n in zip(all_targets, all_groups, counts, strict=True)]


def undealt(parts: list[Part]) -> Part:
    """Put the parts together in the order that the batch had before it was dealt out, row by row, to the devices."""
    targets = torch.cat([part.targets for part in parts])
    groups = torch.cat([part.groups for part in parts])
    places = torch.cat([torch.arange(len(part.groups)) * len(parts) + rank for rank, part in enumerate(parts)])
    order = places.argsort().to(targets.device)
    return Part(targets[order], groups[order])
