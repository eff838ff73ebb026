"""Where the time of a layer goes: its parts by themselves, beside the time of the whole call.

The parts are the functions that the layer calls (tests/native/bind_parts.cpp), on float32 and one thread, with what
they read as warm as in a layer. What the whole takes beyond their sum is "rest": checks, allocation, rows and pointers,
operands that were colder. The barrier is measured with as many threads as asked for, and counted once a step.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from pathlib import Path
from types import ModuleType

import fused_lstm

from .clocks import CpuClock
from .measure import described
from .peers import OURS
from .plan import Group
from .problem import Problem
from .shapes import Module

FORWARD = ("packing", "x-projection", "recurrent step")
BACKWARD = ("packing for backward", "recurrent product, backward", "cell, backward", "dx", "dW")
# of multiply-adds a step and row, in units of 4H * (I or H)
PRODUCTS = {
    "x-projection": "I", "recurrent product": "H", "recurrent step": "H", "recurrent product, backward": "H",
    "dx": "I", "dW": "IH",
}  # fmt: skip


class Unavailable(RuntimeError):
    """Why the parts cannot be timed here."""


def native() -> ModuleType:
    """The test module over the C++ internals, built if it has to be."""
    builder = Path(__file__).resolve().parents[1] / "tests" / "native" / "build.py"
    if not importlib.util.find_spec("pybind11"):
        raise Unavailable('pybind11 is not installed: pip install ".[dev]"')
    try:
        build = _load("fused_lstm_native_build", builder)
        return _load(build.NAME, build.build())
    except (Exception, SystemExit) as error:  # compilers fail in their own ways
        raise Unavailable(f"the native module was not built: {error}") from error


def _load(name: str, path: Path) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = module
    return module


def measure(group: Group, *, seconds: float, module: ModuleType | None = None) -> list[dict]:
    """One row: seconds of each part and of the whole call, inference and training."""
    module = module or native()
    shape = group.shape
    (m,) = shape.modules()
    sizes = (fused_lstm.cpu_isa(), shape.T, shape.B, m.I, m.H)
    start = time.perf_counter()
    module.time_parts(*sizes, 1)
    rounds = max(3, min(40, int(seconds / max(1e-6, time.perf_counter() - start))))
    parts = {name: statistics.median(values) for name, values in module.time_parts(*sizes, rounds).items()}
    whole = {mode: _whole(group, mode) for mode in ("inference", "training")}
    rates = {name: _flops(name, m, shape.T * shape.B) / parts[name] / 1e9 for name in PRODUCTS}
    row = {
        **described(group, "cpu", ""),
        "status": "ok",
        "parts": parts,
        "gflops": rates,
        "whole": whole,
        "barriers": {str(n): module.time_barrier(n, 2000) for n in (1, 2)},
        "rounds": rounds,
    }
    return [row]


def _flops(part: str, m: Module, rows: int) -> float:
    return 2.0 * rows * 4 * m.H * sum({"I": m.I, "H": m.H}[size] for size in PRODUCTS[part])


def _whole(group: Group, mode: str, samples: int = 7) -> float:
    import torch

    torch.set_num_threads(1)
    torch.autograd.set_multithreading_enabled(False)
    clock = CpuClock(1)
    call = OURS.call(Problem(group.shape, group.dtype, mode), 1).run
    calls = clock.calls(call)
    return statistics.median(clock.sample(call, calls) for _ in range(samples))


def stack(row: dict, mode: str) -> dict[str, float]:
    """Parts that make up a call, in seconds, the rest last. Parts may add up to more than the whole: the rest is then
    negative, and says how much warmer operands are than in a call."""
    parts = row["parts"]
    found = {name: parts[name] for name in FORWARD + (BACKWARD if mode == "training" else ())}
    # the cell hides in the step: what it adds to the product
    inside = min(max(0.0, parts["recurrent step"] - parts["recurrent product"]), parts["recurrent step"])
    found["recurrent step"] -= inside
    found["cell"] = inside
    found["rest"] = row["whole"][mode] - sum(found.values())
    return found
