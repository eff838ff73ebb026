"""fused_lstm/reference.py, the definition, against torch.nn.LSTM and against what its words say."""

from __future__ import annotations

import pytest
import torch
from layer_cases import FEATURES, Layer, assert_same, gradients, random_cotangents
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from fused_lstm import reference
from fused_lstm.cells import CELLS, INDEX

T, B, I, H, P = 6, 4, 3, 5, 2  # noqa: E741
LENGTHS = torch.tensor([3, 6, 1, 4])  # sorting them is not its own inverse
OPTIONS = [
    {},
    {"bidirectional": True},
    {"proj_size": P},
    {"bias": False},
    {"bidirectional": True, "proj_size": P, "bias": False},
    {"num_layers": 3},
    {"num_layers": 2, "bidirectional": True, "proj_size": P},
]


def torch_lstm(options: dict, batch_first: bool = False) -> nn.LSTM:
    return nn.LSTM(I, H, **options, batch_first=batch_first, dtype=torch.float64)


def states(m: nn.LSTM, rows: int = B) -> tuple[torch.Tensor, torch.Tensor]:
    n = m.num_layers * (2 if m.bidirectional else 1)
    return torch.randn(n, rows, m.proj_size or H).double(), torch.randn(n, rows, H).double()


def run(m: nn.LSTM, x: torch.Tensor, hx, **more) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    weights = [w for layer in m.all_weights for w in layer]
    direction = "both" if m.bidirectional else "forward"
    return reference.lstm(x, hx, weights, m.num_layers, direction=direction, batch_first=m.batch_first, **more)


def results_and_gradients(outputs, sources, cotangents) -> list[torch.Tensor]:
    return [*outputs, *torch.autograd.grad(outputs, sources, cotangents, retain_graph=True)]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_torch_lstm(options, batch_first):
    m = torch_lstm(options, batch_first)
    x = torch.randn(B, T, I, dtype=torch.float64) if batch_first else torch.randn(T, B, I, dtype=torch.float64)
    sources = [x, *states(m)]
    for t in sources:
        t.requires_grad_()
    sources += m.parameters()
    y, (h_n, c_n) = m(x, tuple(sources[1:3]))
    cotangents = random_cotangents((y, h_n, c_n))
    expected = results_and_gradients((y, h_n, c_n), sources, cotangents)
    actual = results_and_gradients(run(m, x, tuple(sources[1:3])), sources, cotangents)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_torch_lstm_packed(options):
    m = torch_lstm(options)
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    h0, c0 = states(m)
    y, (h_n, c_n) = m(packed, (h0, c0))
    order, back = packed.sorted_indices, packed.unsorted_indices
    y2, h2, c2 = run(m, packed.data, (h0[:, order], c0[:, order]), batch_sizes=packed.batch_sizes)
    cotangents = random_cotangents((y.data, h_n, c_n))
    sources = [x, *m.parameters()]
    expected = results_and_gradients((y.data, h_n, c_n), sources, cotangents)
    actual = results_and_gradients((y2, h2[:, back], c2[:, back]), sources, cotangents)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("batch_first", [False, True])
def test_dropout_draws_what_torch_draws(batch_first):
    m = torch_lstm(dict(num_layers=3, bidirectional=True, dropout=0.4), batch_first)
    x = torch.randn(B, T, I, dtype=torch.float64)
    torch.manual_seed(5)
    expected = m(x)[0]
    torch.manual_seed(5)
    torch.testing.assert_close(run(m, x, None, dropout=0.4, training=True)[0], expected)
    torch.testing.assert_close(run(m, x, None, dropout=0.4, training=False)[0], m.eval()(x)[0])


def one_row(layer: Layer, b: int, steps: slice, state: bool = True) -> tuple[torch.Tensor, ...]:
    """Row b of a steps-first layer over some steps, run alone: no lengths, no resets."""
    v = layer.variables
    index = INDEX[layer.options["cell"]]
    inputs = {}
    if CELLS[index].n_inputs:
        inputs["cell_inputs"] = layer.constants["cell_inputs"][:, steps, b : b + 1]
    return reference.lstm_layer(
        v["x"][steps, b : b + 1],
        v["h0"][:, b : b + 1] if state else None,
        v["c0"][:, b : b + 1] if state else None,
        layer.weights(),
        cell_params=v.get("cell_params"),
        recurrent_scale=v["recurrent_scale"][:, b : b + 1] if "recurrent_scale" in v else None,
        **inputs,
        **layer.options,
    )


