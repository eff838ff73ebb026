"""What the machine can do at most, measured: multiply-adds from registers, products of matrices, memory.

On the CPU by a small C++ file compiled for this machine; without a compiler, by torch alone.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from .gpu import clock as device_clock
from .problem import DTYPES

SOURCE = Path(__file__).parent / "native" / "limits.cpp"
SECONDS = 0.04  # of one sample; the best of several counts, as a limit is what nothing exceeds
SAMPLES = 7
BUFFER = 256 << 20  # more than any L3 that one core reaches


@dataclass(frozen=True)
class Limits:
    threads: int
    fma_gflops: dict[str, float]  # by dtype; absent where the CPU has no such instruction
    gemm_gflops: dict[str, float]  # torch.mm of 1024 or 8192 squared
    memory_gb_per_s: float  # read in order; on CUDA copied, both ways counted
    how: str

    def peak(self, dtype: str) -> tuple[float, str]:
        """GFLOP/s of this dtype at most, and which measurement that is."""
        if dtype in self.fma_gflops:
            return self.fma_gflops[dtype], "FMA"
        if dtype in self.gemm_gflops:
            return self.gemm_gflops[dtype], "GEMM"
        return self.fma_gflops.get("float32") or self.gemm_gflops["float32"], "FMA float32"

    def as_dict(self) -> dict:
        return asdict(self)


@functools.cache
def library(folder: Path | None = None) -> tuple[ctypes.CDLL | None, str]:
    """The C++ file, compiled for this CPU, or None and why."""
    compiler = os.environ.get("CXX", "").split() or [shutil.which("g++") or shutil.which("clang++") or ""]
    if not compiler[0]:
        return None, "no compiler"
    folder = folder or Path(tempfile.mkdtemp(prefix="fused-lstm-limits-"))
    target = folder / "limits.so"
    command = [*compiler, "-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", str(SOURCE), "-o", str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return None, f"{SOURCE.name} did not compile: {done.stderr.strip() or f'exit {done.returncode}'}"[:400]
        loaded = ctypes.CDLL(str(target))
    except OSError as error:
        return None, f"{SOURCE.name} did not compile: {error}"
    for name in ("float32", "float64", "bfloat16"):
        getattr(loaded, f"{name}_flops").restype = ctypes.c_double
        rounds = getattr(loaded, f"{name}_rounds")
        rounds.restype, rounds.argtypes = ctypes.c_double, [ctypes.c_int64]
    loaded.read_once.restype, loaded.read_once.argtypes = ctypes.c_double, [ctypes.c_void_p, ctypes.c_int64]
    return loaded, ""


def _cpu_time() -> float:
    return time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)


def _best_rate(work: float, call: Callable[[], object], now: Callable[[], float] = time.perf_counter) -> float:
    """Work a second, the best of SAMPLES; each sample repeats the call for about SECONDS."""
    call()
    start = now()
    call()
    times = max(1, int(SECONDS / max(now() - start, 1e-9)))
    best = 0.0
    for _ in range(SAMPLES):
        start = now()
        for _ in range(times):
            call()
        best = max(best, work * times / max(now() - start, 1e-9))
    return best


def _together(threads: int, rate: Callable[[int], float]) -> float:
    """Sum of rates that threads reach at the same time, each by its own CPU time: ctypes lets go of Python's lock."""
    if threads == 1:
        return rate(0)
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(rate, range(threads)))


def measure(device: str, threads: int, dtypes: tuple[str, ...] = ("float32",), where: str | None = None) -> Limits:
    return _cuda(dtypes, where or "cuda") if device == "cuda" else _cpu(threads, dtypes)


def _cpu(threads: int, dtypes: tuple[str, ...]) -> Limits:
    (loaded, why), fma = library(), {}
    if loaded is not None:
        for dtype in dtypes:
            flops = getattr(loaded, f"{dtype}_flops", lambda: 0.0)()
            if flops:
                rounds = getattr(loaded, f"{dtype}_rounds")
                work = lambda _, r=rounds, f=flops: _best_rate(1e5 * f, lambda: r(100_000), _cpu_time)  # noqa: E731
                fma[dtype] = _together(threads, work) / 1e9
        each = BUFFER // threads // 512 * 512
        memory = torch.ones(BUFFER, dtype=torch.uint8)
        at = [memory.data_ptr() + i * each for i in range(threads)]
        read = lambda i: _best_rate(each, lambda: loaded.read_once(at[i], each), _cpu_time)  # noqa: E731
        bandwidth = _together(threads, read) / 1e9
    else:
        bandwidth = _copy_rate("cpu", BUFFER)
    how = "FMA and reading: own C++; GEMM: torch.mm of 1024 squared" if loaded else f"torch alone: {why}"
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    gemm = {dtype: _gemm(dtype, "cpu", 1024, _cpu_time if threads == 1 else time.perf_counter) for dtype in dtypes}
    torch.set_num_threads(before)
    return Limits(threads, fma, gemm, bandwidth, how)


def _cuda(dtypes: tuple[str, ...], where: str) -> Limits:
    real = where == "cuda"
    gemm = {dtype: _gemm(dtype, where, 8192 if real else 64) for dtype in dtypes}
    copy = _copy_rate(where, 2 << 30 if real else 1 << 20)
    return Limits(1, {}, gemm, copy, "GEMM: torch.mm of 8192 squared; memory: a copy of 2 GiB, both ways counted")


def _gemm(dtype: str, where: str, n: int, now: Callable[[], float] = time.perf_counter) -> float:
    a = torch.randn(n, n, device=where).to(DTYPES[dtype])
    b, out = a.clone(), torch.empty_like(a)
    return _best_rate(2.0 * n**3, _finished(lambda: torch.mm(a, b, out=out), where), now) / 1e9


def _copy_rate(where: str, size: int) -> float:
    source = torch.ones(size, dtype=torch.uint8, device=where)
    target = torch.empty_like(source)
    return _best_rate(2.0 * size, _finished(lambda: target.copy_(source), where)) / 1e9


def _finished(call: Callable[[], object], where: str) -> Callable[[], object]:
    if where == "cpu":
        return call

    def run() -> None:
        call()
        device_clock.cuda.synchronize()

    return run
