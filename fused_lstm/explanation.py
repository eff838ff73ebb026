"""``explain``: which kernels would serve an LSTM, and why not others. Arithmetic; needs no GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from . import _library, ops
from .cells import CELLS
from .variants import Variants

# Compute capability, multiprocessors, bytes of shared memory that a block may use (NVIDIA's tables of compute
# capabilities and the cards' data sheets).
DEVICES: dict[str, tuple[int, int, int, int]] = {
    "A100": (8, 0, 108, 163 * 1024),
    "A10": (8, 6, 72, 99 * 1024),
    "L40S": (8, 9, 142, 99 * 1024),
    "H100": (9, 0, 132, 227 * 1024),
    "H200": (9, 0, 132, 227 * 1024),
    "B200": (10, 0, 148, 227 * 1024),
}
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)  # as csrc/core/problem.h numbers them


@dataclass(frozen=True)
class Explanation:
    """What :func:`explain` found. ``forward`` and ``backward`` name the kernels; ``str()`` tells the whole story."""

    forward: str
    backward: str
    text: str

    def __str__(self) -> str:
        return self.text


def explain(
    lstm: nn.LSTM,
    steps: int,
    batch: int,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Explanation:
    """Says which family of kernels serves each layer of ``lstm`` for an input of this size, and why not the others.

    Args:
        lstm: a ``FusedLSTM``, or any ``torch.nn.LSTM`` that could be replaced by one.
        steps: T.
        batch: B.
        dtype: of input and weights; default: that of the weights. Under autocast name autocast's dtype.
        device: where it would run: a torch device, or one of the names in ``DEVICES`` ("A100", "H100", "H200", ...),
            which need not be there. Default: where the weights are.

    Returns:
        Explanation with the families' names (on the CPU: the instruction set) and the text.

    Raises:
        TypeError, ValueError: an argument is not as described.
        RuntimeError: a CUDA device is named that is not there.
    """
    if not isinstance(lstm, nn.LSTM):
        raise TypeError(f"explain takes an nn.LSTM or FusedLSTM, but got {type(lstm).__name__}")
    if steps < 1 or batch < 1:
        raise ValueError(f"steps and batch must be at least 1, but are {steps} and {batch}")
    weight = lstm.weight_ih_l0
    dtype = dtype or weight.dtype
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(str, _DTYPES))}, but is {dtype}")
    where, numbers = _device(weight.device if device is None else device)
    layers = "1 layer" if lstm.num_layers == 1 else f"each of {lstm.num_layers} layers"
    variants = getattr(lstm, "_variants", None) or Variants()
    heading = (
        f"{layers}, {str(dtype).removeprefix('torch.')}, T {steps}, B {batch}, I {lstm.input_size}, "
        f"H {lstm.hidden_size}{f', projected to {lstm.proj_size}' if lstm.proj_size else ''}"
        f"{', both directions' if lstm.bidirectional else ''}, on {where}\n"
    )
    if numbers is None:
        isa = _library.cpu_isa()
        return Explanation(isa, isa, heading + f"one fused kernel for all steps, compiled for {isa}\n")
    scaled = lstm.training and variants.recurrent_dropout > 0
    sizes = [
        steps, batch, lstm.input_size, lstm.hidden_size, lstm.proj_size, 2 if lstm.bidirectional else 0,
        _DTYPES.index(dtype), CELLS.index(variants.cell), scaled, ops.tf32_allowed(), variants.cell_clip is not None,
    ]  # fmt: skip
    forward, backward, *texts = torch.ops.fused_lstm.cuda_plan(list(map(int, sizes)), list(numbers), "")
    note = f"CUDA tensors are not served here: {_library.cuda_error}\n" if _library.cuda_error else ""
    return Explanation(forward, backward, heading + "".join(texts) + note)


def _device(device: torch.device | str) -> tuple[str, tuple[int, int, int, int] | None]:
    """A name, and the numbers of a CUDA device."""
    if isinstance(device, str) and device in DEVICES:
        major, minor, count, _ = numbers = DEVICES[device]
        return f"{device} (compute capability {major}.{minor}, {count} multiprocessors)", numbers
    try:
        device = torch.device(device)
    except RuntimeError:
        names = ", ".join(DEVICES)
        raise ValueError(f"device must be a torch device or one of {names}, but is {device!r}") from None
    if device.type == "cpu":
        return "the CPU", None
    if device.type != "cuda":
        raise ValueError(f"device must be a CPU or CUDA device, or one of {', '.join(DEVICES)}, but is {device}")
    if not torch.cuda.is_available():
        raise RuntimeError(f"there is no CUDA device here; name one of {', '.join(DEVICES)} to ask about it")
    p = torch.cuda.get_device_properties(device)
    numbers = (p.major, p.minor, p.multi_processor_count, p.shared_memory_per_block_optin)
    return f"{p.name} (compute capability {p.major}.{p.minor}, {p.multi_processor_count} multiprocessors)", numbers
