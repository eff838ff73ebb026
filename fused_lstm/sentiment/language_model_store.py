"""Language models in their folders."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .language_model import LanguageModel, LanguageModelConfig
from .model_folder import WEIGHTS, Kind, load_weights, read_config, read_vocabulary, write_model
from .tokens import Vocabulary

LANGUAGE_MODEL = Kind("fused_lstm.sentiment.language_model", 1, "language model", "pretrain")


@dataclass
class StoredLanguageModel:
    """A language model ready for use; ``max_length`` as the texts were cut for it, ``digest`` a hash of its weights."""

    network: LanguageModel
    vocabulary: Vocabulary
    max_length: int
    digest: str


def save_language_model(
    folder: Path, network: LanguageModel, vocabulary: Vocabulary, max_length: int, record: dict[str, Any]
) -> None:
    """Writes the folder; ``record`` says how the model was trained, and on what."""
    config = {"model": asdict(network.config), "max_length": max_length, "record": record}
    write_model(folder, LANGUAGE_MODEL, network, vocabulary, config)


def load_language_model(folder: Path, backend: str = "fused") -> StoredLanguageModel:
    """Raises `StoreError` if the folder is missing, foreign, incomplete or damaged."""
    entries = read_config(folder, LANGUAGE_MODEL)
    network = LanguageModel(entries.sizes(LanguageModelConfig), backend)
    load_weights(folder / WEIGHTS, network)
    vocabulary = read_vocabulary(folder, network.config.vocabulary)
    digest = entries.take("sha256", dict)[WEIGHTS]
    return StoredLanguageModel(network.eval(), vocabulary, entries.take("max_length", int), digest)
