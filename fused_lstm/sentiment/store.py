"""The model folder: model.safetensors, tokenizer.json and config.json, and nothing that could run code on loading.

config.json is written last and holds checksums of the other two, so a folder whose writing was cut short is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .errors import UserError
from .model import ModelConfig, SentimentClassifier
from .tokens import Vocabulary
from .vocabularies import vocabulary_from_state, vocabulary_state

FORMAT, VERSION = "fused_lstm.sentiment", 1
CONFIG, VOCABULARY, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"


class StoreError(UserError):
    """A model folder cannot be written or read; the message names the file and the remedy."""


@dataclass(frozen=True)
class ModelSettings:
    """What a model needs besides its weights and vocabulary. ``trained_on`` names the data; ``embedded`` is True for
    the embedded corpus, in which case the model knows nothing about real sentiment; ``training`` is for the record."""

    model: ModelConfig
    classes: tuple[str, ...]
    max_length: int
    trained_on: str
    embedded: bool
    training: dict[str, Any]


@dataclass
class StoredModel:
    """A model ready for use, in evaluation mode."""

    network: SentimentClassifier
    vocabulary: Vocabulary
    settings: ModelSettings


def require_safetensors() -> Any:
    """The module safetensors.torch; `StoreError` with the remedy if it is missing."""
    try:
        import safetensors.torch
    except ImportError as error:
        raise StoreError('models are stored with safetensors: pip install "fused_lstm[sentiment]"') from error
    return safetensors.torch


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Lets ``write`` fill a temporary file beside ``path``, then puts it in place in one step.

    The temporary name keeps the suffix, since some writers choose the format by it.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file for people to read, atomically."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def prepare_folder(folder: Path) -> None:
    """Makes the folder; refuses one whose config.json belongs to something else. Raises `StoreError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made: {error.strerror}") from error
    if (folder / CONFIG).exists() and _read_json(folder / CONFIG).get("format") != FORMAT:
        raise StoreError(f"{folder}: holds a {CONFIG} of another program; choose another folder with --output")


def save(folder: Path, network: SentimentClassifier, vocabulary: Vocabulary, settings: ModelSettings) -> None:
    """Writes the three files, replacing those of an earlier model."""
    safetensors = require_safetensors()
    prepare_folder(folder)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(folder / WEIGHTS, lambda path: safetensors.save_file(weights, path))
    write_json(folder / VOCABULARY, vocabulary_state(vocabulary))
    checksums = {name: _checksum(folder / name) for name in (WEIGHTS, VOCABULARY)}
    write_json(folder / CONFIG, {"format": FORMAT, "version": VERSION, "sha256": checksums, **asdict(settings)})


def load(folder: Path, backend: str = "fused") -> StoredModel:
    """Reads a model folder. Raises `StoreError` if it is missing, foreign, newer, incomplete or damaged."""
    settings = _read_settings(folder)
    vocabulary = _read_vocabulary(folder, settings)
    try:
        network = SentimentClassifier(settings.model, backend)
    except (ValueError, RuntimeError) as error:
        raise StoreError(f"{folder / CONFIG}: no model can be made from it: {error}") from error
    _load_weights(folder / WEIGHTS, network)
    return StoredModel(network.eval(), vocabulary, settings)


def _read_settings(folder: Path) -> ModelSettings:
    if not (folder / CONFIG).is_file():
        raise StoreError(f"{folder}: not a model folder, {CONFIG} is missing; make one with the train command")
    config = _read_json(folder / CONFIG)
    if config.get("format") != FORMAT:
        raise StoreError(f"{folder / CONFIG}: expected format {FORMAT!r} but found {config.get('format')!r}")
    version = config.get("version")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise StoreError(
            f"{folder / CONFIG}: format version {version!r} is not one this program reads (up to {VERSION}); "
            "upgrade fused_lstm or train the model again"
        )
    entries = _Entries(folder / CONFIG, config)
    checksums = entries.take("sha256", dict)
    for name in (WEIGHTS, VOCABULARY):
        if _checksum(folder / name) != checksums.get(name):
            raise StoreError(f"{folder / name}: does not belong to {CONFIG} or is damaged; train the model again")
    sizes = _Entries(folder / CONFIG, entries.take("model", dict))
    types = {"int": int, "float": float, "bool": bool, "str": str}
    settings = ModelSettings(
        model=ModelConfig(**{f.name: sizes.take(f.name, types[f.type]) for f in fields(ModelConfig)}),
        classes=tuple(map(str, entries.take("classes", list))),
        max_length=entries.take("max_length", int),
        trained_on=entries.take("trained_on", str),
        embedded=entries.take("embedded", bool),
        training=entries.take("training", dict),
    )
    if len(settings.classes) != settings.model.classes:
        raise StoreError(
            f"{folder / CONFIG}: names {len(settings.classes)} classes, the model has {settings.model.classes}"
        )
    return settings


class _Entries:
    """A JSON object whose entries must be there and of the right type."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self._path, self._values = path, values

    def take(self, name: str, kind: type) -> Any:
        value = self._values.get(name)
        # JSON writes 1.0 and 1 as it likes, and Python counts True as an int.
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise StoreError(
                f"{self._path}: the entry {name!r} should be of type {kind.__name__} but is {value!r}; "
                "train the model again"
            )
        return value


def _read_vocabulary(folder: Path, settings: ModelSettings) -> Vocabulary:
    state = _read_json(folder / VOCABULARY)
    try:
        vocabulary = vocabulary_from_state(state)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{folder / VOCABULARY}: {error}") from error
    if len(vocabulary) != settings.model.vocabulary:
        raise StoreError(
            f"{folder / VOCABULARY}: lists {len(vocabulary)} tokens, the model expects {settings.model.vocabulary}"
        )
    return vocabulary


def _load_weights(path: Path, network: SentimentClassifier) -> None:
    safetensors = require_safetensors()
    try:
        weights = safetensors.load_file(path)
    except Exception as error:  # safetensors raises its own class for a bad header, and others for bad files
        raise StoreError(f"{path}: cannot be read: {error}") from error
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise StoreError(
                f"{path}: tensor {name} should have shape {expected.get(name, 'none')} "
                f"but has {found.get(name, 'none')}"
            )
    network.load_state_dict(weights)


def _read_json(path: Path, kind: type = dict) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, kind):
        raise StoreError(f"{path}: expected a JSON {kind.__name__} but found {type(value).__name__}")
    return value


def _checksum(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
