"""What else torch does to a module: penalties, checkpoints, parametrizations, pruning, hooks, copies, counting."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from drop_in_cases import B, H, I, T, assert_same_run, inputs, pair
from layer_cases import FEATURES, Layer
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, stateless
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from fused_lstm import FusedLSTM, functional, ops, reference

DEEP = dict(num_layers=2, bidirectional=True)


# ---- derivatives of derivatives


def test_gradient_penalty_trains():
    """WGAN-GP: the norm of a critic's slope at its input is held near 1."""

    class Critic(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.lstm = kind(I, H, 2, bidirectional=True, dtype=torch.float64)
            self.head = nn.Linear(2 * H, 1, dtype=torch.float64)

        def forward(self, x):
            return self.head(self.lstm(x)[0].mean(0)).squeeze(-1)

    critics = [Critic(nn.LSTM), Critic(FusedLSTM)]
    critics[1].load_state_dict(critics[0].state_dict())
    optimizers = [torch.optim.SGD(critic.parameters(), lr=0.5) for critic in critics]
    x = torch.randn(T, B, I, dtype=torch.float64)
    losses = [[], []]
    for _ in range(3):
        for critic, optimizer, record in zip(critics, optimizers, losses, strict=True):
            between = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
            penalty = (slope.flatten().norm() - 1).pow(2)
            optimizer.zero_grad()
            penalty.backward()
            optimizer.step()
            record.append(penalty.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)
    assert losses[1][-1] < losses[1][0]


def test_gradgradcheck_and_forward_mode_of_a_module():
    m = FusedLSTM(2, 2, 2, bidirectional=True, dtype=torch.float64)
    x = torch.randn(2, 1, 2, dtype=torch.float64, requires_grad=True)
    names = ["weight_hh_l0", "bias_ih_l1_reverse"]
    values = [dict(m.named_parameters())[name].detach().clone().requires_grad_() for name in names]

    def run(x, *values):
        return torch.func.functional_call(m, dict(zip(names, values, strict=True)), (x,))[0]

    assert torch.autograd.gradcheck(run, (x, *values), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(run, (x, *values), check_batched_grad=True)


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing(reentrant):
    m = FusedLSTM(I, H, 2, bidirectional=True, dropout=0.3, dtype=torch.float64)
    x = inputs("batch", torch.float64, False).requires_grad_()

    def flat(x):  # a reentrant checkpoint takes tensors inside of tuples for constants
        y, (h_n, c_n) = m(x)
        return y, h_n, c_n

    found = []
    for run in (flat, lambda x: checkpoint(flat, x, use_reentrant=reentrant)):
        torch.manual_seed(0)
        y, h_n, c_n = run(x)
        for p in (x, *m.parameters()):
            p.grad = None
        (y.pow(2).sum() + h_n.sum() + c_n.sum()).backward()  # a reentrant one knows no torch.autograd.grad
        found.append([p.grad for p in (x, *m.parameters())])
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


# ---- where no gradient, or only some, are wanted


def test_inference_mode():
    theirs, ours = pair(**DEEP)
    x = inputs("batch", torch.float64, False)
    with torch.inference_mode():
        y, (h_n, _) = ours(x)
        torch.testing.assert_close(y, theirs(x)[0])
    assert y.is_inference() and h_n.is_inference()
    made_there = torch.inference_mode()(torch.randn)(T, B, I, dtype=torch.float64)
    torch.testing.assert_close(ours(made_there.clone())[0], theirs(made_there.clone())[0])


@pytest.mark.parametrize("frozen", ["weights", "input", "first layer", "recurrence"])
def test_frozen_parts_get_no_gradient_and_no_work(frozen, monkeypatch):
    asked = []
    backward = ops._backward_op
    monkeypatch.setattr(ops, "_backward_op", lambda *args: (asked.append(args[18]), backward(*args))[1])
    m = FusedLSTM(I, H, 2, dtype=torch.float64)
    x = inputs("batch", torch.float64, False).requires_grad_(frozen != "input")
    names = {"weights": "", "first layer": "_l0", "recurrence": "weight_hh"}.get(frozen, "nothing")
    for name, p in m.named_parameters():
        p.requires_grad_(names not in name)
    m(x)[0].sum().backward()
    assert all((p.grad is None) == (names in name) for name, p in m.named_parameters())
    every, last = 8 + 16 + 32, 1  # last layer first; it asks for x, too, as long as the first layer learns
    expected = {
        "weights": [1, 1],
        "input": [every + last, every],
        "first layer": [every + last, 1],
        "recurrence": [8 + 32 + last, 8 + 32 + 1],
    }
    assert asked == expected[frozen]


# ---- parametrizations, pruning, calls with other parameters


PARAMETRIZATIONS = [parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal]


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS, ids=lambda p: p.__name__)
@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l1_reverse"])
def test_parametrizations(parametrization, name):
    theirs, ours = pair(**DEEP)
    x = inputs("batch", torch.float64, False)
    for m in (theirs, ours):
        torch.manual_seed(0)
        parametrization(m, name)
        m.eval()  # spectral_norm does a step of its power iteration at every access in training
    by_hand = nn.LSTM(I, H, **DEEP, dtype=torch.float64)  # torch.nn.LSTM itself may keep the old weight
    with torch.no_grad():
        for parameter, p in by_hand.named_parameters():
            p.copy_(getattr(ours, parameter))
    torch.testing.assert_close(ours(x), by_hand(x))
    ours.train()
    ours(x)[0].pow(2).sum().backward()
    assert all(p.grad is not None for p in ours.parameters())
    state = ours.state_dict()
    assert state.keys() == theirs.state_dict().keys()
    ours.eval()
    before = ours(x)
    parametrize.remove_parametrizations(ours, name)
    torch.testing.assert_close(ours(x), before)
    assert set(ours.state_dict()) == set(by_hand.state_dict())


PRUNING = {
    "l1": lambda m: prune.l1_unstructured(m, "weight_hh_l0", amount=0.3),
    "random": lambda m: prune.random_unstructured(m, "weight_hh_l0", amount=0.3),
    "rows": lambda m: prune.ln_structured(m, "weight_hh_l0", amount=0.3, n=2, dim=0),
    "global": lambda m: prune.global_unstructured(
        [(m, "weight_hh_l0"), (m, "weight_ih_l0")], pruning_method=prune.L1Unstructured, amount=0.3
    ),
}


@pytest.mark.parametrize("how", list(PRUNING))
def test_pruning(how):
    _, ours = pair()
    x = inputs("batch", torch.float64, False)
    PRUNING[how](ours)
    mask = ours.weight_hh_l0_mask
    assert (mask == 0).any()
    plain = nn.LSTM(I, H, dtype=torch.float64)
    with torch.no_grad():
        for name, p in plain.named_parameters():
            p.copy_(getattr(ours, name))
    y, expected = ours(x)[0], plain(x)[0]
    torch.testing.assert_close(y, expected)
    y.pow(2).sum().backward()
    expected.pow(2).sum().backward()
    torch.testing.assert_close(ours.weight_hh_l0_orig.grad, plain.weight_hh_l0.grad * mask)
    # trained, saved, loaded: what is pruned stays zero
    torch.optim.SGD(ours.parameters(), lr=0.1).step()
    other = FusedLSTM(I, H, dtype=torch.float64)
    PRUNING[how](other)
    other.load_state_dict(ours.state_dict())
    torch.testing.assert_close(other(x), ours(x))
    for name in [name[: -len("_mask")] for name, _ in ours.named_buffers()]:
        prune.remove(ours, name)
    assert (ours.weight_hh_l0[mask == 0] == 0).all() and set(ours.state_dict()) == set(plain.state_dict())
    torch.testing.assert_close(ours(x), other(x))


@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.stateless.functional_call.*deprecated")
def test_stateless_and_tied_weights():
    theirs, ours = pair()
    x = inputs("batch", torch.float64, False)
    other = {name: torch.randn_like(p) for name, p in ours.named_parameters()}
    before = ours(x)
    expected = torch.func.functional_call(theirs, other, (x,))
    torch.testing.assert_close(stateless.functional_call(ours, other, (x,)), expected)
    torch.testing.assert_close(ours(x), before, rtol=0, atol=0)
    square = FusedLSTM(H, H, dtype=torch.float64)
    square.weight_ih_l0 = square.weight_hh_l0
    z = torch.randn(T, B, H, dtype=torch.float64)
    square(z)[0].sum().backward()
    apart = FusedLSTM(H, H, dtype=torch.float64)
    apart.load_state_dict(square.state_dict())
    apart(z)[0].sum().backward()
    torch.testing.assert_close(square.weight_hh_l0.grad, apart.weight_hh_l0.grad + apart.weight_ih_l0.grad)


# ---- hooks, copies, processes


def test_hooks_of_modules_tensors_and_parameters():
    theirs, ours = pair()
    seen = {id(theirs): [], id(ours): []}
    x = inputs("batch", torch.float64, False).requires_grad_()
    for m in (theirs, ours):
        record = seen[id(m)]
        m.register_forward_pre_hook(lambda m, args, r=record: r.append(("pre", args[0].shape)))
        m.register_forward_hook(lambda m, args, out, r=record: r.append(("post", out[0].shape)))
        m.register_full_backward_pre_hook(lambda m, g, r=record: r.append(("backward pre", len(g))))
        m.register_full_backward_hook(lambda m, gi, go, r=record: r.append(("backward", gi[0].shape)))
        m.weight_hh_l0.register_hook(lambda g: g * 2)
        m.bias_hh_l0.register_post_accumulate_grad_hook(lambda p, r=record: r.append(("post acc", p.grad.shape)))
        m(x)[0].sum().backward()
    assert sorted(seen[id(ours)], key=str) == sorted(seen[id(theirs)], key=str) and len(seen[id(ours)]) == 5
    torch.testing.assert_close(ours.weight_hh_l0.grad, theirs.weight_hh_l0.grad)


@pytest.mark.parametrize("way", [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m))], ids=str)
def test_copies_of_a_module_that_has_run(way):
    theirs, ours = pair(**DEEP)
    ours(inputs("batch", torch.float64, False))[0].sum().backward()
    assert_same_run(theirs, way(ours), inputs("batch", torch.float64, False))


