"""Everything a run needs to know about its data: the parts, the classes, and what a person should be told."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from . import corpus
from .checks import hashes_of, inspect
from .data_options import DataOptions, ReadingOptions
from .examples import DataError, Example, RowProblems
from .number_files import Texts
from .prepared import Prepared, is_prepared, open_prepared
from .sources import open_source
from .splits import DEV, TEST, TRAIN, split, token_bag

MAX_CLASSES = 1000
ROUND = "round them to steps that many texts share, such as halves or tenths"


@dataclass
class Dataset:
    """Labelled texts in three parts, and the harder test of the embedded corpus (empty for other data).

    ``notes`` are sentences for the report: how the data was divided, rows left out, leaks. ``prepared`` holds the
    tokens where the data comes from the command prepare.
    """

    name: str
    train: Sequence[Example]
    dev: Sequence[Example]
    test: Sequence[Example]
    composed: list[Example] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    embedded: bool = False
    prepared: Prepared | None = None

    @property
    def classes(self) -> list[str]:
        """The labels of the training part, in order."""
        return in_order({example.label for example in self.train}) if self.prepared is None else self.prepared.classes


    def counts(self) -> str:
        """Texts of each part, and of each class, for a person."""
        parts = {TRAIN: self.train, DEV: self.dev, TEST: self.test, "compose": self.composed}
        return ", ".join(f"{part} {len(rows):,} ({_balance(rows)})" for part, rows in parts.items() if rows)


def _balance(rows: Sequence[Example], most: int = 6) -> str:
    if isinstance(rows, Texts):  # on disk, where the labels alone are quick to read
        counts = Counter(dict(zip(rows.classes, torch.bincount(rows.labels, minlength=len(rows.classes)).tolist())))
    else:
        counts = Counter(example.label for example in rows)
    names = in_order(name for name, count in counts.items() if count)
    if len(names) > most:
        names = [name for name, _ in counts.most_common(most)]
    told = ", ".join(f"{name}: {counts[name]:,}" for name in names)
    return told + (f", and {len(+counts) - most} more" if len(+counts) > most else "")


def in_order(labels: Iterable[str]) -> list[str]:
    """Class names sorted, as numbers if all of them are."""
    labels = list(labels)
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        return sorted(labels)
    return [label for _, label in sorted(zip(numbers, labels))] if all(map(math.isfinite, numbers)) else sorted(labels)


def open_dataset(data: DataOptions, reading: ReadingOptions, embedded: corpus.CorpusOptions) -> Dataset:
    """The user's data if any was named, else the embedded corpus; what could not be read stands in the notes."""
    if data.data is not None and is_prepared(Path(data.data)):
        if any(data.files().values()) or data.drop_leaks or data.drop_duplicates:
            raise DataError(f"{data.data}: is prepared data, whose parts are decided; prepare it again to change them")
        prepared = open_prepared(Path(data.data))
        parts = prepared.texts
        return Dataset(
            prepared.name, parts[TRAIN], parts[DEV], parts[TEST], notes=list(prepared.notes), prepared=prepared
        )
    if data.data is not None or data.train_file is not None:
        problems = RowProblems(reading.strict)
        dataset = load_dataset(data, reading, problems)
        dataset.notes += problems.lines()
        return dataset
    for part, file in data.files().items():
        if file is not None:
            raise DataError(f"--{part}-file needs --data or --train-file beside it")
    return embedded_dataset(embedded.corpus_size, embedded.corpus_seed, embedded.language, embedded.noise)


def embedded_dataset(
    size: int = corpus.SIZE, seed: int = corpus.SEED, language: str = "both", noise: float = 0.0
) -> Dataset:
    """The embedded corpus. Twins share their tokens and therefore the part they are in."""
    examples, composed = corpus.generate(size, seed, language), corpus.compose(seed=seed, language=language)
    notes = [f"{size} sentences in our own words, seed {seed}, language {language}; nothing here is real sentiment."]
    if noise:
        examples, composed = (corpus.with_noise(part, noise, seed) for part in (examples, composed))
        notes.append(f"Each label was flipped with probability {noise:g}: no model can exceed {1 - noise:.1%}.")
    parts = split(examples, (TRAIN, DEV, TEST), key=token_bag)
    return Dataset(corpus.NAME, parts[TRAIN], parts[DEV], parts[TEST], composed, notes, embedded=True)


