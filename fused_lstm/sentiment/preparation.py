"""From any source to a prepared folder, in passes over files: in memory are some numbers a row, never the texts."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checks import inspect
from .data_options import DataOptions, ReadingOptions
from .datasets import check_classes, check_part, in_order, missing_parts, told_division, told_unknown
from .examples import DataError, Example, RowProblems
from .number_files import INT32, INT64, NumberWriter, Texts, TextWriter, read_numbers
from .prepared import FORMAT, INDEX, PARTS, SUFFIXES, TOKENIZER, VERSION, checksum, is_prepared
from .sources import Source, open_source
from .splits import TRAIN, deal, text_hash
from .stored_files import write_json
from .tokens import UNKNOWN_ID, TokenOptions, Vocabulary
from .vocabularies import learn_vocabulary, vocabulary_state

Say = Callable[[str], None]
_SPOOL = "spool"


@dataclass
class _Spool:
    """What was read of one part of the source, still with its own numbers for labels."""

    texts: Texts
    hashes: Tensor
    labels: Tensor


@dataclass
class _Part:
    """Rows of a spool that make up one part of the result; ``labels`` are class numbers, -1 for unknown ones."""

    spool: _Spool
    rows: Tensor
    labels: Tensor

    def of(self, chosen: Tensor) -> _Part:
        return _Part(self.spool, self.rows[chosen], self.labels[chosen])

    def texts(self) -> Iterator[str]:
        return (self.spool.texts[row].text for row in _numbers(self.rows))


@dataclass
class _Labels:
    """Numbers for labels in the order in which they are met."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, label: str) -> int:
        return self.numbers.setdefault(label, len(self.numbers))


