"""evaluate: a stored model on labelled texts."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from ..data_help import DATA_HELP
from ..datasets import ReadingOptions, load_part
from ..examples import DataError, Example, RowProblems
from ..experiment import evaluate_part
from ..machine import MachineOptions
from ..report import accuracy_cells, class_table, confusion_table, table
from ..settings import build, setting
from ..splits import DEV, TEST, TRAIN
from ..store import StoredModel, load, write_json

SUMMARY = "measure a stored model on labelled texts"
DETAILS = DATA_HELP


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluation."""

    part: str = setting(TEST, "part of a folder", choices=(TRAIN, DEV, TEST))
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
    model = load(Path(arguments.model), machine.lstm)
    reading = replace(reading, numeric_labels=model.settings.model.regression)
    problems = RowProblems(reading.strict)
    examples = load_part(arguments.data, options.part, reading, problems)
    for line in problems.lines():
        print(line, file=sys.stderr)
    examples = _with_known_labels(examples, model, arguments.data)
    result = evaluate_part(model, examples)
    header = ("accuracy %", "95 % interval", "macro F1", "texts")
    print(table(header, [accuracy_cells(result.evaluation)]), end="\n\n")
    print(class_table(result.evaluation), end="\n\n")
    print(confusion_table(result.evaluation), end="\n\n")
    print(f"Loss {result.loss:.4f}, {result.evaluation.total / result.seconds:,.0f} samples/s.")
    if options.json:
        write_json(Path(options.json), {"model": arguments.model, "data": arguments.data, **result.as_dict()})
    return 0


def _with_known_labels(examples: list[Example], model: StoredModel, data: str) -> list[Example]:
    known = [example for example in examples if example.label in model.settings.classes]
    if not known:
        found = ", ".join(sorted({example.label for example in examples})[:5]) or "no row at all"
        raise DataError(f"{data}: no row has a label of the model ({', '.join(model.settings.classes)}); found {found}")
    if len(known) < len(examples):
        print(f"{len(examples) - len(known)} row(s) with labels the model does not know were left out", file=sys.stderr)
    return known
