"""The options of FusedLSTM beyond torch.nn.LSTM: results, gradients, masks, parameters."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, layer_norm
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fused_lstm import FusedLSTM, FusedLSTMCell, convert, functional, modules, reference

T, B, I, H = 5, 4, 3, 6  # noqa: E741
LENGTHS = torch.tensor([5, 4, 2, 1])
OPTIONS: list[dict[str, Any]] = [
    {"weight_dropout": 0.4},
    {"recurrent_dropout": 0.4},
    {"zoneout": 0.3},
    {"peephole": True},
    {"coupled_gates": True, "forget_bias": 1.0},
    {"cell_clip": 0.2},
    {"proj_size": 2, "proj_clip": 0.05},
    {"layer_norm": True},
    {"output_gate": "cell"},
    {"zoneout": (0.0, 0.5), "peephole": True, "coupled_gates": True, "cell_clip": 0.3, "recurrent_dropout": 0.2},
    {"layer_norm": True, "peephole": True, "proj_size": 4, "cell_clip": 0.3, "proj_clip": 0.1, "weight_dropout": 0.2},
    {"layer_norm": True, "zoneout": 0.2, "coupled_gates": True},
    {"output_gate": "cell", "coupled_gates": True, "zoneout": (0.2, 0.1), "recurrent_dropout": 0.2, "cell_clip": 0.5},
]
FORMS = ["steps first", "batch first", "lengths", "resets", "packed", "one row"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Matrices this small are not worth a team."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def module(**options: Any) -> FusedLSTM:
    return FusedLSTM(I, H, **{"num_layers": 2, "bidirectional": True, "dtype": torch.float64, **options})


def definition(x, hx, weights, num_layers, *, recompute=False, **more):
    """functional.lstm as reference.lstm computes it."""
    if not isinstance(x, PackedSequence):
        return reference.lstm(x, hx, weights, num_layers, **more)
    y, h_n, c_n = reference.lstm(x.data, hx, weights, num_layers, batch_sizes=x.batch_sizes, **more)
    return PackedSequence(y, x.batch_sizes), h_n, c_n


def results(m: FusedLSTM, x, seed: int = 7, **more) -> list[Tensor]:
    """y, h_n, c_n and the gradients of every parameter, masks drawn from that seed."""
    torch.manual_seed(seed)
    y, (h_n, c_n) = m(x, **more)
    y = y.data if isinstance(y, PackedSequence) else y
    torch.manual_seed(seed + 1)
    loss = sum((out * torch.randn(out.shape).to(out.dtype)).sum() for out in (y, h_n, c_n))
    return [y, h_n, c_n, *torch.autograd.grad(loss, list(m.parameters()))]


def call_of(form: str) -> tuple[dict, Any, dict]:
    """Options of the module, input, options of the call."""
    x = torch.randn(T, B, I, dtype=torch.float64)
    resets = torch.rand(T, B) < 0.3
    return {
        "steps first": ({}, x, {}),
        "batch first": ({"batch_first": True}, x.transpose(0, 1), {"resets": resets.t()}),
        "lengths": ({}, x, {"lengths": LENGTHS.flip(0)}),
        "resets": ({}, x, {"resets": resets}),
        "packed": ({}, pack_padded_sequence(x, LENGTHS), {}),
        "one row": ({}, x[:, 0], {}),
    }[form]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_results_are_the_definition(options, form, monkeypatch):
    layout, x, more = call_of(form)
    m = module(**options, **layout)
    m.train((FORMS.index(form) + OPTIONS.index(options)) % 3 > 0)
    actual = results(m, x, **more)
    monkeypatch.setattr(modules, "_lstm", definition)
    torch.testing.assert_close(actual, results(m, x, **more), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradcheck(options):
    m = FusedLSTM(2, 3, dtype=torch.float64, **{**options, "proj_size": 2 if "proj_size" in options else 0})
    x, h0 = torch.randn(3, 2, 2).double(), torch.randn(1, 2, m.proj_size or 3).double()
    c0 = torch.randn(1, 2, 3).double()
    names = [name for name, _ in m.named_parameters()]

    def run(x, h0, c0, *parameters):
        torch.manual_seed(3)
        y, (h_n, c_n) = torch.func.functional_call(m, dict(zip(names, parameters)), (x, (h0, c0)))
        return y, h_n, c_n

    inputs = [t.detach().requires_grad_() for t in (x, h0, c0, *m.parameters())]
    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("options", [o for o in OPTIONS if {"weight_dropout", "recurrent_dropout", "zoneout"} & set(o)])
def test_masks_come_from_torchs_generator(options):
    m, x = module(**options), torch.randn(T, B, I, dtype=torch.float64)
    first, again, other = results(m, x, 1), results(m, x, 1), results(m, x, 2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    m.eval()
    assert torch.equal(results(m, x, 1)[0], results(m, x, 2)[0])


@pytest.mark.parametrize("options", [{"weight_dropout": 0.4}, {"recurrent_dropout": 0.4}], ids=str)
def test_dropout_is_off_in_eval_mode(options):
    m, plain = module(**options).eval(), nn.LSTM(I, H, 2, bidirectional=True, dtype=torch.float64)
    plain.load_state_dict(m.state_dict())
    x = torch.randn(T, B, I, dtype=torch.float64)
    torch.testing.assert_close(m(x), plain(x))


def test_weight_dropout_is_torchs_dropout_of_the_weight():
    m, plain = module(weight_dropout=0.4, num_layers=1, bidirectional=False), nn.LSTM(I, H, dtype=torch.float64)
    plain.load_state_dict(m.state_dict())
    x = torch.randn(T, B, I, dtype=torch.float64)
    torch.manual_seed(5)
    y, _ = m(x)
    torch.manual_seed(5)
    with torch.no_grad():
        plain.weight_hh_l0.copy_(dropout(plain.weight_hh_l0, 0.4))
    assert (plain.weight_hh_l0 == 0).double().mean().item() == pytest.approx(0.4, abs=0.15)
    torch.testing.assert_close(y, plain(x)[0])


def test_recurrent_dropout_is_one_mask_for_all_steps():
    m = module(recurrent_dropout=0.4, num_layers=1, bidirectional=False)
    x = torch.randn(T, B, I, dtype=torch.float64)
    torch.manual_seed(5)
    y, _ = m(x)
    torch.manual_seed(5)
    scale = dropout(torch.ones(1, B, H, dtype=torch.float64), 0.4)
    torch.testing.assert_close(y, functional.lstm(x, None, list(m.parameters()), recurrent_scale=scale)[0])


def test_zoneout_keeps_a_share_of_both_states():
    m = FusedLSTM(I, 300, zoneout=(0.25, 0.6))
    h0, c0 = torch.randn(1, B, 300), torch.randn(1, B, 300)
    _, (h, c) = m(torch.randn(1, B, I), (h0, c0))
    assert (h == h0).double().mean().item() == pytest.approx(0.25, abs=0.05)  # 1200 values: 4 deviations
    assert (c == c0).double().mean().item() == pytest.approx(0.6, abs=0.06)


def test_zoneout_takes_the_expectation_in_eval_mode():
    m, plain = FusedLSTM(I, H, zoneout=(0.25, 0.6)).eval(), nn.LSTM(I, H)
    plain.load_state_dict(m.state_dict())
    x, h0, c0 = torch.randn(1, B, I), torch.randn(1, B, H), torch.randn(1, B, H)
    _, (h, c) = m(x, (h0, c0))
    _, (h_new, c_new) = plain(x, (h0, c0))
    torch.testing.assert_close((h, c), (0.25 * h0 + 0.75 * h_new, 0.6 * c0 + 0.4 * c_new))


def test_layer_norm_by_hand():
    m = FusedLSTM(I, H, layer_norm=True, dtype=torch.float64)
    with torch.no_grad():
        for p in m.parameters():
            p.normal_()
    w_ih, w_hh, b_ih, b_hh, gamma_ih, gamma_hh, gamma_c, beta_c = m.parameters()
    x, h, c = (torch.randn(B, n, dtype=torch.float64) for n in (I, H, H))
    a = layer_norm(x @ w_ih.t(), (4 * H,), gamma_ih) + layer_norm(h @ w_hh.t(), (4 * H,), gamma_hh) + b_ih + b_hh
    i, f, g, o = a.chunk(4, 1)
    new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    new_h = o.sigmoid() * layer_norm(new_c, (H,), gamma_c, beta_c).tanh()
    torch.testing.assert_close(m(x[None], (h[None], c[None]))[1], (new_h[None], new_c[None]))


def test_output_gate_by_hand():
    m = FusedLSTM(I, H, output_gate="cell", dtype=torch.float64)
    w_ih, w_hh, b_ih, b_hh = m.parameters()
    x, h, c = (torch.randn(B, n, dtype=torch.float64) for n in (I, H, H))
    from_x, from_h = (x @ w_ih.t() + b_ih + b_hh).chunk(4, 1), (h @ w_hh.t()).chunk(4, 1)
    new_c = (from_x[1] + from_h[1]).sigmoid() * c + (from_x[0] + from_h[0]).sigmoid() * (from_x[2] + from_h[2]).tanh()
    new_h = (from_x[3] + new_c @ w_hh[3 * H :].t()).sigmoid() * new_c.tanh()
    torch.testing.assert_close(m(x[None], (h[None], c[None]))[1], (new_h[None], new_c[None]))


def test_bounds_hold():
    x = 10 * torch.randn(T, B, I)
    _, (_, c_n) = FusedLSTM(I, H, cell_clip=0.1)(x)
    assert c_n.abs().max() == torch.tensor(0.1)
    y, (h_n, _) = FusedLSTM(I, H, proj_size=2, proj_clip=0.01)(x)
    assert y.abs().max() == h_n.abs().max() == torch.tensor(0.01)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_float32_is_as_good_as_the_definition_in_float32(options, monkeypatch):
    """However ill-conditioned an option makes the gradients (norms of small numbers do): both are judged by float64."""
    m = module(**options, dtype=torch.float32).eval()
    exact_m, x = copy.deepcopy(m).double(), torch.randn(T, B, I)
    actual = results(m, x)
    monkeypatch.setattr(modules, "_lstm", definition)
    by_definition, exact = results(m, x), results(exact_m, x.double())

    def worst(values: list[Tensor]) -> float:
        return max(((value - e).norm() / e.norm()).item() for value, e in zip(values, exact, strict=True))

    assert worst(actual) <= 4 * worst(by_definition) + 8 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bits(options, dtype, monkeypatch):
    m = module(**options, dtype=dtype)
    x = torch.randn(T, B, I).to(dtype)
    actual = results(m, x)
    monkeypatch.setattr(modules, "_lstm", definition)
    bounded = any("clip" in name for name in options)  # at its bound or next to it: gradient or none
    for a, b in list(zip(actual, results(m, x), strict=True))[: 3 if bounded else None]:
        assert a.dtype == dtype
        assert (a.double() - b.double()).norm() <= 4 * torch.finfo(dtype).eps * b.double().norm()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_autocast(options):
    m = module(**options, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = m(torch.randn(T, B, I))
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in m.parameters())


def test_packed_rows_in_any_order():
    m = module(peephole=True, zoneout=0.2, recurrent_dropout=0.5).eval()
    x, lengths = torch.randn(T, B, I).double(), LENGTHS[torch.tensor([2, 0, 3, 1])]
    packed, states = m(pack_padded_sequence(x, lengths, enforce_sorted=False))
    expected = m(x, lengths=lengths)
    torch.testing.assert_close((pad_packed_sequence(packed)[0], states), expected)


def test_recurrent_dropout_of_packed_rows_follows_the_callers_order():
    m = module(recurrent_dropout=0.5)
    x, lengths = torch.randn(T, B, I).double(), LENGTHS[torch.tensor([2, 0, 3, 1])]
    torch.manual_seed(4)
    packed, states = m(pack_padded_sequence(x, lengths, enforce_sorted=False))
    torch.manual_seed(4)
    expected = m(x, lengths=lengths)
    torch.testing.assert_close((pad_packed_sequence(packed)[0], states), expected)


# ---- parameters


def test_without_options_nothing_differs():
    torch.manual_seed(0)
    m = FusedLSTM(I, H, 2, bidirectional=True)
    torch.manual_seed(0)
    plain = nn.LSTM(I, H, 2, bidirectional=True)
    assert m._variants is None and str(m) == str(plain).replace("LSTM", "FusedLSTM")
    assert list(m.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(m.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_weights_of_nn_lstm_are_drawn_as_it_draws_them(options):
    torch.manual_seed(0)
    m = module(**options)
    torch.manual_seed(0)
    plain = nn.LSTM(I, H, 2, bidirectional=True, dtype=torch.float64, proj_size=options.get("proj_size", 0))
    for name, p in plain.named_parameters():
        expected = p.detach().clone()
        if name.startswith("bias_ih") and "forget_bias" in options:
            expected[H : 2 * H] += options["forget_bias"]
        torch.testing.assert_close(m.get_parameter(name).detach(), expected, rtol=0, atol=0)


def test_names_and_shapes():
    plain = set(nn.LSTM(I, H, 2, bidirectional=True).state_dict())
    m = module(peephole=True, layer_norm=True)
    added = {name: tuple(t.shape) for name, t in m.state_dict().items() if name not in plain}
    each = {"weight_p": (3, H), "gamma_ih": (4 * H,), "gamma_hh": (4 * H,), "gamma_c": (H,), "beta_c": (H,)}
    suffixes = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")
    assert added == {name + suffix: shape for suffix in suffixes for name, shape in each.items()}
    assert set(module(output_gate="cell", coupled_gates=True, zoneout=0.1).state_dict()) == plain


def test_initial_values():
    m = module(layer_norm=True, peephole=True, forget_bias=1.0)
    for _ in range(2):
        assert (m.gamma_ih_l1 == 1).all() and (m.gamma_hh_l1 == 1).all() and (m.gamma_c_l1_reverse == 1).all()
        assert (m.beta_c_l0 == 0).all() and 0 < m.weight_p_l0.abs().max() <= H**-0.5
        assert (m.bias_ih_l0[H : 2 * H] >= 1 - H**-0.5).all() and m.bias_ih_l0[:H].max() <= H**-0.5
        with torch.no_grad():
            for p in m.parameters():
                p.fill_(9)
        m.reset_parameters()


def test_a_state_dict_of_nn_lstm_lacks_what_options_add():
    state = nn.LSTM(I, H, 2, bidirectional=True, dtype=torch.float64).state_dict()
    m = module(peephole=True)
    with pytest.raises(RuntimeError, match='Missing key.* "weight_p_l0", "weight_p_l0_reverse", "weight_p_l1"'):
        m.load_state_dict(state)
    missing, unexpected = m.load_state_dict(state, strict=False)
    assert len(missing) == 4 and not unexpected and torch.equal(m.weight_hh_l1, state["weight_hh_l1"])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_copies(options):
    m, x = module(**options), torch.randn(T, B, I, dtype=torch.float64)
    expected = results(m, x)
    file = io.BytesIO()
    torch.save(m, file)
    file.seek(0)
    loaded = module(**options)
    loaded.load_state_dict(m.state_dict())
    for other in (copy.deepcopy(m), pickle.loads(pickle.dumps(m)), torch.load(file, weights_only=False), loaded):
        assert all(torch.equal(a, b) for a, b in zip(results(other, x), expected, strict=True))
        assert str(other) == str(m)


def test_repr():
    m = FusedLSTM(3, 4, zoneout=0.1, layer_norm=True, output_gate="hidden", cell_clip=3.0)
    assert str(m) == "FusedLSTM(3, 4, zoneout=(0.1, 0.1), cell_clip=3.0, layer_norm=True)"
    assert str(FusedLSTMCell(3, 4, peephole=True)) == "FusedLSTMCell(3, 4, peephole=True)"


def test_convert_leaves_modules_with_options_alone():
    m = nn.ModuleDict({"ours": module(peephole=True), "theirs": nn.LSTM(I, H)})
    ours = m["ours"]
    _, done = convert(m, report=True)
    assert m["ours"] is ours and done.swapped == ["theirs"] and m["theirs"]._variants is None


# ---- one step at a time


@pytest.mark.parametrize(
    "options", [o for o in OPTIONS if not {"weight_dropout", "recurrent_dropout", "proj_size"} & set(o)], ids=str
)
def test_cell_module_is_a_step_of_the_layer(options):
    cell, layer = FusedLSTMCell(I, H, **options).double().eval(), FusedLSTM(I, H, **options).double().eval()
    layer.load_state_dict({name + "_l0": t for name, t in cell.state_dict().items()})
    x, hx = torch.randn(T, B, I).double(), None
    for step in x:
        hx = cell(step, hx)
    torch.testing.assert_close(hx, tuple(t[0] for t in layer(x)[1]))


def test_cell_module_draws_a_zoneout_mask_a_step():
    cell = FusedLSTMCell(I, 300, zoneout=0.5)
    x, hx = torch.randn(B, I), (torch.zeros(B, 300), torch.zeros(B, 300))
    kept = [cell(x, hx)[0] == 0 for _ in range(2)]
    assert kept[0].double().mean().item() == pytest.approx(0.5, abs=0.06) and not torch.equal(*kept)
    torch.manual_seed(1)
    first = cell(x[0])
    torch.manual_seed(1)
    assert torch.equal(cell(x[0])[0], first[0])
