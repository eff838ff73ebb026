"""fused_lstm/functional.py: layers and stacks of them, checks, dropout, packed data, autocast."""

from __future__ import annotations

import pytest
import torch
from layer_cases import FEATURES, Layer, assert_same, gradients, random_cotangents
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from fused_lstm import functional, reference

T, B, I, H = 6, 4, 3, 7  # noqa: E741
LENGTHS = torch.tensor([3, 6, 1, 4])  # sorting them is not its own inverse


# ---- one layer


# Of a norm no single value has a bound (it divides by what it finds): test_layer_rowwise.py judges whole tensors.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("feature", [name for name in FEATURES if name != "layer norm"])
def test_layer_is_the_reference(feature, dtype):
    layer = Layer.random(17, 3, 9, 63, **{**FEATURES[feature], **({"P": 17} if "P" in FEATURES[feature] else {})})
    cotangents = random_cotangents(layer.call(reference.lstm_layer))
    expected = gradients(layer, reference.lstm_layer, cotangents)
    actual = gradients(layer.to(dtype), functional.lstm_layer, tuple(g.to(dtype) for g in cotangents))
    # Sums of at most T*B = 51 products of values around 1, over T = 17 steps that pass errors on.
    eps = torch.finfo(dtype).eps
    assert all(t.dtype == dtype for t in actual.values())
    assert_same({name: t.double() for name, t in actual.items()}, expected, rtol=64 * eps, atol=256 * eps)


def test_strides_of_steps_and_rows_do_not_matter():
    layer = Layer.random(T, B, I, H, direction="both")
    expected = layer.call(functional.lstm_layer)
    x = layer.variables["x"]
    for strided in (
        x.transpose(0, 1).contiguous().transpose(0, 1),
        torch.cat([x, x], -1)[..., :I],
        x.transpose(0, 2).contiguous().transpose(0, 2),
        x.flip(0).flip(0),
    ):
        actual = layer.call(functional.lstm_layer, layer.variables | {"x": strided})
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize("batch_first", [False, True])
def test_results_are_contiguous(batch_first):
    layer = Layer.random(T, B, I, H, direction="both", batch_first=batch_first)
    assert all(t.is_contiguous() for t in layer.call(functional.lstm_layer))


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int16, torch.int64])
def test_lengths_of_any_integer_dtype(dtype):
    layer = Layer.random(T, B, I, H)
    layer.constants["lengths"] = LENGTHS
    expected = layer.call(functional.lstm_layer)
    layer.constants["lengths"] = LENGTHS.to(dtype)
    torch.testing.assert_close(layer.call(functional.lstm_layer), expected, rtol=0, atol=0)


def test_weights_may_be_any_sequence():
    layer = Layer.random(T, B, I, H)
    x = layer.variables["x"]
    expected = functional.lstm_layer(x, None, None, layer.weights())
    torch.testing.assert_close(functional.lstm_layer(x, None, None, tuple(layer.weights())), expected)
    torch.testing.assert_close(functional.lstm_layer(x, None, None, nn.ParameterList(layer.weights())), expected)


@pytest.mark.parametrize("state", ["h0", "c0"])
def test_one_state_may_be_left_out(state):
    layer = Layer.random(T, B, I, H, direction="both")
    zeroed = layer.variables | {state: torch.zeros_like(layer.variables[state])}
    expected = layer.call(functional.lstm_layer, zeroed)
    del layer.variables[state]
    torch.testing.assert_close(layer.call(functional.lstm_layer), expected)


