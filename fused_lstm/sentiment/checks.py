"""What may be wrong with labelled texts as a whole: copies, contradictions, texts in several parts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from .data_options import DataOptions
from .examples import Example
from .splits import DEV, TEST, TRAIN, text_hash


def hashes_of(examples: Iterable[Example]) -> Tensor:
    """One number (N,) int64 for each text; equal for texts that differ in case and spacing alone."""
    return torch.tensor([text_hash(example.text) for example in examples], dtype=torch.int64)


def later_copies(hashes: Tensor) -> Tensor:
    """Which rows repeat an earlier one."""
    ordered, places = torch.sort(hashes, stable=True)
    copies = torch.zeros(len(hashes), dtype=torch.bool)
    copies[places[1:]] = ordered[1:] == ordered[:-1]
    return copies


def contradictions(hashes: Tensor, labels: Tensor) -> int:
    """How many texts bear more than one label."""
    pairs = torch.unique(torch.stack([hashes, labels.to(hashes.dtype)]), dim=1)[0]
    return int((torch.unique(pairs, return_counts=True)[1] > 1).sum())


def inspect(
    hashes: dict[str, Tensor], labels: dict[str, Tensor], data: DataOptions
) -> tuple[dict[str, Tensor], list[str]]:
    """Which rows of each part to keep (all, unless ``data`` says otherwise), and sentences about what was found."""
    keep = {part: torch.ones(len(rows), dtype=torch.bool) for part, rows in hashes.items()}
    notes = []
    copies = later_copies(hashes[TRAIN])
    if copies.any():
        several = contradictions(hashes[TRAIN], labels[TRAIN])
        told = f", {several:,} text(s) with different labels" if several else ""
        told += "; they were left out" if data.drop_duplicates else ""
        notes.append(f"Duplicates: {int(copies.sum()):,} of {len(copies):,} train rows repeat an earlier text{told}.")
        if data.drop_duplicates:
            keep[TRAIN] &= ~copies
    for held_out, source in ((DEV, TRAIN), (TEST, TRAIN), (TEST, DEV)):
        count = int(torch.isin(hashes[held_out], hashes[source]).sum())
        if not count:
            continue
        note = f"Leak: {count:,} of {len(hashes[held_out]):,} {held_out} texts also occur in {source}"
        note += " (case and spacing aside)"
        if data.drop_leaks:
            leaking = torch.isin(hashes[source], hashes[held_out])
            keep[source] &= ~leaking
            note += f"; {int(leaking.sum()):,} {source} row(s) were left out"
        notes.append(f"{note}.")
    return keep, notes
