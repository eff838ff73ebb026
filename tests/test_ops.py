"""fused_lstm/ops.py: fake kernels, gradients of every order, what is computed and what is kept."""

from __future__ import annotations

import pytest
import torch
from layer_cases import FEATURES, Layer, assert_same, gradients, random_cotangents
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from fused_lstm import functional, ops, reference

forward_op = torch.ops.fused_lstm.lstm_layer.default
backward_op = torch.ops.fused_lstm.lstm_layer_backward.default
TINY = dict(T=2, B=2, I=2, H=2)


def tiny(feature: str) -> Layer:
    return Layer.random(**TINY, **{**FEATURES[feature], **({"P": 1} if "P" in FEATURES[feature] else {})})


def roles(layer: Layer) -> list[str]:
    """Name of the variable behind each entry of the operator's answer, when everything is asked for."""
    names = [name for name in ("x", "h0", "c0") if name in layer.variables]
    for role in ("w_ih", "w_hh", "b_ih", "w_hr"):
        names += [f"{role}.{d}" for d in range(2) if f"{role}.{d}" in layer.variables]
    return names + [name for name in ("recurrent_scale", "cell_params") if name in layer.variables]


NEED = dict(x=1, h0=2, c0=4, w_ih=8, w_hh=16, b_ih=32, w_hr=64, recurrent_scale=128, cell_params=256)


def needs_of(layer: Layer) -> int:
    return sum({NEED[name.split(".")[0]] for name in roles(layer)})


def backward_arguments(layer: Layer, needs: int) -> list:
    arguments = layer.op_arguments(True)
    y, h_n, c_n, reserve = (t.detach() for t in forward_op(*arguments))
    return [*random_cotangents((y, h_n, c_n)), *arguments[:10], y, reserve, *arguments[10:13], needs, *arguments[14:]]


class Calls:
    """Stands before an operator and notes what it was asked (save or needs) and which of the first three came."""

    def __init__(self, op):
        self.op, self.asked, self.came = op, [], []

    def __call__(self, *arguments):
        self.asked.append(arguments[-5])
        self.came.append([t is not None for t in arguments[:3]])
        return self.op(*arguments)


@pytest.fixture
def calls(monkeypatch):
    forward, backward = Calls(ops._forward_op), Calls(ops._backward_op)
    monkeypatch.setattr(ops, "_forward_op", forward)
    monkeypatch.setattr(ops, "_backward_op", backward)
    return forward, backward


# ---- the registrations


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("feature", list(FEATURES))
def test_opcheck_forward(feature, grad):
    layer = Layer.random(**FEATURES[feature]).requires_grad_(grad)
    torch.library.opcheck(forward_op, layer.op_arguments(grad))


@pytest.mark.parametrize("feature", list(FEATURES))
def test_opcheck_backward(feature):
    layer = Layer.random(**FEATURES[feature])
    torch.library.opcheck(backward_op, backward_arguments(layer, needs_of(layer)))


@pytest.mark.parametrize("feature", ["plain", "projection", "lengths", "packed", "recurrent scale", "zoneout"])
def test_opcheck_backward_with_gradients(feature):
    layer = tiny(feature)
    arguments = backward_arguments(layer, needs_of(layer))
    layer.requires_grad_()
    # Second derivatives of packed data take the values of batch_sizes, which tracing does not have.
    traced = [] if feature == "packed" else ["test_aot_dispatch_dynamic"]
    checks = ["test_schema", "test_autograd_registration", "test_faketensor", *traced]
    torch.library.opcheck(backward_op, arguments, test_utils=checks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_opcheck_other_dtypes(dtype):
    layer = Layer.random(dtype=dtype, **FEATURES["projection"])
    torch.library.opcheck(forward_op, layer.op_arguments(True))
    torch.library.opcheck(backward_op, backward_arguments(layer, needs_of(layer)))


def test_packed_without_state_has_a_symbolic_number_of_rows():
    layer = Layer.random(**FEATURES["packed, no state"])
    with FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True) as mode:
        fakes = Layer({name: mode.from_tensor(t) for name, t in layer.variables.items()}, {}, layer.options)
        fakes.constants["batch_sizes"] = mode.from_tensor(layer.constants["batch_sizes"])
        y, h_n, c_n, reserve = forward_op(*fakes.op_arguments(True))
    assert isinstance(h_n.shape[1], torch.SymInt) and h_n.shape[1] == c_n.shape[1]
    assert y.shape == (layer.variables["x"].shape[0], 5) and reserve.shape[1] == y.shape[0]


