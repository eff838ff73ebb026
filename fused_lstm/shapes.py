"""What the operators answer, without computing it: the shapes of their results, and how much work they would be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from . import _library  # noqa: F401  loading it registers the operators
from .cells import CELLS

DIRECTIONS = ("forward", "reverse", "both")
_UNIT_PAD = 16  # kUnitPad in csrc/core/problem.h

# What lstm_layer_backward is asked for, one bit each; it answers in this order.
NEED_X, NEED_H0, NEED_C0, NEED_W_IH, NEED_W_HH, NEED_BIAS, NEED_W_HR, NEED_SCALE, NEED_PARAMS = (
    1 << n for n in range(9)
)

# The weights of one direction, by how many there are.
ROLES = {
    2: (NEED_W_IH, NEED_W_HH),
    3: (NEED_W_IH, NEED_W_HH, NEED_W_HR),
    4: (NEED_W_IH, NEED_W_HH, NEED_BIAS, NEED_BIAS),
    5: (NEED_W_IH, NEED_W_HH, NEED_BIAS, NEED_BIAS, NEED_W_HR),
}


def answers(needs: int, directions: int) -> Iterator[int]:
    """The role of each entry of lstm_layer_backward's answer."""
    for need in (1 << n for n in range(9)):
        if needs & need:
            yield from [need] * (directions if need in (NEED_W_IH, NEED_W_HH, NEED_BIAS, NEED_W_HR) else 1)


def _sizes(x: Tensor, weights: Sequence[Tensor], direction: int) -> tuple[int, Any, Any]:
    """D, P, H"""
    return (2 if direction == 2 else 1), weights[1].shape[1], weights[1].shape[0] // 4


def _check_devices(x: Tensor, *others: Tensor | None) -> None:
    # A call that mixes real and meta tensors lands in the fake kernel; it must not get an answer.
    for t in others:
        if t is not None and t.device != x.device:
            raise RuntimeError(f"fused_lstm: all tensors must be on {x.device}, where x is, but one is on {t.device}")


def _check_batch_sizes(x: Tensor, batch_sizes: Tensor | None) -> None:
    # On the CPU wherever x is; on the meta device only together with x.
    if batch_sizes is not None and batch_sizes.device.type not in ("cpu", x.device.type):
        raise RuntimeError(f"fused_lstm: batch_sizes must be on the CPU, but is on {batch_sizes.device}")
    if batch_sizes is not None and batch_sizes.is_meta and not x.is_meta:
        raise RuntimeError("fused_lstm: batch_sizes must be on the CPU, but is on meta")


@torch.library.register_fake("fused_lstm::lstm_layer")
def _lstm_layer_fake(
    x, h0, c0, weights, batch_sizes, lengths, resets, recurrent_scale, cell_params, cell_inputs,
    cell, direction, batch_first, save, allow_tf32=False, cell_clip=0.0, proj_clip=0.0, recompute=False,
):  # fmt: skip
    _check_devices(x, h0, c0, lengths, resets, recurrent_scale, cell_params, cell_inputs, *weights)
    _check_batch_sizes(x, batch_sizes)
    D, P, H = _sizes(x, weights, direction)
    state = next((t for t in (h0, c0, recurrent_scale) if t is not None), None)
    if batch_sizes is None:
        B = x.shape[0 if batch_first else 1]
    elif state is not None:
        B = state.shape[1]
    else:
        B = torch.library.get_ctx().new_dynamic_size()  # batch_sizes[0], a value that a fake tensor does not have
    rows = x.shape[0] if batch_sizes is not None else x.shape[0] * x.shape[1]
    padded = (H + _UNIT_PAD - 1) // _UNIT_PAD * _UNIT_PAD
    reserve_dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return (
        x.new_empty((*x.shape[:-1], D * P)),
        x.new_empty((D, B, P)),
        x.new_empty((D, B, H)),
        x.new_empty((D, rows, (1 if recompute else 5) * padded) if save else (0,), dtype=reserve_dtype),
    )


@torch.library.register_fake("fused_lstm::lstm_layer_backward")
def _lstm_layer_backward_fake(
    dy, dh_n, dc_n, x, h0, c0, weights, batch_sizes, lengths, resets, recurrent_scale, cell_params, cell_inputs,
    y, reserve, cell, direction, batch_first, needs, allow_tf32=False, cell_clip=0.0, proj_clip=0.0, recompute=False,
):  # fmt: skip
    _check_devices(
        x, dy, dh_n, dc_n, h0, c0, lengths, resets, recurrent_scale, cell_params, cell_inputs, y, reserve, *weights
    )
    _check_batch_sizes(x, batch_sizes)
    D, P, H = _sizes(x, weights, direction)
    B = x.shape[0 if batch_first else 1]
    if batch_sizes is not None:
        state = next((t for t in (h0, c0, recurrent_scale, dh_n, dc_n) if t is not None), None)
        B = torch.library.get_ctx().new_dynamic_size() if state is None else state.shape[1]
    shapes = {
        NEED_X: [x.shape],
        NEED_H0: [(D, B, P)],
        NEED_C0: [(D, B, H)],
        NEED_W_IH: [(4 * H, x.shape[-1])] * D,
        NEED_W_HH: [(4 * H, P)] * D,
        NEED_BIAS: [(4 * H,)] * D,
        NEED_W_HR: [(P, H)] * D,
        NEED_SCALE: [(D, B, P)],
        NEED_PARAMS: [(D, CELLS[cell].n_params, H)],
    }
    return [x.new_empty(shape) for need, wanted in shapes.items() if needs & need for shape in wanted]


# ---- floating point operations, as torch.utils.flop_counter counts them: of products alone, padded steps included


def _products(x: Sequence[int], weights: Sequence[Sequence[int]], direction: int) -> tuple[int, int, int]:
    """Of all steps, rows and directions: x times w_ih, h times w_hh, h times w_hr."""
    w_ih, w_hh = weights[:2]
    per_direction = len(weights) // (2 if direction == 2 else 1)
    H, P = w_hh[0] // 4, w_hh[1]
    rows = len(weights) // per_direction
    for n in x[:-1]:
        rows *= n
    projected = per_direction in (3, 5)
    return 2 * rows * 4 * H * w_ih[1], 2 * rows * 4 * H * P, 2 * rows * H * P if projected else 0


@register_flop_formula(torch.ops.fused_lstm.lstm_layer)
def _lstm_layer_flops(x, h0, c0, weights, *others, out_shape=None, **more) -> int:
    direction = others[7]
    return sum(_products(x, weights, direction))


@register_flop_formula(torch.ops.fused_lstm.lstm_layer_backward)
def _lstm_layer_backward_flops(dy, dh_n, dc_n, x, h0, c0, weights, *others, out_shape=None, **more) -> int:
    direction, needs = others[9], others[11]
    by_x, by_h, by_hr = _products(x, weights, direction)
    flops = by_h + by_hr  # the way back through time
    for need, product in {NEED_X: by_x, NEED_W_IH: by_x, NEED_W_HH: by_h, NEED_W_HR: by_hr}.items():
        flops += product if needs & need else 0
    return flops
