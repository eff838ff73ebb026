"""What a user can set about a run, beside the data, and the values that suit a data set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .training import TrainSettings

MANY_TEXTS = 40_000


@dataclass(frozen=True)
class RunOptions:
    """Model, training and report of one run. ``threads`` None: torch's own choice."""

    embedding: int = 128
    hidden: int = 128
    layers: int = 1
    bidirectional: bool = True
    pooling: str = "max"
    dropout: float = 0.5
    embedding_dropout: float = 0.3
    word_dropout: float = 0.1
    min_count: int = 2
    max_vocabulary: int = 50_000
    max_length: int = 512
    training: TrainSettings = TrainSettings()
    lstm: str = "fused"
    threads: int | None = None
    baseline: bool = True
    baseline_order: int = 2
    plots: bool = True

    def flat(self) -> dict[str, Any]:
        """All settings by name, those of training among them."""
        settings = asdict(self)
        training = settings.pop("training")
        return settings | training


# Chosen on dev parts: a small model for the embedded corpus, large batches for many texts. The small model is quickest
# on one thread, and one thread gives everyone the same bits.
EMBEDDED = RunOptions(
    embedding=48,
    hidden=48,
    dropout=0.2,
    embedding_dropout=0.1,
    word_dropout=0.02,
    min_count=1,
    training=TrainSettings(epochs=5, batch_size=32, lr=5e-3),
    threads=1,
    baseline_order=4,
)
FEW = RunOptions(
    embedding=200,
    hidden=200,
    dropout=0.6,
    embedding_dropout=0.5,
    word_dropout=0.05,
    training=TrainSettings(epochs=6),
)
MANY = RunOptions(training=TrainSettings(epochs=4, batch_size=128))


def defaults_for(embedded: bool, train_size: int) -> RunOptions:
    """The settings for the embedded corpus, or for ``train_size`` training texts of a user."""
    if embedded:
        return EMBEDDED
    return MANY if train_size >= MANY_TEXTS else FEW


def _word(value: Any) -> str:
    if value is None:
        return "all"
    return f"{value:g}" if isinstance(value, float) else str(value)


def describe_defaults() -> str:
    """The defaults in one paragraph, those that differ in the order of `EMBEDDED`, `FEW`, `MANY`."""
    same, different = [], []
    for name, embedded in EMBEDDED.flat().items():
        values = [embedded, FEW.flat()[name], MANY.flat()[name]]
        if isinstance(embedded, bool) or name == "lstm":
            continue
        words = [_word(value) for value in values]
        target = same if len(set(words)) == 1 else different
        target.append(f"{name.replace('_', '-')} {' / '.join(dict.fromkeys(words) if target is same else words)}")
    return (
        f"Defaults: {', '.join(same)}.\n"
        f"For the embedded corpus / below / from {MANY_TEXTS:,} training texts on: {', '.join(different)}."
    )
