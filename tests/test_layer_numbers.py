"""Numbers at the edge: many steps, NaN, infinite, huge and tiny values, saturated gates."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import pytest
import torch
from isa_worker import ISAS, worker
from layer_cases import Layer
from layer_sampling import cotangents_of, definition
from operators import arguments_of, everything, infer, train
from tolerance import Tolerance, assert_within, worst

T, B, I, H = 7, 5, 9, 19  # noqa: E741
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
CELLS = ["vanilla", "peephole", "coupled", "zoneout"]


def run(isa: str, layer: Layer, cotangents: tuple) -> dict:
    return worker(isa)(train, arguments_of(layer), cotangents, everything(layer))


def assert_like_definition(actual: dict, expected: dict, tolerance: Tolerance) -> None:
    """NaN and infinite in the same places, the rest within tolerance."""
    for name, value in actual.items():
        exact = expected[name]
        assert torch.equal(value.isnan(), exact.isnan()), f"{name}: NaN in other places than the definition has it"
        assert torch.equal(value[value.isinf()].double(), exact[exact.isinf()].double()), f"{name}: other infinities"
        finite = exact.isfinite()
        if finite.any():
            ratio = worst(name, value[finite], exact[finite], tolerance)
            assert ratio <= 1, f"{name}: {ratio:.3g} times the tolerance"


@functools.cache
def many_steps(forget_bias: float) -> tuple:
    torch.manual_seed(7)
    hidden = 5
    layer = Layer.random(2000, 2, 3, hidden, dtype=torch.float32, direction="both")
    for d in range(2):
        layer.variables[f"b_ih.{d}"][hidden : 2 * hidden] += forget_bias
    cotangents = cotangents_of(layer)
    # a forget gate of sigmoid(forget_bias + A) keeps an error for 1 + exp(forget_bias + A) steps
    size = ((3 + hidden + 2) / hidden) ** 0.5
    return layer, cotangents, definition(layer, cotangents), 1 + math.exp(forget_bias + size)


@pytest.mark.parametrize("forget_bias", [0.0, 4.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_many_steps(isa, dtype, forget_bias):
    layer, cotangents, expected, memory = many_steps(forget_bias)
    layer, cotangents = layer.to(dtype), tuple(g.to(dtype) for g in cotangents)
    assert_within(run(isa, layer, cotangents), expected, replace(Tolerance.of(layer), memory=memory))


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_nan_stays_in_its_row_and_goes_with_time(isa, dtype, direction):
    layer = Layer.random(T, B, I, H, dtype=dtype, direction=direction)
    cotangents = cotangents_of(layer)
    clean = run(isa, layer, cotangents)
    t, b = 3, 2
    layer.variables["x"][t, b, 4] = torch.nan
    dirty = run(isa, layer, cotangents)
    reached = torch.zeros(T, B, dtype=torch.bool)
    reached[slice(t, T) if direction == "forward" else slice(0, t + 1), b] = True
    assert dirty["y"][reached].isnan().all()
    assert torch.equal(dirty["y"][~reached], clean["y"][~reached])
    others = torch.arange(B) != b
    for name in ("h_n", "c_n", "dh0", "dc0"):
        assert dirty[name][:, b].isnan().all()
        assert torch.equal(dirty[name][:, others], clean[name][:, others]), name
    assert torch.equal(dirty["dx"][:, others], clean["dx"][:, others])
    assert_like_definition(dirty, definition(layer, cotangents), Tolerance.of(layer))


@pytest.mark.parametrize("name", ["h0", "c0", "w_hh.0", "b_ih.0", "recurrent_scale", "cell_params"])
@pytest.mark.parametrize("isa", ISAS)
def test_nan_in_other_arguments(isa, name):
    layer = Layer.random(T, B, I, H, dtype=torch.float32, direction="both", scale=True, cell="peephole")
    layer.variables[name].view(-1)[5] = torch.nan
    cotangents = cotangents_of(layer)
    assert_like_definition(run(isa, layer, cotangents), definition(layer, cotangents), Tolerance.of(layer))


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 1e30, -1e30, 1e-30, 1e-42, 0.0])
@pytest.mark.parametrize("hidden", [16, H])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("isa", ISAS)
def test_extreme_input(isa, cell, hidden, value):
    """One value of x: its step saturates (or is nothing), and no other place notices more than the definition says."""
    layer = Layer.random(T, B, I, hidden, dtype=torch.float32, direction="both", cell=cell)
    layer.variables["x"][3, 2, 4] = value
    cotangents = cotangents_of(layer)
    tolerance = Tolerance.of(layer)
    if abs(value) == 1e30:
        # a saturated gate has slope 0, and 0 times 1e30 stays 0, but sums of 1e30 and ordinary numbers lose the latter
        assert_like_definition(worker(isa)(infer, arguments_of(layer)), definition(layer, None), tolerance)
        return
    assert_like_definition(run(isa, layer, cotangents), definition(layer, cotangents), tolerance)


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e-4, 30.0, 1e4, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_inputs_of_every_size(isa, dtype, scale):
    layer = Layer.random(T, B, I, H, dtype=dtype, direction="both")
    layer.variables["x"] *= scale
    actual = worker(isa)(infer, arguments_of(layer))
    if scale <= 1:
        assert_within(actual, definition(layer, None), Tolerance.of(layer))
        return
    # errors of the products grow with their size, but so do gates saturate: sigmoid and tanh bound what comes of it
    wide = replace(Tolerance.of(layer), I=int(I * min(scale, 100.0) ** 2))
    assert_within(actual, definition(layer, None), wide)
    assert all(value.isfinite().all() for value in actual.values())


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bias", [-200.0, 200.0])
@pytest.mark.parametrize("gate", ["i", "f", "g", "o"])
@pytest.mark.parametrize("isa", ISAS)
def test_saturated_gates(isa, gate, bias, cell):
    """A gate that is 0 or 1 to the last bit: exact states, and gradients that are exactly zero where slopes are."""
    layer = Layer.random(T, B, I, H, dtype=torch.float32, cell=cell)
    k = "ifgo".index(gate)
    layer.variables["b_hh.0"][k * H : (k + 1) * H] = bias
    cotangents = cotangents_of(layer)
    actual, expected = run(isa, layer, cotangents), definition(layer, cotangents)
    # an open forget gate never forgets
    tolerance = replace(Tolerance.of(layer), memory=float(T)) if gate == "f" and bias > 0 else Tolerance.of(layer)
    assert_within(actual, expected, tolerance)
    assert (actual["db_ih.0"][k * H : (k + 1) * H] == 0).all()
    if gate == "o" and bias < 0 and cell != "zoneout":
        assert (actual["y"] == 0).all()
    if gate == "f" and bias > 0 and cell == "coupled":
        assert torch.equal(actual["c_n"], layer.variables["c0"]), "i = 1 - f = 0: nothing is written"


@pytest.mark.parametrize("isa", ISAS)
def test_huge_cell_state(isa):
    layer = Layer.random(T, B, I, H, dtype=torch.float32)
    layer.variables["c0"] *= 1e6
    actual, expected = worker(isa)(infer, arguments_of(layer)), definition(layer, None)
    tolerance = Tolerance.of(layer)
    assert worst("c_n", actual["c_n"], expected["c_n"], tolerance) <= 1
    # a product of two numbers that are right relative to their size, through tanh
    assert worst("y", actual["y"], expected["y"], tolerance) <= 1


@pytest.mark.parametrize("isa", ISAS)
def test_all_zero(isa):
    layer = Layer.random(T, B, I, H, dtype=torch.float32)
    for t in layer.variables.values():
        t.zero_()
    actual = run(isa, layer, tuple(torch.ones_like(g) for g in cotangents_of(layer)))
    assert all((actual[name] == 0).all() for name in ("y", "h_n", "c_n", "dx", "dw_ih.0", "dw_hh.0"))
    # i = f = o = 1/2 and tanh' = 1: the last step gets 1 + (1 + 1)/2, each hands half of it on and gets 1/2 from its y
    assert (actual["dc0"] == 0.5 + 0.5**T).all()
