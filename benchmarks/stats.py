"""Medians, and how sure one can be of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

# A race looks at its interval after 9, 13, 19, ... values and stops when it is narrow, which favours those narrow by
# luck. Asking for 96 % at every look leaves 95 % at the end (tests/test_bench_timing.py simulates it), as far as values
# are independent of each other: a disturbance that lasts longer than the race shifts all of them.
CONFIDENCE = 0.96


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Confidence interval of the median by order statistics: no assumption on the distribution of ``values``.

    Between the k-th smallest and the k-th largest value lies the median unless fewer than k values fell on one side of
    it, whose probability is binomial. With too few values for that confidence the interval is unbounded.
    """
    ordered, n = sorted(values), len(values)
    outside, k = 0.0, 0
    while k < n // 2:
        outside += 2 * math.comb(n, k) / 2**n
        if outside > 1 - confidence:
            break
        k += 1
    if k == 0:
        return -math.inf, math.inf
    return ordered[k - 1], ordered[n - k]


def median_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    return statistics.median(values), *interval(values)


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))