@pytest.mark.parametrize("wrong", ["x", "h0", "c0", "w_hh.0", "lengths", "resets"])
def test_meta_tensors_do_not_mix_with_others(wrong):
    layer = Layer.random(lengths=True, resets=True)
    group = layer.variables if wrong in layer.variables else layer.constants
    group[wrong] = group[wrong].to("meta")
    with pytest.raises(RuntimeError, match="must be on"):
        forward_op(*layer.op_arguments(False))


def test_meta_tensors_get_meta_results():
    layer = Layer.random(direction="both", P=3)
    expected = [(t.shape, t.dtype, t.stride()) for t in forward_op(*layer.op_arguments(True))]
    layer.variables = {name: t.to("meta") for name, t in layer.variables.items()}
    assert [(t.shape, t.dtype, t.stride()) for t in forward_op(*layer.op_arguments(True))] == expected


# ---- first derivatives


@pytest.mark.parametrize("feature", list(FEATURES))
def test_gradients_are_those_of_the_reference(feature):
    layer = Layer.random(**FEATURES[feature])
    cotangents = random_cotangents(layer.call(reference.lstm_layer))
    expected = gradients(layer, reference.lstm_layer, cotangents)
    assert_same(gradients(layer, functional.lstm_layer, cotangents), expected)

    def raw(*args, **options):
        return through_the_operator(*args, **options)

    assert_same(gradients(layer, raw, cotangents), expected)


def through_the_operator(x, h0, c0, weights, *, direction, cell, batch_first, **more):
    """lstm_layer by way of torch.ops: the formulas given to register_autograd."""
    variables = {"x": x, "h0": h0, "c0": c0} | {f"w.{k}": w for k, w in enumerate(weights)}
    differentiable = ("recurrent_scale", "cell_params")
    variables |= {name: t for name, t in more.items() if name in differentiable}
    constants = {name: t for name, t in more.items() if name not in differentiable}
    options = {"direction": direction, "cell": cell, "batch_first": batch_first}
    options |= {name: constants.pop(name) for name in ("cell_clip", "proj_clip") if name in constants}
    return forward_op(*Layer(variables, constants, options).op_arguments(True))[:3]


@pytest.mark.parametrize("pulled", [(0,), (1,), (2,), (0, 2), (1, 2)], ids=str)
@pytest.mark.parametrize("feature", ["both", "lengths", "packed", "zoneout"])
def test_outputs_that_nobody_pulls_count_as_zero(feature, pulled):
    layer = Layer.random(**FEATURES[feature])
    cotangents = random_cotangents(layer.call(reference.lstm_layer))
    zeroed = tuple(g if k in pulled else torch.zeros_like(g) for k, g in enumerate(cotangents))
    some = tuple(g if k in pulled else None for k, g in enumerate(cotangents))
    assert_same(gradients(layer, functional.lstm_layer, some), gradients(layer, reference.lstm_layer, zeroed))


@pytest.mark.parametrize("feature", ["projection", "recurrent scale", "peephole"])
def test_only_what_is_asked_for_is_computed(feature, calls):
    layer = Layer.random(**FEATURES[feature])
    full = layer.to(torch.float64)
    cotangents = random_cotangents(full.call(reference.lstm_layer))
    expected = gradients(full, reference.lstm_layer, cotangents)
    for name, variable in layer.variables.items():
        variable.requires_grad_()
        outputs = layer.call(functional.lstm_layer)
        (found,) = torch.autograd.grad(outputs, variable, cotangents)
        torch.testing.assert_close(found, expected[f"d{name}"], msg=lambda text, name=name: f"{name}: {text}")
        variable.requires_grad_(False)
        role = name.split(".")[0].replace("b_hh", "b_ih")
        assert calls[1].asked.pop() == NEED[role], name


def test_everything_is_asked_for_at_once(calls):
    layer = Layer.random(**FEATURES["projection"]).requires_grad_()
    outputs = layer.call(functional.lstm_layer)
    torch.autograd.grad(outputs, list(layer.variables.values()), random_cotangents(outputs))
    assert calls[1].asked == [127] and calls[0].asked == [True]


def test_cotangents_that_nobody_gave_are_not_made_up(calls):
    layer = Layer.random().requires_grad_()
    _, h_n, _ = layer.call(functional.lstm_layer)
    h_n.sum().backward()
    assert calls[1].came == [[False, True, False]]


