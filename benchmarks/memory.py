"""Peak memory of a call, each peer in a process of its own (CPU) or in this one (CUDA).

"peak" is how far memory rises above what input, weights and cotangent need, over three calls; "saved" is what autograd
keeps between forward and backward, input, output and weights not counted: those live anyway. Results are compared with
float64 before, on a few steps and not in that process: what the check leaves in the allocator would hide a peak.

usage of one process: python -m benchmarks.memory --peer NAME --shape SHAPE --dtype DTYPE --threads N
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch

from .gpu import clock as device_clock
from .gpu.peers import set_tf32
from .measure import described
from .peers import OURS, PEERS, Peer, compiling
from .plan import Group
from .problem import TOLERANCE, Problem, worst_error
from .shapes import parse

CHECKED_STEPS = 8


def measure(group: Group, device: str = "cpu", where: str | None = None) -> list[dict]:
    """A row for each peer; one that cannot be measured costs itself alone, ours all of them."""
    compiling.begin([PEERS[name] for name in group.peers], group.shape, "training")
    ours = _found(OURS, group, device, where)
    if ours["status"] != "ok":
        return [{**described(group, device, OURS.name), **ours}]
    rows, of_ours = [], {f"ours_{key}": ours[key] for key in ("peak", "saved")}
    for peer in (PEERS[name] for name in group.peers):
        theirs = _found(peer, group, device, where)
        if theirs["status"] == "ok":
            theirs |= {"ratio": theirs["peak"] / max(1, ours["peak"]), **of_ours}
        rows.append({**described(group, device, peer.name), **theirs})
    return rows


def _found(peer: Peer, group: Group, device: str, where: str | None) -> dict:
    """Status and note; if that is "ok": peak and saved."""
    if why := peer.missing(device):
        return {"status": "missing", "note": why, "install": peer.install}
    tiny = Problem(group.shape.with_steps(2), group.dtype, "training", where or device)
    if why := peer.refuses(tiny, group.threads):
        return {"status": "refused", "note": why}
    try:
        if why := _wrong(peer, group, device, where):
            return {"status": "wrong", "note": why}
        if device == "cuda":
            return {"status": "ok", **measure_here(peer, group.shape, group.dtype, group.threads, device, where)}
        return {"status": "ok", **in_own_process(peer.name, group)}
    except Exception as error:  # noqa: BLE001  (somebody else's code: recorded, and the others go on)
        return {"status": "failed", "note": f"{type(error).__name__}: {error}".strip()[:300]}


def _wrong(peer: Peer, group: Group, device: str, where: str | None) -> str | None:
    torch.set_num_threads(group.threads)
    shape = group.shape.with_steps(min(group.shape.T, CHECKED_STEPS))
    problem = Problem(shape, group.dtype, "training", where or device)
    expected = problem.expected()
    if device == "cuda":
        set_tf32(group.dtype == "tf32")
    call = peer.call(problem, group.threads)
    error = worst_error(call.results(call.run()), expected)
    allowed = TOLERANCE[group.dtype]
    return None if error <= allowed else f"relative error {error:.1e}, allowed {allowed:.0e}: not measured"


def resident(field: str = "VmRSS") -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}; this benchmark needs Linux")


def saved_bytes(problem: Problem, call) -> int:
    found: dict[int, int] = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        if not (t.is_leaf and t.requires_grad):  # weights
            found[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        results = call.run()
    alive = {t.untyped_storage().data_ptr() for t in (problem.leaf, results[0])}
    return sum(n for at, n in found.items() if at not in alive)


def measure_here(peer: Peer, shape, dtype: str, threads: int, device: str = "cpu", where: str | None = None) -> dict:
    where = where or device
    torch.set_num_threads(threads)
    tiny = Problem(shape.with_steps(2), dtype, "training", where)
    peer.call(tiny, threads).run()  # threads, kernels, code: not what is asked
    problem = Problem(shape, dtype, "training", where)
    call = peer.call(problem, threads)
    if device == "cuda":
        device_clock.cuda.synchronize()
        device_clock.cuda.reset_peak_memory_stats()
        before = device_clock.cuda.memory_allocated()
    else:
        before = resident()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    for _ in range(3):
        call.run()
    peak = device_clock.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")
    return {"peak": max(0, peak - before), "saved": saved_bytes(problem, call)}


def in_own_process(peer: str, group: Group) -> dict:
    command = [sys.executable, "-m", "benchmarks.memory", "--peer", peer, "--shape", group.shape.spec]
    command += ["--dtype", group.dtype, "--threads", str(group.threads)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[1])
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--peer", choices=[OURS.name, *PEERS], required=True)
    parser.add_argument("--shape", type=parse, required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    peer = OURS if args.peer == OURS.name else PEERS[args.peer]
    print(json.dumps(measure_here(peer, args.shape, args.dtype, args.threads)))


if __name__ == "__main__":
    main()
