"""FusedLSTM under torch.compile: one graph, one recompilation for all lengths, eager results; nn.LSTM as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._dynamo.exc import Unsupported
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fused_lstm
from fused_lstm import FusedLSTM, FusedLSTMCell

B, I, H = 4, 3, 5  # noqa: E741
LENGTHS_TRIED = range(5, 15)


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Tagger(nn.Module):
    """A module inside a model, as it stands in real ones."""

    def __init__(self, **options):
        super().__init__()
        self.lstm = FusedLSTM(I, H, 2, bidirectional=True, **options)
        self.head = nn.Linear(2 * H, 2)

    def forward(self, x, hx=None, **more):
        y, (h_n, c_n) = self.lstm(x, hx, **more)
        if isinstance(y, PackedSequence):
            return self.head(y.data), h_n, c_n
        return self.head(y), h_n, c_n


def state() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(4, B, H, requires_grad=True), torch.randn(4, B, H, requires_grad=True)


def packed(T: int, sort: bool) -> tuple[PackedSequence, torch.Tensor]:
    lengths = torch.cat([torch.tensor([T]), torch.randint(1, T + 1, (B - 1,))])
    lengths = lengths.sort(descending=True).values if sort else lengths.flip(0)
    p = pack_padded_sequence(torch.randn(T, B, I), lengths, enforce_sorted=sort)
    return PackedSequence(p.data.requires_grad_(), *p[1:]), lengths


def arguments(kind: str, T: int) -> tuple[list, dict]:
    x = torch.randn(T, B, I, requires_grad=True)
    if kind == "packed":
        return [packed(T, True)[0]], {}
    if kind == "packed, unsorted, state, resets":
        p, lengths = packed(T, False)
        return [p, state()], {"resets": pack_padded_sequence(torch.rand(T, B) < 0.3, lengths, enforce_sorted=False)}
    if kind == "state, lengths, resets":
        return [x, state()], {"lengths": torch.randint(0, T + 1, (B,)), "resets": torch.rand(T, B) < 0.3}
    return [x], {}


def run(m: nn.Module, args: list, more: dict) -> tuple:
    torch.manual_seed(0)  # for dropout
    outputs = m(*args, **more)
    leaves = [args[0].data if isinstance(args[0], PackedSequence) else args[0], *(args[1] if len(args) > 1 else ())]
    found = torch.autograd.grad([out.pow(2).sum() for out in outputs], [*leaves, *m.parameters()])
    return outputs, found


KINDS = ["plain", "state, lengths, resets", "dropout", "packed", "packed, unsorted, state, resets"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_graph_for_ten_lengths(kind):
    m = Tagger(dropout=0.5 if kind == "dropout" else 0.0)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(m, fullgraph=True, backend=counter)
    for T in LENGTHS_TRIED:
        args, more = arguments(kind, T)
        torch.testing.assert_close(run(compiled, args, more), run(m, args, more))
    assert counter.frame_count <= 2  # for the first length, then for any


def test_dynamic_from_the_start_compiles_once():
    m = Tagger()
    compiled = torch.compile(m, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for T in LENGTHS_TRIED:
            x = torch.randn(T, T + 3, I, requires_grad=True)
            torch.testing.assert_close(run(compiled, [x], {}), run(m, [x], {}))


def test_inductor():
    """One layer and nothing beside it: nothing is left to fuse, so no C++ compiler runs, which takes half a minute."""

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = FusedLSTM(I, H, bidirectional=True, bias=False)

        def forward(self, x):
            y, (h_n, c_n) = self.lstm(x)
            return y, h_n, c_n

    m = Layer()
    compiled = torch.compile(m, fullgraph=True, dynamic=True)
    for T in (5, 9):
        x = torch.randn(T, B, I, requires_grad=True)
        torch.testing.assert_close(run(compiled, [x], {}), run(m, [x], {}))


def test_autocast_inside_a_graph():
    m = FusedLSTM(I, H, 2)

    def call(x):
        with torch.autocast("cpu", torch.bfloat16):
            return m(x)[0]

    x = torch.randn(6, B, I)
    actual = torch.compile(call, fullgraph=True, backend="aot_eager")(x)
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual, call(x))


class OnlyOutput(FusedLSTM):
    def forward(self, x):
        return super().forward(x)[0]


CALLS = {
    "itself": lambda m: torch.compile(m, fullgraph=True, backend="aot_eager"),
    "its method": lambda m: (m.compile(fullgraph=True, backend="aot_eager"), m)[1],
    "weight norm": lambda m: torch.compile(
        parametrizations.weight_norm(m, "weight_hh_l0"), fullgraph=True, backend="aot_eager"
    ),
    "forward hook": lambda m: (
        m.register_forward_hook(lambda m, args, out: (out[0] * 2, out[1])),
        torch.compile(m, fullgraph=True, backend="aot_eager"),
    )[1],
}


@pytest.mark.parametrize("how", list(CALLS))
def test_the_module_itself(how):
    m = FusedLSTM(I, H, batch_first=True)
    compiled = CALLS[how](m)
    for x in (torch.randn(B, 6, I), torch.randn(6, I)):
        expected = torch._dynamo.disable(m._call_impl)(x)
        torch.testing.assert_close(compiled(x), expected)


def test_subclass_and_cell():
    x = torch.randn(6, B, I)
    m, cell = OnlyOutput(I, H), FusedLSTMCell(I, H)
    torch.testing.assert_close(torch.compile(m, fullgraph=True, backend="aot_eager")(x), m(x))
    torch.testing.assert_close(torch.compile(cell, fullgraph=True, backend="aot_eager")(x[0]), cell(x[0]))


def test_errors_that_eager_words_are_raised():
    m = FusedLSTM(I, H)
    compiled = torch.compile(m, backend="aot_eager")
    p, _ = packed(6, True)
    with pytest.raises(Exception, match="input has last dimension 4|input.size|Expected 3, got 4"):
        compiled(torch.randn(6, B, I + 1))
    with torch.no_grad(), pytest.raises(RuntimeError, match="h0 must have shape"):  # known only when it runs
        compiled(p, (torch.zeros(1, B + 1, H), torch.zeros(1, B + 1, H)))


def test_resets_packed_otherwise_are_noticed_when_the_graph_runs():
    compiled = torch.compile(FusedLSTM(I, H), fullgraph=True, backend="aot_eager")
    lengths, other = torch.tensor([4, 3, 1]), torch.tensor([4, 2, 2])
    x = pack_padded_sequence(torch.randn(4, 3, I), lengths)
    compiled(x, resets=pack_padded_sequence(torch.zeros(4, 3).bool(), lengths))
    with pytest.raises(RuntimeError, match="resets must be packed as x is"):
        compiled(x, resets=pack_padded_sequence(torch.zeros(4, 3).bool(), other))


# ---- what it took must not be noticed elsewhere


def test_plain_lstm_is_left_as_it_was():
    both = nn.Sequential(FusedLSTM(I, H), OnlyOutput(I, H))
    assert torch.compile(both[1], fullgraph=True, backend="aot_eager")(torch.randn(6, B, I)).shape == (6, B, H)
    assert torch._dynamo.config.allow_rnn is False
    with pytest.raises(Unsupported, match="Attempted to wrap RNN, GRU, or LSTM"):
        torch.compile(nn.LSTM(I, H), fullgraph=True, backend="aot_eager")(torch.randn(6, B, I))

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.ours, self.theirs = FusedLSTM(I, H), nn.LSTM(H, H)

        def forward(self, x):
            return self.theirs(self.ours(x)[0])

    with pytest.raises(Unsupported, match="Attempted to wrap RNN, GRU, or LSTM"):
        torch.compile(Mixed(), fullgraph=True, backend="aot_eager")(torch.randn(6, B, I))
    with torch._dynamo.config.patch(allow_rnn=True):
        torch._dynamo.reset()
        assert torch.compile(Mixed(), fullgraph=True, backend="aot_eager")(torch.randn(6, B, I))[0].shape == (6, B, H)


def test_dynamo_is_not_imported_for_it(run_python):
    """Other tests import dynamo first; here it comes after."""
    run_python(
        """
