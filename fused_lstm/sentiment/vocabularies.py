"""A vocabulary of any kind from texts, and from and to tokenizer.json, which the library tokenizers reads as well."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .subwords import Pieces
from .tokens import APOSTROPHES, IDEOGRAPH, PAD, UNKNOWN, Characters, TokenOptions, Vocabulary, word_pattern

# Python's \w and \s in the dialect of that library. Python alone counts the four separators as space.
_WORD, _SPACE = r"\p{L}\p{N}_", r"\s\x1c-\x1f"
_PATTERNS = {
    "word": word_pattern(f"[[{_WORD}]&&[^{IDEOGRAPH}]]", r"\p{Nd}", f"[^{_WORD}{_SPACE}]"),
    "char": r"[\s\S]",
}
_CLASSES = {"word": Vocabulary, "char": Characters}


def learn_vocabulary(texts: Iterable[str], options: TokenOptions) -> Vocabulary:
    """The vocabulary of training texts, which are read once."""
    if options.tokenizer == "bpe":
        return Pieces.learn(texts, options.min_count, options.most)
    kind = _CLASSES[options.tokenizer]
    return kind.build((kind.tokens(text) for text in texts), options.min_count, options.most)


def vocabulary_state(vocabulary: Vocabulary) -> dict[str, Any]:
    """What tokenizer.json holds."""
    if isinstance(vocabulary, Pieces):
        return vocabulary.state
    words = [PAD, UNKNOWN, *vocabulary.words]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(vocabulary.kind)},
        "pre_tokenizer": _split(vocabulary.kind),
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(words)},
            "unk_token": UNKNOWN,
        },
    }


def vocabulary_from_state(state: dict[str, Any]) -> Vocabulary:
    """The vocabulary that `vocabulary_state` described. Raises ValueError for tokenizers of other programs."""
    model = state.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        raise ValueError("expected a tokenizer with a model and its vocabulary")
    if model.get("type") == "BPE":
        return Pieces(state)
    kind = next((kind for kind in _PATTERNS if state.get("pre_tokenizer") == _split(kind)), None)
    if kind is None:
        raise ValueError("divides texts in a way that this program does not know; train the model again")
    words, numbers = list(model["vocab"]), list(model["vocab"].values())
    if numbers != list(range(len(numbers))) or words[:2] != [PAD, UNKNOWN]:
        raise ValueError(f"tokens must be numbered from 0 without a gap, {PAD} and {UNKNOWN} first")
    return _CLASSES[kind](words[2:])


def _split(kind: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": _PATTERNS[kind]}, "behavior": "Removed", "invert": True}


def _normalizers(kind: str) -> list[dict[str, Any]]:
    straight = [{"type": "Replace", "pattern": {"String": c}, "content": "'"} for c in APOSTROPHES]
    common = [{"type": "NFC"}, {"type": "Lowercase"}, *straight]
    if kind == "word":
        return common
    single = {"type": "Replace", "pattern": {"Regex": f"[{_SPACE}]+"}, "content": " "}
    return [*common, single, {"type": "Strip", "strip_left": True, "strip_right": True}]
