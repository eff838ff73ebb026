"""csrc/cuda/cluster_forward.cuh under emulation against fused_lstm/reference.py."""

from __future__ import annotations

import pytest
import torch
from native_module import load
from recurrence_cases import DTYPES, Case, assert_right, assert_same_bits, definition, drawn, noticed, run_forward

SHAPES = load().cluster.forward_shapes
CASES_PER_SHAPE, SEEDS_PER_CASE = 8, 6


def run(case: Case) -> dict[str, torch.Tensor]:
    return run_forward(case, load().cluster.forward)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward(emulation, monkeypatch, shape, dtype):
    for index, case in enumerate(drawn(shape, dtype, shape[0], CASES_PER_SHAPE)):
        expected = definition(case, monkeypatch)
        results = []
        for seed in range(SEEDS_PER_CASE):
            emulation.options(SEEDS_PER_CASE * index + seed)
            results.append(run(case))
            assert_right(case, results[-1], expected)
        assert_same_bits(results)


@pytest.mark.parametrize("seed", range(45))
def test_many_seeds(emulation, monkeypatch, seed):
    case = Case((32, 2, 1), torch.bfloat16, 9, 3, 31, direction="forward")
    emulation.options(1000 + seed)
    assert_right(case, run(case), definition(case, monkeypatch))


def test_rows_without_steps_keep_their_state(emulation):
    case = Case((32, 2, 1), torch.float16, 3, 9, 30)
    case.row_lengths.zero_()
    actual = run(case)
    assert torch.equal(actual["h_n"], case.h0) and torch.equal(actual["c_n"], case.c0)
    assert (actual["y"] == 0).all()


def test_lengths_out_of_range_count_as_the_nearest(emulation):
    """The host cannot look at them without waiting for the device; the kernel must not leave its tensors."""
    case = Case((32, 2, 1), torch.bfloat16, 3, 4, 30)
    case.row_lengths[:] = torch.tensor([-5, 0, 3, 9**9])
    actual = run_forward(case, load().cluster.forward)
    case.row_lengths.clamp_(0, 3)
    assert_same_bits([actual, run(case)])


# --- planted mistakes: were the kernel wrong in one of these ways, would these tests notice? --------------------------

FORGOTTEN = [
    ("mbarrier_wait", (32, 2, 1)),
    ("cluster_sync", (32, 2, 1)),
    ("mbarrier_expect", (32, 2, 1)),
    ("block_sync", (32, 1, 1)),
    ("named_sync", (64, 2, 2)),
    ("named_sync", (64, 1, 2)),
]


@pytest.mark.parametrize(("primitive", "shape"), FORGOTTEN, ids=str)
def test_a_missing_barrier_is_caught(emulation, monkeypatch, primitive, shape):
    case = Case(shape, torch.bfloat16, 5, 3, shape[0], direction="forward", lengths=False)
    expected = definition(case, monkeypatch)
    found = 0
    for seed in range(6):
        emulation.options(seed, [primitive])
        found += noticed(case, lambda: run(case), expected, emulation.Error)
    assert found >= 4


@pytest.mark.parametrize("shift", [-16, 16, 32 * 16])
def test_a_push_to_the_wrong_place_is_caught_under_every_seed(emulation, monkeypatch, shift):
    case = Case((32, 2, 1), torch.bfloat16, 3, 3, 32, direction="forward", lengths=False)
    expected = definition(case, monkeypatch)
    for seed in range(6):
        emulation.options(seed, [], shift)
        assert noticed(case, lambda: run(case), expected, emulation.Error)


def test_a_wrong_weight_is_caught(emulation, monkeypatch):
    case = Case((64, 2, 2), torch.bfloat16, 2, 3, 63, direction="reverse")
    expected = definition(case, monkeypatch)
    case.w_hh[0][[40, 41]] = case.w_hh[0][[41, 40]]
    assert noticed(case, lambda: run(case), expected, emulation.Error)


def test_a_refused_launch_says_why(emulation):
    emulation.options(0, ["launch"])
    with pytest.raises(RuntimeError, match="no room, by order of the test"):
        run(Case((32, 2, 1), torch.bfloat16, 2, 3, 32))