def test_another_process(tmp_path, run_python):
    """A new interpreter gets module and input by pickle and answers the same."""
    _, ours = pair(**DEEP)
    x = inputs("batch", torch.float64, False)
    torch.save((ours, x), tmp_path / "call.pt")
    run_python(
        f"""
import torch
path = {str(tmp_path / "call.pt")!r}
m, x = torch.load(path, weights_only=False)
torch.save([t.detach() for t in torch.utils._pytree.tree_leaves(m(x))], path)
"""
    )
    expected = [t.detach() for t in torch.utils._pytree.tree_leaves(ours(x))]
    torch.testing.assert_close(torch.load(tmp_path / "call.pt"), expected)


# ---- autocast with every dtype, and FLOPs


@pytest.mark.parametrize("parameters", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16])
def test_autocast_with_every_dtype(cast, parameters):
    m = FusedLSTM(I, H, 2, dtype=parameters)
    x = torch.randn(T, B, I, dtype=parameters)
    with torch.autocast("cpu", cast):
        y, (h_n, c_n) = m(x)
        loss = y.float().pow(2).sum() + c_n.float().sum()
    loss.backward()
    expected = torch.float64 if parameters == torch.float64 else cast
    assert y.dtype == h_n.dtype == c_n.dtype == expected
    assert all(p.grad.dtype == parameters and p.grad.isfinite().all() for p in m.parameters())
    by_hand = copy.deepcopy(m).to(expected)
    torch.testing.assert_close(by_hand(x.to(expected))[0], y)


