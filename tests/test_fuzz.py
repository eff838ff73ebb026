"""Malformed and well-formed calls at random: each gives the definition's result or is refused in a sentence.

FUSED_LSTM_FUZZ says how many examples a test takes; the examples are the same on every run. What reads beyond a tensor
shows as NaN here and under `make sanitize SANITIZER=asan` as a report.
"""

from __future__ import annotations

import os
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from cuda_emulated import emulated_ops
from hypothesis import HealthCheck, Phase, given, settings
from layer_cases import Layer
from operators import everything
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fused_lstm
from fused_lstm import FusedLSTM, reference
from fused_lstm.cells import CELLS

EXAMPLES = int(os.environ.get("FUSED_LSTM_FUZZ", "60"))
REFUSALS = (RuntimeError, ValueError, TypeError)  # of Python; a crash is none of them
TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}
fuzz = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink] if EXAMPLES < 300 else [Phase.generate],
    suppress_health_check=list(HealthCheck),
)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.complex64)
NUMBERS = (-(2**62), -1, 0, 1, 2, 5, 99, 2**40, 2**62)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def assert_helpful(error: Exception) -> None:
    words = str(error).split()
    assert len(words) > 4, f"{type(error).__name__}: {error}"
    assert "INTERNAL ASSERT" not in str(error), error


# ---- tensors that are not what they should be


@st.composite
def strides(draw, t: Tensor) -> Tensor:
    """The same numbers elsewhere in memory."""
    kind = draw(st.sampled_from(["gaps", "offset", "transposed", "expanded"]))
    if kind == "gaps" and t.dim():
        wide = t.new_empty(*t.shape[:-1], 2 * t.shape[-1])
        wide[..., ::2] = t
        return wide[..., ::2]
    if kind == "offset":
        return torch.cat([t.new_empty(3), t.flatten()])[3:].view(t.shape)
    if kind == "transposed" and t.dim() > 1:
        return t.transpose(0, -1).contiguous().transpose(0, -1)
    if kind == "expanded" and t.is_floating_point() and t.dim() and t.shape[0]:
        return t[:1].expand(t.shape)
    return t


@st.composite
def malformed(draw, t: Tensor) -> Any:
    kind = draw(st.sampled_from(["size", "rank", "dtype", "device", "values", "none", "empty"]))
    if kind == "size" and t.dim():
        sizes = list(t.shape)
        axis = draw(st.integers(0, t.dim() - 1))
        sizes[axis] = max(0, sizes[axis] + draw(st.sampled_from([-2, -1, 1, 3])))
        return _filled(t, sizes)
    if kind == "rank":
        return draw(st.sampled_from([t.unsqueeze(0), t.unsqueeze(-1), t.flatten(), t.sum()]))
    if kind == "dtype":
        return t.to(draw(st.sampled_from(DTYPES)))
    if kind == "device":
        return t.to("meta")
    if kind == "empty":
        return t.new_empty(0)
    if kind == "none":
        return None
    if t.dtype == torch.int64 and t.numel():
        t = t.clone()
        t.view(-1)[draw(st.integers(0, t.numel() - 1))] = draw(st.sampled_from(NUMBERS))
    return t


def _filled(like: Tensor, sizes: list[int]) -> Tensor:
    return torch.zeros(sizes, dtype=like.dtype) + (0.5 if like.is_floating_point() else 1)


# ---- the raw operators


@st.composite
def layers(draw) -> Layer:
    torch.manual_seed(draw(st.integers(0, 2**16)))
    T, B = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rows = draw(st.sampled_from(["", "lengths", "packed"]))
    cell = draw(st.sampled_from([c.name for c in CELLS]))
    projected = not {"zoneout", "output_cell"} & set(cell.split("+")) and draw(st.booleans())
    return Layer.random(
        T,
        B,
        draw(st.integers(1, 5)),
        draw(st.sampled_from([1, 3, 16, 17])),
        2 if projected else 0,
        state=draw(st.booleans()),
        bias=draw(st.booleans()),
        direction=draw(st.sampled_from(["forward", "reverse", "both"])),
        batch_first=rows != "packed" and draw(st.booleans()),
        lengths=rows == "lengths",
        packed=rows == "packed",
        resets=draw(st.booleans()),
        scale=draw(st.booleans()),
        cell=cell,
    )


