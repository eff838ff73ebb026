"""Numbered texts of different lengths to padded batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .tokens import PAD_ID

_PIECE = 1 << 20


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

    @classmethod
    def mapped(cls, flat: Tensor, ends: Tensor, labels: Tensor) -> NumberedTexts:
        """The same from tensors that may lie in files: all token numbers in a row, where each text ends, labels."""
        texts = cls([], [])
        texts.labels = labels.to(torch.int64)
        texts._starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        texts.lengths = ends - texts._starts
        texts._flat = flat
        return texts

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """A hash of texts and labels."""
        parts = (self._flat, self.lengths, self.labels)
        digest = hashlib.sha256()
        for part in parts:
            for piece in part.split(_PIECE):  # the tokens may be larger than the memory
                digest.update(piece.numpy().tobytes())
        return digest.hexdigest()

    def batch(self, rows: Tensor, share: float = 1.0) -> Batch:
        """The texts at ``rows`` (B,), padded to the longest of them. ``share`` below 1: so much of each, from anywhere
        in it, drawn with torch's random numbers."""
        starts, lengths = self._starts[rows], self.lengths[rows]
        if share < 1:
            whole, lengths = lengths, (lengths * share).long().clamp(min=1)
            starts = starts + (torch.rand(len(rows)) * (whole - lengths + 1)).long()
        steps = torch.arange(int(lengths.max()))
        inside = steps < lengths[:, None]
        places = torch.where(inside, starts[:, None] + steps, 0)
        tokens = torch.where(inside, self._flat[places].to(torch.int64), PAD_ID)
        return Batch(tokens, lengths, self.labels[rows], rows)
