"""The embedded corpus: order-sensitive bilingual sentences from the grammar, the same everywhere for the same seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .examples import Example
from .grammar import COMPOSED, TWINS, Construction, plain
from .lexicon import LEXICONS
from .settings import at_least, setting, share
from .splitmix import SplitMix64

NAME = "embedded corpus"
POSITIVE, NEGATIVE = "positive", "negative"
SIZE, COMPOSED_SIZE, SEED = 8000, 1000, 7
EASY_SHARE = 0.25
LANGUAGES = ("both", "en", "zh")

# Streams of one user seed that must not repeat one another.
_COMPOSED_STREAM, _NOISE_STREAM = 0x5EED_C0DE, 0x0FF_0FF


@dataclass(frozen=True)
class CorpusOptions:
    """Embedded corpus (without --data)."""

    corpus_size: int = setting(SIZE, "sentences", at_least(20))
    corpus_seed: int = setting(SEED, "other sentences")
    language: str = setting("both", "English, Chinese or both", choices=LANGUAGES)
    noise: float = setting(0.0, "flip each label with probability P", share, metavar="P")


def generate(size: int = SIZE, seed: int = SEED, language: str = "both") -> list[Example]:
    """``size`` different texts, a quarter of them easy, the others twin pairs standing next to each other."""
    return _draw(size, SplitMix64(seed), language, TWINS, EASY_SHARE)


def compose(size: int = COMPOSED_SIZE, seed: int = SEED, language: str = "both") -> list[Example]:
    """The harder test: twin pairs of three clauses or nested operators, none of which `generate` ever makes."""
    return _draw(size, SplitMix64(seed ^ _COMPOSED_STREAM), language, COMPOSED, 0.0)


def with_noise(examples: Sequence[Example], probability: float, seed: int = SEED) -> list[Example]:
    """Each label turned into its opposite with the given probability; no model can then exceed 1 - probability."""
    stream = SplitMix64(seed ^ _NOISE_STREAM)
    flip = {POSITIVE: NEGATIVE, NEGATIVE: POSITIVE}
    return [e._replace(label=flip[e.label]) if stream.chance(probability) else e for e in examples]


def _draw(
    size: int, stream: SplitMix64, language: str, twins: Mapping[str, Construction], easy_share: float
) -> list[Example]:
    names = list(twins)
    lexicons = [LEXICONS["en"], LEXICONS["zh"]] if language == "both" else [LEXICONS[language]]
    # A draw of an easy sentence yields one text, a draw of twins two; this is the share of draws, not of texts.
    easy_draws = 2 * easy_share / (1 + easy_share)
    examples: list[Example] = []
    seen: set[str] = set()
    while len(examples) < size:
        lexicon = stream.choice(lexicons)
        # One free place left cannot hold a pair.
        is_easy = stream.chance(easy_draws) or size - len(examples) == 1
        kind = "easy" if is_easy else stream.choice(names)
        sentences = plain(stream, lexicon) if is_easy else twins[kind](stream, lexicon)
        if any(sentence.text in seen for sentence in sentences):
            continue
        seen.update(sentence.text for sentence in sentences)
        examples.extend(Example(POSITIVE if s.positive else NEGATIVE, s.text, kind) for s in sentences)
    return examples
