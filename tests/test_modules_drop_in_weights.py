"""fused_lstm/modules.py beside torch.nn.LSTM: weights that change between calls; calls do not touch each other."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from drop_in_cases import B, H, I, T, assert_same_run, inputs, pair, state
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from fused_lstm import FusedLSTM

# The warning of torch.nn.LSTM that oneDNN has no projections is about nothing that happens here.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


# ---- weights that change between calls: never a stale one


def change_in_place(m):
    with torch.no_grad():
        m.weight_hh_l0.mul_(2)


def change_data(m):
    m.bias_ih_l0.data = m.bias_ih_l0.data + 1


def change_by_optimizer(m):
    for p in m.parameters():
        p.grad = torch.ones_like(p)
    torch.optim.SGD(m.parameters(), lr=0.1).step()


def change_by_state_dict(m):
    m.load_state_dict({name: t * 3 for name, t in m.state_dict().items()})


def change_by_assignment(m):
    m.weight_ih_l0 = nn.Parameter(m.weight_ih_l0.detach() * -1)


def change_by_plain_tensor(m):
    """What WeightDrop recipes do."""
    weight = m.weight_hh_l0.detach() * 0.5
    del m.weight_hh_l0
    m.weight_hh_l0 = weight


def change_by_storage(m):
    m.weight_hh_l0.data.untyped_storage().copy_(torch.zeros_like(m.weight_hh_l0).untyped_storage())


def change_by_parametrization(m):
    class Half(nn.Module):
        def forward(self, w):
            return w * 0.5

    parametrize.register_parametrization(m, "weight_ih_l0", Half())


def change_by_new_weight_norm(m):
    parametrizations.weight_norm(m, "weight_hh_l0")
    m.parametrizations.weight_hh_l0.original0.data *= 2


def change_by_pruning(m):
    prune.l1_unstructured(m, "weight_hh_l0", amount=0.5)


CHANGES = [value for name, value in list(globals().items()) if name.startswith("change_")]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("grad", [False, True])
def test_changed_weights_count(change, grad):
    theirs, ours = pair()
    x = inputs("batch", torch.float64, False)
    with torch.set_grad_enabled(grad):
        before = ours(x)[0].clone()
    for m in (theirs, ours):
        change(m)
    with torch.set_grad_enabled(grad):
        actual = ours(x)[0]
    assert not torch.allclose(actual, before)
    # torch.nn.LSTM itself keeps the old weights after a change by parametrization or by plain tensor; a copy does not.
    fresh = nn.LSTM(I, H, dtype=torch.float64)
    with torch.no_grad():
        for name, p in fresh.named_parameters():
            p.copy_(getattr(theirs, name))
    torch.testing.assert_close(actual, fresh(x)[0])


def test_parametrized_weights_get_gradients_and_may_be_undone():
    theirs, ours = pair()
    parametrizations.weight_norm(ours, "weight_hh_l0")
    parametrizations.weight_norm(theirs, "weight_hh_l0")
    x = inputs("batch", torch.float64, False)
    assert_same_run(theirs, ours, x)
    parametrize.remove_parametrizations(ours, "weight_hh_l0")
    assert type(ours) is FusedLSTM and "weight_hh_l0" in dict(ours.named_parameters())
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_weight_norm_by_hook():
    theirs, ours = pair()
    for m in (theirs, ours):
        nn.utils.weight_norm(m, "weight_hh_l0")
        m.weight_hh_l0_g.data.mul_(1.5)
    assert_same_run(theirs, ours, inputs("batch", torch.float64, False))


def test_functional_call():
    theirs, ours = pair()
    x = inputs("batch", torch.float64, False)
    before = ours(x)
    swapped = {name: torch.randn_like(p) for name, p in ours.named_parameters()}
    expected = torch.func.functional_call(theirs, swapped, (x,))
    torch.testing.assert_close(torch.func.functional_call(ours, swapped, (x,)), expected)
    torch.testing.assert_close(ours(x), before, rtol=0, atol=0)

    def loss(parameters, m):
        return torch.func.functional_call(m, parameters, (x,))[0].pow(2).sum()

    torch.testing.assert_close(torch.func.grad(loss)(swapped, ours), torch.func.grad(loss)(swapped, theirs))


def test_results_of_earlier_calls_stay():
    _, ours = pair(num_layers=2)
    other = FusedLSTM(I, H, 2, dtype=torch.float64)
    xs = [inputs("batch", torch.float64, False) for _ in range(4)]
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            alone = [[t.clone() for t in (y, *hc)] for y, hc in map(ours, xs)]
            kept = []
            for x in xs:
                y, hc = ours(x)
                kept.append([y, *hc])
                other(x * 2)
        torch.testing.assert_close(kept, alone, rtol=0, atol=0)


def test_backward_of_interleaved_graphs():
    theirs, ours = pair()
    other = FusedLSTM(I, H, dtype=torch.float64)
    xs = [inputs("batch", torch.float64, False).requires_grad_() for _ in range(3)]
    graphs = [(ours(x)[0], other(x)[0]) for x in xs]
    for x, (y, _) in reversed(list(zip(xs, graphs, strict=True))):
        (actual,) = torch.autograd.grad(y.sum(), x)
        (expected,) = torch.autograd.grad(theirs(x)[0].sum(), x)
        torch.testing.assert_close(actual, expected)


def test_double_backward():
    theirs, ours = pair(num_layers=2)
    x = inputs("batch", torch.float64, False).requires_grad_()

    def penalty(m):
        (slope,) = torch.autograd.grad(m(x)[0].pow(2).sum(), x, create_graph=True)
        return torch.autograd.grad(slope.pow(2).sum(), [x, *m.parameters()], allow_unused=True)

    for actual, expected in zip(penalty(ours), penalty(theirs), strict=True):
        torch.testing.assert_close(actual, expected)


def test_training_step_by_step():
    theirs, ours = pair(num_layers=2, bidirectional=True)
    x, target = inputs("batch", torch.float64, False), torch.randn(T, B, 2 * H, dtype=torch.float64)
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.05) for m in (theirs, ours)]
    for _ in range(5):
        losses = []
        for m, optimizer in zip((theirs, ours), optimizers, strict=True):
            optimizer.zero_grad()
            loss = (m(x)[0] - target).pow(2).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(m.parameters(), 0.1)
            optimizer.step()
            losses.append(loss.detach())
        torch.testing.assert_close(losses[1], losses[0])
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_another_class_under_torch_nn_lstm(monkeypatch):
    """Code that puts FusedLSTM in the place of torch.nn.LSTM must not make it its own base class."""
    monkeypatch.setattr(nn, "LSTM", FusedLSTM)
    monkeypatch.setattr(nn.modules.rnn, "LSTM", FusedLSTM)
    m = nn.LSTM(I, H, 2, dtype=torch.float64)
    m = pickle.loads(pickle.dumps(copy.deepcopy(m)))
    assert m(inputs("packed unsorted", torch.float64, False), state(m, B))[1][0].shape == (2, B, H)
