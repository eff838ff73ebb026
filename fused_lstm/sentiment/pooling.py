"""All steps of a text to one vector, padding left out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

POOLINGS = ("max", "mean", "last", "concat", "attention")


class Pooling(nn.Module):
    """``steps`` (B, T, F), 0 beyond each row's length, and ``last`` (B, F), the state at its end, to (B, ``features``).

    "concat" is [last, max, mean] (Howard & Ruder 2018). "attention" is a mean whose weights are the softmax of a tanh
    layer's scores (Yang et al. 2016).
    """

    def __init__(self, how: str, features: int) -> None:
        super().__init__()
        if how not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)} but is {how!r}")
        self.how = how
        self.features = 3 * features if how == "concat" else features
        if how == "attention":
            self.inner = nn.Linear(features, features)
            self.score = nn.Linear(features, 1, bias=False)

    def initialise(self, generator: torch.Generator) -> None:
        for name, parameter in self.named_parameters():
            if "weight" in name:
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:
                nn.init.zeros_(parameter)

    def forward(self, steps: Tensor, last: Tensor, lengths: Tensor) -> Tensor:
        if self.how == "last":
            return last
        if self.how == "mean":
            return _mean(steps, lengths)
        padding = (torch.arange(steps.shape[1], device=steps.device) >= lengths[:, None])[..., None]
        if self.how == "max":
            return _max(steps, padding)
        if self.how == "concat":
            return torch.cat([last, _max(steps, padding), _mean(steps, lengths)], dim=1)
        scores = self.score(torch.tanh(self.inner(steps))).masked_fill(padding, float("-inf"))
        return (steps * torch.softmax(scores, dim=1)).sum(dim=1)


def _max(steps: Tensor, padding: Tensor) -> Tensor:
    return steps.masked_fill(padding, float("-inf")).max(dim=1).values


def _mean(steps: Tensor, lengths: Tensor) -> Tensor:
    return steps.sum(dim=1) / lengths[:, None].to(steps.dtype)
