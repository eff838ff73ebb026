"""torch.nn.LSTM and FusedLSTM with the same weights on the same input: what is checked, then timed."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import fused_lstm

TORCH = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": torch.float32, "fp32": torch.float32}

# Relative (Frobenius) errors that results and gradients may have; the results name nn.LSTM's own beside ours.
TOLERANCE = {"bf16": 5e-2, "fp16": 1e-2, "tf32": 5e-3, "fp32": 1e-4}


def set_tf32(on: bool) -> dict[str, str]:
    """Products in TF32 or not, of cuDNN and of cuBLAS; returns what torch then says of itself."""
    # The older switches set the newer ones as well; the other way round torch complains about a mixture.
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on
    return {"rnn": torch.backends.cudnn.rnn.fp32_precision, "matmul": torch.backends.cuda.matmul.fp32_precision}


class Peers:
    """``call(which, mode)`` is a function of no arguments; which: "torch", "fused"; mode: "inference", "training"."""

    def __init__(self, part: dict, device: str) -> None:
        torch.manual_seed(0)
        self.part, self.device = part, device
        self.precision = set_tf32(part["dtype"] == "tf32")
        dtype = TORCH[part["dtype"]]
        T, B, H = part["T"], part["B"], part["H"]
        I = part.get("I", H)
        layers = dict(
            num_layers=2 if part["structure"] == "2 layers" else 1, bidirectional=part["structure"] == "bidirectional"
        )
        self.torch = nn.LSTM(I, H, **layers, device=device, dtype=dtype)
        self.fused = fused_lstm.FusedLSTM(I, H, **layers, device=device, dtype=dtype)
        self.fused.load_state_dict(self.torch.state_dict())
        self.x = torch.randn(T, B, I, device=device, dtype=dtype, requires_grad=True)
        self.cpu_lengths = self.lengths = None
        if part["structure"] in ("lengths", "packed"):
            self.cpu_lengths = torch.randint(T // 2, T + 1, (B,))
            self.cpu_lengths[0] = T
            self.lengths = self.cpu_lengths.to(device)
        D = 2 if layers["bidirectional"] else 1
        self.cotangent = torch.randn(T, B, D * H, device=device, dtype=dtype)
        if self.lengths is not None:  # padding has no gradient
            self.cotangent *= (torch.arange(T, device=device)[:, None] < self.lengths)[..., None]

    def _pack(self, t: Tensor) -> PackedSequence:
        return pack_padded_sequence(t, self.cpu_lengths, enforce_sorted=False)

    def _inputs(self, which: str) -> tuple[Tensor, Callable[[Tensor], Tensor | PackedSequence], dict, Tensor]:
        """What has a gradient, what makes the input of it, further arguments, the cotangent in the form of the output.

        Packing happens here, once: it is nn.LSTM's users' cost, but not what is measured.
        """
        if self.lengths is None:
            return self.x, lambda x: x, {}, self.cotangent
        if which == "torch" or self.part["structure"] == "packed":
            packed = self._pack(self.x.detach())
            leaf = packed.data.requires_grad_()
            return leaf, lambda x: PackedSequence(x, *packed[1:]), {}, self._pack(self.cotangent).data
        return self.x, lambda x: x, {"lengths": self.lengths}, self.cotangent

    def call(self, which: str, mode: str) -> Callable[[], list[Tensor]]:
        module = getattr(self, which)
        leaf, given, more, cotangent = self._inputs(which)
        sources = [leaf, *module.parameters()]

        def infer() -> list[Tensor]:
            with torch.no_grad():
                return [_data(module(given(leaf), **more)[0])]

        def train() -> list[Tensor]:
            y = _data(module(given(leaf), **more)[0])
            return [y.detach(), *torch.autograd.grad(y, sources, cotangent)]

        return infer if mode == "inference" else train

    def expected(self) -> list[Tensor]:
        """Output and gradients by nn.LSTM in float64, for 16-bit numbers in float32 without TF32."""
        set_tf32(False)
        dtype = torch.float32 if self.part["dtype"] in ("bf16", "fp16") else torch.float64
        other = copy.copy(self)
        other.torch = copy.deepcopy(self.torch).to(dtype)
        other.x = self.x.detach().to(dtype).requires_grad_()
        other.cotangent = self.cotangent.to(dtype)
        results = other.call("torch", "training")()
        set_tf32(self.part["dtype"] == "tf32")
        return results

    def padded(self, results: list[Tensor]) -> list[Tensor]:
        """Output and gradient of the input as rectangles, whatever form they have."""
        y, dx, *others = results
        if y.dim() == 2:
            _, *order = self._pack(self.cotangent)
            y, dx = (pad_packed_sequence(PackedSequence(t, *order), total_length=self.part["T"])[0] for t in (y, dx))
        return [y, dx, *others]

    def worst_error(self, which: str, expected: list[Tensor]) -> float:
        """Largest relative difference of output and gradients; infinite where something is no number."""
        actual = self.padded(self.call(which, "training")())
        worst = 0.0
        for a, b in zip(actual, self.padded(expected), strict=True):
            error = ((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30)).item()
            worst = max(worst, error if error == error else float("inf"))
        return worst


def _data(y: Tensor | PackedSequence) -> Tensor:
    return y.data if isinstance(y, PackedSequence) else y
