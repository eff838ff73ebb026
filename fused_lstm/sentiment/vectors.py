"""Word vectors from and to text files: word2vec's format, with its header line, or GloVe's, without."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .examples import DataError, RowProblems
from .readers import NumberedLines
from .reports.files import write_file
from .tokens import UNKNOWN_ID, Vocabulary

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Vectors:
    """``values`` (V, E), zero where ``known`` (V,) is False; ``note`` tells a person how many words were found."""

    values: Tensor
    known: Tensor
    note: str

    def digest(self) -> str:
        """A hash of the numbers."""
        return hashlib.sha256(self.values.numpy().tobytes()).hexdigest()


def vector_size(path: Path) -> int:
    """How many numbers follow each word. Raises `DataError` if the file does not hold vectors."""
    for line in NumberedLines(path, RowProblems()):
        words = line.split()
        if _is_header(words):
            return int(words[1])
        size = _numbers_at_end(words)  # and not all but the first: a word may hold spaces
        if size > 1:
            return size
        break
    raise DataError(f"{path}: expected a word and its vector on each line, as word2vec and GloVe write them")


def read_vectors(path: Path, vocabulary: Vocabulary, problems: RowProblems) -> Vectors:
    """The vectors of the words of ``vocabulary``; the lines of others are passed over, and bad ones noted.

    A word that the file has in other case only takes that, if the lowercased word is not there itself.
    """
    size = vector_size(path)
    values = torch.zeros(len(vocabulary), size)
    exact = torch.zeros(len(vocabulary), dtype=torch.bool)
    known = exact.clone()
    lines = NumberedLines(path, problems)
    for line in lines:
        cells = line.rstrip().rsplit(" ", size)
        if lines.number == 1 and _is_header(line.split()):
            continue
        if len(cells) != size + 1:
            lines.bad(f"expected a word and {size} numbers")
            continue
        word = cells[0]
        number = vocabulary.encode([word])[0]
        folded = number == UNKNOWN_ID
        if folded:
            number = vocabulary.encode([word.lower()])[0]
        if number == UNKNOWN_ID or exact[number] or (folded and known[number]):
            continue
        try:
            vector = torch.tensor([float(cell) for cell in cells[1:]])
        except ValueError:
            lines.bad(f"expected {size} numbers after the word {word!r}")
            continue
        if not vector.isfinite().all():
            lines.bad(f"the vector of {word!r} is not finite")
            continue
        values[number], known[number] = vector, True
        exact[number] |= not folded
    found, words = int(known.sum()), len(vocabulary.words)
    if found < 2:
        raise DataError(f"{path}: has vectors for {found} of {words:,} words of the vocabulary; another language?")
    note = f"Word vectors: {found:,} of {words:,} tokens of the vocabulary ({found / words:.1%}) are in {path}."
    return Vectors(values, known, note)


def write_vectors(path: Path, vocabulary: Vocabulary, vectors: np.ndarray) -> int:
    """Writes the vectors (V, E) of the words of ``vocabulary``, word2vec's format; returns how many. Words without a
    vector (zeros) and the space of a vocabulary of characters, which the format cannot name, are left out."""
    lines = [
        f"{word} {' '.join(f'{value:.5g}' for value in vector.tolist())}"
        for word, vector in zip(vocabulary.words, vectors[UNKNOWN_ID + 1 :], strict=True)
        if vector.any() and not word.isspace()
    ]
    write_file(path, "\n".join([f"{len(lines)} {vectors.shape[1]}", *lines, ""]))
    return len(lines)


def _is_header(words: list[str]) -> bool:
    return len(words) == 2 and all(word.isdecimal() for word in words)


def _numbers_at_end(words: list[str]) -> int:
    count = 0
    for word in reversed(words[1:]):
        try:
            float(word)
        except ValueError:
            break
        count += 1
    return count
