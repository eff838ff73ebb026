"""One shape as tensors: input, weights, lengths, resets, states, and what any right implementation makes of them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from fused_lstm import reference

from .shapes import Module, Shape

# dtypes by the names of the command line; tf32: float32 tensors, products in TF32 (CUDA)
DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
# Relative (Frobenius) errors that output and gradients may have against float64.
TOLERANCE = {"float32": 1e-4, "tf32": 5e-3, "bfloat16": 5e-2, "float16": 1e-2, "float64": 1e-11}
EPISODE = 0.02  # share of steps that begin one

# The float64 check of a shape with more work than this is done on fewer steps of it, which the row then says.
CHECK_FLOPS, CHECK_STEPS = 6e9, 2048

Result = list[Tensor]


def checked_steps(shape: Shape, mode: str) -> int:
    by_work = int(CHECK_FLOPS * shape.T / shape.flops(mode))
    return min(shape.T, CHECK_STEPS, max(4, by_work))


class Problem:
    """``mode`` is "inference", "training" or "latency" (inference of given steps from a given state)."""

    def __init__(self, shape: Shape, dtype: str, mode: str, device: str = "cpu") -> None:
        torch.manual_seed(0)
        self.shape, self.dtype_name, self.mode, self.device = shape, dtype, mode, device
        self.dtype = DTYPES[dtype]
        self.modules = shape.modules()
        made = [torch_module(m).to(device=device, dtype=self.dtype) for m in self.modules]
        self.weights: list[list[Tensor]] = [list(m.parameters()) for m in made]
        training = mode == "training"
        self.x = torch.randn(shape.T, shape.B, shape.I, device=device, dtype=self.dtype, requires_grad=training)
        self.lengths = torch.tensor(shape.lengths()) if shape.packed else None
        self.resets = (torch.rand(shape.T, shape.B) < EPISODE).to(device) if shape.resets else None
        self.states = [self._state(m) for m in self.modules] if mode == "latency" else [None] * len(made)
        self.cotangent = torch.randn(shape.T, shape.B, self.modules[-1].output, device=device).to(self.dtype)
        self._pack_once()

    def _state(self, m: Module) -> tuple[Tensor, Tensor]:
        size = (m.layers * m.directions, self.shape.B, m.H)
        return tuple((torch.randn(size, device=self.device) / 2).to(self.dtype) for _ in "hc")

    def pack(self, t: Tensor) -> PackedSequence:
        return pack_padded_sequence(t, self.lengths, enforce_sorted=False)

    def _pack_once(self) -> None:
        """Packing is the caller's cost and not what is measured; its result is the leaf that gets a gradient."""
        self.leaf = self.x
        self.order = None
        if self.lengths is not None:
            self.order = self.pack(self.x.detach())
            self.leaf = self.order.data.requires_grad_(self.mode == "training")
            self.cotangent = self.pack(self.cotangent).data

    def given(self) -> Tensor | PackedSequence:
        return self.leaf if self.order is None else PackedSequence(self.leaf, *self.order[1:])

    def as_output(self, rectangle: Tensor) -> Tensor:
        """(T, B, ...) as nn.LSTM would return it: packed where the input was."""
        return rectangle if self.order is None else self.pack(rectangle).data

    def steps_cut(self, T: int) -> Problem:
        return self if T == self.shape.T else Problem(self.shape.with_steps(T), self.dtype_name, self.mode, self.device)

    # ---- what is right

    def expected(self) -> Result:
        """In float64: y, for latency also h_n and c_n, for training the gradients. By torch.nn.LSTM, where it knows the
        feature; resets by the definition, ``fused_lstm.reference``."""
        exact = copy.copy(self)
        exact.leaf = self.leaf.detach().double().requires_grad_(self.mode == "training")
        exact.cotangent = self.cotangent.double()
        exact.states = [None if pair is None else tuple(t.double() for t in pair) for pair in self.states]
        pairs = zip(self.modules, self.weights)
        modules = [self.loaded(torch_module(m).to(self.device), weights).double() for m, weights in pairs]
        run = _by_torch if self.resets is None else _by_definition
        with torch.set_grad_enabled(self.mode == "training"):
            y, states = run(exact, modules)
        return exact.finish(y, states, [exact.leaf, *(p for m in modules for p in m.parameters())])

    @staticmethod
    def loaded(module: nn.LSTM, weights: list[Tensor]) -> nn.LSTM:
        """``module`` in the dtype of these weights, with them."""
        module = module.to(weights[0].dtype)
        with torch.no_grad():
            for parameter, weight in zip(module.parameters(), weights, strict=True):
                parameter.copy_(weight)
        return module

    def finish(self, y: Tensor, states: list[tuple[Tensor, Tensor]], sources: Result) -> Result:
        """Results of one call, as they are compared."""
        if self.mode == "training":
            return [y.detach(), *torch.autograd.grad(y, sources, self.cotangent)]
        return [y, *(t for pair in states for t in pair)] if self.mode == "latency" else [y]


def _by_torch(problem: Problem, modules: list[nn.LSTM]):
    y, states = problem.given(), []
    for module, state in zip(modules, problem.states):
        y, after = module(y, state)
        states.append(after)
    return data_of(y), states


def _by_definition(problem: Problem, modules: list[nn.LSTM]):
    y, states = problem.leaf, []
    for m, module, state in zip(problem.modules, modules, problem.states):
        direction = "both" if m.bidirectional else "forward"
        weights = list(module.parameters())
        y, *after = reference.lstm(y, state, weights, m.layers, direction=direction, resets=problem.resets)
        states.append(tuple(after))
    return y, states


def torch_module(m: Module) -> nn.LSTM:
    return nn.LSTM(m.I, m.H, num_layers=m.layers, bidirectional=m.bidirectional)


def data_of(y: Tensor | PackedSequence) -> Tensor:
    return y.data if isinstance(y, PackedSequence) else y


def worst_error(actual: Result, expected: Result) -> float:
    """Largest relative (Frobenius) difference; infinite where something is no number or of another shape."""
    if [t.shape for t in actual] != [t.shape for t in expected]:
        return float("inf")
    worst = 0.0
    for a, e in zip(actual, expected):
        e = e.double()
        error = ((a.double().to(e.device) - e).norm() / e.norm().clamp_min(1e-30)).item()
        worst = max(worst, error if error == error else float("inf"))
    return worst
