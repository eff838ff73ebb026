"""Options that do not go together are refused: what, why, and what to use instead."""

from __future__ import annotations

import pytest
import torch
from layer_cases import Layer

from fused_lstm import FusedLSTM, FusedLSTMCell, functional, reference

COMBINATIONS = [
    ({"zoneout": 0.1, "proj_size": 2}, "zoneout and proj_size cannot be combined: .*; use recurrent_dropout"),
    ({"zoneout": (0.0, 0.1), "proj_size": 2}, "zoneout and proj_size"),
    ({"output_gate": "cell", "proj_size": 2}, "output_gate='cell' and proj_size cannot .*; use peephole=True"),
    ({"output_gate": "cell", "peephole": True}, "reads? c twice.*; use one of them"),
    ({"output_gate": "cell", "layer_norm": True}, "normalised together.*; use peephole=True with layer_norm=True"),
    ({"proj_clip": 1.0}, "proj_clip and proj_size=0 cannot be combined: .*; use cell_clip"),
    ({"forget_bias": 1.0, "bias": False}, "no bias to add it to; use bias=True"),
]
VALUES = [
    ({"weight_dropout": 1.5}, ValueError, r"weight_dropout must be a probability, a number in \[0, 1\], but is 1.5"),
    ({"recurrent_dropout": -0.1}, ValueError, "recurrent_dropout must be a probability"),
    ({"zoneout": (0.5, 2)}, ValueError, "zoneout must be a probability"),
    ({"zoneout": (0.5, 0.1, 0.1)}, TypeError, r"zoneout must be a number or a pair \(p_h, p_c\)"),
    ({"zoneout": "some"}, TypeError, "zoneout must be a number or a pair"),
    ({"cell_clip": 0}, ValueError, "cell_clip must be above 0 and finite, or None for no bound, but is 0"),
    ({"cell_clip": float("nan")}, ValueError, "cell_clip must be above 0"),
    ({"proj_clip": -1.0, "proj_size": 2}, ValueError, "proj_clip must be above 0"),
    ({"peephole": 1}, TypeError, "peephole must be True or False, but is 1"),
    ({"layer_norm": "yes"}, TypeError, "layer_norm must be True or False"),
    ({"output_gate": "c"}, ValueError, "output_gate must be 'hidden' or 'cell', but is 'c'"),
    ({"forget_bias": float("inf")}, ValueError, "forget_bias must be finite"),
    ({"zoneouts": 0.1}, TypeError, "unexpected keyword argument 'zoneouts'"),
]


@pytest.mark.parametrize(("options", "words"), COMBINATIONS, ids=str)
def test_combinations(options, words):
    with pytest.raises(ValueError, match=words):
        FusedLSTM(3, 4, **options)


@pytest.mark.parametrize(("options", "kind", "words"), VALUES, ids=str)
def test_values(options, kind, words):
    with pytest.raises(kind, match=words):
        FusedLSTM(3, 4, **options)


def test_options_are_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        FusedLSTM(3, 4, 1, True, False, 0.0, False, 0, None, None, 0.5)


@pytest.mark.parametrize("option", ["weight_dropout", "recurrent_dropout", "proj_clip"])
def test_options_of_sequences_are_no_options_of_a_cell(option):
    with pytest.raises(TypeError, match=option):
        FusedLSTMCell(3, 4, **{option: 0.5})


def test_masks_of_rows_that_changed_are_refused_as_ever():
    m = FusedLSTM(3, 4, peephole=True)
    m.weight_p_l0 = torch.nn.Parameter(torch.zeros(3, 5))
    with pytest.raises(RuntimeError):
        m(torch.randn(2, 1, 3))


FUNCTIONS = [
    ({"cell": "vanilla", "cell_clip": -1.0}, ValueError, "cell_clip must be above 0"),
    ({"cell": "vanilla", "proj_clip": float("inf")}, ValueError, "proj_clip must be above 0 and finite"),
    ({"cell": "vanilla", "proj_clip": 1.0}, RuntimeError, "nothing is projected; use cell_clip"),
    ({"cell": "zoneout+peephole"}, ValueError, "cell must be one of .*'peephole\\+zoneout'"),
]


@pytest.mark.parametrize(("options", "kind", "words"), FUNCTIONS, ids=str)
def test_functions(options, kind, words):
    layer = Layer.random()
    with pytest.raises(kind, match=words):
        functional.lstm_layer(layer.variables["x"], None, None, layer.weights(), **options)


@pytest.mark.parametrize("function", [functional.lstm_layer, reference.lstm_layer])
def test_projection_of_a_cell_that_reads_c_through_w_hh(function):
    layer = Layer.random(P=3, cell="output_cell")
    with pytest.raises(RuntimeError, match="cannot be projected|must be square"):
        layer.call(function)


@pytest.mark.parametrize("clips", [(-1.0, 0.0), (float("nan"), 0.0), (0.0, float("inf"))])
def test_raw_operators_check_bounds_themselves(clips):
    arguments = Layer.random(P=3).op_arguments(False)
    with pytest.raises(RuntimeError, match="_clip must be finite and above 0, or 0 for none"):
        torch.ops.fused_lstm.lstm_layer(*arguments, False, *clips)


def test_a_bound_that_rounds_to_zero():
    arguments = Layer.random(P=3, dtype=torch.float16).op_arguments(False)
    with pytest.raises(RuntimeError, match="proj_clip of 1e-09 is 0 in float16"):
        torch.ops.fused_lstm.lstm_layer(*arguments, False, 0.0, 1e-9)
