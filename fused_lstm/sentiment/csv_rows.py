"""Rows of CSV, each with the number of its first line. A quote that goes wrong costs one line and not the rest."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol

LONGEST = 1 << 24  # characters of a cell: also how far a quote that is never closed is followed


class Lines(Protocol):
    """Lines without their ends; ``number`` is that of the line last given, ``bad`` notes one as unusable."""

    number: int

    def __iter__(self) -> Iterator[str]: ...
    def bad(self, reason: str, line: int | None = None) -> None: ...


def csv_rows(lines: Lines) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty. Where one is broken, its first line is noted and the next is read as a row again."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    source = _Source(lines)
    # Strict, because otherwise a quote that is never closed would silently swallow the rest of the file.
    rows = csv.reader(source, delimiter=_delimiter(source.peek()), strict=True)
    while True:
        source.taken.clear()
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            lines.bad(f"not a CSV row, this line was left out: {error}", source.taken[0][0])
            source.give_back(source.taken[1:])
            continue
        if any(cell.strip() for cell in cells):
            yield source.taken[0][0], cells


class _Source:
    """Hands out lines and remembers those of the row that is being read."""

    def __init__(self, lines: Lines) -> None:
        self._numbered = ((lines.number, line + "\n") for line in lines)
        self._waiting: deque[tuple[int, str]] = deque()
        self.taken: list[tuple[int, str]] = []

    def __iter__(self) -> _Source:
        return self

    def __next__(self) -> str:
        entry = self._waiting.popleft() if self._waiting else next(self._numbered)
        self.taken.append(entry)
        return entry[1]

    def give_back(self, entries: Iterable[tuple[int, str]]) -> None:
        self._waiting.extendleft(reversed(list(entries)))

    def peek(self) -> str:
        first = next(self, "")
        self.give_back(self.taken)
        return first


def _delimiter(first: str) -> str:
    """A comma, or what divides the first line where that has none: spreadsheets of many countries write semicolons."""
    return next((mark for mark in ",;\t" if mark in first), ",")
