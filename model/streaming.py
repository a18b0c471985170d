"""Batches on their way to an accelerator and back: while it computes one, the host prepares the next.

The host's side of a batch lies in a *slot*: on CUDA page-locked memory that the device copies by itself, so that
copying in, computing and copying out are queued at once and nobody waits until the result is needed. A slot is filled
anew only after its batch came back.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

T = TypeVar("T")
_SLOTS = 2


class Slot:
    """Host memory of one batch at a time.

    Parameters
    ----------
    device
        Where the batches are computed.
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._pinned = self._device.type == "cuda"
        self._buffers: dict[str, Tensor] = {}
        self._result: Tensor | None = None
        self._event: Any = None

    def upload(self, name: str, values: NDArray[Any]) -> Tensor:
        """Bring an array to the device; queued, where the memory is page-locked."""
        given = torch.from_numpy(values)
        if not self._pinned:
            return given.to(self._device)
        return self._buffer(name, given).copy_(given).to(self._device, non_blocking=True)

    def download(self, result: Tensor) -> None:
        """Bring a result back; queued, where the memory is page-locked."""
        if not self._pinned:
            self._result = result.cpu()
            return
        self._result = self._buffer("result", result)
        self._result.copy_(result, non_blocking=True)
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._event.record(torch.cuda.current_stream(self._device))

    def wait(self) -> NDArray[Any]:
        """Result of the last batch, as soon as it is there; valid until the slot is used again."""
        if self._event is not None:
            self._event.synchronize()
        assert self._result is not None
        return self._result.numpy()

    def _buffer(self, name: str, like: Tensor) -> Tensor:
        """Page-locked memory of a tensor's shape and type: a part of what was taken before, where that is enough."""
        kept = self._buffers.get(name)
        if kept is None or kept.numel() < like.numel() or kept.dtype != like.dtype:
            kept = self._buffers[name] = torch.empty(like.numel(), dtype=like.dtype, pin_memory=True)
        return kept[: like.numel()].view(like.shape)


def run_queued(
    batches: Iterable[T], slots: list[Slot], *, start: Callable[[T, Slot], None], finish: Callable[[T, Slot], None]
) -> None:
    """Start every batch and finish it, in order, with as many under way as there are slots.

    Parameters
    ----------
    batches
        The batches.
    slots
        Each is used by one batch after the other, and never before its last batch was finished.
    start
        Prepares a batch and queues it.
    finish
        Waits for a batch and stores its result.
    """
    free, under_way = deque(slots), deque[tuple[T, Slot]]()
    for batch in batches:
        if not free:
            done = under_way.popleft()
            finish(*done)
            free.append(done[1])
        slot = free.popleft()
        start(batch, slot)
        under_way.append((batch, slot))
    for done in under_way:
        finish(*done)


def new_slots(device: str) -> list[Slot]:
    """Slots for one caller: two, so that one is filled while the other is computed."""
    return [Slot(device) for _ in range(_SLOTS)]
