"""torch.nn.LSTM and FusedLSTM with the same weights, run on the same inputs."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from fused_lstm import FusedLSTM

T, B, I, H, P = 6, 4, 3, 7, 2  # noqa: E741
LENGTHS = torch.tensor([3, 6, 1, 4])  # sorting them is not its own inverse
OPTIONS = [
    {},
    {"bias": False},
    {"bidirectional": True},
    {"proj_size": P},
    {"num_layers": 3},
    {"num_layers": 2, "bidirectional": True, "proj_size": P, "bias": False},
]
TOLERANCE = {torch.float32: dict(rtol=1e-4, atol=1e-5), torch.float64: dict(rtol=1e-10, atol=1e-12)}


def pair(dtype: torch.dtype = torch.float64, **options) -> tuple[nn.LSTM, FusedLSTM]:
    ours, theirs = FusedLSTM(I, H, **options, dtype=dtype), nn.LSTM(I, H, **options, dtype=dtype)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def state(m: nn.LSTM, *rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    n, dtype = m.num_layers * (1 + m.bidirectional), m.weight_hh_l0.dtype
    return torch.randn(n, *rows, m.proj_size or H, dtype=dtype), torch.randn(n, *rows, H, dtype=dtype)


def run(m: nn.LSTM, x, hx, cotangents: list) -> dict[str, torch.Tensor]:
    """Results and gradients by name. The first run draws the cotangents, later ones find them in the list."""
    leaf = {"x": x.data if isinstance(x, PackedSequence) else x}
    if hx is not None:
        leaf |= {"h0": hx[0], "c0": hx[1]}
    leaf = {name: t.detach().clone().requires_grad_() for name, t in leaf.items()}
    inputs = x._replace(data=leaf["x"]) if isinstance(x, PackedSequence) else leaf["x"]
    y, (h_n, c_n) = m(inputs, None if hx is None else (leaf["h0"], leaf["c0"]))
    if isinstance(x, PackedSequence):
        assert isinstance(y, PackedSequence)
        for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
            assert getattr(y, name) is getattr(x, name)
        y = y.data
    if not cotangents:
        cotangents += [torch.randn_like(t) for t in (y, h_n, c_n)]
    leaf |= dict(m.named_parameters())
    found = torch.autograd.grad((y, h_n, c_n), list(leaf.values()), cotangents)
    return {"y": y, "h_n": h_n, "c_n": c_n} | {f"d{name}": g for name, g in zip(leaf, found, strict=True)}


def assert_same_run(theirs: nn.LSTM, ours: FusedLSTM, x, hx=None) -> None:
    cotangents: list = []
    expected, actual = (run(m, x, hx, cotangents) for m in (theirs, ours))
    tolerance = TOLERANCE[expected["y"].dtype]
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], **tolerance, msg=lambda s, n=name: f"{n}: {s}")


def inputs(kind: str, dtype: torch.dtype, batch_first: bool):
    if kind == "row":
        return torch.randn(T, I, dtype=dtype)
    x = torch.randn((B, T, I) if batch_first else (T, B, I), dtype=dtype)
    if kind == "batch":
        return x
    lengths = LENGTHS.sort(descending=True).values if kind == "packed" else LENGTHS
    return pack_padded_sequence(x, lengths, batch_first, enforce_sorted=kind == "packed")