@pytest.mark.parametrize("cell", list(INDEX))
@pytest.mark.parametrize("direction", ["forward", "reverse", "both"])
def test_lengths_are_rows_run_alone(direction, cell):
    layer = Layer.random(T, B, I, H, cell=cell, direction=direction, scale=True)
    layer.constants["lengths"] = torch.tensor([4, 6, 0, 1])
    y, h_n, c_n = layer.call(reference.lstm_layer)
    for b, length in enumerate(layer.constants["lengths"].tolist()):
        if length:
            y_b, h_b, c_b = one_row(layer, b, slice(0, length))
            torch.testing.assert_close(y[:length, b : b + 1], y_b)
        else:
            h_b, c_b = layer.variables["h0"][:, b : b + 1], layer.variables["c0"][:, b : b + 1]
        torch.testing.assert_close(h_n[:, b : b + 1], h_b)
        torch.testing.assert_close(c_n[:, b : b + 1], c_b)
        assert (y[length:, b] == 0).all()


def test_packed_is_lengths_in_another_layout():
    layer = Layer.random(T, B, I, H, direction="both")
    lengths = LENGTHS.sort(descending=True).values
    layer.constants["lengths"] = lengths
    y, h_n, c_n = layer.call(reference.lstm_layer)
    packed = pack_padded_sequence(layer.variables["x"], lengths)
    layer.variables["x"], layer.constants = packed.data, {"batch_sizes": packed.batch_sizes}
    expected = pack_padded_sequence(y, lengths).data, h_n, c_n
    torch.testing.assert_close(layer.call(reference.lstm_layer), expected)


@pytest.mark.parametrize("cell", list(INDEX))
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("lengths", [None, [6, 4, 5]])
def test_resets_are_segments_run_alone(direction, cell, lengths):
    layer = Layer.random(T, 3, I, H, cell=cell, direction=direction, scale=True)
    cuts = [[2, 5], [3], []]
    resets = torch.zeros(T, 3, dtype=torch.bool)
    for b, steps in enumerate(cuts):
        resets[steps, b] = True
    layer.constants["resets"] = resets
    if lengths:
        resets[4, 1] = resets[5, 2] = True  # at the rows' ends, where there is nothing to part
        layer.constants["lengths"] = torch.tensor(lengths)
    y, h_n, c_n = layer.call(reference.lstm_layer)
    for b, steps in enumerate(cuts):
        end = lengths[b] if lengths else T
        steps = [0, *steps, end]
        segments = list(zip(steps[:-1], steps[1:], strict=True))
        first = segments[-1] if direction == "reverse" else segments[0]
        last = segments[0] if direction == "reverse" else segments[-1]
        for segment in segments:
            y_s, h_s, c_s = one_row(layer, b, slice(*segment), state=segment == first)
            torch.testing.assert_close(y[slice(*segment), b : b + 1], y_s)
            if segment == last:
                torch.testing.assert_close(h_n[:, b : b + 1], h_s)
                torch.testing.assert_close(c_n[:, b : b + 1], c_s)


def test_a_reset_at_the_start_drops_the_initial_state_forward_only():
    layer = Layer.random(T, 2, I, H, direction="both").requires_grad_()
    layer.constants["resets"] = torch.zeros(T, 2, dtype=torch.bool)
    layer.constants["resets"][0, 1] = True
    outputs = layer.call(reference.lstm_layer)
    sources = [layer.variables["h0"], layer.variables["c0"]]
    for gradient in torch.autograd.grad(outputs, sources, random_cotangents(outputs)):
        assert (gradient[0, 1] == 0).all(), "forward, the row with the reset"
        assert (gradient[0, 0] != 0).all() and (gradient[1] != 0).all()


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_no_gradient_crosses_a_reset(direction):
    layer = Layer.random(T, 1, I, H, direction=direction).requires_grad_()
    layer.constants["resets"] = torch.zeros(T, 1, dtype=torch.bool)
    layer.constants["resets"][3] = True
    y, _, _ = layer.call(reference.lstm_layer)
    seen, unseen = (slice(3, T), slice(0, 3)) if direction == "forward" else (slice(0, 3), slice(3, T))
    (dx,) = torch.autograd.grad(y[seen].sum(), layer.variables["x"])
    assert (dx[unseen] == 0).all() and (dx[seen] != 0).all()


@pytest.mark.parametrize("feature", ["lengths", "lengths, batch first", "resets, lengths"])
def test_what_lies_beyond_a_row_is_not_read(feature):
    layer = Layer.random(T, B, I, H, **FEATURES[feature])
    layer.constants["lengths"] = LENGTHS
    cotangents = random_cotangents(layer.call(reference.lstm_layer))
    expected = gradients(layer, reference.lstm_layer, cotangents)
    dead = torch.arange(T).unsqueeze(1) >= LENGTHS
    dead = dead.t() if layer.options["batch_first"] else dead
    layer.variables["x"][dead] = torch.nan
    actual = gradients(layer, reference.lstm_layer, cotangents)
    assert_same(actual, expected)
    assert (actual["dx"][dead] == 0).all()


