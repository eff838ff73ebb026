"""Classifiers in their folders."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .model import ModelConfig, SentimentClassifier
from .model_folder import CONFIG, WEIGHTS, Kind, load_weights, read_config, read_vocabulary, write_model
from .stored_files import StoreError
from .tokens import Vocabulary

CLASSIFIER = Kind("fused_lstm.sentiment", 3, "classifier", "train")


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


def save(folder: Path, network: SentimentClassifier, vocabulary: Vocabulary, settings: ModelSettings) -> None:
    """Writes the folder, replacing an earlier model."""
    write_model(folder, CLASSIFIER, network, vocabulary, asdict(settings))


def load(folder: Path, backend: str = "fused") -> StoredModel:
    """Reads a model folder. Raises `StoreError` if it is missing, foreign, newer, incomplete or damaged."""
    settings = _read_settings(folder)
    vocabulary = read_vocabulary(folder, settings.model.vocabulary)
    try:
        network = SentimentClassifier(settings.model, backend)
    except (ValueError, RuntimeError) as error:
        raise StoreError(f"{folder / CONFIG}: no model can be made from it: {error}") from error
    load_weights(folder / WEIGHTS, network)
    return StoredModel(network.eval(), vocabulary, settings)


def _read_settings(folder: Path) -> ModelSettings:
    entries = read_config(folder, CLASSIFIER)
    settings = ModelSettings(
        model=entries.sizes(ModelConfig),
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
