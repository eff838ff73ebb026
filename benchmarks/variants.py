"""``python -m benchmarks --suite variants``: what each option of FusedLSTM costs, and how far float32 is from float64.

A cost is the time of the module with these options divided by that of a plain one (of proj_clip: one with the same
proj_size), timed in turn. An error is the worst relative (Frobenius) difference of y, h_n, c_n and all gradients from
``reference.py`` in float64; no masks are drawn for it.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import fused_lstm
from fused_lstm import FusedLSTM, modules, reference

from . import machine
from .clocks import CpuClock
from .results_file import Writer
from .timing import Duel, race

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
    with mock.patch.object(modules, "_lstm", lambda *args, recompute, **more: reference.lstm(*args, **more)):
        exact = outputs_and_gradients(exact_m, x.double())
    return max(((a - e).norm() / e.norm()).item() for a, e in zip(actual, exact, strict=True))


def cost_of(options: dict[str, Any], mode: str, threads: int, seconds: float) -> Duel:
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
    rivals, clock = {"options": run(FusedLSTM(I, H, **options))}, CpuClock(threads)
    duel = race(run(plain), rivals, clock, seconds=seconds, now=time.perf_counter)["options"]
    if isinstance(duel, Exception):
        raise duel
    return duel


def main(all_threads: list[int], seconds: float, output: Path | None) -> int:
    sizes, checked = (",".join(map(str, of)) for of in (TIMED, CHECKED))
    print(f"T,B,I,H = {sizes}, errors at {checked}; cost: time / time without, {fused_lstm.cpu_isa()}")
    print(f"{'options':58} {'threads':>7} {'inference':>10} {'training':>10} {'error':>9}")
    writer = Writer(output) if output else None
    if writer:
        writer.run(machine.describe("cpu"))
    for threads in all_threads:
        torch.set_num_threads(threads)
        torch.autograd.set_multithreading_enabled(threads > 1)
        for options in VARIANTS:
            name = ", ".join(f"{key}={value!r}" for key, value in options.items())
            costs = {mode: cost_of(options, mode, threads, seconds) for mode in ("inference", "training")}
            error = error_of(options)
            shown = (f"{costs[mode].ratio:10.2f}" for mode in costs)
            print(f"{name:58} {threads:7} {' '.join(shown)} {error:9.1e}", flush=True)
            if writer:
                found = {mode: vars(duel) for mode, duel in costs.items()}
                writer.write(dict(kind="variant", variant=name, threads=threads, error=error, **found))
    if writer:
        writer.finish()
    print(f"error of a plain FusedLSTM: {error_of({}):.1e}")
    return 0
