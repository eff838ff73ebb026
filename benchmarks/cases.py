"""One shape as a pair of modules with the same weights, checked against each other before anything is timed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fused_lstm

from .shapes import Shape


class Case:
    """``run(module, mode)`` returns a function to time; mode is "inference" or "training"."""

    def __init__(self, shape: Shape, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.shape, self.dtype = shape, dtype
        arguments = dict(num_layers=shape.layers, bidirectional=shape.bidirectional)
        self.torch = nn.LSTM(shape.I, shape.H, **arguments).to(dtype)
        self.fused = fused_lstm.FusedLSTM(shape.I, shape.H, **arguments).to(dtype)
        self.fused.load_state_dict(self.torch.state_dict())
        self.x = torch.randn(shape.T, shape.B, shape.I, dtype=dtype, requires_grad=True)
        self.lengths = None
        if shape.packed:
            self.lengths = torch.randint(shape.T // 2, shape.T + 1, (shape.B,))
            self.lengths[0] = shape.T
        self.cotangent = torch.randn_like(self._output(self.torch))

    def _input(self, x: Tensor) -> Tensor | PackedSequence:
        return x if self.lengths is None else pack_padded_sequence(x, self.lengths, enforce_sorted=False)

    def _output(self, module: nn.Module) -> Tensor:
        y = module(self._input(self.x))[0]
        return y.data if isinstance(y, PackedSequence) else y

    def run(self, module: nn.Module, mode: str) -> Callable[[], object]:
        if mode == "inference":
            x = self._input(self.x.detach())

            def infer() -> None:
                with torch.no_grad():
                    module(x)

            return infer

        def train() -> None:
            module.zero_grad(set_to_none=True)
            self.x.grad = None
            self._output(module).backward(self.cotangent)

        return train

    def worst_error(self) -> float:
        """Largest relative (Frobenius) difference of output and gradients between the two modules."""
        results = []
        for module in (self.torch, self.fused):
            module.zero_grad(set_to_none=True)
            self.x.grad = None
            y = self._output(module)
            y.backward(self.cotangent)
            results.append([y.detach(), self.x.grad, *(p.grad for p in module.parameters())])
        differences = [
            ((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30)).item()
            for a, b in zip(*results, strict=True)
        ]
        return max(differences)
