"""predict: labels for texts from the arguments, a file or standard input."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..answers import FORMATS, Writer
from ..encodings import whole_characters
from ..examples import RowProblems
from ..machine import MachineOptions
from ..predictor import Explanation, Prediction, explain_texts, predict_texts, predicts_ratings
from ..readers import NumberedLines
from ..reports.explanation_page import PAGE_TEXTS, explanation_page
from ..reports.files import write_file
from ..settings import at_least, build, setting
from ..store import StoredModel, load

SUMMARY = "label texts with a stored model"
DETAILS = (
    "Texts come from the arguments, else from --file, else from standard input, one on each line. Lines that are not\n"
    "UTF-8 are read as gb18030 or latin-1 and counted.\n"
    "text: label, probability, text; of a rating model the label nearest to its number, the number, text.\n"
    "tsv: label, probability, text, then the probability of each class, then the number of a rating, under a header.\n"
    "--explain shades a terminal's text: blue speaks for the answer, orange against it (NO_COLOR is respected),\n"
    "and adds tokens and weights to jsonl."
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
    explain: bool = setting(False, "show what each token adds to the answer's log-odds, or to the number of a rating")
    integrated: int = setting(0, "explain by integrated gradients of N steps; 0: gradient x input", at_least(0))
    html: str | None = setting(None, "also write the explained answers as a page to FILE", metavar="FILE")
    batch_size: int = setting(256, "texts to read before answering", at_least(1))


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
    problems = RowProblems()
    texts, chunk = _texts(arguments.text, options.file, options.batch_size, problems)
    rated = predicts_ratings(model.network)
    write = Writer(model.settings.classes, options.format, sys.stdout, rated)
    told: list[tuple[Prediction, Explanation]] = []
    count, started = 0, time.perf_counter()
    for prediction, explanation in _answers(model, texts, chunk, options):
        write(prediction, explanation if options.explain else None, flush=chunk == 1)
        count += 1
        if options.html and explanation and len(told) < PAGE_TEXTS:
            told.append((prediction, explanation))
    seconds = time.perf_counter() - started
    if options.html:
        write_file(Path(options.html), explanation_page(told, count, arguments.model))
    for line in problems.lines():
        print(line, file=sys.stderr)
    if not arguments.text and chunk > 1:
        print(f"{count:,} texts in {seconds:.2f} s, {count / seconds:,.0f} samples/s", file=sys.stderr)
    return 0


def _answers(
    model: StoredModel, texts: Iterable[str], chunk: int, options: PredictOptions
) -> Iterator[tuple[Prediction, Explanation | None]]:
    explained = bool(options.explain or options.html)
    texts = iter(texts)
    while block := list(islice(texts, chunk)):
        explanations = explain_texts(model, block, options.integrated) if explained else [None] * len(block)
        yield from zip(predict_texts(model, block, chunk), explanations)


def _texts(words: list[str], file: str | None, batch_size: int, problems: RowProblems) -> tuple[Iterable[str], int]:
    """The texts, and how many to read before answering."""
    if words:
        # A terminal may pass bytes that are not UTF-8; Python keeps them as characters that nothing can print.
        return map(whole_characters, words), batch_size
    if file is not None:
        return NumberedLines(Path(file), problems), batch_size
    waits = sys.stdin.isatty()
    if waits:
        print("One text on each line; end with Ctrl-D.", file=sys.stderr)
    return NumberedLines(Path("standard input"), problems, sys.stdin.buffer), 1 if waits else batch_size
