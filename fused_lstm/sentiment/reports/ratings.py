"""Predicted numbers against true ones: mean squared and absolute error, Pearson and Spearman correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics import Z_95
from .pairing import bootstrap_means


@dataclass(frozen=True)
class RatingEvaluation:
    """Errors in units of the ratings, with 95 % intervals (bootstrap; Fisher's z for ``pearson``). A correlation of
    something that does not vary is 0. ``mean_mse`` is the error of always answering the mean of the true ratings."""

    count: int
    mse: float
    mse_interval: tuple[float, float]
    mae: float
    mae_interval: tuple[float, float]
    pearson: float
    pearson_interval: tuple[float, float]
    spearman: float
    mean_mse: float

    @classmethod
    def of(cls, true: Sequence[float], predicted: Sequence[float]) -> RatingEvaluation:
        """Both of the same length, at least 1."""
        t, p = np.asarray(true, dtype=float), np.asarray(predicted, dtype=float)
        squared, absolute, pearson = (p - t) ** 2, np.abs(p - t), correlation(t, p)
        return cls(
            len(t),
            float(squared.mean()),
            _interval(squared),
            float(absolute.mean()),
            _interval(absolute),
            pearson,
            fisher_interval(pearson, len(t)),
            correlation(ranks(t), ranks(p)),
            float(t.var()),
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "mse": self.mse,
            "mse_interval_95": list(self.mse_interval),
            "mae": self.mae,
            "mae_interval_95": list(self.mae_interval),
            "pearson": self.pearson,
            "pearson_interval_95": list(self.pearson_interval),
            "spearman": self.spearman,
            "mse_of_the_mean": self.mean_mse,
        }


def _interval(errors: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(bootstrap_means(errors), [0.025, 0.975])
    return float(low), float(high)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's r; 0 where one of both does not vary."""
    a, b = first - first.mean(), second - second.mean()
    scale = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / scale if scale else 0.0


def ranks(values: np.ndarray) -> np.ndarray:
    """From 1 on; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places]


def fisher_interval(r: float, count: int) -> tuple[float, float]:
    """95 % interval of a correlation; (-1, 1) for fewer than four pairs."""
    if count < 4:
        return -1.0, 1.0
    if abs(r) >= 1:
        return r, r
    half = Z_95 / math.sqrt(count - 3)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)