def load_dataset(data: DataOptions, reading: ReadingOptions, problems: RowProblems) -> Dataset:
    """The user's data in memory, parts that are not given being taken from the training part by hash of the text.

    Raises `DataError` if nothing usable is found; single bad rows go to ``problems``.
    """
    source = open_source(data, reading, problems)
    given = {part: list(examples) for part, examples in source.parts.items()}
    if not given[TRAIN]:
        raise DataError(f"{source.name}: no training examples found; the data holds no usable row{problems.first()}")
    notes = list(source.notes)
    missing = missing_parts(given)
    if missing:
        notes.append(told_division(missing))
        given |= split(given[TRAIN], (TRAIN, *missing))
    dataset = Dataset(source.name, given[TRAIN], given[DEV], given[TEST], notes=notes)
    check_classes(dataset.name, Counter(example.label for example in dataset.train), reading.numeric_labels)
    unknown = _drop_unknown_labels(dataset)
    _clean(dataset, data)
    for part, examples in ((TRAIN, dataset.train), (DEV, dataset.dev), (TEST, dataset.test)):
        check_part(source.name, part, len(examples), unknown[part], reading.numeric_labels, problems)
    return dataset


def load_part(name: str | Path, part: str, reading: ReadingOptions, problems: RowProblems) -> Sequence[Example]:
    """The examples to evaluate on: the whole of a single file, or one part of a folder or public set."""
    name = str(name)
    if is_prepared(Path(name)):
        return open_prepared(Path(name)).texts[part]
    source = open_source(DataOptions(data=name), reading, problems, whole=False)
    wanted = TRAIN if Path(name).is_file() else part
    if wanted not in source.parts:
        raise DataError(
            f"{name}: has no {part} part; it has {', '.join(source.parts) or 'nothing readable'}; "
            "choose one with --part"
        )
    return list(source.parts[wanted])


def missing_parts(given: Iterable[str]) -> list[str]:
    """The parts that have to be taken from train."""
    given = set(given)
    return [part for part in (DEV, TEST) if part not in given]


def told_division(missing: Sequence[str]) -> str:
    """The sentence about it."""
    return (
        f"No {' or '.join(missing)} part was given: {'each takes' if len(missing) > 1 else 'it takes'} "
        "a tenth of the training texts, chosen by hash; equal texts stay together."
    )


def check_classes(name: str, counts: Counter[str], numeric: bool) -> None:
    """Raises `DataError` unless the labels of the training part can be those of a classification or a regression."""
    count, rows = len(counts), counts.total()
    if count < 2:
        raise DataError(f"{name}: every training row has the label {next(iter(counts))!r}; two are needed")
    if numeric and count > MAX_CLASSES:
        raise DataError(
            f"{name}: --regression is for ratings of at most {MAX_CLASSES:,} different values, found {count:,} in "
            f"{rows:,} training rows; {ROUND}"
        )
    if not numeric and (count > MAX_CLASSES or (rows >= 20 and count > rows // 2)):
        raise DataError(
            f"{name}: {count} different labels in {rows} rows; "
            "are label and text exchanged? Name the columns with --label-field and --text-field"
        )


def told_unknown(part: str, unknown: Counter[str]) -> str:
    """The sentence about labels that train lacks."""
    names = ", ".join(repr(label) for label, _ in unknown.most_common(3))
    return f"{unknown.total()} {part} row(s) were left out: train has no such label ({names})."


def check_part(name: str, part: str, rows: int, unknown: Counter[str], numeric: bool, problems: RowProblems) -> None:
    """Raises `DataError`, with what became of the rows, if none of a part is left. ``unknown``: labels of those that
    were left out since train lacks them."""
    if rows:
        return
    why = problems.first()
    if unknown:
        why = f": {told_unknown(part, unknown).removesuffix('.')}{why}"
        if numeric:
            why += f"; --regression knows the numbers of train alone: {ROUND}"
    raise DataError(f"{name}: the {part} part holds no usable row{why}")


def _drop_unknown_labels(dataset: Dataset) -> dict[str, Counter[str]]:
    """Leaves out the rows of dev and test whose label train lacks; returns these labels by part."""
    known = set(dataset.classes)
    dropped = {part: Counter[str]() for part in (TRAIN, DEV, TEST)}
    for part in (DEV, TEST):
        examples: Sequence[Example] = getattr(dataset, part)
        dropped[part] = Counter(example.label for example in examples if example.label not in known)
        if dropped[part]:
            dataset.notes.append(told_unknown(part, dropped[part]))
            setattr(dataset, part, [example for example in examples if example.label in known])
    return dropped


def _clean(dataset: Dataset, data: DataOptions) -> None:
    parts = {TRAIN: dataset.train, DEV: dataset.dev, TEST: dataset.test}
    number = {label: index for index, label in enumerate(dataset.classes)}
    labels: dict[str, Tensor] = {
        part: torch.tensor([number.get(example.label, -1) for example in examples]) for part, examples in parts.items()
    }
    keep, notes = inspect({part: hashes_of(examples) for part, examples in parts.items()}, labels, data)
    dataset.notes += notes
    for part, examples in parts.items():
        if not keep[part].all():
            setattr(dataset, part, [example for example, kept in zip(examples, keep[part].tolist()) if kept])