def by_unit(layer: Layer) -> bool:
    return not {"layer_norm", "output_cell"} & set(layer.options["cell"].split("+"))


def definition(layer: Layer) -> list[Tensor]:
    return list(layer.call(reference.lstm_layer))


def assert_results(actual, expected) -> None:
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE)


@st.composite
def spoilt(draw, arguments: list) -> tuple[list, bool]:
    """Arguments of an operator with up to two of them made wrong; whether their meaning may have changed."""
    arguments, changed = list(arguments), False
    for _ in range(draw(st.integers(0, 2))):
        places = [k for k, a in enumerate(arguments) if isinstance(a, (Tensor, list, int))]
        k = draw(st.sampled_from(places))
        old = arguments[k]
        if isinstance(old, Tensor):
            arguments[k] = draw(malformed(old))
        elif isinstance(old, list):
            arguments[k] = weights = list(old)
            n = draw(st.integers(0, len(weights) - 1)) if weights else None
            what = draw(st.sampled_from(["one", "fewer", "more", "none"]))
            if what == "one" and n is not None:
                replaced = draw(malformed(weights[n]))
                weights[n] = weights[n].new_empty(0) if replaced is None else replaced
            elif what == "fewer" and n is not None:
                del weights[n]
            elif what == "more" and n is not None:
                weights.insert(n, weights[n])
            elif what == "none":
                weights.clear()
        elif not isinstance(old, bool):
            arguments[k] = draw(st.sampled_from(NUMBERS))
        else:
            arguments[k] = not old
        changed = True
    return arguments, changed


def operators_of(name: str) -> Any:
    return torch.ops.fused_lstm if name == "cpu" else emulated_ops().ops.fused_lstm


def same_question(before: list, after: list) -> bool:
    """Whether two lists of arguments ask for the same."""
    return all(_same(a, b) for a, b in zip(before, after, strict=True))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.device == b.device and a.shape == b.shape and torch.equal(a, b)
    return type(a) is type(b) and a == b


def tensors_in(arguments: list) -> list[Tensor]:
    flat = [t for a in arguments for t in (a if isinstance(a, list) else [a])]
    return [t for t in flat if isinstance(t, Tensor) and not t.is_meta]


def refused_or(call, check, arguments: list) -> None:
    kept = [(t, t.clone()) for t in tensors_in(arguments)]
    try:
        results = call()
    except REFUSALS as error:
        assert_helpful(error)
        return
    assert all(torch.equal(t.nan_to_num(), before.nan_to_num()) for t, before in kept), "an argument was written to"
    check(results)


@pytest.mark.parametrize("backend", ["cpu", "emulated"])
@fuzz
@given(st.data())
def test_operators_forward(backend, data):
    layer = data.draw(layers())
    for values in (layer.variables, layer.constants):
        for name, t in values.items():
            if data.draw(st.booleans()):
                values[name] = data.draw(strides(t))
    *good, _ = layer.op_arguments(save=True)
    save, recompute = data.draw(st.booleans()), data.draw(st.booleans()) and by_unit(layer)
    arguments, _ = data.draw(spoilt(good))

    def check(results):
        if same_question(good, arguments):
            assert_results(results[:3], definition(layer))
        else:  # another question than ours, but a well-formed one: shapes that hang together, no unwritten memory
            assert all(t.is_meta or not t.isnan().any() for t in results[:3]) or backend == "emulated"

    refused_or(lambda: operators_of(backend).lstm_layer(*arguments, save, recompute=recompute), check, arguments)
    if same_question(good, arguments):  # and then it was not refused
        operators_of(backend).lstm_layer(*arguments, save, recompute=recompute)


