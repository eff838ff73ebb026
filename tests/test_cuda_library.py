"""_C_cuda.so for one architecture: it compiles, links, needs nothing but torch and the system. Runs where nvcc is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import ptxas

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(ptxas.compiler() is None, reason="nvcc, the CUDA compiler, is not installed")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in the usual folder, so that it is compiled anew only when something changed."""
    place = tmp_path_factory.mktemp("cuda")
    environment = {**os.environ, "FUSED_LSTM_CUDA": "1", "TORCH_CUDA_ARCH_LIST": "9.0a", "FUSED_LSTM_WERROR": "1"}
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--build-lib", str(place)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "fused_lstm" / "_C_cuda.so"


def lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_it_needs_torch_and_the_system_only(library):
    """The CUDA runtime is inside: none has to be found where the wheel gets installed."""
    needed = {line.split("[")[1].rstrip("]") for line in lines("readelf", "-d", str(library)) if "NEEDED" in line}
    system = {"libstdc++", "libm", "libgcc_s", "libc", "libpthread", "ld-linux-x86-64", "ld-linux-aarch64"}
    assert {name.split(".so")[0] for name in needed} <= {"libtorch", *system}
    assert "libtorch.so" in needed


def test_what_it_takes_from_torch_is_stable(library):
    """The stable ABI has C functions; a mangled name of torch would bind it to one version."""
    wanted = [line.split()[-1] for line in lines("nm", "-D", "--undefined-only", str(library))]
    assert not [name for name in wanted if name.startswith("_Z") and ("c10" in name or "at6Tensor" in name)]
    assert any(name.startswith("aoti_torch_") for name in wanted)
    assert not [name for name in wanted if name.startswith(("cuda", "cu", "Py"))]


def test_it_holds_every_kernel(library):
    text = library.read_bytes()
    for kernel in ("cluster_forward_kernel", "cluster_backward_kernel", "grid_forward_kernel", "grid_backward_kernel"):
        assert kernel.encode() in text, kernel


def test_torch_without_cuda_says_why_it_is_not_loaded(library, run_python):
    """What a user of a CPU-only torch sees of a wheel that holds CUDA code."""
    code = f"""
import torch
from pathlib import Path
from fused_lstm import _library
print(torch.version.cuda, "|", _library._load_cuda("13.0", Path({str(library)!r})))
"""
    version, _, reason = run_python(code).strip().partition(" | ")
    if version == "None":
        assert reason.startswith("torch ") and reason.endswith(" is a build without CUDA")
    else:
        assert reason == "None" or "CUDA" in reason
