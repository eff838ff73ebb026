"""Processes that run functions on the kernels of one instruction set each.

The library reads FUSED_LSTM_CPU_ISA once, when it is first used; so every ISA gets a process that lives as long as the
tests do. It answers (function, arguments), pickled, with (True, result) or (False, the text of the RuntimeError).
"""

from __future__ import annotations

import atexit
import functools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from native_module import package_with_emulated_tiles

import fused_lstm  # noqa: F401  (registers the operators)

ISAS: list[str] = torch.ops.fused_lstm.cpu_isas().split(",")


def _rebuild(content: bytes, dtype: torch.dtype, *geometry: Any) -> torch.Tensor:
    storage = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
    return torch.empty(0, dtype=dtype).set_(storage.untyped_storage(), *geometry)


class _Pickler(pickle.Pickler):
    """Tensors as the bytes of their storage, which is much faster than torch's own way and keeps strides as well."""

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return NotImplemented
        content = torch.empty(0, dtype=torch.uint8).set_(value.untyped_storage()).numpy().tobytes()
        return _rebuild, (content, value.dtype, value.storage_offset(), value.size(), value.stride())


def _send(file: IO[bytes], value: Any) -> None:
    _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(value)
    file.flush()


class Worker:
    def __init__(self, isa: str, folder: Path | None = None) -> None:
        """Imports what is in `folder` first."""
        self.isa = isa
        # malloc'd memory is never zero in there, and what the kernels allocate is NaN (see serve)
        environment = {**os.environ, "FUSED_LSTM_CPU_ISA": isa, "MALLOC_PERTURB_": "165"}
        environment["PYTHONPATH"] = os.pathsep.join([*[str(folder)] * (folder is not None), *sys.path])
        environment.setdefault("OMP_WAIT_POLICY", "passive")  # tests share the machine with other processes
        command = [sys.executable, "-c", "import isa_worker; isa_worker.serve()"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, env=environment, cwd=folder, **pipes)
        atexit.register(self._process.kill)
        answered = self(current_isa)
        assert answered == isa, f"{isa} was asked for, but {answered} runs"

    def __call__(self, function: Callable, *arguments: Any) -> Any:
        """function(*arguments) over there; tensors keep their strides. Raises the RuntimeError that it raises."""
        try:
            _send(self._process.stdin, (function, arguments))
            fine, result = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError):
            code = self._process.wait()
            _workers.cache_clear()
            raise AssertionError(f"the process with the {self.isa} kernels died with exit code {code}") from None
        if not fine:
            raise RuntimeError(result)
        return result


@functools.cache
def _workers() -> dict[str, Worker]:
    return {}


def worker(isa: str) -> Worker:
    """The process of that ISA, started when it is first needed; of amx_bf16 on any machine, where need be emulated."""
    if isa not in _workers():
        emulated = isa == "amx_bf16" and isa not in ISAS
        _workers()[isa] = Worker(isa, package_with_emulated_tiles() if emulated else None)
    return _workers()[isa]


def current_isa() -> str:
    return torch.ops.fused_lstm.cpu_isa()


def serve() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed must not get between the answers
    torch.use_deterministic_algorithms(True, warn_only=True)  # torch.empty gives NaN
    torch.ops.fused_lstm.poison_memory(True)
    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = True, function(*arguments)
        except RuntimeError as error:
            answer = False, str(error)
        _send(answers, answer)