@pytest.mark.parametrize("backend", ["cpu", "emulated"])
@fuzz
@given(st.data())
def test_operators_backward(backend, data):
    layer = data.draw(layers())
    *tensors, cell, direction, batch_first, _ = layer.op_arguments(save=True)
    recompute = data.draw(st.booleans()) and by_unit(layer)
    ops = operators_of(backend)
    y, h_n, c_n, reserve = ops.lstm_layer(*tensors, cell, direction, batch_first, True, recompute=recompute)
    cotangents = [torch.randn_like(t) if data.draw(st.booleans()) else None for t in (y, h_n, c_n)]
    needs = everything(layer) & data.draw(st.integers(0, 511))
    good = [*cotangents, *tensors, y, reserve, cell, direction, batch_first, needs]
    arguments, _ = data.draw(spoilt(good))

    def check(found):
        if not same_question(good, arguments):
            return
        variables = {name: t.clone().requires_grad_() for name, t in layer.variables.items()}
        outputs = layer.call(reference.lstm_layer, variables)
        used = [(out, g) for out, g in zip(outputs, cotangents, strict=True) if g is not None]
        if not used:
            assert all((g == 0).all() for g in found)
            return
        grads = torch.autograd.grad(
            [out for out, _ in used], list(variables.values()), [g for _, g in used], materialize_grads=True
        )
        by_name = dict(zip(variables, grads, strict=True))
        names = ("x", "h0", "c0", "w_ih", "w_hh", "b_ih", "w_hr", "recurrent_scale", "cell_params")
        expected = []
        for bit, name in enumerate(names):
            if needs >> bit & 1:
                expected += [g for n, g in by_name.items() if n.split(".")[0] == name]
        assert_results(found, expected)

    refused_or(lambda: ops.lstm_layer_backward(*arguments, recompute=recompute), check, arguments)
    if same_question(good, arguments):
        ops.lstm_layer_backward(*arguments, recompute=recompute)


# ---- the function


@fuzz
@given(st.data())
def test_function(data):
    layer = data.draw(layers())
    spoil = data.draw(st.booleans())
    if spoil:
        values = data.draw(st.sampled_from([layer.variables, layer.constants or layer.variables]))
        name = data.draw(st.sampled_from(sorted(values)))
        before = values[name]
        after = data.draw(malformed(before))
        if after is None and "." in name:
            after = before.new_empty(0)
        if after is None:
            del values[name]
        else:
            values[name] = after
    if "x" not in layer.variables:
        return
    if not spoil:
        assert_results(layer.call(fused_lstm.lstm_layer), definition(layer))
        return

    def check(results):
        # it was taken: then it must have a meaning, and that meaning
        if not any(t.is_meta for t in results):
            assert_results(results, definition(layer))

    refused_or(lambda: layer.call(fused_lstm.lstm_layer), check, [*layer.variables.values(), *layer.constants.values()])


# ---- the module


@st.composite
def modules(draw) -> FusedLSTM:
    torch.manual_seed(draw(st.integers(0, 2**16)))
    m = FusedLSTM(
        draw(st.integers(1, 4)),
        draw(st.sampled_from([3, 5, 17])),
        draw(st.integers(1, 2)),
        bias=draw(st.booleans()),
        batch_first=draw(st.booleans()),
        bidirectional=draw(st.booleans()),
        proj_size=draw(st.sampled_from([0, 0, 2])),
        dtype=torch.float64,
        recompute=draw(st.booleans()),
    )
    return m.train(draw(st.booleans()))


@st.composite
def inputs(draw, m: FusedLSTM) -> tuple[Any, Any, dict]:
    """input, hx and the keyword arguments of a good call."""
    T, B = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    kind = draw(st.sampled_from(["batch", "row", "packed"]))
    rows = () if kind == "row" else (B,)
    x = torch.randn(T, *rows, m.input_size, dtype=torch.float64)
    n = m.num_layers * (1 + m.bidirectional)
    hx = None
    if draw(st.booleans()):
        sizes = (m.proj_size or m.hidden_size, m.hidden_size)
        hx = tuple(torch.randn(n, *rows, size, dtype=torch.float64) for size in sizes)
    if m.batch_first and kind == "batch":
        x = x.transpose(0, 1).contiguous()
    more = {}
    if kind == "packed":
        lengths = torch.randint(1, T + 1, (B,))
        lengths[draw(st.integers(0, B - 1))] = T
        x = pack_padded_sequence(x, lengths, enforce_sorted=False)
    elif kind == "batch" and draw(st.booleans()):
        more["lengths"] = torch.randint(0, T + 1, (B,))
    if kind != "packed" and draw(st.booleans()):
        more["resets"] = torch.rand(x.shape[:-1]) < 0.3
    return x, hx, more


