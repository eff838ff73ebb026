"""``python -m benchmarks --suite variants``: what each option of FusedLSTM costs, and how far float32 is from float64.

A cost is the time of the module with these options divided by that of a plain one (of proj_clip: one with the same
proj_size), timed in turn. An error is the worst relative (Frobenius) difference of y, h_n, c_n and all gradients from
``reference.py`` in float64; no masks are drawn for it.
"""

from __future__ import annotations

import argparse
import copy
import json
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import fused_lstm
from fused_lstm import FusedLSTM, modules, reference

from .timing import Pair, compare

VARIANTS: list[dict[str, Any]] = [
    {"weight_dropout": 0.5},
    {"recurrent_dropout": 0.5},
    {"zoneout": 0.1},
    {"peephole": True},
    {"coupled_gates": True},
    {"cell_clip": 3.0},
    {"proj_size": 64, "proj_clip": 1.0},
    {"layer_norm": True},
    {"output_gate": "cell"},
    {"zoneout": 0.1, "peephole": True, "coupled_gates": True},
    {"layer_norm": True, "zoneout": 0.1},
]
TIMED = (64, 32, 256, 256)  # T, B, I, H
CHECKED = (24, 8, 64, 96)


def outputs_and_gradients(m: FusedLSTM, x: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    y, (h_n, c_n) = m(x)
    torch.manual_seed(1)
    loss = sum((out * torch.randn(out.shape).to(out.dtype)).sum() for out in (y, h_n, c_n))
    return [y, h_n, c_n, *torch.autograd.grad(loss, [x, *m.parameters()])]


def error_of(options: dict[str, Any]) -> float:
    T, B, I, H = CHECKED  # noqa: E741
    torch.manual_seed(0)
    m = FusedLSTM(I, H, **options).eval()
    exact_m, x = copy.deepcopy(m).double(), torch.randn(T, B, I)
    actual = outputs_and_gradients(m, x)
    with mock.patch.object(modules, "_lstm", reference.lstm):
        exact = outputs_and_gradients(exact_m, x.double())
    return max(((a - e).norm() / e.norm()).item() for a, e in zip(actual, exact, strict=True))


def cost_of(options: dict[str, Any], mode: str, threads: int, pairs: int) -> Pair:
    T, B, I, H = TIMED  # noqa: E741
    x = torch.randn(T, B, I, requires_grad=mode == "training")

    def run(m: FusedLSTM):
        m.train(mode == "training")
        cotangent = torch.randn(T, B, m.proj_size or H)

        def infer() -> None:
            with torch.no_grad():
                m(x)

        def train() -> None:
            m.zero_grad(set_to_none=True)
            x.grad = None
            m(x)[0].backward(cotangent)

        return train if mode == "training" else infer

    plain = FusedLSTM(I, H, proj_size=options.get("proj_size", 0) if "proj_clip" in options else 0)
    return compare(run(FusedLSTM(I, H, **options)), run(plain), threads=threads, pairs=pairs)


def main(args: argparse.Namespace, machine: dict[str, Any]) -> None:
    print(f"T,B,I,H = {','.join(map(str, TIMED))}, errors at {','.join(map(str, CHECKED))}; cost: time / time without")
    print(f"{'options':58} {'inference':>10} {'training':>10} {'error':>9}")
    for options in VARIANTS:
        name = ", ".join(f"{key}={value!r}" for key, value in options.items())
        costs = {mode: cost_of(options, mode, args.threads, args.pairs) for mode in ("inference", "training")}
        error = error_of(options)
        print(f"{name:58} {costs['inference'].ratio:10.2f} {costs['training'].ratio:10.2f} {error:9.1e}", flush=True)
        if args.json:
            row = dict(machine, variant=name, error=error, **{mode: vars(pair) for mode, pair in costs.items()})
            with args.json.open("a") as file:
                file.write(json.dumps(row) + "\n")
    print(f"kernels: {fused_lstm.cpu_isa()}; error of a plain FusedLSTM: {error_of({}):.1e}")