import sys, torch
from fused_lstm import FusedLSTM
assert "torch._dynamo" not in sys.modules
m = FusedLSTM(3, 5)
assert torch.compile(m, fullgraph=True, backend="eager")(torch.randn(4, 2, 3))[0].shape == (4, 2, 5)
assert not any("fused_lstm" in type(finder).__module__ for finder in sys.meta_path)
"""
    )


def test_another_dynamo_is_left_alone():
    from types import SimpleNamespace

    from fused_lstm import _dynamo

    _dynamo._touch_up(SimpleNamespace())

    class VariableBuilder:
        def wrap_module(self, value):
            return value

    untouched = VariableBuilder.wrap_module
    _dynamo._touch_up(SimpleNamespace(VariableBuilder=VariableBuilder, config=SimpleNamespace()))
    assert VariableBuilder.wrap_module is untouched
    assert fused_lstm.FusedLSTM is FusedLSTM


# ---- torch.func inside of a compiled function: plain torch operations there, but right


def transforms_of(f, p, xs):
    return {
        "vmap": lambda: torch.func.vmap(lambda x: f(p, x))(xs),
        "per-sample": lambda: torch.func.vmap(torch.func.grad(f), (None, 0))(p, xs),
        "jvp": lambda: torch.func.jvp(lambda x: f(p, x), (xs[0],), (xs[1],)),
    }


@pytest.mark.parametrize("transform", ["vmap", "per-sample", "jvp"])
def test_torch_func_inside(transform):
    m = FusedLSTM(I, H).double()
    p, xs = {name: p.detach() for name, p in m.named_parameters()}, torch.randn(3, 2, 1, I).double()

    def f(p, x):
        return torch.func.functional_call(m, p, (x,))[0].pow(2).sum()

    eager = transforms_of(f, p, xs)[transform]()
    compiled = torch.compile(lambda p, xs: transforms_of(f, p, xs)[transform](), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(p, xs), eager)
