"""What a model said about each text of a part, and what can be read off that: where it is wrong, and at which lengths.

Rows are kept beside the report (predictions.jsonl), texts as keys only, so that runs can be compared text by text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..metrics import Evaluation, wilson_interval
from ..stored_files import StoreError
from .calibration import Calibration, best_temperature, log_loss

PREDICTIONS = "predictions.jsonl"
LENGTH_BANDS = 5
# Macro F1 has no closed interval; it is a function of the confusion counts, so resampling those is enough.
_RESAMPLES = 1000


@dataclass
class Outcomes:
    """``true`` (N,) class numbers, ``probabilities`` (N, classes), ``lengths`` (N,) tokens, ``keys`` by text."""

    classes: tuple[str, ...]
    true: np.ndarray
    probabilities: np.ndarray
    lengths: np.ndarray
    keys: list[str]

    @property
    def predicted(self) -> np.ndarray:
        return self.probabilities.argmax(axis=1)

    @property
    def hits(self) -> np.ndarray:
        """Whether each text was given its class."""
        return self.predicted == self.true

    def evaluation(self) -> Evaluation:
        return Evaluation.of(self.classes, self.true.tolist(), self.predicted.tolist())

    def loss(self) -> float:
        return log_loss(self.probabilities, self.true)

    def calibration(self) -> Calibration:
        return Calibration.of(self.probabilities, self.true)

    def temperature(self) -> float:
        return best_temperature(self.probabilities, self.true)

    def by_length(self) -> list[dict[str, Any]]:
        """Accuracy in up to `LENGTH_BANDS` bands of about as many texts each; texts of one length stay together."""
        edges = np.unique(np.quantile(self.lengths, np.linspace(0, 1, LENGTH_BANDS + 1)[1:], method="higher"))
        bands, low = [], int(self.lengths.min())
        for high in edges.astype(int).tolist():
            inside = (self.lengths >= low) & (self.lengths <= high)
            count, correct = int(inside.sum()), int(self.hits[inside].sum())
            interval = list(wilson_interval(correct, count))
            share = correct / count if count else 0.0
            band = {"from": low, "to": high, "count": count, "correct": correct}
            bands.append({**band, "accuracy": share, "accuracy_interval_95": interval})
            low = high + 1
        return bands

    def hardest(self, count: int) -> list[int]:
        """Places of the wrong answers, the surest first."""
        wrong = np.flatnonzero(~self.hits)
        sureness = self.probabilities[wrong].max(axis=1)
        return wrong[np.argsort(-sureness, kind="stable")][:count].tolist()

    def rows(self, part: str) -> list[dict[str, Any]]:
        """One JSON object a text."""
        return [
            {"part": part, "text": key, "true": self.classes[true], "probabilities": [round(p, 7) for p in row]}
            for key, true, row in zip(self.keys, self.true.tolist(), self.probabilities.tolist())
        ]


def macro_f1_interval(evaluation: Evaluation, seed: int = 0) -> tuple[float, float]:
    """95 % interval by bootstrap; (0, 1) if nothing was counted."""
    counts = np.array(evaluation.confusion, dtype=float)
    total = evaluation.total
    if not total:
        return 0.0, 1.0
    draws = np.random.default_rng(seed).multinomial(total, counts.ravel() / total, size=_RESAMPLES)
    tables = draws.reshape(_RESAMPLES, *counts.shape)
    hits = np.diagonal(tables, axis1=1, axis2=2)
    support, given = tables.sum(axis=2), tables.sum(axis=1)
    f1 = 2 * hits / np.maximum(support + given, 1)
    present = support > 0
    means = (f1 * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def rows_text(rows: Sequence[dict[str, Any]]) -> str:
    """The contents of predictions.jsonl."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_rows(path: Path, part: str) -> list[dict[str, Any]]:
    """The rows of one part. Raises `StoreError` if the file is missing or damaged."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            row = json.loads(line)
            if row["part"] == part:
                rows.append({name: row[name] for name in ("text", "true", "probabilities")})
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path}:{number}: expected one prediction as JSON, found {line[:40]!r}") from error
    return rows