@pytest.mark.parametrize(
    "changes, error, message",
    [
        (dict(lengths=[1, 2]), TypeError, r"lengths must be a tensor, but is list; use torch.tensor\(lengths\)"),
        (dict(lengths=LENGTHS.float()), TypeError, r"lengths must hold integers, but has dtype torch.float32"),
        (dict(lengths=LENGTHS > 1), TypeError, r"lengths must hold integers, but has dtype torch.bool"),
        (dict(lengths=LENGTHS[:3]), ValueError, r"lengths must have shape \(4,\).*but has \(3,\)"),
        (dict(lengths=LENGTHS[None]), ValueError, r"lengths must have shape \(4,\).*but has \(1, 4\)"),
        (dict(lengths=LENGTHS + 1), ValueError, r"lengths must lie in \[0, 6\].*but lie in \[2, 7\]"),
        (dict(lengths=LENGTHS - 2), ValueError, r"lengths must lie in \[0, 6\].*but lie in \[-1, 4\]"),
        (dict(resets=[True]), TypeError, r"resets must be a tensor of bools, but is list"),
        (dict(resets=torch.zeros(T, B)), TypeError, r"resets must have dtype torch.bool, but has torch.float32"),
        (dict(resets=torch.zeros(B, T) > 1), ValueError, r"resets must have shape \(6, 4\).*but has \(4, 6\)"),
        (dict(resets=torch.zeros(T, B, device="meta") > 1), ValueError, r"resets must be on cpu.*but is on meta"),
        (dict(direction="backward"), ValueError, r"direction must be one of 'forward', .* but is 'backward'"),
        (dict(direction=["both"]), ValueError, r"direction must be one of"),
        (dict(cell="gru"), ValueError, r"cell must be one of 'vanilla', .* but is 'gru'"),
        (dict(batch_sizes=torch.tensor([1])), ValueError, r"x must have shape \(N, I\) with batch_sizes, but"),
        (dict(cell="peephole"), RuntimeError, r"peephole"),
        (dict(cell_params=torch.zeros(1, 3, H)), RuntimeError, r"cell_params"),
    ],
)  # fmt: skip
def test_layer_refuses(changes, error, message):
    layer = Layer.random(T, B, I, H, dtype=torch.float32)
    arguments = {**layer.options, **changes}
    v = layer.variables
    with pytest.raises(error, match=message):
        functional.lstm_layer(v["x"], v["h0"], v["c0"], layer.weights(), **arguments)
    if error is not RuntimeError and "batch_sizes" not in changes:
        with pytest.raises(error, match=message):
            functional.lstm(v["x"], (v["h0"], v["c0"]), layer.weights(), **arguments)


def test_lengths_do_not_go_with_packed_data():
    layer = Layer.random(T, B, I, H, packed=True, lengths=True)
    with pytest.raises(ValueError, match="lengths cannot go with packed data.*leave out lengths"):
        layer.call(functional.lstm_layer)
    packed = PackedSequence(layer.variables["x"], layer.constants["batch_sizes"])
    with pytest.raises(ValueError, match="lengths cannot go with packed data.*leave out lengths"):
        functional.lstm(packed, None, layer.weights(), lengths=LENGTHS)


def test_a_row_without_a_batch_is_refused():
    layer = Layer.random(T, B, I, H)
    for function in (functional.lstm_layer, lambda x, h0, c0, weights: functional.lstm(x, None, weights)):
        with pytest.raises(ValueError, match=r"x must have shape \(T, B, I\) or, with batch_first, \(B, T, I\)"):
            function(layer.variables["x"][:, 0], None, None, layer.weights())


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0)])
def test_nothing_to_do(shape):
    layer = Layer.random(*shape, I, H, direction="both")
    cotangents = random_cotangents(layer.call(reference.lstm_layer))
    assert_same(gradients_or_zero(layer, functional.lstm_layer, cotangents),
                gradients_or_zero(layer, reference.lstm_layer, cotangents))  # fmt: skip


def gradients_or_zero(layer: Layer, function, cotangents) -> dict[str, torch.Tensor]:
    variables = {name: t.detach().clone().requires_grad_() for name, t in layer.variables.items()}
    outputs = layer.call(function, variables)
    # Without steps, y of the reference is made from nothing and has no history.
    pulled, pulls = zip(
        *[(out, g) for out, g in zip(outputs, cotangents, strict=True) if out.requires_grad], strict=True
    )
    found = torch.autograd.grad(pulled, list(variables.values()), pulls, materialize_grads=True, allow_unused=True)
    return dict(zip((*"yhc", *variables), (*outputs, *found), strict=True))


