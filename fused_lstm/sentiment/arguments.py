"""The command line: names, defaults and help of every option. What they do is in `cli`."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence

from .corpus import LANGUAGES, SEED, SIZE
from .model import BACKENDS, POOLINGS
from .options import describe_defaults
from .readers import KINDS
from .splits import DEV, TEST, TRAIN

DEFAULT_OUTPUT = "runs/sentiment"
FORMATS = ("text", "jsonl", "tsv")

_DATA_HELP = """\
data: a file of labelled texts, or a folder. Any number of classes, labels are strings. UTF-8; .gz and .xz are unpacked.
  .tsv .txt   label<TAB>text on each line, or any columns under a header that names them
  .csv        the same with commas and quotes
  .jsonl      one object a line, fields "label" and "text" (other names: --label-field, --text-field)
  folder      train.*, dev.* and test.* in one of these formats, or text files by class: train/pos/1.txt, test/neg/7.txt
Parts that are missing are taken from train by a hash of the text. Rows that cannot be read are reported and left out.
"""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line as attributes; exits with status 2 and a message if it is wrong."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    # Where options stand between MODEL and TEXT, argparse has closed the list of texts before it sees them.
    if arguments.command == "predict" and (rest[:1] == ["--"] or not any(word.startswith("-") for word in rest)):
        arguments.text += rest[1:] if rest[:1] == ["--"] else rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return arguments


def build_parser() -> argparse.ArgumentParser:
    """The parser of all three commands."""
    parser = argparse.ArgumentParser(
        prog="fused-lstm-sentiment",
        description="Trains, evaluates and uses LSTM sentiment classifiers. Try: train, without anything else.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    return parser


def _command(
    commands: argparse._SubParsersAction, name: str, summary: str, details: str, usage: str | None = None
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=details,
        usage=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_train(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "train",
        "train a classifier and report how good it is",
        f"{_DATA_HELP}\n{_wrapped(describe_defaults())}\n\n"
        "Exit status: 0 done, 1 failed or below --target-accuracy, 130 interrupted (best model kept).",
        usage="%(prog)s [--data PATH] [--output FOLDER] [option ...]",
    )
    data = parser.add_argument_group("data")
    data.add_argument("--data", metavar="PATH", help="labelled texts (see below); the embedded corpus without it")
    _add_reading(data)
    for part in (TRAIN, DEV, TEST):
        data.add_argument(f"--{part}-file", metavar="FILE", help=f"file for {part}, looked up in the folder PATH first")

    embedded = parser.add_argument_group("embedded corpus (without --data)")
    embedded.add_argument("--corpus-size", type=at_least(20), default=SIZE, metavar="N", help="sentences (%(default)s)")
    embedded.add_argument("--corpus-seed", type=int, default=SEED, metavar="N", help="other sentences (%(default)s)")
    embedded.add_argument("--language", choices=LANGUAGES, default="both", help="English, Chinese or both")
    embedded.add_argument("--noise", type=share, default=0.0, metavar="P", help="flip each label with probability P")

    output = parser.add_argument_group("output")
    output.add_argument("--output", default=DEFAULT_OUTPUT, metavar="FOLDER", help="model and report (%(default)s)")
    output.add_argument("--target-accuracy", type=share, metavar="P", help="fail if test accuracy is below P (0 to 1)")
    output.add_argument("--no-baseline", action="store_true", help="leave out the linear n-gram model in the report")
    output.add_argument("--baseline-order", type=at_least(1), metavar="N", help="longest n-gram of that model")
    output.add_argument("--no-plots", action="store_true", help="write no PNG files")

    model = parser.add_argument_group("model (defaults: see below)")
    model.add_argument("--embedding", type=at_least(1), metavar="N", help="size of a word vector")
    model.add_argument("--hidden", type=at_least(1), metavar="N", help="LSTM units in each direction")
    model.add_argument("--layers", type=at_least(1), metavar="N", help="LSTM layers")
    model.add_argument("--one-direction", action="store_true", help="read forwards only")
    model.add_argument("--pooling", choices=POOLINGS, help="what the classifier sees of the LSTM's outputs")
    model.add_argument("--dropout", type=rate, metavar="P", help="before the classifier and between layers")
    model.add_argument("--embedding-dropout", type=rate, metavar="P", help="on word vectors, one mask for a text")
    model.add_argument("--word-dropout", type=rate, metavar="P", help="words replaced by the unknown word in training")
    model.add_argument("--min-count", type=at_least(1), metavar="N", help="rarer words are unknown")
    model.add_argument("--max-vocabulary", type=at_least(1), metavar="N", help="most frequent words kept")
    model.add_argument("--max-length", type=at_least(1), metavar="N", help="longer texts keep both ends (tokens)")

    training = parser.add_argument_group("training (defaults: see below)")
    training.add_argument("--epochs", type=at_least(1), metavar="N", help="at most; the best one on dev is kept")
    training.add_argument("--patience", type=at_least(1), metavar="N", help="stop after N epochs without progress")
    training.add_argument("--batch-size", type=at_least(1), metavar="N", help="texts in a batch")
    training.add_argument("--lr", type=positive, metavar="X", help="AdamW step size at the start, decays linearly to 0")
    training.add_argument("--weight-decay", type=nonnegative, metavar="X", help="of AdamW")
    training.add_argument("--clip", type=positive, metavar="X", help="largest norm of the gradient")
    training.add_argument("--seed", type=int, metavar="N", help="same seed and threads, same model")
    _add_machine(training)


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "evaluate", "measure a stored model on labelled texts", _DATA_HELP)
    parser.add_argument("model", metavar="MODEL", help="folder written by train")
    parser.add_argument("data", metavar="DATA", help="labelled texts (see below)")
    parser.add_argument("--part", choices=(TRAIN, DEV, TEST), default=TEST, help="part of a folder (%(default)s)")
    _add_reading(parser)
    parser.add_argument("--json", metavar="FILE", help="also write the numbers to FILE")
    _add_machine(parser)


def _add_predict(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "predict",
        "label texts with a stored model",
        "Texts come from the arguments, else from --file, else from standard input, one on each line.\n"
        "tsv: label, probability, text, then the probability of each class, under a header.",
    )
    parser.add_argument("model", metavar="MODEL", help="folder written by train")
    parser.add_argument("text", nargs="*", metavar="TEXT", help="texts to label")
    parser.add_argument("--file", metavar="FILE", help="one text on each line; .gz and .xz are unpacked")
    parser.add_argument("--format", choices=FORMATS, default="text", help="of the output (%(default)s)")
    _add_machine(parser)


def _add_reading(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--data-format", choices=KINDS, help="if the file's name does not tell")
    parser.add_argument("--label-field", metavar="NAME", help="column or field with the label")
    parser.add_argument("--text-field", metavar="NAME", help="column or field with the text")
    parser.add_argument("--strict", action="store_true", help="stop at the first row that cannot be read")


def _add_machine(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--lstm", choices=BACKENDS, default="fused", help="fused_lstm.FusedLSTM or torch.nn.LSTM")
    parser.add_argument("--threads", type=at_least(1), metavar="N", help="CPU threads (all; 1 for the embedded corpus)")


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.fill(line, 118, subsequent_indent="  ") for line in text.splitlines())


def at_least(least: int) -> Callable[[str], int]:
    """A type for argparse: integers not below ``least``."""

    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {value}")
        return value

    return integer


def _number(text: str, allowed: Callable[[float], bool], expected: str) -> float:
    value = float(text)
    if not allowed(value):
        raise argparse.ArgumentTypeError(f"must be {expected}, not {text}")
    return value


def share(text: str) -> float:
    return _number(text, lambda value: 0 <= value <= 1, "between 0 and 1")


def rate(text: str) -> float:
    return _number(text, lambda value: 0 <= value < 1, "at least 0 and below 1")


def positive(text: str) -> float:
    return _number(text, lambda value: 0 < value < float("inf"), "above 0")


def nonnegative(text: str) -> float:
    return _number(text, lambda value: 0 <= value < float("inf"), "0 or above")
