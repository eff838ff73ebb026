"""Does the parts of one section in a process of its own: ``python -m benchmarks.gpu.worker TASK --parts F --events F``.

Each part is a dict with a "key"; what it finds is reported as one line of JSON. The supervisor is in process.py.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

import fused_lstm

from . import environment, tasks

TASKS: dict[str, Callable[[dict, str], dict]] = {
    "environment": environment.describe,
    "families": tasks.check_family,
    "graphs": tasks.check_capture,
    "grid": tasks.measure,
    "profile": tasks.profile,
}


class Reporter:
    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def __call__(self, **event: object) -> None:
        self._file.write(json.dumps(event).encode() + b"\n")


def spoiled(device: str) -> str | None:
    """After an illegal address, say, every further call of this process fails."""
    if device != "cuda":
        return None
    try:
        torch.cuda.synchronize()
        torch.zeros(1, device=device).item()
    except RuntimeError as error:
        return str(error)
    return None


def give_memory_back(device: str) -> None:
    """Each graph had a pool of its own; what is cached must not keep the next part from its memory."""
    gc.collect()
    if device == "cuda" and torch.cuda.memory_reserved() > torch.cuda.mem_get_info()[1] // 3:
        torch.cuda.empty_cache()


def do(task: Callable[[dict, str], dict], part: dict, device: str) -> dict:
    try:
        return {"status": "done", **task(part, device)}
    except Exception as error:  # whatever it is, the next part gets its turn
        traceback.print_exc()
        return {"status": "failed", "error": f"{type(error).__name__}: {error}"[:2000]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--device", choices=["cuda", "cpu"], required=True)
    parser.add_argument("--parts", type=Path, required=True)
    parser.add_argument("--events", type=Path, required=True)
    args = parser.parse_args()
    report, parent = Reporter(args.events), os.getppid()
    if args.device == "cuda" and fused_lstm.cuda_error:
        raise SystemExit(f"fused_lstm does not serve CUDA tensors: {fused_lstm.cuda_error}")
    if args.device == "cpu":
        torch.set_num_threads(1)
    for part in json.loads(args.parts.read_text()):
        if os.getppid() != parent:
            raise SystemExit("the process that started this one is gone")
        report(begin=part["key"])
        print(f"-- {args.task}: {part['key']}", flush=True)
        results = do(TASKS[args.task], part, args.device)
        report(end=part["key"], **results)
        if reason := spoiled(args.device):
            report(restart=reason)
            return
        give_memory_back(args.device)


if __name__ == "__main__":
    main()
