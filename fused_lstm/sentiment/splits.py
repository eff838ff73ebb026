"""Which text goes to train, dev or test: decided by a hash of the text, so equal texts stay together and adding rows
never moves the others."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .examples import DataError, Example
from .tokens import tokenize

BUCKETS = 10
TRAIN, DEV, TEST = "train", "dev", "test"
_LOWEST = -(1 << 63)


def normalised(text: str) -> str:
    """The form in which two texts count as equal: compatibility forms, case and spacing are ironed out."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def token_bag(text: str) -> str:
    """The form in which twins of the embedded corpus count as equal: the tokens in sorted order."""
    return " ".join(sorted(tokenize(text)))


def text_hash(text: str, key: Callable[[str], str] = normalised) -> int:
    """A signed number of 64 bits, the same for texts that count as equal."""
    digest = hashlib.sha256(key(text).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def split(
    examples: Sequence[Example], parts: Sequence[str], key: Callable[[str], str] = normalised
) -> dict[str, list[Example]]:
    """Deals examples to ``parts``, each a tenth of the hash range, the first part taking all that is left over.

    Texts with the same ``key`` go to the same part. Every part gets at least one text; `DataError` if there are fewer
    different texts than parts.
    """
    hashes = torch.tensor([text_hash(example.text, key) for example in examples], dtype=torch.int64)
    dealt: dict[str, list[Example]] = {part: [] for part in parts}
    for example, place in zip(examples, deal(hashes, parts).tolist()):
        dealt[parts[place]].append(example)
    return dealt


def deal(hashes: Tensor, parts: Sequence[str]) -> Tensor:
    """The place in ``parts`` of each row, by the hash of its text (N,); see `split`."""
    texts, rows = torch.unique(hashes, return_inverse=True)
    if len(texts) < len(parts):
        raise DataError(
            f"{len(texts)} different text(s) cannot be divided into {', '.join(parts)}; give at least {len(parts)}"
        )
    # As unsigned numbers: 2**64 leaves 6 when divided by 10.
    buckets = (texts.remainder(BUCKETS) + (1 << 64) % BUCKETS * (texts < 0)) % BUCKETS
    places = torch.where(buckets < len(parts), buckets, 0)
    for place in range(len(parts)):
        counts = torch.bincount(places, minlength=len(parts)).tolist()
        if counts[place] == 0:
            # A handful of texts: the part takes the first text, by hash, of the fullest one.
            fullest = torch.nonzero(places == counts.index(max(counts))).flatten()
            places[fullest[torch.argmin(texts[fullest] ^ _LOWEST)]] = place
    return places[rows]