# ---- stacks


def torch_lstm(**options) -> nn.LSTM:
    return nn.LSTM(I, H, **options, dtype=torch.float64)


def arguments_of(m: nn.LSTM) -> dict:
    return dict(
        weights=[w for layer in m.all_weights for w in layer],
        num_layers=m.num_layers,
        direction="both" if m.bidirectional else "forward",
        dropout=m.dropout,
        training=m.training,
        batch_first=m.batch_first,
    )


STACKS = [
    dict(num_layers=1),
    dict(num_layers=3),
    dict(num_layers=2, bidirectional=True),
    dict(num_layers=2, bidirectional=True, proj_size=2, bias=False),
]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("options", STACKS, ids=str)
def test_stack_is_torch_lstm(options, packed, batch_first):
    m = torch_lstm(**options, batch_first=batch_first)
    n = m.num_layers * (1 + m.bidirectional)
    sources = [
        torch.randn((B, T, I) if batch_first else (T, B, I), dtype=torch.float64),
        torch.randn(n, B, m.proj_size or H, dtype=torch.float64),
        torch.randn(n, B, H, dtype=torch.float64),
    ]
    sources = [t.requires_grad_() for t in sources] + list(m.parameters())

    def outputs_and_gradients(function, cotangents=[]):  # noqa: B006 (the second call gets what the first one drew)
        x, h0, c0 = sources[:3]
        if packed:
            x = pack_padded_sequence(x, LENGTHS, batch_first, enforce_sorted=False)
        y, h_n, c_n = function(x, (h0, c0))
        if packed:
            assert y.batch_sizes is x.batch_sizes and y.unsorted_indices is x.unsorted_indices
            y = y.data
        if not cotangents:
            cotangents += random_cotangents((y, h_n, c_n))
        return [y, h_n, c_n, *torch.autograd.grad((y, h_n, c_n), sources, cotangents)]

    def flat(x, hx):
        y, states = m(x, hx)
        return y, *states

    expected = outputs_and_gradients(flat)
    actual = outputs_and_gradients(lambda x, hx: functional.lstm(x, hx, **arguments_of(m)))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_dropout_draws_what_torch_draws(batch_first, p):
    m = torch_lstm(num_layers=3, bidirectional=True, dropout=p, batch_first=batch_first)
    x = torch.randn((B, T, I) if batch_first else (T, B, I), dtype=torch.float64)
    for inputs in (x, pack_padded_sequence(x, LENGTHS, batch_first, enforce_sorted=False)):
        torch.manual_seed(5)
        expected = m(inputs)[0]
        torch.manual_seed(5)
        actual = functional.lstm(inputs, None, **arguments_of(m))[0]
        torch.testing.assert_close(actual, expected)


def test_dropout_only_while_training_and_only_between_layers():
    x = torch.randn(T, B, I, dtype=torch.float64)
    m = torch_lstm(num_layers=2, dropout=0.5)
    before = torch.random.get_rng_state()
    resting = functional.lstm(x, None, **arguments_of(m.eval()))[0]
    torch.testing.assert_close(resting, m(x)[0])
    functional.lstm(x, None, layer_weights(m, 0), dropout=0.5, training=True)
    assert torch.equal(torch.random.get_rng_state(), before), "one layer draws nothing"
    assert not torch.equal(functional.lstm(x, None, **arguments_of(m.train()))[0], resting)


def layer_weights(m: nn.LSTM, layer: int) -> list[torch.Tensor]:
    return m.all_weights[layer]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("direction", ["forward", "reverse", "both"])
