"""The folder that the command prepare writes: texts, tokens and labels of every part, and the tokenizer.

prepared.json is written last and holds sizes and checksums of the other files. Nothing is loaded before it is used.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .batches import NumberedTexts
from .examples import DataError
from .number_files import INT32, INT64, Texts, read_numbers
from .splits import DEV, TEST, TRAIN
from .tokens import TokenOptions, Vocabulary
from .vocabularies import vocabulary_from_state

FORMAT, VERSION = "fused_lstm.sentiment.prepared", 1
INDEX, TOKENIZER = "prepared.json", "tokenizer.json"
PARTS = (TRAIN, DEV, TEST)
SUFFIXES = ("text", "text_ends", "labels", "tokens", "token_ends")
_CHUNK = 1 << 20


@dataclass
class Prepared:
    """An open folder. ``tokens`` are the settings it was made with, ``notes`` what was found in the data."""

    folder: Path
    name: str
    classes: list[str]
    notes: list[str]
    tokens: TokenOptions
    vocabulary: Vocabulary
    texts: dict[str, Texts]
    numbered: dict[str, NumberedTexts]

    def checked(self, given: dict[str, Any]) -> TokenOptions:
        """The settings of the tokens. Raises `DataError` if others were ``given`` for the run."""
        for name, value in given.items():
            if value != getattr(self.tokens, name):
                raise DataError(
                    f"{self.folder}: was prepared with --{name.replace('_', '-')} {getattr(self.tokens, name)}, "
                    f"not {value}; prepare it again, or leave the option out"
                )
        return self.tokens


def is_prepared(path: Path) -> bool:
    """Whether the command prepare wrote this folder."""
    return path.is_dir() and (path / INDEX).is_file()


def open_prepared(folder: Path) -> Prepared:
    """Opens the folder. Raises `DataError` if it is of another version, incomplete, or was changed in size."""
    index = _read_json(folder / INDEX)
    if index.get("format") != FORMAT or index.get("version") != VERSION:
        raise DataError(f"{folder / INDEX}: expected {FORMAT} of version {VERSION}; prepare the data again")
    try:
        for name, told in index["files"].items():
            size = (folder / name).stat().st_size
            if size != told["bytes"]:
                raise DataError(f"{folder / name}: should have {told['bytes']:,} bytes but has {size:,}; prepare again")
        classes = [str(label) for label in index["classes"]]
        texts = {part: Texts(folder / part, classes) for part in PARTS}
        numbered = {part: _numbered(folder / part, texts[part]) for part in PARTS}
        vocabulary = vocabulary_from_state(_read_json(folder / TOKENIZER))
        notes = [*index["notes"], f"The data was prepared before (sha256 of its tokens {index['tokens_sha256'][:12]})."]
        return Prepared(
            folder, index["name"], classes, notes, TokenOptions(**index["tokens"]), vocabulary, texts, numbered
        )
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be read: {error.strerror}; prepare again") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder}: is not whole ({error}); prepare the data again") from error


def checksum(path: Path) -> str:
    """sha256 of a file of any size."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _numbered(stem: Path, texts: Texts) -> NumberedTexts:
    flat = read_numbers(stem.with_suffix(".tokens"), INT32)
    return NumberedTexts.mapped(flat, read_numbers(stem.with_suffix(".token_ends"), INT64), texts.labels)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}; prepare the data again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(value).__name__}; prepare the data again")
    return value
