"""csrc/cpu/outer.cpp: sums of outer products against float64, and the same bits for every number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from native_module import DTYPES, ISAS, kernels, load

# rows, columns of the left operand, columns of the right operands; the depth of a block is 512 floats, 256 doubles
SHAPES = [
    (0, 5, [3]),
    (1, 1, [1]),
    (5, 64, [17, 3]),
    (256, 33, [0, 20]),
    (511, 16, [129]),
    (513, 300, [65, 1]),
    (1300, 63, [40, 64]),
    (40, 145, []),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_outer_sum(isa, dtype, shape):
    n, m, widths = shape
    table, random = kernels(isa, dtype), np.random.default_rng(6)
    left = random.standard_normal((n, m)).astype(dtype)
    rights = [random.standard_normal((n, width)).astype(dtype) for width in widths]
    present = random.random(m) < 0.9
    found = []
    for members in (1, 2, 3):
        c = [np.full((m, width), np.nan, dtype) for width in widths]
        load().outer_sum(table, left, rights, c, present.tolist(), members)
        found.append(c)
    u = np.finfo(dtype).eps / 2
    wide = np.longdouble if dtype == "float64" else np.float64
    for right, *results in zip(rights, *found, strict=True):
        exact = left.T.astype(wide) @ right.astype(wide)
        size = np.abs(left.T.astype(wide)) @ np.abs(right.astype(wide))
        assert np.isnan(results[0][~present]).all(), "rows that exist as padding only"
        # 5 standard deviations of n roundings (Higham & Mary 2019)
        assert (np.abs(results[0] - exact) <= 5 * np.sqrt(n + 1) * u * size)[present].all()
        for other in results[1:]:
            np.testing.assert_array_equal(results[0], other)
