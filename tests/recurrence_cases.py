"""Cases for kernels that run over all steps (csrc/cuda/recurrence.h): inputs, the definition, running, comparing.

Whoever tests such a kernel gives ``run_forward`` or ``run_backward`` the bound function; its arguments are addresses.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator

import pytest
import torch
from tolerance import LAMBDA, Tolerance
from torch import Tensor
from torch.nn.functional import linear

from fused_lstm import reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16]  # as the bindings number them
GUARD = 64  # elements around every output that must stay as they are
Results = dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Tf32(Tolerance):
    """float32 whose products see 10 bits: where errors make an operand round the other way, it is off by 2 v."""

    v = 2.0**-11

    def __call__(self, name: str, expected: Tensor) -> Tensor:
        return LAMBDA * self.state * (1 + expected.double().abs())


@dataclasses.dataclass
class Case:
    shape: tuple[int, ...]  # of the kernel
    dtype: torch.dtype
    T: int
    B: int
    H: int
    direction: str = "both"
    state: bool = True
    lengths: bool = True
    resets: bool = True
    save: bool = True
    bias: bool = True
    layout: str = "time"  # first axis of x: "time" or "batch"; or "packed"

    def __post_init__(self) -> None:
        T, B, H, D = self.T, self.B, self.H, self.D
        torch.manual_seed(hash((T, B, H, D)) % 1000)
        self.pre = [rounded_to_tf32(torch.randn(T, B, 4 * H)).to(self.dtype) for _ in range(D)]
        self.w_hh = [(torch.randn(4 * H, H) / H**0.5).to(self.dtype) for _ in range(D)]
        self.biases = [[(torch.randn(4 * H) / 2).to(self.dtype) for _ in range(2)] for _ in range(D)]
        self.h0, self.c0 = torch.randn(D, B, H).tanh().to(self.dtype), torch.randn(D, B, H).to(self.dtype)
        self.row_lengths = torch.randint(0, T + 1, (B,))
        self.row_lengths[torch.randint(B, ())] = T
        if self.layout == "packed":
            self.lengths = True
            self.row_lengths = self.row_lengths.sort(descending=True).values.clamp_min(1)
        self.reset_at = torch.rand(T, B) < 0.3

    @property
    def D(self) -> int:
        return 2 if self.direction == "both" else 1

    @property
    def reversals(self) -> list[bool]:
        return {"forward": [False], "reverse": [True], "both": [False, True]}[self.direction]

    @property
    def ends(self) -> Tensor:
        return self.row_lengths if self.lengths else torch.full((self.B,), self.T)

    @property
    def alive(self) -> Tensor:  # [T, B]
        return torch.arange(self.T)[:, None] < self.ends

    def weights(self, d: int) -> list[Tensor]:
        """As the reference takes them; its input is the pre-activation: W_ih = 1."""
        return [torch.eye(4 * self.H).to(self.dtype), self.w_hh[d], *(self.biases[d] if self.bias else [])]

    def options(self, reverse: bool) -> dict[str, object]:
        return dict(
            lengths=self.row_lengths if self.lengths else None,
            resets=self.reset_at if self.resets else None,
            direction="reverse" if reverse else "forward",
        )

    def tolerance(self) -> Tolerance:
        kind = Tf32 if self.dtype == torch.float32 else Tolerance
        return kind(self.dtype, self.T, self.B, 0, self.H, self.H)

    # --- where (t, b) lies ---------------------------------------------------------------------------------------

    def arranged(self, x: Tensor) -> Tensor:
        """[T, B, ...] as rows of (t, b) in this layout."""
        if self.layout == "packed":
            return x[self.alive]
        return (x if self.layout == "time" else x.transpose(0, 1)).flatten(0, 1).contiguous()

    def restored(self, rows: Tensor) -> Tensor:
        """The way back; what packed rows do not hold is zero."""
        if self.layout == "packed":
            x = torch.zeros(self.T, self.B, *rows.shape[1:], dtype=rows.dtype)
            x[self.alive] = rows
            return x
        if self.layout == "time":
            return rows.unflatten(0, (self.T, self.B))
        return rows.unflatten(0, (self.B, self.T)).transpose(0, 1)

    @property
    def rows(self) -> int:
        return int(self.ends.sum()) if self.layout == "packed" else self.T * self.B


def rounded_to_tf32(x: Tensor) -> Tensor:
    return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def drawn(shape: tuple[int, ...], dtype: torch.dtype, units: int, count: int) -> Iterator[Case]:
    """Cases for a kernel with room for `units`: the first fills it, the others try sizes, features and layouts."""
    chance = random.Random(f"{shape} {dtype}")
    for index in range(count):
        H = chance.choice([units, units - 1, units // 2 + 1, 17, 1]) if index else units
        yield Case(
            shape, dtype, chance.choice([1, 2, 3, 4, 7]), chance.choice([1, 3, 8, 9]), H,
            direction=["both", "reverse", "forward"][index % 3], state=index % 4 != 1, lengths=index % 2 == 0,
            resets=chance.random() < 0.6, save=index != 3, bias=index % 4 != 2,
            layout=["time", "batch", "packed"][(index + index // 3) % 3],
        )  # fmt: skip


# --- the definition --------------------------------------------------------------------------------------------------


def definition(case: Case, monkeypatch: pytest.MonkeyPatch) -> Results:
    """What reference.py says, and by step what the cell computed."""
    T, B, H = case.T, case.B, case.H
    results: list[Results] = []
    vanilla = reference.CELLS[0]
    for d, reverse in enumerate(case.reversals):
        gates, cells = [], []

        class Recorded(type(vanilla)):
            def step(self, a: Tensor, *rest: Tensor, gates: list = gates, cells: list = cells) -> tuple[Tensor, Tensor]:
                i, f, g, o = a.chunk(4, -1)
                h, c = super().step(a, *rest)
                gates.append(torch.stack([i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()], -1))
                cells.append(c)
                return h, c

        def tf32_linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
            return linear(rounded_to_tf32(x), rounded_to_tf32(w), b)

        with monkeypatch.context() as patch:
            patch.setattr(reference, "CELLS", [Recorded(**vars(vanilla))])
            if case.dtype == torch.float32:
                patch.setattr(reference, "linear", tf32_linear)
            y, h_n, c_n = reference.lstm_layer(
                case.pre[d],
                case.h0[d : d + 1] if case.state else None,
                case.c0[d : d + 1] if case.state else None,
                case.weights(d),
                **case.options(reverse),
            )
        order = -1 if reverse else 1
        results.append(
            {"y": y, "h_n": h_n, "c_n": c_n}
            | {"gates": torch.stack(gates[::order]).view(1, T, B, H, 4), "cells": torch.stack(cells[::order])[None]}
        )
    joined = {name: torch.cat([r[name] for r in results]) for name in ("h_n", "c_n", "gates", "cells")}
    return {"y": torch.cat([r["y"] for r in results], -1)} | joined


def gradients(case: Case, cotangents: dict[str, Tensor | None], monkeypatch: pytest.MonkeyPatch) -> Results:
    """Of the pre-activations (dx, since W_ih = 1) and of the initial states, direction by direction."""

    def tf32_linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return linear(x + (rounded_to_tf32(x.detach()) - x.detach()), rounded_to_tf32(w), b)

    found: dict[str, list[Tensor]] = {"dx": [], "dh0": [], "dc0": []}
    zero = torch.zeros(1, case.B, case.H, dtype=case.dtype)
    with monkeypatch.context() as patch:
        if case.dtype == torch.float32:
            patch.setattr(reference, "linear", tf32_linear)
        for d, reverse in enumerate(case.reversals):
            start = (case.h0[d : d + 1], case.c0[d : d + 1]) if case.state else (zero, zero)
            inputs = [t.clone().requires_grad_() for t in (case.pre[d], *start)]
            outputs = reference.lstm_layer(*inputs, case.weights(d), **case.options(reverse))
            mine = [None if g is None else g[d : d + 1] for g in (cotangents["h_n"], cotangents["c_n"])]
            mine.insert(0, None if cotangents["y"] is None else cotangents["y"][..., d * case.H : (d + 1) * case.H])
            used = [(out, g) for out, g in zip(outputs, mine) if g is not None]
            wanted = torch.autograd.grad([u[0] for u in used], inputs, [u[1] for u in used], materialize_grads=True)
            for name, grad in zip(found, wanted):
                found[name].append(grad if name == "dx" else grad[0])
    return {name: torch.stack(each) for name, each in found.items()}


def cotangents_of(case: Case, without: str = "") -> dict[str, Tensor | None]:
    sizes = {"y": (case.T, case.B, case.D * case.H), "h_n": (case.D, case.B, case.H), "c_n": (case.D, case.B, case.H)}
    return {name: None if name == without else torch.randn(size).to(case.dtype) for name, size in sizes.items()}


# --- running a kernel ------------------------------------------------------------------------------------------------


class Guarded:
    """A tensor full of NaN with more of it on both sides."""

    def __init__(self, dtype: torch.dtype, *shape: int) -> None:
        self.tensor = torch.full(shape, torch.nan, dtype=dtype)
        n = self.tensor.numel()
        self.memory = torch.full((n + 2 * GUARD,), torch.nan, dtype=dtype)
        self.tensor = self.memory[GUARD : GUARD + n].view(shape)

    def check(self) -> None:
        assert self.memory[:GUARD].isnan().all() and self.memory[-GUARD:].isnan().all(), "written past an end"


Kernel = Callable[..., None]


class _Common:
    """Addresses and sizes of what all directions share. Keeps the tensors alive."""

    def __init__(self, case: Case) -> None:
        strides = {"time": (case.B, 1), "batch": (1, case.T), "packed": (0, 0)}[case.layout]
        self.sizes = dict(
            steps=case.T, batch=case.B, hidden=case.H, step_stride=strides[0], row_stride=strides[1],
            y_stride=case.D * case.H,
        )  # fmt: skip
        self.tensors: dict[str, Tensor] = {}
        if case.lengths:
            self.tensors["lengths"] = case.row_lengths
        if case.layout == "packed":
            self.tensors["offsets"] = case.alive.sum(1).cumsum(0) - case.alive.sum(1)
        if case.resets:
            self.tensors["resets"] = case.arranged(case.reset_at)

    @property
    def addresses(self) -> dict[str, int]:
        return {name: tensor.data_ptr() for name, tensor in self.tensors.items()}


def run_forward(case: Case, kernel: Kernel, *extra: object) -> Results:
    """All results in time order; elements of gates and cells that belong to no valid step must be, and are, NaN."""
    H, D, rows = case.H, case.D, case.rows
    alive = case.arranged(case.alive[..., None])
    out = {
        "y": Guarded(case.dtype, rows, D * H),
        "h_n": Guarded(case.dtype, D, case.B, H),
        "c_n": Guarded(case.dtype, D, case.B, H),
        "gates": Guarded(torch.float32, D, rows, H, 4),
        "cells": Guarded(torch.float32, D, rows, H),
    }
    for d in range(D):  # in place: the kernel finds the pre-activations where it leaves the gates
        pre = case.arranged(case.pre[d].float()).view(rows, 4, H).transpose(1, 2)
        out["gates"].tensor[d] = torch.where(alive[..., None], pre, torch.nan)
    if not case.save:
        given = out["gates"].tensor.clone()
    addresses = []
    for d in range(D):
        a = {name: out[name].tensor[d].data_ptr() for name in ("h_n", "c_n", "gates", "cells")}
        a |= {"y": out["y"].tensor[..., d * H :].data_ptr(), "w_hh": case.w_hh[d].data_ptr(), "pre": a["gates"]}
        if case.bias:
            a |= {"b_ih": case.biases[d][0].data_ptr(), "b_hh": case.biases[d][1].data_ptr()}
        if case.state:
            a |= {"h0": case.h0[d].data_ptr(), "c0": case.c0[d].data_ptr()}
        if not case.save:
            a |= {"pre": given[d].data_ptr(), "gates": 0, "cells": 0}
        addresses.append(a)
    common = _Common(case)
    kernel(case.shape, DTYPES.index(case.dtype), addresses, case.reversals, common.addresses, common.sizes, *extra)
    for guarded in out.values():
        guarded.check()
    results = {"y": case.restored(out["y"].tensor), "h_n": out["h_n"].tensor, "c_n": out["c_n"].tensor}
    if case.save:
        for name in ("gates", "cells"):
            kept = out[name].tensor
            assert kept[:, ~alive[:, 0]].isnan().all(), f"{name}: written where nothing is valid"
            results[name] = torch.stack([case.restored(kept[d]) for d in range(D)])
    return results


def run_backward(
    case: Case, kept: Results, cotangents: dict[str, Tensor | None], kernel: Kernel, *extra: object
) -> Results:
    H, D, rows = case.H, case.D, case.rows
    alive = case.arranged(case.alive[..., None])
    gates = [torch.where(alive[..., None], case.arranged(kept["gates"][d]), torch.nan) for d in range(D)]
    cells = [torch.where(alive, case.arranged(kept["cells"][d]), torch.nan) for d in range(D)]
    dy = None if cotangents["y"] is None else case.arranged(cotangents["y"])
    out = {
        "dgates": Guarded(case.dtype, D, rows, H, 4),
        "dh0": Guarded(case.dtype, D, case.B, H),
        "dc0": Guarded(case.dtype, D, case.B, H),
    }
    addresses = []
    for d in range(D):
        a = {name: guarded.tensor[d].data_ptr() for name, guarded in out.items()}
        a |= {"gates": gates[d].data_ptr(), "cells": cells[d].data_ptr(), "w_hh": case.w_hh[d].data_ptr()}
        if case.state:
            a["c0"] = case.c0[d].data_ptr()
        if dy is not None:
            a["dy"] = dy[..., d * H :].data_ptr()
        a |= {f"d{name}": cotangents[name][d].data_ptr() for name in ("h_n", "c_n") if cotangents[name] is not None}
        addresses.append(a)
    common = _Common(case)
    kernel(case.shape, DTYPES.index(case.dtype), addresses, case.reversals, common.addresses, common.sizes, *extra)
    for guarded in out.values():
        guarded.check()
    dx = torch.stack([case.restored(g.transpose(1, 2).reshape(rows, 4 * H)) for g in out["dgates"].tensor])
    assert (dx[:, ~case.alive] == 0).all(), "nothing depends on what lies beyond a row's length"
    return {"dx": dx, "dh0": out["dh0"].tensor, "dc0": out["dc0"].tensor}


# --- comparing -------------------------------------------------------------------------------------------------------


def worst(case: Case, actual: Results, expected: Results) -> float:
    """The largest error, in units of what the tolerance allows; gates and cells count where rows are alive."""
    tolerance = case.tolerance()
    ratios = [0.0]
    for name, value in actual.items():
        wanted = expected[name]
        if name in ("gates", "cells"):
            value, wanted = value[:, case.alive], wanted[:, case.alive]
        error = (value.double() - wanted.double()).abs() / tolerance(name, wanted)
        ratios.append(error.nan_to_num(nan=torch.inf).max().item() if error.numel() else 0.0)
    return max(ratios)


def assert_right(case: Case, actual: Results, expected: Results) -> None:
    ratio = worst(case, actual, expected)
    assert ratio <= 1, f"{ratio:.3g} times as far from the definition as {case.tolerance()} allows, {case}"
    if "y" in actual:
        assert (actual["y"][~case.alive] == 0).all(), "y is zero beyond a row's length"


def assert_same_bits(results: list[Results]) -> None:
    for name, value in results[0].items():
        same = [torch.equal(value.nan_to_num(nan=9), other[name].nan_to_num(nan=9)) for other in results]
        assert all(same), f"{name} depends on the order in which threads run"


def noticed(case: Case, run: Callable[[], Results], expected: Results, error: type[Exception]) -> bool:
    """Whether a mistake made somewhere shows: the emulator complains, or results are wrong."""
    try:
        return worst(case, run(), expected) > 1
    except (error, AssertionError):
        return True
