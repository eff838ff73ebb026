"""evaluate: a stored model on labelled texts."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from ..data_help import DATA_HELP
from ..datasets import ReadingOptions, load_part
from ..examples import RowProblems
from ..machine import MachineOptions
from ..reports import words
from ..reports.evaluation import FILES, refuse_model_folder, with_known_labels, write_evaluation
from ..reports.files import write_file
from ..reports.measure import measure
from ..reports.run_text import confusion_table
from ..reports.tables import table
from ..settings import build, setting
from ..splits import DEV, TEST, TRAIN
from ..store import load

SUMMARY = "measure a stored model on labelled texts"
DETAILS = f"{DATA_HELP}\n--report writes {', '.join(FILES)}; compare takes them like those of a run."


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
    examples = with_known_labels(examples, model.settings.classes, arguments.data, notes)
    for line in notes:
        print(line, file=sys.stderr)
    result = measure(model, examples)
    told = result.as_dict()
    if result.ratings:
        print(table(words.RATING_HEADER[2:], [words.rating_cells(told["ratings"])]), end="\n\n")
        print(f"{words.mean_words(told)}\n\n{words.NEAREST}", end="\n\n")
    header = ("accuracy %", "95 % interval", "macro F1", "texts")
    print(table(header, [words.accuracy_cells(told)]), end="\n\n")
    print(table(words.CLASS_HEADER, words.class_rows(told)), end="\n\n")
    print(confusion_table(told), end="\n\n")
    if not result.ratings:
        print(words.calibration_words(told), end="\n\n")
    print(f"{words.speed_words(told)}.")
    if options.json:
        write_file(Path(options.json), {"model": arguments.model, "data": arguments.data, **told})
    if options.report:
        title = f"{arguments.model} on {arguments.data}"
        write_evaluation(Path(options.report), title, arguments.data, examples, notes, [model], result)
        print(f"Written to {options.report}: {', '.join(FILES)}")
    return 0
