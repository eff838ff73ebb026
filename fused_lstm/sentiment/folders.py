"""Folders of data: which files hold which part, and trees of one text file per example (aclImdb)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .examples import DataError, Example, RowProblems
from .readers import NumberedLines, kind_of
from .splits import DEV, TEST, TRAIN

PART_NAMES = {TRAIN: ("train", "training"), DEV: ("dev", "valid", "validation", "val"), TEST: ("test", "testing")}
UNLABELLED = ("unsup", "unsupervised", "unlabeled", "unlabelled")
_TEXT_SUFFIXES = (".txt", ".txt.gz", ".txt.xz")


def find_part_files(folder: Path, skip: set[str]) -> dict[str, Path]:
    """The files named train.*, dev.* and test.* in a readable format; parts in ``skip`` are not looked for.

    Raises `DataError` if several files claim one part.
    """
    found: dict[str, Path] = {}
    for part, names in PART_NAMES.items():
        if part in skip:
            continue
        files = sorted(
            file
            for file in folder.iterdir()
            if file.is_file() and kind_of(file) is not None and file.name.lower().split(".")[0] in names
        )
        if len(files) > 1:
            listed = ", ".join(file.name for file in files)
            raise DataError(f"{folder}: several files could be the {part} part ({listed}); choose with --{part}-file")
        if files:
            found[part] = files[0]
    return found


def read_class_tree(folder: Path, problems: RowProblems, optional: bool = False) -> dict[str, Iterator[Example]]:
    """The parts of a tree part/class/*.txt, or of a tree class/*.txt, which is training data, to be divided later.

    ``optional``: texts without a class are taken, too, from folders such as train/unsup or from ``folder`` itself.
    """
    roots = {part: _part_folder(folder, part) for part in PART_NAMES}
    if not any(roots.values()):
        roots = {TRAIN: folder}
    found = {part: root for part, root in roots.items() if root is not None and _class_folders(root, optional)}
    return {part: _read_classes(root, problems, optional) for part, root in found.items()}


def class_tree_files(folder: Path, optional: bool = False) -> list[Path]:
    """Every text file of such a tree."""
    roots = [root for part in PART_NAMES if (root := _part_folder(folder, part))] or [folder]
    return [file for root in roots for child in _class_folders(root, optional) for file in _text_files(child)]


def _part_folder(folder: Path, part: str) -> Path | None:
    return next((folder / name for name in PART_NAMES[part] if (folder / name).is_dir()), None)


def _class_folders(root: Path, optional: bool) -> list[Path]:
    """``optional``: and those without a class; ``root`` alone if there are none, since files beside folders are others
    (aclImdb lists addresses there)."""
    children = [child for child in sorted(root.iterdir()) if child.is_dir() and any(_text_files(child))]
    if optional:
        return children or [root] * any(_text_files(root))
    return [child for child in children if child.name not in UNLABELLED]


def _text_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file() and file.name.lower().endswith(_TEXT_SUFFIXES))


def _read_classes(root: Path, problems: RowProblems, optional: bool) -> Iterator[Example]:
    for folder in _class_folders(root, optional):
        for file in _text_files(folder):
            text = "\n".join(NumberedLines(file, problems)).strip()
            if text:
                yield Example(folder.name, text)
            else:
                problems.add(file, 1, "the text is empty")
