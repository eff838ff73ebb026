"""What every test gets: a seed, fresh memory full of NaN, and ways to run code in a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

DEVICES = ["cpu"]

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for `benchmarks`; last: fused_lstm is the installed one


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """avx512_bf16 and amx_bf16 differ from avx512 in bfloat16 alone: other dtypes are not asked again."""
    others = (torch.float32, torch.float64, torch.float16)
    twice = []
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        if params.get("isa") in ("avx512_bf16", "amx_bf16") and params.get("dtype") in others:
            twice.append(item)
    config.hook.pytest_deselected(items=twice)
    dropped = set(twice)
    items[:] = [item for item in items if item not in dropped]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(1997)


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """torch.empty and our own pool give NaN (integers: the largest): what is read before it was written shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.empty(3).isnan().all()
    with contextlib.suppress(ImportError):  # tests of the plain torch parts run without the operators too
        import fused_lstm._library  # noqa: F401

        torch.ops.fused_lstm.poison_memory(True)
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def emulation() -> Iterator[ModuleType]:
    """The emulator of CUDA kernels, with the first seed and without planted mistakes before and after."""
    from native_module import load

    module = load().emulation
    module.options(0)
    yield module
    module.options(0)


@pytest.fixture
def run_python() -> Callable[..., str]:
    """run_python(code, **environment) -> stdout of a new interpreter; fails with its stderr."""

    def run(code: str, **environment: str) -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def run_with_isa(run_python: Callable[..., str]) -> Callable[[str, str], str]:
    """run_with_isa(isa, code): the kernels of that instruction set, and malloc'd memory that is never zero."""

    def run(isa: str, code: str) -> str:
        check = f"import fused_lstm\nassert fused_lstm.cpu_isa() == {isa!r}, fused_lstm.cpu_isa()\n"
        return run_python(check + code, FUSED_LSTM_CPU_ISA=isa, MALLOC_PERTURB_="165")

    return run
