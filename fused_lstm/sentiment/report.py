"""What a run found: metrics.json for programs, report.md for people (plain text that is also Markdown)."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .baseline import Baseline
from .metrics import Evaluation
from .predictor import Prediction
from .store import write_json, write_text
from .training import TrainResult

METRICS, REPORT = "metrics.json", "report.md"


@dataclass
class PartResult:
    """One evaluated part. ``kinds``: construction -> (correct, total), empty outside the embedded corpus."""

    evaluation: Evaluation
    loss: float
    seconds: float
    kinds: dict[str, tuple[int, int]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        kinds = {name: {"correct": correct, "count": total} for name, (correct, total) in self.kinds.items()}
        speed = self.evaluation.total / self.seconds
        result = {**self.evaluation.as_dict(), "loss": self.loss, "samples_per_second": speed}
        return {**result, "constructions": kinds} if kinds else result


@dataclass
class RunReport:
    """The whole story of one training run. Why there is no ``baseline``, or no ``plots``, stands in ``notes``."""

    data: str
    counts: dict[str, int]
    notes: list[str]
    settings: dict[str, Any]
    environment: dict[str, Any]
    training: TrainResult
    parts: dict[str, PartResult]
    baseline: Baseline | None
    samples: list[tuple[Prediction, str]]
    plots: list[str]

    def as_dict(self) -> dict[str, Any]:
        """JSON values; accuracies and losses are numbers, not per cent."""
        baseline = None
        if self.baseline is not None:
            parts = {name: evaluation.as_dict() for name, evaluation in self.baseline.parts.items()}
            baseline = {**asdict(self.baseline), "parts": parts}
        return {
            "data": {"name": self.data, "counts": self.counts, "notes": self.notes},
            "settings": self.settings,
            "environment": self.environment,
            "best_epoch": self.training.best_epoch,
            "interrupted": self.training.interrupted,
            "history": [asdict(metrics) for metrics in self.training.history],
            "parts": {name: part.as_dict() for name, part in self.parts.items()},
            "baseline": baseline,
        }

    def text(self) -> str:
        """The report for a person."""
        test = self.parts["test"]
        counts = ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        sections = [
            f"# Sentiment run on {self.data}",
            f"Texts: {counts}.",
            *(f"- {note}" for note in self.notes),
            "",
            "## Accuracy",
            "",
            table(("part", "model", "accuracy %", "95 % interval", "macro F1", "texts"), self._accuracy_rows()),
            "",
            "## Test, by class",
            "",
            class_table(test.evaluation),
            "",
            "## Test, confusion (rows: true class, columns: predicted)",
            "",
            confusion_table(test.evaluation),
            "",
        ]
        if test.kinds:
            kinds = table(("part", "construction", "correct"), self._kinds())
            sections += ["## Accuracy by construction", "", kinds, ""]
        sections += ["## Training", "", self._training_text(), ""]
        if self.samples:
            sections += ["## Some predictions", "", *(_sample_line(*sample) for sample in self.samples), ""]
        return "\n".join(sections)

    def write(self, folder: Path) -> None:
        """metrics.json and report.md in ``folder``."""
        write_json(folder / METRICS, self.as_dict())
        write_text(folder / REPORT, self.text())

    def _accuracy_rows(self) -> list[tuple[str, ...]]:
        rows = []
        for name, part in self.parts.items():
            rows.append((name, "this LSTM", *accuracy_cells(part.evaluation)))
            if self.baseline is not None and name in self.baseline.parts:
                rows.append((name, self.baseline.name, *accuracy_cells(self.baseline.parts[name])))
        return rows

    def _kinds(self) -> list[tuple[str, ...]]:
        return [
            (name, kind, f"{correct}/{total}")
            for name, part in self.parts.items()
            for kind, (correct, total) in sorted(part.kinds.items())
        ]

    def _training_text(self) -> str:
        rows = [
            (
                f"{m.epoch}{' *' if m.epoch == self.training.best_epoch else ''}",
                f"{m.train_loss:.4f}",
                f"{m.dev_loss:.4f}",
                f"{m.dev_accuracy:.2%}",
                f"{m.dev_macro_f1:.4f}",
                f"{m.seconds:.1f}",
                f"{m.samples_per_second:,.0f}",
            )
            for m in self.training.history
        ]
        header = ("epoch", "train loss", "dev loss", "dev accuracy", "dev macro F1", "seconds", "samples/s")
        stopped = "Stopped by the user. " if self.training.interrupted else ""
        test = self.parts["test"]
        speed = test.evaluation.total / test.seconds
        facts = ", ".join(f"{name} {value}" for name, value in (self.settings | self.environment).items())
        return (
            f"{table(header, rows)}\n\n{stopped}The epoch marked * was best on dev and is the one kept. "
            f"Test ran at {speed:,.0f} samples/s.\n\nSettings: {facts}."
        )


def _sample_line(prediction: Prediction, true: str) -> str:
    truth = f", in truth {true}" if true else ""
    return f"- {prediction.label} ({prediction.probability:.3f}{truth}): {prediction.text}"


def accuracy_cells(evaluation: Evaluation) -> tuple[str, str, str, str]:
    """Accuracy, interval, macro F1 and count as they stand in tables."""
    low, high = evaluation.interval
    return (
        f"{100 * evaluation.accuracy:.2f}",
        f"{100 * low:.1f} to {100 * high:.1f}",
        f"{evaluation.macro().f1:.4f}",
        f"{evaluation.total:,}",
    )


def class_table(evaluation: Evaluation) -> str:
    """Precision, recall and F1 of each class and their means."""
    named = [*zip(evaluation.classes, evaluation.scores()), ("macro mean", evaluation.macro())]
    rows = [(n, f"{s.precision:.4f}", f"{s.recall:.4f}", f"{s.f1:.4f}", f"{s.support:,}") for n, s in named]
    return table(("class", "precision", "recall", "F1", "texts"), rows)


def confusion_table(evaluation: Evaluation) -> str:
    """Counts, one row per true class."""
    rows = [(name, *map(str, row)) for name, row in zip(evaluation.classes, evaluation.confusion)]
    return table(("true \\ predicted", *evaluation.classes), rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns also line up as plain text, Chinese characters included."""
    cells = [[_cell(value) for value in row] for row in (header, *rows)]
    widths = [max(_width(row[i]) for row in cells) for i in range(len(header))]
    lines = ["| " + " | ".join(c + " " * (w - _width(c)) for c, w in zip(row, widths)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _cell(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|")


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
