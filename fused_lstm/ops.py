"""The raw operators: their gradients, what they do under vmap, and the one way to call them.

``lstm_layer`` below is the door that :mod:`fused_lstm.functional` uses. ``torch.ops.fused_lstm.lstm_layer`` and
``torch.ops.fused_lstm.lstm_layer_backward`` may be called directly as well: both have fakes and autograd formulas.
First derivatives come from the C++ backward; the derivative of that backward goes through ``reference.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _library, batching
from .cells import CELLS
from .reference import lstm_layer as _reference_layer
from .shapes import (
    DIRECTIONS,
    NEED_BIAS,
    NEED_C0,
    NEED_H0,
    NEED_PARAMS,
    NEED_SCALE,
    NEED_W_HH,
    NEED_W_HR,
    NEED_W_IH,
    NEED_X,
    ROLES,
    answers,
)  # fmt: skip

_forward_op = torch.ops.fused_lstm.lstm_layer.default
_backward_op = torch.ops.fused_lstm.lstm_layer_backward.default
_below_autograd = torch._C._AutoDispatchBelowAutograd  # saves the way through the formulas registered below


def lstm_layer(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Tensor],
    batch_sizes: Tensor | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    recurrent_scale: Tensor | None,
    cell_params: Tensor | None,
    cell_inputs: Tensor | None,
    cell: int,
    direction: int,
    batch_first: bool,
    cell_clip: float = 0.0,
    proj_clip: float = 0.0,
    recompute: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, h_n, c_n of one layer; keeps what backward needs only where a gradient can be asked for.

    With ``recompute`` that is the cell states alone: backward makes the gates again.

    Raises:
        RuntimeError: tensors whose shapes, dtypes or devices do not fit together.
    """
    if x.is_cuda and _library.cuda_error:
        raise RuntimeError(f"fused_lstm cannot work on CUDA tensors here: {_library.cuda_error}. Move them to the CPU.")
    if cell_inputs is not None and cell_inputs.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("fused_lstm: cell_inputs has no gradient, but requires one; pass cell_inputs.detach()")
    differentiable = (x, h0, c0, recurrent_scale, cell_params, *weights)
    allow_tf32 = x.is_cuda and tf32_allowed()
    tracing, compiling = torch.jit.is_tracing(), torch.compiler.is_compiling()
    transformed = torch._C._are_functorch_transforms_active()
    # Forward-mode derivatives: of torch operations, as the operators have none. The same for torch.func inside of
    # torch.compile, where an operator with a formula for autograd is refused (grad) or taken for a constant (jvp).
    if (transformed and compiling) or forward_ad._current_level >= 0:
        return _reference_layer(
            x, h0, c0, weights, batch_sizes=batch_sizes, lengths=lengths, resets=resets,
            recurrent_scale=recurrent_scale, cell=CELLS[cell].name, cell_params=cell_params, cell_inputs=cell_inputs,
            cell_clip=cell_clip or None, proj_clip=proj_clip or None,
            direction=DIRECTIONS[direction], batch_first=batch_first,
        )  # fmt: skip
    if transformed:
        save = torch.is_grad_enabled() and any(map(batching.requires_grad, differentiable))
    else:
        save = torch.is_grad_enabled() and any([t is not None and t.requires_grad for t in differentiable])
    if tracing or compiling:
        save = save or tracing  # what was traced without gradients may be played back with them
        return _forward_op(
            x, h0, c0, weights, batch_sizes, lengths, resets, recurrent_scale, cell_params, cell_inputs,
            cell, direction, batch_first, save, allow_tf32, cell_clip, proj_clip, recompute,
        )[:3]  # fmt: skip
    if save:
        return LSTMLayerFunction.apply(
            x, h0, c0, recurrent_scale, cell_params, batch_sizes, lengths, resets, cell_inputs,
            cell, direction, batch_first, allow_tf32, cell_clip, proj_clip, recompute, *weights,
        )[:3]  # fmt: skip
    with _below_autograd():
        return _forward_op(
            x, h0, c0, weights, batch_sizes, lengths, resets, recurrent_scale, cell_params, cell_inputs,
            cell, direction, batch_first, False, allow_tf32, cell_clip, proj_clip, recompute,
        )[:3]  # fmt: skip


