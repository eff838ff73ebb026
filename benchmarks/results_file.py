"""Results as JSON lines: a line of kind "run" (machine, versions, limits), then the rows measured there.

``rows(path)`` gives each row with its run under "run". Lines of other kinds are kept for others to read. Whether a row
is noisy follows from its interval at each reading, whatever the program that wrote it took for narrow.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from pathlib import Path
from typing import TextIO

from .timing import narrow

FORMAT = 2
BAD = ("wrong", "failed")


class FileProblem(ValueError):
    """What is wrong with a results file, for people."""


class Writer:
    """Rows reach the file at once, under another name until the run is over, so that an interrupted run loses nothing
    and a finished one is whole. The file of before stays beside it as ``*.previous.jsonl``, what an interrupted run
    left as ``*.partial.jsonl``, ``*.2.partial.jsonl`` and so on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir():
            raise FileProblem(f"{path} is a folder: name a file in it that ends in .jsonl")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._new_partial()
        except OSError as error:
            raise FileProblem(f"{path} cannot be written: {error.strerror}") from None

    def _new_partial(self) -> TextIO:
        for number in itertools.count(1):
            self.partial = self.path.with_suffix(".partial.jsonl" if number == 1 else f".{number}.partial.jsonl")
            with contextlib.suppress(FileExistsError):
                return self.partial.open("x", encoding="utf-8")

    def write(self, record: dict) -> None:
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        except OSError as error:
            raise FileProblem(f"{self.partial} cannot be written: {error.strerror}") from None

    def run(self, machine: dict) -> None:
        self.write({"kind": "run", "format": FORMAT, **machine})

    def stop(self) -> Path:
        """Closes the file of a run that was interrupted, and says where it is."""
        self._file.close()
        return self.partial

    def finish(self) -> None:
        self._file.close()
        if self.path.exists():
            os.replace(self.path, self.path.with_suffix(".previous.jsonl"))
        os.replace(self.partial, self.path)


def read(path: Path) -> list[dict]:
    if not path.is_file():
        raise FileProblem(f"{path} does not exist: `python -m benchmarks run --output {path}` would make it")
    records = []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise FileProblem(f"{path} is no text, so no results file") from None
    except OSError as error:
        raise FileProblem(f"{path} cannot be read: {error.strerror}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise FileProblem(f"{path}:{number} is not JSON ({error})") from None
        if not isinstance(record, dict) or "kind" not in record:
            raise FileProblem(f"{path}:{number} is no line of a results file: measured before format {FORMAT}?")
        records.append(_judged(record))
    if not records or records[0]["kind"] != "run" or records[0].get("format") != FORMAT:
        raise FileProblem(f"{path} does not begin with a run of format {FORMAT}: measure anew")
    return records


def _judged(record: dict) -> dict:
    if record["kind"] != "row" or record.get("status") not in ("ok", "noisy") or "ratio" not in record:
        return record
    if "low" not in record:  # memory
        return record
    known = record["low"] is not None and narrow(record["ratio"], record["low"], record["high"])
    return {**record, "status": "ok" if known else "noisy"}


def runs(path: Path) -> list[dict]:
    return [record for record in read(path) if record["kind"] == "run"]


def rows(path: Path) -> list[dict]:
    found, run = [], None
    for record in read(path):
        if record["kind"] == "run":
            run = record
        elif record["kind"] == "row":
            found.append({**record, "run": run})
    return found


def ours_is_bad(row: dict) -> bool:
    """Whether this row says that FusedLSTM was wrong or failed; without a peer it is of ours alone."""
    return row["status"] in BAD and row["peer"].removesuffix("+graph") in ("", "fused")


def key(row: dict) -> tuple:
    """What makes two rows of different files the same measurement."""
    return tuple(row.get(name) for name in ("section", "shape", "mode", "dtype", "threads", "device", "peer"))
