"""Rates over a run, by their corners."""

from __future__ import annotations

import pytest

from fused_lstm.sentiment.schedules import SCHEDULES, rate_at


def rates(schedule, total=100, warmup=0.0):
    return [rate_at(schedule, step, total, warmup) for step in range(total)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rises_to_the_peak_and_never_again(schedule):
    values = rates(schedule, warmup=0.2)
    peak = values.index(max(values))
    assert max(values) == 1
    assert peak == (20 if schedule == "one-cycle" else 19)
    assert values[:peak] == sorted(values[:peak])
    assert values[peak:] == sorted(values[peak:], reverse=True)


def test_corners():
    assert rates("linear", 4) == [1, 0.75, 0.5, 0.25]
    assert rates("constant", 4) == [1, 1, 1, 1]
    assert rates("cosine", 4)[2] == pytest.approx(0.5)
    assert rates("one-cycle")[0] == pytest.approx(1 / 25)
    assert rates("one-cycle")[-1] == pytest.approx(1e-4, rel=6)
    assert rates("one-cycle", 1) == [pytest.approx(1 / 25)]
    assert rates("linear", 4, warmup=0.5) == [0.5, 1, 1, 0.5]
    with pytest.raises(ValueError, match="schedule must be one of"):
        rate_at("up", 0, 1, 0)
