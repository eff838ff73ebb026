"""csrc/cuda/cluster_backward.cuh under emulation against the gradients of fused_lstm/reference.py."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch
from native_module import load
from test_cuda_cluster_forward import DTYPES, Case, Guarded, definition, emulation, rounded_to_tf32  # noqa: F401
from torch import Tensor
from torch.nn.functional import linear

from fused_lstm import reference

SHAPES = load().cluster_backward.shapes
CASES_PER_SHAPE, SEEDS_PER_CASE = 6, 6
Results = dict[str, Tensor]


def gradients(case: Case, cotangents: dict[str, Tensor | None], monkeypatch: pytest.MonkeyPatch) -> Results:
    """Of the pre-activations (dx, since W_ih = 1) and of the initial states, direction by direction."""

    def tf32_linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return linear(x + (rounded_to_tf32(x.detach()) - x.detach()), rounded_to_tf32(w), b)

    found: dict[str, list[Tensor]] = {"dx": [], "dh0": [], "dc0": []}
    with monkeypatch.context() as patch:
        if case.dtype == torch.float32:
            patch.setattr(reference, "linear", tf32_linear)
        for d, reverse in enumerate(case.reversals):
            inputs = [t.clone().requires_grad_() for t in (case.pre[d], *start(case, d))]
            outputs = reference.lstm_layer(
                *inputs,
                [torch.eye(4 * case.H).to(case.dtype), case.w_hh[d]],
                lengths=case.row_lengths if case.lengths else None,
                resets=case.reset_at if case.resets else None,
                direction="reverse" if reverse else "forward",
            )
            mine = [None if g is None else g[d : d + 1] for g in (cotangents["h_n"], cotangents["c_n"])]
            mine.insert(0, None if cotangents["y"] is None else cotangents["y"][..., d * case.H : (d + 1) * case.H])
            used = [(out, g) for out, g in zip(outputs, mine) if g is not None]
            wanted = torch.autograd.grad([u[0] for u in used], inputs, [u[1] for u in used], materialize_grads=True)
            for name, grad in zip(found, wanted):
                found[name].append(grad if name == "dx" else grad[0])
    return {name: torch.stack(each) for name, each in found.items()}


def start(case: Case, d: int) -> tuple[Tensor, Tensor]:
    zero = torch.zeros(1, case.B, case.H, dtype=case.dtype)
    return (case.h0[d : d + 1], case.c0[d : d + 1]) if case.state else (zero, zero)


def run(case: Case, kept: Results, cotangents: dict[str, Tensor | None]) -> Results:
    T, B, H, D = case.T, case.B, case.H, case.D
    pitch = -(-H // 16) * 16
    ends = case.row_lengths if case.lengths else torch.full((B,), T)
    alive = (torch.arange(T)[:, None] < ends)[..., None]
    gates, cells = torch.full((D, T, B, pitch, 4), torch.nan), torch.full((D, T, B, pitch), torch.nan)
    gates[:, :, :, :H] = torch.where(alive[..., None], kept["gates"], torch.nan)
    cells[:, :, :, :H] = torch.where(alive, kept["cells"], torch.nan)
    out = {
        "dgates": Guarded(torch.float32, D, T, B, pitch, 4),
        "dh0": Guarded(case.dtype, D, B, H),
        "dc0": Guarded(case.dtype, D, B, H),
    }
    addresses = []
    for d in range(D):
        a = {name: guarded.tensor[d].data_ptr() for name, guarded in out.items()}
        a |= {"gates": gates[d].data_ptr(), "cells": cells[d].data_ptr(), "w_hh": case.w_hh[d].data_ptr()}
        if case.state:
            a["c0"] = case.c0[d].data_ptr()
        if cotangents["y"] is not None:
            a["dy"] = cotangents["y"][..., d * H :].data_ptr()
        a |= {f"d{name}": cotangents[name][d].data_ptr() for name in ("h_n", "c_n") if cotangents[name] is not None}
        addresses.append(a)
    common = {"lengths": case.row_lengths.data_ptr()} if case.lengths else {}
    common |= {"resets": case.reset_at.data_ptr()} if case.resets else {}
    load().cluster_backward.backward(
        case.shape, DTYPES.index(case.dtype), addresses, case.reversals, common, (T, B, H), pitch, (B * D * H, D * H)
    )
    for guarded in out.values():
        guarded.check()
    dgates = out["dgates"].tensor
    assert dgates[:, :, :, H:].isnan().all(), "written where no unit is"
    dx = dgates[:, :, :, :H].transpose(3, 4).reshape(D, T, B, 4 * H)
    assert (dx[:, ~alive[..., 0]] == 0).all(), "nothing depends on what lies beyond a row's length"
    return {"dx": dx, "dh0": out["dh0"].tensor, "dc0": out["dc0"].tensor}


def worst(case: Case, actual: Results, expected: Results) -> float:
    tolerance = case.tolerance()
    ratios = []
    for name, value in actual.items():
        ratio = (value.double() - expected[name].double()).abs() / tolerance(name, expected[name])
        ratios.append(ratio.nan_to_num(nan=torch.inf).max().item())
    return max(ratios)


def drawn(case: Case, without: str = "") -> dict[str, Tensor | None]:
    sizes = {"y": (case.T, case.B, case.D * case.H), "h_n": (case.D, case.B, case.H), "c_n": (case.D, case.B, case.H)}
    return {name: None if name == without else torch.randn(size).to(case.dtype) for name, size in sizes.items()}


def cases(shape: tuple[int, int, int], dtype: torch.dtype) -> Iterator[Case]:
    chance = random.Random(f"{shape} {dtype}")
    units = shape[0]
    for index in range(CASES_PER_SHAPE):
        H = chance.choice([units, units - 1, units // 2 + 1, 17, 1]) if index else units
        yield Case(
            shape, dtype, chance.choice([1, 2, 3, 4, 7]), chance.choice([1, 3, 8, 9]), H,
            direction=["both", "reverse", "forward"][index % 3], state=index % 4 != 1, lengths=index % 2 == 0,
            resets=chance.random() < 0.6,
        )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward(emulation, monkeypatch, shape, dtype):  # noqa: F811
    for index, case in enumerate(cases(shape, dtype)):
        kept = definition(case, monkeypatch)
        cotangents = drawn(case, without=["", "y", "h_n", "c_n"][index % 4])
        expected = gradients(case, cotangents, monkeypatch)
        results = []
        for seed in range(SEEDS_PER_CASE):
            emulation.options(SEEDS_PER_CASE * index + seed)
            results.append(run(case, kept, cotangents))
            ratio = worst(case, results[-1], expected)
            assert ratio <= 1, f"{ratio:.3g} times as far from the definition as {case.tolerance()} allows, {case}"
        for name, value in results[0].items():
            assert all(torch.equal(value, other[name]) for other in results), f"{name} depends on the order of threads"


FORGOTTEN = [
    ("mbarrier_wait", (32, 2, 1)),
    ("cluster_sync", (32, 2, 1)),
    ("mbarrier_expect", (32, 2, 1)),
    ("block_sync", (32, 1, 2)),
    ("block_sync", (64, 2, 4)),
]


@pytest.mark.parametrize(("primitive", "shift", "shape"), [(p, 0, s) for p, s in FORGOTTEN] + [("", 16, (32, 2, 1))])
def test_a_planted_mistake_is_caught(emulation, monkeypatch, primitive, shift, shape):  # noqa: F811
    case = Case(shape, torch.bfloat16, 5, 3, shape[0], direction="forward", lengths=False)
    kept, cotangents = definition(case, monkeypatch), drawn(case)
    expected = gradients(case, cotangents, monkeypatch)
    found = 0
    for seed in range(6):
        emulation.options(seed, [primitive], shift)
        try:
            found += worst(case, run(case, kept, cotangents), expected) > 1
        except (load().emulation.Error, AssertionError):
            found += 1
    # Without the opening barrier only a block that has overtaken its peer's set-up goes wrong.
    assert found >= (1 if primitive == "cluster_sync" else 4)
