"""Choosing a kernel family by name, and learning which one really ran."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .peers import Peers

VARIABLE = "FUSED_LSTM_CUDA_FAMILY"


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

    A family that cannot take a problem says so in a warning that begins with "fused_lstm:", and stepwise runs.
    """
    with forced(family), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        peers.call("fused", "training")()
    fell_back = any(str(w.message).startswith("fused_lstm:") and family in str(w.message) for w in caught)
    return "stepwise" if fell_back else family
