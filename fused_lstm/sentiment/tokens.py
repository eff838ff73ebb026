"""Text to tokens to numbers: words or characters.

Words of alphabetic scripts are lowercased and kept whole with their inner apostrophes; ideographs and kana, which no
space divides, give one token a character; every other visible character is a token of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .settings import at_least, setting

PAD, UNKNOWN = "<pad>", "<unk>"
PAD_ID, UNKNOWN_ID = 0, 1
TOKENIZERS = ("word", "char", "bpe")
# Beyond these, a vocabulary of the kind costs memory and finds little that it did not know.
MOST = {"word": 50_000, "char": 10_000, "bpe": 16_000}

# Kana, ideographs with their extensions and compatibility forms. Hangul is left to the letters: Korean puts spaces.
IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
APOSTROPHES = "\u2019\u02bc\uff07"


def word_pattern(letter: str, digit: str, other: str) -> str:
    """The regular expression of a word token, given how a dialect writes a letter, a digit and neither."""
    return (
        f"[{IDEOGRAPH}]"
        f"|{digit}+(?:[.,:]{digit}+)*(?!{letter})"  # 3.5 and 10,000 stay whole; 3d is a word
        f"|{letter}+(?:'{letter}+)*"  # don't, n't
        f"|'(?:s|m|d|re|ve|ll)(?!{letter})"  # the clitic of text that is already split: it 's
        f"|{other}"
    )


_TOKEN = re.compile(word_pattern(f"[^\\W{IDEOGRAPH}]", r"\d", r"[^\w\s]"))
_STRAIGHT = str.maketrans(dict.fromkeys(APOSTROPHES, "'"))


@dataclass(frozen=True)
class TokenOptions:
    """Tokens."""

    tokenizer: str = setting("word", "what a token is: words, characters or byte-pair pieces", choices=TOKENIZERS)
    min_count: int = setting(2, "rarer tokens are unknown", at_least(1))
    max_vocabulary: int | None = setting(
        None, f"most frequent tokens kept: {MOST['word']:,} words, {MOST['char']:,} characters, {MOST['bpe']:,} pieces",
        at_least(10),
    )
    max_length: int = setting(0, "longer texts keep both ends (tokens); 0: whole texts", at_least(0))

    @property
    def most(self) -> int:
        return self.max_vocabulary or MOST[self.tokenizer]


def tokenize(text: str) -> list[str]:
    """The words of a text; empty for a text of nothing but space."""
    return _TOKEN.findall(_composed(text))


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower().translate(_STRAIGHT)


class Vocabulary:
    """Words and their numbers; 0 is padding, 1 stands for every token not listed.

    ``words`` are the known tokens in the order of their numbers, without the two special ones.
    """

    kind = "word"

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self._number = {word: number for number, word in enumerate(self.words, start=UNKNOWN_ID + 1)}
        if len(self._number) != len(self.words):
            raise ValueError("a vocabulary must not list a word twice")
        if PAD in self._number or UNKNOWN in self._number:
            raise ValueError(f"{PAD} and {UNKNOWN} are reserved and must not be listed in a vocabulary")

    @classmethod
    def build(cls, token_lists: Iterable[Sequence[str]], min_count: int = 1, max_size: int = 50_000) -> Vocabulary:
        """Counts tokens; keeps those seen ``min_count`` times, at most ``max_size``, most frequent first."""
        counts: Counter[str] = Counter()
        for tokens in token_lists:
            counts.update(tokens)
        frequent = [(count, word) for word, count in counts.items() if count >= min_count]
        frequent.sort(key=lambda pair: (-pair[0], pair[1]))
        return cls([word for _, word in frequent[:max_size]])

    @staticmethod
    def tokens(text: str) -> list[str]:
        """The tokens of a text, as this vocabulary divides it."""
        return tokenize(text)

    def __len__(self) -> int:
        """How many numbers there are, the two special ones included."""
        return len(self.words) + UNKNOWN_ID + 1

    def __contains__(self, token: str) -> bool:
        return token in self._number

    def encode(self, tokens: Sequence[str], max_length: int | None = None) -> list[int]:
        """The numbers of the tokens, never none: a text without tokens counts as one unknown.

        With a ``max_length``, a longer text keeps its two ends, where opinions are usually summed up.
        """
        return [self._number.get(token, UNKNOWN_ID) for token in both_ends(tokens, max_length)] or [UNKNOWN_ID]

    def encode_texts(self, texts: Iterable[str], max_length: int | None = None) -> Iterator[list[int]]:
        """The numbers of each text."""
        return (self.encode(self.tokens(text), max_length) for text in texts)


class Characters(Vocabulary):
    """The same for single characters of lowercased text; space counts, but only once in a row."""

    kind = "char"

    @staticmethod
    def tokens(text: str) -> list[str]:
        return list(" ".join(_composed(text).split()))


def both_ends(tokens: Sequence[str], max_length: int | None) -> Sequence[str]:
    """``tokens``, or the first and last ``max_length`` of them. None and 0: all."""
    if not max_length or len(tokens) <= max_length:
        return tokens
    head = max_length // 2
    return [*tokens[:head], *tokens[len(tokens) - (max_length - head) :]]
