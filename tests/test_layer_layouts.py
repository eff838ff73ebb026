"""Tensors as they lie in memory: whatever their strides, a layer gives the bits that it gives for contiguous ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from isa_worker import ISAS, worker
from layer_cases import Layer
from layer_sampling import cotangents_of
from operators import arguments_of, assert_same_bits, everything, train
from torch import Tensor

T, B, I, H, P = 7, 5, 9, 19, 6  # noqa: E741
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def every_other(t: Tensor, axis: int) -> Tensor:
    """The same numbers as every second entry along an axis of a tensor that is NaN (True, -1) otherwise."""
    shape = list(t.shape)
    shape[axis] *= 2
    odd = {torch.bool: True, torch.int64: -1}.get(t.dtype, float("nan"))
    wide = torch.full(shape, odd, dtype=t.dtype)
    view = wide[(slice(None),) * axis + (slice(None, None, 2),)]
    return view.copy_(t)


def inside(t: Tensor) -> Tensor:
    """The same numbers in the middle of a larger tensor."""
    odd = {torch.bool: True, torch.int64: -1}.get(t.dtype, float("nan"))
    wide = torch.full([s + 5 for s in t.shape], odd, dtype=t.dtype)
    return wide[(slice(2, -3),) * t.dim()].copy_(t)


def reordered(t: Tensor) -> Tensor:
    """The same numbers with the axes the other way round in memory."""
    axes = tuple(reversed(range(t.dim())))
    return t.permute(axes).contiguous().permute(axes)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "every other step": lambda t: every_other(t, 0),
    "every other row": lambda t: every_other(t, min(1, t.dim() - 1)),
    "every other feature": lambda t: every_other(t, t.dim() - 1),
    "inside a larger tensor": inside,
    "reordered": reordered,
}


def changed(layer: Layer, layout: Callable[[Tensor], Tensor]) -> Layer:
    # the operator wants batch_sizes, as PackedSequence gives them, and lengths to be plain
    def change(name: str, t: Tensor) -> Tensor:
        return t if name == "batch_sizes" else layout(t)

    variables = {name: change(name, t) for name, t in layer.variables.items()}
    return Layer(variables, {name: change(name, t) for name, t in layer.constants.items()}, layer.options)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "features",
    [
        {"P": P, "scale": True, "resets": True},
        {"cell": "zoneout", "lengths": True},
        {"cell": "peephole", "packed": True, "resets": True},
        {"batch_first": True, "lengths": True, "resets": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("isa", ISAS)
def test_strides_do_not_matter(isa, features, layout):
    dtype = DTYPES[(list(LAYOUTS).index(layout) + ISAS.index(isa)) % 4]
    layer = Layer.random(T, B, I, H, direction="both", dtype=dtype, **features)
    cotangents = cotangents_of(layer)
    expected = worker(isa)(train, arguments_of(layer), cotangents, everything(layer))
    other = changed(layer, LAYOUTS[layout])
    strange = tuple(LAYOUTS[layout](g) for g in cotangents)
    assert not any(t.is_contiguous() for t in (*strange, other.variables["x"], other.variables["w_hh.0"]))
    assert_same_bits(worker(isa)(train, arguments_of(other), strange, everything(other)), expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("isa", ISAS)
def test_expanded(isa, axis):
    layer = Layer.random(T, B, I, H, direction="both", dtype=torch.float32)
    shape = layer.variables["x"].shape
    layer.variables["x"] = layer.variables["x"].narrow(axis, 0, 1).expand(shape)
    cotangents = [g.narrow(min(axis, g.dim() - 1), 0, 1).expand(g.shape) for g in cotangents_of(layer)]
    assert layer.variables["x"].stride(axis) == cotangents[0].stride(axis) == 0
    actual = worker(isa)(train, arguments_of(layer), cotangents, everything(layer))
    layer.variables["x"] = layer.variables["x"].contiguous()
    plain = [g.contiguous() for g in cotangents]
    assert_same_bits(actual, worker(isa)(train, arguments_of(layer), plain, everything(layer)))


@pytest.mark.parametrize("shape", [(1, 5, 3), (4, 1, 3), (4, 5, 1), (1, 1, 1), (4, 5, 0)], ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_axes_of_one_may_have_any_stride(isa, shape):
    layer = Layer.random(*shape, H, dtype=torch.float32)
    cotangents = cotangents_of(layer)
    expected = worker(isa)(train, arguments_of(layer), cotangents, everything(layer))
    x = layer.variables["x"]
    strides = [s if n > 1 else 977 for n, s in zip(shape, x.stride(), strict=True)]
    layer.variables["x"] = x.as_strided(shape, strides)
    assert_same_bits(worker(isa)(train, arguments_of(layer), cotangents, everything(layer)), expected)


@pytest.mark.parametrize("features", [{}, {"lengths": True}, {"cell": "zoneout", "resets": True}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_batch_first_is_a_transposition(isa, dtype, features):
    layer = Layer.random(T, B, I, H, direction="both", dtype=dtype, **features)
    cotangents = cotangents_of(layer)
    expected = worker(isa)(train, arguments_of(layer), cotangents, everything(layer))
    layer.options = {**layer.options, "batch_first": True}
    layer.variables["x"] = layer.variables["x"].transpose(0, 1).contiguous()
    if "resets" in layer.constants:
        layer.constants["resets"] = layer.constants["resets"].t().contiguous()
    if "cell_inputs" in layer.constants:
        layer.constants["cell_inputs"] = layer.constants["cell_inputs"].transpose(1, 2).contiguous()
    dy = cotangents[0].transpose(0, 1).contiguous()
    actual = worker(isa)(train, arguments_of(layer), (dy, *cotangents[1:]), everything(layer))
    for name in ("y", "dx"):
        assert actual[name].is_contiguous()
        actual[name] = actual[name].transpose(0, 1)
    assert_same_bits(actual, expected)


@pytest.mark.parametrize("features", [{}, {"batch_first": True}, {"packed": True}, {"P": P, "lengths": True}], ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_results_are_contiguous(isa, features):
    layer = Layer.random(T, B, I, H, direction="both", dtype=torch.float32, **features)
    layer.variables["x"] = reordered(layer.variables["x"])
    results = worker(isa)(train, arguments_of(layer), cotangents_of(layer), everything(layer))
    assert all(t.is_contiguous() for t in results.values())
    assert results["y"].shape[:-1] == results["dx"].shape[:-1] == layer.variables["x"].shape[:-1]
