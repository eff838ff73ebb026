"""From what a user named to the parts that are there, each read as it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .data_options import DataOptions, ReadingOptions
from .examples import DataError, Example, RowProblems
from .folders import class_tree_files, find_part_files, read_class_tree
from .hub import PREFIX, PUBLIC, is_hub_name, is_saved_folder, open_hub, open_saved
from .readers import read_file
from .splits import TRAIN


@dataclass
class Source:
    """Parts, each of which can be read once; ``files`` are what they are read from (none for the hub)."""

    name: str
    parts: dict[str, Iterable[Example]]
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def open_source(
    data: DataOptions, reading: ReadingOptions, problems: RowProblems, whole: bool = True
) -> Source:
    """A file is train; a folder has parts; a name is looked up on the hub. Files named by options win.

    Raises `DataError` if the path is missing or, with ``whole``, nothing in it can be read as train.
    """
    name = data.data or data.train_file
    if name is None:
        raise DataError("no data was named; give a file, a folder or the name of a public set with --data")
    source = Source(name, {})
    named = {part: Path(file) for part, file in data.files().items() if file is not None}
    path = None if data.data is None else Path(data.data.removeprefix("file://"))
    if path is not None and not path.exists():
        _take_hub(source, data.data, reading, problems)
    elif path is not None and path.is_dir():
        named = {part: path / file if (path / file).exists() else file for part, file in named.items()}
        _take_folder(source, path, set(named), reading, problems)
    elif path is not None:
        named = {TRAIN: path} | named
    for part, file in named.items():
        source.parts[part] = read_file(file, reading.fields, problems, reading.data_format)
        source.files.append(file)
    if whole and TRAIN not in source.parts:
        raise DataError(
            f"{name}: no training examples found; expected a file of labelled texts, a folder with train.tsv, "
            "train.csv or train.jsonl, or a folder with train/<class>/*.txt"
        )
    return source


def _take_hub(source: Source, name: str, reading: ReadingOptions, problems: RowProblems) -> None:
    if not is_hub_name(name):
        raise DataError(
            f"{name}: no such file or folder, nor a public set known by that name ({', '.join(PUBLIC)}); "
            f"others are written {PREFIX}owner/name"
        )
    parts, source.notes = open_hub(name, reading.fields, problems)
    source.parts |= parts


def _take_folder(
    source: Source, path: Path, named: set[str], reading: ReadingOptions, problems: RowProblems
) -> None:
    if is_saved_folder(path):
        parts, source.notes = open_saved(path, reading.fields, problems)
        source.parts |= parts
        source.files += sorted(file for file in path.rglob("*") if file.is_file())
        return
    files = find_part_files(path, skip=named)
    if TRAIN not in files and TRAIN not in named:
        trees = read_class_tree(path, problems, reading.labels_optional)
        if trees:
            source.files += class_tree_files(path, reading.labels_optional)
        source.parts |= trees
    for part, file in files.items():
        source.parts[part] = read_file(file, reading.fields, problems, reading.data_format)
        source.files.append(file)
