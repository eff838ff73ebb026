"""The definition: an LSTM as a loop over torch operations.

Everything else in this package computes what this file says, only faster. It needs nothing but torch, takes any
floating dtype on any device, and autograd differentiates it any number of times.

One step, with gates in the order i, f, g, o::

    a_t = W_ih x_t + b_ih + W_hh (s * h_{t-1}) + b_hh
    i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o)        g = tanh(a_g)
    c_t = f * c_{t-1} + i * g                                 h_t = o * tanh(c_t)        h_t = W_hr h_t  if projected

Hochreiter & Schmidhuber 1997 (the cell); Gers, Schmidhuber & Cummins 2000 (forget gate); Graves & Schmidhuber 2005
(both directions); Sak, Senior & Beaufays 2014 (projection W_hr); Gal & Ghahramani 2016 (s, one mask for all steps).
Other cells replace the last two lines: see ``cells.py``. ``cell_clip`` bounds c as soon as it is computed, before any
gate reads it; ``proj_clip`` bounds the projected h (Sak, Senior & Beaufays 2014, as in TensorFlow's LSTMCell). Neither
lets a gradient through where the bound was reached.

Sizes: T steps, B rows, I input, H hidden, P output (``proj_size`` or H), D directions, N packed rows, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import dropout as _dropout
from torch.nn.functional import linear

from .cells import CELLS, Cell, cell_index, clipped


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
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer. Arguments and results as in :func:`fused_lstm.lstm_layer`."""
    index = cell_index(cell)
    reversals = {"forward": (False,), "reverse": (True,), "both": (False, True)}[direction]
    leading = _Leading(x, batch_sizes, lengths, batch_first)
    # 16-bit types: products, sums and the cell state are float32, h is rounded at every step.
    dtype = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype

    def wide(t: Tensor | None) -> Tensor | None:
        return None if t is None else t.to(dtype)

    def pick(t: Tensor | None, d: int) -> Tensor | None:
        return None if t is None else wide(t[d])

    per_direction = len(weights) // len(reversals)
    results = [
        _one_direction(
            CELLS[index],
            leading.unfold(wide(x)),
            pick(h0, d),
            pick(c0, d),
            [wide(w) for w in weights[d * per_direction : (d + 1) * per_direction]],
            alive=leading.alive,
            cut=None if resets is None else leading.unfold(resets),
            scale=pick(recurrent_scale, d),
            params=pick(cell_params, d),
            inputs=None if cell_inputs is None else leading.unfold(pick(cell_inputs, d)),
            clips=(cell_clip, proj_clip),
            reverse=reverse,
            rounding=x.dtype,
        )
        for d, reverse in enumerate(reversals)
    ]
    ys, hs, cs = zip(*results, strict=True)
    y = leading.fold(torch.cat(ys, -1))
    return y.to(x.dtype), torch.stack(hs).to(x.dtype), torch.stack(cs).to(x.dtype)


def lstm(
    x: Tensor,
    hx: tuple[Tensor, Tensor] | None,
    weights: Sequence[Tensor],
    num_layers: int = 1,
    *,
    dropout: float = 0.0,
    training: bool = False,
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
) -> tuple[Tensor, Tensor, Tensor]:
    """Layers stacked on each other, with dropout between them, as ``torch.nn.LSTM`` does it.

    As :func:`lstm_layer`, with what belongs to a direction given for all layers at once: ``weights`` layer after
    layer, and ``(h0, c0)``, ``recurrent_scale``, ``cell_params``, ``cell_inputs`` with a first axis of L*D.
    """
    if batch_first and batch_sizes is None:  # steps first inside: dropout then draws what nn.LSTM draws
        x = x.transpose(0, 1)
        resets = None if resets is None else resets.transpose(0, 1)
        cell_inputs = None if cell_inputs is None else cell_inputs.transpose(1, 2)
    D = 2 if direction == "both" else 1
    per_layer = len(weights) // num_layers
    h0, c0 = (None, None) if hx is None else hx
    h_n, c_n = [], []
    for layer in range(num_layers):
        rows = slice(layer * D, (layer + 1) * D)
        x, h, c = lstm_layer(
            x if layer == 0 else _dropout(x, dropout, training),
            None if h0 is None else h0[rows],
            None if c0 is None else c0[rows],
            weights[layer * per_layer : (layer + 1) * per_layer],
            batch_sizes=batch_sizes,
            lengths=lengths,
            resets=resets,
            recurrent_scale=None if recurrent_scale is None else recurrent_scale[rows],
            cell=cell,
            cell_params=None if cell_params is None else cell_params[rows],
            cell_inputs=None if cell_inputs is None else cell_inputs[rows],
            cell_clip=cell_clip,
            proj_clip=proj_clip,
            direction=direction,
        )
        h_n.append(h)
        c_n.append(c)
    if batch_first and batch_sizes is None:
        x = x.transpose(0, 1).contiguous()
    return x, torch.cat(h_n), torch.cat(c_n)


