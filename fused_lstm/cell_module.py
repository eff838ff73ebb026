"""``FusedLSTMCell``, the module that takes the place of ``torch.nn.LSTMCell``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import LSTMCell as _LSTMCell

from .functional import lstm_layer
from .variants import Variants


class FusedLSTMCell(_LSTMCell):
    """``torch.nn.LSTMCell`` on the fused operators: a layer of one step.

    Equivalent to ``torch.nn.LSTMCell(input_size, hidden_size, bias=True, device=None, dtype=None)``: same arguments,
    parameters, ``state_dict``, results and errors.

    ``forward(input, hx=None)``: input (B, I) or (I,); hx the states h (B, H) and c (B, H), or (H,) each, zeros by
    default. Returns h and c after the step, in the same shapes. Equations: :mod:`fused_lstm.reference`.

    Keyword-only options ``zoneout``, ``peephole``, ``coupled_gates``, ``forget_bias``, ``cell_clip``, ``layer_norm``,
    ``output_gate`` are those of :class:`fused_lstm.FusedLSTM`; their parameters have its names without ``_l0``. A
    zoneout mask belongs to one step and is drawn at each call. Masks of whole sequences (``weight_dropout``,
    ``recurrent_dropout``) cannot be had step by step: there is nothing that says where a sequence begins.

    Raises:
        ValueError, RuntimeError: where ``torch.nn.LSTMCell`` does, in the same words. RuntimeError for weights of a
            wrong shape.
    """

    _variants: Variants | None = None  # on the class for modules that convert() or unpickling made without __init__

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        zoneout: float | tuple[float, float] = 0.0,
        peephole: bool = False,
        coupled_gates: bool = False,
        forget_bias: float | None = None,
        cell_clip: float | None = None,
        layer_norm: bool = False,
        output_gate: str = "hidden",
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self._variants = Variants.of(
            bias=bias, proj_size=0, zoneout=zoneout, peephole=peephole, coupled_gates=coupled_gates,
            forget_bias=forget_bias, cell_clip=cell_clip, layer_norm=layer_norm, output_gate=output_gate,
        )  # fmt: skip
        if self._variants is not None:
            self._variants.add_parameters(self, [""], hidden_size, self.weight_ih)
            self._variants.reset_parameters(self, [""], hidden_size)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self._variants is not None:
            self._variants.reset_parameters(self, [""], self.hidden_size)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self._variants is None else f", {self._variants}")

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
        more = {} if self._variants is None else self._variant_arguments(input)
        _, h, c = lstm_layer(input.unsqueeze(0), h0, c0, weights, **more)
        return (h[0, 0], c[0, 0]) if single else (h[0], c[0])

    def _variant_arguments(self, input: Tensor) -> dict[str, Any]:
        variants, H = self._variants, self.hidden_size
        return {
            "cell": variants.cell.name,
            "cell_params": variants.cell_params(self, [""], H),
            "cell_inputs": variants.keep_masks(input, (1, 1, input.size(0), H), self.training),
            "cell_clip": variants.cell_clip,
        }

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
