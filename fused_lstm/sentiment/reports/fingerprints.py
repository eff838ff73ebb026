"""Hashes that say whether two runs have seen the same texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ..examples import Example

_KEY_LENGTH = 16


def text_key(text: str) -> str:
    """16 hexadecimal digits that stand for a text where the text itself must not."""
    return _digest(text).hex()[:_KEY_LENGTH]


def fingerprint(examples: Iterable[Example]) -> str:
    """SHA-256 over labels and texts, whatever their order: the same rows, the same digits."""
    rows = sorted(_digest(f"{example.label}\0{example.text}") for example in examples)
    return hashlib.sha256(b"".join(rows)).hexdigest()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
