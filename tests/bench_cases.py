"""What tests of the benchmarks share: limits made up, and a bench that measures on the CPU."""

from __future__ import annotations

import pytest
import torch

from benchmarks import limits, measure

LIMITS = limits.Limits(1, {"float32": 100.0}, {"float32": 80.0}, 20.0, "made up")


@pytest.fixture(autouse=True)
def threads_as_before():
    """A measurement sets both for good."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.autograd.set_multithreading_enabled(True)


def bench(seconds=0.01, **more) -> measure.Bench:
    return measure.Bench("cpu", lambda threads, dtype: LIMITS, seconds, **more)
