"""The operators under ``torch.vmap``, where each tensor may have one more axis, of N entries.

Rows do not know of each other: where weights are shared, N entries of B rows are one call with N*B rows. Where each
entry has weights of its own (ensembles), or is owed weight gradients of its own (per-sample gradients), and for packed
data, it is a call for each.

``tensors`` are x, h0, c0, recurrent_scale, cell_params, batch_sizes, lengths, resets, cell_inputs; ``dims`` say of each
tensor which of its axes is the additional one, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils._pytree import tree_flatten, tree_unflatten

X, PARAMS, BATCH_SIZES, LENGTHS = 0, 4, 5, 6

Dims = Sequence[int | None]
Tensors = Sequence[Tensor | None]


def forward(
    size: int, tensors: Tensors, dims: Dims, weights: Tensors, weight_dims: Dims, batch_first: bool, call: Callable
) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
    """y, h_n, c_n, reserve and where their additional axes are. ``call(tensors, weights)`` answers without them.

    The reserve of a folded call stays in one piece, without additional axis.
    """
    if _shared(tensors, dims, weight_dims):
        axes = _row_axes(batch_first)
        y, h_n, c_n, reserve = call(_fold_all(tensors, dims, axes, size), weights)
        lead = axes[X]
        return (_unfold(y, lead, size), _unfold(h_n, 1, size), _unfold(c_n, 1, size), reserve), (lead, 1, 1, None)
    answers = [call(*entry) for entry in _entries(size, (tensors, dims), (weights, weight_dims))]
    return tuple(torch.stack(ts) for ts in zip(*answers, strict=True)), (0, 0, 0, 0)


def backward(
    size: int,
    cotangents: Tensors,
    cotangent_dims: Dims,
    tensors: Tensors,
    dims: Dims,
    kept: tuple[Tensor, Tensor],
    kept_dims: tuple[int | None, int | None],
    weights: Tensors,
    weight_dims: Dims,
    batch_first: bool,
    answer_axes: Sequence[int | None],
    call: Callable,
    run_forward: Callable,
    gates_kept: bool = True,
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Gradients and where their additional axes are. ``kept`` are y and reserve.

    ``answer_axes``: of each gradient the axis of rows, None where it sums over rows, which folding would mix up.
    ``call(cotangents, tensors, y, reserve, weights)`` and ``run_forward(tensors, weights)`` know no additional axes.
    """
    (y, reserve), (y_dim, reserve_dim) = kept, kept_dims
    axes = _row_axes(batch_first)
    folded = reserve_dim is None and y_dim is not None
    rectangle = tensors[LENGTHS] is None
    rows = _rows(tensors[X], dims[X], axes[X])
    kept_by = _Layout(lies_as_on_cuda(tensors[X]), batch_first, gates_kept)
    if (
        _shared(tensors, dims, weight_dims)
        and reserve_dim is None
        and (folded or rectangle)
        and None not in answer_axes
    ):
        if not folded:
            reserve = kept_by.repeated(reserve, rows, _hidden(weights), size)
        gradients = call(
            _fold_all(cotangents, cotangent_dims, (axes[X], 1, 1), size),
            _fold_all(tensors, dims, axes, size),
            _fold(y, y_dim, axes[X], size),
            reserve,
            weights,
        )
        return tuple(_unfold(g, a, size) for g, a in zip(gradients, answer_axes, strict=True)), tuple(answer_axes)

    def reserve_of(n: int, entry: Tensors, entry_weights: Tensors) -> Tensor:
        if not folded:
            return _select(reserve, reserve_dim, n)
        if rectangle:
            return kept_by.part(reserve, size * rows, _hidden(entry_weights), n * rows, rows)
        return run_forward(entry, entry_weights)[3]  # rows of all entries are sorted by length there

    groups = (cotangents, cotangent_dims), (tensors, dims), (weights, weight_dims)
    answers = [
        call(pulled, entry, _select(y, y_dim, n), reserve_of(n, entry, entry_weights), entry_weights)
        for n, (pulled, entry, entry_weights) in enumerate(_entries(size, *groups))
    ]
    gradients = tuple(torch.stack(gs) for gs in zip(*answers, strict=True))
    return gradients, (0,) * len(gradients)


def requires_grad(t: Tensor | None) -> bool:
    """Whether any transform around, or autograd outside of all, will ask for a gradient to ``t``."""
    if t is None:
        return False
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(t):  # a batched tensor says no, whatever is in it
        if t.requires_grad:
            return True
        t = functorch.get_unwrapped(t)
    return t.requires_grad


def by_legacy_vmap(cotangents: Tensors) -> bool:
    """Whether autograd's own vmap made them, which knows no rules for operators from outside."""
    return any([g is not None and torch._C._functorch.is_legacy_batchedtensor(g) for g in cotangents])


