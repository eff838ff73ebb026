"""``recompute=True``: a fifth of the reserve, the same results and gradients, on the CPU and in the CUDA code."""

from __future__ import annotations

import functools

import operators
import pytest
import torch
from cuda_emulated import emulated_ops
from layer_cases import FEATURES, Layer, assert_same, gradients, random_cotangents
from layer_sampling import cotangents_of
from operators import arguments_of, assert_same_bits, everything
from torch._subclasses.fake_tensor import FakeTensorMode

import fused_lstm
from fused_lstm import FusedLSTM

SMALL = (5, 3, 3, 5)  # T, B, I, H
BLOCKS = (70, 33, 4, 9)  # backward holds 1024 rows at a time: these take three blocks


def _parts(features: dict) -> list[str]:
    return features.get("cell", "vanilla").split("+")


# The others need a whole row at a time and refuse.
ELEMENTWISE = {name: f for name, f in FEATURES.items() if not {"layer_norm", "output_cell"} & set(_parts(f))}
recomputing = functools.partial(fused_lstm.lstm_layer, recompute=True)


def both_ways(layer: Layer, threads: int = 1) -> tuple[operators.Results, operators.Results]:
    """Results and gradients of the raw operators, gates kept and made again."""
    torch.set_num_threads(threads)
    found, needs = [], everything(layer)
    cotangents = cotangents_of(layer)
    ops = operators.torch.ops.fused_lstm
    arguments = arguments_of(layer)
    clips = dict(zip(("cell_clip", "proj_clip"), arguments[13:]))
    for recompute in (False, True):
        *outputs, reserve = ops.lstm_layer(*arguments[:13], True, **clips, recompute=recompute)
        widths = 1 if recompute else 5
        assert reserve.shape[-1] == widths * -(-outputs[2].shape[-1] // 16) * 16
        answer = ops.lstm_layer_backward(
            *cotangents, *arguments[:10], outputs[0], reserve, *arguments[10:13], needs, **clips, recompute=recompute
        )
        found.append(operators.name_outputs(outputs) | {str(k): g for k, g in enumerate(answer)})
    return found[0], found[1]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [SMALL, BLOCKS], ids=str)
@pytest.mark.parametrize("features", ELEMENTWISE.values(), ids=list(ELEMENTWISE))
def test_gradients_are_those_of_kept_gates(features, size, threads):
    layer = Layer.random(*size, **features)
    kept, again = both_ways(layer, threads)
    assert_same_bits({n: again[n] for n in ("y", "h_n", "c_n")}, {n: kept[n] for n in ("y", "h_n", "c_n")})
    assert_same(again, kept, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["plain", "projection", "resets, lengths", "zoneout"])
def test_dtypes(name, dtype):
    # the gates come from the same h, rounded as it was, so that only sums in float32 may differ
    layer = Layer.random(*BLOCKS, **FEATURES[name], dtype=dtype)
    kept, again = both_ways(layer)
    unit = {torch.float32: 1e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10}[dtype]
    for key, value in again.items():
        scale = float(kept[key].abs().max())
        torch.testing.assert_close(value, kept[key], rtol=2 * unit, atol=2 * unit * scale)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("features", ELEMENTWISE.values(), ids=list(ELEMENTWISE))
def test_in_the_cuda_code(features, dtype, monkeypatch):
    monkeypatch.setenv("FUSED_LSTM_CUDA_FAMILY", "stepwise")
    monkeypatch.setattr(operators, "torch", emulated_ops())
    kept, again = both_ways(Layer.random(*SMALL, **features, dtype=dtype))
    unit = 1e-11 if dtype == torch.float64 else 2**-7
    for key, value in again.items():
        scale = float(kept[key].abs().max())
        torch.testing.assert_close(value, kept[key], rtol=2 * unit, atol=2 * unit * scale)


@pytest.mark.parametrize("name", ["both", "projection", "packed", "resets, lengths", "zoneout"])
def test_through_autograd(name):
    layer = Layer.random(*SMALL, **FEATURES[name])
    cotangents = random_cotangents(layer.call(fused_lstm.lstm_layer))
    expected = gradients(layer, fused_lstm.lstm_layer, cotangents)
    assert_same(gradients(layer, recomputing, cotangents), expected, rtol=1e-11, atol=1e-11)
    values = tuple(layer.requires_grad_().variables.values())
    assert torch.autograd.gradcheck(layer.function_of_variables(recomputing), values, fast_mode=True)
    assert torch.autograd.gradgradcheck(layer.function_of_variables(recomputing), values, fast_mode=True)


