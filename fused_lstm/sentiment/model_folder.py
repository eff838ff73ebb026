"""The folder of a model of any kind: model.safetensors, tokenizer.json and config.json, nothing that could run code.

config.json is put in place last and holds checksums of the other two, so a folder where that was cut short is noticed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from .stored_files import StoreError, checksum, json_text, read_json, require_safetensors, write_together
from .tokens import Vocabulary
from .vocabularies import vocabulary_from_state, vocabulary_state

CONFIG, VOCABULARY, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
Sizes = TypeVar("Sizes")


@dataclass(frozen=True)
class Kind:
    """What is kept in a folder: ``format`` and ``version`` as config.json names them, the command that makes one."""

    format: str
    version: int
    noun: str
    command: str


def prepare_folder(folder: Path, kind: Kind) -> None:
    """Makes the folder; refuses one whose config.json belongs to something else. Raises `StoreError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made: {error.strerror}") from error
    if (folder / CONFIG).exists() and read_json(folder / CONFIG).get("format") != kind.format:
        raise StoreError(f"{folder}: holds a {CONFIG} that is of no {kind.noun}; choose another folder with --output")


def write_model(folder: Path, kind: Kind, network: nn.Module, vocabulary: Vocabulary, config: dict[str, Any]) -> None:
    """Writes the three files; ``config`` goes into config.json. All of an earlier model's are replaced, or none.

    Raises `StoreError`.
    """
    safetensors = require_safetensors()
    prepare_folder(folder, kind)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    checksums: dict[str, str] = {}

    def write_weights(path: Path) -> None:
        try:
            safetensors.save_file(weights, path)
        except _safetensor_error() as error:  # a full disk, in the words of its own library
            raise OSError(str(error)) from error
        checksums[WEIGHTS] = checksum(path)

    def write_vocabulary(path: Path) -> None:
        path.write_text(json_text(vocabulary_state(vocabulary)), encoding="utf-8")
        checksums[VOCABULARY] = checksum(path)

    def write_config(path: Path) -> None:
        head = {"format": kind.format, "version": kind.version, "sha256": checksums}
        path.write_text(json_text({**head, **config}), encoding="utf-8")

    write_together(folder, {WEIGHTS: write_weights, VOCABULARY: write_vocabulary, CONFIG: write_config})


def _safetensor_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError


def read_config(folder: Path, kind: Kind) -> Entries:
    """config.json of a whole folder. Raises `StoreError` if it is missing, foreign, of another version or damaged."""
    path = folder / CONFIG
    if not path.is_file():
        raise StoreError(
            f"{folder}: not a folder of a {kind.noun}, {CONFIG} is missing; make one with the {kind.command} command"
        )
    config = read_json(path)
    if config.get("format") != kind.format:
        raise StoreError(f"{path}: expected format {kind.format!r} but found {config.get('format')!r}")
    if config.get("version") != kind.version:
        raise StoreError(
            f"{path}: format version {config.get('version')!r} is not the one this program reads ({kind.version}); "
            f"use the fused_lstm it was written with, or make it again with the {kind.command} command"
        )
    entries = Entries(path, config)
    checksums = entries.take("sha256", dict)
    for name in (WEIGHTS, VOCABULARY):
        if checksum(folder / name) != checksums.get(name):
            raise StoreError(
                f"{folder / name}: does not belong to {CONFIG} or is damaged; make both again with the "
                f"{kind.command} command"
            )
    return entries


class Entries:
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
                "make the model again"
            )
        return value

    def sizes(self, of: type[Sizes]) -> Sizes:
        """The dataclass ``of`` from the entry "model"."""
        inner = Entries(self._path, self.take("model", dict))
        types = {"int": int, "float": float, "bool": bool, "str": str}
        return of(**{f.name: inner.take(f.name, types[f.type]) for f in fields(of)})


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """The vocabulary of a model that knows ``size`` tokens. Raises `StoreError`."""
    state = read_json(folder / VOCABULARY)
    try:
        vocabulary = vocabulary_from_state(state)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{folder / VOCABULARY}: {error}") from error
    if len(vocabulary) != size:
        raise StoreError(
            f"{folder / VOCABULARY}: lists {len(vocabulary)} tokens, the model expects {size}"
        )
    return vocabulary


def load_weights(path: Path, network: nn.Module) -> None:
    """Weights into a model that has tensors of the same names and shapes. Raises `StoreError`."""
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