def tf32_allowed() -> bool:
    """What torch lets cuDNN's recurrent layers do with float32: round the factors of products to 10 bits."""
    return torch.backends.cudnn.rnn.fp32_precision == "tf32"


# ---- first derivatives


def _gradients(
    tensors: Sequence[Tensor | None],
    weights: Sequence[Tensor],
    options: tuple[int, int, bool, bool, float, float, bool],
    cotangents: Sequence[Tensor | None],
    wanted: Sequence[bool],
    weights_wanted: Sequence[bool],
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Gradients to x, h0, c0, recurrent_scale, cell_params, and to each weight; None where not wanted.

    ``tensors``: x, h0, c0, recurrent_scale, cell_params, batch_sizes, lengths, resets, cell_inputs, y, reserve.
    """
    if batching.by_legacy_vmap(cotangents):  # torch.autograd.grad(..., is_grads_batched=True)
        return batching.lift(
            lambda *gs: _gradients(tensors, weights, options, gs, wanted, weights_wanted), cotangents
        )
    x, h0, c0, recurrent_scale, cell_params, batch_sizes, lengths, resets, cell_inputs, y, reserve = tensors
    cell, direction, batch_first, allow_tf32, *more = options
    D = 2 if direction == 2 else 1
    roles = ROLES[len(weights) // D] * D
    asked = (NEED_X, NEED_H0, NEED_C0, NEED_SCALE, NEED_PARAMS)
    needs = 0
    for need, yes in zip((*asked, *roles), (*wanted, *weights_wanted), strict=True):
        if yes:
            needs |= need
    if not needs or all(g is None for g in cotangents):
        return [None] * len(asked), [None] * len(weights)
    if torch.is_grad_enabled():  # create_graph=True
        gradients = LSTMLayerBackwardFunction.apply(
            *cotangents, x, h0, c0, recurrent_scale, cell_params, batch_sizes, lengths, resets, cell_inputs, y, reserve,
            cell, direction, batch_first, needs, allow_tf32, *more, *weights,
        )  # fmt: skip
    else:
        with _below_autograd():
            gradients = _backward_op(
                *cotangents, x, h0, c0, weights, batch_sizes, lengths, resets, recurrent_scale, cell_params,
                cell_inputs, y, reserve, cell, direction, batch_first, needs, allow_tf32, *more,
            )  # fmt: skip
    answer = iter(gradients)
    one = {need: next(answer) for need in (NEED_X, NEED_H0, NEED_C0) if needs & need}
    each = {
        role: [next(answer) for _ in range(D)] for role in (NEED_W_IH, NEED_W_HH, NEED_BIAS, NEED_W_HR) if needs & role
    }
    one |= {need: next(answer) for need in (NEED_SCALE, NEED_PARAMS) if needs & need}

    to_weights: list[Tensor | None] = [None] * len(weights)
    per_direction = len(weights) // D
    for k, (role, yes) in enumerate(zip(roles, weights_wanted, strict=True)):
        if yes:
            gradient = each[role][k // per_direction]
            # The two biases have one gradient; whoever scales them in place must not scale the same memory twice.
            shared = role == NEED_BIAS and roles[k - 1] == NEED_BIAS and to_weights[k - 1] is gradient
            to_weights[k] = gradient.clone() if shared else gradient
    return [one.get(need) for need in asked], to_weights


class LSTMLayerFunction(torch.autograd.Function):
    """The operator for eager training: flat tensors in, y, h_n, c_n and the reserve out."""

    # apply() binds the arguments to the signature of forward at every call: one name costs less time than thirteen.
    @staticmethod
    def forward(*inputs):
        (x, h0, c0, recurrent_scale, cell_params, batch_sizes, lengths, resets, cell_inputs,
         cell, direction, batch_first, allow_tf32, cell_clip, proj_clip, recompute, *weights) = inputs  # fmt: skip
        with _below_autograd():
            return _forward_op(
                x, h0, c0, weights, batch_sizes, lengths, resets, recurrent_scale, cell_params, cell_inputs,
                cell, direction, batch_first, True, allow_tf32, cell_clip, proj_clip, recompute,
            )  # fmt: skip

    @staticmethod
    def setup_context(ctx, inputs, output):
        tensors, ctx.options = inputs[:9], inputs[9:16]
        y, _, _, reserve = output
        ctx.save_for_backward(*tensors, y, reserve, *inputs[16:])
        ctx.mark_non_differentiable(reserve)
        ctx.set_materialize_grads(False)

    @staticmethod
    def vmap(info, in_dims, *inputs):
        def call(tensors, weights):
            return LSTMLayerFunction.apply(*tensors, *inputs[9:16], *weights)

        return batching.forward(
            info.batch_size, inputs[:9], in_dims[:9], inputs[16:], in_dims[16:], inputs[11], call
        )

    @staticmethod
    def backward(ctx, *cotangents):
        saved = ctx.saved_tensors
        tensors, weights = _gradients(
            saved[:11],
            saved[11:],
            ctx.options,
            cotangents[:3],
            ctx.needs_input_grad[:5],
            ctx.needs_input_grad[16:],
        )
        return *tensors, *(None,) * 11, *weights


def _op_setup_context(ctx, inputs, output) -> None:
    (x, h0, c0, weights, batch_sizes, lengths, resets, recurrent_scale, cell_params, cell_inputs,
     cell, direction, batch_first, ctx.save, *more) = inputs  # fmt: skip
    ctx.options = (cell, direction, batch_first, *more)
    y, _, _, reserve = output
    ctx.save_for_backward(
        x, h0, c0, recurrent_scale, cell_params, batch_sizes, lengths, resets, cell_inputs, y, reserve, *weights
    )
    ctx.mark_non_differentiable(reserve)
    ctx.set_materialize_grads(False)


def _op_backward(ctx, *cotangents):
    if not ctx.save:
        raise RuntimeError("fused_lstm::lstm_layer ran with save=False and kept nothing for backward; pass save=True")
    saved, need = ctx.saved_tensors, ctx.needs_input_grad
    (dx, dh0, dc0, dscale, dparams), dweights = _gradients(
        saved[:11],
        saved[11:],
        ctx.options,
        cotangents[:3],
        (need[0], need[1], need[2], need[7], need[8]),
        need[3],
    )
    # An argument that equals its default does not reach us: as many answers as questions.
    return dx, dh0, dc0, dweights, None, None, None, dscale, dparams, *(None,) * (len(need) - 9)


torch.library.register_autograd("fused_lstm::lstm_layer", _op_backward, setup_context=_op_setup_context)


# ---- second and higher derivatives: the backward operator, differentiated through the reference


class LSTMLayerBackwardFunction(torch.autograd.Function):
    """The backward operator as a function of flat tensors that has derivatives itself."""

    @staticmethod
    def forward(*inputs):
        (dy, dh_n, dc_n, x, h0, c0, recurrent_scale, cell_params, batch_sizes, lengths, resets, cell_inputs, y, reserve,
         *options) = inputs[:22]  # fmt: skip
        return tuple(
            _backward_op(
                dy, dh_n, dc_n, x, h0, c0, inputs[22:], batch_sizes, lengths, resets, recurrent_scale, cell_params,
                cell_inputs, y, reserve, *options,
            )
        )  # fmt: skip

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:12], *inputs[22:])
        ctx.options = (*inputs[14:18], *inputs[19:21])
        ctx.set_materialize_grads(False)

    @staticmethod
    def vmap(info, in_dims, *inputs):
        cell, direction, batch_first, needs, allow_tf32, *more = inputs[14:22]

        def call(cotangents, tensors, y, reserve, weights):
            return LSTMLayerBackwardFunction.apply(*cotangents, *tensors, y, reserve, *inputs[14:22], *weights)

        def run_forward(tensors, weights):
            return LSTMLayerFunction.apply(*tensors, cell, direction, batch_first, allow_tf32, *more, *weights)

        return batching.backward(
            info.batch_size, inputs[:3], in_dims[:3], inputs[3:12], in_dims[3:12], inputs[12:14], in_dims[12:14],
            inputs[22:], in_dims[22:], batch_first, _answer_axes(needs, direction, batch_first), call, run_forward,
            gates_kept=not more[-1],
        )  # fmt: skip

    @staticmethod
    def backward(ctx, *cotangents):
        gradients = _second_gradients(ctx.saved_tensors, ctx.options, cotangents)
        return *gradients[:8], *(None,) * 14, *gradients[8:]


def _backward_op_setup_context(ctx, inputs, output) -> None:
    (dy, dh_n, dc_n, x, h0, c0, weights, batch_sizes, lengths, resets, recurrent_scale, cell_params, cell_inputs,
     _, _, cell, direction, batch_first, needs, _, *clips, _) = inputs  # fmt: skip
    ctx.options = (cell, direction, batch_first, needs, *clips)
    ctx.save_for_backward(
        dy, dh_n, dc_n, x, h0, c0, recurrent_scale, cell_params, batch_sizes, lengths, resets, cell_inputs, *weights
    )
    ctx.set_materialize_grads(False)


def _backward_op_backward(ctx, cotangents):
    gradients = _second_gradients(ctx.saved_tensors, ctx.options, cotangents)
    dy, dh_n, dc_n, x, h0, c0, scale, params, *weights = gradients
    unasked = len(ctx.needs_input_grad) - 12  # differs, see _op_backward
    return dy, dh_n, dc_n, x, h0, c0, weights, None, None, None, scale, params, *(None,) * unasked


def _second_gradients(
    saved: Sequence[Tensor | None],
    options: Sequence[Any],
    cotangents: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Gradients to dy, dh_n, dc_n, x, h0, c0, recurrent_scale, cell_params and each weight.

    ``saved``: those eight, then batch_sizes, lengths, resets, cell_inputs, then the weights.
    """
    if batching.by_legacy_vmap(cotangents):
        return batching.lift(lambda *gs: _second_gradients(saved, options, gs), cotangents)

    def backward(dy, dh_n, dc_n, *values):
        return _reference_gradients((dy, dh_n, dc_n), values, saved[8:12], options)

    with torch.autocast(saved[3].device.type, enabled=False):
        first, pull = _vjp(backward, (*saved[:8], *saved[12:]))
        return pull([torch.zeros_like(f) if g is None else g for f, g in zip(first, cotangents, strict=True)])


def _reference_gradients(
    cotangents: Sequence[Tensor | None],
    values: Sequence[Tensor | None],
    constants: Sequence[Tensor | None],
    options: Sequence[Any],
) -> tuple[Tensor, ...]:
    """What lstm_layer_backward answers, made of differentiable torch operations.

    ``values``: x, h0, c0, recurrent_scale, cell_params and the weights.
    """
    batch_sizes, lengths, resets, cell_inputs = constants
    cell, direction, batch_first, needs, cell_clip, proj_clip = options

    def layer(x, h0, c0, recurrent_scale, cell_params, *weights):
        return _reference_layer(
            x, h0, c0, weights, batch_sizes=batch_sizes, lengths=lengths, resets=resets,
            recurrent_scale=recurrent_scale, cell=CELLS[cell].name, cell_params=cell_params, cell_inputs=cell_inputs,
            cell_clip=cell_clip or None, proj_clip=proj_clip or None,
            direction=DIRECTIONS[direction], batch_first=batch_first,
        )  # fmt: skip

    outputs, pull = _vjp(layer, values)
    dx, dh0, dc0, dscale, dparams, *dweights = pull(
        [torch.zeros_like(out) if g is None else g for out, g in zip(outputs, cotangents, strict=True)]
    )
    roles = ROLES[len(dweights) // (2 if direction == 2 else 1)]
    found = {NEED_X: [dx], NEED_H0: [dh0], NEED_C0: [dc0], NEED_SCALE: [dscale], NEED_PARAMS: [dparams]}
    for k, role in enumerate(roles):
        found.setdefault(role, dweights[k :: len(roles)])  # of the two biases the first: their gradients are equal
    return tuple(gradient for need in sorted(found) if needs & need for gradient in found[need])


def _vjp(function: Callable, values: Sequence[Tensor | None]) -> tuple[Sequence[Tensor], Callable]:
    """``torch.func.vjp`` of a function some of whose arguments are None."""
    present = [k for k, value in enumerate(values) if value is not None]

    def of_present(*tensors):
        arguments = list(values)
        for k, tensor in zip(present, tensors, strict=True):
            arguments[k] = tensor
        return function(*arguments)

    outputs, pull_present = torch.func.vjp(of_present, *(values[k] for k in present))

    def pull(cotangents):
        found = dict(zip(present, pull_present(tuple(cotangents)), strict=True))
        return [found.get(k) for k in range(len(values))]

    return outputs, pull


torch.library.register_autograd(
    "fused_lstm::lstm_layer_backward", _backward_op_backward, setup_context=_backward_op_setup_context
)


# ---- vmap of the operators themselves


_ROW_AXIS = {NEED_H0: 1, NEED_C0: 1, NEED_SCALE: 1}


def _answer_axes(needs: int, direction: int, batch_first: bool) -> list[int | None]:
    rows = {**_ROW_AXIS, NEED_X: 0 if batch_first else 1}
    return [rows.get(need) for need in answers(needs, 2 if direction == 2 else 1)]


def _flat(x, h0, c0, weights, batch_sizes, lengths, resets, recurrent_scale, cell_params, cell_inputs):
    """From the order of the schema to that of ``batching``."""
    return (x, h0, c0, recurrent_scale, cell_params, batch_sizes, lengths, resets, cell_inputs), weights


def _in_order(tensors, weights):
    x, h0, c0, recurrent_scale, cell_params, batch_sizes, lengths, resets, cell_inputs = tensors
    return x, h0, c0, weights, batch_sizes, lengths, resets, recurrent_scale, cell_params, cell_inputs


@torch.library.register_vmap("fused_lstm::lstm_layer")
def _forward_vmap(info, in_dims, *arguments):
    tensors, weights = _flat(*arguments[:10])
    dims, weight_dims = _flat(*in_dims[:10])

    def call(tensors, weights):
        return _forward_op(*_in_order(tensors, weights), *arguments[10:])

    return batching.forward(info.batch_size, tensors, dims, weights, weight_dims, arguments[12], call)


@torch.library.register_vmap("fused_lstm::lstm_layer_backward")
def _backward_vmap(info, in_dims, *arguments):
    tensors, weights = _flat(*arguments[3:13])
    dims, weight_dims = _flat(*in_dims[3:13])
    cell, direction, batch_first, needs, *more = arguments[15:]

    def call(cotangents, tensors, y, reserve, weights):
        return _backward_op(*cotangents, *_in_order(tensors, weights), y, reserve, *arguments[15:])

    def run_forward(tensors, weights):
        return _forward_op(*_in_order(tensors, weights), cell, direction, batch_first, True, *more)

    gradients, axes = batching.backward(
        info.batch_size, arguments[:3], in_dims[:3], tensors, dims, arguments[13:15], in_dims[13:15],
        weights, weight_dims, batch_first, _answer_axes(needs, direction, batch_first), call, run_forward,
    )  # fmt: skip
    return list(gradients), list(axes)
