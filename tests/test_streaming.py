"""Batches under way: in order, never two in one slot, and the next prepared while the last is computed."""

import numpy as np
import pytest
import torch

from timesenmap.model import new_encoder
from timesenmap.model.streaming import Slot, new_slots, run_queued


class Device(Slot):
    """A device that computes only while someone waits: what was queued, in its order, up to what is waited for."""

    queue: list["Device"]
    log: list[str]

    def __init__(self, queue: list["Device"], log: list[str]) -> None:
        super().__init__("cpu")
        self.queue, self.log = queue, log
        self.busy = ""

    def put(self, batch: str) -> None:
        assert not self.busy, f"{batch} was put where {self.busy} still lies"
        self.busy = batch
        self.queue.append(self)
        self.log.append(f"start {batch}")

    def take(self) -> str:
        while self.busy:
            first = self.queue.pop(0)
            first.log.append(f"computed {first.busy}")
            done, first.busy = first.busy, ""
        return done


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("batches", ["", "a", "ab", "abcdefg"])
def test_every_batch_once_in_order(batches: str, slots: int) -> None:
    log: list[str] = []
    queue: list[Device] = []
    devices = [Device(queue, log) for _ in range(slots)]
    found: list[tuple[str, str]] = []
    most = 0

    def start(batch: str, slot: Slot) -> None:
        nonlocal most
        assert isinstance(slot, Device)
        slot.put(batch)
        most = max(most, len(queue))

    def finish(batch: str, slot: Slot) -> None:
        assert isinstance(slot, Device)
        found.append((batch, slot.take()))

    run_queued(batches, devices, start=start, finish=finish)
    assert found == [(batch, batch) for batch in batches]
    assert most == min(slots, len(batches))
    assert not queue
    for ahead in range(slots, len(batches)):  # a batch starts as soon as the one that had its slot is there
        assert log.index(f"start {batches[ahead]}") == log.index(f"computed {batches[ahead - slots]}") + 1


def test_an_error_reaches_the_caller() -> None:
    def start(batch: int, slot: Slot) -> None:
        raise ValueError(f"batch {batch}")

    with pytest.raises(ValueError, match="batch 0"):
        run_queued(range(3), new_slots("cpu"), start=start, finish=lambda batch, slot: None)


def test_a_slot_brings_back_what_was_computed() -> None:
    slot = Slot("cpu")
    for n in (5, 3, 8):
        values = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
        slot.download(slot.upload("values", values) * 2)
        np.testing.assert_array_equal(slot.wait(), 2 * values)


@pytest.mark.parametrize("n", [1, 700])
def test_queued_batches_have_the_bits_of_the_pool(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of other devices, taken on this one."""
    made = new_encoder("small", device="cpu", precision="float32", depth=2)
    x = np.random.default_rng(0).uniform(0, 0.6, (n, 12, 10)).astype(np.float32)
    x[np.random.default_rng(1).random((n, 12)) < 0.3] = np.nan
    expected = made.embed(x)
    monkeypatch.setattr(made, "_on_cpu", False)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # as each of the pool's threads
        np.testing.assert_array_equal(made.embed(x), expected)
    finally:
        torch.set_num_threads(before)
