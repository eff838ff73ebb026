"""csrc/cuda/cluster_backward.cuh under emulation against the gradients of fused_lstm/reference.py."""

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
    drawn,
    gradients,
    noticed,
    run_backward,
)  # fmt: skip

SHAPES = load().cluster.backward_shapes
CASES_PER_SHAPE, SEEDS_PER_CASE = 6, 6


def run(case: Case, kept: dict, cotangents: dict) -> dict[str, torch.Tensor]:
    return run_backward(case, kept, cotangents, load().cluster.backward)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward(emulation, monkeypatch, shape, dtype):
    for index, case in enumerate(drawn(shape, dtype, shape[0], CASES_PER_SHAPE)):
        kept = definition(case, monkeypatch)
        cotangents = cotangents_of(case, without=["", "y", "h_n", "c_n"][index % 4])
        expected = gradients(case, cotangents, monkeypatch)
        results = []
        for seed in range(SEEDS_PER_CASE):
            emulation.options(SEEDS_PER_CASE * index + seed)
            results.append(run(case, kept, cotangents))
            assert_right(case, results[-1], expected)
        assert_same_bits(results)


FORGOTTEN = [
    ("mbarrier_wait", (32, 2, 1)),
    ("cluster_sync", (32, 2, 1)),
    ("mbarrier_expect", (32, 2, 1)),
    ("block_sync", (32, 1, 2)),
    ("block_sync", (64, 2, 4)),
]


@pytest.mark.parametrize(("primitive", "shift", "shape"), [(p, 0, s) for p, s in FORGOTTEN] + [("", 16, (32, 2, 1))])
def test_a_planted_mistake_is_caught(emulation, monkeypatch, primitive, shift, shape):
    case = Case(shape, torch.bfloat16, 5, 3, shape[0], direction="forward", lengths=False)
    kept, cotangents = definition(case, monkeypatch), cotangents_of(case)
    expected = gradients(case, cotangents, monkeypatch)
    found = 0
    for seed in range(6):
        emulation.options(seed, [primitive], shift)
        found += noticed(case, lambda: run(case, kept, cotangents), expected, emulation.Error)
    # Without the opening barrier only a block that has overtaken its peer's set-up goes wrong.
    assert found >= (1 if primitive == "cluster_sync" else 4)
