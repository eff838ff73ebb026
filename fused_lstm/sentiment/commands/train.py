"""train: from data to a stored model and a report."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from ..data_help import DATA_HELP
from ..datasets import open_dataset
from ..experiment import run as run_experiment
from ..machine import MachineOptions
from ..options import PRESETS_TEXT, RunOptions, default_text, defaults_for
from ..reports.card import CARD
from ..reports.outcomes import PREDICTIONS
from ..reports.run_page import PAGE
from ..reports.run_report import METRICS
from ..reports.run_text import REPORT
from ..settings import build, given_in
from ..splits import TEST
from ..tokens import TokenOptions
from ..vectors import vector_size

FAILED, INTERRUPTED = 1, 130
SUMMARY = "train a classifier and report how good it is"
DETAILS = (
    f"{DATA_HELP}\n{PRESETS_TEXT}\n\n"
    "Exit status: 0 done, 1 failed or below --target-accuracy, 130 interrupted (best model kept)."
)
USAGE = "%(prog)s [--data PATH] [--output FOLDER] [--config FILE] [option ...]"
DEFAULT_TEXT = default_text


def groups() -> dict[str, type]:
    return RunOptions.groups()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything is a setting."""


def run(arguments: argparse.Namespace) -> int:
    given = RunOptions().given(arguments)
    build(MachineOptions, arguments).apply()
    reading = replace(given.reading, numeric_labels=given.model.regression)
    dataset = open_dataset(given.data, reading, given.corpus)
    options = defaults_for(dataset.embedded, len(dataset.train)).given(arguments)
    if options.data.vectors is not None:
        options = options.set(embedding=vector_size(Path(options.data.vectors)))
    if dataset.prepared is not None:
        options = replace(options, tokens=dataset.prepared.checked(given_in(TokenOptions, arguments)))
    options.machine.apply()
    folder = Path(options.report.output)
    report = run_experiment(dataset, options, folder, _say)
    if report is None:
        return 0
    print(f"\n{report.text()}")
    print(f"Written to {folder}: the model, {', '.join([CARD, METRICS, PREDICTIONS, REPORT, PAGE, *report.plots])}")
    if report.training.interrupted:
        return INTERRUPTED
    accuracy, target = report.parts[TEST].evaluation.accuracy, options.report.target_accuracy
    if target is not None and accuracy < target:
        print(f"error: test accuracy {accuracy:.4f} is below the target {target}", file=sys.stderr)
        return FAILED
    return 0


def _say(line: str) -> None:
    print(line, flush=True)
