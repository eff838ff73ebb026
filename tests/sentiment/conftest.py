"""Shared by the tests of the sentiment application: one thread, small data on disk, a small stored model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fused_lstm.sentiment.examples import Example
from fused_lstm.sentiment.model import ModelConfig, SentimentClassifier
from fused_lstm.sentiment.splitmix import SplitMix64
from fused_lstm.sentiment.store import ModelSettings, StoredModel
from fused_lstm.sentiment.tokens import Vocabulary

GOOD, BAD = ("lovely", "sunny", "clever"), ("gloomy", "broken", "rude")
PLACES = ("kitchen", "garden", "cellar", "attic", "porch", "hall")


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def easy_examples(count: int, seed: int = 3) -> list[Example]:
    """Sentences whose label one word tells, lengths from 4 to 9 tokens, all different in their number word."""
    stream = SplitMix64(seed)
    examples = []
    for index in range(count):
        good = stream.chance(0.5)
        padding = " ".join(stream.choice(PLACES) for _ in range(stream.below(6)))
        text = f"a {stream.choice(GOOD if good else BAD)} {stream.choice(PLACES)} {padding} {index}"
        examples.append(Example("good" if good else "bad", " ".join(text.split())))
    return examples


@pytest.fixture
def easy_tsv(tmp_path: Path) -> Path:
    """240 of them in a file."""
    path = tmp_path / "easy.tsv"
    path.write_text("".join(f"{e.label}\t{e.text}\n" for e in easy_examples(240)), encoding="utf-8")
    return path


@pytest.fixture
def small_model() -> StoredModel:
    """Random weights, three classes, seven words."""
    vocabulary = Vocabulary(["good", "bad", "film", "好", "吃", ".", "!"])
    config = ModelConfig(vocabulary=len(vocabulary), classes=3, embedding=5, hidden=7)
    network = SentimentClassifier(config, "torch")
    network.initialise(torch.Generator().manual_seed(5))
    settings = ModelSettings(config, ("bad", "fair", "good"), 12, "a test", False, {"seed": 5})
    return StoredModel(network.eval(), vocabulary, settings)