def prepare(
    data: DataOptions, reading: ReadingOptions, tokens: TokenOptions, folder: Path, say: Say
) -> dict[str, Any]:
    """Writes ``folder``, which appears only when it is whole, in the place of an earlier one; returns prepared.json.

    Raises `DataError` if the data cannot be used, the folder holds something else, or the disk is full.
    """
    if folder.exists() and not is_prepared(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: holds something other than prepared data; choose another folder with --into")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            index = _fill(scratch, data, reading, tokens, say)
            scratch.chmod(0o755)
            _put_in_place(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return index


def _fill(
    folder: Path, data: DataOptions, reading: ReadingOptions, tokens: TokenOptions, say: Say
) -> dict[str, Any]:
    problems = RowProblems(reading.strict)
    source = open_source(data, reading, problems)
    labels = _Labels()
    (folder / _SPOOL).mkdir()
    spools = {part: _read(folder / _SPOOL / part, rows, labels) for part, rows in source.parts.items()}
    say(f"Read {sum(len(spool.labels) for spool in spools.values()):,} rows of {source.name}")
    notes = list(source.notes)
    parts, classes, unknown = _divide(source, spools, list(labels.numbers), reading, problems, notes)
    keep, found = inspect(
        {part: p.spool.hashes[p.rows] for part, p in parts.items()}, {part: p.labels for part, p in parts.items()}, data
    )
    parts = {part: p.of(keep[part]) for part, p in parts.items()}
    notes += found + problems.lines()
    for part in PARTS:
        check_part(source.name, part, len(parts[part].rows), unknown[part], reading.numeric_labels, problems)
    vocabulary = learn_vocabulary(parts[TRAIN].texts(), tokens)
    say(f"Vocabulary: {len(vocabulary):,} tokens ({vocabulary.kind})")
    write_json(folder / TOKENIZER, vocabulary_state(vocabulary))
    summary = {part: _write(folder / part, parts[part], classes, vocabulary, tokens) for part in PARTS}
    shutil.rmtree(folder / _SPOOL)
    files = [TOKENIZER, *(f"{part}.{suffix}" for part in PARTS for suffix in SUFFIXES)]
    sums = {name: {"bytes": (folder / name).stat().st_size, "sha256": checksum(folder / name)} for name in files}
    index = {
        "format": FORMAT,
        "version": VERSION,
        "name": source.name,
        "classes": classes,
        "parts": summary,
        "notes": notes,
        "tokens": asdict(tokens),
        "vocabulary": len(vocabulary),
        "tokens_sha256": _joint_checksum(sums[f"{part}.tokens"]["sha256"] for part in PARTS),
        "sources": [{"file": str(f), "bytes": f.stat().st_size, "sha256": checksum(f)} for f in source.files],
        "settings": {"data": asdict(data), "reading": asdict(reading)},
        "files": sums,
    }
    write_json(folder / INDEX, index)
    return index


def _read(stem: Path, examples: Iterable[Example], labels: _Labels) -> _Spool:
    writer, hashes = TextWriter(stem), array(INT64)
    for example in examples:
        writer.add(example.text, labels.number(example.label))
        hashes.append(text_hash(example.text))
    writer.close()
    names = list(labels.numbers)
    texts = Texts(stem, names)
    return _Spool(texts, torch.tensor(hashes, dtype=torch.int64), texts.labels)


def _divide(
    source: Source,
    spools: dict[str, _Spool],
    names: list[str],
    reading: ReadingOptions,
    problems: RowProblems,
    notes: list[str],
) -> tuple[dict[str, _Part], list[str], dict[str, Counter[str]]]:
    """Rows of every part with their class numbers, the classes, and labels of rows that were left out."""
    train = spools[TRAIN]
    if not len(train.labels):
        raise DataError(f"{source.name}: no training examples found; the data holds no usable row{problems.first()}")
    missing = missing_parts(spools)
    rows = {part: (spool, torch.arange(len(spool.labels))) for part, spool in spools.items()}
    if missing:
        notes.append(told_division(missing))
        places = deal(train.hashes, (TRAIN, *missing))
        rows |= {part: (train, torch.nonzero(places == i).flatten()) for i, part in enumerate((TRAIN, *missing))}
    spool, chosen = rows[TRAIN]
    counts = torch.bincount(spool.labels[chosen], minlength=len(names)).tolist()
    check_classes(source.name, Counter({n: c for n, c in zip(names, counts) if c}), reading.numeric_labels)
    classes = in_order([name for name, count in zip(names, counts) if count])
    number = {name: index for index, name in enumerate(classes)}
    class_of = torch.tensor([number.get(name, -1) for name in names])
    parts, unknown = {}, {}
    for part, (spool, chosen) in rows.items():
        labels = class_of[spool.labels[chosen].long()]
        unknown[part] = Counter(names[label] for label in spool.labels[chosen][labels < 0].tolist())
        if unknown[part]:
            notes.append(told_unknown(part, unknown[part]))
        parts[part] = _Part(spool, chosen, labels).of(labels >= 0)
    return parts, classes, unknown


def _write(
    stem: Path, part: _Part, classes: list[str], vocabulary: Vocabulary, options: TokenOptions
) -> dict[str, Any]:
    """The files of one part; returns what a person should know about it."""
    texts = TextWriter(stem)
    tokens = NumberWriter(stem.with_suffix(".tokens"), INT32)
    ends = NumberWriter(stem.with_suffix(".token_ends"), INT64)
    unknown = 0
    for text, label in zip(part.texts(), _numbers(part.labels)):
        texts.add(text, label)
    for numbers in vocabulary.encode_texts(part.texts(), options.max_length):
        tokens.extend(numbers)
        ends.extend([tokens.count])
        unknown += numbers.count(UNKNOWN_ID)
    for writer in (texts, tokens, ends):
        writer.close()
    written = read_numbers(stem.with_suffix(".token_ends"), INT64)
    lengths = torch.diff(written, prepend=written.new_zeros(1)).sort().values
    counts = torch.bincount(part.labels, minlength=len(classes)).tolist()
    return {
        "rows": len(lengths),
        "classes": dict(zip(classes, counts)),
        "tokens": tokens.count,
        "unknown_share": unknown / tokens.count,
        "length": {
            "median": int(lengths[len(lengths) // 2]),
            "p95": int(lengths[min(len(lengths) - 1, int(0.95 * len(lengths)))]),
            "max": int(lengths[-1]),
        },
    }


def _numbers(rows: Tensor) -> Iterator[int]:
    """As Python's, a block at a time: they are much larger than the tensor's."""
    return (number for block in rows.split(1 << 16) for number in block.tolist())


def _joint_checksum(sums: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(sums).encode()).hexdigest()


def _put_in_place(scratch: Path, folder: Path) -> None:
    """Renames; an earlier folder steps aside first, and is deleted when the new one stands."""
    old = scratch.with_name(f"{scratch.name}-old")
    if folder.exists():
        folder.rename(old)
    scratch.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
