"""What PyTorch's test_nn.py asks of torch.nn.LSTM, asked of FusedLSTM beside it."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads

from fused_lstm import FusedLSTM


def torch_and_fused(*args, **kwargs) -> tuple[nn.LSTM, FusedLSTM]:
    theirs, ours = nn.LSTM(*args, **kwargs), FusedLSTM(*args, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


STATES = [
    # h0, c0 for T=6, B=4, L=3, H=20, and what is said of the first that is wrong
    ((4, 20), (3, 4, 20), "should also be 3-D"),
    ((3, 5, 20), (3, 4, 20), "Expected hidden[0] size (3, 4, 20), got [3, 5, 20]"),
    ((3, 4, 20), (4, 4, 20), "Expected hidden[1] size (3, 4, 20), got [4, 4, 20]"),
    ((3, 4, 21), (3, 4, 20), "Expected hidden[0] size (3, 4, 20), got [3, 4, 21]"),
]


@pytest.mark.parametrize(("h", "c", "words"), STATES)
def test_shapes_of_states(h, c, words):
    for m in torch_and_fused(10, 20, 3):
        with pytest.raises(RuntimeError, match=re.escape(words)):
            m(torch.randn(6, 4, 10), (torch.randn(h), torch.randn(c)))
        with pytest.raises(RuntimeError, match="must be equal to input_size. Expected 10, got 11"):
            m(torch.randn(6, 4, 11))


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"proj_size": 3}], ids=str)
@pytest.mark.parametrize("rows", [(), (4,)])
def test_no_state_is_a_state_of_zeros(options, rows):
    m = FusedLSTM(10, 20, 2, **options)
    n = 4 if m.bidirectional else 2
    x = torch.randn(6, *rows, 10)
    zeros = torch.zeros(n, *rows, m.proj_size or 20), torch.zeros(n, *rows, 20)
    torch.testing.assert_close(m(x), m(x, zeros), rtol=0, atol=0)


def test_graph_may_be_kept():
    m = FusedLSTM(10, 20, 2)
    x = torch.randn(6, 4, 10, requires_grad=True)
    out = m(x)[0].sum()
    found = []
    for _ in range(3):
        found.append(torch.autograd.grad(out, [x, *m.parameters()], retain_graph=True))
    torch.testing.assert_close(found[1:], [found[0]] * 2, rtol=0, atol=0)
    out.backward()
    with pytest.raises(RuntimeError, match="second time"):
        out.backward()


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("options", [{}, {"proj_size": 3}], ids=str)
def test_weight_norm(options):
    theirs, m = torch_and_fused(4, 5, bidirectional=True, num_layers=2, **options)
    x, names = torch.randn(3, 2, 4), ["weight_ih_l0", "weight_hh_l1_reverse"]
    expected = theirs(x)
    for name in names:
        before = getattr(m, name).detach().clone()
        m = nn.utils.weight_norm(m, name=name)
        assert isinstance(getattr(m, f"{name}_g"), nn.Parameter) and name not in dict(m.named_parameters())
        torch.testing.assert_close(getattr(m, name), before)
    torch.testing.assert_close(m(x), expected)
    with torch.no_grad():
        m.weight_ih_l0_g.mul_(2)
        theirs.weight_ih_l0.mul_(2)
    torch.testing.assert_close(m(x), theirs(x))
    for name in names:
        m = nn.utils.remove_weight_norm(m, name=name)
        assert isinstance(getattr(m, name), nn.Parameter)
    torch.testing.assert_close(m(x), theirs(x))


@pytest.mark.parametrize("register", ["weight_norm", "spectral_norm", "orthogonal"])
def test_parametrizations(register):
    m = FusedLSTM(4, 8)
    getattr(nn.utils.parametrizations, register)(m, "weight_hh_l0")
    fresh = nn.LSTM(4, 8).eval()
    x = torch.randn(5, 3, 4)
    m.eval()  # spectral_norm iterates while training
    fresh.load_state_dict({name: getattr(m, name).detach() for name in fresh.state_dict()})
    torch.testing.assert_close(m(x), fresh(x))
    m.train()
    m(x)[0].sum().backward()
    assert all(p.grad is not None for p in m.parameters())
    copied = pickle.loads(pickle.dumps(m.state_dict()))
    m.load_state_dict(copied)
    assert copy.deepcopy(m).eval()(x)[0].shape == (5, 3, 8)


def test_pruning():
    m = FusedLSTM(32, 32)
    x = torch.randn(3, 2, 32)
    prune.l1_unstructured(m, "weight_ih_l0", 0.5)
    assert sum(isinstance(w, nn.Parameter) for w in m._flat_weights) == 3
    masked = m._flat_weights[0]
    assert masked is m.weight_ih_l0 and (masked == 0).sum() == masked.numel() // 2
    sparse = m(x)
    prune.remove(m, "weight_ih_l0")
    assert sum(isinstance(w, nn.Parameter) for w in m._flat_weights) == 4
    torch.testing.assert_close(m(x), sparse)
    prune.global_unstructured(
        [(m, "weight_ih_l0"), (m, "weight_hh_l0")], pruning_method=prune.L1Unstructured, amount=0.2
    )
    m(x)[0].sum().backward()
    assert (m.weight_hh_l0_orig.grad[m.weight_hh_l0_mask == 0] == 0).all()


def test_tied_weights():
    theirs, ours = torch_and_fused(6, 6, 2, dtype=torch.float64)
    x = torch.randn(4, 3, 6, dtype=torch.float64)
    for m in (theirs, ours):
        m.weight_ih_l1 = m.weight_hh_l0
        m.weight_hh_l1 = m.weight_hh_l0
        m.flatten_parameters()
        optimizer = torch.optim.SGD(m.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            m(x)[0].square().mean().backward()
            optimizer.step()
    assert ours.weight_ih_l1 is ours.weight_hh_l0
    torch.testing.assert_close(dict(ours.named_parameters()), dict(theirs.named_parameters()))


def test_dropout_changes_between_calls():
    theirs, ours = torch_and_fused(5, 6, 3, dropout=0.9)
    x = torch.randn(4, 3, 5)
    for p in (0.9, 0.0, 1.0, 0.5):
        outs = []
        for m in (theirs, ours):
            m.dropout = p
            torch.manual_seed(4)
            outs.append(m(x))
        torch.testing.assert_close(outs[1], outs[0])


def test_in_containers():
    class Last(nn.Module):
        def __init__(self, m):
            super().__init__()
            self.m = m

        def forward(self, x):
            return self.m(x)[0]

    m = nn.Sequential(nn.Linear(3, 4), Last(FusedLSTM(4, 5)), nn.Linear(5, 1))
    x = torch.randn(6, 2, 3)
    expected = m(x)
    torch.testing.assert_close(nn.DataParallel(m)(x), expected)  # without a GPU it calls the module itself
    torch.testing.assert_close(copy.deepcopy(m).double()(x.double()).float(), expected, rtol=1e-4, atol=1e-5)
    assert len(list(m.parameters())) == 8 and isinstance(m[1].m.all_weights[0][0], nn.Parameter)


@pytest.mark.parametrize("enforce_sorted", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_packed_and_back(enforce_sorted, batch_first):
    theirs, ours = torch_and_fused(3, 4, 2, bidirectional=True, batch_first=batch_first)
    sequences = [torch.randn(n, 3) for n in ((6, 4, 4, 1) if enforce_sorted else (1, 4, 6, 4))]
    packed = nn.utils.rnn.pack_sequence(sequences, enforce_sorted=enforce_sorted)
    outs = [m(packed) for m in (theirs, ours)]
    assert type(outs[1][0]) is nn.utils.rnn.PackedSequence
    torch.testing.assert_close(outs[1][1], outs[0][1])
    for total in (None, 9):
        padded = [
            nn.utils.rnn.pad_packed_sequence(out, batch_first=batch_first, total_length=total)[0] for out, _ in outs
        ]
        torch.testing.assert_close(padded[1], padded[0])
    unpacked = nn.utils.rnn.unpack_sequence(outs[1][0])
    for k, sequence in enumerate(sequences):  # each as if it were alone
        torch.testing.assert_close(unpacked[k], ours(sequence)[0])
    half = packed.double()
    assert ours.double()(half)[0].data.dtype == torch.float64


def test_per_sample_gradients():
    theirs, ours = torch_and_fused(3, 4, batch_first=True, dtype=torch.float64)
    x = torch.randn(5, 6, 3, dtype=torch.float64)
    expected, actual = [], []
    for m, found in ((theirs, expected), (ours, actual)):
        call_for_per_sample_grads(m, batch_size=5)(x)[0].sum().backward()
        found += [p.grad_sample for p in m.parameters()]
    torch.testing.assert_close(actual, expected)
    ours.zero_grad()
    fresh = FusedLSTM(3, 4, batch_first=True, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="lengths, resets or options were given"):
        call_for_per_sample_grads(fresh, batch_size=5)(x, lengths=torch.full((5,), 6))


def test_stateless_and_hooks():
    m, seen = FusedLSTM(3, 4), []
    x = torch.randn(5, 2, 3, requires_grad=True)
    handles = [
        m.register_forward_pre_hook(lambda *_: seen.append("pre")),
        m.register_forward_hook(lambda *_: seen.append("post")),
        m.register_full_backward_hook(lambda _, inputs, outputs: seen.append(len(inputs))),
        m.weight_hh_l0.register_hook(lambda g: g * 0),
    ]
    m(x)[0].sum().backward()
    assert seen == ["pre", "post", 1] and (m.weight_hh_l0.grad == 0).all() and m.weight_ih_l0.grad.abs().sum() > 0
    for handle in handles:
        handle.remove()
    zeros = {name: torch.zeros_like(p) for name, p in m.named_parameters()}
    assert (torch.func.functional_call(m, zeros, (x,))[0] == 0).all() and (m(x)[0] != 0).any()
