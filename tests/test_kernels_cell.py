"""csrc/cell/variants.h on doubles against fused_lstm/cells.py, and csrc/cpu/cell-inl.h against the same."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from native_module import DTYPES, ISAS, kernels, load
from torch import Tensor

from fused_lstm.cells import CELLS as ALL_CELLS
from fused_lstm.cells import Cell

CELLS = [cell for cell in ALL_CELLS if cell.elementwise]  # the others have no kernel of their own
NAMES = [cell.name for cell in CELLS]
U64 = np.finfo(np.float64).eps / 2


def cell_of(name: str) -> Cell:
    return CELLS[NAMES.index(name)]


class Point:
    """Random arguments of n independent units, H = 1 each, and what torch makes of them in float64."""

    def __init__(self, cell: Cell, n: int, spread: float = 2.0) -> None:
        self.cell = cell
        self.a = spread * torch.randn(n, 4, dtype=torch.float64)
        self.c_prev, self.h_prev, self.dh, self.dc = torch.randn(4, n, dtype=torch.float64)
        self.params = torch.randn(cell.n_params, n, dtype=torch.float64)
        self.inputs = torch.rand(cell.n_inputs, n, dtype=torch.float64)

    def forward(self) -> tuple[Tensor, Tensor]:
        # units as rows of a batch: each has parameters of its own, which the batch axis of `step` cannot have
        results = [
            self.cell.step(
                self.a[k : k + 1], self.h_prev[k].view(1, 1), self.c_prev[k].view(1, 1), self.params[:, k : k + 1],
                self.inputs[:, k].view(1, -1, 1),
            )
            for k in range(len(self.c_prev))
        ]  # fmt: skip
        h, c = (torch.stack(part).flatten() for part in zip(*results, strict=True))
        return h, c

    def gradients(self) -> tuple[Tensor, ...]:
        sources = [self.a, self.c_prev, self.h_prev, self.params]
        for t in sources:
            t.requires_grad_()
        h, c = self.forward()
        found = torch.autograd.grad([h, c], sources, [self.dh, self.dc], allow_unused=True)
        for t in sources:
            t.requires_grad_(False)
        return tuple(torch.zeros_like(t) if g is None else g for t, g in zip(sources, found, strict=True))

    def scale(self) -> Tensor:
        """Above every factor that an error of an activation meets on its way to a gradient."""
        weight = 1 + self.params.abs().sum(0)
        return (self.dh.abs() + self.dc.abs() + 1) * (1 + self.c_prev.abs()) * weight**2


def test_the_lists_agree():
    facts = [(cell["name"], cell["params"], cell["inputs"], cell["reads_h_prev"]) for cell in load().cells]
    assert facts == [(cell.name, cell.n_params, cell.n_inputs, cell.reads_h_prev) for cell in CELLS]


def scalar_forward(point: Point, native: dict, k: int, **changed: float) -> dict:
    arguments = {
        "a": point.a[k].tolist(), "c_prev": point.c_prev[k].item(), "h_prev": point.h_prev[k].item(),
        "params": point.params[:, k].tolist(), "inputs": point.inputs[:, k].tolist(),
    }  # fmt: skip
    return native["forward"](**{**arguments, **changed})


def scalar_backward(point: Point, native: dict, k: int) -> dict:
    state = scalar_forward(point, native, k)
    return native["backward"](
        state["gates"], point.c_prev[k].item(), state["c"], point.dh[k].item(), point.dc[k].item(),
        point.h_prev[k].item(), point.params[:, k].tolist(), point.inputs[:, k].tolist(),
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_scalar_cell(name):
    point, native = Point(cell_of(name), 60), load().cells[NAMES.index(name)]
    h, c = point.forward()
    da, dc_prev, dh_prev, dparams = point.gradients()
    scale = point.scale()
    for k in range(60):
        # forward: two activations and three operations on values below scale; backward: six of both in a row
        state, grad = scalar_forward(point, native, k), scalar_backward(point, native, k)
        assert abs(state["h"] - h[k]) <= 16 * U64 * scale[k] and abs(state["c"] - c[k]) <= 16 * U64 * scale[k]
        found = [*grad["gates"], grad["c_prev"], grad["h_prev"], *grad["params"]]
        expected = [*da[k].tolist(), dc_prev[k].item(), dh_prev[k].item(), *dparams[:, k].tolist()]
        np.testing.assert_allclose(found, expected, rtol=0, atol=32 * U64 * scale[k].item())


@pytest.mark.parametrize("name", NAMES)
def test_scalar_cell_against_differences(name):
    """Central differences with step d: d^2 of a third derivative (of order 1), and u/d of rounding."""
    point, native = Point(cell_of(name), 10, spread=1.0), load().cells[NAMES.index(name)]
    d = 1e-5
    tolerance = 10 * (d**2 + U64 / d)

    def loss(k: int, argument: str, index: int | None, by: float) -> float:
        base = {"a": point.a[k], "params": point.params[:, k]}.get(argument, getattr(point, argument, None))
        if index is None:
            changed = {argument: base[k].item() + by}
        else:
            values = base.tolist()
            values[index] += by
            changed = {argument: values}
        state = scalar_forward(point, native, k, **changed)
        return state["h"] * point.dh[k].item() + state["c"] * point.dc[k].item()

    for k in range(10):
        grad = scalar_backward(point, native, k)
        expected = {("a", i): g for i, g in enumerate(grad["gates"])} | {("c_prev", None): grad["c_prev"]}
        expected |= {("params", i): g for i, g in enumerate(grad["params"])}
        expected |= {("h_prev", None): grad["h_prev"]} if cell_of(name).reads_h_prev else {}
        for (argument, index), g in expected.items():
            slope = (loss(k, argument, index, d) - loss(k, argument, index, -d)) / (2 * d)
            assert abs(slope - g) <= tolerance * point.scale()[k], (argument, index)


class Vectors:
    """Arguments of the cell kernels for n rows of H units in the padded gate layout, NaN where nobody may look."""

    def __init__(self, table, dtype: str, cell: Cell, n: int, H: int) -> None:
        self.table, self.dtype, self.cell, self.n, self.H = table, dtype, cell, n, H
        self.padded = -(-H // 16) * 16
        self.columns = np.array(load().gate_layout(table, H)[0]).reshape(4, H)
        self.points = Point(cell, n * H)
        for t in (self.points.a, self.points.c_prev, self.points.h_prev, self.points.dh, self.points.dc,
                  self.points.inputs):  # fmt: skip
            t.copy_(t.to(getattr(torch, dtype)))
        params = torch.randn(cell.n_params, H, dtype=torch.float64).to(getattr(torch, dtype)).double()
        self.points.params = params.repeat(1, n)
        self.params = self.padded_rows(params)
        self.gates = np.zeros((n, 4 * self.padded), dtype)
        for gate in range(4):
            self.gates[:, self.columns[gate]] = self.rows(self.points.a[:, gate])
        self.c_prev = self.padded_rows(self.points.c_prev.view(n, H))
        self.h_prev = self.rows(self.points.h_prev)
        inputs = self.points.inputs.view(cell.n_inputs, n, H).transpose(0, 1).reshape(n, cell.n_inputs * H)
        self.inputs = inputs.numpy().astype(dtype) if cell.n_inputs else None

    def rows(self, values: Tensor) -> np.ndarray:
        return values.view(self.n, self.H).numpy().astype(self.dtype)

    def padded_rows(self, values: Tensor) -> np.ndarray:
        full = np.zeros((len(values), self.padded), self.dtype)
        full[:, : self.H] = values.numpy()
        return full

    def nan(self, columns: int) -> np.ndarray:
        return np.full((self.n, columns), np.nan, self.dtype)

    def unit_ranges(self) -> list[tuple[int, int]]:
        """The units in several calls, each of whole groups."""
        lanes = self.table.lanes
        end = -(-self.H // lanes) * lanes
        middle = end // 2 // lanes * lanes
        return [(0, middle), (middle, end)]

    def forward(self, save: bool) -> tuple[np.ndarray, np.ndarray]:
        c, h = self.nan(self.padded), self.nan(self.H)
        for begin, end in self.unit_ranges():
            self.table.cell_forward(
                NAMES.index(self.cell.name), begin, end, self.gates, self.c_prev, c, self.h_prev, h, self.params,
                self.inputs, save,
            )  # fmt: skip
        return c, h


VECTOR_CASES = [(isa, dtype, name) for isa in ISAS for dtype in DTYPES for name in NAMES]
SHAPES = [(1, 1), (3, 16), (2, 19), (5, 37)]


def assert_close(actual: np.ndarray, expected: Tensor, scale: Tensor, factor: float) -> None:
    u = np.finfo(actual.dtype).eps / 2
    exact = expected.numpy().reshape(actual.shape)
    error = np.abs(actual.astype(np.float64) - exact)
    assert (error <= factor * u * scale.numpy().reshape(actual.shape)).all()


@pytest.mark.parametrize(("isa", "dtype", "name"), VECTOR_CASES)
def test_vector_cell_forward(isa, dtype, name):
    table = kernels(isa, dtype)
    for n, H in SHAPES:
        v = Vectors(table, dtype, cell_of(name), n, H)
        h_exact, c_exact = v.points.forward()
        before = v.gates.copy()
        c, h = v.forward(save=False)
        np.testing.assert_array_equal(v.gates, before)
        # an activation is good to 4 ulps (8 u); two of them and the arithmetic stay below 32
        assert_close(c[:, :H], c_exact, v.points.scale(), 32)
        assert_close(h, h_exact, v.points.scale(), 32)
        c_saved, h_saved = v.forward(save=True)
        np.testing.assert_array_equal(c_saved[:, :H], c[:, :H])
        np.testing.assert_array_equal(h_saved, h)
        end = v.unit_ranges()[-1][1]
        np.testing.assert_array_equal(v.gates[:, 4 * end :], before[:, 4 * end :])
        assert (v.gates[:, 4 * H : 4 * end] == 0).all()
        assert np.isnan(c[:, end:]).all()


@pytest.mark.parametrize("with_dy", [False, True])
@pytest.mark.parametrize(("isa", "dtype", "name"), VECTOR_CASES)
def test_vector_cell_backward(isa, dtype, name, with_dy):
    table, cell = kernels(isa, dtype), cell_of(name)
    u = np.finfo(dtype).eps / 2
    for n, H in SHAPES:
        v = Vectors(table, dtype, cell, n, H)
        dy = v.rows(torch.randn(n * H)) if with_dy else None
        dh = v.rows(v.points.dh)
        if with_dy:
            v.points.dh = torch.from_numpy(dh.astype(np.float64) + dy).flatten()
        da, dc_prev, dh_prev, dparams = v.points.gradients()
        c, _ = v.forward(save=True)
        dgates, dc_out, dh_out = v.nan(4 * v.padded), v.nan(v.padded), v.nan(v.padded)
        dc_in = v.padded_rows(v.points.dc.view(n, H))
        bias = np.random.default_rng(0).standard_normal(4 * v.padded).astype(dtype)
        sums = np.random.default_rng(1).standard_normal((max(1, cell.n_params), v.padded)).astype(dtype)
        bias_before, sums_before = bias.astype(np.float64), sums.astype(np.float64)
        for begin, end in v.unit_ranges():
            own = np.zeros((n, end - begin), dtype)  # dh starts at unit `begin`
            here = min(end, H)
            own[:, : here - begin] = dh[:, begin:here]
            table.cell_backward(
                NAMES.index(name), begin, end, H, v.gates, dgates, own, dy, c, v.c_prev, dc_in, dc_out, dh_out,
                v.params, v.inputs, bias, sums,
            )  # fmt: skip
        scale = v.points.scale()
        for gate in range(4):
            assert_close(dgates[:, v.columns[gate]], da[:, gate], scale, 96)
        assert_close(dc_out[:, :H], dc_prev, scale, 96)
        if cell.reads_h_prev:
            assert_close(dh_out[:, :H], dh_prev, scale, 96)
        worst = 96 * u * n * scale.max().item() + 2 * u
        added = bias - bias_before
        expected = da.view(n, H, 4).sum(0).t().numpy()
        np.testing.assert_allclose(added[v.columns], expected, rtol=0, atol=worst)
        expected = dparams.view(cell.n_params, n, H).sum(1).numpy()
        np.testing.assert_allclose((sums - sums_before)[: cell.n_params, :H], expected, rtol=0, atol=worst)
        end = v.unit_ranges()[-1][1]
        assert np.isnan(dgates[:, 4 * end :]).all() and np.isnan(dc_out[:, end:]).all()
        assert np.isnan(dgates[:, 4 * H :]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_fused_step_is_product_and_cell(isa, dtype):
    table = kernels(isa, dtype)
    L, random, u = table.lanes, np.random.default_rng(8), np.finfo(dtype).eps / 2
    widths = sorted({0, L, *range(1, L, 3), L - 1} - {0})
    sizes = [(0, L), (70, L), *((9, valid) for valid in widths)]
    for n, (k, valid) in itertools.product(range(1, 14), sizes):
        H, padded, width = L + valid, 2 * L, 4 * valid  # the second of two groups
        h_prev = random.uniform(-1, 1, (n, k)).astype(dtype)
        panel = (random.standard_normal((k, -(-width // L) * L)) / np.sqrt(max(k, 1))).astype(dtype)
        pre = random.standard_normal((n, 4 * padded)).astype(dtype)
        c_prev = random.standard_normal((n, padded)).astype(dtype)
        c_prev[:, H:] = 0
        product = h_prev.astype(np.float64) @ panel.astype(np.float64)
        a = pre[:, 4 * L :].astype(np.float64)[:, :width] + product[:, :width]
        i, f, g, o = np.split(a, 4, 1)
        sigmoid = [1 / (1 + np.exp(-gate)) for gate in (i, f, o)]
        c_exact = sigmoid[1] * c_prev[:, L:H] + sigmoid[0] * np.tanh(g)
        h_exact = sigmoid[2] * np.tanh(c_exact)
        bound = u * (5 * np.sqrt(k + 2) * (1 + np.abs(a).max()) + 32) * (1 + np.abs(c_prev).max())
        for save in (False, True):
            gates, c, h = pre.copy(), np.full((n, padded), np.nan, dtype), np.full((n, H + 3), np.nan, dtype)
            table.step(h_prev, panel, gates, c_prev, c, h, L, valid, save)
            np.testing.assert_allclose(c[:, L:H], c_exact, rtol=0, atol=bound)
            np.testing.assert_allclose(h[:, L:H], h_exact, rtol=0, atol=bound)
            assert np.isnan(c[:, :L]).all() and np.isnan(h[:, :L]).all() and np.isnan(h[:, H:]).all()
            np.testing.assert_array_equal(gates[:, : 4 * L], pre[:, : 4 * L])
            if not save:
                np.testing.assert_array_equal(gates, pre)
                continue
            expected = np.concatenate([*sigmoid[:2], np.tanh(g), sigmoid[2]], 1)
            np.testing.assert_allclose(gates[:, 4 * L :][:, :width], expected, rtol=0, atol=bound)
            assert (c[:, H:] == 0).all() and (gates[:, 4 * H :] == 0).all()
