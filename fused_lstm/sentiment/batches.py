"""Numbered texts of different lengths to padded batches, texts of similar length together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .tokens import PAD_ID

# A shuffled pool of this many batches is sorted by length: little padding, yet other neighbours in every epoch.
_POOL = 50


class Batch(NamedTuple):
    """``tokens`` (B, T) int64 padded with zeros, ``lengths`` (B,) int64, ``labels`` (B,) int64, ``rows`` (B,) int64:
    the places of the texts in the data."""

    tokens: Tensor
    lengths: Tensor
    labels: Tensor
    rows: Tensor


class NumberedTexts:
    """All texts of a part as one flat tensor of token numbers, with labels as class numbers.

    ``texts`` are non-empty lists of token numbers; ``labels`` has one class number for each.
    """

    def __init__(self, texts: Sequence[Sequence[int]], labels: Sequence[int]) -> None:
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self.lengths = torch.tensor([len(text) for text in texts], dtype=torch.int64)
        self._starts = torch.cumsum(self.lengths, 0) - self.lengths
        self._flat = torch.tensor([number for text in texts for number in text], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Tensor) -> Batch:
        """The texts at ``rows`` (B,), padded to the longest of them."""
        lengths = self.lengths[rows]
        steps = torch.arange(int(lengths.max()))
        inside = steps < lengths[:, None]
        places = torch.where(inside, self._starts[rows][:, None] + steps, 0)
        tokens = torch.where(inside, self._flat[places], PAD_ID)
        return Batch(tokens, lengths, self.labels[rows], rows)

    def in_order_of_length(self, batch_size: int) -> Iterator[Batch]:
        """Every text once, shortest first: for evaluation."""
        for rows in torch.argsort(self.lengths, stable=True).split(batch_size):
            yield self.batch(rows)

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Every text once, batches of similar length in random order: for training."""
        order = torch.randperm(len(self), generator=generator)
        batches: list[Tensor] = []
        for pool in order.split(batch_size * _POOL):
            pool = pool[torch.argsort(self.lengths[pool], stable=True)]
            batches.extend(pool.split(batch_size))
        for index in torch.randperm(len(batches), generator=generator).tolist():
            yield self.batch(batches[index])
