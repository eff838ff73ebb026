"""Texts for a language model: all of them one after the other, in rows side by side, cut into windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .language_model import NO_TARGET

_SHORTEST = 5


class Window(NamedTuple):
    """``length`` steps from ``start`` of the streams of ``epoch``."""

    epoch: int
    start: int
    length: int


class Streams(NamedTuple):
    """``tokens`` and ``targets`` (B, N); ``resets`` (B, N): a text begins here."""

    tokens: Tensor
    targets: Tensor
    resets: Tensor


class Texts:
    """Lists of token numbers as one flat tensor. ``backwards``: each text from its end."""

    def __init__(self, texts: Sequence[Sequence[int]], backwards: bool = False) -> None:
        self.lengths = torch.tensor([len(text) for text in texts], dtype=torch.int64)
        self.starts = torch.cumsum(self.lengths, 0) - self.lengths
        self.flat = torch.tensor([n for text in texts for n in (reversed(text) if backwards else text)])

    def streams(self, rows: int, generator: torch.Generator) -> Streams:
        """The texts in random order, in ``rows`` rows of equal length. What does not fill all rows is left out."""
        order = torch.randperm(len(self.lengths), generator=generator)
        lengths = self.lengths[order]
        begins = torch.cumsum(lengths, 0) - lengths
        # Places in flat: the start of each text, counted on from where it begins in the stream.
        places = torch.arange(len(self.flat)) + torch.repeat_interleave(self.starts[order] - begins, lengths)
        tokens = self.flat[places]
        resets = torch.zeros(len(tokens), dtype=torch.bool)
        resets[begins] = True
        steps = self.steps(rows)
        tokens, resets = (t[: rows * steps].view(rows, steps) for t in (tokens, resets))
        targets = torch.full_like(tokens, NO_TARGET)
        targets[:, :-1] = torch.where(resets[:, 1:], NO_TARGET, tokens[:, 1:])
        return Streams(tokens, targets, resets)

    def steps(self, rows: int) -> int:
        return len(self.flat) // rows

    def rows(self, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One text a row: tokens, targets and lengths."""
        lengths = self.lengths[which]
        steps = torch.arange(int(lengths.max()))
        inside = steps < lengths[:, None]
        tokens = torch.where(inside, self.flat[torch.where(inside, self.starts[which][:, None] + steps, 0)], 0)
        targets = torch.full_like(tokens, NO_TARGET)
        targets[:, :-1] = torch.where(inside[:, 1:], tokens[:, 1:], NO_TARGET)
        return tokens, targets, lengths


def windows(epoch: int, steps: int, bptt: int, generator: torch.Generator) -> list[Window]:
    """Windows of about ``bptt`` steps, one in twenty of about half (Merity et al. 2017), so that borders move."""
    result, start = [], 0
    while start < steps - 1:
        base = bptt if torch.rand((), generator=generator) < 0.95 else bptt / 2
        length = max(_SHORTEST, round(base + 5 * torch.randn((), generator=generator).item()))
        length = min(length, steps - start)
        result.append(Window(epoch, start, length))
        start += length
    return result