def test_fakes():
    layer = Layer.random(*SMALL, direction="both", P=3)
    *tensors, cell, direction, batch_first = arguments_of(layer)
    torch.library.opcheck(
        torch.ops.fused_lstm.lstm_layer.default,
        (*tensors, cell, direction, batch_first, True, False, 0.0, 0.0, True),
        test_utils=("test_schema", "test_faketensor"),
    )
    real = torch.ops.fused_lstm.lstm_layer(*tensors, cell, direction, batch_first, True, recompute=True)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = [mode.from_tensor(t) if isinstance(t, torch.Tensor) else t for t in tensors]
        fake[3] = [mode.from_tensor(t) for t in tensors[3]]
        found = torch.ops.fused_lstm.lstm_layer(*fake, cell, direction, batch_first, True, recompute=True)
        assert found[3].shape == real[3].shape


def test_a_reserve_of_the_other_kind_is_refused():
    layer = Layer.random(*SMALL)
    arguments = arguments_of(layer)
    y, _, _, reserve = operators.forward(arguments, save=True)
    ops, cotangents = torch.ops.fused_lstm, cotangents_of(layer)
    with pytest.raises(RuntimeError, match="reserve must have shape"):
        ops.lstm_layer_backward(*cotangents, *arguments[:-3], y, reserve, *arguments[-3:], 1, recompute=True)


def test_cells_that_need_a_whole_row_refuse():
    for name in ("layer norm", "output cell"):
        layer = Layer.random(*SMALL, **FEATURES[name]).requires_grad_()
        with pytest.raises(RuntimeError, match="cannot be made again for all steps at once; drop recompute"):
            layer.call(recomputing)


def test_vmap():
    """Of inputs (rows folded together), and of gradients for each of several cotangents."""
    layer = Layer.random(*SMALL)
    weights = layer.weights()
    xs = torch.randn(4, 5, 3, 3, dtype=torch.float64)

    def loss(x, recompute):
        return fused_lstm.lstm_layer(x, None, None, weights, recompute=recompute)[0].square().sum()

    for transform in (torch.func.grad, torch.func.jacrev):
        kept, again = (torch.func.vmap(transform(loss), in_dims=(0, None))(xs, r) for r in (False, True))
        torch.testing.assert_close(again, kept)
    kept, again = (
        torch.func.jacrev(lambda x, r=r: fused_lstm.lstm_layer(x, None, None, weights, recompute=r)[0])(xs[0])
        for r in (False, True)
    )
    torch.testing.assert_close(again, kept)


class Saved:
    """Bytes that autograd saves inside."""

    def __enter__(self) -> Saved:
        self.storages: dict[int, int] = {}
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda t: t)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.hooks.__exit__(*error)

    def pack(self, t: torch.Tensor) -> torch.Tensor:
        self.storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    @property
    def bytes(self) -> int:
        return sum(self.storages.values())


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"proj_size": 7}], ids=str)
def test_module(options):
    torch.manual_seed(3)
    default, again = FusedLSTM(6, 16, **options), FusedLSTM(6, 16, **options, recompute=True)
    again.load_state_dict(default.state_dict())
    assert "recompute=True" in repr(again) and "recompute" not in repr(default)
    x, found, saved = torch.randn(40, 30, 6), [], []
    for module in (default, again):
        with Saved() as kept:
            y, (h_n, c_n) = module(x)
        saved.append(kept.bytes)
        module.zero_grad()
        (y.square().sum() + h_n.sum() + c_n.sum()).backward()
        found.append({"y": y, **{name: p.grad for name, p in module.named_parameters()}})
    assert_same(found[1], found[0], rtol=1e-4, atol=1e-3)
    gates = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1) * 40 * 30 * 4 * 16 * 4
    assert saved[0] - saved[1] == gates


def test_saved_tensors_are_guarded():
    lstm = FusedLSTM(3, 5, recompute=True)
    for change in ("y", "x", "weight"):
        x = torch.randn(4, 2, 3, requires_grad=True)
        inside = x * 1
        y, _ = lstm(inside)
        with torch.no_grad():
            {"y": y, "x": inside, "weight": lstm.weight_hh_l0}[change].add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_copies_keep_the_option():
    import copy
    import pickle

    lstm = FusedLSTM(3, 5, recompute=True)
    assert copy.deepcopy(lstm).recompute and pickle.loads(pickle.dumps(lstm)).recompute
    assert not fused_lstm.convert(torch.nn.LSTM(3, 5)).recompute