def test_recurrent_scale_scales_columns_of_w_hh():
    layer = Layer.random(T, B, I, H, P=3, direction="both")
    scale = torch.rand(2, 3, dtype=torch.float64)
    scaled = layer.to(torch.float64)
    for d in range(2):
        scaled.variables[f"w_hh.{d}"] = layer.variables[f"w_hh.{d}"] * scale[d]
    layer.variables["recurrent_scale"] = scale.unsqueeze(1).expand(2, B, 3)
    torch.testing.assert_close(layer.call(reference.lstm_layer), scaled.call(reference.lstm_layer))


def test_directions_are_independent_and_reverse_is_forward_on_the_mirror_image():
    layer = Layer.random(T, B, I, H, direction="both")
    y, h_n, c_n = layer.call(reference.lstm_layer)
    v = layer.variables
    forward = reference.lstm_layer(v["x"], v["h0"][:1], v["c0"][:1], layer.weights()[:4])
    mirror = reference.lstm_layer(v["x"].flip(0), v["h0"][1:], v["c0"][1:], layer.weights()[4:])
    torch.testing.assert_close(y, torch.cat([forward[0], mirror[0].flip(0)], -1))
    torch.testing.assert_close(h_n, torch.cat([forward[1], mirror[1]]))
    torch.testing.assert_close(c_n, torch.cat([forward[2], mirror[2]]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("projection", [0, 2])
def test_16_bit_rounds_h_at_every_step_and_nothing_else(dtype, projection):
    layer = Layer.random(T, B, I, H, projection, dtype=dtype)
    v = {name: t.float() for name, t in layer.variables.items()}
    h, c = v["h0"][0], v["c0"][0]
    cell = nn.LSTMCell(I, H) if not projection else None
    ys = []
    for x in v["x"]:
        if cell is None:
            gates = x @ v["w_ih.0"].t() + v["b_ih.0"] + h @ v["w_hh.0"].t() + v["b_hh.0"]
            i, f, g, o = gates.chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = (o.sigmoid() * c.tanh()) @ v["w_hr.0"].t()
        else:
            args = [v[name] for name in ("w_ih.0", "w_hh.0", "b_ih.0", "b_hh.0")]
            h, c = torch.lstm_cell(x, (h, c), *args)
        ys.append(h.to(dtype))
        h = ys[-1].float()
    y, h_n, c_n = layer.call(reference.lstm_layer)
    assert y.dtype == h_n.dtype == c_n.dtype == dtype
    torch.testing.assert_close(y, torch.stack(ys))
    torch.testing.assert_close(c_n[0], c.to(dtype))
    full = layer.to(torch.float32).call(reference.lstm_layer)
    assert not torch.equal(full[0].to(dtype), y), "the rounding of h must show somewhere"


@pytest.mark.parametrize("feature", list(FEATURES))
def test_derivatives(feature):
    layer = Layer.random(2, 2, 2, 2, **{**FEATURES[feature], **({"P": 1} if "P" in FEATURES[feature] else {})})
    function = layer.requires_grad_().function_of_variables(reference.lstm_layer)
    assert torch.autograd.gradcheck(function, tuple(layer.variables.values()))
    assert torch.autograd.gradgradcheck(function, tuple(layer.variables.values()))


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0)])
def test_nothing_to_do(shape):
    layer = Layer.random(*shape, I, H, direction="both")
    y, h_n, c_n = layer.call(reference.lstm_layer)
    assert y.shape == (*shape, 2 * H)
    if shape[0] == 0:
        torch.testing.assert_close((h_n, c_n), (layer.variables["h0"], layer.variables["c0"]))


def test_zoneout_refuses_a_projection():
    layer = Layer.random(T, B, I, H, P=2, cell="zoneout")
    with pytest.raises(RuntimeError, match="'zoneout' needs h of hidden_size and cannot be projected"):
        layer.call(reference.lstm_layer)


def test_needs_no_compiled_operators(run_python):
    out = run_python("""
import sys
sys.modules["fused_lstm._library"] = None      # importing it raises ImportError
import torch, fused_lstm
from fused_lstm import cells, reference
y, h, c = reference.lstm_layer(torch.ones(2, 1, 3), None, None, [torch.ones(8, 3), torch.ones(8, 2)])
assert y.shape == (2, 1, 2)
try:
    fused_lstm.FusedLSTM
except ImportError as error:
    print(error)
""")
    assert out.startswith("fused_lstm.FusedLSTM is not available.")
