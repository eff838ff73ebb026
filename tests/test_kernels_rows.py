"""csrc/core/rows.cpp against brute force."""

from __future__ import annotations

import pytest
import torch
from native_module import load

STEP_STRIDE, ROW_STRIDE = 1000, 7  # as in bind_rows.cpp


def assert_rows(rows: dict, steps: int, lengths: list[int], packed: bool) -> None:
    """``lengths`` in the caller's order, which must be descending if packed."""
    batch = len(lengths)
    order = sorted(range(batch), key=lambda row: -lengths[row])  # stable
    assert (rows["steps"], rows["batch"]) == (steps, batch)
    assert rows["user_row"] == order
    assert rows["length"] == [lengths[row] for row in order]
    compact = 0
    for t in range(steps):
        alive = [row for row in order if lengths[row] > t]
        assert rows["count"][t] == len(alive)
        assert rows["compact"][t] == list(range(compact, compact + len(alive)))
        if packed:
            assert rows["at"][t] == [ROW_STRIDE * index for index in rows["compact"][t]]
        else:
            assert rows["at"][t] == [STEP_STRIDE * t + ROW_STRIDE * row for row in alive]
        compact += len(alive)
    assert rows["total"] == compact == sum(lengths)
    assert rows["capacity"] == (compact if packed else steps * batch)
    assert rows["is_packed"] == packed
    assert rows["is_rectangle"] == (compact == steps * batch)


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("batch", [0, 1, 7])
def test_rectangle(steps, batch):
    assert_rows(load().rows_of_rectangle(steps, batch), steps, [steps] * batch, packed=False)


@pytest.mark.parametrize("steps", [0, 1, 2, 9])
@pytest.mark.parametrize("batch", [0, 1, 2, 13])
def test_lengths(steps, batch):
    cases = [torch.randint(0, steps + 1, (batch,)).tolist() for _ in range(20)]
    for lengths in [*cases, [0] * batch, [steps] * batch, [steps] * (batch > 0) + [0] * (batch - 1)]:
        assert_rows(load().rows_of_lengths(steps, lengths), steps, lengths, packed=False)


@pytest.mark.parametrize("steps", [0, 1, 2, 9])
@pytest.mark.parametrize("batch", [1, 2, 13])
def test_batch_sizes(steps, batch):
    for _ in range(20):
        batch_sizes = torch.randint(1, batch + 1, (steps,)).sort(descending=True).values.tolist()
        rows = batch_sizes[0] if steps else 0
        lengths = [sum(size > row for size in batch_sizes) for row in range(rows)]
        assert_rows(load().rows_of_batch_sizes(batch_sizes), steps, lengths, packed=True)
