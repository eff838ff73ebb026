"""Which texts go into which batch: similar lengths together, since padding costs memory and time."""

from __future__ import annotations

import torch
from torch import Tensor

# A shuffled pool of this many batches is sorted by length: little padding, yet other neighbours in every epoch.
_POOL = 50


def shuffled_rows(
    lengths: Tensor, batch_size: int, generator: torch.Generator, most_tokens: int = 0
) -> list[Tensor]:
    """Every text once, batches of similar length in random order: for training.

    ``most_tokens`` limits a batch with its padding, though never below one text; 0: whatever ``batch_size`` makes.
    """
    order = torch.randperm(len(lengths), generator=generator)
    batches: list[Tensor] = []
    for pool in order.split(batch_size * _POOL):
        pool = pool[torch.argsort(lengths[pool], stable=True)]
        for rows in pool.split(batch_size):
            batches.extend(rows.split(max(1, most_tokens // int(lengths[rows[-1]])) if most_tokens else batch_size))
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def rows_by_length(lengths: Tensor, batch_size: int, most_tokens: int) -> list[Tensor]:
    """Every text once, shortest first, at most ``batch_size`` texts and about ``most_tokens`` in a batch."""
    batches = []
    for rows in torch.argsort(lengths, stable=True).split(batch_size):
        fitting = max(1, most_tokens // int(lengths[rows[-1]]))
        batches.extend(rows.split(fitting))
    return batches
