"""The cells: the maths of one step, in plain torch, in the order of ``csrc/cell/variants.h``.

A cell turns pre-activations and the previous state into the next state. ``a`` is ``(B, 4H)``, the gates i, f, g, o
side by side; ``h_prev`` is ``(B, P)``, ``c_prev`` is ``(B, H)``. A cell may ask for tensors of its own:
``params``, ``(n_params, H)``, learned, and ``inputs``, ``(B, n_inputs, H)``, given anew for every step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

LAYER_NORM_EPS = 1e-5  # kLayerNormEps in csrc/cell/variants.h


@dataclass(frozen=True)
class Cell:
    """One entry of the list: a name, which is the parts that it is made of, joined by ``+``.

    * ``peephole``: i and f see p_i c', p_f c', o sees p_o c. Gers & Schmidhuber 2000; diagonal.
    * ``coupled``: i = 1 - f, the pre-activation of i (and p_i) is ignored. Greff et al. 2017 (CIFG).
    * ``zoneout``: h = h' + k_h (h~ - h'), c = c' + k_c (c~ - c'), keep masks k in [0, 1]. Krueger et al. 2017.
    * ``layer_norm``: LN(W_ih x) * gamma_ih + LN(W_hh h') * gamma_hh + biases, each LN over all 4H values;
      h = o tanh(LN(c) * gamma_c + beta_c). Ba, Kiros & Hinton 2016; parameters placed as in haste.
    * ``output_cell``: the output gate reads the new cell state through the last H rows of W_hh, in h's stead:
      o = sigmoid(W_xo x + W_ho c + b_o).

    ``n_params`` and ``n_inputs`` count the rows of ``H`` values that the cell wants in ``cell_params`` and
    ``cell_inputs``: p_i, p_f, p_o, then gamma_ih and gamma_hh (4 rows each, gates in the order of the weights),
    gamma_c, beta_c; and k_h, k_c. A cell that ``reads_h_prev`` outside the gates mixes it with its own output, so both
    must have ``H`` features: such a cell refuses a projection. So does ``output_cell``, whose part of W_hh meets c.
    """

    name: str

    def _has(self, part: str) -> bool:
        return part in self.name.split("+")

    @property
    def peephole(self) -> bool:
        return self._has("peephole")

    @property
    def coupled(self) -> bool:
        return self._has("coupled")

    @property
    def zoneout(self) -> bool:
        return self._has("zoneout")

    @property
    def layer_norm(self) -> bool:
        return self._has("layer_norm")

    @property
    def output_cell(self) -> bool:
        return self._has("output_cell")

    @property
    def elementwise(self) -> bool:
        """A unit needs nothing of the other units between the recurrent product and its state."""
        return not (self.layer_norm or self.output_cell)

    @property
    def n_params(self) -> int:
        return 3 * self.peephole + 10 * self.layer_norm

    @property
    def n_inputs(self) -> int:
        return 2 * self.zoneout

    @property
    def reads_h_prev(self) -> bool:
        return self.zoneout

    def pre_activations(
        self, x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, biases: tuple[Tensor | None, ...], params: Tensor | None
    ) -> Tensor:
        """(B, 4H) from the input and the (scaled) h of the step before."""
        b_ih, b_hh = biases
        if self.output_cell:
            H = w_hh.shape[0] // 4
            seen = linear(h, w_hh[: 3 * H], None if b_hh is None else b_hh[: 3 * H])
            o = seen.new_zeros(*seen.shape[:-1], H) if b_hh is None else b_hh[3 * H :].expand(*seen.shape[:-1], H)
            return linear(x, w_ih, b_ih) + torch.cat((seen, o), -1)
        if self.layer_norm:
            gammas = params[-10:-2].reshape(2, -1)
            a = _normed(linear(x, w_ih), gammas[0]) + _normed(linear(h, w_hh), gammas[1])
            return a if b_ih is None else a + b_ih + b_hh
        return linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh)

    def step(
        self,
        a: Tensor,
        h_prev: Tensor,
        c_prev: Tensor,
        params: Tensor | None,
        inputs: Tensor | None,
        w_ho: Tensor | None = None,
        clip: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """h and c after the step; ``w_ho``: (H, H), for ``output_cell``; ``clip``: bound of the new c."""
        i, f, g, o = a.chunk(4, -1)
        if self.peephole:
            i, f = i + params[0] * c_prev, f + params[1] * c_prev
        keep = f.sigmoid()
        write = 1 - keep if self.coupled else i.sigmoid()
        c = clipped(keep * c_prev + write * g.tanh(), clip)
        if self.peephole:
            o = o + params[2] * c
        if self.output_cell:
            o = o + linear(c, w_ho)
        shown = _normed(c, params[-2], params[-1]) if self.layer_norm else c
        h = o.sigmoid() * shown.tanh()
        if self.zoneout:
            k_h, k_c = inputs.unbind(1)
            h, c = h_prev + k_h * (h - h_prev), c_prev + k_c * (c - c_prev)
        return h, c


def clipped(t: Tensor, limit: float | None) -> Tensor:
    """``t`` between -limit and limit; no gradient where it reached them. None: ``t`` itself."""
    if limit is None:
        return t
    return torch.where(t.abs() < limit, t, t.detach().clamp(-limit, limit))


def _normed(t: Tensor, gamma: Tensor, beta: Tensor | None = None) -> Tensor:
    return layer_norm(t, t.shape[-1:], gamma, beta, LAYER_NORM_EPS)


_ELEMENTWISE = (
    "vanilla",
    "peephole",
    "coupled",
    "zoneout",
    "coupled+peephole",
    "peephole+zoneout",
    "coupled+zoneout",
    "coupled+peephole+zoneout",
)
CELLS: tuple[Cell, ...] = (
    *map(Cell, _ELEMENTWISE),
    *(Cell("layer_norm" if name == "vanilla" else name + "+layer_norm") for name in _ELEMENTWISE),
    *map(Cell, ("output_cell", "coupled+output_cell", "zoneout+output_cell", "coupled+zoneout+output_cell")),
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
