"""Choosing a kernel family by name, and learning which one really ran."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import fused_lstm

if TYPE_CHECKING:
    from .peers import Peers

VARIABLE = "FUSED_LSTM_CUDA_FAMILY"
_not_launched: set[str] = set()  # families that this process cannot launch: it is warned once, and they stay given up


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

    Where forward and backward are served by two, both: "cluster/stepwise".
    """
    with forced(family), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        peers.call("fused", "training")()
        passes = _planned(family, peers)
    if any(f"family {family} cannot be launched" in str(w.message) for w in caught):
        _not_launched.add(family)
    if family in _not_launched:
        return "stepwise"
    return "/".join(dict.fromkeys(passes))


def _planned(family: str, peers: Peers) -> tuple[str, str]:
    """Of forward and backward. On the CPU, which has no families, the one asked for."""
    if peers.device == "cpu":
        return family, family
    plan = fused_lstm.explain(peers.fused, peers.part["T"], peers.part["B"])
    return plan.forward, plan.backward


def ran(row: dict) -> bool:
    """Whether the family of this row of results served the problem, or a part of it."""
    return row["family"] in row["served"].split("/")
