"""Averages of weights against their definitions."""

from __future__ import annotations

import torch

from fused_lstm.sentiment.averaging import Average


def run(decay, values):
    parameter = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    average = Average([parameter], decay)
    for value in values:
        parameter.data.fill_(value)
        average.update()
    return parameter, average


def test_plain_mean():
    _, average = run(None, [1.0, 2.0, 6.0])
    torch.testing.assert_close(average.values[0], torch.full((2,), 3.0, dtype=torch.float64))


def test_exponential_mean_starts_plain():
    _, average = run(0.5, [1.0, 3.0, 8.0])
    torch.testing.assert_close(average.values[0], torch.full((2,), 5.0, dtype=torch.float64))  # ((1+3)/2 + 8) / 2


def test_swap_and_swap_back():
    parameter, average = run(None, [1.0, 2.0])
    average.swap()
    assert (parameter.tolist(), average.values[0].tolist()) == ([1.5, 1.5], [2, 2])
    average.swap()
    assert (parameter.tolist(), average.values[0].tolist()) == ([2, 2], [1.5, 1.5])


def test_goes_on_where_it_was():
    parameter, average = run(None, [1.0, 2.0])
    again = Average([parameter])
    again.restore(*average.state())
    parameter.data.fill_(6)
    again.update()
    torch.testing.assert_close(again.values[0], torch.full((2,), 3.0, dtype=torch.float64))
