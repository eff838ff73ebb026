"""What a peer has to say of itself."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..problem import Problem, Result


@dataclass(frozen=True)
class Call:
    """``run()`` is what gets timed; ``results(run())`` what gets compared with ``Problem.expected``."""

    run: Callable[[], object]
    results: Callable[[object], Result]


def forward_call(problem: Problem, forward: Callable[[], tuple[Tensor, list]], sources: Result) -> Call:
    """The call of a peer that torch differentiates: ``forward()`` gives y and (h_n, c_n) of every module."""

    def infer() -> Result:
        with torch.no_grad():
            return problem.finish(*forward(), sources)

    def train() -> Result:
        return problem.finish(*forward(), sources)

    return Call(train if problem.mode == "training" else infer, lambda results: results)


class Peer:
    name: str
    what: str  # one line for people
    install: str = "comes with torch"
    devices: tuple[str, ...] = ("cpu", "cuda")
    modes: tuple[str, ...] = ("inference", "training", "latency")
    dtypes: tuple[str, ...] = ("float32", "tf32", "bfloat16", "float16", "float64")
    own_streams = False  # on CUDA: events on torch's stream see nothing of it, nor do graphs
    own_threads = False  # works on other threads than the caller's even with one thread
    compiled = False  # by torch.compile: what it made of it is counted
    slow = False  # minutes of compilation, or many times as slow: only where asked for by name, and on one shape

    def missing(self, device: str) -> str | None:
        """Why it cannot be used here at all."""
        return None if device in self.devices else f"runs on {' and '.join(self.devices)} only"

    def refuses(self, problem: Problem, threads: int = 1) -> str | None:
        """Why it is no peer for this problem."""
        if problem.mode not in self.modes:
            return f"{problem.mode} is not its business"
        if problem.dtype_name not in self.dtypes:
            return f"knows no {problem.dtype_name}"
        return self.refuses_threads(threads) or self.refuses_shape(problem)

    def refuses_threads(self, threads: int) -> str | None:
        return None

    def refuses_shape(self, problem: Problem) -> str | None:
        return None

    def call(self, problem: Problem, threads: int) -> Call:
        raise NotImplementedError


def module_missing(name: str) -> str | None:
    """Says that a Python module is not installed, without importing it."""
    return None if importlib.util.find_spec(name) else f"{name} is not installed"


def only_plain(problem: Problem, *, layers: bool = True) -> str | None:
    """For peers that know neither lengths nor resets."""
    if problem.lengths is not None:
        return "knows no rows of different lengths"
    if problem.resets is not None:
        return "knows no resets"
    if not layers and any(m.layers > 1 or m.bidirectional for m in problem.modules):
        return "one layer and direction only"
    return None
