"""One file of labelled texts to examples: TSV, CSV, JSON or Parquet, the first three also packed with gzip or xz.

Lines end at \\n alone: texts may hold other characters that Python counts as line breaks. Rows that cannot be used are
noted in a `RowProblems` and left out; a file that cannot be used raises `DataError`.
"""

from __future__ import annotations

import codecs
import gzip
import json
import lzma
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

from .csv_rows import csv_rows
from .encodings import decode_other
from .examples import DataError, Example, RowProblems

# The first that is there counts, so that what may also be a rating beside a label comes last.
LABEL_NAMES = ("label", "labels", "sentiment", "polarity", "class", "category", "target", "rating", "stars", "score")
TEXT_NAMES = ("text", "sentence", "review", "comment", "content", "phrase", "body", "review_text", "reviewtext")

_KINDS = {".tsv": "tsv", ".txt": "tsv", ".csv": "csv", ".parquet": "parquet"}
_KINDS |= dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl")
_PACKED = (".gz", ".xz")
KINDS = ("tsv", "csv", "jsonl", "parquet")
_LONGEST_NAME = 30
_EXACT = 2.0**53  # whole numbers below are written out, others as Python does, so that none is changed


class Fields(NamedTuple):
    """Names of the columns or JSON fields. None: the first of the usual names (see above) that is present.

    ``numeric``: labels must be numbers, and are written in one way ("4" for 4.0). ``optional``: only texts are wanted;
    rows without a label are taken, with an empty one.
    """

    label: str | None = None
    text: str | None = None
    numeric: bool = False
    optional: bool = False

    @property
    def named(self) -> bool:
        return self.label is not None or self.text is not None

    def places(self) -> tuple[int, int] | None:
        """Columns counted from 0, where both were given by number (from 1), as for files without a header."""
        if self.label and self.text and self.label.isdecimal() and self.text.isdecimal():
            return int(self.label) - 1, int(self.text) - 1
        return None

    def label_names(self) -> tuple[str, ...]:
        return LABEL_NAMES if self.label is None else (self.label.lower(),)

    def text_names(self) -> tuple[str, ...]:
        return TEXT_NAMES if self.text is None else (self.text.lower(),)


