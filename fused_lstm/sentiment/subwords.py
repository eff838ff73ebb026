"""Byte-pair encoding, trained on the data: frequent words become one token, rare ones several.

A piece that begins a word bears a mark in front. Chinese and Japanese runs are merged too, so that frequent words of
two or three characters become tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from .errors import UserError
from .tokens import APOSTROPHES, IDEOGRAPH, PAD, UNKNOWN, UNKNOWN_ID, Vocabulary, both_ends

MARK = "\u2581"
_LETTER, _DIGIT = f"[[\\p{{L}}\\p{{M}}_]&&[^{IDEOGRAPH}]]", "\\p{N}"
_PRETOKEN = f"[{IDEOGRAPH}]+|{MARK}?{_LETTER}+(?:'{_LETTER}+)*|{MARK}?{_DIGIT}+|[^{_LETTER}{_DIGIT}{MARK}\\s]"
_CHUNK = 1000


class TokenizersMissing(UserError):
    """The library tokenizers is not installed."""


class Pieces(Vocabulary):
    """A `Vocabulary` of pieces; ``state`` is the tokenizer.json of the library tokenizers."""

    kind = "bpe"

    def __init__(self, state: dict[str, Any]) -> None:
        library = _library()
        try:
            numbers = sorted((number, piece) for piece, number in state["model"]["vocab"].items())
            self._tokenizer = library.Tokenizer.from_str(json.dumps(state))
        except Exception as error:  # the library raises bare Exceptions
            raise ValueError(f"not a tokenizer that can be read: {error}") from error
        if [number for number, _ in numbers] != list(range(len(numbers))) or numbers[:2] != [(0, PAD), (1, UNKNOWN)]:
            raise ValueError(f"pieces must be numbered from 0 without a gap, {PAD} and {UNKNOWN} first")
        super().__init__([piece for _, piece in numbers[UNKNOWN_ID + 1 :]])
        self.state = state

    @classmethod
    def learn(cls, texts: Iterable[str], min_count: int, max_size: int) -> Pieces:
        """Merges the most frequent neighbours until there are ``max_size`` pieces or none seen ``min_count`` times."""
        library = _library()
        parts = library.normalizers, library.pre_tokenizers
        tokenizer = library.Tokenizer(library.models.BPE(unk_token=UNKNOWN, fuse_unk=True))
        tokenizer.normalizer = _normalizer(parts[0], library.Regex)
        tokenizer.pre_tokenizer = parts[1].Split(library.Regex(_PRETOKEN), "removed", invert=True)
        trainer = library.trainers.BpeTrainer(
            vocab_size=max_size,
            min_frequency=max(2, min_count),
            limit_alphabet=max(2, max_size // 2),
            special_tokens=[PAD, UNKNOWN],
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        state = json.loads(tokenizer.to_str())
        state["added_tokens"] = []  # or a text that holds "<pad>" would contain padding
        return cls(state)

    def tokens(self, text: str) -> list[str]:
        return self._tokenizer.encode(text).tokens

    def encode_texts(self, texts: Iterable[str], max_length: int | None = None) -> Iterator[list[int]]:
        texts = iter(texts)
        while chunk := list(islice(texts, _CHUNK)):
            for encoding in self._tokenizer.encode_batch(chunk):
                yield list(both_ends(encoding.ids, max_length)) or [UNKNOWN_ID]


def _normalizer(normalizers: Any, regex: Any) -> Any:
    """Composed, lowercased, straight apostrophes; a mark where a space was, and in front."""
    return normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Lowercase(),
            *(normalizers.Replace(character, "'") for character in APOSTROPHES),
            normalizers.Replace(regex(r"\s+"), MARK),
            normalizers.Prepend(MARK),
        ]
    )


def _library() -> Any:
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.normalizers
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise TokenizersMissing(
            'byte-pair encoding needs the library tokenizers: pip install "fused_lstm[sentiment]"; '
            "or choose --tokenizer word or char"
        ) from error
    return tokenizers
