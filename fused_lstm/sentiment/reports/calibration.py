"""Whether probabilities mean what they say: reliability bins, expected calibration error, Brier score, temperature."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

BINS = 15
# exp(-3) to exp(3): beyond that a model is certain of everything, or of nothing.
_LOG_TEMPERATURES = (-3.0, 3.0)
_TINY = 1e-12


@dataclass(frozen=True)
class Bin:
    """Texts whose highest probability lies in (low, high]: its mean, and the share of them that was right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """``ece``: mean distance of confidence and accuracy over 15 bins of equal width, weighted by their counts (Guo et
    al., ICML 2017). ``brier``: mean squared distance of the probabilities from the truth, summed over the classes, so
    that it lies between 0 and 2."""

    ece: float
    brier: float
    confidence: float
    bins: tuple[Bin, ...]

    @classmethod
    def of(cls, probabilities: np.ndarray, true: np.ndarray) -> Calibration:
        """``probabilities`` (N, classes), ``true`` (N,) class numbers; N > 0."""
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
        places = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
        bins = tuple(_bin(index, confidence[places == index], right[places == index]) for index in range(BINS))
        ece = sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / len(true)
        target = np.eye(probabilities.shape[1])[true]
        brier = float(((probabilities - target) ** 2).sum(axis=1).mean())
        return cls(ece, brier, float(confidence.mean()), bins)

    def as_dict(self) -> dict[str, Any]:
        """JSON values; bins without texts are left out."""
        return {
            "ece": self.ece,
            "brier": self.brier,
            "mean_confidence": self.confidence,
            "bins": [asdict(b) for b in self.bins if b.count],
        }


def _bin(index: int, confidence: np.ndarray, right: np.ndarray) -> Bin:
    count = len(confidence)
    means = (float(confidence.mean()), float(right.mean())) if count else (0.0, 0.0)
    return Bin(index / BINS, (index + 1) / BINS, count, *means)


def log_loss(probabilities: np.ndarray, true: np.ndarray) -> float:
    """Mean cross-entropy in nats."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(true)), true], _TINY)).mean())


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """What softmax(scores / temperature) would have given."""
    scores = np.log(np.maximum(probabilities, _TINY)) / temperature
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def best_temperature(probabilities: np.ndarray, true: np.ndarray) -> float:
    """The temperature with the lowest cross-entropy: of dev, never of the test part. Golden-section search."""
    low, high = _LOG_TEMPERATURES
    shrink = (5**0.5 - 1) / 2

    def loss(log_temperature: float) -> float:
        return log_loss(at_temperature(probabilities, float(np.exp(log_temperature))), true)

    for _ in range(40):
        left, right = high - shrink * (high - low), low + shrink * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))
