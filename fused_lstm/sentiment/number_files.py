"""Rows of numbers and of texts in plain files, written one by one and read without loading them.

Numbers stand one after the other, little-endian. Texts are UTF-8 without a separator; a second file says where each
ends.
"""

from __future__ import annotations

import mmap
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from .examples import DataError, Example

INT32, INT64 = "i", "q"
_DTYPES = {INT32: torch.int32, INT64: torch.int64}
_BUFFER = 1 << 16


class NumberWriter:
    """Appends numbers of one type to a file; also keeps their count."""

    def __init__(self, path: Path, kind: str) -> None:
        if sys.byteorder != "little":
            raise DataError("prepared data needs a little-endian machine")
        self._stream = open(path, "wb")
        self._waiting = array(kind)
        self.count = 0

    def extend(self, numbers: Iterable[int]) -> None:
        before = len(self._waiting)
        self._waiting.extend(numbers)
        self.count += len(self._waiting) - before
        if len(self._waiting) >= _BUFFER:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._stream.close()

    def _flush(self) -> None:
        self._stream.write(self._waiting.tobytes())
        del self._waiting[:]


class TextWriter:
    """Appends texts with the number of their label: ``STEM.text``, ``STEM.text_ends``, ``STEM.labels``."""

    def __init__(self, stem: Path) -> None:
        self._stream = open(stem.with_suffix(".text"), "wb")
        self._ends = NumberWriter(stem.with_suffix(".text_ends"), INT64)
        self._labels = NumberWriter(stem.with_suffix(".labels"), INT32)
        self._size = 0

    def add(self, text: str, label: int) -> None:
        self._size += self._stream.write(text.encode("utf-8", "surrogatepass"))
        self._ends.extend([self._size])
        self._labels.extend([label])

    def close(self) -> None:
        for stream in (self._stream, self._ends, self._labels):
            stream.close()


def read_numbers(path: Path, kind: str) -> Tensor:
    """The numbers of a file, which stays where it is: pages are read when they are used."""
    dtype = _DTYPES[kind]
    count = path.stat().st_size // dtype.itemsize
    return torch.from_file(str(path), shared=False, size=count, dtype=dtype) if count else torch.empty(0, dtype=dtype)


class Texts(Sequence[Example]):
    """What a `TextWriter` wrote, as examples; ``classes`` names the labels."""

    def __init__(self, stem: Path, classes: Sequence[str]) -> None:
        self.labels = read_numbers(stem.with_suffix(".labels"), INT32)
        self._ends = read_numbers(stem.with_suffix(".text_ends"), INT64)
        self.classes = list(classes)
        path = stem.with_suffix(".text")
        with open(path, "rb") as stream:
            empty = path.stat().st_size == 0
            self._bytes = b"" if empty else mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        start = int(self._ends[index - 1]) if index else 0
        text = self._bytes[start : int(self._ends[index])].decode("utf-8", "surrogatepass")
        return Example(self.classes[int(self.labels[index])], text)

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))
