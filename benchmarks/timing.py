"""Ratios that a noisy machine cannot bend: A and B in turn, in one process, and the median of what each pair says."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    ratio: float  # median of time A / time B, pair by pair
    low: float  # quartiles of the same
    high: float
    seconds_a: float  # medians, each on its own
    seconds_b: float
    best_b: float
    pairs: int


def clock_for(threads: int) -> Callable[[], float]:
    """One thread: its CPU time, which leaves out the times when it was preempted. More: the wall."""
    if threads == 1:
        return lambda: time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)
    return time.perf_counter


def compare(
    a: Callable[[], object], b: Callable[[], object], *, threads: int, pairs: int = 15, sample: float = 0.03
) -> Pair:
    """Times ``a`` and ``b`` in turn, ``pairs`` times, each sample lasting at least ``sample`` seconds of calls."""
    clock = clock_for(threads)

    def calls_for(f: Callable[[], object]) -> int:
        f()
        start = clock()
        f()
        return max(1, int(sample / max(clock() - start, 1e-6)))

    def measure(f: Callable[[], object], calls: int) -> float:
        start = clock()
        for _ in range(calls):
            f()
        return (clock() - start) / calls

    calls_a, calls_b = calls_for(a), calls_for(b)
    times_a, times_b = [], []
    for i in range(pairs):
        if i % 2:  # who goes first changes: neither always finds the other's cache
            times_b.append(measure(b, calls_b))
            times_a.append(measure(a, calls_a))
        else:
            times_a.append(measure(a, calls_a))
            times_b.append(measure(b, calls_b))
    ratios = [x / y for x, y in zip(times_a, times_b, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return Pair(
        statistics.median(ratios),
        low,
        high,
        statistics.median(times_a),
        statistics.median(times_b),
        min(times_b),
        pairs,
    )
