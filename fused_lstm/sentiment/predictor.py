"""From texts to labels with a stored model, and to what each token has to do with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from .attribution import attribute
from .batches import NumberedTexts
from .examples import Example
from .highlight import Piece, pieces
from .store import StoredModel
from .tokens import Vocabulary, both_ends
from .training import predict


class Prediction(NamedTuple):
    """``probabilities`` are in the order of the model's classes; ``known`` is the share of tokens in its vocabulary."""

    text: str
    label: str
    probability: float
    probabilities: tuple[float, ...]
    known: float


class Explanation(NamedTuple):
    """``weights``: what each of the ``tokens`` that the model has read adds to the ``score`` of its answer; ``pieces``:
    the text with weights from -1 to 1."""

    tokens: tuple[str, ...]
    weights: tuple[float, ...]
    score: float
    pieces: list[Piece]


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


def explain_texts(model: StoredModel, texts: Sequence[str], steps: int = 0) -> list[Explanation]:
    """What the tokens of each text add to its prediction; ``steps`` as in `attribution.attribute`."""
    if not texts:
        return []
    tokens = [both_ends(model.vocabulary.tokens(text), model.settings.max_length) for text in texts]
    attributions = attribute(model.network, [model.vocabulary.encode(t) for t in tokens], steps)
    return [
        # A text without tokens was read as one unknown word.
        Explanation(tuple(words), told.weights[: len(words)], told.score, pieces(text, words, told.weights))
        for text, words, told in zip(texts, tokens, attributions)
    ]


def _predict_block(model: StoredModel, texts: list[str]) -> Iterator[Prediction]:
    tokens = [model.vocabulary.tokens(text) for text in texts]
    encoded = [model.vocabulary.encode(t, model.settings.max_length) for t in tokens]
    probabilities = predict(model.network, NumberedTexts(encoded, [0] * len(encoded)))
    for text, words, row in zip(texts, tokens, probabilities.tolist()):
        best = max(range(len(row)), key=row.__getitem__)
        known = sum(word in model.vocabulary for word in words) / len(words) if words else 0.0
        yield Prediction(text, model.settings.classes[best], row[best], tuple(row), known)
