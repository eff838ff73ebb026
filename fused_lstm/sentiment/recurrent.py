"""One LSTM layer on either implementation, with the same parameters, names, random masks and arguments.

`FusedLSTM` knows lengths, resets and DropConnect. `TorchLSTM` adds them to `torch.nn.LSTM` as far as that lets it:
packing for lengths, a loop over segments for resets, dropped weights in the place of the parameters for one call.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import dropout
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .errors import UserError

BACKENDS = ("fused", "torch")
State = tuple[Tensor, Tensor]


class BackendError(UserError):
    """The LSTM that was asked for cannot be used on this machine."""


def make_layer(
    backend: str,
    inputs: int,
    hidden: int,
    bidirectional: bool = False,
    weight_dropout: float = 0.0,
    recompute: bool = False,
) -> nn.LSTM:
    """A layer called as ``layer(x (B, T, I), hx=None, lengths=None, resets=None)``; returns steps and (h_n, c_n).

    ``recompute`` saves memory in training with "fused" and means nothing to "torch".
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)} but is {backend!r}")
    if backend == "torch":
        return TorchLSTM(inputs, hidden, bidirectional, weight_dropout)
    try:
        from fused_lstm import FusedLSTM
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(
            f"fused_lstm.FusedLSTM cannot be used: {error}. Build the extension, or choose --lstm torch."
        ) from error
    return FusedLSTM(
        inputs,
        hidden,
        batch_first=True,
        bidirectional=bidirectional,
        weight_dropout=weight_dropout,
        recompute=recompute,
    )


class TorchLSTM(nn.LSTM):
    """`torch.nn.LSTM`, one layer, rows first, with ``lengths``, ``resets`` and DropConnect."""

    def __init__(self, inputs: int, hidden: int, bidirectional: bool = False, weight_dropout: float = 0.0) -> None:
        super().__init__(inputs, hidden, batch_first=True, bidirectional=bidirectional)
        self.weight_dropout = weight_dropout

    def forward(
        self,
        x: Tensor,
        hx: State | None = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        dropped: bool = False,
    ) -> tuple[Tensor, State]:
        if self.training and self.weight_dropout and not dropped:
            weights = {
                name: dropout(weight, self.weight_dropout) if "weight_hh" in name else weight
                for name, weight in self.named_parameters()
            }
            given = {"lengths": lengths, "resets": resets, "dropped": True}
            return functional_call(self, weights, (x, hx), given)
        if resets is not None:
            return self._between_resets(x, hx, lengths, resets)
        if lengths is None:
            return super().forward(x, hx)
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        steps, last = super().forward(packed, hx)
        return pad_packed_sequence(steps, batch_first=True, total_length=x.shape[1])[0], last

    def _between_resets(
        self, x: Tensor, hx: State | None, lengths: Tensor | None, resets: Tensor
    ) -> tuple[Tensor, State]:
        """One call for each stretch without a reset in any row; state is zeroed between them where a row has one."""
        if lengths is not None or self.bidirectional:
            raise ValueError("resets with torch.nn.LSTM: one direction and no lengths; choose --lstm fused")
        borders = [t for t in resets.any(dim=0).nonzero().flatten().tolist() if t > 0]
        parts = []
        for start, end in zip([0, *borders], [*borders, x.shape[1]]):
            if hx is not None:
                keep = (~resets[:, start])[None, :, None].to(x.dtype)
                hx = (hx[0] * keep, hx[1] * keep)
            steps, hx = super().forward(x[:, start:end], hx)
            parts.append(steps)
        return torch.cat(parts, dim=1), hx
