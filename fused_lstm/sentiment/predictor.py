"""From texts to labels with a stored model, and to what each token has to do with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from .attribution import attribute
from .batches import NumberedTexts
from .examples import Example
from .highlight import Piece, pieces
from .model import SentimentClassifier
from .order import rows_by_length
from .store import StoredModel
from .tokens import Vocabulary, both_ends
from .training import EVALUATION_BATCH, EVALUATION_TOKENS, predict


class Prediction(NamedTuple):
    """``probabilities`` are in the order of the model's classes; ``known`` is the share of tokens in its vocabulary;
    ``rating`` the number that a rating model predicts."""

    text: str
    label: str
    probability: float
    probabilities: tuple[float, ...]
    known: float
    rating: float | None = None


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


def predicts_ratings(network: SentimentClassifier) -> bool:
    """Whether labels are numbers to the model, which predicts one and then the label next to it."""
    return bool(getattr(network.config, "regression", False))


@torch.no_grad()
def predict_ratings(network: SentimentClassifier, texts: NumberedTexts, batch_size: int = EVALUATION_BATCH) -> Tensor:
    """The predicted numbers (N,) of a rating model, in evaluation mode; on the CPU."""
    device = next(network.parameters()).device
    result = torch.empty(len(texts))
    for rows in rows_by_length(texts.lengths, batch_size, EVALUATION_TOKENS):
        batch = texts.batch(rows)
        result[rows] = network(batch.tokens.to(device), batch.lengths.to(device), raw=True)[:, 0].float().cpu()
    return result


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
    numbered = NumberedTexts(encoded, [0] * len(encoded))
    probabilities = predict(model.network, numbered)
    rated = predicts_ratings(model.network)
    ratings = predict_ratings(model.network, numbered).tolist() if rated else [None] * len(texts)
    for text, words, row, rating in zip(texts, tokens, probabilities.tolist(), ratings):
        best = max(range(len(row)), key=row.__getitem__)
        known = sum(word in model.vocabulary for word in words) / len(words) if words else 0.0
        yield Prediction(text, model.settings.classes[best], row[best], tuple(row), known, rating)
