"""Choosing a kernel family by name, and learning which one really ran."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from .peers import Peers

VARIABLE = "FUSED_LSTM_CUDA_FAMILY"
NAMES = ("stepwise", "cluster", "grid")


@contextlib.contextmanager
def forced(family: str) -> Iterator[None]:
    """The operators read the variable at every call."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = family
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def served_by(family: str, peers: Peers) -> str:
    """Trains a step of ``peers.fused`` with ``family`` asked for; returns the family that ran. Asked nowhere else.

    Where forward and backward are served by two, both: "cluster/stepwise". On the CPU, which has no families, the one
    that was asked for.
    """
    if peers.device == "cpu":
        return family
    before = torch.ops.fused_lstm.cuda_served()
    with forced(family):
        peers.call("fused", "training")()
    counts = [now - then for now, then in zip(torch.ops.fused_lstm.cuda_served(), before, strict=True)]
    return "/".join(dict.fromkeys(name for name, count in zip(NAMES * 2, counts, strict=True) if count))


def ran(row: dict) -> bool:
    """Whether the family of this row of results served the problem, or a part of it."""
    return row["family"] in row["served"].split("/")
