"""A few sentences for which every run shows its predictions."""

from __future__ import annotations

from collections.abc import Sequence

from .datasets import Dataset
from .examples import Example
from .tokens import Vocabulary, tokenize

_SENTENCES = {
    "en": (
        "A warm and clever film, and the ending is a joy.",
        "Two hours of noise; I left before the end.",
        "It is not bad at all, I would see it again.",
    ),
    "zh": (
        "味道很好，送得也快，下次还点。",
        "等了两个小时，饭都凉了，太差了。",
        "一点也不难吃，我还会再来。",
    ),
}
_KNOWN_SHARE = 0.7
_TWIN_PAIRS = 2


def sample_texts(dataset: Dataset, vocabulary: Vocabulary) -> tuple[list[str], list[str]]:
    """Texts and their true labels ("" where there is none).

    Twins from the test part for the embedded corpus; elsewhere fixed sentences in the languages the vocabulary knows.
    """
    if dataset.embedded:
        examples = _twins(dataset.test)
        return [e.text for e in examples], [e.label for e in examples]
    texts = [
        text
        for sentences in _SENTENCES.values()
        if _known(" ".join(sentences), vocabulary) >= _KNOWN_SHARE
        for text in sentences
    ]
    return texts, [""] * len(texts)


def _known(text: str, vocabulary: Vocabulary) -> float:
    tokens = vocabulary.tokens(text)
    return sum(token in vocabulary for token in tokens) / len(tokens)


def _twins(examples: Sequence[Example]) -> list[Example]:
    """Neighbours of one construction and opposite labels, from English and from Chinese where both are there."""
    chosen: dict[bool, list[Example]] = {True: [], False: []}
    kinds: set[tuple[bool, str]] = set()
    for first, second in zip(examples, examples[1:]):
        english = first.text.isascii()
        if sorted(tokenize(first.text)) != sorted(tokenize(second.text)) or (english, first.kind) in kinds:
            continue
        if len(chosen[english]) < 2 * _TWIN_PAIRS:
            kinds.add((english, first.kind))
            chosen[english] += [first, second]
    return chosen[True] + chosen[False]
