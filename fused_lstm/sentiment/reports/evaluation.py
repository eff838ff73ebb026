"""Stored models on other texts: the same report as of a run, without training and baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..examples import DataError, Example
from ..model_folder import CONFIG
from ..splits import TEST
from ..store import StoredModel
from ..stored_files import StoreError
from .files import write_files
from .measure import PartResult
from .outcomes import PREDICTIONS, rows_text
from .run_page import PAGE, run_page
from .run_report import FORMAT, METRICS, VERSION, DataFacts, environment
from .run_text import REPORT, run_text

FILES = (METRICS, REPORT, PAGE, PREDICTIONS)


def refuse_model_folder(folder: str | None) -> None:
    """Raises `StoreError` where a report would take the place of the one that training wrote."""
    if folder is not None and (Path(folder) / CONFIG).exists():
        raise StoreError(f"{folder}: is a model folder with the report of its training; choose another with --report")


def with_known_labels(
    examples: Sequence[Example], classes: Sequence[str], data: str, notes: list[str]
) -> Sequence[Example]:
    """The rows whose label a model knows; ``notes`` tell how many it does not. `DataError` if none is left."""
    known = [example for example in examples if example.label in classes]
    if not known:
        found = ", ".join(sorted({example.label for example in examples})[:5]) or "no row at all"
        raise DataError(f"{data}: no row has a label of the model ({', '.join(classes)}); found {found}")
    if len(known) < len(examples):
        notes.append(f"{len(examples) - len(known)} row(s) with labels the model does not know were left out")
    return known


def write_evaluation(
    folder: Path,
    title: str,
    data: str,
    examples: Sequence[Example],
    notes: Sequence[str],
    models: Sequence[StoredModel],
    part: PartResult,
) -> None:
    """Writes `FILES`, all or none: ``part`` is what ``models``, one or several, made of ``examples``."""
    metrics = {
        "format": FORMAT,
        "version": VERSION,
        "title": title,
        "data": asdict(DataFacts.of_parts(data, {TEST: examples}, notes)),
        "settings": _common([{"trained on": m.settings.trained_on, **m.settings.training} for m in models]),
        "environment": environment(
            sum(p.numel() for model in models for p in model.network.parameters()),
            max(len(model.vocabulary) for model in models),
        ),
        "best_epoch": None,
        "interrupted": False,
        "history": [],
        "parts": {TEST: part.as_dict()},
        "baselines": [],
        "samples": [],
        "plots": [],
    }
    contents = (metrics, run_text(metrics), run_page(metrics), rows_text(part.outcomes.rows(TEST)))
    write_files(folder, dict(zip(FILES, contents)))


def _common(settings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all of them have alike; of several, their number too."""
    first, *others = settings
    alike = {name: value for name, value in first.items() if all(o.get(name) == value for o in others)}
    return {**alike, "models": len(settings)} if others else alike
