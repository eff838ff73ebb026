"""How time is taken on each device."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from .gpu.clock import Clock as DeviceClock

SAMPLE_SECONDS = 0.012  # of calls, one sample on the CPU


WAITED = 0.02  # share of a sample that a thread spent waiting for a core: beyond it the sample is disturbed


class CpuClock:
    """The wall; with one thread the CPU time of this thread, which leaves out the times when it was preempted.

    A rival with threads of its own (JAX) is timed by the CPU time of the whole process there. With more threads a
    sample is disturbed where the kernel says that threads of ours were ready to run and had no core.
    """

    def __init__(self, threads: int, own_threads: bool = False) -> None:
        self.disturbed, self._watch = False, threads > 1
        if threads > 1:
            self.now: Callable[[], float] = time.perf_counter
            self.kind = "wall"
        else:
            which = time.CLOCK_PROCESS_CPUTIME_ID if own_threads else time.CLOCK_THREAD_CPUTIME_ID
            self.now = lambda: time.clock_gettime(which)
            self.kind = "CPU time of the process" if own_threads else "CPU time of the thread"

    def calls(self, call: Callable[[], object]) -> int:
        """The first call warms up; where it was quick, the next two tell how long one takes."""
        once = self.sample(call, 1)
        if once < 4 * SAMPLE_SECONDS:
            once = min(self.sample(call, 1) for _ in range(2))
        return max(1, int(SAMPLE_SECONDS / max(once, 1e-7)))

    def sample(self, call: Callable[[], object], calls: int) -> float:
        waited = waiting_seconds() if self._watch else 0.0
        start = self.now()
        for _ in range(calls):
            call()
        seconds = self.now() - start
        if self._watch:
            self.disturbed = waiting_seconds() - waited > WAITED * seconds
        return seconds / calls


def waiting_seconds(tasks: Path = Path("/proc/self/task")) -> float:
    """How long all threads of this process together were ready to run and had no core; 0 where nobody counts."""
    total = 0
    for file in tasks.glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # a thread may end in between
            total += int(file.read_text().split()[1])
    return total * 1e-9


class CudaClock(DeviceClock):
    """CUDA events around one call, the second-level cache emptied before it."""

    kind = "CUDA events"
    disturbed = False

    def calls(self, call: Callable[[], object]) -> int:
        for _ in range(2):  # kernels get chosen, memory gets reserved
            super().sample(call)
        return 1

    def sample(self, call: Callable[[], object], calls: int = 1) -> float:
        return sum(super(CudaClock, self).sample(call) for _ in range(calls)) / calls
