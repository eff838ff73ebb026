"""torch.ops.fused_lstm_emulated: the CUDA operators compiled for CPU tensors (tests/native/emulated)."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import native_module
import pytest
import torch

from fused_lstm import batching


@functools.cache
def _load() -> None:
    builder = native_module._load("native_build", Path(__file__).parent / "native" / "build.py")
    torch.ops.load_library(str(builder.build_emulated()))


def emulated_ops() -> SimpleNamespace:
    """Stands for ``torch`` in the module ``operators``, whose functions then call the CUDA code."""
    _load()
    ops = SimpleNamespace(fused_lstm=torch.ops.fused_lstm_emulated)
    return SimpleNamespace(ops=ops, set_num_threads=torch.set_num_threads)


@contextmanager
def cuda_code_for_cpu_tensors() -> Iterator[None]:
    """CPU tensors are served by the emulated operators, whoever calls: modules, transforms, autograd."""
    ops = emulated_ops().ops.fused_lstm
    with torch.library._scoped_library("fused_lstm", "IMPL") as library, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUSED_LSTM_CUDA_FAMILY", "stepwise")
        patch.setattr(batching, "lies_as_on_cuda", lambda x: True)
        with warnings.catch_warnings(action="ignore"):  # torch says that a kernel is replaced
            for name in ("lstm_layer", "lstm_layer_backward"):
                library.impl(name, getattr(ops, name).default, "CPU", allow_override=True)
        served = list(torch.ops.fused_lstm_emulated.cuda_served())
        yield
        assert list(torch.ops.fused_lstm_emulated.cuda_served()) != served, "the CUDA code was not called"
