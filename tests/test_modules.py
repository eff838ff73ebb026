"""fused_lstm/modules.py: what FusedLSTM does that torch.nn.LSTM does not."""

from __future__ import annotations

import copy

import pytest
import torch
from layer_cases import random_cotangents
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fused_lstm import FusedLSTM, functional, modules, reference

T, B, I, H = 6, 4, 3, 7  # noqa: E741
LENGTHS = torch.tensor([3, 6, 1, 4])  # sorting them is not its own inverse
OPTIONS = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "proj_size": 2, "bias": False},
]


def module(**options) -> FusedLSTM:
    return FusedLSTM(I, H, **options, dtype=torch.float64)


def sequence(m: FusedLSTM) -> torch.Tensor:
    return torch.randn((B, T, I) if m.batch_first else (T, B, I), dtype=torch.float64)


def state(m: FusedLSTM) -> tuple[torch.Tensor, torch.Tensor]:
    n = m.num_layers * (1 + m.bidirectional)
    return torch.randn(n, B, m.proj_size or H, dtype=torch.float64), torch.randn(n, B, H, dtype=torch.float64)


def by_reference(m: FusedLSTM, x: torch.Tensor, hx=None, **more) -> tuple[torch.Tensor, ...]:
    direction = "both" if m.bidirectional else "forward"
    weights = [w for layer in m.all_weights for w in layer]
    return reference.lstm(x, hx, weights, m.num_layers, direction=direction, batch_first=m.batch_first, **more)


def assert_same(m: FusedLSTM, actual, expected, sources) -> None:
    cotangents = random_cotangents(expected)
    torch.testing.assert_close(actual, expected)
    sources = [*sources, *m.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad(actual, sources, cotangents), torch.autograd.grad(expected, sources, cotangents)
    )


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("extra", ["lengths", "resets", "both"])
def test_lengths_and_resets(extra, options, batch_first):
    m = module(**options, batch_first=batch_first)
    x, (h0, c0) = sequence(m).requires_grad_(), (t.requires_grad_() for t in state(m))
    more = {}
    if extra != "resets":
        more["lengths"] = LENGTHS
    if extra != "lengths":
        more["resets"] = torch.rand(x.shape[:2]) < 0.3
    y, (h_n, c_n) = m(x, (h0, c0), **more)
    assert_same(m, (y, h_n, c_n), by_reference(m, x, (h0, c0), **more), [x, h0, c0])


@pytest.mark.parametrize("batch_first", [False, True])
def test_lengths_instead_of_packing(batch_first):
    m = module(num_layers=2, bidirectional=True, batch_first=batch_first)
    x, hx = sequence(m), state(m)
    y, states = m(x, hx, lengths=LENGTHS)
    packed, expected = m(pack_padded_sequence(x, LENGTHS, batch_first, enforce_sorted=False), hx)
    torch.testing.assert_close(y, pad_packed_sequence(packed, batch_first)[0])
    torch.testing.assert_close(states, expected)


def test_rows_without_steps_keep_their_state():
    m = module(bidirectional=True)
    hx = state(m)
    y, (h_n, c_n) = m(sequence(m), hx, lengths=torch.tensor([0, 6, 0, 2]))
    torch.testing.assert_close((h_n[:, ::2], c_n[:, ::2]), (hx[0][:, ::2], hx[1][:, ::2]), rtol=0, atol=0)
    assert (y[:, ::2] == 0).all()


@pytest.mark.parametrize("batch_first", [False, True])
def test_resets_of_a_single_row(batch_first):
    m = module(num_layers=2, bidirectional=True, batch_first=batch_first)
    x, resets = torch.randn(T, I, dtype=torch.float64), torch.tensor([0, 0, 1, 0, 1, 0]).bool()
    y, (h_n, c_n) = m(x, resets=resets)
    batch_dim = 0 if batch_first else 1
    y2, (h2, c2) = m(x.unsqueeze(batch_dim), resets=resets.unsqueeze(batch_dim))
    torch.testing.assert_close((y, h_n, c_n), (y2.squeeze(batch_dim), h2.squeeze(1), c2.squeeze(1)))
    assert not torch.allclose(y, m(x)[0])


def test_resets_of_packed_input():
    m = module(num_layers=2, bidirectional=True)
    x, hx, resets = sequence(m), state(m), torch.rand(T, B) < 0.3
    y, states = m(x, hx, lengths=LENGTHS, resets=resets)
    packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    packed_resets = pack_padded_sequence(resets, LENGTHS, enforce_sorted=False)
    for given in (packed_resets, packed_resets.data):
        y2, states2 = m(packed, hx, resets=given)
        torch.testing.assert_close(pad_packed_sequence(y2)[0], y)
        torch.testing.assert_close(states2, states)


