"""What every reader yields and every later stage takes: labelled texts, and the rows that could not be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from .encodings import whole_characters
from .errors import UserError

_HALVES = "halves"


class Example(NamedTuple):
    """One labelled text. ``kind`` names the construction for texts of the embedded corpus, else it is empty."""

    label: str
    text: str
    kind: str = ""


class DataError(UserError):
    """The data as a whole cannot be used; the message names file, expectation, finding and remedy."""


class RowProblems:
    """Collects rows that could not be read, and those whose encoding was repaired. With ``strict`` the first of either
    is fatal (`DataError`).

    Every problem is counted; the messages of the first ``keep`` are kept for display.
    """

    def __init__(self, strict: bool = False, keep: int = 10) -> None:
        self.strict = strict
        self.keep = keep
        self.count = 0
        self.messages: list[str] = []
        self.encodings: Counter[str] = Counter()
        self.halves = 0
        self._first: dict[str, str] = {}

    def add(self, path: object, line: int, reason: str) -> None:
        """Notes that ``line`` (counted from 1) of ``path`` was left out because of ``reason``."""
        message = f"{path}:{line}: {reason}"
        if self.strict:
            raise DataError(f"{message} (rows like this are skipped without --strict)")
        self.count += 1
        if len(self.messages) < self.keep:
            self.messages.append(message)

    def usable(self, path: object, line: int, read: Example | str) -> Iterator[Example]:
        """The example that ``line`` of ``path`` was read as, its characters made whole; a string says what is wrong."""
        if isinstance(read, str):
            self.add(path, line, read)
            return
        whole = read._replace(label=whole_characters(read.label), text=whole_characters(read.text))
        if whole != read:
            if self.strict:
                raise DataError(f"{path}:{line}: half of a surrogate pair (replaced by U+FFFD if not --strict)")
            self.halves += 1
            self._first.setdefault(_HALVES, f"{path}:{line}")
        yield whole

    def repaired(self, path: object, line: int, byte: int, encoding: str) -> None:
        """Notes that ``line`` of ``path`` was not UTF-8 from ``byte`` (counted from 1) on, but ``encoding``."""
        if self.strict:
            raise DataError(f"{path}:{line}: not UTF-8 at byte {byte} (read as {encoding} if not --strict)")
        self.encodings[encoding] += 1
        self._first.setdefault(encoding, f"{path}:{line}")

    def first(self, most: int = 3) -> str:
        """The first bad rows as the end of a sentence that says that nothing is left; empty if there are none."""
        told = "; ".join(self.messages[:most])
        return f" ({self.count} row(s) could not be read: {told})" if told else ""

    def lines(self) -> list[str]:
        """The report for a person; empty when nothing was wrong."""
        report = [
            f"{count} line(s) were not UTF-8 and were read as {encoding}, the first at {self._first[encoding]}."
            for encoding, count in self.encodings.items()
        ]
        if self.halves:
            report.append(
                f"{self.halves} row(s) held halves of surrogate pairs, replaced by U+FFFD, the first at "
                f"{self._first[_HALVES]}."
            )
        if self.count:
            hidden = self.count - len(self.messages)
            rest = [f"... and {hidden} more"] if hidden else []
            report += [f"{self.count} row(s) could not be read and were left out:", *self.messages, *rest]
        return report
