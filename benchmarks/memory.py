"""``python -m benchmarks.memory``: peak memory of a training step, and what recompute=True costs in time.

Each way runs in a process of its own. "peak" is how far the resident set rises above what input, weights and their
gradients need, over three steps; "saved" is what autograd keeps between forward and backward.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import fused_lstm

from .timing import compare

MIB = 2**20
WAYS: dict[str, Callable[[int], nn.LSTM]] = {
    "nn.LSTM": lambda H: nn.LSTM(H, H),
    "FusedLSTM": lambda H: fused_lstm.FusedLSTM(H, H),
    "FusedLSTM recompute": lambda H: fused_lstm.FusedLSTM(H, H, recompute=True),
}


class Step:
    """A training step of a layer in the middle of a model: its input wants a gradient too."""

    def __init__(self, way: str, T: int, B: int, H: int) -> None:
        torch.manual_seed(0)
        self.module = WAYS[way](H)
        self.x = torch.randn(T, B, H, requires_grad=True)
        self.cotangent = torch.randn(T, B, H)
        for t in (self.x, *self.module.parameters()):
            t.grad = torch.zeros_like(t)

    def __call__(self) -> None:
        y, _ = self.module(self.x)
        y.backward(self.cotangent)


def resident(field: str = "VmRSS") -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}; this benchmark needs Linux")


def saved_bytes(step: Step) -> int:
    """Input, weights and output not counted: those live anyway."""
    found: dict[int, int] = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        found[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y, _ = step.module(step.x)
    alive = {t.untyped_storage().data_ptr() for t in (step.x, y, *step.module.parameters())}
    return sum(n for at, n in found.items() if at not in alive)


def measure(way: str, T: int, B: int, H: int) -> dict[str, float]:
    Step(way, 2, 1, H)()  # threads, kernels, code: not what is asked
    step = Step(way, T, B, H)
    for t in (step.x.grad, step.cotangent):
        t.add_(0)  # its pages are there
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    for _ in range(3):
        step()
    return {"peak": resident("VmHWM") - before, "saved": saved_bytes(step)}


def in_own_process(way: str, args: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", "--way", way, "--threads", str(args.threads)]
    command += [f"--{name}={getattr(args, name)}" for name in "TBH"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.split("\n\n")[0])
    parser.add_argument("--T", type=int, default=1024)
    parser.add_argument("--B", type=int, default=32)
    parser.add_argument("--H", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    size = (args.T, args.B, args.H)
    if args.way:
        print(json.dumps(measure(args.way, *size)))
        return
    print(f"T, B, H = {size}, float32, {args.threads} thread(s), torch {torch.__version__}, {fused_lstm.cpu_isa()}")
    print(f"{'':22}{'peak MiB':>10}{'saved MiB':>11}{'KiB a step':>12}")
    for way in WAYS:
        found = in_own_process(way, args)
        each = found["saved"] / args.T / 1024
        print(f"{way:22}{found['peak'] / MIB:10.0f}{found['saved'] / MIB:11.0f}{each:12.0f}", flush=True)
    steps = {way: Step(way, *size) for way in WAYS}
    torch.autograd.set_multithreading_enabled(False)  # autograd's own thread would escape the clock
    for other in ("FusedLSTM", "nn.LSTM"):
        pair = compare(steps["FusedLSTM recompute"], steps[other], threads=args.threads, pairs=args.pairs)
        print(f"time of recompute / time of {other}: {pair.ratio:.2f} ({pair.low:.2f}..{pair.high:.2f})", flush=True)


if __name__ == "__main__":
    main()
