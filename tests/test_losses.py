"""InfoNCE with queue against an independent NumPy version, values and gradients."""

import math

import numpy as np
import pytest
import torch

from timesenmap.model.errors import ModelError
from timesenmap.model.losses import LARGEST_SCALE, Scale, TargetQueue, info_nce


def numpy_info_nce(anchors, targets, scale, queue=None, excluded=None):
    """Mean of -log( exp(s * a_i.t_i) / sum over the columns that count ), one row at a time, no matrix tricks."""
    losses = []
    for i, anchor in enumerate(anchors):
        own = math.exp(scale * float(anchor @ targets[i]))
        total = 0.0
        columns = list(targets) + ([] if queue is None else list(queue))
        for j, column in enumerate(columns):
            if j == i or excluded is None or not excluded[i, j]:
                total += math.exp(scale * float(anchor @ column))
        losses.append(-math.log(own / total))
    return sum(losses) / len(losses)


def unit(rng, *shape):
    x = rng.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


CASES = {
    "batch only": (6, 0, False),
    "with queue": (6, 11, False),
    "same captions left out": (6, 11, True),
    "short last batch": (2, 11, True),
    "a batch of one": (1, 5, False),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    size, held, exclude = request.param
    rng = np.random.default_rng(size * 100 + held)
    anchors, targets, queue = unit(rng, size, 8), unit(rng, size, 8), unit(rng, held, 8)
    excluded = (rng.random((size, size + held)) < 0.3) | np.eye(size, size + held, dtype=bool) if exclude else None
    return anchors, targets, queue, excluded


def test_the_loss_is_the_numpy_loss(case):
    anchors, targets, queue, excluded = case
    ours = info_nce(
        torch.from_numpy(anchors),
        torch.from_numpy(targets),
        1 / 0.07,
        queue=torch.from_numpy(queue),
        excluded=None if excluded is None else torch.from_numpy(excluded),
    )
    # The logits are float32 in the end.
    assert float(ours) == pytest.approx(numpy_info_nce(anchors, targets, 1 / 0.07, queue, excluded), rel=1e-5)


def test_the_gradient_is_the_numerical_gradient(case):
    anchors, targets, queue, excluded = case
    a = torch.from_numpy(anchors).float().requires_grad_()
    log_scale = torch.tensor(math.log(5.0), requires_grad=True)
    loss = info_nce(
        a,
        torch.from_numpy(targets).float(),
        log_scale.exp(),
        queue=torch.from_numpy(queue).float(),
        excluded=None if excluded is None else torch.from_numpy(excluded),
    )
    loss.backward()
    step = 1e-5
    for index in [(0, 0), (len(anchors) - 1, 3)]:
        up, down = anchors.copy(), anchors.copy()
        up[index] += step
        down[index] -= step
        numerical = (
            numpy_info_nce(up, targets, 5.0, queue, excluded) - numpy_info_nce(down, targets, 5.0, queue, excluded)
        ) / (2 * step)
        assert float(a.grad[index]) == pytest.approx(numerical, abs=1e-4)
    numerical = (
        numpy_info_nce(anchors, targets, 5.0 * math.exp(step), queue, excluded)
        - numpy_info_nce(anchors, targets, 5.0 * math.exp(-step), queue, excluded)
    ) / (2 * step)
    assert float(log_scale.grad) == pytest.approx(numerical, abs=1e-4)


def test_excluded_columns_do_not_count():
    anchors = torch.eye(3)
    targets = torch.eye(3)
    twin = torch.eye(3)[:1]  # the first target again, in the queue
    apart = torch.zeros(3, 4, dtype=torch.bool)
    apart[0, 3] = True
    with_twin = info_nce(anchors[:1], targets[:1], 10.0, queue=twin)
    assert float(with_twin) == pytest.approx(math.log(2))
    without = info_nce(anchors[:1], targets[:1], 10.0, queue=twin, excluded=apart[:1, [0, 3]])
    assert float(without) == 0.0
    with pytest.raises(ModelError, match="excluded has shape"):
        info_nce(anchors, targets, 1.0, queue=twin, excluded=apart[:, :3])


def test_the_queue_holds_the_latest_targets():
    """Against a plain list that forgets from the front."""
    queue = TargetQueue(7, 2)
    plain: list[tuple[float, int]] = []
    number = 0
    for size in (3, 3, 1, 5, 2, 9, 4):  # 9 is more than the queue holds
        batch = np.arange(number, number + size)
        number += size
        queue.push(torch.tensor(np.stack([batch, -batch], 1), dtype=torch.float32), torch.tensor(batch * 10))
        plain = (plain + [(float(b), int(b * 10)) for b in batch])[-7:]
        targets, groups = queue.held()
        assert sorted(zip(targets[:, 0].tolist(), groups.tolist(), strict=True)) == sorted(plain)
        assert torch.equal(targets[:, 1], -targets[:, 0])


def test_what_the_queue_lent_out_does_not_change_under_backward():
    queue = TargetQueue(4, 3)
    queue.push(torch.ones(4, 3), torch.zeros(4, dtype=torch.int64))
    lent, _ = queue.held()
    queue.push(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
    assert (lent == 1).all()


def test_the_queue_is_in_the_checkpoint_and_an_empty_one_holds_nothing():
    queue = TargetQueue(4, 3)
    queue.push(torch.rand(3, 3), torch.arange(3))
    again = TargetQueue(4, 3)
    again.load_state_dict(queue.state_dict())
    for one, other in zip(queue.held(), again.held(), strict=True):
        assert torch.equal(one, other)
    none = TargetQueue(0, 3)
    none.push(torch.rand(2, 3), torch.arange(2))
    assert none.held()[0].shape == (0, 3)


def test_a_learnt_scale_stops_at_100_and_can_come_back():
    scale = Scale(0.07, learn=True)
    assert scale().item() == pytest.approx(1 / 0.07)
    optimizer = torch.optim.SGD(scale.parameters(), lr=100.0)
    (-scale()).backward()
    optimizer.step()
    scale.keep_bounded()
    assert scale().item() == pytest.approx(LARGEST_SCALE)
    optimizer.zero_grad()
    scale().backward()
    assert scale.log_scale.grad.item() > 0


def test_a_fixed_scale_is_no_parameter():
    scale = Scale(0.07, learn=False)
    assert list(scale.parameters()) == []
    assert scale().item() == pytest.approx(1 / 0.07)
