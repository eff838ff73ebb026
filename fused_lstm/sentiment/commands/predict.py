"""predict: labels for texts from the arguments, a file or standard input."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..examples import RowProblems
from ..machine import MachineOptions
from ..predictor import Prediction, predict_texts
from ..readers import NumberedLines
from ..settings import build, setting
from ..store import load

FORMATS = ("text", "jsonl", "tsv")
SUMMARY = "label texts with a stored model"
DETAILS = (
    "Texts come from the arguments, else from --file, else from standard input, one on each line.\n"
    "tsv: label, probability, text, then the probability of each class, under a header."
)
REST = "text"  # words that argparse could not place are texts
EMBEDDED_WARNING = (
    "Warning: this model was trained on the embedded corpus, an artificial grammar. "
    "It knows nothing about real sentiment."
)


@dataclass(frozen=True)
class PredictOptions:
    """Input and output."""

    file: str | None = setting(None, "one text on each line; .gz and .xz are unpacked", metavar="FILE")
    format: str = setting("text", "of the output", choices=FORMATS)


def groups() -> dict[str, type]:
    return {"prediction": PredictOptions, "machine": MachineOptions}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder written by train")
    parser.add_argument("text", nargs="*", metavar="TEXT", help="texts to label")


def run(arguments: argparse.Namespace) -> int:
    options, machine = build(PredictOptions, arguments), build(MachineOptions, arguments)
    machine.apply()
    model = load(Path(arguments.model), machine.lstm)
    if model.settings.embedded:
        print(EMBEDDED_WARNING, file=sys.stderr)
    texts, chunk = _texts(arguments.text, options.file)
    if options.format == "tsv":
        print("label", "probability", "text", *model.settings.classes, sep="\t")
    for prediction in predict_texts(model, texts, chunk):
        print(_formatted(prediction, model.settings.classes, options.format), flush=chunk == 1)
    return 0


def _texts(words: list[str], file: str | None) -> tuple[Iterable[str], int]:
    """The texts, and how many to read before answering."""
    if words:
        return words, 256
    if file is not None:
        return NumberedLines(Path(file), RowProblems(strict=True)), 256
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
