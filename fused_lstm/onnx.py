"""ONNX: each layer of ``FusedLSTM`` becomes one standard LSTM node.

>>> program = torch.onnx.export(model, (x,), dynamo=True, custom_translation_table=fused_lstm.onnx.translation_table())

Needs onnx and onnxscript: ``pip install "fused_lstm[onnx]"``. What an LSTM node cannot express is refused during
export: resets, packed input, projections, clips, recurrent dropout, cells other than the plain one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .cells import CELLS
from .shapes import DIRECTIONS

_DIRECTION = {"forward": "forward", "reverse": "reverse", "both": "bidirectional"}


def translation_table() -> dict[Any, Callable]:
    """For the argument ``custom_translation_table`` of ``torch.onnx.export(dynamo=True)``.

    Raises:
        ImportError: onnxscript is not installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError('Export to ONNX needs onnxscript: pip install "fused_lstm[onnx]"') from error
    return {torch.ops.fused_lstm.lstm_layer.default: _lstm_layer}


def _refuse(what: str, instead: str) -> None:
    raise NotImplementedError(f"An ONNX LSTM node has no {what}; {instead}")


def _check(weights, batch_sizes, resets, recurrent_scale, cell, directions) -> None:
    if batch_sizes is not None:
        _refuse("packed input", "call FusedLSTM with lengths= instead")
    if resets is not None:
        _refuse("resets inside a sequence", "cut the sequences there, or use torch.export or AOTInductor")
    if recurrent_scale is not None:
        _refuse("mask on h (recurrent dropout)", "export the model in eval mode")
    if CELLS[cell].name != "vanilla":
        _refuse(f"cell {CELLS[cell].name!r}", "use torch.export or AOTInductor")
    if len(weights) // directions in (3, 5):
        _refuse("projection of h (proj_size)", "use torch.export or AOTInductor")


def _lstm_layer(
    x, h0, c0, weights, batch_sizes, lengths, resets, recurrent_scale, cell_params, cell_inputs,
    cell: int, direction: int, batch_first: bool, save: bool, allow_tf32: bool = False,
    cell_clip: float = 0.0, proj_clip: float = 0.0,
):  # fmt: skip
    """fused_lstm::lstm_layer in operators of ONNX."""
    from onnxscript import opset18 as op

    D = 2 if direction == 2 else 1
    _check(weights, batch_sizes, resets, recurrent_scale, cell, D)
    if cell_clip or proj_clip:  # its attribute clip is about the gates
        _refuse("clip of cell or projected state", "use torch.export or AOTInductor")
    w_ih, w_hh, bias = _stack_directions(op, weights, D)
    y, h_n, c_n = op.LSTM(
        op.Transpose(x, perm=[1, 0, 2]) if batch_first else x,
        w_ih,
        w_hh,
        bias,
        None if lengths is None else op.Cast(lengths, to=6),  # INT32
        h0,
        c0,
        direction=_DIRECTION[DIRECTIONS[direction]],
        hidden_size=weights[1].shape[0] // 4,
    )
    if lengths is not None:  # rows without steps keep their state; runtimes answer zeros
        empty = op.Reshape(op.Equal(lengths, op.Constant(value_ints=[0])), op.Constant(value_ints=[1, -1, 1]))
        h_n = h_n if h0 is None else op.Where(empty, h0, h_n)
        c_n = c_n if c0 is None else op.Where(empty, c0, c_n)
    # (T, D, B, H) -> (T, B, D*H) or (B, T, D*H)
    y = op.Transpose(y, perm=[2, 0, 1, 3] if batch_first else [0, 2, 1, 3])
    y = op.Reshape(y, op.Constant(value_ints=[0, 0, -1]))
    return y, h_n, c_n, op.Constant(value_floats=[])  # nobody runs backward there


def _stack_directions(op, weights: Sequence, directions: int) -> tuple:
    """W (D, 4H, I), R (D, 4H, H) and B (D, 8H) with gates in the order i, o, f, g."""

    def gates(w):
        i, f, g, o = op.Split(w, num_outputs=4, axis=0)
        return op.Concat(i, o, f, g, axis=0)

    def stack(tensors: Sequence):
        each = [op.Unsqueeze(t, op.Constant(value_ints=[0])) for t in tensors]
        return each[0] if len(each) == 1 else op.Concat(*each, axis=0)

    per = len(weights) // directions
    by_direction = [[gates(w) for w in weights[d * per : (d + 1) * per]] for d in range(directions)]
    biases = [op.Concat(*ws[2:], axis=0) for ws in by_direction if len(ws) > 2]
    w_ih, w_hh = (stack([ws[k] for ws in by_direction]) for k in (0, 1))
    return w_ih, w_hh, stack(biases) if biases else None
