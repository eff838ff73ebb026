"""The table tests/capabilities.md, each cell of it: what works on torch.nn.LSTM, on FusedLSTM, and on its CUDA code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from capabilities import CAPABILITIES, TESTS
from cuda_emulated import cuda_code_for_cpu_tensors
from torch import nn

from fused_lstm import FusedLSTM

TABLE = Path(__file__).with_name("capabilities.md")
REFUSED_BY_US = {"torch.jit.script of a module around it"}
HEADER = """# What works

Each row is a function in `capabilities.py` that `test_capabilities.py` runs on the three columns; the last one names
the file with the deeper tests. `python tests/test_capabilities.py` writes this table from what it sees.

* CUDA, emulated: the CUDA operators compiled for CPU tensors stand in for those of the CPU. Nothing here ran on a GPU.
* `torch.nn.LSTM` is that of the pinned torch on the CPU; cuDNN refuses more (gradients in eval mode, second
  derivatives).

| | `torch.nn.LSTM`, CPU | `FusedLSTM`, CPU | `FusedLSTM`, CUDA (emulated) | tests |
|---|---|---|---|---|
"""


@pytest.fixture
def cuda_code() -> Iterator[None]:
    with cuda_code_for_cpu_tensors():
        yield


names = pytest.mark.parametrize("name", CAPABILITIES)
pytestmark = pytest.mark.filterwarnings("ignore")


def works(name: str, cls: type) -> bool:
    try:
        CAPABILITIES[name](cls)
    except AssertionError:
        raise
    except Exception:
        return False
    return True


@names
def test_fused(name):
    if name in REFUSED_BY_US:
        assert not works(name, FusedLSTM)
    else:
        CAPABILITIES[name](FusedLSTM)


@names
def test_cuda_code(name, cuda_code):
    FusedLSTM(2, 2)(torch.zeros(1, 1, 2))  # a refusal may come before any kernel
    test_fused(name)


def torch_says(name: str) -> str:
    """works, or the first words of why not."""
    try:
        CAPABILITIES[name](nn.LSTM)
    except Exception as error:
        words = " ".join(str(error).split())
        return "not run: may crash" if words.startswith("not run") else "no"
    return "yes"


def table() -> str:
    lines = []
    for name in CAPABILITIES:
        ours = "refused in one sentence" if name in REFUSED_BY_US else "yes"
        lines.append(f"| {name} | {torch_says(name)} | {ours} | {ours} | `{TESTS[name]}` |\n")
    return HEADER + "".join(lines)


def test_table_is_in_step():
    assert TABLE.read_text() == table(), "run python tests/test_capabilities.py"


def test_deeper_tests_exist():
    assert all(TABLE.with_name(file).exists() for file in TESTS.values())


if __name__ == "__main__":
    TABLE.write_text(table())
    sys.exit(0)