@pytest.mark.parametrize("feature", ["plain", "projection", "batch first", "no bias", "packed"])
def test_flops_are_those_of_the_definition(feature):
    layer = Layer.random(**FEATURES[feature]).requires_grad_()
    counts = []
    for function in (functional.lstm_layer, reference.lstm_layer):
        with FlopCounterMode(display=False) as forward:
            outputs = layer.call(function)
        loss = sum(out.sum() for out in outputs)
        with FlopCounterMode(display=False) as backward:
            loss.backward()
        counts.append((forward.get_total_flops(), backward.get_total_flops()))
    if feature == "packed":  # the definition computes the padding of the rectangle too
        assert 0 < counts[0][0] < counts[1][0] and 0 < counts[0][1] < counts[1][1]
    else:
        assert counts[0] == counts[1] and counts[0][0] > 0


def test_flops_of_frozen_weights_are_not_counted():
    layer = Layer.random()
    everything = 0
    for wanted in ("x", "w_ih.0", "w_hh.0"):
        layer.requires_grad_(False).variables[wanted].requires_grad_()
        loss = layer.call(functional.lstm_layer)[0].sum()
        with FlopCounterMode(display=False) as counter:
            loss.backward()
        through_time = 2 * 5 * 3 * 4 * 5 * 5
        everything += counter.get_total_flops() - through_time
    layer.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        layer.call(functional.lstm_layer)[0].sum().backward()
    forward = 2 * 5 * 3 * 4 * 5 * (3 + 5)
    assert counter.get_total_flops() == forward + everything + through_time
