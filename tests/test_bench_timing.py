"""benchmarks: statistics, races, clocks. Noise is simulated, so that what should be found is known."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from benchmarks import clocks, timing
from benchmarks.clocks import CpuClock
from benchmarks.stats import CONFIDENCE, interval
from benchmarks.timing import FEWEST_ROUNDS, FIRST_LOOK, WITHIN, narrow, race


class FakeClock:
    """Time that passes by a script: each call of a name takes what its distribution draws."""

    def __init__(self, costs):
        self.costs, self.time, self.disturbed, self.busy = costs, 0.0, False, lambda: False

    def calls(self, call):
        return 1

    def sample(self, call, calls):
        self.disturbed = self.busy()
        taken = self.costs[call()]()
        self.time += taken
        return taken

    def now(self):
        return self.time


def run(costs, seconds=1e9, **more):
    clock = FakeClock(costs)
    for key, value in more.items():
        setattr(clock, key, value)
    rivals = {name: (lambda name=name: name) for name in costs if name}
    return race(lambda: "", rivals, clock, seconds=seconds, now=clock.now), clock


# ---- the interval


def test_interval_counts_values_on_either_side():
    assert interval(range(5)) == (-math.inf, math.inf)  # 2 / 2**5 = 6 %: no interval of 96 % exists
    assert interval([6, 1, 2, 3, 4, 5]) == (1, 6)
    assert interval(range(100), 0.95) == (39, 60)  # as in tables of the sign test
    assert interval(range(100), 0.99) == (36, 63)


@pytest.mark.parametrize("sigma, heavy", [(0.02, 0.0), (0.05, 0.0), (0.05, 0.5)], ids=["quiet", "noisy", "heavy tails"])
def test_after_all_looks_the_interval_still_holds_95_percent(sigma, heavy):
    """The promise of CONFIDENCE: stopping when narrow does not cost more than what is above 95 %."""
    dice = random.Random(1)

    def ratio():
        return math.exp(dice.gauss(0, heavy if heavy and dice.random() < 0.2 else sigma))

    trials, hits = 1500, 0
    for _ in range(trials):
        values, look = [], FIRST_LOOK
        while True:
            values += [ratio() for _ in range(look - len(values))]
            low, high = interval(values)
            if narrow(sorted(values)[len(values) // 2], low, high) or look > 400:
                break
            look = int(look * timing.LOOK_GROWTH)
        hits += low <= 1 <= high
    assert CONFIDENCE == 0.96 and hits / trials > 0.94  # 0.95 less two standard errors


# ---- races


def test_a_steady_ratio_ends_at_the_first_look():
    found, _ = run({"": lambda: 1.0, "a": lambda: 2.0, "b": lambda: 0.5})
    assert {name: duel.ratio for name, duel in found.items()} == {"a": 2.0, "b": 0.5}
    assert all(duel.rounds == FIRST_LOOK and not duel.noisy for duel in found.values())
    assert (found["a"].seconds, found["a"].ours, found["a"].best_ours) == (2.0, 1.0, 1.0)


def test_noise_makes_rounds_and_only_for_the_rival_that_has_it():
    dice = random.Random(2)
    found, _ = run({"": lambda: 1.0, "steady": lambda: 3.0, "noisy": lambda: math.exp(dice.gauss(0, 0.05))})
    assert found["steady"].rounds == FIRST_LOOK < found["noisy"].rounds
    duel = found["noisy"]
    assert not duel.noisy and (1 - WITHIN) * duel.ratio <= duel.low < 1 < duel.high <= (1 + WITHIN) * duel.ratio


def test_within_3_percent_means_either_side():
    assert narrow(1.0, 0.97, 1.03) and narrow(2.0, 1.95, 2.05)
    assert not narrow(1.0, 0.95, 1.0) and not narrow(1.0, 0.99, 1.04) and not narrow(1.0, -math.inf, math.inf)


def test_time_up_is_said_as_noise():
    dice = random.Random(3)
    found, clock = run({"": lambda: 1.0, "a": lambda: dice.uniform(1, 9)}, seconds=60)
    assert found["a"].noisy and FIRST_LOOK <= found["a"].rounds < 20 and clock.time < 80


def test_rounds_that_take_seconds_are_fewer_but_enough_for_an_interval():
    found, _ = run({"": lambda: 10.0, "a": lambda: 20.0}, seconds=1)
    assert found["a"].rounds == FEWEST_ROUNDS and found["a"].ratio == 2 and not found["a"].noisy


def test_disturbed_rounds_do_not_count():
    turn = iter(range(10**9))
    slow = {"": lambda: 1.0, "a": lambda: 2.0}
    found, clock = run(slow, busy=lambda: next(turn) % 8 == 0)
    assert found["a"].ratio == 2 and found["a"].disturbed > 0


def test_a_machine_that_is_always_busy_gives_no_interval():
    found, _ = run({"": lambda: 1.0, "a": lambda: 2.0}, busy=lambda: True, seconds=100)
    duel = found["a"]
    assert duel.noisy and duel.low == -math.inf and duel.ratio == 2 and duel.disturbed == duel.rounds


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_everybody_runs_behind_everybody_else_equally_often(n):
    blocks = 2 * n * (n - 1)  # rounds after which all is even
    rounds = [timing.turns(number, n) for number in range(blocks)]
    assert all(sorted(order) == list(range(n)) for order in rounds)
    within = Counter(pair for order in rounds for pair in zip(order, order[1:]))
    assert len(within) == n * (n - 1) and len(set(within.values())) == 1
    assert set(Counter(order[0] for order in rounds).values()) == {blocks // n}


@pytest.mark.parametrize("rivals", ["ab", "abc"])
def test_no_rival_runs_before_ours_more_often_than_another(rivals):
    """Of all calls in a row, across rounds too."""
    order, dice = [], random.Random(4)
    clock = FakeClock({name: (lambda: math.exp(dice.gauss(0, 0.5))) for name in ("", *rivals)})

    def named(name):
        return lambda: order.append(name) or name

    race(named(""), {name: named(name) for name in rivals}, clock, seconds=1e9, now=clock.now, rounds=12)
    before = Counter(a for a, b in zip(order, order[1:]) if b == "")
    counts = [before[name] for name in rivals]
    assert len(order) == 12 * (1 + len(rivals)) and max(counts) - min(counts) <= 1 and before[""] <= 2


@pytest.mark.parametrize("after", [0, 4])
def test_a_rival_that_raises_is_out_and_the_others_go_on(after):
    left = [after]

    def fails():
        left[0] -= 1
        if left[0] < 0:
            raise MemoryError("3 GiB")
        return 2.0

    found, _ = run({"": lambda: 1.0, "a": fails, "b": lambda: 0.5})
    assert isinstance(found["a"], MemoryError) and found["b"].ratio == 0.5 and found["b"].rounds == FIRST_LOOK
    with pytest.raises(MemoryError):
        left[0] = after
        run({"": fails, "a": lambda: 1.0})


def test_a_rival_that_raises_at_its_first_call_is_out_too():
    class Warming(FakeClock):
        def calls(self, call):
            return call() and 1

    clock = Warming({"": lambda: 1.0, "a": lambda: 2.0})
    found = race(lambda: "", {"a": lambda: "a", "b": lambda: 1 / 0}, clock, seconds=1e9, now=clock.now)
    assert found["a"].ratio == 2.0 and isinstance(found["b"], ZeroDivisionError)


def test_everybody_goes_first_in_turn():
    order = []
    clock = FakeClock({name: lambda: 1.0 for name in ("", "a", "b")})

    def named(name):
        return lambda: order.append(name) or name

    race(named(""), {"a": named("a"), "b": named("b")}, clock, seconds=1e9, now=clock.now)
    assert {order[3 * i] for i in range(3)} == {"", "a", "b"} == set(order[:3])


# ---- clocks


def test_clocks_by_number_of_threads():
    assert CpuClock(1).kind == "CPU time of the thread" and CpuClock(2).kind == "wall"
    assert CpuClock(1, own_threads=True).kind == "CPU time of the process"


@pytest.mark.parametrize("takes, calls", [(1e-4, 120), (1e-2, 1), (5.0, 1)])
def test_samples_last_long_enough(takes, calls):
    clock, time = CpuClock(1), [0.0]

    def call():
        time[0] += takes

    clock.now = lambda: time[0]
    assert clock.calls(call) == pytest.approx(calls, abs=1)
    assert clock.sample(call, 10) == pytest.approx(takes) and not clock.disturbed


def test_waiting_for_a_core_is_read_from_the_kernel(tmp_path, monkeypatch):
    for thread, text in (("1", "5 2000000000 7"), ("2", "1 500000000 1"), ("3", "gone")):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(text)
    assert clocks.waiting_seconds(tmp_path) == 2.5
    waits = iter([0.0, 0.0, 0.0, 9.0])
    monkeypatch.setattr(clocks, "waiting_seconds", lambda: next(waits))
    clock = CpuClock(2)
    clock.sample(lambda: None, 1)
    assert not clock.disturbed
    clock.sample(lambda: None, 1)
    assert clock.disturbed
