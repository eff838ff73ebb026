"""ensemble: several stored models together, their probabilities averaged."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from ..data_help import DATA_HELP
from ..datasets import ReadingOptions, load_part
from ..examples import DataError, Example, RowProblems
from ..machine import MachineOptions
from ..metrics import Evaluation
from ..predictor import number_examples
from ..settings import build, setting
from ..splits import DEV, TEST, TRAIN
from ..store import StoredModel, load
from ..stored_files import write_json
from ..training import predict

SUMMARY = "measure stored models together: the mean of their probabilities"
DETAILS = f"{DATA_HELP}\nMeant for a forward and a backward model; any models of the same classes will do."


@dataclass(frozen=True)
class EnsembleOptions:
    """Evaluation."""

    data: str | None = setting(None, "labelled texts", metavar="PATH")
    part: str = setting(TEST, "part of a folder", choices=(TRAIN, DEV, TEST))
    json: str | None = setting(None, "also write the numbers to FILE", metavar="FILE")


def groups() -> dict[str, type]:
    return {"ensemble": EnsembleOptions, "reading": ReadingOptions, "machine": MachineOptions}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", metavar="MODEL", help="folders written by train")


def run(arguments: argparse.Namespace) -> int:
    options, reading = build(EnsembleOptions, arguments), build(ReadingOptions, arguments)
    machine = build(MachineOptions, arguments)
    machine.apply()
    if options.data is None:
        raise DataError("ensemble needs labelled texts: --data PATH")
    models = [load(Path(folder), machine.lstm) for folder in arguments.models]
    classes = _common_classes(models, arguments.models)
    problems = RowProblems(reading.strict)
    examples = load_part(Path(options.data), options.part, reading, problems)
    for line in problems.lines():
        print(line, file=sys.stderr)
    examples = [example for example in examples if example.label in classes]
    if not examples:
        raise DataError(f"{options.data}: no row has a label of the models ({', '.join(classes)})")
    results = ensemble(models, examples)
    rows = zip([*arguments.models, "mean of all"], results)
    for name, evaluation in rows:
        low, high = evaluation.interval
        print(f"{evaluation.accuracy:8.2%}  [{low:.2%}, {high:.2%}]  macro F1 {evaluation.macro().f1:.4f}  {name}")
    if options.json:
        singles = {name: result.as_dict() for name, result in zip(arguments.models, results)}
        write_json(Path(options.json), {"models": singles, "ensemble": results[-1].as_dict()})
    return 0


def ensemble(models: list[StoredModel], examples: list[Example]) -> list[Evaluation]:
    """Of each model, and of the mean of all."""
    classes = models[0].settings.classes
    labels = [classes.index(example.label) for example in examples]
    shares = []
    for model in models:
        texts = number_examples(examples, model.vocabulary, model.settings.classes, model.settings.max_length)
        shares.append(predict(model.network, texts))
    answers = [*shares, torch.stack(shares).mean(dim=0)]
    return [Evaluation.of(classes, labels, answer.argmax(dim=1).tolist()) for answer in answers]


def _common_classes(models: list[StoredModel], names: list[str]) -> tuple[str, ...]:
    classes = models[0].settings.classes
    for model, name in zip(models, names):
        if model.settings.classes != classes:
            raise DataError(
                f"{name}: has the classes {', '.join(model.settings.classes)}, {names[0]} has {', '.join(classes)}; "
                "models of an ensemble must have the same"
            )
    return classes