def test_streaming_is_the_whole_sequence_cut_up():
    m = module(num_layers=2)
    x = sequence(m)
    expected, expected_state = m(x)
    hx, ys = None, []
    for part in x.split([1, 1, 3, 1]):
        y, hx = m(part, hx)
        ys.append(y)
    torch.testing.assert_close(torch.cat(ys), expected)
    torch.testing.assert_close(hx, expected_state)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda m, x: m(x[:, 0], lengths=LENGTHS[:1]), ValueError, "lengths is for batches.*single row"),
        (lambda m, x: m(x, lengths=LENGTHS[:2]), ValueError, r"lengths must have shape \(4,\)"),
        (lambda m, x: m(x, lengths=LENGTHS * 2), ValueError, r"lengths must lie in \[0, 6\]"),
        (lambda m, x: m(x, lengths=[1, 2, 3, 4]), TypeError, "lengths must be a tensor, but is list"),
        (lambda m, x: m(x, resets=torch.zeros(B, T).bool()), ValueError, r"resets must have shape \(6, 4\)"),
        (lambda m, x: m(x, resets=torch.zeros(T, B)), TypeError, "resets must have dtype torch.bool"),
        (lambda m, x: m(x[:, 0], resets=torch.zeros(T + 1).bool()), ValueError, "resets must have shape"),
        (lambda m, x: m(pack_padded_sequence(x, LENGTHS, enforce_sorted=False), lengths=LENGTHS), ValueError,
         "lengths cannot go with packed data"),
        (lambda m, x: m(x, None, LENGTHS), TypeError, "positional argument"),
    ],
)  # fmt: skip
def test_refusals(call, error, message):
    m = module()
    with pytest.raises(error, match=message):
        call(m, sequence(m))


# ---- how it is called


def test_one_operator_call_per_layer(monkeypatch):
    count = []
    layer = functional.ops.lstm_layer
    monkeypatch.setattr(functional.ops, "lstm_layer", lambda *arguments: (count.append(1), layer(*arguments))[1])
    m = module(num_layers=3, bidirectional=True)
    m(sequence(m))
    assert len(count) == 3


def test_no_weak_references_to_parameters():
    import weakref

    m = copy.deepcopy(module(num_layers=2))
    m(sequence(m))
    m.double()
    assert all(weakref.getweakrefcount(p) == 0 for p in m.parameters())


def test_the_base_class_is_bound_at_import():
    assert modules._LSTM is nn.LSTM and FusedLSTM.__mro__[1] is nn.LSTM


def test_export_with_dynamic_steps():
    m = module(num_layers=2, bidirectional=True).eval()
    steps = torch.export.Dim("steps", min=2, max=64)
    exported = torch.export.export(m, (sequence(m),), dynamic_shapes=({0: steps},))
    assert [n.target for n in exported.graph.nodes].count(torch.ops.fused_lstm.lstm_layer.default) == 2
    x = torch.randn(17, B, I, dtype=torch.float64)
    torch.testing.assert_close(exported.module()(x), m(x), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated", "ignore::torch.jit.TracerWarning")
def test_traces():
    m = module(num_layers=2, bidirectional=True)
    traced = torch.jit.trace(m, (sequence(m),))
    x = sequence(m)
    torch.testing.assert_close(traced(x), m(x), rtol=0, atol=0)
    g = torch.randn(T, B, 2 * H, dtype=torch.float64)
    found = [torch.autograd.grad(f(x)[0], list(m.parameters()), g) for f in (traced, m)]
    torch.testing.assert_close(*found)


def test_torch_func_transforms_of_a_module():
    m = module(num_layers=2)
    x, parameters = sequence(m), dict(m.named_parameters())

    def loss(parameters, x):
        return torch.func.functional_call(m, parameters, (x,))[0].pow(2).sum()

    found = torch.func.grad(loss)(parameters, x)
    expected = torch.autograd.grad(m(x)[0].pow(2).sum(), list(parameters.values()))
    torch.testing.assert_close(list(found.values()), list(expected))
    tangents = {name: torch.randn_like(p) for name, p in parameters.items()}
    _, slope = torch.func.jvp(lambda p: loss(p, x), (parameters,), (tangents,))
    torch.testing.assert_close(
        slope, sum((g * t).sum() for g, t in zip(found.values(), tangents.values(), strict=True))
    )


def test_many_threads_use_one_module():
    from concurrent.futures import ThreadPoolExecutor

    m = module(num_layers=2, bidirectional=True)
    xs = [sequence(m) for _ in range(16)]

    def work(x):
        x = x.clone().requires_grad_()
        y = m(x)[0]
        return y.detach(), torch.autograd.grad(y.pow(2).sum(), x)[0]

    expected = [work(x) for x in xs]
    with ThreadPoolExecutor(4) as pool:
        torch.testing.assert_close(list(pool.map(work, xs)), expected)


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512", "avx512_bf16"])
def test_forced_instruction_set(isa, run_with_isa):
    if isa not in torch.ops.fused_lstm.cpu_isas().split(","):
        pytest.skip(f"this CPU has no {isa}")
    run_with_isa(
        isa,
        """
import torch
from fused_lstm import FusedLSTM
theirs = torch.nn.LSTM(9, 17, 2, bidirectional=True)
ours = FusedLSTM(9, 17, 2, bidirectional=True)
ours.load_state_dict(theirs.state_dict())
x = torch.randn(5, 3, 9)
for grad in (False, True):
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
g = torch.randn(5, 3, 34)
found = [torch.autograd.grad(m(x)[0], list(m.parameters()), g) for m in (ours, theirs)]
torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
""",
    )
