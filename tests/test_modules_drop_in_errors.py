"""fused_lstm/modules.py beside torch.nn.LSTM: the same errors; errors where that reads out of bounds."""

from __future__ import annotations

import pytest
import torch
from drop_in_cases import B, H, I, P, T, pair, state
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from fused_lstm import FusedLSTM

zeros = torch.zeros

# The warning of torch.nn.LSTM that oneDNN has no projections is about nothing that happens here.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


def outcome(function):
    """Type and text of what a call raises; the shapes of what it returns."""
    try:
        result = function()
    except Exception as error:
        return type(error), str(error)
    if isinstance(result, nn.Module):
        return "constructed"
    y, states = result
    return [tuple(t.shape) for t in (y, *states)]


@pytest.mark.parametrize(
    "arguments",
    [
        (0, 5), (5, 0), (-1, 5), (3.0, 5), (3, 5.0), (3, 5, 0), (3, 5, 1, 1), (3, 5, 1, "yes"), (3, 5, 1, True, 1),
        (3, 5, 2, True, False, 2.0), (3, 5, 2, True, False, -0.1), (3, 5, 2, True, False, True),
        (3, 5, 2, True, False, "a"), (3, 5, 1, True, False, 0.0, False, 5), (3, 5, 1, True, False, 0.0, False, -1),
    ],
    ids=str,
)  # fmt: skip
def test_construction_errors(arguments):
    ours, theirs = outcome(lambda: FusedLSTM(*arguments)), outcome(lambda: nn.LSTM(*arguments))
    assert ours == theirs and ours != "constructed"


@pytest.mark.parametrize(
    "arguments", [{}, {"input_size": 3}, {"input_size": 3, "hidden_size": 5, "mode": "LSTM"}], ids=str
)
def test_missing_or_unknown_arguments(arguments):
    for kind in (nn.LSTM, FusedLSTM):
        with pytest.raises(TypeError):
            kind(**arguments)


# ---- errors of a call: the same type and text


def x32(*shape: int) -> torch.Tensor:
    return zeros(*shape)


def h32(*sizes: int, width: int = H) -> torch.Tensor:
    return zeros(*sizes, width)


def packed(*shape: int) -> PackedSequence:
    return pack_sequence([zeros(3, *shape), zeros(2, *shape)])


BAD_CALLS = {
    "1-D": lambda m: m(x32(I)),
    "4-D": lambda m: m(x32(T, B, I, 1)),
    "input size": lambda m: m(x32(T, B, I + 1)),
    "input size, row": lambda m: m(x32(T, I + 1)),
    "input size 0": lambda m: m(x32(T, B, 0)),
    "no steps": lambda m: m(x32(0, B, I)),
    "no steps, row": lambda m: m(x32(0, I)),
    "no steps, no rows": lambda m: m(x32(0, 0, I)),
    "no steps, state": lambda m: m(x32(0, B, I), (h32(1, B), h32(1, B))),
    "no rows": lambda m: m(x32(T, 0, I)),
    "float64": lambda m: m(x32(T, B, I).double()),
    "bfloat16": lambda m: m(x32(T, B, I).bfloat16()),
    "int": lambda m: m(x32(T, B, I).int()),
    "float64 and input size": lambda m: m(x32(T, B, I + 1).double()),
    "not a tensor": lambda m: m([1.0]),
    "h 2-D": lambda m: m(x32(T, B, I), (h32(B), h32(1, B))),
    "c 2-D": lambda m: m(x32(T, B, I), (h32(1, B), h32(B))),
    "hx 2-D": lambda m: m(x32(T, B, I), (h32(1), h32(1))),
    "hx 3-D, row": lambda m: m(x32(T, I), (h32(1, 1), h32(1, 1))),
    "h layers": lambda m: m(x32(T, B, I), (h32(2, B), h32(1, B))),
    "c layers": lambda m: m(x32(T, B, I), (h32(1, B), h32(2, B))),
    "h rows": lambda m: m(x32(T, B, I), (h32(1, B + 1), h32(1, B))),
    "c rows": lambda m: m(x32(T, B, I), (h32(1, B), h32(1, 1))),
    "h size": lambda m: m(x32(T, B, I), (h32(1, B, width=H + 1), h32(1, B))),
    "c size": lambda m: m(x32(T, B, I), (h32(1, B), h32(1, B, width=1))),
    "h size, row": lambda m: m(x32(T, I), (h32(1, width=H + 1), h32(1))),
    "h and input size": lambda m: m(x32(T, B, I + 1), (h32(2, B), h32(1, B))),
    "hx a tensor": lambda m: m(x32(T, B, I), h32(1, B)),
    "hx of one": lambda m: m(x32(T, B, I), (h32(1, B),)),
    "hx of three": lambda m: m(x32(T, B, I), (h32(1, B),) * 3),
    "hx with None": lambda m: m(x32(T, B, I), (h32(1, B), None)),
    "x on meta": lambda m: m(x32(T, B, I).to("meta")),
    "x on meta, state": lambda m: m(x32(T, B, I).to("meta"), (h32(1, B), h32(1, B))),
    "h on meta": lambda m: m(x32(T, B, I), (h32(1, B).to("meta"), h32(1, B))),
    "c on meta": lambda m: m(x32(T, B, I), (h32(1, B), h32(1, B).to("meta"))),
}


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("call", list(BAD_CALLS))
def test_errors_of_a_call(call, batch_first):
    theirs, ours = pair(torch.float32, batch_first=batch_first)
    assert outcome(lambda: BAD_CALLS[call](ours)) == outcome(lambda: BAD_CALLS[call](theirs))


