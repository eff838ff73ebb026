"""The LSTM as people write it themselves: a Python loop over steps, the products with x done at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from ..problem import Problem
from .base import Call, Peer, forward_call, only_plain
from .compiling import no_compiler


def cell(a: Tensor, h: Tensor, c: Tensor, w_hh: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = (a + linear(h, w_hh)).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


class Loop(Peer):
    slow = True

    def __init__(self, compiled: bool) -> None:
        self.compiled = compiled
        self.name = "loop-compile" if compiled else "loop"
        self.what = "a Python loop over steps" + (", its cell under torch.compile" if compiled else "")

    def missing(self, device: str) -> str | None:
        return no_compiler() if self.compiled else None

    def refuses_shape(self, problem: Problem) -> str | None:
        return only_plain(problem)

    def call(self, problem: Problem, threads: int) -> Call:
        leaves = [[w.detach().requires_grad_() for w in weights] for weights in problem.weights]
        sources = [problem.leaf, *(w for weights in leaves for w in weights)]
        step = torch.compile(cell, dynamic=False) if self.compiled else cell

        def forward() -> tuple[Tensor, list]:
            y, states = problem.leaf, []
            for m, weights, state in zip(problem.modules, leaves, problem.states):
                h_n, c_n = [], []
                for layer in range(m.layers):
                    outputs = []
                    for d in range(m.directions):
                        k = layer * m.directions + d
                        ends = (t[k] for t in state) if state else (y.new_zeros(problem.shape.B, m.H) for _ in "hc")
                        out, h, c = _one(step, y, *ends, weights[4 * k : 4 * k + 4], reverse=d == 1)
                        outputs.append(out)
                        h_n.append(h), c_n.append(c)
                    y = torch.cat(outputs, -1)
                states.append((torch.stack(h_n), torch.stack(c_n)))
            return y, states

        return forward_call(problem, forward, sources)


def _one(step, x: Tensor, h: Tensor, c: Tensor, weights: list[Tensor], reverse: bool):
    w_ih, w_hh, b_ih, b_hh = weights
    projected = linear(x, w_ih, b_ih + b_hh)
    outputs = []
    for a in projected.flip(0) if reverse else projected:
        h, c = step(a, h, c, w_hh)
        outputs.append(h)
    y = torch.stack(outputs)
    return y.flip(0) if reverse else y, h, c