def test_frozen_weights_are_left_out_when_backward_runs_by_inputs():
    """torch.autograd.grad to x alone: the engine asks for the rest too, but must return x alone, and the right one."""
    layer = Layer.random(direction="both").requires_grad_()
    outputs = layer.call(functional.lstm_layer)
    cotangents = random_cotangents(outputs)
    (dx,) = torch.autograd.grad(outputs, layer.variables["x"], cotangents)
    torch.testing.assert_close(dx, gradients(layer, reference.lstm_layer, cotangents)["dx"])


def test_nothing_is_kept_when_no_gradient_can_be_asked_for(calls):
    layer = Layer.random()
    layer.call(functional.lstm_layer)
    layer.requires_grad_()
    with torch.no_grad():
        assert layer.call(functional.lstm_layer)[0].grad_fn is None
    with torch.inference_mode():
        assert layer.call(functional.lstm_layer)[0].is_inference()
    assert calls[0].asked == [False] * 3
    assert layer.call(functional.lstm_layer)[0].grad_fn is not None
    assert calls[0].asked.pop() is True


def test_the_two_bias_gradients_are_not_one_tensor():
    layer = Layer.random(direction="both").requires_grad_()
    names = ["b_ih.0", "b_hh.0", "b_ih.1", "b_hh.1"]
    y = layer.call(functional.lstm_layer)[0]
    found = torch.autograd.grad(y, [layer.variables[name] for name in names], torch.randn_like(y))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert len({g.data_ptr() for g in found}) == 4
    assert not torch.equal(found[0], found[2])


def test_backward_twice_on_one_graph():
    layer = Layer.random(**FEATURES["projection"]).requires_grad_()
    outputs = layer.call(functional.lstm_layer)
    sources, cotangents = list(layer.variables.values()), random_cotangents(outputs)
    first = torch.autograd.grad(outputs, sources, cotangents, retain_graph=True)
    other = torch.autograd.grad(outputs, sources, random_cotangents(outputs), retain_graph=True)
    assert not torch.equal(first[0], other[0])
    again = torch.autograd.grad(outputs, sources, cotangents)
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(outputs, sources, cotangents)


@pytest.mark.parametrize("changed", ["x", "h0", "c0", "w_ih.0", "w_hh.0", "b_ih.0", "w_hr.0", "y", "resets", "lengths"])
def test_changing_what_backward_needs_is_noticed(changed):
    layer = Layer.random(P=3, resets=True, lengths=True).requires_grad_()
    outputs = layer.call(functional.lstm_layer)
    if changed == "y":
        victim = outputs[0].detach()  # shares memory and version
    else:
        victim = (layer.variables | layer.constants)[changed].detach()
    victim.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(outputs, layer.variables["x"], random_cotangents(outputs))


def test_the_operator_says_when_it_kept_nothing():
    layer = Layer.random().requires_grad_()
    y = forward_op(*layer.op_arguments(False))[0]
    with pytest.raises(RuntimeError, match="save=True"):
        y.sum().backward()


def test_the_reserve_has_no_gradient():
    assert not forward_op(*Layer.random().requires_grad_().op_arguments(True))[3].requires_grad


def test_strided_cotangents():
    layer = Layer.random(direction="both")
    dense = random_cotangents(layer.call(reference.lstm_layer))
    strided = tuple(g.transpose(0, -1).contiguous().transpose(0, -1) for g in dense)
    expanded = tuple(torch.ones((), dtype=g.dtype).expand_as(g) for g in dense)
    expected = gradients(layer, reference.lstm_layer, dense)
    assert_same(gradients(layer, functional.lstm_layer, strided), expected)
    assert_same(
        gradients(layer, functional.lstm_layer, expanded),
        gradients(layer, reference.lstm_layer, tuple(torch.ones_like(g) for g in dense)),
    )


# ---- derivatives by other roads


@pytest.mark.parametrize("feature", list(FEATURES))
def test_gradcheck_and_gradgradcheck(feature):
    layer = tiny(feature).requires_grad_()
    function = layer.function_of_variables(functional.lstm_layer)
    assert torch.autograd.gradcheck(function, tuple(layer.variables.values()))
    assert torch.autograd.gradgradcheck(function, tuple(layer.variables.values()))


@pytest.mark.parametrize("feature", ["projection", "resets, packed", "zoneout"])
def test_gradgradcheck_of_the_operator(feature):
    layer = tiny(feature).requires_grad_()
    function = layer.function_of_variables(through_the_operator)
    assert torch.autograd.gradgradcheck(function, tuple(layer.variables.values()))


