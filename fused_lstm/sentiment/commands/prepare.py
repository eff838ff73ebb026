"""prepare: from labelled texts of any size to a folder that train reads without loading it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data_help import DATA_HELP
from ..data_options import DataOptions, ReadingOptions
from ..examples import DataError
from ..preparation import prepare
from ..prepared import INDEX, is_prepared
from ..reports.tables import table
from ..settings import build, setting
from ..tokens import TokenOptions

SUMMARY = "check labelled texts and turn them into tokens once, also if they are larger than the memory"
DETAILS = (
    f"{DATA_HELP}\nThe folder holds the texts, their tokens, the tokenizer, and what was found, with checksums of it "
    "all. Train on it with: train --data FOLDER"
)
USAGE = "%(prog)s --data PATH [--into FOLDER] [--config FILE] [option ...]"


@dataclass(frozen=True)
class PrepareOptions:
    """Preparation."""

    into: str = setting("runs/prepared", "where to write; takes the place of prepared data there", metavar="FOLDER")
    regression: bool = setting(False, "labels are numbers (ratings)")


def groups() -> dict[str, type]:
    return {"preparation": PrepareOptions, "data": DataOptions, "reading": ReadingOptions, "tokens": TokenOptions}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything is a setting."""


def run(arguments: argparse.Namespace) -> int:
    options, data, tokens = (build(group, arguments) for group in (PrepareOptions, DataOptions, TokenOptions))
    reading = replace(build(ReadingOptions, arguments), numeric_labels=options.regression)
    if data.data is None and data.train_file is None:
        raise DataError("prepare needs --data PATH or --train-file FILE; the embedded corpus is not prepared")
    if data.data is not None and is_prepared(Path(data.data)):
        raise DataError(f"{data.data}: is prepared already; give what it was made of to prepare it in another way")
    folder = Path(options.into)
    index = prepare(data, reading, tokens, folder, lambda line: print(line, flush=True))
    print(f"\n{_told(index)}\n\nWritten to {folder}; details in {INDEX}. Next: train --data {folder}")
    return 0


def _told(index: dict[str, Any]) -> str:
    rows = []
    for part, found in index["parts"].items():
        length = found["length"]
        rows.append(
            (
                part,
                f"{found['rows']:,}",
                _balance(found["classes"]),
                f"{found['tokens']:,}",
                f"{length['median']:,} / {length['p95']:,} / {length['max']:,}",
                f"{found['unknown_share']:.2%}",
            )
        )
    header = ("part", "texts", "classes", "tokens", "length: median / 95 % / longest", "unknown")
    return "\n".join([table(header, rows), "", *(f"- {note}" for note in index["notes"])]).rstrip()


def _balance(counts: dict[str, int], most: int = 6) -> str:
    total = sum(counts.values())
    named = [f"{name} {count / total:.1%}" for name, count in list(counts.items())[:most]]
    return ", ".join(named) + (f", and {len(counts) - most} more" if len(counts) > most else "")
