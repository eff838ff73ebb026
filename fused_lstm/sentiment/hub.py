"""Public data sets by name, and folders in the format of the library datasets, read row by row."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from .examples import DataError, Example, RowProblems
from .folders import PART_NAMES, UNLABELLED
from .readers import Fields, record_example
from .splits import DEV, TEST, TRAIN

PREFIX = "hf:"
_SAVED = ("dataset_dict.json", "state.json")


class Public(NamedTuple):
    """Where a set lies on the Hugging Face hub, and how it names its text (labels are named as usual)."""

    path: str
    text: str = "text"


PUBLIC = {
    "imdb": Public("stanfordnlp/imdb"),
    "sst2": Public("stanfordnlp/sst2", "sentence"),
    "rotten_tomatoes": Public("cornell-movie-review-data/rotten_tomatoes"),
    "yelp_polarity": Public("fancyzhx/yelp_polarity"),
    "yelp_review_full": Public("Yelp/yelp_review_full"),
    "amazon_polarity": Public("fancyzhx/amazon_polarity", "content"),
    "ag_news": Public("fancyzhx/ag_news"),
}


def is_hub_name(name: str) -> bool:
    """Whether a name that is no path stands for a public set."""
    return name in PUBLIC or name.startswith(PREFIX)


def is_saved_folder(folder: Path) -> bool:
    """Whether ``Dataset.save_to_disk`` wrote this folder."""
    return any((folder / name).exists() for name in _SAVED)


def open_hub(name: str, fields: Fields, problems: RowProblems) -> tuple[dict[str, Iterator[Example]], list[str]]:
    """The parts of a public set and what a person should know: ``imdb``, ``hf:owner/name``, ``hf:owner/name:config``.

    Rows are fetched as they are asked for. Raises `DataError` if the set cannot be reached.
    """
    library = _library(name)
    text = PUBLIC[name].text if name in PUBLIC else None
    path, _, config = (PUBLIC[name].path if name in PUBLIC else name.removeprefix(PREFIX)).partition(":")
    try:
        sets = library.load_dataset(path, config or None, streaming=True)
    except Exception as error:  # the library raises errors of its own, of the network and of the file formats
        reason = " ".join(str(error).split())[:300]
        raise DataError(
            f"{name}: cannot be fetched from the Hugging Face hub ({type(error).__name__}: {reason}); "
            "check the name and the network, or download it elsewhere and give its files with --data PATH"
        ) from error
    return _parts(name, dict(sets), fields._replace(text=fields.text or text), problems)


def open_saved(folder: Path, fields: Fields, problems: RowProblems) -> tuple[dict[str, Iterator[Example]], list[str]]:
    """The same for a folder that ``save_to_disk`` wrote; a single set counts as train."""
    library = _library(str(folder))
    try:
        sets = library.load_from_disk(str(folder))
    except Exception as error:
        raise DataError(f"{folder}: cannot be read as a saved data set: {' '.join(str(error).split())}") from error
    return _parts(str(folder), dict(sets) if isinstance(sets, dict) else {"train": sets}, fields, problems)


def _parts(
    name: str, sets: dict[str, Any], fields: Fields, problems: RowProblems
) -> tuple[dict[str, Iterator[Example]], list[str]]:
    notes = []
    found = {part: split for split in sets for part, names in PART_NAMES.items() if split.lower() in names}
    others = [split for split in sets if split not in found.values()]
    more = [split for split in others if fields.optional and split.lower() in UNLABELLED]
    if set(others) - set(more):
        notes.append(f"Not used: {', '.join(split for split in others if split not in more)}.")
    if TEST in found and _is_unlabelled(sets[found[TEST]], fields):
        # GLUE keeps the labels of its tests to itself; its validation part is what everyone reports.
        instead = f": {found[DEV]} is used instead" if DEV in found else ""
        notes.append(f"The {found.pop(TEST)} part has no labels{instead}.")
        if DEV in found:
            found[TEST] = found.pop(DEV)
    splits = {part: [split] for part, split in found.items()}
    if more:
        splits[TRAIN] = [*splits.get(TRAIN, []), *more]
    rows = {split: _rows(f"{name}/{split}", sets[split], fields, problems) for split in chain(*splits.values())}
    return {part: chain(*(rows[split] for split in of)) for part, of in splits.items()}, notes


def _is_unlabelled(rows: Any, fields: Fields) -> bool:
    first = next(iter(rows), None)
    return first is not None and _label_column(first, fields) is not None and first[_label_column(first, fields)] == -1


def _label_column(row: dict[str, Any], fields: Fields) -> str | None:
    return next((key for name in fields.label_names() for key in row if key.lower() == name), None)


def _rows(place: str, rows: Any, fields: Fields, problems: RowProblems) -> Iterator[Example]:
    names: list[str] | None = None
    column: str | None = None
    for number, row in enumerate(rows, start=1):
        if number == 1:
            column = _label_column(row, fields)
            names = getattr((rows.features or {}).get(column), "names", None)
        label = row.get(column)
        if label in (None, -1) and not fields.optional:
            problems.add(place, number, "the row has no label")
            continue
        if names is not None and not fields.numeric and not fields.optional:
            row = {**row, column: names[label]}
        yield from problems.usable(place, number, record_example(row, fields))


def _library(name: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(f'{name}: needs the library datasets: pip install "fused_lstm[sentiment]"') from error
    return datasets
