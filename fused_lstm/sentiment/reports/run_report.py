"""What a run found: collected here as one object, and as JSON values that every text and page is made from."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..baseline import Baseline
from ..datasets import Dataset
from ..examples import Example
from ..predictor import Prediction
from ..splits import DEV, TEST, TRAIN
from ..training import TrainResult
from .card import CARD, model_card
from .files import write_files
from .fingerprints import fingerprint
from .measure import PartResult, Ratings, calibrated
from .outcomes import PREDICTIONS, rows_text
from .pairing import compare_errors, compare_hits
from .run_page import PAGE, run_page
from .run_text import REPORT, run_text

METRICS, COMPOSE = "metrics.json", "compose"
FORMAT, VERSION = "fused_lstm.sentiment.metrics", 2


@dataclass
class DataFacts:
    """The data of a run: its name, texts by part, their labels, hashes of the rows, and what was noticed."""

    name: str
    embedded: bool
    counts: dict[str, int]
    labels: dict[str, dict[str, int]]
    sha256: dict[str, str]
    notes: list[str]

    @classmethod
    def of(cls, dataset: Dataset) -> DataFacts:
        parts = {TRAIN: dataset.train, DEV: dataset.dev, TEST: dataset.test, COMPOSE: dataset.composed}
        return cls.of_parts(dataset.name, parts, dataset.notes, dataset.embedded)

    @classmethod
    def of_parts(
        cls, name: str, parts: Mapping[str, Sequence[Example]], notes: Sequence[str], embedded: bool = False
    ) -> DataFacts:
        """Empty parts do not count."""
        parts = {part: examples for part, examples in parts.items() if examples}
        return cls(
            name,
            embedded,
            {part: len(examples) for part, examples in parts.items()},
            {part: dict(sorted(Counter(e.label for e in examples).items())) for part, examples in parts.items()},
            {part: fingerprint(examples) for part, examples in parts.items()},
            list(notes),
        )


@dataclass
class RunReport:
    """The whole story of one training run. Why there are no ``baselines``, or no ``plots``, stands in the notes.

    ``parts`` holds dev, on which the epoch was chosen, and what nothing was chosen on.
    """

    data: DataFacts
    settings: dict[str, Any]
    environment: dict[str, Any]
    training: TrainResult
    parts: dict[str, PartResult]
    baselines: list[Baseline] = field(default_factory=list)
    samples: list[tuple[Prediction, str]] = field(default_factory=list)
    plots: list[str] = field(default_factory=list)
    rating_baseline: Baseline | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON values; accuracies and losses are numbers, not per cent."""
        parts = {name: part.as_dict() for name, part in self.parts.items()}
        # Without a mistake on dev the best temperature is none: certainty.
        if DEV in parts and not self.parts[DEV].outcomes.hits.all():
            temperature = self.parts[DEV].outcomes.temperature()
            for name, part in self.parts.items():
                parts[name]["calibration"]["at_dev_temperature"] = calibrated(part.outcomes, temperature)
        return {
            "format": FORMAT,
            "version": VERSION,
            "title": f"Sentiment run on {self.data.name}",
            "data": asdict(self.data),
            "settings": self.settings,
            "environment": self.environment,
            "best_epoch": self.training.best_epoch,
            "interrupted": self.training.interrupted,
            "history": [asdict(metrics) for metrics in self.training.history],
            "parts": parts,
            "baselines": [self._baseline(baseline) for baseline in self.baselines],
            "rating_baseline": self._rating_baseline(),
            "samples": [{**prediction._asdict(), "true": true} for prediction, true in self.samples],
            "plots": self.plots,
        }

    def text(self) -> str:
        """The report for a person, as Markdown."""
        return run_text(self.as_dict())

    def write(self, folder: Path, pictures: Mapping[str, bytes]) -> None:
        """All files of the report, or none: those of an earlier run stay if the disk is full."""
        self.plots = list(pictures)
        told = self.as_dict()
        rows = [row for name, part in self.parts.items() for row in part.outcomes.rows(name)]
        write_files(
            folder,
            {
                METRICS: told,
                REPORT: run_text(told),
                PAGE: run_page(told),
                CARD: model_card(told),
                PREDICTIONS: rows_text(rows),
                **pictures,
            },
        )

    def _rating_baseline(self) -> dict[str, Any] | None:
        baseline = self.rating_baseline
        if baseline is None:
            return None
        ours = self.parts[TEST].ratings
        theirs = Ratings(ours.true, baseline.outputs[TEST])
        return {
            "name": baseline.name,
            "strength": baseline.strength,
            "test": theirs.evaluation().as_dict(),
            "mse_difference": compare_errors(ours.squared_errors, theirs.squared_errors).as_dict(),
        }

    def _baseline(self, baseline: Baseline) -> dict[str, Any]:
        parts = {}
        for name, evaluation in baseline.parts.items():
            ours = self.parts[name].outcomes
            difference = compare_hits(ours.hits.tolist(), _hits(baseline, name, ours.true))
            parts[name] = {**evaluation.as_dict(), "lstm_minus_this": difference.as_dict()}
        return {
            "name": baseline.name,
            "strength": baseline.strength,
            "dev_accuracy": baseline.dev_score,
            "seconds": baseline.seconds,
            "parts": parts,
        }


def _hits(baseline: Baseline, part: str, true: Sequence[int]) -> list[bool]:
    return (baseline.outputs[part].argmax(axis=1) == true).tolist()


def environment(parameters: int, vocabulary: int) -> dict[str, Any]:
    """The machine and the versions that a run depends on, and the size of its model."""
    return {
        "parameters": parameters,
        "vocabulary": vocabulary,
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        **_library(),
    }


def _library() -> dict[str, str]:
    try:
        from fused_lstm import __version__, cpu_isa
    except ImportError:  # a run with --lstm torch does without
        return {"fused_lstm": "not built"}
    return {"fused_lstm": __version__, "isa": cpu_isa()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n")
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
