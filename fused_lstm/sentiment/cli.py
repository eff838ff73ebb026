"""The commands train, evaluate and predict."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

import torch

from .arguments import parse
from .datasets import DataOptions, Dataset, embedded_dataset, load_dataset, load_part
from .examples import DataError, Example, RowProblems
from .experiment import evaluate_part, run
from .model import BackendError
from .options import RunOptions, defaults_for
from .predictor import Prediction, predict_texts
from .readers import Fields, NumberedLines
from .report import METRICS, REPORT, accuracy_cells, class_table, confusion_table, table
from .splits import TEST
from .store import StoredModel, StoreError, load, write_json
from .training import TrainingError, TrainSettings

FAILED, INTERRUPTED = 1, 130
EMBEDDED_WARNING = (
    "Warning: this model was trained on the embedded corpus, an artificial grammar. "
    "It knows nothing about real sentiment."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status. Errors a user can mend are said in one sentence on stderr."""
    arguments = parse(argv)
    command = {"train": _train, "evaluate": _evaluate, "predict": _predict}[arguments.command]
    try:
        _set_threads(arguments.threads)
        return command(arguments)
    except (DataError, StoreError, BackendError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (predict | head); stdout must not be flushed again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _train(arguments: argparse.Namespace) -> int:
    dataset = _dataset(arguments)
    options = _run_options(arguments, defaults_for(dataset.embedded, len(dataset.train)))
    _set_threads(options.threads)
    folder = Path(arguments.output)
    report = run(dataset, options, folder, _say)
    print(f"\n{report.text()}")
    print(f"Written to {folder}: the model, {', '.join([METRICS, REPORT, *report.plots])}")
    if report.training.interrupted:
        return INTERRUPTED
    accuracy = report.parts[TEST].evaluation.accuracy
    if arguments.target_accuracy is not None and accuracy < arguments.target_accuracy:
        print(f"error: test accuracy {accuracy:.4f} is below the target {arguments.target_accuracy}", file=sys.stderr)
        return FAILED
    return 0


def _set_threads(count: int | None) -> None:
    if count is not None:
        torch.set_num_threads(count)


def _dataset(arguments: argparse.Namespace) -> Dataset:
    if arguments.data is None and arguments.train_file is None:
        for part in ("dev_file", "test_file"):
            if getattr(arguments, part) is not None:
                raise DataError(f"--{part.replace('_', '-')} needs --data or --train-file beside it")
        return embedded_dataset(
            arguments.corpus_size, arguments.corpus_seed, arguments.language, arguments.noise
        )
    problems = RowProblems(arguments.strict)
    path = None if arguments.data is None else Path(arguments.data)
    dataset = load_dataset(path, _data_options(arguments), problems)
    dataset.notes += problems.lines()
    return dataset


def _data_options(arguments: argparse.Namespace) -> DataOptions:
    files = {name: getattr(arguments, name, None) for name in ("train_file", "dev_file", "test_file")}
    return DataOptions(Fields(arguments.label_field, arguments.text_field), arguments.data_format, **files)


def _run_options(arguments: argparse.Namespace, defaults: RunOptions) -> RunOptions:
    """The defaults with everything replaced that was given on the command line."""

    def given(kind: type) -> dict[str, object]:
        values = {f.name: getattr(arguments, f.name, None) for f in fields(kind)}
        return {name: value for name, value in values.items() if value is not None}

    return replace(
        defaults,
        **given(RunOptions)
        | {
            "training": replace(defaults.training, **given(TrainSettings)),
            "bidirectional": not arguments.one_direction,
            "baseline": not arguments.no_baseline,
            "plots": not arguments.no_plots,
        },
    )


def _evaluate(arguments: argparse.Namespace) -> int:
    model = load(Path(arguments.model), arguments.lstm)
    problems = RowProblems(arguments.strict)
    examples = load_part(Path(arguments.data), arguments.part, _data_options(arguments), problems)
    for line in problems.lines():
        print(line, file=sys.stderr)
    examples = _with_known_labels(examples, model, arguments.data)
    result = evaluate_part(model, examples)
    header = ("accuracy %", "95 % interval", "macro F1", "texts")
    print(table(header, [accuracy_cells(result.evaluation)]), end="\n\n")
    print(class_table(result.evaluation), end="\n\n")
    print(confusion_table(result.evaluation), end="\n\n")
    print(f"Loss {result.loss:.4f}, {result.evaluation.total / result.seconds:,.0f} samples/s.")
    if arguments.json:
        write_json(Path(arguments.json), {"model": arguments.model, "data": arguments.data, **result.as_dict()})
    return 0


def _with_known_labels(examples: list[Example], model: StoredModel, data: str) -> list[Example]:
    known = [example for example in examples if example.label in model.settings.classes]
    if not known:
        found = ", ".join(sorted({example.label for example in examples})[:5]) or "no row at all"
        raise DataError(f"{data}: no row has a label of the model ({', '.join(model.settings.classes)}); found {found}")
    if len(known) < len(examples):
        print(f"{len(examples) - len(known)} row(s) with labels the model does not know were left out", file=sys.stderr)
    return known


def _predict(arguments: argparse.Namespace) -> int:
    model = load(Path(arguments.model), arguments.lstm)
    if model.settings.embedded:
        print(EMBEDDED_WARNING, file=sys.stderr)
    texts, chunk = _texts(arguments)
    if arguments.format == "tsv":
        print("label", "probability", "text", *model.settings.classes, sep="\t")
    for prediction in predict_texts(model, texts, chunk):
        print(_formatted(prediction, model.settings.classes, arguments.format), flush=chunk == 1)
    return 0


def _texts(arguments: argparse.Namespace) -> tuple[Iterable[str], int]:
    """The texts, and how many to read before answering."""
    if arguments.text:
        return arguments.text, 256
    if arguments.file is not None:
        return NumberedLines(Path(arguments.file), RowProblems(strict=True)), 256
    if sys.stdin.isatty():
        print("One text on each line; end with Ctrl-D.", file=sys.stderr)
        return _stdin_lines(), 1
    return _stdin_lines(), 256


def _stdin_lines() -> Iterator[str]:
    for raw in sys.stdin.buffer:
        yield raw.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")


def _formatted(prediction: Prediction, classes: Sequence[str], how: str) -> str:
    if how == "jsonl":
        row = {
            "text": prediction.text,
            "label": prediction.label,
            "probability": prediction.probability,
            "probabilities": dict(zip(classes, prediction.probabilities)),
        }
        return json.dumps(row, ensure_ascii=False)
    if how == "tsv":
        shares = [f"{value:.6f}" for value in prediction.probabilities]
        return "\t".join((prediction.label, f"{prediction.probability:.6f}", _on_one_line(prediction.text), *shares))
    return f"{prediction.label}  {prediction.probability:.3f}  {_on_one_line(prediction.text)}"


def _on_one_line(text: str) -> str:
    """Tabs and line ends, which would break rows and columns, become spaces."""
    return text.replace("\t", " ").replace("\n", " ").replace("\r", " ")


def _say(line: str) -> None:
    print(line, flush=True)
