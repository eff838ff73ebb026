"""The machine and the libraries, as torch and the tools around it describe them."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time

import torch

import fused_lstm
from fused_lstm import _library

SMI_FIELDS = (
    "name", "driver_version", "memory.total", "memory.used", "clocks.sm", "clocks.mem", "clocks.max.sm",
    "clocks.max.mem", "power.limit", "temperature.gpu", "mig.mode.current",
)  # fmt: skip


def describe(part: dict, device: str) -> dict:
    found = {
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nvcc": _answer("nvcc", "--version"),
        "fused_lstm": {**_library.build_info, "file": fused_lstm.__file__, "cuda_error": fused_lstm.cuda_error},
        "nvidia_smi": _smi(),
    }
    if device == "cuda":
        found["device"] = _properties()
        found["ceilings"] = _ceilings()
    return found


def _answer(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    return (done.stdout or done.stderr).strip()


def _smi() -> dict[str, str] | str | None:
    answer = _answer("nvidia-smi", f"--query-gpu={','.join(SMI_FIELDS)}", "--format=csv,noheader")
    values = [value.strip() for value in (answer or "").split("\n")[0].split(",")]
    return dict(zip(SMI_FIELDS, values)) if len(values) == len(SMI_FIELDS) else answer


def _properties() -> dict[str, object]:
    properties = torch.cuda.get_device_properties(0)
    names = [
        "name", "major", "minor", "multi_processor_count", "total_memory", "L2_cache_size",
        "shared_memory_per_block_optin", "shared_memory_per_multiprocessor", "regs_per_multiprocessor", "warp_size",
    ]  # fmt: skip
    return {name: getattr(properties, name, None) for name in names} | {"devices": torch.cuda.device_count()}


def _seconds(call, times: int = 8) -> float:
    call(), torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / times


def _ceilings() -> dict[str, float]:
    """What a copy and a product on random numbers reach here: the two rates that bound everything else."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    b = torch.randn_like(a)
    source = torch.empty(2 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return {
        "bf16_tflops": 2 * 8192**3 / _seconds(lambda: a @ b) / 1e12,
        "copy_tb_per_s": 2 * source.numel() / _seconds(lambda: target.copy_(source)) / 1e12,
    }
