"""The LSTM as functions: one layer, or layers stacked with dropout between them.

Here arguments get checked and brought into the form that the operators take; what the shapes of weights and states must
be, the operators check themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import dropout as _dropout
from torch.nn.utils.rnn import PackedSequence

from . import ops
from .cells import cell_index

_DIRECTION_INDEX = {name: index for index, name in enumerate(ops.DIRECTIONS)}


def lstm_layer(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Tensor],
    *,
    batch_sizes: Tensor | None = None,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    recurrent_scale: Tensor | None = None,
    cell: str = "vanilla",
    cell_params: Tensor | None = None,
    cell_inputs: Tensor | None = None,
    cell_clip: float | None = None,
    proj_clip: float | None = None,
    direction: str = "forward",
    batch_first: bool = False,
    recompute: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """One LSTM layer, from x to y, one or both directions.

    The equations are those of :mod:`fused_lstm.reference`, whose ``lstm_layer`` gives the same results step by step.

    Sizes: T steps, B rows, I input, H hidden, P output (``proj_size`` or H), D directions (1 or 2), N packed rows.
    Dtypes: float32, float64, bfloat16, float16, the same for all floating tensors. For the 16-bit ones, sums and cell
    state are float32 and h is rounded at every step. Under ``torch.autocast`` floating tensors other than float64 are
    cast to the autocast dtype, which is then also the dtype of the results.

    Args:
        x: (T, B, I), or (B, T, I) with ``batch_first``, or (N, I) with ``batch_sizes``.
        h0: (D, B, P), or None for zeros.
        c0: (D, B, H), or None for zeros.
        weights: for each direction w_ih (4H, I), w_hh (4H, P), then b_ih (4H,) and b_hh (4H,) if there are biases,
            then w_hr (P, H) if h is projected. Gates in the order i, f, g, o.
        batch_sizes: (T,) int64 on the CPU, not increasing: rows alive at each step, as in ``PackedSequence``.
        lengths: (B,) integers in [0, T], in any order: valid steps of each row. y is 0 beyond them, h_n and c_n are the
            states after the last valid step, the reverse direction starts there. Excludes ``batch_sizes``.
        resets: bool, the leading axes of x. True at step t parts the row between t-1 and t: the state that crosses the
            border is zero, and so is its gradient. At t = 0 the forward direction ignores h0 and c0.
        recurrent_scale: (D, B, P), multiplies h on its way into W_hh at every step.
        cell: "vanilla", or one or more of the parts "coupled", "peephole", "zoneout", "layer_norm", "output_cell", in
            this order, joined by "+": the maths of a step, see :class:`fused_lstm.cells.Cell`. "output_cell" goes
            with neither "peephole" nor "layer_norm".
        cell_params: (D, n, H), one after the other: for "peephole" the diagonal weights p_i, p_f, p_o (n = 3), for
            "layer_norm" gamma_ih and gamma_hh (4 rows each, gates in the order of weights), gamma_c, beta_c (n = 10).
        cell_inputs: (D, leading axes of x, n, H), without gradient: "zoneout" has n = 2, the keep masks k_h, k_c.
        cell_clip: the new c is kept within [-cell_clip, cell_clip] before any gate reads it; no gradient at the bounds.
        proj_clip: the same for the projected h.
        direction: "forward", "reverse" or "both".
        batch_first: x, resets and y have rows before steps. Says nothing about packed data.
        recompute: keep only the cell states for backward, which makes the gates again: a fifth of the memory for the
            time of one more forward product.

    Returns:
        y (T, B, D*P), in the layout of x and contiguous; h_n (D, B, P); c_n (D, B, H).

    Raises:
        TypeError, ValueError: ``lengths``, ``resets``, ``cell`` or ``direction`` is not as described.
        RuntimeError: other shapes, dtypes or devices do not fit together.
    """
    code = _direction_code(direction)
    _check_rank(x, batch_sizes)
    lengths, resets = _check_rows(x, batch_sizes, lengths, resets, batch_first)
    if not x.is_meta and torch.is_autocast_enabled(x.device.type):
        x, h0, c0, recurrent_scale, cell_params, cell_inputs, *weights = _autocast(
            x, h0, c0, recurrent_scale, cell_params, cell_inputs, *weights
        )
    return ops.lstm_layer(
        x, h0, c0, list(weights), batch_sizes, lengths, resets, recurrent_scale, cell_params, cell_inputs,
        cell_index(cell), code, batch_first, *_check_clips(cell_clip, proj_clip), recompute,
    )  # fmt: skip


def lstm(
    x: Tensor | PackedSequence,
    hx: tuple[Tensor, Tensor] | None,
    weights: Sequence[Tensor],
    num_layers: int = 1,
    *,
    dropout: float = 0.0,
    training: bool = False,
    lengths: Tensor | None = None,
    resets: Tensor | PackedSequence | None = None,
    recurrent_scale: Tensor | None = None,
    cell: str = "vanilla",
    cell_params: Tensor | None = None,
    cell_inputs: Tensor | None = None,
    cell_clip: float | None = None,
    proj_clip: float | None = None,
    direction: str = "forward",
    batch_first: bool = False,
    recompute: bool = False,
) -> tuple[Tensor | PackedSequence, Tensor, Tensor]:
    """L LSTM layers, each fed with the one before; the function that ``FusedLSTM`` is a module around.

    Arguments are those of :func:`lstm_layer`, with what belongs to a direction given for all layers at once, layer
    after layer and direction after direction:

    Args:
        x: as in :func:`lstm_layer`, or a ``PackedSequence``, in which case y is one too.
        hx: h0 (L*D, B, P) and c0 (L*D, B, H), or None for zeros. Rows in the caller's order, also with a
            ``PackedSequence`` that was sorted.
        weights: L times what :func:`lstm_layer` takes.
        num_layers: L.
        dropout: share of each layer's outputs, but the last one's, that is zeroed while ``training``. Draws what
            ``torch.nn.LSTM`` draws from the same seed.
        resets: with a ``PackedSequence``, bools (N,) in its order, or a ``PackedSequence`` of them.
        recurrent_scale: (L*D, B, P).
        cell_params: (L*D, n, H).
        cell_inputs: (L*D, leading axes of x, n, H).

    Returns:
        y as in :func:`lstm_layer`; h_n (L*D, B, P); c_n (L*D, B, H).

    Raises:
        TypeError, ValueError, RuntimeError: as :func:`lstm_layer`.
    """
    if isinstance(x, PackedSequence):
        return _lstm_packed(
            x, hx, weights, num_layers, dropout, training, lengths, resets, recurrent_scale,
            cell, cell_params, cell_inputs, direction, _check_clips(cell_clip, proj_clip), recompute,
        )  # fmt: skip
    code = _direction_code(direction)
    _check_rank(x, None)
    lengths, resets = _check_rows(x, None, lengths, resets, batch_first)
    h0, c0 = (None, None) if hx is None else hx
    return _stack(
        x, h0, c0, weights, num_layers, dropout if training else 0.0, None, lengths, resets, recurrent_scale,
        cell_index(cell), cell_params, cell_inputs, code, batch_first, _check_clips(cell_clip, proj_clip), recompute,
    )  # fmt: skip


def _lstm_packed(
    x, hx, weights, num_layers, dropout, training, lengths, resets, recurrent_scale,
    cell, cell_params, cell_inputs, direction, clips, recompute,
):  # fmt: skip
    data, batch_sizes, to_sorted, to_caller = x
    if isinstance(resets, PackedSequence):
        if not (_same(resets.batch_sizes, batch_sizes) and _same(resets.sorted_indices, to_sorted)):
            raise ValueError(_PACKED_OTHERWISE)
        resets = resets.data
    lengths, resets = _check_rows(data, batch_sizes, lengths, resets, False)
    h0, c0 = (None, None) if hx is None else hx
    if to_sorted is not None:
        h0, c0, recurrent_scale = (
            None if t is None else t.index_select(1, to_sorted) for t in (h0, c0, recurrent_scale)
        )
    y, h_n, c_n = _stack(
        data, h0, c0, weights, num_layers, dropout if training else 0.0, batch_sizes, None, resets, recurrent_scale,
        cell_index(cell), cell_params, cell_inputs, _direction_code(direction), False, clips, recompute,
    )  # fmt: skip
    if to_caller is not None:
        h_n, c_n = h_n.index_select(1, to_caller), c_n.index_select(1, to_caller)
    return PackedSequence(y, batch_sizes, to_sorted, to_caller), h_n, c_n


_PACKED_OTHERWISE = "resets must be packed as x is: with the same lengths, in the same order of rows"


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is b or a is None or b is None:
        return a is b
    if torch.compiler.is_compiling() and a.shape == b.shape:  # values exist only when the compiled graph runs
        torch._assert_async((a == b).all(), _PACKED_OTHERWISE)
        return True
    return torch.equal(a, b)


def _check_layers(num_layers: int, D: int, weights: Sequence[Tensor], **by_direction: Tensor | None) -> None:
    if num_layers < 1 or len(weights) % (num_layers * D):
        raise ValueError(
            f"weights must divide by {num_layers} layers and {D} directions, but are {len(weights)}"
        )
    for name, t in by_direction.items():
        if t is not None and t.shape[0] != num_layers * D:
            raise ValueError(
                f"{name} must have a first axis of {num_layers * D} (layers times directions), but has {t.shape[0]}"
            )


def _stack(
    x, h0, c0, weights, num_layers, dropout, batch_sizes, lengths, resets, recurrent_scale,
    cell, cell_params, cell_inputs, direction, batch_first, clips, recompute,
):  # fmt: skip
    """The layers; everything checked, names turned to numbers."""
    if not x.is_meta and torch.is_autocast_enabled(x.device.type):
        x, h0, c0, recurrent_scale, cell_params, cell_inputs, *weights = _autocast(
            x, h0, c0, recurrent_scale, cell_params, cell_inputs, *weights
        )
    if num_layers == 1:
        return ops.lstm_layer(
            x, h0, c0, weights, batch_sizes, lengths, resets, recurrent_scale, cell_params, cell_inputs,
            cell, direction, batch_first, *clips, recompute,
        )  # fmt: skip
    D = 2 if direction == 2 else 1
    _check_layers(
        num_layers, D, weights, h0=h0, c0=c0, recurrent_scale=recurrent_scale, cell_params=cell_params,
        cell_inputs=cell_inputs,
    )  # fmt: skip
    per_layer = len(weights) // num_layers
    last_states = []
    for layer in range(num_layers):
        if layer and dropout:
            x = _drop(x, dropout, batch_first)
        rows = slice(layer * D, (layer + 1) * D)
        x, *states = ops.lstm_layer(
            x,
            None if h0 is None else h0[rows],
            None if c0 is None else c0[rows],
            weights[layer * per_layer : (layer + 1) * per_layer],
            batch_sizes,
            lengths,
            resets,
            None if recurrent_scale is None else recurrent_scale[rows],
            None if cell_params is None else cell_params[rows],
            None if cell_inputs is None else cell_inputs[rows],
            cell,
            direction,
            batch_first,
            *clips,
            recompute,
        )
        last_states.append(states)
    h_n, c_n = zip(*last_states, strict=True)
    return x, torch.cat(h_n), torch.cat(c_n)


def _drop(y: Tensor, p: float, batch_first: bool) -> Tensor:
    if not batch_first:
        return _dropout(y, p)
    # nn.LSTM works steps first, and so draws its mask in that order, whatever the order of its input.
    B, T, K = y.shape
    return y * _dropout(y.new_ones(T, B, K), p).transpose(0, 1)


def _autocast(x: Tensor, *others: Tensor | None) -> list[Tensor | None]:
    dtype = torch.get_autocast_dtype(x.device.type)
    # As torch's own autocast: float64 stays what it is.
    return [
        t.to(dtype) if t is not None and t.is_floating_point() and t.dtype != torch.float64 else t for t in (x, *others)
    ]


def _check_clips(cell_clip: float | None, proj_clip: float | None) -> tuple[float, float]:
    """As the operators take them: 0 for none."""
    if cell_clip is None and proj_clip is None:
        return (0.0, 0.0)
    for name, clip in (("cell_clip", cell_clip), ("proj_clip", proj_clip)):
        if clip is not None and not 0 < clip < math.inf:
            raise ValueError(f"{name} must be above 0 and finite, or None, but is {clip}")
    return cell_clip or 0.0, proj_clip or 0.0


def _direction_code(direction: str) -> int:
    try:
        return _DIRECTION_INDEX[direction]
    except (KeyError, TypeError):
        raise ValueError(
            f"direction must be one of {', '.join(map(repr, ops.DIRECTIONS))}, but is {direction!r}"
        ) from None


def _check_rank(x: Tensor, batch_sizes: Tensor | None) -> None:
    expected = "(T, B, I) or, with batch_first, (B, T, I)" if batch_sizes is None else "(N, I) with batch_sizes"
    if x.dim() != (3 if batch_sizes is None else 2):
        raise ValueError(f"x must have shape {expected}, but has {tuple(x.shape)}")


def _check_rows(
    x: Tensor, batch_sizes: Tensor | None, lengths: Tensor | None, resets: Tensor | None, batch_first: bool
) -> tuple[Tensor | None, Tensor | None]:
    if lengths is not None:
        if batch_sizes is not None:
            raise ValueError("lengths cannot go with packed data, which knows its own lengths; leave out lengths")
        lengths = _check_lengths(x, lengths, batch_first)
    if resets is not None:
        _check_resets(x, resets, batch_sizes is not None)
    return lengths, resets


def _check_lengths(x: Tensor, lengths: Tensor, batch_first: bool) -> Tensor:
    if not isinstance(lengths, Tensor):
        raise TypeError(f"lengths must be a tensor, but is {type(lengths).__name__}; use torch.tensor(lengths)")
    if lengths.dtype.is_floating_point or lengths.dtype.is_complex or lengths.dtype == torch.bool:
        raise TypeError(f"lengths must hold integers, but has dtype {lengths.dtype}; use lengths.long()")
    T, B = (x.shape[1], x.shape[0]) if batch_first else (x.shape[0], x.shape[1])
    if lengths.shape != (B,):
        raise ValueError(f"lengths must have shape ({B},), one length for each row, but has {tuple(lengths.shape)}")
    # Reading values off another device would make the host wait for it; under vmap only the operator sees them.
    hidden = torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(lengths)
    if lengths.device.type == "cpu" and not hidden and B:
        low, high = lengths.aminmax()
        if low < 0 or high > T:
            raise ValueError(f"lengths must lie in [0, {T}], as x has {T} steps, but lie in [{int(low)}, {int(high)}]")
    return lengths.to(x.device, torch.int64)


def _check_resets(x: Tensor, resets: Tensor, packed: bool) -> None:
    if not isinstance(resets, Tensor):
        raise TypeError(f"resets must be a tensor of bools, but is {type(resets).__name__}")
    if resets.dtype != torch.bool:
        raise TypeError(f"resets must have dtype torch.bool, but has {resets.dtype}; use resets.bool()")
    if resets.shape != x.shape[:-1]:
        raise ValueError(
            f"resets must have shape {tuple(x.shape[:-1])}, the leading axes of {'packed data' if packed else 'x'}, "
            f"but has {tuple(resets.shape)}"
        )
    if resets.device != x.device:
        raise ValueError(f"resets must be on {x.device}, where x is, but is on {resets.device}")
