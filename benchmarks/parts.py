"""Where the time of a layer goes: its parts by themselves, beside the time of the whole call.

The parts are the functions that the layer calls (benchmarks/native/parts.cpp), on float32 and one thread, with what
they read as warm as in a layer. What the whole takes beyond their sum is "rest": checks, allocation, rows and pointers,
operands that were colder. A barrier, which one thread does not need, is timed beside them with one and with two
threads; no sum contains it.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
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

ROOT = Path(__file__).resolve().parents[1]
FORWARD = ("packing", "x-projection", "recurrent step")
BACKWARD = ("packing for backward", "recurrent product, backward", "cell, backward", "dx", "dW")
# of multiply-adds a step and row, in units of 4H * (I or H)
PRODUCTS = {
    "x-projection": "I", "recurrent product": "H", "recurrent step": "H", "recurrent product, backward": "H",
    "dx": "I", "dW": "IH",
}  # fmt: skip


class Unavailable(RuntimeError):
    """Why the parts cannot be timed here."""


class Native:
    """benchmarks/native/parts.cpp, linked with the objects of the library itself: the code that ships."""

    MOST_PARTS, MOST_NAMES = 32, 1024

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        sizes = [ctypes.c_int64] * 4
        library.time_parts.argtypes = [ctypes.c_char_p, *sizes, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]
        library.time_barrier.restype = ctypes.c_double

    def time_parts(self, isa: str, T: int, B: int, I: int, H: int, rounds: int) -> dict[str, list[float]]:
        names = ctypes.create_string_buffer(self.MOST_NAMES)
        seconds = (ctypes.c_double * (self.MOST_PARTS * rounds))()
        count = self.library.time_parts(isa.encode(), T, B, I, H, rounds, names, seconds)
        if not count:
            raise Unavailable(f"there are no kernels for {isa}")
        listed = names.raw.split(b"\0")[:count]
        return {name.decode(): seconds[k * rounds : (k + 1) * rounds] for k, name in enumerate(listed)}

    def time_barrier(self, members: int, rounds: int) -> float:
        return self.library.time_barrier(members, rounds)


@functools.cache
def native() -> Native:
    """Built by setup.py's own steps: where the library was built here, one file is left to compile."""
    os.environ.setdefault("FUSED_LSTM_WERROR", "1")  # as under make: another flag would compile everything anew
    try:
        setup = _setup()
        steps, target = setup.Build(), "build/bench/fused_lstm_parts.so"
        steps.link(target, [*setup.compile_kernels(steps), steps.compile("benchmarks/native/parts.cpp", [])])
        steps.run("bench")
        return Native(ctypes.CDLL(str(ROOT / target)))
    except (Exception, SystemExit) as error:  # compilers fail in their own ways
        raise Unavailable(f"benchmarks/native/parts.cpp was not built: {error}") from error


def _setup() -> ModuleType:
    """setup.py as a module."""
    spec = importlib.util.spec_from_file_location("fused_lstm_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def measure(group: Group, *, seconds: float, module: Native | None = None) -> list[dict]:
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
        "barriers": {str(n): min(module.time_barrier(n, 500) for _ in range(7)) for n in (1, 2)},
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
    found = {name: parts[name] for name in FORWARD}
    # the cell hides in the step: what it adds to the product
    found["cell"] = max(0.0, parts["recurrent step"] - parts["recurrent product"])
    found["recurrent step"] -= found["cell"]
    found |= {name: parts[name] for name in BACKWARD if mode == "training"}
    found["rest"] = row["whole"][mode] - sum(found.values())
    return found