def test_third_derivative():
    layer = Layer.random(2, 1, 2, 2)
    v = layer.variables

    def slope(x):
        y, _, c_n = layer.call(functional.lstm_layer, v | {"x": x})
        return torch.autograd.grad(y.sin().sum() + c_n.sum(), x, create_graph=True)[0]

    assert torch.autograd.gradgradcheck(slope, v["x"].requires_grad_())


def test_create_graph_does_not_change_the_first_derivative():
    layer = Layer.random(**FEATURES["peephole"]).requires_grad_()
    outputs = layer.call(functional.lstm_layer)
    cotangents, sources = random_cotangents(outputs), list(layer.variables.values())
    plain = torch.autograd.grad(outputs, sources, cotangents, retain_graph=True)
    graphed = torch.autograd.grad(outputs, sources, cotangents, create_graph=True)
    torch.testing.assert_close(graphed, plain, rtol=0, atol=0)
    assert all(g.requires_grad for g in graphed)


def test_the_second_derivative_of_states_that_depend_on_the_input():
    """h0 = f(x): the path through h0 must be counted by the caller's graph alone, and not once more inside."""
    layer = Layer.random(3, 2, 4, 4)

    def penalty(function):
        x = layer.variables["x"].detach().clone().requires_grad_()
        h0 = x.mean(0, keepdim=True).tanh()
        y, h_n, _ = layer.call(function, layer.variables | {"x": x, "h0": h0, "c0": h0 * 2})
        (slope,) = torch.autograd.grad(y.pow(2).sum() + h_n.sum(), x, create_graph=True)
        return torch.autograd.grad(slope.pow(2).sum(), x)[0]

    torch.testing.assert_close(penalty(functional.lstm_layer), penalty(reference.lstm_layer))


@pytest.mark.parametrize("feature", ["both", "lengths", "packed", "peephole"])
def test_torch_func_grad_nested(feature):
    layer = Layer.random(**FEATURES[feature])

    def second(function):
        def loss(v):
            y, h_n, c_n = layer.call(function, v)
            return y.pow(2).sum() + h_n.sum() + c_n.sin().sum()

        def penalty(v):
            return sum(g.pow(2).sum() for g in torch.func.grad(loss)(v).values())

        return torch.func.grad(loss)(layer.variables), torch.func.grad(penalty)(layer.variables)

    torch.testing.assert_close(second(functional.lstm_layer), second(reference.lstm_layer))


@pytest.mark.parametrize("feature", ["both", "resets, lengths", "zoneout"])
def test_forward_mode(feature):
    layer = Layer.random(**FEATURES[feature])
    tangents = {name: torch.randn_like(t) for name, t in layer.variables.items()}

    def push(function):
        return torch.func.jvp(lambda v: layer.call(function, v), (layer.variables,), (tangents,))

    torch.testing.assert_close(push(functional.lstm_layer), push(reference.lstm_layer))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing(reentrant):
    layer = Layer.random(direction="both")
    cotangents = random_cotangents(layer.call(reference.lstm_layer))

    def checkpointed(x, h0, c0, weights, **options):
        run = lambda x, h0, c0, *w: functional.lstm_layer(x, h0, c0, w, **options)  # noqa: E731
        return torch.utils.checkpoint.checkpoint(run, x, h0, c0, *weights, use_reentrant=reentrant)

    variables = {name: t.requires_grad_() for name, t in layer.variables.items()}
    torch.autograd.backward(layer.call(checkpointed, variables), cotangents)
    expected = gradients(layer, reference.lstm_layer, cotangents)
    assert_same(
        {f"d{name}": t.grad for name, t in variables.items()}, {k: g for k, g in expected.items() if k[0] == "d"}
    )


def test_the_operator_under_compile_forward_and_backward():
    layer = Layer.random(direction="both", resets=True)
    cotangents = random_cotangents(layer.call(reference.lstm_layer))
    compiled = torch.compile(functional.lstm_layer, fullgraph=True, backend="aot_eager")
    assert_same(gradients(layer, compiled, cotangents), gradients(layer, functional.lstm_layer, cotangents))


def test_compile_with_dynamic_sizes_compiles_once():
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(functional.lstm_layer, fullgraph=True, dynamic=True, backend=counter)
    for T, B in [(6, 4), (7, 2), (11, 9)]:
        layer = Layer.random(T, B)
        cotangents = random_cotangents(layer.call(reference.lstm_layer))
        assert_same(gradients(layer, compiled, cotangents), gradients(layer, functional.lstm_layer, cotangents))
    assert counter.frame_count == 1
