"""SplitMix64: a 64-bit random stream that is the same on every machine and every Python version.

Formula: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")

_MASK = (1 << 64) - 1


class SplitMix64:
    """Deterministic source of choices. ``seed`` is any integer; only its low 64 bits count."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def next(self) -> int:
        """The next integer of the stream, uniform in [0, 2**64)."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, bound: int) -> int:
        """An integer in [0, bound). The modulo bias is below bound / 2**64, nothing for our short lists."""
        return self.next() % bound

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return (self.next() >> 11) * 2.0**-53 < probability

    def choice(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[self.below(len(items))]

    def sample(self, items: Sequence[Item], count: int) -> list[Item]:
        """``count`` items at different positions, in random order."""
        rest = list(items)
        return [rest.pop(self.below(len(rest))) for _ in range(count)]
