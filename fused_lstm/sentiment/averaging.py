"""Averages of the weights over the steps of a run, which often do better than the last weights.

"ema": exponential moving average. "swa": equal average of the weights after each step, from some step on (Izmailov et
al. 2018, with a decaying rate). "ntasgd": the same, from when dev has not improved for some epochs (Merity et al.
2017).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

AVERAGINGS = ("none", "ema", "swa", "ntasgd")


class Average:
    """The average of ``parameters``, ``count`` of which it has seen; nothing is kept before the first `update`."""

    def __init__(self, parameters: Iterable[Tensor], decay: float | None = None) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.count = 0
        self.values: list[Tensor] = []

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the parameters as they are. An EMA starts as a plain average and so is not drawn to the start."""
        self.count += 1
        if not self.values:
            self.values = [p.detach().clone() for p in self.parameters]
            return
        share = 1 / self.count if self.decay is None else max(1 - self.decay, 1 / self.count)
        torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], share)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges average and parameters; twice is as before."""
        for parameter, value in zip(self.parameters, self.values):
            kept = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(kept)

    def state(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Tensors and plain values to give to `restore`."""
        return {str(i): value for i, value in enumerate(self.values)}, {"count": self.count}

    def restore(self, tensors: dict[str, Tensor], plain: dict[str, int]) -> None:
        self.count = plain["count"]
        self.values = [tensors[str(i)].to(self.parameters[i].device) for i in range(len(tensors))]
