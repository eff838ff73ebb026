"""csrc/cuda/grid_forward.cuh under emulation against fused_lstm/reference.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from native_module import load
from recurrence_cases import DTYPES, Case, assert_right, assert_same_bits, definition, drawn, noticed, run_forward

*SHAPES, DEVICE_SHAPE = load().grid.forward_shapes
CASES_PER_SHAPE, SEEDS_PER_CASE = 6, 3  # every kind of schedule once


def run(case: Case, batch_groups: int = 1) -> dict[str, torch.Tensor]:
    return run_forward(case, load().grid.forward, batch_groups)


def grouped(shape: tuple[int, ...], dtype: torch.dtype, count: int) -> Iterator[tuple[Case, int]]:
    """Cases and a number of batch groups; some with more rows than a group takes at once, or with empty groups."""
    for index, case in enumerate(drawn(shape, dtype, shape[0], count)):
        B = case.B if index % 2 == 0 else [20, 17, 33][index // 2 % 3]
        T = min(case.T, 3) if B > 9 or case.H > 64 else case.T
        yield dataclasses.replace(case, B=B, T=T), [1, 2, 3][(index + B) % 3]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward(emulation, monkeypatch, shape, dtype):
    for index, (case, groups) in enumerate(grouped(shape, dtype, CASES_PER_SHAPE)):
        expected = definition(case, monkeypatch)
        results = []
        for seed in range(SEEDS_PER_CASE):
            emulation.options(SEEDS_PER_CASE * index + seed)
            results.append(run(case, groups))
            assert_right(case, results[-1], expected)
        assert_same_bits(results)


def test_a_shape_of_the_device(emulation, monkeypatch):
    case = Case(DEVICE_SHAPE, torch.bfloat16, 3, 20, 250, direction="reverse")
    emulation.options(2)
    assert_right(case, run(case), definition(case, monkeypatch))


@pytest.mark.parametrize("seed", range(30))
def test_many_seeds(emulation, monkeypatch, seed):
    case = Case((64, 2, 2), torch.bfloat16, 6, 17, 50, direction="forward")
    emulation.options(1000 + seed)
    assert_right(case, run(case), definition(case, monkeypatch))


def test_groups_do_not_matter(emulation):
    case = Case((64, 2, 2), torch.float16, 3, 20, 64)
    assert_same_bits([run(case, groups) for groups in (1, 2, 3, 4)])


def test_rows_without_steps_keep_their_state(emulation):
    case = Case((32, 1, 4), torch.float16, 3, 9, 30)
    case.row_lengths.zero_()
    actual = run(case)
    assert torch.equal(actual["h_n"], case.h0) and torch.equal(actual["c_n"], case.c0)
    assert (actual["y"] == 0).all()


def test_lengths_out_of_range_count_as_the_nearest(emulation):
    """The host cannot look at them without waiting for the device; the kernel must not leave its tensors."""
    case = Case((32, 1, 4), torch.bfloat16, 3, 4, 30)
    case.row_lengths[:] = torch.tensor([-5, 0, 3, 9**9])
    actual = run(case)
    case.row_lengths.clamp_(0, 3)
    assert_same_bits([actual, run(case)])


# --- planted mistakes: were the kernel wrong in one of these ways, would these tests notice? --------------------------


@pytest.mark.parametrize(
    ("primitive", "certain"),
    [("flag_wait", False), ("flag_release", True), ("block_sync", True), ("copy_wait", True)],
)
def test_a_missing_step_of_the_exchange_is_caught(emulation, monkeypatch, primitive, certain):
    case = Case((64, 2, 2), torch.bfloat16, 5, 17, 64, direction="forward", lengths=False)
    expected = definition(case, monkeypatch)
    found = 0
    for seed in range(6):
        emulation.options(seed, [primitive])
        found += noticed(case, lambda: run(case, 2), expected, emulation.Error)
    assert found == 6 if certain else found >= 4


def test_a_launch_that_is_not_cooperative_waits_for_blocks_that_do_not_run(emulation):
    case = Case((64, 2, 2), torch.bfloat16, 3, 3, 64, direction="forward", lengths=False)
    texts = []
    for seed in range(8):
        emulation.options(seed, ["cooperative"])
        try:
            run(case)
        except emulation.Error as error:
            texts.append(str(error))
    assert len(texts) >= 4
    assert all("deadlock" in text and "flag_wait" in text and "not resident" in text for text in texts)


@pytest.mark.parametrize("shift", [-64, 2, 64, 8 * 64])
def test_h_in_the_wrong_place_is_caught_under_every_seed(emulation, monkeypatch, shift):
    case = Case((64, 2, 2), torch.bfloat16, 3, 9, 64, direction="forward", lengths=False)
    expected = definition(case, monkeypatch)
    for seed in range(6):
        emulation.options(seed, [], exchange_shift=shift)
        assert noticed(case, lambda: run(case), expected, emulation.Error)


def test_a_wrong_weight_is_caught(emulation, monkeypatch):
    case = Case((128, 4, 1), torch.bfloat16, 2, 3, 127, direction="reverse")
    expected = definition(case, monkeypatch)
    case.w_hh[0][[40, 41]] = case.w_hh[0][[41, 40]]
    assert noticed(case, lambda: run(case), expected, emulation.Error)


def test_a_refused_launch_says_why(emulation):
    emulation.options(0, ["launch"])
    with pytest.raises(RuntimeError, match="no room, by order of the test"):
        run(Case((32, 1, 4), torch.bfloat16, 2, 3, 32))
