"""csrc/cpu/vec-inl.h: exp, sigmoid and tanh of every ISA against a wider type."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from native_module import DTYPES, ISAS, kernels

from fused_lstm._library import build_info

NAMES = ["exp", "sigmoid", "tanh"]
MAX_ULPS = 4
# where a formula changes its mind: ends of exp's range, where results turn denormal, where tanh and sigmoid are flat
BORDERS = {
    "float32": [0.0, 0.34657359, 9.0, 10.0, 16.6, 17.4, 87.33, 88.72, 89.0, 103.2, 103.97, 104.0, 150.0],
    "float64": [0.0, 0.34657359, 19.0, 20.0, 36.7, 37.5, 708.3, 709.78, 710.0, 744.4, 745.13, 746.0, 1100.0],
}


@functools.cache
def inputs(dtype: str) -> np.ndarray:
    """float32: every 509th finite bit pattern, denormals included; float64: random of every magnitude."""
    random = np.random.default_rng(20)
    if dtype == "float32":
        dense = np.arange(0, 2**32, 509, dtype=np.uint64).astype(np.uint32).view(np.float32)
    else:
        dense = [random.uniform(-reach, reach, 200_000) for reach in (1, 25, 750)]
        dense.append(random.choice([-1, 1], 200_000) * 2.0 ** random.uniform(-1074, 1024, 200_000))
        dense = np.concatenate(dense)
    ulps = np.arange(-300, 301)
    near = [
        np.array(sign * b, dtype) + ulps * np.spacing(np.array(b, dtype)) for b in BORDERS[dtype] for sign in (1, -1)
    ]
    x = np.concatenate([dense[np.isfinite(dense)], *near])
    return x.astype(dtype)


@functools.cache
def expected(name: str, dtype: str) -> np.ndarray:
    x = inputs(dtype).astype(np.float64 if dtype == "float32" else np.longdouble)
    with np.errstate(all="ignore"):
        if name == "exp":
            return np.exp(x)
        if name == "tanh":
            return np.tanh(x)
        e = np.exp(-np.abs(x))
        return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def ulps(actual: np.ndarray, exact: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        nearest = exact.astype(actual.dtype)
        finite = np.isfinite(nearest)
        error = np.abs(actual[finite].astype(exact.dtype) - exact[finite]) / np.spacing(np.abs(nearest[finite]))
    assert (actual[~finite] == nearest[~finite]).all(), "too large for the type: must be infinite"
    return error.astype(np.float64)


def test_the_wider_type_is_wider():
    assert np.finfo(np.longdouble).nmant >= 63


@pytest.mark.skipif(
    build_info["build"] != "release",
    reason="without -O2 products and sums are not contracted to FMA: precision is a property of the release build",
)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_error_in_ulps(isa, dtype, name):
    x = inputs(dtype)
    actual = getattr(kernels(isa, dtype), name)(x)
    error = ulps(actual, expected(name, dtype))
    assert error.max() <= MAX_ULPS, f"{error.max():.1f} ulps; see x near {x[np.nanargmax(error)]}"
    assert not np.isnan(error).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_ends_and_special_values(isa, dtype):
    k = kernels(isa, dtype)
    x = inputs(dtype)
    sigmoid, tanh = k.sigmoid(x), k.tanh(x)
    assert sigmoid.min() == 0 and sigmoid.max() == 1
    assert tanh.min() == -1 and tanh.max() == 1
    # from here on the nearest value is the limit itself
    digits = np.finfo(dtype).nmant + 2
    assert (tanh[x > digits / 2 + 1] == 1).all() and (tanh[x < -digits / 2 - 1] == -1).all()
    assert (sigmoid[x > digits] == 1).all() and (sigmoid[x < {"float32": -104, "float64": -746}[dtype]] == 0).all()
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan], dtype)
    np.testing.assert_array_equal(k.exp(special), np.array([1, 1, np.inf, 0, np.nan, np.nan], dtype))
    np.testing.assert_array_equal(k.sigmoid(special), np.array([0.5, 0.5, 1, 0, np.nan, np.nan], dtype))
    np.testing.assert_array_equal(k.tanh(special), np.array([0, 0, 1, -1, np.nan, np.nan], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_tanh_is_odd(isa, dtype):
    x = inputs(dtype)
    tanh = kernels(isa, dtype).tanh
    np.testing.assert_array_equal(tanh(-x), -tanh(x))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_a_lane_does_not_know_its_neighbours(isa, dtype, name):
    function = getattr(kernels(isa, dtype), name)
    x = np.linspace(-9, 9, 41).astype(dtype)
    each = np.concatenate([function(x[i : i + 1]) for i in range(len(x))])
    for n in range(len(x) + 1):
        np.testing.assert_array_equal(function(x[:n].copy()), each[:n])
    x[::2] = np.nan
    np.testing.assert_array_equal(function(x)[1::2], each[1::2])
