"""Text to tokens to numbers.

Words of alphabetic scripts are lowercased and kept whole with their inner apostrophes; ideographs and kana, which no
space divides, give one token a character; every other visible character is a token of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .settings import at_least, setting

PAD, UNKNOWN = "<pad>", "<unk>"
PAD_ID, UNKNOWN_ID = 0, 1

# Kana, ideographs with their extensions and compatibility forms. Hangul is left to \w: Korean puts spaces.
_IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LETTER = f"[^\\W{_IDEOGRAPH}]"
_TOKEN = re.compile(
    f"[{_IDEOGRAPH}]"
    f"|\\d+(?:[.,:]\\d+)*(?!{_LETTER})"  # 3.5 and 10,000 stay whole; 3d is a word
    f"|{_LETTER}+(?:'{_LETTER}+)*"  # don't, n't
    f"|'(?:s|m|d|re|ve|ll)(?!{_LETTER})"  # the clitic of text that is already split: it 's
    r"|[^\w\s]"
)
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u02bc": "'", "\uff07": "'"})


@dataclass(frozen=True)
class TokenOptions:
    """Words."""

    min_count: int = setting(2, "rarer words are unknown", at_least(1))
    max_vocabulary: int = setting(50_000, "most frequent words kept", at_least(1))
    max_length: int = setting(512, "longer texts keep both ends (tokens)", at_least(1))


def tokenize(text: str) -> list[str]:
    """The tokens of a text; empty for a text of nothing but space."""
    composed = unicodedata.normalize("NFC", text).lower().translate(_APOSTROPHES)
    return _TOKEN.findall(composed)


class Vocabulary:
    """Tokens and their numbers; 0 is padding, 1 stands for every token not listed.

    ``words`` are the known tokens in the order of their numbers, without the two special ones.
    """

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

    def __len__(self) -> int:
        """How many numbers there are, the two special ones included."""
        return len(self.words) + UNKNOWN_ID + 1

    def __contains__(self, token: str) -> bool:
        return token in self._number

    def encode(self, tokens: Sequence[str], max_length: int | None = None) -> list[int]:
        """The numbers of the tokens, never none: a text without tokens counts as one unknown.

        A text longer than ``max_length`` keeps its two ends, where opinions are usually summed up.
        """
        if max_length is not None and len(tokens) > max_length:
            head = max_length // 2
            tokens = [*tokens[:head], *tokens[len(tokens) - (max_length - head) :]]
        return [self._number.get(token, UNKNOWN_ID) for token in tokens] or [UNKNOWN_ID]
