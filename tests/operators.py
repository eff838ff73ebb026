"""Calls of the raw operators that can be sent to another process, and their results by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from layer_cases import Layer
from torch import Tensor

import fused_lstm  # noqa: F401  (registers the operators)

NEEDS = ("x", "h0", "c0", "w_ih", "w_hh", "b_ih", "w_hr", "recurrent_scale", "cell_params")  # a bit each, in this order
PER_DIRECTION = ("w_ih", "w_hh", "b_ih", "w_hr")
Arguments = list[Any]  # of torch.ops.fused_lstm.lstm_layer, without save and allow_tf32
Results = dict[str, Tensor]


def arguments_of(layer: Layer) -> Arguments:
    arguments = layer.op_arguments(save=True)
    return arguments[:13] + arguments[15:]


def everything(layer: Layer) -> int:
    """The mask that asks for the gradient of every variable of the layer."""
    names = {name.split(".")[0] for name in layer.variables}
    return sum(1 << bit for bit, name in enumerate(NEEDS) if name in names)


def forward(arguments: Arguments, save: bool, allow_tf32: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.ops.fused_lstm.lstm_layer.default(*arguments[:13], save, allow_tf32, *arguments[13:])


def backward(
    arguments: Arguments,
    cotangents: Sequence[Tensor | None],
    y: Tensor,
    reserve: Tensor,
    needs: int,
    allow_tf32: bool = False,
) -> Results:
    """Gradients by the name of the variable with a d before it; those of b_hh, which are those of b_ih, left out."""
    *tensors, cell, direction, batch_first = arguments[:13]
    op = torch.ops.fused_lstm.lstm_layer_backward.default
    found = op(*cotangents, *tensors, y, reserve, cell, direction, batch_first, needs, allow_tf32, *arguments[13:])
    names = []
    for bit, name in enumerate(NEEDS):
        if needs >> bit & 1:
            suffixes = ["." + str(d) for d in range(2 if direction == 2 else 1)] if name in PER_DIRECTION else [""]
            names += [f"d{name}{suffix}" for suffix in suffixes]
    assert len(found) == len(names), f"{len(names)} gradients were asked for, {len(found)} came"
    return dict(zip(names, found))


def train(
    arguments: Arguments,
    cotangents: Sequence[Tensor | None],
    needs: int,
    threads: int = 1,
    allow_tf32: bool = False,
) -> Results:
    """Forward and backward: y, h_n, c_n and gradients by name."""
    torch.set_num_threads(threads)
    *outputs, reserve = forward(arguments, True, allow_tf32)
    return {**name_outputs(outputs), **backward(arguments, cotangents, outputs[0], reserve, needs, allow_tf32)}


def infer(arguments: Arguments, threads: int = 1, allow_tf32: bool = False) -> Results:
    torch.set_num_threads(threads)
    *outputs, reserve = forward(arguments, False, allow_tf32)
    assert reserve.shape == (0,)
    return name_outputs(outputs)


def name_outputs(outputs: Sequence[Tensor]) -> Results:
    return dict(zip(("y", "h_n", "c_n"), outputs, strict=True))


def assert_same_bits(actual: Results, expected: Results) -> None:
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        other = expected[name]
        assert value.shape == other.shape and value.dtype == other.dtype, name
        same = (value == other) | (value.isnan() & other.isnan())
        assert same.all(), f"{name}: {(~same).sum()} of {same.numel()} values differ"
