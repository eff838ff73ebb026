"""ensemble: several stored models together, their answers averaged."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from ..data_help import DATA_HELP
from ..datasets import ReadingOptions, load_part
from ..examples import DataError, RowProblems
from ..machine import MachineOptions
from ..predictor import predicts_ratings
from ..reports import words
from ..reports.evaluation import FILES, refuse_model_folder, with_known_labels, write_evaluation
from ..reports.files import write_file
from ..reports.measure import measure_together
from ..settings import build, setting
from ..splits import DEV, TEST, TRAIN
from ..store import StoredModel, load

SUMMARY = "measure stored models together: the mean of their probabilities, or of their numbers"
DETAILS = (
    f"{DATA_HELP}\nMeant for a forward and a backward model; any models of the same classes will do.\n"
    f"--report writes {', '.join(FILES)} of all together; compare takes them like those of a run."
)


@dataclass(frozen=True)
class EnsembleOptions:
    """Evaluation."""

    data: str | None = setting(None, "labelled texts", metavar="PATH")
    part: str = setting(TEST, "part of a folder", choices=(TRAIN, DEV, TEST))
    report: str | None = setting(None, "write the whole report into FOLDER", metavar="FOLDER")
    json: str | None = setting(None, "also write the numbers to FILE", metavar="FILE")


def groups() -> dict[str, type]:
    return {"ensemble": EnsembleOptions, "reading": ReadingOptions, "machine": MachineOptions}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", metavar="MODEL", help="folders written by train")


def run(arguments: argparse.Namespace) -> int:
    options, reading = build(EnsembleOptions, arguments), build(ReadingOptions, arguments)
    machine, names = build(MachineOptions, arguments), arguments.models
    machine.apply()
    if options.data is None:
        raise DataError("ensemble needs labelled texts: --data PATH")
    refuse_model_folder(options.report)
    models = [load(Path(folder), machine.lstm) for folder in names]
    classes = _common_classes(models, names)
    reading = replace(reading, numeric_labels=predicts_ratings(models[0].network))
    problems = RowProblems(reading.strict)
    examples = load_part(options.data, options.part, reading, problems)
    notes = problems.lines()
    examples = with_known_labels(examples, classes, options.data, notes)
    for line in notes:
        print(line, file=sys.stderr)
    *singles, together = measure_together(models, examples)
    for name, part in zip([*names, "mean of all"], [*singles, together]):
        print(f"{words.summary(part.as_dict())}  {name}")
    if options.json:
        told = {name: part.as_dict() for name, part in zip(names, singles)}
        write_file(Path(options.json), {"models": told, "ensemble": together.as_dict()})
    if options.report:
        title = f"{', '.join(names)} together on {options.data}"
        write_evaluation(Path(options.report), title, options.data, examples, notes, models, together)
        print(f"Written to {options.report}: {', '.join(FILES)}")
    return 0


def _common_classes(models: list[StoredModel], names: list[str]) -> tuple[str, ...]:
    classes, rates = models[0].settings.classes, predicts_ratings(models[0].network)
    for model, name in zip(models, names):
        if model.settings.classes != classes or predicts_ratings(model.network) != rates:
            raise DataError(
                f"{name}: has the {_kind(model)} {', '.join(model.settings.classes)}, {names[0]} has the "
                f"{_kind(models[0])} {', '.join(classes)}; models of an ensemble must have the same"
            )
    return classes


def _kind(model: StoredModel) -> str:
    return "ratings" if predicts_ratings(model.network) else "classes"