def lift(function: Callable, cotangents: Tensors) -> Any:
    """``function(*cotangents)`` by torch.func.vmap."""
    torch._C._vmapmode_increment_nesting()
    level = max(torch._C._vmapmode_decrement_nesting(), 1)  # 0 in autograd's threads for other devices
    batched = [g is not None and torch._C._functorch.is_legacy_batchedtensor(g) for g in cotangents]
    plain = [torch._remove_batch_dim(g, level, 1, 0) if b else g for g, b in zip(cotangents, batched, strict=True)]
    presence, structure = [], None

    def present(*gs: Tensor) -> tuple[Tensor, ...]:
        nonlocal presence, structure
        given = iter(gs)
        found = function(*(next(given) if b else g for g, b in zip(plain, batched, strict=True)))
        leaves, structure = tree_flatten(found)
        presence = [t is not None for t in leaves]
        return tuple(t for t in leaves if t is not None)

    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.FuncTorchVmapMode)):
        found = torch.func.vmap(present)(*(g for g, b in zip(plain, batched, strict=True) if b))
    answers = iter(torch._add_batch_dim(t, 0, level) for t in found)
    return tree_unflatten([next(answers) if p else None for p in presence], structure)


def _shared(tensors: Tensors, dims: Dims, weight_dims: Dims) -> bool:
    own = any(dim is not None for dim in (dims[PARAMS], *weight_dims))
    return not own and tensors[BATCH_SIZES] is None


def _row_axes(batch_first: bool) -> tuple[int | None, ...]:
    """Where each of ``tensors`` has its rows."""
    lead = 0 if batch_first else 1
    return lead, 1, 1, 1, None, None, 0, lead, 1 + lead


def _rows(x: Tensor, dim: int | None, axis: int) -> int:
    return x.shape[axis] if dim is None else x.shape[axis + (dim <= axis)]


def _select(t: Tensor | None, dim: int | None, n: int) -> Tensor | None:
    return t if t is None or dim is None else t.select(dim, n)


def _entries(size: int, *groups: tuple[Tensors, Dims]) -> Iterator[list[list[Tensor | None]]]:
    for n in range(size):
        yield [[_select(t, dim, n) for t, dim in zip(ts, dims, strict=True)] for ts, dims in groups]


def _fold_all(ts: Tensors, dims: Dims, axes: Sequence[int | None], size: int) -> list[Tensor | None]:
    return [_fold(t, dim, axis, size) for t, dim, axis in zip(ts, dims, axes, strict=True)]


def _fold(t: Tensor | None, dim: int | None, axis: int | None, size: int) -> Tensor | None:
    """The additional axis before the rows, and both made one."""
    if t is None or axis is None:
        return t
    if dim is None:
        t = t.unsqueeze(axis)
        t = t.expand(*(size if k == axis else -1 for k in range(t.dim())))
    else:
        t = t.movedim(dim, axis)
    return t.flatten(axis, axis + 1)


def _unfold(t: Tensor, axis: int, size: int) -> Tensor:
    return t.unflatten(axis, (size, t.shape[axis] // size))


def _hidden(weights: Tensors) -> int:
    return weights[0].shape[0] // 4


def lies_as_on_cuda(x: Tensor) -> bool:
    """Whether the operator that serves ``x`` keeps what backward needs as on a GPU."""
    return x.device.type == "cuda"


@dataclass(frozen=True)
class _Layout:
    """How the reserve of a rectangle lies: gates, then cells, each [D, pairs of step and row, units].

    CPU (``ReserveLayout`` in csrc/core/reserve.h): steps before rows, units padded. CUDA (``gates_in`` in
    csrc/binding/cuda_call.h): pairs in the order of x, no padding, and what the shape has too much lies at the end.
    """

    cuda: bool
    batch_first: bool
    gates_kept: bool

    @property
    def _axis(self) -> int:
        return 1 if self.cuda and self.batch_first else 2

    def _split(self, reserve: Tensor, rows: int, hidden: int) -> tuple[Tensor, Tensor]:
        D, pairs, width = reserve.shape
        if not self.cuda:
            hidden = width // 5 if self.gates_kept else width
        gates = 4 * hidden if self.gates_kept else 0
        steps = pairs // rows if rows else 0
        order = (rows, steps) if self._axis == 1 else (steps, rows)
        flat, begin = reserve.flatten(), D * pairs * gates
        return (
            flat[:begin].reshape(D, *order, gates),
            flat[begin : begin + D * pairs * hidden].reshape(D, *order, hidden),
        )

    def _join(self, gates: Tensor, cells: Tensor, like: Tensor) -> Tensor:
        D, pairs, width = len(cells), cells.shape[1] * cells.shape[2], like.shape[-1]
        joined = torch.cat([gates.flatten(), cells.flatten()])
        return pad(joined, (0, D * pairs * width - joined.numel())).view(D, pairs, width)

    def repeated(self, reserve: Tensor, rows: int, hidden: int, size: int) -> Tensor:
        """The reserve of ``size`` times the same rows."""
        times = [size if axis == self._axis else 1 for axis in range(4)]
        return self._join(*(part.repeat(times) for part in self._split(reserve, rows, hidden)), reserve)

    def part(self, reserve: Tensor, rows: int, hidden: int, begin: int, count: int) -> Tensor:
        """The reserve of ``count`` of its ``rows``."""
        parts = (part.narrow(self._axis, begin, count) for part in self._split(reserve, rows, hidden))
        return self._join(*parts, reserve)