def theirs_of(m: FusedLSTM) -> nn.LSTM:
    plain = nn.LSTM(
        m.input_size, m.hidden_size, m.num_layers, m.bias, m.batch_first, m.dropout, m.bidirectional, m.proj_size,
        dtype=torch.float64,
    )  # fmt: skip
    plain.load_state_dict(m.state_dict())
    return plain


def values_of(out) -> list[Tensor]:
    y, (h_n, c_n) = out
    return [y.data if isinstance(y, PackedSequence) else y, h_n, c_n]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@fuzz
@given(st.data())
def test_module_with_good_weights(data):
    m = data.draw(modules())
    x, hx, more = data.draw(inputs(m))
    if not more:
        assert_results(values_of(m(x, hx)), values_of(theirs_of(m)(x, hx)))
    wrong = data.draw(st.sampled_from(["input", "h0", "c0", "swapped", "single", "lengths", "resets", "batch_sizes"]))
    data_of = x.data if isinstance(x, PackedSequence) else x
    if wrong == "input":
        spoilt_x = data.draw(malformed(data_of))
        if spoilt_x is None:
            return
        x = x._replace(data=spoilt_x) if isinstance(x, PackedSequence) else spoilt_x
    elif wrong == "batch_sizes" and isinstance(x, PackedSequence):
        sizes = data.draw(malformed(x.batch_sizes))
        if sizes is None:
            return
        try:
            x = x._replace(batch_sizes=sizes)
        except REFUSALS:
            return
    elif wrong in ("h0", "c0") and hx is not None:
        k = int(wrong == "c0")
        state = data.draw(malformed(hx[k]))
        if state is None:
            return
        hx = (state, hx[1]) if k == 0 else (hx[0], state)
    elif wrong == "swapped" and hx is not None:
        hx = hx[::-1]
    elif wrong == "single" and hx is not None:
        hx = hx[:1]
    elif wrong in ("lengths", "resets"):
        base = more.get(wrong, torch.ones(3, dtype=torch.int64 if wrong == "lengths" else torch.bool))
        more[wrong] = data.draw(malformed(base))

    def check(out):
        y, _ = out
        batch = y.data if isinstance(y, PackedSequence) else y
        assert batch.is_meta or not batch.isnan().any()

    try:
        check(m(x, hx, **more))
    except (*REFUSALS, IndexError) as error:
        assert_helpful(error)


@fuzz
@given(st.data())
def test_module_after_surgery(data):
    m = data.draw(modules())
    x, hx, more = data.draw(inputs(m))
    with torch.set_grad_enabled(data.draw(st.booleans())):
        before = [t.detach().clone() for t in values_of(m(x, hx, **more))]
        name = data.draw(st.sampled_from(m._flat_weights_names))
        old = getattr(m, name)
        new = data.draw(malformed(old.detach()))
        how = data.draw(st.sampled_from(["data", "parameter", "tensor"]))
        if new is None:
            delattr(m, name)
        elif how == "data":
            try:
                old.data = new
            except REFUSALS:  # torch itself refuses some
                return
        elif how == "parameter" and new.is_floating_point():
            setattr(m, name, nn.Parameter(new))
        else:
            delattr(m, name)
            setattr(m, name, new)
        try:
            out = values_of(m(x, hx, **more))
        except (*REFUSALS, AttributeError) as error:
            assert_helpful(error)
            return
        # taken: only numbers may be other ones
        assert new is not None and new.shape == old.shape and new.dtype == torch.float64, (name, new)
        assert [t.shape for t in out] == [t.shape for t in before]
        if out[0].requires_grad:
            sum(t.sum() for t in out).backward()
