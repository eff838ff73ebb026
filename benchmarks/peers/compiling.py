"""torch.compile in a process that measures many shapes: begun anew with each group, and what it compiled counted."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from ..shapes import Shape
from .base import Peer

UNROLLED = 16  # steps of nn.LSTM: 7 s of compilation in inference; 128, or a training step of 16, take many minutes
RECOMPILATIONS = 64  # of one function in one group, far more than a group has layers and kinds of input


def no_compiler() -> str | None:
    """torch.compile needs what it compiles with."""
    return None if shutil.which("g++") or shutil.which("c++") else "torch.compile needs a C++ compiler"


def begin(peers: Iterable[Peer], shape: Shape, mode: str) -> None:
    """Forgets what earlier groups compiled: their shapes count as recompilations of this one's, and beyond a limit
    dynamo runs code as it is without a word. Within a group that limit is an error. Dynamo unrolls the steps of an
    nn.LSTM if allowed to, and skips it otherwise."""
    if not any(peer.compiled for peer in peers):
        return  # importing dynamo takes seconds
    import torch._dynamo
    from torch._dynamo import config

    torch._dynamo.reset()
    config.recompile_limit, config.fail_on_recompile_limit_hit = RECOMPILATIONS, True
    steps = sum(m.layers * m.directions for m in shape.modules()) * (1 if shape.resets else shape.T)
    config.allow_rnn = mode != "training" and steps <= UNROLLED


def graphs() -> int:
    """How many graphs this process has compiled."""
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]
