"""Two models on the same texts: how far apart they are, and whether that can be chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..metrics import Z_95

RESAMPLES = 2000


@dataclass(frozen=True)
class PairedDifference:
    """Of a first model against a second: ``difference`` of a figure (first - second) with its 95 % interval, the
    p-value of "no difference", how many texts only one of them got right (None for ratings), and the test's name."""

    difference: float
    interval: tuple[float, float]
    p_value: float
    only_first: int | None
    only_second: int | None
    test: str

    def as_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return {**values, "interval": list(self.interval)}


def compare_hits(first: Sequence[bool], second: Sequence[bool]) -> PairedDifference:
    """Difference of two accuracies on the same texts: exact McNemar test, interval of Bonett & Price (2012)."""
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second))
    count = len(first)
    # One text added to each cell of disagreement keeps the coverage where few disagree.
    gain, loss = (only_first + 1) / (count + 2), (only_second + 1) / (count + 2)
    half = Z_95 * math.sqrt((gain + loss - (gain - loss) ** 2) / (count + 2))
    return PairedDifference(
        (only_first - only_second) / count if count else 0.0,
        (max(-1.0, gain - loss - half), min(1.0, gain - loss + half)),
        mcnemar(only_first, only_second),
        only_first,
        only_second,
        "exact McNemar",
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value: the smaller of the two counts or less, if each disagreement were a fair coin."""
    total = only_first + only_second
    if total == 0:
        return 1.0
    log_half = total * math.log(2)
    tail = sum(
        math.exp(math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) - log_half)
        for k in range(min(only_first, only_second) + 1)
    )
    return min(1.0, 2 * tail)


def compare_errors(first: Sequence[float], second: Sequence[float], seed: int = 0) -> PairedDifference:
    """Difference of two mean errors on the same texts (below 0: the first is better): paired bootstrap."""
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    means = bootstrap_means(differences, seed)
    low, high = np.quantile(means, [0.025, 0.975])
    # Twice the smaller share of resamples on the other side of zero; never 0, since more resamples could find one.
    tail = (min((means <= 0).sum(), (means >= 0).sum()) + 1) / (len(means) + 1)
    return PairedDifference(
        float(differences.mean()), (float(low), float(high)), min(1.0, 2 * float(tail)), None, None, "paired bootstrap"
    )


def bootstrap_means(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Means of `RESAMPLES` samples drawn with replacement; the same seed gives the same ones."""
    generator = np.random.default_rng(seed)
    count = len(values)
    return np.array([values[generator.integers(0, count, count)].mean() for _ in range(RESAMPLES)])
