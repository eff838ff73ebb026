"""Races: ours against rivals, in turn and in one process, until the ratio is known well enough or time is up.

A ratio is the median over rounds of (time of the rival / time of ours) within one round: what slows the machine down
for longer than a round hits both.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from .stats import interval

Call = Callable[[], object]
WITHIN = 0.03  # of the ratio: how far an interval that ends a race reaches on either side
FEWEST_ROUNDS, FIRST_LOOK, LOOK_GROWTH, MOST_ROUNDS = 6, 9, 1.5, 400


class Clock(Protocol):
    def calls(self, call: Call) -> int:
        """How many calls make one sample."""

    def sample(self, call: Call, calls: int) -> float:
        """Seconds of one call, the mean over so many. Sets ``disturbed`` if others kept it from running meanwhile."""

    disturbed: bool


@dataclass(frozen=True)
class Duel:
    """One rival against ours."""

    ratio: float
    low: float  # 95 % interval of the ratio, by order statistics
    high: float
    seconds: float  # medians, each on its own
    ours: float
    best_ours: float
    rounds: int
    disturbed: int = 0  # rounds left out because others used the cores; counted in if too few were left

    @property
    def noisy(self) -> bool:
        return not narrow(self.ratio, self.low, self.high)


def narrow(ratio: float, low: float, high: float) -> bool:
    """Whether the interval lies within 3 % of the ratio either way."""
    return low >= (1 - WITHIN) * ratio and high <= (1 + WITHIN) * ratio


@dataclass
class _Rival:
    call: Call
    calls: int
    times: list[tuple[float, float, bool]] = field(default_factory=list)  # theirs, ours, disturbed
    done: bool = False
    error: Exception | None = None  # what it raised: it is out of the race

    def duel(self) -> Duel:
        clean = [(a, b) for a, b, disturbed in self.times if not disturbed]
        busy = len(clean) < FEWEST_ROUNDS  # a number still, but not one to trust
        pairs = [(a, b) for a, b, _ in self.times] if busy else clean
        ratios = [a / b for a, b in pairs]
        theirs, ours = zip(*pairs)
        low, high = (-math.inf, math.inf) if busy else interval(ratios)
        return Duel(
            statistics.median(ratios), low, high, statistics.median(theirs), statistics.median(ours), min(ours),
            len(pairs), len(self.times) - len(clean),
        )  # fmt: skip


def race(
    ours: Call,
    rivals: Mapping[str, Call],
    clock_of: Clock | Mapping[str, Clock],
    *,
    seconds: float = 4.0,
    now: Callable[[], float],
    rounds: int = MOST_ROUNDS,
) -> dict[str, Duel | Exception]:
    """Each round times ours and every rival that is still open, in the order of ``turns``.

    ``seconds`` by ``now`` bound the race, but everybody runs FIRST_LOOK rounds, or FEWEST_ROUNDS where these
    take longer than that. ``clock_of`` names a clock for each rival, and for ours by the empty name. A rival that
    raises is out, its error in the place of a duel; what ours raises ends the race.
    """
    clock = (lambda name: clock_of[name]) if isinstance(clock_of, Mapping) else (lambda name: clock_of)
    start = now()
    our_calls = clock("").calls(ours)
    state = {name: _entered(call, clock(name)) for name, call in rivals.items()}
    look, done, begun = FIRST_LOOK, 0, now()
    while done < rounds and any(not rival.done for rival in state.values()):
        _round(done, ours, our_calls, state, clock)
        done += 1
        each, late = (now() - begun) / done, now() - start
        if done >= look:
            look = int(look * LOOK_GROWTH)
            for rival in state.values():
                rival.done = rival.done or not rival.duel().noisy
        if late + each > seconds and done >= (FEWEST_ROUNDS if each > seconds / FIRST_LOOK else FIRST_LOOK):
            break
    return {name: rival.error or rival.duel() for name, rival in state.items()}


def _entered(call: Call, clock: Clock) -> _Rival:
    try:
        return _Rival(call, clock.calls(call))
    except Exception as error:  # noqa: BLE001  (somebody else's code)
        return _Rival(call, 1, done=True, error=error)


def turns(number: int, n: int) -> list[int]:
    """The order of a round, 0 being ours. Who ran before somebody matters (caches, clock rates), so within a block of n
    rounds, 2n for odd n, everybody is the predecessor of everybody else equally often (Williams's design). What runs
    across the border of two rounds evens out over blocks, as the rivals trade places from one block to the next."""
    block, row = divmod(number, 2 * n if n % 2 else n)
    zigzag = [0, *((k + 1) // 2 if k % 2 else n - k // 2 for k in range(1, n))]
    if n % 2:
        row, mirrored = divmod(row, 2)
        zigzag = zigzag[::-1] if mirrored else zigzag
    order = [(k + row) % n for k in zigzag]
    return [1 + (k - 1 + block) % (n - 1) if k else 0 for k in order]


def _round(number: int, ours: Call, our_calls: int, state: dict[str, _Rival], clock: Callable[[str], Clock]) -> None:
    names = ["", *(name for name, rival in state.items() if not rival.done)]
    times, disturbed = {}, {}
    for name in (names[k] for k in turns(number, len(names))):
        call, calls = (ours, our_calls) if not name else (state[name].call, state[name].calls)
        try:
            times[name] = clock(name).sample(call, calls)
        except Exception as error:  # noqa: BLE001  (somebody else's code)
            if not name:
                raise
            state[name].done, state[name].error = True, error
        disturbed[name] = clock(name).disturbed
    for name in set(names[1:]) & set(times):
        state[name].times.append((times[name], times[""], disturbed[name] or disturbed[""]))
