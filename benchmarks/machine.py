"""The machine, the libraries and the state of both, as every results file records them."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import torch

import fused_lstm
from fused_lstm import _library

from .gpu import clock as device_clock

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("numpy", "onnxruntime", "jax", "flax", "torchrl", "triton", "haste_pytorch", "flashrnn")
# CPUs whose name says little, by (vendor, family) and models
GENERATIONS = {("AuthenticAMD", 25): [(range(0x10, 0x20), "zen4"), (range(0x60, 0xB0), "zen4"), (range(256), "zen3")]}


def cpuinfo(text: str | None = None) -> dict[str, str]:
    file = Path("/proc/cpuinfo")
    text = text if text is not None else (file.read_text() if file.exists() else "")
    pairs = (line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def processor(info: dict[str, str] | None = None) -> str:
    info = cpuinfo() if info is None else info
    return info.get("model name") or platform.processor() or platform.machine()


def name(device: str, info: dict[str, str] | None = None) -> str:
    """A folder's name for this machine: epyc-zen4, nvidia-h100-80gb-hbm3."""
    if device == "cuda":
        text = device_clock.cuda.get_device_name()
    else:
        info = cpuinfo() if info is None else info
        text = processor(info)
        key = (info.get("vendor_id", ""), int(info.get("cpu family", 0)))
        for models, generation in GENERATIONS.get(key, ()):
            if int(info.get("model", -1)) in models:
                text = f"{text} {generation}"
                break
        text = re.sub(r"\((R|TM|tm|r)\)|@.*|\b(AMD|Intel|CPU|Processor|[0-9]+-Core)\b", " ", text)
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unknown"


def describe(device: str) -> dict[str, object]:
    found: dict[str, object] = {
        "device": device,
        "machine": name(device),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "fused_lstm": _library.build_info,
        "commit": commit(),
        "isa": fused_lstm.cpu_isa(),
        "libraries": {lib: version for lib in LIBRARIES if (version := _version(lib))},
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "load": load(),
    }
    if device == "cuda":
        properties = device_clock.cuda.get_device_properties(0)
        found["gpu"] = {
            key: getattr(properties, key, None)
            for key in ("name", "major", "minor", "multi_processor_count", "total_memory", "L2_cache_size")
        }
        found["cudnn"], found["cuda"] = torch.backends.cudnn.version(), torch.version.cuda
    return found


def load() -> list[float]:
    """Processes that wanted to run over the last 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=ROOT, capture_output=True, text=True, timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None