@pytest.mark.parametrize("cell", ["vanilla", "peephole", "zoneout"])
def test_what_belongs_to_a_direction_reaches_its_layer(cell, direction, packed):
    """Stack against reference with everything that is sliced per layer, rows out of order."""
    layers = 3
    parts = [
        Layer.random(
            T, B, I if k == 0 else H * (1 + (direction == "both")), H, cell=cell, direction=direction, scale=True
        )
        for k in range(layers)
    ]
    weights = [w for part in parts for w in part.weights()]
    names = {"h0", "c0", "recurrent_scale", "cell_params", "cell_inputs"}
    stacked = {
        name: torch.cat([(part.variables | part.constants)[name] for part in parts])
        for name in names & (parts[0].variables | parts[0].constants).keys()
    }
    x, hx = parts[0].variables["x"], (stacked.pop("h0"), stacked.pop("c0"))
    resets = torch.rand(T, B) < 0.3
    expected_extra, lengths = dict(stacked), LENGTHS
    if packed:
        inputs = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
        resets_in = pack_padded_sequence(resets, LENGTHS, enforce_sorted=False)
        if "cell_inputs" in stacked:
            stacked["cell_inputs"] = torch.stack(
                [pack_padded_sequence(k, LENGTHS, enforce_sorted=False).data for k in stacked["cell_inputs"]]
            )
        extra = {"resets": resets_in}
    else:
        inputs, extra = x, {"lengths": lengths, "resets": resets}
    y, h_n, c_n = functional.lstm(inputs, hx, weights, layers, cell=cell, direction=direction, **stacked, **extra)
    y2, h2, c2 = reference.lstm(
        x, hx, weights, layers, cell=cell, direction=direction, lengths=lengths, resets=resets, **expected_extra
    )
    if packed:
        y2 = pack_padded_sequence(y2, LENGTHS, enforce_sorted=False).data
        again = functional.lstm(
            inputs, hx, weights, layers, cell=cell, direction=direction, **stacked, resets=resets_in.data
        )
        torch.testing.assert_close(again[0].data, y.data, rtol=0, atol=0)
        y = y.data
    torch.testing.assert_close((y, h_n, c_n), (y2, h2, c2))


def test_packed_resets_must_fit():
    layer = Layer.random(T, B, I, H)
    packed = pack_padded_sequence(layer.variables["x"], LENGTHS, enforce_sorted=False)
    with pytest.raises(ValueError, match=r"resets must have shape \(14,\), the leading axes of packed data"):
        functional.lstm(packed, None, layer.weights(), resets=torch.zeros(T, B) > 1)


# ---- autocast


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("feature", ["both", "packed", "projection", "recurrent scale", "peephole", "zoneout"])
def test_autocast_computes_in_its_dtype(feature, dtype):
    layer = Layer.random(**FEATURES[feature], dtype=torch.float32)
    expected = layer.to(dtype).call(functional.lstm_layer)
    variables = layer.requires_grad_().variables
    with torch.autocast("cpu", dtype):
        actual = layer.call(functional.lstm_layer)
        stacked = functional.lstm(variables["x"], None, layer.weights(), **options_of_stack(layer)) \
            if "batch_sizes" not in layer.constants else None  # fmt: skip
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    assert stacked is None or all(t.dtype == dtype for t in stacked)
    torch.autograd.backward(actual, random_cotangents(actual))
    assert all(t.grad.dtype == torch.float32 for t in variables.values())


def options_of_stack(layer: Layer) -> dict:
    extra = {name: layer.variables[name] for name in ("recurrent_scale", "cell_params") if name in layer.variables}
    return {**layer.options, **layer.constants, **extra}


def test_autocast_has_the_dtypes_of_torch_lstm():
    m = nn.LSTM(I, H, 2, bidirectional=True)
    x = torch.randn(T, B, I)
    with torch.autocast("cpu", torch.bfloat16):
        y, (h_n, c_n) = m(x)
        expected = [t.dtype for t in (y, h_n, c_n)]
        assert [t.dtype for t in functional.lstm(x, None, **arguments_of(m))] == expected
        assert [t.dtype for t in functional.lstm(x.bfloat16(), None, **arguments_of(m))] == expected


def test_autocast_leaves_float64_alone():
    m = torch_lstm(num_layers=2)
    x = torch.randn(T, B, I, dtype=torch.float64)
    expected = functional.lstm(x, None, **arguments_of(m))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(functional.lstm(x, None, **arguments_of(m)), expected, rtol=0, atol=0)
        assert m(x)[0].dtype == torch.float64