@pytest.mark.parametrize("options", [dict(proj_size=P), dict(num_layers=2, bidirectional=True)], ids=str)
@pytest.mark.parametrize("sizes", [(1, B, H), (1, B, P), (2, B, P), (4, B, H), (4, 1, H)], ids=str)
def test_errors_of_states_follow_the_options(options, sizes):
    theirs, ours = pair(torch.float32, **options)
    for hx in ((zeros(sizes), zeros(sizes)), (state(theirs, B)[0], zeros(sizes))):
        expected = outcome(lambda: theirs(x32(T, B, I), hx))  # noqa: B023
        assert outcome(lambda: ours(x32(T, B, I), hx)) == expected  # noqa: B023


@pytest.mark.parametrize("dtypes", [(torch.float64, torch.float32), (torch.float32, torch.float64)], ids=str)
@pytest.mark.parametrize("which", ["h", "c", "both"])
def test_states_of_another_dtype(dtypes, which):
    """The same type; torch's text is about a matrix product or oneDNN, ours names the tensor."""
    theirs, ours = pair(dtypes[0])
    hx = [t.to(dtypes[1] if which in (name, "both") else dtypes[0]) for name, t in zip("hc", state(theirs, B))]
    x = torch.zeros(T, B, I, dtype=dtypes[0])
    name = "h0" if which != "c" else "c0"
    with pytest.raises(RuntimeError, match=f"{name} must be {str(dtypes[0])[6:]} but is {str(dtypes[1])[6:]}"):
        ours(x, tuple(hx))
    if (dtypes[0], which) != (torch.float64, "c"):  # torch adds a float32 c0 to float64
        with pytest.raises(RuntimeError):
            theirs(x, tuple(hx))


def test_packed_errors_of_the_same_type():
    theirs, ours = pair(torch.float32)
    on_meta = PackedSequence(zeros(5, I, device="meta"), torch.tensor([2, 2, 1]))
    for bad in (packed(I + 1), packed(1, I), packed(I).double(), on_meta):
        for m in (theirs, ours):
            with pytest.raises(RuntimeError):
                m(bad)
    with pytest.raises(RuntimeError, match=f"Expected {I}, got {I + 1}"):
        ours(packed(I + 1))


@pytest.mark.parametrize(
    "h, c, message",
    [
        (h32(1, 3), h32(1, 2), r"Expected hidden\[0\] size \(1, 2, 7\), got \[1, 3, 7\]"),
        (h32(1, 2), h32(1, 3), r"Expected hidden\[1\] size \(1, 2, 7\), got \[1, 3, 7\]"),
        (h32(1, 2, width=H - 1), h32(1, 2), r"Expected hidden\[0\] size \(1, 2, 7\), got \[1, 2, 6\]"),
        (h32(2), h32(2), r"Expected hidden\[0\] size \(1, 2, 7\), got \[2, 7\]"),
        (zeros(0), h32(1, 2), r"Expected hidden\[0\] size \(1, 2, 7\), got \[0\]"),
    ],
)
def test_packed_with_a_wrong_state(h, c, message):
    """torch.nn.LSTM reads out of bounds here and may take the process with it, so there is nothing to compare with."""
    _, ours = pair(torch.float32)
    with pytest.raises(RuntimeError, match=message):
        ours(packed(I), (h, c))


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l1_reverse"])
@pytest.mark.parametrize("shape", [(0,), (1,), (H,), (4 * H + 1, H), (4 * H - 4, I), ()], ids=str)
@pytest.mark.parametrize("grad", [False, True])
def test_malformed_weights_raise(name, shape, grad):
    """torch.nn.LSTM may read out of bounds here."""
    _, ours = pair(torch.float32, num_layers=2, bidirectional=True, proj_size=P)
    getattr(ours, name).data = zeros(shape)
    for x in (x32(T, B, I), packed(I)):
        with torch.set_grad_enabled(grad), pytest.raises(RuntimeError):
            ours(x)


def test_weights_of_another_dtype_or_missing_raise():
    _, ours = pair(torch.float32)
    ours.weight_hh_l0.data = ours.weight_hh_l0.data.double()
    with pytest.raises(RuntimeError, match="w_hh must be float32 but is float64"):
        ours(x32(T, B, I))
    del ours.weight_hh_l0
    with pytest.raises(AttributeError, match="weight_hh_l0"):
        ours(x32(T, B, I))
