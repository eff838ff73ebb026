"""csrc/cuda/cluster_forward.cuh under emulation against fused_lstm/reference.py."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from native_module import load
from tolerance import LAMBDA, Tolerance
from torch import Tensor
from torch.nn.functional import linear

from fused_lstm import reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16]  # as the binding numbers them
GUARD = 64  # elements around every output that must stay as they are
SHAPES = load().cluster.shapes
CASES_PER_SHAPE, SEEDS_PER_CASE = 8, 6


@dataclasses.dataclass(frozen=True)
class Tf32(Tolerance):
    """float32 whose products see 10 bits: where errors make an operand round the other way, it is off by 2 v."""

    v = 2.0**-11

    def __call__(self, name: str, expected: Tensor) -> Tensor:
        return LAMBDA * self.state * (1 + expected.double().abs())


@dataclasses.dataclass
class Case:
    shape: tuple[int, int, int]
    dtype: torch.dtype
    T: int
    B: int
    H: int
    direction: str = "both"
    state: bool = True
    lengths: bool = True
    resets: bool = True
    save: bool = True

    def __post_init__(self) -> None:
        T, B, H, D = self.T, self.B, self.H, self.D
        torch.manual_seed(hash((T, B, H, D)) % 1000)
        self.pre = [rounded_to_tf32(torch.randn(T, B, 4 * H)).to(self.dtype) for _ in range(D)]
        self.w_hh = [(torch.randn(4 * H, H) / H**0.5).to(self.dtype) for _ in range(D)]
        self.h0, self.c0 = torch.randn(D, B, H).tanh().to(self.dtype), torch.randn(D, B, H).to(self.dtype)
        self.row_lengths = torch.randint(0, T + 1, (B,))
        self.row_lengths[torch.randint(B, ())] = T
        self.reset_at = torch.rand(T, B) < 0.3

    @property
    def D(self) -> int:
        return 2 if self.direction == "both" else 1

    @property
    def reversals(self) -> list[bool]:
        return {"forward": [False], "reverse": [True], "both": [False, True]}[self.direction]

    def tolerance(self) -> Tolerance:
        kind = Tf32 if self.dtype == torch.float32 else Tolerance
        return kind(self.dtype, self.T, self.B, 0, self.H, self.H)


def rounded_to_tf32(x: Tensor) -> Tensor:
    return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


# --- the definition --------------------------------------------------------------------------------------------------


def definition(case: Case, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Results of reference.py, whose input is the pre-activation: W_ih = 1. And by step what the cell computed."""
    T, B, H = case.T, case.B, case.H
    results: list[dict[str, Tensor]] = []
    vanilla = reference.CELLS[0]
    for d, reverse in enumerate(case.reversals):
        gates, cells = [], []

        def record(a: Tensor, *rest: Tensor, gates: list = gates, cells: list = cells) -> tuple[Tensor, Tensor]:
            i, f, g, o = a.chunk(4, -1)
            h, c = vanilla.step(a, *rest)
            gates.append(torch.stack([i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()], -1))
            cells.append(c)
            return h, c

        def tf32_linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
            return linear(rounded_to_tf32(x), rounded_to_tf32(w), b)

        with monkeypatch.context() as patch:
            patch.setattr(reference, "CELLS", [dataclasses.replace(vanilla, step=record)])
            if case.dtype == torch.float32:
                patch.setattr(reference, "linear", tf32_linear)
            y, h_n, c_n = reference.lstm_layer(
                case.pre[d],
                case.h0[d : d + 1] if case.state else None,
                case.c0[d : d + 1] if case.state else None,
                [torch.eye(4 * H).to(case.dtype), case.w_hh[d]],
                lengths=case.row_lengths if case.lengths else None,
                resets=case.reset_at if case.resets else None,
                direction="reverse" if reverse else "forward",
            )
        order = -1 if reverse else 1
        results.append(
            {"y": y, "h_n": h_n, "c_n": c_n}
            | {"gates": torch.stack(gates[::order]).view(1, T, B, H, 4), "cells": torch.stack(cells[::order])[None]}
        )
    joined = {name: torch.cat([r[name] for r in results]) for name in ("h_n", "c_n", "gates", "cells")}
    return {"y": torch.cat([r["y"] for r in results], -1)} | joined