def kind_of(path: Path) -> str | None:
    """"tsv", "csv" or "jsonl" by the file's name, a final .gz or .xz set aside; None for other names."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return _KINDS.get(suffixes[-1]) if suffixes else None


def read_file(path: Path, fields: Fields, problems: RowProblems, kind: str | None = None) -> Iterator[Example]:
    """The examples of one file, read as they are asked for. ``kind`` overrides what the file's name says.

    Raises `DataError` if the file is missing, damaged, of an unknown kind, or lacks the named columns.
    """
    kind = kind or kind_of(path)
    if kind not in KINDS:
        raise DataError(
            f"{path}: cannot tell the format from the name; expected one of {', '.join(_KINDS)} "
            "(with .gz or .xz if compressed); name it with --data-format"
        )
    if kind == "parquet":
        from .parquet import read_parquet

        return read_parquet(path, fields, problems)
    lines = NumberedLines(path, problems)
    if kind == "jsonl":
        return _json_examples(lines, fields)
    if kind == "csv":
        return _column_examples(lines, csv_rows(lines), fields, separator=None)
    return _column_examples(lines, _tsv_rows(lines), fields, separator="\t")


class NumberedLines:
    """Iterates over the decoded lines of a file, without their ends; ``number`` is that of the line last given.

    ``stream`` is read instead of the file where ``path`` is but the name of something open.
    """

    def __init__(self, path: Path, problems: RowProblems, stream: IO[bytes] | None = None) -> None:
        self.path = path
        self.problems = problems
        self.number = 0
        self._stream = stream

    def __iter__(self) -> Iterator[str]:
        try:
            with open_binary(self.path) if self._stream is None else nullcontext(self._stream) as stream:
                for number, raw in enumerate(stream, start=1):
                    self.number = number
                    yield self._decode(raw)
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise DataError(f"{self.path}: the archive is damaged after line {self.number} ({error})") from error
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror or error}") from error

    def bad(self, reason: str, line: int | None = None) -> None:
        """Notes a row of this file as unusable."""
        self.problems.add(self.path, line or self.number, reason)

    def usable(self, read: Example | str, line: int) -> Iterator[Example]:
        """What a row of this file was read as, if it is usable; see `RowProblems.usable`."""
        return self.problems.usable(self.path, line, read)

    def _decode(self, raw: bytes) -> str:
        if self.number == 1:
            if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise DataError(f"{self.path}: the text is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")
            raw = raw.removeprefix(codecs.BOM_UTF8)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            text, encoding = decode_other(raw)
            self.problems.repaired(self.path, self.number, error.start + 1, encoding)
        return text.removesuffix("\n").removesuffix("\r")


def open_binary(path: Path) -> IO[bytes]:
    """Opens a file for reading, unpacking gzip and xz, which are told by their first bytes and not by the name."""
    with open(path, "rb") as stream:
        magic = stream.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(path, "rb")
    if magic == b"\xfd7zXZ\x00":
        return lzma.open(path, "rb")
    return open(path, "rb")


def _tsv_rows(lines: NumberedLines) -> Iterator[tuple[int, list[str]]]:
    for line in lines:
        if line.strip():
            yield lines.number, line.split("\t")


def _column_examples(
    lines: NumberedLines, rows: Iterator[tuple[int, list[str]]], fields: Fields, separator: str | None
) -> Iterator[Example]:
    """Rows of cells to examples. Without a header, cells after the second are joined to the text by ``separator``;
    where there is none (CSV quotes such texts) they are a fault."""
    columns: tuple[int | None, int] | None = None
    for index, (number, cells) in enumerate(rows):
        if index == 0:
            columns = _header(cells, fields, lines.path)
            if columns is not None:
                continue
        if columns is None and fields.places() is None and len(cells) > 2:
            if separator is None:
                lines.bad(f"expected 2 columns (quote a text that holds commas), found {len(cells)}", number)
                continue
            cells = [cells[0], separator.join(cells[1:])]
        label_at, text_at = columns or fields.places() or (0, 1)
        if columns is None and fields.optional and len(cells) == 1:
            label_at, text_at = None, 0
        if len(cells) <= max(label_at or 0, text_at):
            lines.bad(f"expected a label and a text, found {len(cells)} column(s)", number)
            continue
        label = "" if label_at is None else cells[label_at]
        yield from lines.usable(_example(label, cells[text_at], fields), number)


def _header(cells: Sequence[str], fields: Fields, path: Path) -> tuple[int | None, int] | None:
    """Columns of label (None: there is none, nor need there be) and text if the first row names them; None if it is
    data. Of two columns one usual name is enough, if the other cell could be a name, too."""
    if fields.places():
        return None
    names = [cell.strip().lower() for cell in cells]
    label_at = next((names.index(name) for name in fields.label_names() if name in names), None)
    text_at = next((names.index(name) for name in fields.text_names() if name in names), None)
    found = label_at is not None, text_at is not None
    if len(names) == 2 and any(found) and all(map(_may_be_name, names)):
        if text_at is None and fields.text is None:
            text_at = 1 - label_at
        if label_at is None and fields.label is None:
            label_at = 1 - text_at
    if text_at is not None and (label_at is not None or fields.optional):
        return label_at, text_at
    if fields.optional and len(names) == 1:
        return None
    if fields.named or (any(found) and len(names) > 2 and all(map(_may_be_name, names))):
        what, missing = ("label", fields.label_names()) if label_at is None else ("text", fields.text_names())
        raise DataError(
            f"{path}: expected a column named {' or '.join(map(repr, missing))} in the first row; "
            f"it has {', '.join(map(repr, cells))}; name the right one with --{what}-field"
        )
    return None


def _may_be_name(cell: str) -> bool:
    """Whether a column could be called so: no number, and no text of some length."""
    return _finite(cell) is None and len(cell) <= _LONGEST_NAME and len(cell.split()) <= 3


def _json_examples(lines: NumberedLines, fields: Fields) -> Iterator[Example]:
    rest = iter(lines)
    for line in rest:
        if not line.strip():
            continue
        if lines.number == 1 and line.lstrip().startswith("["):
            yield from _array_examples(lines, chain([line], rest), fields)
            return
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            lines.bad(f"not JSON: {error}")
            continue
        yield from lines.usable(record_example(row, fields), lines.number)


def _array_examples(lines: NumberedLines, text: Iterable[str], fields: Fields) -> Iterator[Example]:
    """A file that is one JSON array; bad entries are named by their place in it."""
    try:
        rows = json.loads("\n".join(text))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{lines.path}: begins like a JSON array but is none: {error}") from error
    for number, row in enumerate(rows, start=1):
        example = record_example(row, fields)
        yield from lines.usable(f"entry {number}: {example}" if isinstance(example, str) else example, number)


def record_example(row: object, fields: Fields) -> Example | str:
    """A row with named fields, or what is wrong with it."""
    if not isinstance(row, dict):
        return f"expected a JSON object, found {type(row).__name__}"
    row = {key.lower(): value for key, value in row.items()}
    label_name = next((name for name in fields.label_names() if name in row), None)
    text_name = next((name for name in fields.text_names() if name in row), None)
    if text_name is None or (label_name is None and not fields.optional):
        missing = "label" if label_name is None and not fields.optional else "text"
        return f"no {missing} field; the fields are {', '.join(map(repr, row)) or 'none'}"
    label, text = None if label_name is None else row[label_name], row[text_name]
    if isinstance(label, bool):
        label = str(label).lower()
    if isinstance(label, float):
        if math.isnan(label):  # what tables of floats have where nothing was entered
            label = ""
        elif label.is_integer():  # one class, whether a column holds 1 or 1.0
            label = int(label)
    if fields.optional and not isinstance(label, (str, int, float)):
        label = ""
    if not isinstance(label, (str, int, float)) or not isinstance(text, str):
        return f"expected a label and a string, found {type(label).__name__} and {type(text).__name__}"
    return _example(str(label), text, fields)


def _example(label: str, text: str, fields: Fields) -> Example | str:
    label, text = label.strip(), text.strip()
    if not label and not fields.optional:
        return "the label is empty"
    if fields.numeric:
        number = _finite(label)
        if number is None:
            return f"expected a number as the label, found {label!r}"
        label = str(int(number)) if number.is_integer() and abs(number) < _EXACT else repr(number)
    if not text:
        return "the text is empty"
    return Example(label, text)


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
