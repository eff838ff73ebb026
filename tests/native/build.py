"""Builds fused_lstm_native: the internals of csrc/core, cell and cpu, bound by pybind11 for white-box tests.

It shares objects and flags with the library itself (setup.py), so that tests see the code that ships.

usage: build.py     FUSED_LSTM_BUILD and the other variables of setup.py apply
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import setup as product  # noqa: E402

NAME = "fused_lstm_native"


def directory() -> Path:
    """Where the module of the current FUSED_LSTM_BUILD lies, to be put on sys.path."""
    kind = os.environ.get("FUSED_LSTM_BUILD") or "release"
    return ROOT / "build" / ("native" if kind == "release" else f"native-{kind}")


def build() -> Path:
    """Brings the module up to date and returns its path."""
    import pybind11

    sources = sorted(path.relative_to(ROOT).as_posix() for path in Path(__file__).parent.glob("*.cpp"))
    if not sources:
        product.fail(f"no C++ sources in {Path(__file__).parent}.")
    steps = product.Build()
    includes = [f for path in (pybind11.get_include(), sysconfig.get_path("include")) for f in ("-isystem", path)]
    objects = product.compile_kernels(steps) + [steps.compile(source, includes) for source in sources]
    module = directory() / (NAME + sysconfig.get_config_var("EXT_SUFFIX"))
    steps.link(module.relative_to(ROOT).as_posix(), objects)
    steps.run("native")
    return module


if __name__ == "__main__":
    print(build())
