"""Loads the compiled operators that lie next to this file, and says what was loaded.

Importing this module registers ``torch.ops.fused_lstm.*``. It raises ImportError when that is not possible.

build_info: dict with the keys version, commit (None outside git), build (release, debug, asan, ...), compiler,
    isas (list of the CPU instruction sets compiled in), torch_headers, torch_target (oldest torch the library runs on),
    cuda (version of the CUDA toolkit, None without), cuda_archs.
cuda_error: why CUDA tensors are not served, or None when they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

__all__ = ["build_info", "cpu_isa", "cuda_error"]

MINIMUM_TORCH = (2, 11)


def _check_torch(version: str) -> None:
    if tuple(map(int, version.split(".")[:2])) < MINIMUM_TORCH:
        needed = ".".join(map(str, MINIMUM_TORCH))
        raise ImportError(f"fused_lstm needs torch >= {needed}, but torch {version} is installed: upgrade torch.")


def _load(library: Path) -> None:
    if not library.is_file():
        raise ImportError(
            f"The compiled operators of fused_lstm are missing: {library} does not exist. In a source tree, build them "
            "with `make build` or `pip install --no-build-isolation -e .`. If fused_lstm was installed from a wheel, "
            "start Python outside the source tree, which hides the installed package."
        )
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        raise ImportError(
            f"{library} cannot be loaded by torch {torch.__version__}: {error.__cause__ or error}. Build it anew on "
            "this machine, or install a wheel made for this platform."
        ) from error


def _limit_threads() -> None:
    # The operators let the threads of one parallel region wait for each other. Only torch's OpenMP backend promises
    # that all of them run at once; in its own thread pool a waiting task could block the one it waits for.
    if "ATen parallel backend: OpenMP" not in torch.__config__.parallel_info():
        torch.ops.fused_lstm.limit_threads(1)


def _load_cuda(built_with: str | None, library: Path) -> str | None:
    """Loads the operators for CUDA tensors; returns why not, if not."""
    if built_with is None:
        return "fused_lstm was built without CUDA"
    has = torch.version.cuda
    if has is None:
        return f"torch {torch.__version__} is a build without CUDA"
    if has.split(".")[0] != built_with.split(".")[0]:
        return f"fused_lstm was built with CUDA {built_with}, but torch {torch.__version__} with CUDA {has}"
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        return f"{library} cannot be loaded: {error.__cause__ or error}"
    return None


def cpu_isa() -> str:
    """Returns the instruction set of the kernels: "scalar", "avx2", "avx512", "avx512_bf16" or "amx_bf16"."""
    return torch.ops.fused_lstm.cpu_isa()


_check_torch(torch.__version__)
_load(Path(__file__).with_name("_C.so"))
_limit_threads()

build_info: dict[str, Any] = json.loads(torch.ops.fused_lstm.build_info())
cuda_error: str | None = _load_cuda(build_info["cuda"], Path(__file__).with_name("_C_cuda.so"))
