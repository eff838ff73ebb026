"""fused_lstm/cell_module.py beside torch.nn.LSTMCell."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import torch
from torch import nn

from fused_lstm import FusedLSTMCell

B, I, H = 4, 3, 5  # noqa: E741
zeros = torch.zeros


def pair(bias: bool = True, dtype: torch.dtype = torch.float64) -> tuple[nn.LSTMCell, FusedLSTMCell]:
    theirs, ours = nn.LSTMCell(I, H, bias, dtype=dtype), FusedLSTMCell(I, H, bias, dtype=dtype)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def assert_same_run(theirs, ours, x, hx) -> None:
    given = [x] if hx is None else [x, *hx]
    leaves = [t.detach().clone().requires_grad_() for t in given]
    results = []
    cotangents = [torch.randn(*x.shape[:-1], H, dtype=x.dtype) for _ in "hc"]
    for m in (theirs, ours):
        outputs = m(leaves[0], None if hx is None else tuple(leaves[1:]))
        results.append((outputs, torch.autograd.grad(outputs, [*leaves, *m.parameters()], cotangents)))
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [(), (1,), (B,), (0,)], ids=str)
@pytest.mark.parametrize("with_state", [False, True])
def test_results_and_gradients(rows, bias, with_state, dtype):
    theirs, ours = pair(bias, dtype)
    hx = tuple(torch.randn(*rows, H, dtype=dtype) for _ in "hc") if with_state else None
    assert_same_run(theirs, ours, torch.randn(*rows, I, dtype=dtype), hx)


def test_many_steps():
    theirs, ours = pair()
    xs = torch.randn(17, B, I, dtype=torch.float64)
    found = []
    for m in (theirs, ours):
        hx = None
        for x in xs:
            hx = m(x, hx)
        found.append((hx, torch.autograd.grad(hx[0].sum() + hx[1].pow(2).sum(), list(m.parameters()))))
    torch.testing.assert_close(found[1], found[0])


def test_construction():
    assert isinstance(FusedLSTMCell(I, H), nn.LSTMCell)
    theirs = list(inspect.signature(nn.LSTMCell).parameters.values())
    ours = list(inspect.signature(FusedLSTMCell).parameters.values())
    assert [(p.name, p.kind, p.default) for p in ours[: len(theirs)]] == [(p.name, p.kind, p.default) for p in theirs]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in ours[len(theirs) :])
    for bias in (True, False):
        assert repr(FusedLSTMCell(I, H, bias)) == repr(nn.LSTMCell(I, H, bias)).replace("LSTMCell", "FusedLSTMCell")


def test_copies():
    theirs, ours = pair()
    for m in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert type(m) is FusedLSTMCell
        assert_same_run(theirs, m, torch.randn(B, I, dtype=torch.float64), None)


def outcome(function):
    try:
        return [tuple(t.shape) for t in function()]
    except Exception as error:
        return type(error), str(error)


BAD_CALLS = {
    "0-D": lambda m: m(zeros(())),
    "3-D": lambda m: m(zeros(2, B, I)),
    "input size": lambda m: m(zeros(B, I + 1)),
    "input size, row": lambda m: m(zeros(I + 1)),
    "not a tensor": lambda m: m([1.0]),
    "hx of one": lambda m: m(zeros(B, I), (zeros(B, H),)),
    "hx of three": lambda m: m(zeros(B, I), (zeros(B, H),) * 3),
    "h 3-D": lambda m: m(zeros(B, I), (zeros(1, B, H), zeros(B, H))),
    "c 3-D": lambda m: m(zeros(B, I), (zeros(B, H), zeros(1, B, H))),
    "h rows": lambda m: m(zeros(B, I), (zeros(B + 1, H), zeros(B, H))),
    "c rows": lambda m: m(zeros(B, I), (zeros(B, H), zeros(B + 1, H))),
    "h size": lambda m: m(zeros(B, I), (zeros(B, H + 1), zeros(B, H))),
    "c size": lambda m: m(zeros(B, I), (zeros(B, H), zeros(B, H + 1))),
    "h 1-D": lambda m: m(zeros(B, I), (zeros(H), zeros(H))),
    "h 1-D of rows": lambda m: m(zeros(H, I), (zeros(H), zeros(H))),
    "hx 2-D, row": lambda m: m(zeros(I), (zeros(1, H), zeros(1, H))),
    "input and h size": lambda m: m(zeros(B, I + 1), (zeros(B, H + 1), zeros(B, H))),
}


@pytest.mark.parametrize("call", list(BAD_CALLS))
def test_errors(call):
    theirs, ours = pair(dtype=torch.float32)
    expected = outcome(lambda: BAD_CALLS[call](theirs))
    assert outcome(lambda: BAD_CALLS[call](ours)) == expected
    assert isinstance(expected[0], type), "the call should be bad"


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda m: m(zeros(B, I).double()), RuntimeError),
        (lambda m: m(zeros(B, I), (zeros(B, H).double(),) * 2), RuntimeError),
        (lambda m: m(zeros(B, I), zeros(B, H)), TypeError),
        (lambda m: m(zeros(B, I), zeros(2, B, H)), TypeError),
        (lambda m: m(zeros(B, I, device="meta")), RuntimeError),
        (lambda m: m(zeros(B, I), (zeros(B, H, device="meta"),) * 2), RuntimeError),
    ],
)
def test_errors_of_the_same_type(call, error):
    for m in pair(dtype=torch.float32):
        with pytest.raises(error):
            call(m)


def test_where_torch_crashes_we_raise():
    """A row with 2-D states (H, H) passes the checks of torch.nn.LSTMCell and ends its process."""
    _, ours = pair(dtype=torch.float32)
    with pytest.raises(RuntimeError):
        ours(zeros(I), (zeros(H, H), zeros(H, H)))
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        for shape in [(0,), (4 * H + 1,), (4 * H, H + 1), (4, H)]:
            _, ours = pair(dtype=torch.float32)
            getattr(ours, name).data = zeros(shape)
            with pytest.raises((RuntimeError, IndexError)):
                ours(zeros(B, I), (zeros(B, H), zeros(B, H)))


def test_changed_weights_count():
    theirs, ours = pair()
    x = torch.randn(B, I, dtype=torch.float64)
    before = ours(x)[0].clone()
    for m in (theirs, ours):
        m.weight_ih = nn.Parameter(m.weight_ih.detach() * 2)
        m.bias_hh.data.add_(1)
    assert not torch.allclose(ours(x)[0], before)
    assert_same_run(theirs, ours, x, None)


def test_autocast():
    _, ours = pair(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        h, c = ours(torch.randn(B, I))
    assert h.dtype == c.dtype == torch.bfloat16
