"""csrc/cpu/panels.cpp and the pack_* kernels: numbers land where the micro-kernel looks for them, padding is zero."""

from __future__ import annotations

import numpy as np
import pytest
from native_module import DTYPES, ISAS, kernels, load

HIDDEN = [1, 2, 7, 8, 16, 17, 33, 63, 64, 129]


def numbered(rows: int, columns: int, dtype: str) -> np.ndarray:
    """No two entries alike, none zero."""
    return np.arange(1, rows * columns + 1, dtype=dtype).reshape(rows, columns)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_gate_layout(isa, dtype):
    table = kernels(isa, dtype)
    lanes = table.lanes
    for hidden in HIDDEN:
        columns, rows = load().gate_layout(table, hidden)
        groups = [range(begin, min(begin + lanes, hidden)) for begin in range(0, hidden, lanes)]
        assert rows == [gate * hidden + unit for group in groups for gate in range(4) for unit in group]
        assert [rows[j] for j in columns] == list(range(4 * hidden))


@pytest.mark.parametrize("members", [1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_gate_panels(isa, dtype, members):
    table = kernels(isa, dtype)
    for hidden in HIDDEN:
        _, rows = load().gate_layout(table, hidden)
        for k in (1, 5, 16, 37):
            weight = numbered(4 * hidden, k, dtype)
            panels = load().packed(table, "gates", weight, members)
            everything = np.concatenate(panels, 1)
            np.testing.assert_array_equal(everything[:, : 4 * hidden], weight[rows].T)
            assert (everything[:, 4 * hidden :] == 0).all()
            assert everything.shape[1] - 4 * hidden < table.lanes


@pytest.mark.parametrize("members", [1, 2, 3])
@pytest.mark.parametrize("way", ["transpose", "straight"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_other_panels(isa, dtype, way, members):
    table = kernels(isa, dtype)
    for rows, columns in [(1, 1), (5, 3), (16, 16), (17, 64), (65, 33), (129, 70), (40, 257)]:
        weight = numbered(rows, columns, dtype)
        panels = load().packed(table, way, weight, members)
        assert all(panel.shape[1] % table.lanes == 0 and panel.shape[1] <= 4 * table.lanes for panel in panels)
        everything = np.concatenate(panels, 1)
        expected = weight.T if way == "transpose" else weight
        np.testing.assert_array_equal(everything[:, : expected.shape[1]], expected)
        assert (everything[:, expected.shape[1] :] == 0).all()
        assert everything.shape[1] - expected.shape[1] < table.lanes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_pack_transposed_writes_its_columns_only(isa, dtype):
    table = kernels(isa, dtype)
    lanes = table.lanes
    for valid in range(1, lanes + 1):
        for k in (0, 1, lanes - 1, lanes, 2 * lanes + 3):
            weight = numbered(valid, k, dtype)
            to = np.full((k, lanes + 9), np.nan, dtype)
            table.pack_transposed(weight, valid, to, 4)
            np.testing.assert_array_equal(to[:, 4 : 4 + valid], weight.T)
            assert (to[:, 4 + valid : 4 + lanes] == 0).all()
            assert np.isnan(to[:, :4]).all() and np.isnan(to[:, 4 + lanes :]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_pack_rows(isa, dtype):
    table = kernels(isa, dtype)
    lanes = table.lanes
    rows = numbered(5, 4 * lanes + 9, dtype)
    for valid in range(1, 4 * lanes + 1):
        width = -(-valid // lanes) * lanes
        to = np.full((5, width), np.nan, dtype)
        table.pack_rows(rows, 2, valid, to)
        np.testing.assert_array_equal(to[:, :valid], rows[:, 2 : 2 + valid])
        assert (to[:, valid:] == 0).all()


def tiles(n: int, most: int) -> list[int]:
    """Near equal numbers that add up to n, none above `most`, and as few of them as can be."""
    count = -(-n // most)
    return [n // count + (i < n % count) for i in range(count)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_pack_columns(isa, dtype):
    table = kernels(isa, dtype)
    for k in (1, 8, 33):
        rows = numbered(k, 60, dtype)
        for m in range(1, 45):
            flat = table.pack_columns(rows, 7, m)
            at = 7
            for size in tiles(m, table.row_tile):
                block, flat = flat[: k * size], flat[k * size :]
                np.testing.assert_array_equal(block.reshape(k, size), rows[:, at : at + size])
                at += size
            assert len(flat) == 0
