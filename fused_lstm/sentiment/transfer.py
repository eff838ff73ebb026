"""From a language model to the start of a classifier (Howard & Ruder 2018)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .language_model import LanguageModelConfig
from .language_model_store import StoredLanguageModel
from .model import ModelConfig, SentimentClassifier
from .settings import setting


@dataclass(frozen=True)
class TransferOptions:
    """Language model."""

    init_from: str | None = setting(
        None,
        "start from this language model (pretrain): its tokens, sizes and direction count, not those set here; "
        "goes well with --pooling concat --unfreeze --layer-decay 2.6",
        metavar="FOLDER",
    )


def as_classifier(config: ModelConfig, source: LanguageModelConfig) -> ModelConfig:
    """``config`` with the encoder of ``source``; rates of dropout stay its own."""
    return replace(
        config,
        vocabulary=source.vocabulary,
        embedding=source.embedding,
        hidden=source.hidden,
        layers=source.layers,
        last_hidden=source.embedding,
        bidirectional=False,
        backwards=source.backwards,
    )


def take_encoder(model: SentimentClassifier, source: StoredLanguageModel) -> None:
    """Word vectors and LSTM layers of the language model into the classifier."""
    model.encoder.load_state_dict(source.network.encoder.state_dict())
