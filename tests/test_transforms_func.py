"""torch.func over the layer and the module: vmap, per-sample gradients, ensembles, Jacobians; against plain torch."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from cuda_emulated import cuda_code_for_cpu_tensors
from layer_cases import FEATURES, Layer
from torch import nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vjp, vmap

from fused_lstm import FusedLSTM, functional, ops, reference

N, T, B, I, H = 3, 4, 2, 3, 5  # noqa: E741

INPUTS = ("x", "h0", "c0", "lengths", "resets", "cell_inputs", "recurrent_scale")
SOME = ["plain", "batch first", "projection", "lengths", "lengths, batch first", "packed", "resets, lengths",
        "recurrent scale", "peephole", "zoneout", "zoneout, batch first, resets"]  # fmt: skip


def many(feature: str) -> tuple[Layer, list[Layer]]:
    layers = [Layer.random(T, B, I, H, **FEATURES[feature]) for _ in range(N)]
    return layers[0], layers


def stacked(layers: list[Layer], names, which: str) -> dict[str, torch.Tensor]:
    groups = [getattr(layer, which) for layer in layers]
    return {name: torch.stack([g[name] for g in groups]) for name in groups[0] if name in names}


def batch_of(feature: str, over: str) -> tuple[Layer, dict, dict]:
    """The first layer, and its variables and constants that are N-fold: all inputs, all weights, or everything."""
    first, layers = many(feature)
    names = set(first.variables) | set(first.constants)
    if feature == "packed":  # which rows are alive is shared
        names -= {"batch_sizes"}
        for layer in layers:
            layer.variables["x"] = torch.randn_like(first.variables["x"])
    names = {"inputs": names & set(INPUTS), "weights": names - set(INPUTS), "everything": names}[over]
    return first, stacked(layers, names, "variables"), stacked(layers, names, "constants")


def call(first: Layer, function, variables: dict, constants: dict) -> tuple[torch.Tensor, ...]:
    layer = Layer(first.variables | variables, first.constants | constants, first.options)
    return layer.call(function)


def one_by_one(function, *stacks: dict) -> tuple:
    found = [function(*({k: t[n] for k, t in s.items()} for s in stacks)) for n in range(N)]
    return torch.utils._pytree.tree_map(lambda *ts: torch.stack(ts), *found)


@pytest.fixture(params=["cpu code", "cuda code"])
def code(request):
    with cuda_code_for_cpu_tensors() if request.param == "cuda code" else contextlib.nullcontext():
        yield


@pytest.mark.parametrize("over", ["inputs", "weights", "everything"])
@pytest.mark.parametrize("feature", SOME)
def test_vmap(feature, over, code):
    first, variables, constants = batch_of(feature, over)
    expected = one_by_one(lambda v, k: call(first, reference.lstm_layer, v, k), variables, constants)
    actual = vmap(lambda v, k: call(first, functional.lstm_layer, v, k))(variables, constants)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("over", ["inputs", "weights", "everything"])
@pytest.mark.parametrize("feature", SOME)
def test_gradients_inside_and_outside_of_vmap(feature, over, code):
    first, variables, constants = batch_of(feature, over)
    wanted = first.variables

    def loss(function, v, k, w):
        y, h_n, c_n = call(first, function, w | v, k)
        return y.pow(2).sum() + h_n.sin().sum() + (c_n * c_n.exp()).sum()

    def per_entry(function):
        return lambda v, k: grad(lambda v, w: loss(function, v, k, w), argnums=(0, 1))(v, wanted)

    expected = one_by_one(per_entry(reference.lstm_layer), variables, constants)
    torch.testing.assert_close(vmap(per_entry(functional.lstm_layer))(variables, constants), expected)

    # the sum over all entries: a gradient outside of vmap, by torch.func and by autograd
    def total(v, w):
        return vmap(lambda v, k: loss(functional.lstm_layer, v, k, w))(v, constants).sum()

    summed = (expected[0], {name: g.sum(0) for name, g in expected[1].items()})
    torch.testing.assert_close(grad(total, argnums=(0, 1))(variables, wanted), summed)
    leaves = [t.detach().requires_grad_() for t in (*variables.values(), *wanted.values())]
    v, w = dict(zip(variables, leaves)), dict(zip(wanted, leaves[len(variables) :], strict=True))  # noqa: B905
    found = torch.autograd.grad(total(v, w), leaves, materialize_grads=True)
    torch.testing.assert_close(list(found), [*summed[0].values(), *summed[1].values()])


@pytest.mark.parametrize("axes", [(1, 0), (2, 2), (-1, 1)], ids=str)
def test_axes_anywhere_and_nested(axes):
    layer = Layer.random(T, B, I, H, lengths=True, direction="both")
    xs, h0s = torch.randn(N, T, B, I).double(), torch.randn(N, 2, B, H).double()

    def f(function, x, h0):
        return layer.call(function, layer.variables | {"x": x, "h0": h0})

    expected = one_by_one(lambda v: f(reference.lstm_layer, v["x"], v["h0"]), {"x": xs, "h0": h0s})
    ours = vmap(lambda x, h0: f(functional.lstm_layer, x, h0), axes, axes[0])
    actual = ours(xs.movedim(0, axes[0]), h0s.movedim(0, axes[1]))
    torch.testing.assert_close([t.movedim(axes[0], 0) for t in actual], list(expected))
    every_pair = vmap(lambda x: vmap(lambda h0: f(functional.lstm_layer, x, h0))(h0s))(xs)
    torch.testing.assert_close([t.diagonal().movedim(-1, 0) for t in every_pair], list(expected))


class Calls:
    def __init__(self, op):
        self.op, self.rows = op, []

    def __call__(self, *arguments):
        self.rows.append(next(a for a in arguments if isinstance(a, torch.Tensor)).shape[1])
        return self.op(*arguments)


def test_entries_that_share_weights_are_one_call(monkeypatch):
    forward, backward = Calls(ops._forward_op), Calls(ops._backward_op)
    monkeypatch.setattr(ops, "_forward_op", forward)
    monkeypatch.setattr(ops, "_backward_op", backward)
    m = FusedLSTM(I, H)
    xs = torch.randn(N, T, B, I)
    assert vmap(lambda x: m(x)[0])(xs).shape == (N, T, B, H)
    assert forward.rows[-1] == N * B
    vmap(lambda x: m(x)[0])(xs).sum().backward()
    assert forward.rows[-1] == backward.rows[-1] == N * B and len(backward.rows) == 1
    p = {name: p.detach() for name, p in m.named_parameters()}
    vmap(grad(lambda x: functional_call(m, p, (x,))[0].sum()))(xs)
    assert backward.rows[-1] == N * B and len(backward.rows) == 2


# ---- the module


def models(**options) -> tuple[list[FusedLSTM], FusedLSTM]:
    ms = [FusedLSTM(I, H, **options, dtype=torch.float64) for _ in range(N)]
    return ms, copy.deepcopy(ms[0]).to("meta")


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 2}], ids=str)
def test_ensemble(options):
    ms, base = models(**options)
    parameters, buffers = stack_module_state(ms)

    def run(p, b, x):
        y, (h_n, c_n) = functional_call(base, (p, b), (x,))
        return y, h_n, c_n

    for x, dim in ((torch.randn(T, B, I).double(), None), (torch.randn(N, T, B, I).double(), 0)):
        actual = vmap(run, (0, 0, dim))(parameters, buffers, x)
        each = [m(x if dim is None else x[n]) for n, m in enumerate(ms)]
        expected = [torch.stack(ts) for ts in zip(*((y, h, c) for y, (h, c) in each), strict=True)]
        torch.testing.assert_close(list(actual), expected)
    found = torch.autograd.grad(actual[0].pow(2).sum(), list(parameters.values()))
    losses = sum(y.pow(2).sum() for y, _ in each)
    names = list(parameters)
    by_model = torch.autograd.grad(losses, [dict(m.named_parameters())[name] for m in ms for name in names])
    expected = [torch.stack(by_model[k :: len(names)]) for k in range(len(names))]
    torch.testing.assert_close(list(found), expected)


def test_per_sample_gradients_of_a_classifier():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = FusedLSTM(I, H, 2, batch_first=True, bidirectional=True)
            self.head = nn.Linear(2 * H, 2)

        def forward(self, x):
            return self.head(self.lstm(x)[0].mean(-2))

    m = Classifier().double()
    xs, targets = torch.randn(6, T, I).double(), torch.randint(0, 2, (6,))
    parameters = {name: p.detach() for name, p in m.named_parameters()}

    def loss(p, x, target):
        return nn.functional.cross_entropy(functional_call(m, p, (x,)), target)

    found = vmap(grad(loss), (None, 0, 0))(parameters, xs, targets)
    for n in range(6):
        expected = torch.autograd.grad(nn.functional.cross_entropy(m(xs[n]), targets[n]), list(m.parameters()))
        torch.testing.assert_close([g[n] for g in found.values()], list(expected))


# ---- Jacobians, Hessians, products with them


def jacobian_cases():
    layer = Layer.random(3, 2, 2, 2, lengths=True, direction="both")
    names = ("x", "h0", "w_hh.1", "b_ih.0")

    def f(function):
        return lambda *values: layer.call(function, layer.variables | dict(zip(names, values, strict=True)))

    return f, tuple(layer.variables[name] for name in names)


@pytest.mark.parametrize("transform", [jacrev, jacfwd], ids=lambda t: t.__name__)
def test_jacobians(transform):
    f, values = jacobian_cases()
    argnums = tuple(range(len(values)))
    expected = jacrev(f(reference.lstm_layer), argnums)(*values)
    torch.testing.assert_close(transform(f(functional.lstm_layer), argnums)(*values), expected)


@pytest.mark.parametrize("chunk_size", [None, 1, 2])
def test_jacobian_of_inputs_alone_in_chunks(chunk_size):
    layer = Layer.random(3, 2, 2, 3, batch_first=True)

    def f(function):
        return lambda x: layer.call(function, layer.variables | {"x": x})[0]

    expected = jacrev(f(reference.lstm_layer))(layer.variables["x"])
    torch.testing.assert_close(
        jacrev(f(functional.lstm_layer), chunk_size=chunk_size)(layer.variables["x"]), expected
    )


def test_jacobian_by_autograd_with_batched_gradients():
    layer = Layer.random(3, 2, 2, 3, direction="both").requires_grad_()
    for function in (functional.lstm_layer, reference.lstm_layer):
        y = layer.call(function)[0]
        basis = torch.eye(y.numel(), dtype=y.dtype).view(-1, *y.shape)
        found = torch.autograd.grad(y, list(layer.variables.values()), basis, is_grads_batched=True, allow_unused=True)
        if function is functional.lstm_layer:
            actual = found
    torch.testing.assert_close(actual, found)


@pytest.mark.parametrize("vectorize", [True, False])
def test_functional_jacobian_and_hessian(vectorize):
    layer = Layer.random(2, 1, 2, 2)

    def f(function):
        return lambda x: layer.call(function, layer.variables | {"x": x})[0].pow(2).sum()

    x = layer.variables["x"]
    for derivative in (torch.autograd.functional.jacobian, torch.autograd.functional.hessian):
        expected = derivative(f(reference.lstm_layer), x)
        torch.testing.assert_close(derivative(f(functional.lstm_layer), x, vectorize=vectorize), expected)


@pytest.mark.parametrize("how", [hessian, lambda f: jacrev(jacrev(f)), lambda f: jacrev(jacfwd(f))],
                         ids=["hessian", "jacrev jacrev", "jacrev jacfwd"])  # fmt: skip
def test_hessians(how):
    layer = Layer.random(2, 2, 2, 2, resets=True)

    def f(function):
        return lambda x: layer.call(function, layer.variables | {"x": x})[0].pow(2).sum()

    x = layer.variables["x"]
    torch.testing.assert_close(how(f(functional.lstm_layer))(x), hessian(f(reference.lstm_layer))(x))


def test_products_with_jacobians_of_a_module_in_float32():
    m = FusedLSTM(I, H, 2, bidirectional=True)
    x, t = torch.randn(T, B, I), torch.randn(T, B, I)
    y, push = jvp(lambda x: m(x)[0], (x,), (t,))
    y2, pull = vjp(lambda x: m(x)[0], x)
    g = torch.randn_like(y)
    torch.testing.assert_close(y, y2)
    torch.testing.assert_close((push * g).sum(), (pull(g)[0] * t).sum(), rtol=1e-4, atol=1e-4)


def test_directions_at_once():
    """vmap over tangents, and over cotangents of a loss that has been pulled back before (create_graph)."""
    f, values = jacobian_cases()
    tangents = [torch.stack([torch.randn_like(v) for _ in range(N)]) for v in values]

    def push(function):
        return lambda *ts: jvp(f(function), values, ts)[1]

    torch.testing.assert_close(
        vmap(push(functional.lstm_layer))(*tangents), vmap(push(reference.lstm_layer))(*tangents)
    )


def test_dropout_needs_to_be_told_what_is_random():
    m = FusedLSTM(I, H, 2, dropout=0.5)
    xs = torch.randn(1, T, B, I).expand(N, -1, -1, -1)
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(lambda x: m(x)[0])(xs)
    different = vmap(lambda x: m(x)[0], randomness="different")(xs)
    same = vmap(lambda x: m(x)[0], randomness="same")(xs)
    assert not torch.equal(different[0], different[1]) and torch.equal(same[0], same[1])
