"""From texts to labels with a stored model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from .batches import NumberedTexts
from .examples import Example
from .store import StoredModel
from .tokens import Vocabulary
from .training import predict


class Prediction(NamedTuple):
    """``probabilities`` are in the order of the model's classes; ``known`` is the share of tokens in its vocabulary."""

    text: str
    label: str
    probability: float
    probabilities: tuple[float, ...]
    known: float


def number_examples(
    examples: Sequence[Example], vocabulary: Vocabulary, classes: Sequence[str], max_length: int
) -> NumberedTexts:
    """Labelled texts as the model takes them. Every label must be one of ``classes``."""
    numbers = {name: number for number, name in enumerate(classes)}
    return NumberedTexts(
        list(vocabulary.encode_texts((example.text for example in examples), max_length)),
        [numbers[example.label] for example in examples],
    )


def predict_texts(model: StoredModel, texts: Iterable[str], chunk: int = 256) -> Iterator[Prediction]:
    """One prediction per text, in order; reads ``chunk`` texts before it answers."""
    texts = iter(texts)
    while block := list(islice(texts, chunk)):
        yield from _predict_block(model, block)


def _predict_block(model: StoredModel, texts: list[str]) -> Iterator[Prediction]:
    tokens = [model.vocabulary.tokens(text) for text in texts]
    encoded = [model.vocabulary.encode(t, model.settings.max_length) for t in tokens]
    probabilities = predict(model.network, NumberedTexts(encoded, [0] * len(encoded)))
    for text, words, row in zip(texts, tokens, probabilities.tolist()):
        best = max(range(len(row)), key=row.__getitem__)
        known = sum(word in model.vocabulary for word in words) / len(words) if words else 0.0
        yield Prediction(text, model.settings.classes[best], row[best], tuple(row), known)
