"""Bytes that are not UTF-8, read as what they most likely are; and characters that no UTF-8 can hold."""

from __future__ import annotations

CHINESE, WESTERN = "gb18030", "latin-1"
# Of Chinese text nearly everything that is not ASCII belongs to the oldest set; of Latin-1 misread as Chinese little.
_COMMON_SHARE = 0.5


def decode_other(raw: bytes) -> tuple[str, str]:
    """The text and the name of its encoding, for bytes that are not UTF-8. Never fails: every byte is some character.

    Latin-1 stands for its superset Windows-1252 where that defines the bytes.
    """
    try:
        text = raw.decode(CHINESE)
    except UnicodeDecodeError:
        return _western(raw), WESTERN
    foreign = [character for character in text if not character.isascii()]
    common = sum(_in_gb2312(character) for character in foreign)
    if common >= _COMMON_SHARE * len(foreign):
        return text, CHINESE
    return _western(raw), WESTERN


def whole_characters(text: str) -> str:
    """The text with U+FFFD for halves of surrogate pairs, which JSON can express (a cut emoji) and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _western(raw: bytes) -> str:
    try:
        return raw.decode("cp1252")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _in_gb2312(character: str) -> bool:
    try:
        character.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return True
