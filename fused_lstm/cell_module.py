"""``FusedLSTMCell``, the module that takes the place of ``torch.nn.LSTMCell``."""

from __future__ import annotations

from torch import Tensor
from torch.nn import LSTMCell as _LSTMCell

from .functional import lstm_layer


class FusedLSTMCell(_LSTMCell):
    """``torch.nn.LSTMCell`` on the fused operators: a layer of one step.

    Equivalent to ``torch.nn.LSTMCell(input_size, hidden_size, bias=True, device=None, dtype=None)``: same arguments,
    parameters, ``state_dict``, results and errors.

    ``forward(input, hx=None)``: input (B, I) or (I,); hx the states h (B, H) and c (B, H), or (H,) each, zeros by
    default. Returns h and c after the step, in the same shapes. Equations: :mod:`fused_lstm.reference`.

    Raises:
        ValueError, RuntimeError: where ``torch.nn.LSTMCell`` does, in the same words. RuntimeError for weights of a
            wrong shape.
    """

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        if input.dim() not in (1, 2):
            raise ValueError(f"LSTMCell: Expected input to be 1D or 2D, got {input.dim()}D instead")
        single = input.dim() == 1
        if single:
            input = input.unsqueeze(0)
        if hx is not None:
            for index, value in enumerate(hx):
                if value.dim() not in (1, 2):
                    raise ValueError(f"LSTMCell: Expected hx[{index}] to be 1D or 2D, got {value.dim()}D instead")
        w_ih, w_hh = self.weight_ih, self.weight_hh
        if input.size(1) != w_ih.size(1):
            raise RuntimeError(f"input has inconsistent input_size: got {input.size(1)} expected {w_ih.size(1)}")
        h0 = c0 = None
        if hx is not None:
            h0, c0 = self._layer_state(input, hx, single)
        weights = [w_ih, w_hh] if self.bias_ih is None else [w_ih, w_hh, self.bias_ih, self.bias_hh]
        _, h, c = lstm_layer(input.unsqueeze(0), h0, c0, weights)
        return (h[0, 0], c[0, 0]) if single else (h[0], c[0])

    def _layer_state(self, input: Tensor, hx: tuple[Tensor, Tensor], single: bool) -> list[Tensor]:
        """h and c as the layer takes them, (1, B, H)."""
        if not isinstance(hx, (tuple, list)):
            raise TypeError(f"hx must be a pair of tensors (h, c), but is {type(hx).__name__}")
        if len(hx) != 2:
            raise RuntimeError("lstm_cell expects two hidden states")
        B, H = input.size(0), self.weight_hh.size(1)
        states = []
        for index, state in enumerate(hx):
            if single:
                state = state.unsqueeze(0)
            if state.size(0) != B:
                raise RuntimeError(f"Input batch size {B} doesn't match hidden{index} batch size {state.size(0)}")
            if state.size(1) != H:
                raise RuntimeError(f"hidden{index} has inconsistent hidden_size: got {state.size(1)}, expected {H}")
            states.append(state.unsqueeze(0))
        return states
