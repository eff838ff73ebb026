"""torch.nn.LSTM (cuDNN on CUDA, oneDNN on the CPU) and FusedLSTM: modules called the same way."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import fused_lstm

from ..problem import Problem, data_of, torch_module
from ..shapes import Module
from .base import Call, Peer, forward_call
from .compiling import no_compiler

Forward = Callable[..., tuple]


class ModulePeer(Peer):
    """A module in the place of nn.LSTM, ``build`` makes it; nn.LSTMs of different sizes follow each other."""

    def build(self, m: Module) -> nn.LSTM:
        raise NotImplementedError

    def forward_of(self, problem: Problem, module: nn.LSTM) -> Forward:
        return torch.compile(module) if self.compiled else module

    def call(self, problem: Problem, threads: int) -> Call:
        modules = [
            problem.loaded(self.build(m).to(problem.device), weights)
            for m, weights in zip(problem.modules, problem.weights)
        ]
        sources = [problem.leaf, *(p for module in modules for p in module.parameters())]
        forwards = [self.forward_of(problem, module) for module in modules]

        def forward() -> tuple[Tensor, list]:
            y, states = problem.given(), []
            for each, state in zip(forwards, problem.states):
                y, after = each(y, state)
                states.append(after)
            return data_of(y), states

        return forward_call(problem, forward, sources)


class Torch(ModulePeer):
    name, what = "torch", "torch.nn.LSTM (cuDNN; oneDNN on the CPU); with resets: a call a step, states masked between"

    def build(self, m: Module) -> nn.LSTM:
        return torch_module(m)

    def forward_of(self, problem: Problem, module: nn.LSTM) -> Forward:
        forward = super().forward_of(problem, module)
        return forward if problem.resets is None else _step_by_step(problem, forward, module)

    def refuses_shape(self, problem: Problem) -> str | None:
        if problem.resets is not None and any(m.bidirectional for m in problem.modules):
            return "resets in both directions would need loops of our own making"
        return None


class TorchCompiled(Torch):
    name, what = "torch-compile", "the same under torch.compile; unless rows say: not compiled"
    compiled = True
    slow = True

    def missing(self, device: str) -> str | None:
        return super().missing(device) or no_compiler()


class TorchBenchmark(Torch):
    name, what = "torch-benchmark", "torch.nn.LSTM with torch.backends.cudnn.benchmark"
    devices = ("cuda",)

    def call(self, problem: Problem, threads: int) -> Call:
        call = super().call(problem, threads)

        def run() -> object:
            before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
            try:
                return call.run()
            finally:
                torch.backends.cudnn.benchmark = before

        return Call(run, call.results)


class Fused(ModulePeer):
    install = "this project"

    def __init__(self, name: str, what: str, compiled: bool = False, **options: object) -> None:
        self.name, self.what, self.compiled, self.options = name, what, compiled, options
        if "recompute" in options:
            self.modes = ("training",)

    def missing(self, device: str) -> str | None:
        return no_compiler() if self.compiled else None

    def build(self, m: Module) -> nn.LSTM:
        return fused_lstm.FusedLSTM(
            m.I, m.H, num_layers=m.layers, bidirectional=m.bidirectional, **self.options
        )

    def forward_of(self, problem: Problem, module: nn.LSTM) -> Forward:
        forward = super().forward_of(problem, module)
        if problem.resets is None:
            return forward
        return lambda y, state: forward(y, state, resets=problem.resets)


def _step_by_step(problem: Problem, forward: Forward, module: nn.LSTM) -> Forward:
    """What reinforcement learning code does: a call a step, the state of rows that begin anew masked before it."""
    keep = (~problem.resets).to(problem.dtype)[:, None, :, None]  # of each step: (1, B, 1)

    def run(x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple:
        if state is None:
            zeros = x.new_zeros(module.num_layers, problem.shape.B, module.hidden_size)
            state = zeros, zeros
        outputs = []
        for step, kept in zip(x, keep):
            y, state = forward(step.unsqueeze(0), tuple(kept * s for s in state))
            outputs.append(y)
        return torch.cat(outputs), state

    return run
