"""Which text goes to train, dev or test: decided by a hash of the text, so equal texts stay together and adding rows
never moves the others."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from .examples import DataError, Example
from .tokens import tokenize

BUCKETS = 10
TRAIN, DEV, TEST = "train", "dev", "test"


def normalised(text: str) -> str:
    """The form in which two texts count as equal: compatibility forms, case and spacing are ironed out."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def token_bag(text: str) -> str:
    """The form in which twins of the embedded corpus count as equal: the tokens in sorted order."""
    return " ".join(sorted(tokenize(text)))


def split(
    examples: Sequence[Example], parts: Sequence[str], key: Callable[[str], str] = normalised
) -> dict[str, list[Example]]:
    """Deals examples to ``parts``, each a tenth of the hash range, the first part taking all that is left over.

    Texts with the same ``key`` go to the same part. Every part gets at least one text; `DataError` if there are fewer
    different texts than parts.
    """
    keys = [key(example.text) for example in examples]
    ranks = {k: _hash(k) for k in set(keys)}
    part_of = {k: _part(rank, parts) for k, rank in ranks.items()}
    _fill_empty(part_of, ranks, parts)
    dealt: dict[str, list[Example]] = {part: [] for part in parts}
    for example, k in zip(examples, keys):
        dealt[part_of[k]].append(example)
    return dealt


def leaked(train: Iterable[Example], held_out: Iterable[Example]) -> int:
    """How many held-out examples have a text that also occurs in ``train``."""
    known = {normalised(example.text) for example in train}
    return sum(normalised(example.text) in known for example in held_out)


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _part(rank: int, parts: Sequence[str]) -> str:
    bucket = rank % BUCKETS
    return parts[bucket] if 0 < bucket < len(parts) else parts[0]


def _fill_empty(part_of: dict[str, str], ranks: dict[str, int], parts: Sequence[str]) -> None:
    """A handful of texts may leave a part empty: it then takes the first text, by hash, of the fullest part."""
    if len(part_of) < len(parts):
        raise DataError(
            f"{len(part_of)} different text(s) cannot be divided into {', '.join(parts)}; give at least {len(parts)}"
        )
    for part in parts:
        if part in part_of.values():
            continue
        members = {p: [k for k in part_of if part_of[k] == p] for p in parts}
        fullest = max(members.values(), key=len)
        part_of[min(fullest, key=lambda k: (ranks[k], k))] = part
