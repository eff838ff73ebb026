"""The pybind11 module over the C++ internals (tests/native), brought up to date and imported."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import fused_lstm  # noqa: F401  (registers the operators)

# avx512_bf16 and amx_bf16 have the float kernels of avx512
ISAS: list[str] = [isa for isa in torch.ops.fused_lstm.cpu_isas().split(",") if not isa.endswith("_bf16")]
DTYPES = ["float32", "float64"]


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def load() -> ModuleType:
    """Builds what changed since the last time, so that no test looks at old code."""
    builder = _load("native_build", Path(__file__).parent / "native" / "build.py")
    return _load(builder.NAME, builder.build())


def package_with_emulated_tiles() -> Path:
    """The folder of a fused_lstm in which amx_bf16 runs anywhere."""
    return _load("native_build", Path(__file__).parent / "native" / "build.py").build_amx()


def kernels(isa: str, dtype: str) -> Any:
    return load().kernels(isa, dtype)
