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
from .readers import KINDS, Fields, read_file
from .settings import setting
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
class ReadingOptions:
    """How data is read."""

    data_format: str | None = setting(None, "if the file's name does not tell", choices=KINDS)
    label_field: str | None = setting(None, "column or field with the label", metavar="NAME")
    text_field: str | None = setting(None, "column or field with the text", metavar="NAME")
    strict: bool = setting(False, "stop at the first row that cannot be read")

    @property
    def fields(self) -> Fields:
        return Fields(self.label_field, self.text_field)


@dataclass(frozen=True)
class DataOptions:
    """Data."""

    data: str | None = setting(None, "labelled texts (see below); the embedded corpus without it", metavar="PATH")
    train_file: str | None = setting(None, "file for train, looked up in the folder PATH first")
    dev_file: str | None = setting(None, "the same for dev")
    test_file: str | None = setting(None, "the same for test")

    def files(self) -> dict[str, str | None]:
        return {TRAIN: self.train_file, DEV: self.dev_file, TEST: self.test_file}


def open_dataset(data: DataOptions, reading: ReadingOptions, embedded: corpus.CorpusOptions) -> Dataset:
    """The user's data if any was named, else the embedded corpus; what could not be read stands in the notes."""
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
    """The user's data, parts that are not given being taken from the training part by hash of the text.

    Raises `DataError` if nothing usable is found; single bad rows go to ``problems``.
    """
    path = None if data.data is None else Path(data.data)
    given = _read_parts(path, reading, data.files(), problems)
    name = str(path or data.train_file)
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


def load_part(path: Path, part: str, options: ReadingOptions, problems: RowProblems) -> list[Example]:
    """The examples to evaluate on: the whole of a single file, or one part of a folder."""
    if path.is_file():
        return read_file(path, options.fields, problems, options.data_format)
    given = _read_parts(path, options, {}, problems)
    if part not in given:
        raise DataError(
            f"{path}: has no {part} part; it has {', '.join(given) or 'nothing readable'}; choose one with --part"
        )
    return given[part]


def _read_parts(
    path: Path | None, options: ReadingOptions, named: dict[str, str | None], problems: RowProblems
) -> dict[str, list[Example]]:
    """The parts that are there; a file in ``named`` wins over what the folder holds."""
    files = {part: Path(name) for part, name in named.items() if name is not None}
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
    kind = options.data_format
    return given | {part: read_file(file, options.fields, problems, kind) for part, file in files.items()}


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
