"""torch.ops.fused_lstm_emulated: the CUDA operators compiled for CPU tensors (tests/native/emulated)."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace

import native_module
import torch


@functools.cache
def _load() -> None:
    builder = native_module._load("native_build", Path(__file__).parent / "native" / "build.py")
    torch.ops.load_library(str(builder.build_emulated()))


def emulated_ops() -> SimpleNamespace:
    """Stands for ``torch`` in the module ``operators``, whose functions then call the CUDA code."""
    _load()
    ops = SimpleNamespace(fused_lstm=torch.ops.fused_lstm_emulated)
    return SimpleNamespace(ops=ops, set_num_threads=torch.set_num_threads)
