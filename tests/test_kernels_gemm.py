"""csrc/cpu/gemm-inl.h and the products of csrc/cpu/panels.cpp against float64, for every shape of a tile."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from native_module import DTYPES, ISAS, kernels, load

DEPTHS = [0, 1, 2, 3, 5, 17, 64, 255, 512, 1100]


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def assert_product(actual: np.ndarray, a: np.ndarray, b: np.ndarray, start: np.ndarray | float = 0.0) -> None:
    """actual = start + a b, with the error of k multiplications and additions, whatever their order.

    Roundings are independent enough for errors of size u to add up like a random walk (Higham & Mary 2019): 5 standard
    deviations of it are 5 sqrt(k) u times what the sum would be if nothing cancelled.
    """
    u = np.finfo(actual.dtype).eps / 2
    wide = [np.asarray(t, np.longdouble if actual.dtype == np.float64 else np.float64) for t in (a, b, start)]
    exact = wide[2] + wide[0] @ wide[1]
    size = np.abs(wide[2]) + np.abs(wide[0]) @ np.abs(wide[1])
    error = np.abs(actual - exact)
    assert (error <= 5 * np.sqrt(a.shape[-1] + 2) * u * size).all()


def framed(random: np.random.Generator, rows: int, begin: int, columns: int, dtype: str) -> np.ndarray:
    """Numbers in columns [begin, begin + columns), NaN on both sides."""
    full = np.full((rows, begin + columns + 37), np.nan, dtype)
    full[:, begin : begin + columns] = random.standard_normal((rows, columns))
    return full


def assert_frame_untouched(full: np.ndarray, begin: int, columns: int) -> None:
    assert np.isnan(full[:, :begin]).all() and np.isnan(full[:, begin + columns :]).all(), "written out of bounds"
    assert not np.isnan(full[:, begin : begin + columns]).any(), "not written, or out of bounds read"


@pytest.mark.parametrize("vectors", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_gemm(isa, dtype, vectors, random):
    table = kernels(isa, dtype)
    width = vectors * table.lanes
    for n, k in [*itertools.product(range(1, 14), (7, 130)), *itertools.product((1, 4, 13), DEPTHS)]:
        a_begin, c_begin = random.integers(0, 9, 2)
        valid = int(random.integers(width - table.lanes + 1, width + 1))
        a = framed(random, n, a_begin, k, dtype)
        panel = random.standard_normal((k, width)).astype(dtype)
        numbers = a[:, a_begin : a_begin + k], panel[:, :valid]

        bias = random.standard_normal(width).astype(dtype)
        for start in (None, bias):
            c = np.full((n, c_begin + valid + 37), np.nan, dtype)
            table.gemm(a, a_begin, panel, start, False, c, c_begin, valid)
            assert_frame_untouched(c, c_begin, valid)
            assert_product(c[:, c_begin : c_begin + valid], *numbers, 0.0 if start is None else start[:valid])

        c = framed(random, n, c_begin, valid, dtype)
        before = c[:, c_begin : c_begin + valid].copy()
        table.gemm(a, a_begin, panel, None, True, c, c_begin, valid)
        assert_frame_untouched(c, c_begin, valid)
        assert_product(c[:, c_begin : c_begin + valid], *numbers, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_a_row_does_not_depend_on_the_rows_of_its_tile(isa, dtype, random):
    table = kernels(isa, dtype)
    width = 4 * table.lanes
    a, panel = random.standard_normal((13, 70)).astype(dtype), random.standard_normal((70, width)).astype(dtype)

    def product(rows: np.ndarray) -> np.ndarray:
        c = np.empty((len(rows), width), dtype)
        table.gemm(rows.copy(), 0, panel, None, False, c, 0, width)
        return c

    alone = np.concatenate([product(row[None]) for row in a])
    for n in range(1, 14):
        np.testing.assert_array_equal(product(a[:n]), alone[:n])


@pytest.mark.parametrize("vectors", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_gemm_packed(isa, dtype, vectors, random):
    table = kernels(isa, dtype)
    width = vectors * table.lanes
    for m, k in [*itertools.product(range(1, 14), (6, 129)), *itertools.product((1, 5, 40), DEPTHS)]:
        begin, c_begin = (int(i) for i in random.integers(0, 9, 2))
        valid = int(random.integers(width - table.lanes + 1, width + 1))
        left = framed(random, k, begin, m, dtype)
        panel = random.standard_normal((k, width)).astype(dtype)
        numbers = left[:, begin : begin + m].T, panel[:, :valid]
        present = random.random(m) < 0.8
        for accumulate in (False, True):
            c = framed(random, m, c_begin, valid, dtype)
            before = c.copy()
            table.gemm_packed(left, begin, m, panel, accumulate, c, present.tolist(), c_begin, valid)
            np.testing.assert_array_equal(c[~present], before[~present])
            assert_frame_untouched(c, c_begin, valid)
            start = before[:, c_begin : c_begin + valid][present] if accumulate else 0.0
            assert_product(c[present, c_begin : c_begin + valid], numbers[0][present], numbers[1], start)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_dot4(isa, dtype, accumulate, random):
    table = kernels(isa, dtype)
    columns = [3, 11, 4, 0]
    for n, k in itertools.product((1, 2, 12), [*range(0, 4 * table.lanes + 2), 100, 255, 1100]):
        a, w = random.standard_normal((n, k)).astype(dtype), random.standard_normal((4, k)).astype(dtype)
        c = random.standard_normal((n, 14)).astype(dtype)
        before = c.copy()
        table.dot4(a, w, c, columns, accumulate)
        assert_product(c[:, columns], a, w.T, before[:, columns] if accumulate else 0.0)
        others = np.setdiff1d(np.arange(14), columns)
        np.testing.assert_array_equal(c[:, others], before[:, others])


@pytest.mark.parametrize("mode", ["write", "bias", "accumulate", "whole vectors"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_multiply_in_blocks(isa, dtype, mode, random):
    table = kernels(isa, dtype)
    width = 4 * table.lanes
    for n, k, columns in [(1, 0, 5), (3, 1, 1), (97, 17, 63), (200, 513, 129), (2, 1100, 65), (193, 70, 16)]:
        panels = -(-columns // width)
        first = int(random.integers(0, panels))
        begin, end = first * width, columns
        a_begin, c_begin = 3, 5
        a = framed(random, n, a_begin, k, dtype)
        weight = random.standard_normal((columns, k)).astype(dtype)
        bias = None
        if mode == "bias":  # readable up to the end of the last vector
            bias = np.zeros(panels * width, dtype)
            bias[:columns] = random.standard_normal(columns)
        written = -(-columns // table.lanes) * table.lanes if mode == "whole vectors" else columns
        c = framed(random, n, c_begin + begin, written - begin, dtype)
        before = c.copy()
        load().multiply(
            table, a, a_begin, weight, bias, mode == "accumulate", c, c_begin, (first, panels), mode == "whole vectors"
        )
        product = a[:, a_begin : a_begin + k], weight[begin:end].T
        start = {"bias": bias[begin:end]} if bias is not None else {}
        start |= {"accumulate": before[:, c_begin + begin : c_begin + end]} if mode == "accumulate" else {}
        assert_product(c[:, c_begin + begin : c_begin + end], *product, start.get(mode, 0.0))
        if k > 0:
            assert (c[:, c_begin + end : c_begin + written] == 0).all()
            assert_frame_untouched(c, c_begin + begin, written - begin)
