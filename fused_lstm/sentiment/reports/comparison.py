"""Runs side by side: read from their folders, grouped by what only the seed tells apart, tested on the same texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ..splits import TEST
from ..stored_files import StoreError
from .outcomes import PREDICTIONS, read_rows
from .pairing import PairedDifference, compare_hits
from .run_report import FORMAT, METRICS, VERSION

# Settings that change where a run lies or how fast it is, not what it learns.
_PLACES = ("output",)
_ASIDE = (*_PLACES, "seed", "threads", "target_accuracy", "plots", "baseline", "baseline_order")
FIGURES = {
    "accuracy": ("accuracy",),
    "macro F1": ("macro", "f1"),
    "cross-entropy": ("loss",),
    "calibration error": ("calibration", "ece"),
    "samples/s": ("samples_per_second",),
}
RATING_FIGURES = {"MSE": ("ratings", "mse"), "Pearson": ("ratings", "pearson")}


@dataclass
class Run:
    """One folder that train, or evaluate --report, has written."""

    name: str
    folder: Path
    metrics: dict[str, Any]

    @property
    def test(self) -> dict[str, Any]:
        return self.metrics["parts"][TEST]

    @property
    def settings(self) -> dict[str, Any]:
        return self.metrics["settings"]

    def figure(self, name: str) -> float:
        value: Any = self.test
        for key in (FIGURES | RATING_FIGURES)[name]:
            value = value[key]
        return float(value)


@dataclass
class Group:
    """Runs whose settings differ by nothing but the seed."""

    runs: list[Run]

    @property
    def name(self) -> str:
        return " ".join(run.name for run in self.runs)

    def spread(self, figure: str) -> tuple[float, float]:
        """Mean and standard deviation (n - 1) over the runs."""
        values = [run.figure(figure) for run in self.runs]
        return fmean(values), stdev(values)


@dataclass
class Pair:
    """A run against the first one; no ``difference`` where ``reason`` says why."""

    run: Run
    difference: PairedDifference | None
    reason: str = ""


@dataclass
class Comparison:
    runs: list[Run]
    groups: list[Group]  # of two runs and more
    pairs: list[Pair]
    settings: dict[str, list[Any]]  # those that differ, a value for each run

    @property
    def figures(self) -> list[str]:
        """The names of the figures that all runs have."""
        rated = all("ratings" in run.test for run in self.runs)
        return [*FIGURES, *(RATING_FIGURES if rated else ())]

    @classmethod
    def of(cls, folders: Sequence[Path]) -> Comparison:
        """Raises `StoreError` for a folder that holds no report."""
        runs = [Run(name, folder, read_metrics(folder)) for name, folder in zip(_names(folders), folders)]
        names = dict.fromkeys(name for run in runs for name in run.settings if name not in _PLACES)
        values = {name: [run.settings.get(name) for run in runs] for name in names}
        differing = {name: row for name, row in values.items() if any(value != row[0] for value in row)}
        return cls(runs, _groups(runs), [_pair(run, runs[0]) for run in runs[1:]], differing)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "runs": [
                {
                    "name": run.name,
                    "test_sha256": run.test["sha256"],
                    **{figure: run.figure(figure) for figure in self.figures},
                    "accuracy_interval_95": run.test["accuracy_interval_95"],
                }
                for run in self.runs
            ],
            "over_seeds": [
                {
                    "runs": [run.name for run in group.runs],
                    **{figure: dict(zip(("mean", "sd"), group.spread(figure))) for figure in self.figures},
                }
                for group in self.groups
            ],
            "against_the_first": [
                {
                    "run": pair.run.name,
                    "difference": pair.difference.as_dict() if pair.difference else None,
                    "reason": pair.reason,
                }
                for pair in self.pairs
            ],
            "settings_that_differ": self.settings,
        }


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of a folder. Raises `StoreError` if it is missing, damaged, foreign or of another version."""
    file = folder / METRICS
    if not file.is_file():
        raise StoreError(f"{folder}: holds no {METRICS}; give folders written by train, or by evaluate --report")
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{file}: cannot be read as JSON: {error}; run train or evaluate again") from error
    if not isinstance(metrics, dict) or metrics.get("format") != FORMAT:
        raise StoreError(f"{file}: is not a report of this program, or an old one; run train or evaluate again")
    if metrics.get("version") != VERSION:
        raise StoreError(
            f"{file}: version {metrics.get('version')!r} is not the one this program reads ({VERSION}); "
            "upgrade fused_lstm, or run train or evaluate again"
        )
    try:
        run = Run("", folder, metrics)
        numbers = [run.figure(name) for name in FIGURES], run.test["sha256"], run.test["accuracy_interval_95"]
        assert numbers and isinstance(run.settings, dict)
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise StoreError(f"{file}: lacks {error}; run train or evaluate again") from error
    return metrics


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest endings of the paths that tell them apart."""
    paths = [folder.absolute().parts for folder in folders]
    for length in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-length:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _groups(runs: Sequence[Run]) -> list[Group]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        same = {name: value for name, value in run.settings.items() if name not in _ASIDE}
        key = json.dumps([same, run.metrics["data"]["sha256"]], sort_keys=True, default=str)
        groups.setdefault(key, []).append(run)
    return [Group(members) for members in groups.values() if len({run.settings.get("seed") for run in members}) > 1]


def _pair(run: Run, first: Run) -> Pair:
    if run.test["sha256"] != first.test["sha256"]:
        return Pair(run, None, f"its test rows are not those of {first.name}")
    hits = [_hits(r) for r in (run, first)]
    if hits[0].keys() != hits[1].keys():
        return Pair(run, None, f"the texts of its {PREDICTIONS} are not those of {first.name}")
    return Pair(run, compare_hits(list(hits[0].values()), [hits[1][key] for key in hits[0]]))


def _hits(run: Run) -> dict[tuple[str, str, int], bool]:
    """Whether each test text was given its class; equal texts are told apart by their number."""
    classes = run.test["confusion"]["classes"]
    seen: dict[tuple[str, str], int] = {}
    hits = {}
    for row in read_rows(run.folder / PREDICTIONS, TEST):
        key = (row["text"], row["true"])
        seen[key] = seen.get(key, 0) + 1
        best = max(range(len(classes)), key=row["probabilities"].__getitem__)
        hits[(*key, seen[key])] = classes[best] == row["true"]
    return hits
