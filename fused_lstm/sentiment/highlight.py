"""A text with its tokens' weights shown in place: as pieces for a page, in colours for a terminal."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from typing import IO

from .subwords import MARK
from .tokens import APOSTROPHES

Piece = tuple[str, float]

# Backgrounds of the 256 colours, weak to strong, that black text can be read on: blue speaks for, orange against.
_FOR, _AGAINST = (153, 117, 75), (223, 216, 208)
_STRONGEST = 5


def pieces(text: str, tokens: Sequence[str], weights: Sequence[float]) -> list[Piece]:
    """The whole text in pieces, each with its token's weight divided by the largest; 0 for what is between tokens.

    Tokens are found in their order, whatever the case; one that is not there is passed over.
    """
    shown = unicodedata.normalize("NFC", text)
    searched = "".join(map(_as_in_tokens, shown))
    scale = max((abs(weight) for weight in weights), default=0.0) or 1.0
    result: list[Piece] = []
    end = 0
    for token, weight in zip(tokens, weights):
        token = token.removeprefix(MARK)
        start = searched.find(token, end) if token else -1
        if start < 0:
            continue
        if start > end:
            result.append((shown[end:start], 0.0))
        end = start + len(token)
        result.append((shown[start:end], weight / scale))
    if end < len(shown):
        result.append((shown[end:], 0.0))
    return result


def _as_in_tokens(character: str) -> str:
    """One character as tokens have it. Places stay: of capitals that become two letters none is lowered."""
    if character.isspace():
        return " "
    if character in APOSTROPHES:
        return "'"
    lower = character.lower()
    return lower if len(lower) == 1 else character


def uses_colour(stream: IO[str]) -> bool:
    """Whether to colour what goes to ``stream``: a terminal that is not dumb, and no NO_COLOR (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(parts: Sequence[Piece]) -> str:
    """The text for a terminal, shaded by weight."""
    result = []
    for text, weight in parts:
        shades = _FOR if weight > 0 else _AGAINST
        level = round(abs(weight) * len(shades))
        # A background that reaches a line end would colour the rest of the line.
        result.append(f"\x1b[48;5;{shades[level - 1]};38;5;16m{text}\x1b[0m" if level else text)
    return "".join(result)


def strongest(tokens: Sequence[str], weights: Sequence[float]) -> str:
    """The tokens with the largest weights in words: ``lovely +2.31, not -0.80``."""
    order = sorted(range(len(weights)), key=lambda i: -abs(weights[i]))[:_STRONGEST]
    return ", ".join(f"{tokens[i]} {weights[i]:+.2f}" for i in order)
