"""fused_lstm/_library.py: loading the compiled operators, and what is said when that fails."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fused_lstm import _library

# What /proc/cpuinfo has to list for the kernels of an ISA to run.
ISAS = {
    "scalar": set(),
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma", "f16c"},
    "avx512_bf16": {"avx512_bf16", "avx512f", "avx512bw", "avx512dq", "avx512vl", "fma", "f16c"},
    "amx_bf16": {"amx_bf16", "amx_tile", "avx512_bf16", "avx512f", "avx512bw", "avx512dq", "avx512vl", "fma", "f16c"},
}


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)


def import_copy(folder: Path) -> subprocess.CompletedProcess[str]:
    """Imports a copy of _library.py that lies alone in `folder`, in a process of its own."""
    shutil.copy(_library.__file__, folder / "lone_library.py")
    return run_python(f"import sys; sys.path.insert(0, {str(folder)!r}); import lone_library")


def test_build_info_names_what_was_built():
    info = _library.build_info
    expected = {"version", "commit", "build", "compiler", "isas", "torch_headers", "torch_target", "cuda", "cuda_archs"}
    assert set(info) == expected
    assert info["version"] == importlib.metadata.version("fused_lstm")
    assert info["torch_target"] == "2.11"
    assert info["isas"] in (["scalar"], list(ISAS), list(ISAS)[:-2])
    assert info == json.loads(torch.ops.fused_lstm.build_info())


def test_cuda_error_is_a_reason(tmp_path, monkeypatch):
    if torch.version.cuda is None:
        assert "without CUDA" in _library.cuda_error
    library = tmp_path / "_C_cuda.so"
    assert _library._load_cuda(None, library) == "fused_lstm was built without CUDA"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is a build without CUDA" in _library._load_cuda("13.0", library)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert _library._load_cuda("13.0", library).startswith("fused_lstm was built with CUDA 13.0, but torch")
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    assert "cannot be loaded" in _library._load_cuda("13.0", library)


def test_cpu_isa_was_compiled_in():
    assert _library.cpu_isa() in _library.build_info["isas"]


@pytest.mark.parametrize("isa", ISAS)
def test_cpu_isa_can_be_forced(isa):
    flags = re.search(r"^(?:flags|Features)\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = set(flags[1].split())
    result = run_python("from fused_lstm._library import cpu_isa; print(cpu_isa())", FUSED_LSTM_CPU_ISA=isa)
    if isa in _library.build_info["isas"] and ISAS[isa] <= processor:
        assert result.stdout.strip() == isa, result.stderr
    else:
        assert result.returncode != 0 and isa in result.stderr


def test_an_unknown_isa_is_refused():
    result = run_python("from fused_lstm._library import cpu_isa; print(cpu_isa())", FUSED_LSTM_CPU_ISA="mmx")
    assert result.returncode != 0 and "FUSED_LSTM_CPU_ISA" in result.stderr and "mmx" in result.stderr


def test_missing_library_says_how_to_build(tmp_path):
    result = import_copy(tmp_path)
    assert "ImportError" in result.stderr
    assert f"{tmp_path / '_C.so'} does not exist" in result.stderr
    assert "pip install --no-build-isolation -e ." in result.stderr


def test_broken_library_says_why(tmp_path):
    (tmp_path / "_C.so").write_bytes(b"not a library" * 100)
    result = import_copy(tmp_path)
    assert "ImportError" in result.stderr
    assert f"{tmp_path / '_C.so'} cannot be loaded by torch {torch.__version__}" in result.stderr
    assert "invalid ELF header" in result.stderr


@pytest.mark.parametrize("version", ["2.10.1+cu128", "1.13.0"])
def test_old_torch_is_refused(version):
    with pytest.raises(ImportError, match=f"needs torch >= 2.11, but torch {version.replace('+', '.')} is installed"):
        _library._check_torch(version)


@pytest.mark.parametrize("version", ["2.11.0", "2.13.0+cpu", "2.15.0a0+git123", "3.0.0"])
def test_new_torch_is_accepted(version):
    _library._check_torch(version)


@pytest.mark.parametrize(("backend", "limits"), [("OpenMP", []), ("native thread pool", [1])])
def test_threads_are_limited_without_openmp(monkeypatch, backend, limits):
    # "OpenMP not found" is how such a build of torch speaks of OpenMP, so the mere word proves nothing.
    report = f"OpenMP not found\nATen parallel backend: {backend}\n"
    monkeypatch.setattr(torch.__config__, "parallel_info", lambda: report)
    called = []
    monkeypatch.setattr(torch.ops.fused_lstm, "limit_threads", called.append)
    _library._limit_threads()
    assert called == limits


def test_this_torch_reports_its_backend_as_expected():
    assert "ATen parallel backend: " in torch.__config__.parallel_info()
