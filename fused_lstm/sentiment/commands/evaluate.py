"""evaluate: a stored model on labelled texts."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from ..data_help import DATA_HELP
from ..datasets import ReadingOptions, load_part
from ..examples import DataError, Example, RowProblems
from ..machine import MachineOptions
from ..model_folder import CONFIG
from ..reports import words
from ..reports.files import write_file, write_files
from ..reports.measure import measure
from ..reports.outcomes import PREDICTIONS, rows_text
from ..reports.run_page import PAGE, run_page
from ..reports.run_report import METRICS, DataFacts, evaluation_metrics
from ..reports.run_text import REPORT, confusion_table, run_text
from ..reports.tables import table
from ..settings import build, setting
from ..splits import DEV, TEST, TRAIN
from ..store import StoredModel, load
from ..stored_files import StoreError

SUMMARY = "measure a stored model on labelled texts"
DETAILS = (
    f"{DATA_HELP}\n--report writes {METRICS}, {REPORT}, {PAGE} and {PREDICTIONS}; compare takes them like those of a "
    "run."
)


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluation."""

    part: str = setting(TEST, "part of a folder", choices=(TRAIN, DEV, TEST))
    report: str | None = setting(None, "write the whole report into FOLDER", metavar="FOLDER")
    json: str | None = setting(None, "also write the numbers to FILE", metavar="FILE")


def groups() -> dict[str, type]:
    return {"evaluation": EvaluateOptions, "reading": ReadingOptions, "machine": MachineOptions}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder written by train")
    parser.add_argument("data", metavar="DATA", help="labelled texts (see below)")


def run(arguments: argparse.Namespace) -> int:
    options, reading = build(EvaluateOptions, arguments), build(ReadingOptions, arguments)
    machine = build(MachineOptions, arguments)
    machine.apply()
    refuse_model_folder(options.report)
    model = load(Path(arguments.model), machine.lstm)
    reading = replace(reading, numeric_labels=model.settings.model.regression)
    problems = RowProblems(reading.strict)
    examples = load_part(arguments.data, options.part, reading, problems)
    notes = problems.lines()
    examples = _with_known_labels(examples, model, arguments.data, notes)
    for line in notes:
        print(line, file=sys.stderr)
    result = measure(model, examples)
    told = result.as_dict()
    header = ("accuracy %", "95 % interval", "macro F1", "texts")
    print(table(header, [words.accuracy_cells(told)]), end="\n\n")
    print(table(words.CLASS_HEADER, words.class_rows(told)), end="\n\n")
    print(confusion_table(told), end="\n\n")
    print(f"{words.calibration_words(told)}\n\n{words.speed_words(told)}.")
    if options.json:
        write_file(Path(options.json), {"model": arguments.model, "data": arguments.data, **told})
    if options.report:
        facts = DataFacts.of_parts(arguments.data, {TEST: examples}, notes)
        metrics = evaluation_metrics(f"{arguments.model} on {arguments.data}", facts, model, result)
        rows = rows_text(result.outcomes.rows(TEST))
        files = {METRICS: metrics, REPORT: run_text(metrics), PAGE: run_page(metrics), PREDICTIONS: rows}
        write_files(Path(options.report), files)
        print(f"Written to {options.report}: {', '.join(files)}")
    return 0


def refuse_model_folder(report: str | None) -> None:
    """Raises `StoreError` where a report would take the place of the one that training wrote."""
    if report is not None and (Path(report) / CONFIG).exists():
        raise StoreError(f"{report}: is a model folder with the report of its training; choose another with --report")


def _with_known_labels(examples: list[Example], model: StoredModel, data: str, notes: list[str]) -> list[Example]:
    known = [example for example in examples if example.label in model.settings.classes]
    if not known:
        found = ", ".join(sorted({example.label for example in examples})[:5]) or "no row at all"
        raise DataError(f"{data}: no row has a label of the model ({', '.join(model.settings.classes)}); found {found}")
    if len(known) < len(examples):
        notes.append(f"{len(examples) - len(known)} row(s) with labels the model does not know were left out")
    return known
