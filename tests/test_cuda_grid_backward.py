"""csrc/cuda/grid_backward.cuh under emulation against the gradients of fused_lstm/reference.py."""

from __future__ import annotations

import pytest
import torch
from native_module import load
from recurrence_cases import (
    DTYPES,
    Case,
    assert_right,
    assert_same_bits,
    cotangents_of,
    definition,
    gradients,
    noticed,
    run_backward,
)
from test_cuda_grid_forward import grouped

*SHAPES, DEVICE_SHAPE = load().grid.backward_shapes
CASES_PER_SHAPE, SEEDS_PER_CASE = 6, 3  # every kind of schedule once


def run(case: Case, kept: dict, cotangents: dict, batch_groups: int = 1) -> dict[str, torch.Tensor]:
    return run_backward(case, kept, cotangents, load().grid.backward, batch_groups)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward(emulation, monkeypatch, shape, dtype):
    for index, (case, groups) in enumerate(grouped(shape, dtype, CASES_PER_SHAPE)):
        kept = definition(case, monkeypatch)
        cotangents = cotangents_of(case, without=["", "y", "h_n", "c_n"][index % 4])
        expected = gradients(case, cotangents, monkeypatch)
        results = []
        for seed in range(SEEDS_PER_CASE):
            emulation.options(SEEDS_PER_CASE * index + seed)
            results.append(run(case, kept, cotangents, groups))
            assert_right(case, results[-1], expected)
        assert_same_bits(results)


def test_a_shape_of_the_device(emulation, monkeypatch):
    case = Case(DEVICE_SHAPE, torch.bfloat16, 3, 20, 250, direction="reverse")
    kept, cotangents = definition(case, monkeypatch), cotangents_of(case)
    emulation.options(2)
    assert_right(case, run(case, kept, cotangents), gradients(case, cotangents, monkeypatch))


@pytest.mark.parametrize("seed", range(0, 30, 6))
def test_many_seeds(emulation, monkeypatch, seed):
    case = Case((64, 2, 8), torch.bfloat16, 6, 17, 50, direction="forward")
    kept, cotangents = definition(case, monkeypatch), cotangents_of(case)
    expected = gradients(case, cotangents, monkeypatch)
    for each in range(seed, seed + 6):
        emulation.options(1000 + each)
        assert_right(case, run(case, kept, cotangents), expected)


def test_rows_without_steps_pass_gradients_on(emulation, monkeypatch):
    case = Case((32, 1, 16), torch.float32, 3, 9, 30)
    case.row_lengths[2:] = 0
    kept, cotangents = definition(case, monkeypatch), cotangents_of(case)
    actual = run(case, kept, cotangents)
    assert torch.equal(actual["dh0"][:, 2:], cotangents["h_n"][:, 2:])
    assert torch.equal(actual["dc0"][:, 2:], cotangents["c_n"][:, 2:])


# --- planted mistakes: were the kernel wrong in one of these ways, would these tests notice? --------------------------


@pytest.mark.parametrize(
    ("primitive", "shift", "certain"),
    [
        ("flag_wait", 0, False),
        ("flag_release", 0, True),
        ("block_sync", 0, True),
        ("copy_wait", 0, True),
        ("", -64, True),
        ("", 8, True),
        ("", 64, True),
    ],
)
def test_a_planted_mistake_is_caught(emulation, monkeypatch, primitive, shift, certain):
    case = Case((64, 2, 8), torch.bfloat16, 5, 17, 64, direction="forward", lengths=False)
    kept, cotangents = definition(case, monkeypatch), cotangents_of(case)
    expected = gradients(case, cotangents, monkeypatch)
    found = 0
    for seed in range(6):
        emulation.options(seed, [primitive], exchange_shift=shift)
        found += noticed(case, lambda: run(case, kept, cotangents, 2), expected, emulation.Error)
    assert found == 6 if certain else found >= 4


def test_a_wrong_weight_is_caught(emulation, monkeypatch):
    case = Case((128, 4, 3), torch.bfloat16, 2, 3, 127, direction="reverse")
    kept, cotangents = definition(case, monkeypatch), cotangents_of(case)
    expected = gradients(case, cotangents, monkeypatch)
    case.w_hh[0][[40, 41]] = case.w_hh[0][[41, 40]]
    assert noticed(case, lambda: run(case, kept, cotangents), expected, emulation.Error)
