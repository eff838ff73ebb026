"""Rows of different lengths, packed rows and resets: what lies beyond a row or a border has no influence at all."""

from __future__ import annotations

import pytest
import torch
from isa_worker import ISAS, worker
from layer_cases import Layer
from layer_sampling import cotangents_of, definition
from operators import arguments_of, assert_same_bits, everything, infer, train
from tolerance import Tolerance, assert_within
from torch.nn.utils.rnn import pack_padded_sequence

T, B, I, H = 8, 7, 9, 19  # noqa: E741
LENGTHS = torch.tensor([3, 8, 0, 1, 8, 5, 0])
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def run(isa: str, layer: Layer, cotangents: tuple, threads: int = 1) -> dict:
    return worker(isa)(train, arguments_of(layer), cotangents, everything(layer), threads)


def ragged(dtype: torch.dtype = torch.float32, lengths: torch.Tensor = LENGTHS, **features) -> Layer:
    layer = Layer.random(T, len(lengths), I, H, direction="both", dtype=dtype, **features)
    layer.constants["lengths"] = lengths
    return layer


@pytest.mark.parametrize("features", [{}, {"cell": "zoneout"}, {"P": 4, "scale": True}, {"batch_first": True}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_what_lies_beyond_a_row_is_never_read(isa, dtype, features):
    layer = ragged(dtype, resets=True, **features)
    cotangents = cotangents_of(layer)
    expected = run(isa, layer, cotangents)
    dead = torch.arange(T).unsqueeze(1) >= LENGTHS
    if layer.options["batch_first"]:
        dead = dead.t()
    assert (expected["y"][dead] == 0).all() and (expected["dx"][dead] == 0).all()
    layer.variables["x"][dead] = torch.nan
    layer.constants["resets"][dead] = True
    cotangents[0][dead] = torch.nan
    if "cell_inputs" in layer.constants:
        layer.constants["cell_inputs"][:, dead] = torch.nan
    assert_same_bits(run(isa, layer, cotangents), expected)
    assert all(t.isfinite().all() for t in expected.values())


@pytest.mark.parametrize("isa", ISAS)
def test_a_row_without_steps_hands_its_state_on(isa):
    layer = ragged()
    cotangents = cotangents_of(layer)
    results = run(isa, layer, cotangents)
    empty = LENGTHS == 0
    for state, gradient, cotangent in (("h0", "dh0", cotangents[1]), ("c0", "dc0", cotangents[2])):
        assert torch.equal(results[state[0] + "_n"][:, empty], layer.variables[state][:, empty])
        assert torch.equal(results[gradient][:, empty], cotangent[:, empty])


@pytest.mark.parametrize("lengths", [[T] * B, [5] * B, [0] * B, [0, 0, 0, 1, 0, 0, 0], [T, 0, 0, 0, 0, 0, 0]], ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_special_lengths(isa, lengths):
    layer = ragged(lengths=torch.tensor(lengths), resets=True)
    cotangents = cotangents_of(layer)
    actual = run(isa, layer, cotangents)
    assert_within(actual, definition(layer, cotangents), Tolerance.of(layer))
    if lengths == [T] * B:
        del layer.constants["lengths"]
        assert_same_bits(run(isa, layer, cotangents), actual)


@pytest.mark.parametrize("features", [{}, {"cell": "peephole"}, {"P": 4, "scale": True}], ids=str)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("isa", ISAS)
def test_the_order_of_rows_does_not_matter(isa, threads, features):
    lengths = torch.randint(0, T + 1, (29,))
    layer = ragged(lengths=lengths, resets=True, **features)
    cotangents = cotangents_of(layer)
    results = run(isa, layer, cotangents, threads)
    order = torch.randperm(29)
    for name in ("x", "h0", "c0", "recurrent_scale"):
        if name in layer.variables:
            layer.variables[name] = layer.variables[name][:, order]
    layer.constants = {"lengths": lengths[order], "resets": layer.constants["resets"][:, order]}
    shuffled = run(isa, layer, tuple(g[:, order] for g in cotangents), threads)
    exact = definition(layer, tuple(g[:, order] for g in cotangents))
    for name, value in shuffled.items():
        if name in ("y", "h_n", "c_n"):
            # which rows share a register tile changes, a row's numbers do not
            assert torch.equal(value, results[name][:, order]), name
    assert_within(shuffled, exact, Tolerance.of(layer))


@pytest.mark.parametrize("features", [{}, {"resets": True, "P": 4}, {"cell": "peephole", "scale": True}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_packed_is_lengths_in_another_layout(isa, dtype, features):
    lengths = LENGTHS[LENGTHS > 0].sort(descending=True).values
    layer = ragged(dtype, lengths=lengths, **features)
    cotangents = cotangents_of(layer)
    expected = run(isa, layer, cotangents)

    def pack(t: torch.Tensor) -> torch.Tensor:
        return pack_padded_sequence(t, lengths).data

    packed = Layer(dict(layer.variables), dict(layer.constants), layer.options)
    packed.variables["x"] = pack(layer.variables["x"])
    packed.constants["batch_sizes"] = pack_padded_sequence(layer.variables["x"], lengths).batch_sizes
    del packed.constants["lengths"]
    if "resets" in packed.constants:
        packed.constants["resets"] = pack(layer.constants["resets"])
    actual = run(isa, packed, (pack(cotangents[0]), *cotangents[1:]))
    for name in ("y", "dx"):
        expected[name] = pack(expected[name])
    assert_same_bits(actual, expected)


@pytest.mark.parametrize("features", [{}, {"P": 4}, {"cell": "zoneout"}, {"packed": True}, {"lengths": True}], ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_resets_that_are_all_false_change_nothing(isa, features):
    layer = Layer.random(T, B, I, H, direction="both", dtype=torch.float32, **features)
    cotangents = cotangents_of(layer)
    expected = run(isa, layer, cotangents)
    layer.constants["resets"] = torch.zeros(layer.variables["x"].shape[:-1], dtype=torch.bool)
    assert_same_bits(run(isa, layer, cotangents), expected)


@pytest.mark.parametrize("features", [{}, {"P": 4, "scale": True}, {"cell": "zoneout"}, {"cell": "peephole"}], ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_resets_at_every_step(isa, features):
    layer = Layer.random(T, B, I, H, direction="both", dtype=torch.float32, **features)
    layer.constants["resets"] = torch.ones(T, B, dtype=torch.bool)
    cotangents = cotangents_of(layer)
    actual = run(isa, layer, cotangents)
    assert_within(actual, definition(layer, cotangents), Tolerance.of(layer))
    for name in ("dh0", "dc0"):
        assert (actual[name][0] == 0).all() and (actual[name][1] != 0).any(), "the reverse direction keeps its start"


@pytest.mark.parametrize("isa", ISAS)
def test_a_reset_at_the_start_hides_even_nan(isa):
    layer = Layer.random(T, B, I, H, direction="forward", dtype=torch.float32)
    layer.constants["resets"] = torch.zeros(T, B, dtype=torch.bool)
    layer.constants["resets"][0, 2] = True
    cotangents = cotangents_of(layer)
    expected = run(isa, layer, cotangents)
    layer.variables["h0"][0, 2] = layer.variables["c0"][0, 2] = torch.nan
    actual = run(isa, layer, cotangents)
    assert_same_bits(actual, expected)
    assert all(t.isfinite().all() for t in actual.values())


@pytest.mark.parametrize("features", [{}, {"P": 4}, {"lengths": True}, {"cell": "peephole", "scale": True}], ids=str)
@pytest.mark.parametrize(("steps", "rows"), [(0, 3), (4, 0), (0, 0)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_nothing_to_do(isa, dtype, steps, rows, features):
    layer = Layer.random(steps, rows, I, H, direction="both", dtype=dtype, **features)
    cotangents = cotangents_of(layer)
    actual = run(isa, layer, cotangents)
    expected = {"h_n": layer.variables["h0"], "c_n": layer.variables["c0"]}
    expected |= {"dh0": cotangents[1], "dc0": cotangents[2]}
    for name, value in actual.items():
        assert torch.equal(value, expected.get(name, torch.zeros_like(value))), name
    assert_same_bits(worker(isa)(infer, arguments_of(layer)), {name: actual[name] for name in ("y", "h_n", "c_n")})


@pytest.mark.parametrize("isa", ISAS)
def test_nothing_packed(isa):
    layer = Layer.random(3, 2, I, H, dtype=torch.float32, packed=True, state=False)
    layer.constants["batch_sizes"] = torch.empty(0, dtype=torch.int64)
    layer.variables["x"] = torch.empty(0, I)
    cotangents = torch.empty(0, H), torch.empty(1, 0, H), torch.empty(1, 0, H)
    actual = run(isa, layer, cotangents)
    assert actual["y"].shape == (0, H) and actual["h_n"].shape == actual["c_n"].shape == (1, 0, H)
    assert all((t == 0).all() for t in actual.values())
