"""The learning rate over a run, as a share of its peak: functions of the step, so that there is no state to keep."""

from __future__ import annotations

import math

SCHEDULES = ("linear", "cosine", "one-cycle", "constant")


def rate_at(schedule: str, step: int, total: int, warmup: float) -> float:
    """The share of the peak rate at ``step`` (from 0) of ``total``.

    All but "one-cycle" rise linearly over the first ``warmup`` share of the steps, then fall to 0 ("constant": stay).
    "one-cycle" (Smith 2018) rises on a cosine from 1/25 and falls to 1/10,000; without ``warmup`` it takes 0.3.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)} but is {schedule!r}")
    if schedule == "one-cycle":
        return _one_cycle(step, total, warmup or 0.3)
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, total - rising)
    if schedule == "linear":
        return 1 - done
    return _cosine(1.0, 0.0, done) if schedule == "cosine" else 1.0


def _one_cycle(step: int, total: int, warmup: float) -> float:
    peak = max(1, round(warmup * total))
    if step < peak:
        return _cosine(1 / 25, 1.0, step / peak)
    return _cosine(1.0, 1e-4, (step - peak) / max(1, total - peak))


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