# --- the kernel ------------------------------------------------------------------------------------------------------


class Guarded:
    """A tensor full of NaN with more of it on both sides."""

    def __init__(self, dtype: torch.dtype, *shape: int) -> None:
        self.tensor = torch.full(shape, torch.nan, dtype=dtype)
        n = self.tensor.numel()
        self.memory = torch.full((n + 2 * GUARD,), torch.nan, dtype=dtype)
        self.tensor = self.memory[GUARD : GUARD + n].view(shape)

    def check(self) -> None:
        assert self.memory[:GUARD].isnan().all() and self.memory[-GUARD:].isnan().all(), "written past an end"


def run(case: Case) -> dict[str, Tensor]:
    """All results; elements of gates and cells that do not belong to a valid step must be, and are, NaN."""
    T, B, H, D = case.T, case.B, case.H, case.D
    pitch = -(-H // 16) * 16
    ends = case.row_lengths if case.lengths else torch.full((B,), T)
    alive = (torch.arange(T)[:, None] < ends)[..., None]
    out = {
        "y": Guarded(case.dtype, T, B, D * H),
        "h_n": Guarded(case.dtype, D, B, H),
        "c_n": Guarded(case.dtype, D, B, H),
        "gates": Guarded(torch.float32, D, T, B, pitch, 4),
        "cells": Guarded(torch.float32, D, T, B, pitch),
    }
    for d in range(D):  # in place: the kernel finds the pre-activations where it leaves the gates
        pre = case.pre[d].float().view(T, B, 4, H).transpose(2, 3)
        out["gates"].tensor[d, :, :, :H] = torch.where(alive[..., None], pre, torch.nan)
    if not case.save:
        given = out["gates"].tensor.clone()
    addresses = []
    for d in range(D):
        a = {name: out[name].tensor[d].data_ptr() for name in ("h_n", "c_n", "gates", "cells")}
        a |= {"y": out["y"].tensor[..., d * H :].data_ptr(), "w_hh": case.w_hh[d].data_ptr(), "pre": a["gates"]}
        if case.state:
            a |= {"h0": case.h0[d].data_ptr(), "c0": case.c0[d].data_ptr()}
        if not case.save:
            a |= {"pre": given[d].data_ptr(), "gates": 0, "cells": 0}
        addresses.append(a)
    common = {"lengths": case.row_lengths.data_ptr()} if case.lengths else {}
    common |= {"resets": case.reset_at.data_ptr()} if case.resets else {}
    strides = out["y"].tensor.stride()[:2]
    load().cluster.forward(
        case.shape, DTYPES.index(case.dtype), addresses, case.reversals, common, (T, B, H), pitch, strides
    )
    for guarded in out.values():
        guarded.check()
    if not case.save:
        return {name: out[name].tensor for name in ("y", "h_n", "c_n")}
    for name in ("gates", "cells"):
        kept = out[name].tensor
        dead = (~alive).expand(T, B, pitch).clone()
        dead[..., H:] = True
        assert kept[:, dead].isnan().all(), f"{name}: written where nothing is valid"
    return {name: guarded.tensor for name, guarded in out.items()}


def compare(case: Case, actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    tolerance = case.tolerance()
    ends = case.row_lengths if case.lengths else torch.full((case.B,), case.T)
    alive = torch.arange(case.T)[:, None] < ends
    for name, value in actual.items():
        wanted = expected[name]
        if name in ("gates", "cells"):
            value, wanted = value[:, :, :, : case.H][:, alive], wanted[:, alive]
        error = (value.double() - wanted.double()).abs() / tolerance(name, wanted)
        worst = error.nan_to_num(nan=torch.inf).max().item() if error.numel() else 0.0
        assert worst <= 1, f"{name} is {worst:.3g} times as far from the definition as {tolerance} allows, {case}"
    if case.lengths:
        assert (actual["y"][~alive] == 0).all(), "y is zero beyond a row's length"


def cases(shape: tuple[int, int, int], dtype: torch.dtype) -> Iterator[Case]:
    chance = random.Random(f"{shape} {dtype}")
    units = shape[0]
    for index in range(CASES_PER_SHAPE):
        H = chance.choice([units, units - 1, units // 2 + 1, 17, 1]) if index else units
        yield Case(
            shape, dtype, chance.choice([1, 2, 3, 4, 7]), chance.choice([1, 3, 8, 9]), H,
            direction=["both", "reverse", "forward"][index % 3], state=index % 4 != 1, lengths=index % 2 == 0,
            resets=chance.random() < 0.6, save=index != 3,
        )  # fmt: skip


@pytest.fixture
def emulation() -> Iterator[ModuleType]:
    module = load().emulation
    module.options(0)
    yield module
    module.options(0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward(emulation, monkeypatch, shape, dtype):
    for index, case in enumerate(cases(shape, dtype)):
        expected = definition(case, monkeypatch)
        results = []
        for seed in range(SEEDS_PER_CASE):
            emulation.options(SEEDS_PER_CASE * index + seed)
            results.append(run(case))
            compare(case, results[-1], expected)
        for name, value in results[0].items():
            same = [torch.equal(value.nan_to_num(nan=9), other[name].nan_to_num(nan=9)) for other in results]
            assert all(same), f"{name} depends on the order in which threads run"


@pytest.mark.parametrize("seed", range(45))
def test_many_seeds(emulation, monkeypatch, seed):
    case = Case((32, 2, 1), torch.bfloat16, 9, 3, 31, direction="forward")
    emulation.options(1000 + seed)
    compare(case, run(case), definition(case, monkeypatch))


def test_rows_without_steps_keep_their_state(emulation):
    case = Case((32, 2, 1), torch.float16, 3, 9, 30)
    case.row_lengths.zero_()
    actual = run(case)
    assert torch.equal(actual["h_n"], case.h0) and torch.equal(actual["c_n"], case.c0)
    assert (actual["y"] == 0).all()


# --- planted mistakes: were the kernel wrong in one of these ways, would these tests notice? --------------------------

FORGOTTEN = [
    ("mbarrier_wait", (32, 2, 1)),
    ("cluster_sync", (32, 2, 1)),
    ("mbarrier_expect", (32, 2, 1)),
    ("block_sync", (32, 1, 1)),
    ("named_sync", (64, 2, 2)),
    ("named_sync", (64, 1, 2)),
]


def noticed(case: Case, expected: dict[str, Tensor]) -> bool:
    try:
        compare(case, run(case), expected)
    except (load().emulation.Error, AssertionError):
        return True
    return False


@pytest.mark.parametrize(("primitive", "shape"), FORGOTTEN, ids=str)
def test_a_missing_barrier_is_caught(emulation, monkeypatch, primitive, shape):
    case = Case(shape, torch.bfloat16, 5, 3, shape[0], direction="forward", lengths=False)
    expected = definition(case, monkeypatch)
    found = 0
    for seed in range(6):
        emulation.options(seed, [primitive])
        found += noticed(case, expected)
    assert found >= 4


@pytest.mark.parametrize("shift", [-16, 16, 32 * 16])
def test_a_push_to_the_wrong_place_is_caught_under_every_seed(emulation, monkeypatch, shift):
    case = Case((32, 2, 1), torch.bfloat16, 3, 3, 32, direction="forward", lengths=False)
    expected = definition(case, monkeypatch)
    for seed in range(6):
        emulation.options(seed, [], shift)
        assert noticed(case, expected)


def test_a_wrong_weight_is_caught(emulation, monkeypatch):
    case = Case((64, 2, 2), torch.bfloat16, 2, 3, 63, direction="reverse")
    expected = definition(case, monkeypatch)
    case.w_hh[0][[40, 41]] = case.w_hh[0][[41, 40]]
    assert noticed(case, expected)
