"""csrc/cpu/round.cpp: 16-bit floating point against torch's, all patterns and all kinds of float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from native_module import load

DTYPES = ["bfloat16", "float16"]
PATTERNS = np.arange(2**16, dtype=np.uint32).astype(np.uint16)


def torch_widened(dtype: str) -> np.ndarray:
    return torch.from_numpy(PATTERNS.view(np.int16).copy()).view(getattr(torch, dtype)).float().numpy()


def torch_narrowed(dtype: str, x: np.ndarray) -> np.ndarray:
    return torch.from_numpy(x.copy()).to(getattr(torch, dtype)).view(torch.int16).numpy().view(np.uint16)


def interesting_floats(dtype: str) -> np.ndarray:
    """Every 16-bit value, every middle between two of them, the floats next to those middles, and random bits."""
    values = np.sort(torch_widened(dtype)[: 0x7F80 if dtype == "bfloat16" else 0x7C00])
    with np.errstate(over="ignore"):
        last_step = values[-1] - values[-2]
        ends = np.append(values[1:], np.float32(min(float(values[-1]) + float(last_step), np.finfo(np.float32).max)))
    middles = ((values.astype(np.float64) + ends) / 2).astype(np.float32)
    near = [np.nextafter(middles, np.float32(direction)) for direction in (-np.inf, np.inf)]
    positive = np.concatenate([values, middles, *near, [np.inf]])
    bits = np.random.default_rng(3).integers(0, 2**32, 1_000_000, dtype=np.uint64).astype(np.uint32)
    return np.concatenate([positive.astype(np.float32), -positive.astype(np.float32), bits.view(np.float32)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_widening_every_pattern(dtype):
    actual, expected = load().widen(dtype, PATTERNS), torch_widened(dtype)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(actual[numbers].view(np.uint32), expected[numbers].view(np.uint32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_narrowing(dtype):
    x = interesting_floats(dtype)
    actual, expected = load().narrow(dtype, x), torch_narrowed(dtype, x)
    numbers = ~np.isnan(x)
    wrong = np.flatnonzero(actual[numbers] != expected[numbers])
    assert not len(wrong), f"{x[numbers][wrong[0]]!r} became {actual[numbers][wrong[0]]:#06x}"
    assert np.isnan(load().widen(dtype, actual[~numbers])).all()
    assert (~numbers).any() and np.isinf(x).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_in_place_is_narrowing_and_widening(dtype):
    x = interesting_floats(dtype)
    expected = load().widen(dtype, load().narrow(dtype, x))
    load().round_to(dtype, x)
    np.testing.assert_array_equal(x, expected)


def test_rounding_to_float32_does_nothing():
    bits = np.random.default_rng(4).integers(0, 2**32, 1000, dtype=np.uint64).astype(np.uint32)
    x = bits.copy().view(np.float32)
    for dtype in ("float32", "float64"):
        load().round_to(dtype, x)
    np.testing.assert_array_equal(x.view(np.uint32), bits)
