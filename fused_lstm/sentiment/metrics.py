"""Accuracy with its interval, precision, recall, F1 and the confusion matrix, from counts alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z_95 = 1.959963984540054


@dataclass(frozen=True)
class ClassScores:
    """Of one class: shares in [0, 1], and ``support``, the number of true members."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Evaluation:
    """``confusion[t][p]`` counts texts of class t that were given class p; ``classes`` names both axes."""

    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, classes: Sequence[str], true: Sequence[int], predicted: Sequence[int]) -> Evaluation:
        """Counts pairs of class numbers."""
        counts = [[0] * len(classes) for _ in classes]
        for t, p in zip(true, predicted, strict=True):
            counts[t][p] += 1
        return cls(tuple(classes), tuple(map(tuple, counts)))

    @property
    def total(self) -> int:
        return sum(map(sum, self.confusion))

    @property
    def correct(self) -> int:
        return sum(self.confusion[i][i] for i in range(len(self.classes)))

    @property
    def accuracy(self) -> float:
        return self.correct / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy."""
        return wilson_interval(self.correct, self.total)

    def scores(self) -> list[ClassScores]:
        """One entry per class. A share with nothing to divide by is 0."""
        result = []
        for i, row in enumerate(self.confusion):
            hits, support, given = row[i], sum(row), sum(other[i] for other in self.confusion)
            precision = hits / given if given else 0.0
            recall = hits / support if support else 0.0
            f1 = 2 * hits / (support + given) if support + given else 0.0
            result.append(ClassScores(precision, recall, f1, support))
        return result

    def macro(self) -> ClassScores:
        """Means over the classes that occur; ``support`` is the total."""
        scores = [s for s in self.scores() if s.support]
        count = len(scores) or 1
        return ClassScores(
            sum(s.precision for s in scores) / count,
            sum(s.recall for s in scores) / count,
            sum(s.f1 for s in scores) / count,
            self.total,
        )

    def as_dict(self) -> dict[str, object]:
        """Everything above as plain JSON values."""
        macro = self.macro()
        return {
            "count": self.total,
            "accuracy": self.accuracy,
            "accuracy_interval_95": list(self.interval),
            "macro": {"precision": macro.precision, "recall": macro.recall, "f1": macro.f1},
            "per_class": {name: vars(scores) for name, scores in zip(self.classes, self.scores())},
            "confusion": {"classes": list(self.classes), "true_by_predicted": [list(row) for row in self.confusion]},
        }


def wilson_interval(successes: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """The score interval for a share (E. B. Wilson, JASA 1927). (0, 1) if nothing was counted."""
    if total == 0:
        return 0.0, 1.0
    share = successes / total
    scale = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)
