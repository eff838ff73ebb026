"""The cells: the maths of one step, in plain torch, in the order of ``csrc/cell/variants.h``.

A cell turns pre-activations and the previous state into the next state. ``a`` is ``(B, 4H)``, the gates i, f, g, o
side by side; ``h_prev`` is ``(B, P)``, ``c_prev`` is ``(B, H)``. A cell may ask for tensors of its own:
``params``, ``(n_params, H)``, learned, and ``inputs``, ``(B, n_inputs, H)``, given anew for every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Step = Callable[[Tensor, Tensor, Tensor, "Tensor | None", "Tensor | None"], "tuple[Tensor, Tensor]"]


def _vanilla(a: Tensor, h_prev: Tensor, c_prev: Tensor, params: None, inputs: None) -> tuple[Tensor, Tensor]:
    i, f, g, o = a.chunk(4, -1)
    c = f.sigmoid() * c_prev + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _peephole(a: Tensor, h_prev: Tensor, c_prev: Tensor, params: Tensor, inputs: None) -> tuple[Tensor, Tensor]:
    i, f, g, o = a.chunk(4, -1)
    p_i, p_f, p_o = params
    c = (f + p_f * c_prev).sigmoid() * c_prev + (i + p_i * c_prev).sigmoid() * g.tanh()
    return (o + p_o * c).sigmoid() * c.tanh(), c


def _coupled(a: Tensor, h_prev: Tensor, c_prev: Tensor, params: None, inputs: None) -> tuple[Tensor, Tensor]:
    _, f, g, o = a.chunk(4, -1)
    keep = f.sigmoid()
    c = keep * c_prev + (1 - keep) * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _zoneout(a: Tensor, h_prev: Tensor, c_prev: Tensor, params: None, inputs: Tensor) -> tuple[Tensor, Tensor]:
    k_h, k_c = inputs.unbind(1)
    h, c = _vanilla(a, h_prev, c_prev, None, None)
    return h_prev + k_h * (h - h_prev), c_prev + k_c * (c - c_prev)


@dataclass(frozen=True)
class Cell:
    """One entry of the list.

    ``n_params`` and ``n_inputs`` count the rows of ``H`` values that the cell wants in ``cell_params`` and
    ``cell_inputs``. A cell that ``reads_h_prev`` outside the gates mixes it with its own output, so both must have
    ``H`` features: such a cell refuses a projection.
    """

    name: str
    source: str
    step: Step
    n_params: int = 0
    n_inputs: int = 0
    reads_h_prev: bool = False


CELLS: tuple[Cell, ...] = (
    Cell("vanilla", "Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000", _vanilla),
    Cell("peephole", "Gers & Schmidhuber 2000, diagonal weights p_i, p_f on c', p_o on c", _peephole, n_params=3),
    Cell("coupled", "Greff et al. 2017 (CIFG): i = 1 - f, the pre-activation of i is ignored", _coupled),
    Cell("zoneout", "Krueger et al. 2016, keep masks k_h, k_c in [0, 1]", _zoneout, n_inputs=2, reads_h_prev=True),
)

INDEX: dict[str, int] = {cell.name: index for index, cell in enumerate(CELLS)}


def cell_index(name: str) -> int:
    """Position of the cell called ``name`` in the list, the number that the operators take.

    Raises:
        ValueError: there is no such cell.
    """
    try:
        return INDEX[name]
    except (KeyError, TypeError):
        raise ValueError(f"cell must be one of {', '.join(map(repr, INDEX))}, but is {name!r}") from None
