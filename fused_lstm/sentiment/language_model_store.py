"""The folder of a language model: files as those of a classifier's, under another format name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .language_model import LanguageModel, LanguageModelConfig
from .store import (
    CONFIG,
    VOCABULARY,
    WEIGHTS,
    Entries,
    StoreError,
    checksum,
    load_weights,
    read_json,
    read_vocabulary,
    require_safetensors,
    write_atomically,
    write_json,
)
from .tokens import Vocabulary
from .vocabularies import vocabulary_state

FORMAT, VERSION = "fused_lstm.sentiment.language_model", 1


@dataclass
class StoredLanguageModel:
    """A language model ready for use; ``max_length`` as the texts were cut for it, ``digest`` a hash of its weights."""

    network: LanguageModel
    vocabulary: Vocabulary
    max_length: int
    digest: str


def prepare_language_model_folder(folder: Path) -> None:
    """Makes the folder; refuses one that holds something else. Raises `StoreError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made: {error.strerror}") from error
    if (folder / CONFIG).exists() and read_json(folder / CONFIG).get("format") != FORMAT:
        raise StoreError(f"{folder}: holds something that is no language model; choose another folder with --output")


def save_language_model(
    folder: Path, network: LanguageModel, vocabulary: Vocabulary, max_length: int, record: dict[str, Any]
) -> None:
    """Writes the three files; ``record`` says how it was trained, and on what."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(folder / WEIGHTS, lambda path: require_safetensors().save_file(weights, path))
    write_json(folder / VOCABULARY, vocabulary_state(vocabulary))
    config = {
        "format": FORMAT,
        "version": VERSION,
        "sha256": {name: checksum(folder / name) for name in (WEIGHTS, VOCABULARY)},
        "model": asdict(network.config),
        "max_length": max_length,
        "record": record,
    }
    write_json(folder / CONFIG, config)


def load_language_model(folder: Path, backend: str = "fused") -> StoredLanguageModel:
    """Raises `StoreError` if the folder is missing, foreign, incomplete or damaged."""
    if not (folder / CONFIG).is_file():
        raise StoreError(f"{folder}: no language model, {CONFIG} is missing; make one with the pretrain command")
    config = read_json(folder / CONFIG)
    if (config.get("format"), config.get("version")) != (FORMAT, VERSION):
        raise StoreError(
            f"{folder / CONFIG}: expected format {FORMAT!r} version {VERSION} but found "
            f"{config.get('format')!r} version {config.get('version')!r}; make one with the pretrain command"
        )
    entries = Entries(folder / CONFIG, config)
    sums = entries.take("sha256", dict)
    for name in (WEIGHTS, VOCABULARY):
        if checksum(folder / name) != sums.get(name):
            raise StoreError(f"{folder / name}: does not belong to {CONFIG} or is damaged; pretrain again")
    sizes = Entries(folder / CONFIG, entries.take("model", dict))
    types = {"int": int, "float": float, "bool": bool, "str": str}
    values = {f.name: sizes.take(f.name, types[f.type]) for f in fields(LanguageModelConfig)}
    network = LanguageModel(LanguageModelConfig(**values), backend)
    load_weights(folder / WEIGHTS, network)
    vocabulary = read_vocabulary(folder, network.config.vocabulary)
    return StoredLanguageModel(network.eval(), vocabulary, entries.take("max_length", int), sums[WEIGHTS])
