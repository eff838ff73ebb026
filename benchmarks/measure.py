"""One group of the plan: everybody compared with float64 first, then those who are right timed in turn."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .clocks import CpuClock, CudaClock
from .gpu.peers import set_tf32
from .limits import Limits
from .peers import OURS, PEERS, Call, Peer, compiling
from .plan import Group
from .problem import TOLERANCE, Problem, Result, checked_steps, worst_error
from .timing import Duel, race

# What a row can say of a peer. "wrong" and "failed" make the run's exit status 1 if it was ours.
STATUS = ("ok", "noisy", "wrong", "refused", "missing", "failed", "not run")


@dataclass
class Bench:
    """The device, and where its tensors are: on the CPU too when that stands in for a GPU in tests."""

    device: str
    limits: Callable[[int, str], Limits]  # (threads, dtype)
    seconds: float
    where: str | None = None
    peers: dict[str, Peer] | None = None

    def __post_init__(self) -> None:
        self.where = self.where or self.device
        self.peers = PEERS if self.peers is None else self.peers
        self._clocks: dict[bool, CudaClock] = {}

    def clock(self, threads: int, peer: Peer):
        if self.device == "cuda":
            return self._cuda_clock(peer.own_streams)
        return CpuClock(threads, peer.own_threads)

    def _cuda_clock(self, own_streams: bool) -> CudaClock:
        if own_streams not in self._clocks:
            self._clocks[own_streams] = CudaClock("cuda", self.where, own_streams)
        return self._clocks[own_streams]

    # ---- a group

    def measure(self, group: Group) -> list[dict]:
        _set_threads(group.threads)
        if self.device == "cuda":
            set_tf32(group.dtype == "tf32")
        problem = Problem(group.shape, group.dtype, group.mode, self.where)
        rows = _Rows(group, self.device, self.limits)
        compiling.begin([self.peers[name] for name in group.peers], group.shape, group.mode)
        small = problem.steps_cut(checked_steps(group.shape, group.mode))
        expected = small.expected()
        if self.device == "cuda":
            set_tf32(group.dtype == "tf32")
        ours = self._checked(OURS, problem, small, expected, group, rows)
        if ours is None:
            return rows.found
        calls = {"": ours}
        for name in group.peers:
            peer = self.peers[name]
            why = peer.missing(self.device)
            status = "missing" if why else "refused"
            why = why or peer.refuses(problem, group.threads)
            if why:
                rows.add(name, status, note=why, install=peer.install)
            elif (call := self._checked(peer, problem, small, expected, group, rows)) is not None:
                calls[name] = call
        self._race(calls, group, rows)
        return rows.found

    def _checked(
        self, peer: Peer, problem: Problem, small: Problem, expected: Result, group: Group, rows: _Rows
    ) -> Call | None:
        """The call to time, or None after a row that says why there is none."""
        try:
            before = compiling.graphs() if peer.compiled else 0
            call = peer.call(small, group.threads)
            error = worst_error(call.results(call.run()), expected)
            tolerance = TOLERANCE[group.dtype]
            rows.errors[peer.name] = dict(error=error, tolerance=tolerance, checked_steps=small.shape.T)
            if not error <= tolerance:
                note = f"relative error {error:.1e}, allowed {tolerance:.0e}: not timed"
                rows.add(peer.name, "wrong", note=note)
                return None
            call = call if small is problem else peer.call(problem, group.threads)
            if peer.compiled:
                call.run()  # at full length
                rows.errors[peer.name]["graphs"] = compiling.graphs() - before
            return call
        except Exception as error:  # noqa: BLE001  (somebody else's code: recorded, and the others go on)
            rows.add(peer.name, "failed", note=f"{type(error).__name__}: {error}".strip()[:300])
            return None

    def _race(self, calls: dict[str, Call], group: Group, rows: _Rows) -> None:
        runs = {name: call.run for name, call in calls.items()}
        if len(runs) == 1:
            again = Problem(group.shape, group.dtype, group.mode, self.where)
            runs["self"] = self.peers["self"].call(again, group.threads).run
        self._timed(runs, group, rows, "")
        if self.device == "cuda":
            captured, refused = self._captured(runs, rows)
            if len(captured) > 1 and not refused.get(""):
                self._timed(captured, group, rows, "+graph")

    def _timed(self, runs: dict[str, Callable], group: Group, rows: _Rows, mark: str) -> None:
        names = [name for name in runs if name]
        clocks = {name: self.clock(group.threads, self.peers[name]) for name in names}
        clocks[""] = self.clock(group.threads, OURS)
        ours = runs[""]
        try:
            duels = race(ours, {n: runs[n] for n in names}, clocks, seconds=self.seconds, now=time.perf_counter)
        except Exception as error:  # noqa: BLE001  (of ours: race() keeps what rivals raise to itself)
            rows.add(OURS.name + mark, "failed", note=_while_timing(error))
            return
        for name, duel in duels.items():
            if isinstance(duel, Exception):
                rows.add(name + mark, "failed", note=_while_timing(duel))
            else:
                rows.timed(name, mark, duel, clocks[name].kind)

    def _captured(self, runs: dict[str, Callable], rows: _Rows) -> tuple[dict[str, Callable], dict[str, str]]:
        """CUDA graphs of those calls that can be captured."""
        captured, refused = {}, {}
        for name, run in runs.items():
            if name and self.peers[name].own_streams:
                continue
            try:
                captured[name] = self._cuda_clock(False).captured(run)
            except RuntimeError as error:
                refused[name] = f"cannot be captured: {str(error).splitlines()[0]}"[:200]
                rows.add((name or OURS.name) + "+graph", "refused", note=refused[name])
        return captured, refused


def _while_timing(error: Exception) -> str:
    return f"while timing: {type(error).__name__}: {error}".strip()[:300]


def _set_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    # autograd's own thread would escape the clock of this one
    torch.autograd.set_multithreading_enabled(threads > 1)


class _Rows:
    def __init__(self, group: Group, device: str, limits: Callable[[int, str], Limits]) -> None:
        self.group, self.device, self.limits = group, device, limits
        self.found: list[dict] = []
        self.errors: dict[str, dict] = {}

    def base(self, peer: str) -> dict:
        return described(self.group, self.device, peer)

    def add(self, peer: str, status: str, **more: object) -> None:
        self.found.append({**self.base(peer), "status": status, **self.errors.get(peer, {}), **more})

    def timed(self, peer: str, mark: str, duel: Duel, clock: str) -> None:
        bounded = math.isfinite(duel.low)
        self.found.append(
            {
                **self.base(peer + mark),
                "status": "noisy" if duel.noisy else "ok",
                **self.errors.get(peer, {}),
                "ratio": duel.ratio,
                "low": duel.low if bounded else None,
                "high": duel.high if bounded else None,
                "seconds": duel.seconds,
                "ours_seconds": duel.ours,
                "ours_best": duel.best_ours,
                "ours_error": self.errors[OURS.name]["error"],
                "rounds": duel.rounds,
                "disturbed": duel.disturbed,
                "clock": clock,
                **rates(self.group, duel.ours, self.limits),
            }
        )


def described(group: Group, device: str, peer: str) -> dict:
    return {
        "kind": "row",
        "section": group.section + (f" {group.axis}" if group.axis else ""),
        "name": group.shape.name,
        "shape": group.shape.spec,
        "T": group.shape.T,
        "B": group.shape.B,
        "I": group.shape.I,
        "H": group.shape.H,
        "layers": group.shape.layers,
        "mode": group.mode,
        "dtype": group.dtype,
        "threads": group.threads,
        "device": device,
        "peer": peer,
    }


def rates(group: Group, seconds: float, limits: Callable[[int, str], Limits]) -> dict:
    """How near ours comes to what the machine can do."""
    itemsize = 2 if group.dtype in ("bfloat16", "float16") else 8 if group.dtype == "float64" else 4
    flops, moved = group.shape.flops(group.mode), group.shape.traffic(group.mode, itemsize)
    limit = limits(group.threads, group.dtype)
    peak, of = limit.peak(group.dtype)
    found = {
        "gflops": flops / seconds / 1e9,
        "intensity": flops / moved,
        "peak_share": flops / seconds / 1e9 / peak,
        "peak_of": of,
        "memory_share": moved / seconds / 1e9 / limit.memory_gb_per_s,
    }
    if group.dtype in limit.gemm_gflops:
        found["gemm_share"] = flops / seconds / 1e9 / limit.gemm_gflops[group.dtype]
    return found