def _one_direction(
    cell: Cell,
    x: Tensor,
    h: Tensor | None,
    c: Tensor | None,
    weights: Sequence[Tensor],
    *,
    alive: Tensor,
    cut: Tensor | None,
    scale: Tensor | None,
    params: Tensor | None,
    inputs: Tensor | None,
    clips: tuple[float | None, float | None],
    reverse: bool,
    rounding: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """``x`` (T, B, I) is zero and ``cut`` (T, B, 1), which parts a step from the last, False where not ``alive``."""
    w_ih, w_hh, b_ih, b_hh, w_hr = _name(weights)
    if cell.reads_h_prev and w_hr is not None:
        raise RuntimeError(f"cell {cell.name!r} needs h of hidden_size and cannot be projected; leave out w_hr")
    if cell.output_cell and w_hr is not None:
        raise RuntimeError(f"cell {cell.name!r} reads c through W_hh, which must be square; leave out w_hr")
    T, B, _ = x.shape
    P, H = w_hh.shape[1], w_hh.shape[0] // 4
    # of the dtype that it bounds: what was rounded is compared with it
    proj_clip = None if clips[1] is None else torch.tensor(clips[1], dtype=rounding).item()
    h = x.new_zeros(B, P) if h is None else h
    c = x.new_zeros(B, H) if c is None else c

    ys: list[Tensor] = []
    for t in reversed(range(T)) if reverse else range(T):
        border = t + 1 if reverse else t  # the cut, if any, between this step and the one computed before it
        h_prev, c_prev = h, c
        if cut is not None and border < T:
            h_prev = torch.where(cut[border], 0, h_prev)
            c_prev = torch.where(cut[border], 0, c_prev)
        s_h = h_prev if scale is None else scale * h_prev
        a = cell.pre_activations(x[t], s_h, w_ih, w_hh, (b_ih, b_hh), params)
        given = None if inputs is None else inputs[t]
        h_new, c_new = cell.step(a, h_prev, c_prev, params, given, w_hh[3 * H :], clips[0])
        if w_hr is not None:
            h_new = linear(h_new, w_hr)
        h_new = clipped(h_new.to(rounding).to(h.dtype), proj_clip)
        h = torch.where(alive[t], h_new, h)
        c = torch.where(alive[t], c_new, c)
        ys.append(torch.where(alive[t], h_new, 0))
    y = torch.stack(ys[::-1] if reverse else ys) if ys else x.new_zeros(0, B, P)
    return y, h, c


def _name(weights: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """w_ih, w_hh, b_ih, b_hh, w_hr of a direction that holds 2 of them, 3 (w_hr), 4 (biases) or all 5."""
    w_ih, w_hh, *rest = weights
    w_hr = rest.pop() if len(rest) in (1, 3) else None
    b_ih, b_hh = rest or (None, None)
    return w_ih, w_hh, b_ih, b_hh, w_hr


class _Leading:
    """The three ways to lay out steps and rows, and the way from each to (T, B, ...) and back."""

    def __init__(self, x: Tensor, batch_sizes: Tensor | None, lengths: Tensor | None, batch_first: bool) -> None:
        self.packed, self.batch_first = batch_sizes is not None, batch_first
        if batch_sizes is not None:
            T, B = len(batch_sizes), int(batch_sizes[0]) if len(batch_sizes) else 0
            # A packed sequence lists step after step the rows still alive: the order of this mask's true entries.
            alive = torch.arange(B) < batch_sizes.unsqueeze(1)
        else:
            T, B = x.shape[1::-1] if batch_first else x.shape[:2]
            ends = torch.full((B,), T, device=x.device) if lengths is None else lengths
            alive = torch.arange(T, device=x.device).unsqueeze(1) < ends
        self.alive = alive.unsqueeze(-1).to(x.device)

    def unfold(self, t: Tensor) -> Tensor:
        """To (T, B, ...), zero (or False) where no row is alive; a tensor without features gets one."""
        T, B, _ = self.alive.shape
        if self.packed:
            t = t.unsqueeze(-1) if t.dim() == 1 else t
            return t.new_zeros(T, B, *t.shape[1:]).masked_scatter(self._alive_like(t.dim() + 1), t)
        t = t.unsqueeze(-1) if t.dim() == 2 else t
        t = t.transpose(0, 1) if self.batch_first else t
        return torch.where(self._alive_like(t.dim()), t, t.new_zeros(()))

    def fold(self, y: Tensor) -> Tensor:
        if self.packed:
            return y[self.alive.squeeze(-1)]
        return y.transpose(0, 1).contiguous() if self.batch_first else y

    def _alive_like(self, dim: int) -> Tensor:
        return self.alive[(...,) + (None,) * (dim - 3)]
