"""Everything a run needs to know about its data: the parts, the classes, and what a person should be told.

Sources: the embedded corpus, one file, a folder with train/dev/test files, or a folder of text files by class
(train/pos/1.txt, as in aclImdb).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import corpus
from .examples import DataError, Example, RowProblems
from .folders import find_part_files, read_class_tree
from .readers import Fields, read_file
from .splits import DEV, TEST, TRAIN, leaked, split, token_bag

MAX_CLASSES = 1000


@dataclass
class Dataset:
    """Labelled texts in three parts, and the harder test of the embedded corpus (empty for other data).

    ``notes`` are sentences for the report: how the data was divided, rows left out, leaks.
    """

    name: str
    train: list[Example]
    dev: list[Example]
    test: list[Example]
    composed: list[Example] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    embedded: bool = False

    @property
    def classes(self) -> list[str]:
        """The labels of the training part, sorted."""
        return sorted({example.label for example in self.train})


@dataclass(frozen=True)
class DataOptions:
    """How to read a user's data. Files may be given for any part; relative names are looked up in the folder first."""

    fields: Fields = Fields()
    kind: str | None = None
    train_file: str | None = None
    dev_file: str | None = None
    test_file: str | None = None

    def files(self) -> dict[str, str | None]:
        return {TRAIN: self.train_file, DEV: self.dev_file, TEST: self.test_file}


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


def load_dataset(path: Path | None, options: DataOptions, problems: RowProblems) -> Dataset:
    """The user's data, parts that are not given being taken from the training part by hash of the text.

    Raises `DataError` if nothing usable is found; single bad rows go to ``problems``.
    """
    given = _read_parts(path, options, problems)
    name = str(path or options.train_file)
    if not given.get(TRAIN):
        raise DataError(
            f"{name}: no training examples found; expected a file of labelled texts, a folder with train.tsv, "
            "train.csv or train.jsonl, or a folder with train/<class>/*.txt"
        )
    notes = []
    missing = [part for part in (DEV, TEST) if part not in given]
    if missing:
        notes.append(
            f"No {' or '.join(missing)} part was given: {'each takes' if len(missing) > 1 else 'it takes'} "
            "a tenth of the training texts, chosen by hash; equal texts stay together."
        )
        given |= split(given[TRAIN], (TRAIN, *missing))
    dataset = Dataset(name, given[TRAIN], given[DEV], given[TEST], notes=notes)
    _check_classes(dataset)
    _drop_unknown_labels(dataset)
    for part, examples in ((DEV, dataset.dev), (TEST, dataset.test)):
        if not examples:
            raise DataError(f"{name}: the {part} part holds no usable row")
        count = leaked(dataset.train, examples)
        if count:
            notes.append(f"Leak: {count} of {len(examples)} {part} texts also occur in train (case and spacing aside).")
    return dataset


def load_part(path: Path, part: str, options: DataOptions, problems: RowProblems) -> list[Example]:
    """The examples to evaluate on: the whole of a single file, or one part of a folder."""
    if path.is_file():
        return read_file(path, options.fields, problems, options.kind)
    given = _read_parts(path, options, problems)
    if part not in given:
        raise DataError(
            f"{path}: has no {part} part; it has {', '.join(given) or 'nothing readable'}; choose one with --part"
        )
    return given[part]


def _read_parts(path: Path | None, options: DataOptions, problems: RowProblems) -> dict[str, list[Example]]:
    """The parts that are there; a file named by an option wins over what the folder holds."""
    files = {part: Path(name) for part, name in options.files().items() if name is not None}
    given: dict[str, list[Example]] = {}
    if path is not None and not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path is not None and path.is_dir():
        files = {part: path / file if (path / file).exists() else file for part, file in files.items()}
        files = find_part_files(path, skip=set(files)) | files
        if TRAIN not in files:
            given = read_class_tree(path, problems)
    elif path is not None:
        files = {TRAIN: path} | files
    return given | {part: read_file(file, options.fields, problems, options.kind) for part, file in files.items()}


def _check_classes(dataset: Dataset) -> None:
    count, rows = len(dataset.classes), len(dataset.train)
    if count < 2:
        raise DataError(f"{dataset.name}: every training row has the label {dataset.classes[0]!r}; two are needed")
    if count > MAX_CLASSES or (rows >= 20 and count > rows // 2):
        raise DataError(
            f"{dataset.name}: {count} different labels in {rows} rows; "
            "are label and text exchanged? Name the columns with --label-field and --text-field"
        )


def _drop_unknown_labels(dataset: Dataset) -> None:
    known = set(dataset.classes)
    for part in (DEV, TEST):
        examples: Sequence[Example] = getattr(dataset, part)
        unknown = Counter(example.label for example in examples if example.label not in known)
        if unknown:
            names = ", ".join(repr(label) for label, _ in unknown.most_common(3))
            dataset.notes.append(
                f"{sum(unknown.values())} {part} row(s) were left out: train has no such label ({names})."
            )
            setattr(dataset, part, [example for example in examples if example.label in known])
