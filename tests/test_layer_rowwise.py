"""Cells that need a whole row (layer_norm, output_cell) against fused_lstm/reference.py, on every ISA and dtype.

Errors are relative, of a whole tensor (Frobenius): behind a norm of values that happen to lie close together single
ones may be off by any factor, and so may what follows from them.
"""

from __future__ import annotations

import pytest
import torch
from isa_worker import ISAS, worker
from layer_cases import Layer
from layer_sampling import cotangents_of, definition
from operators import arguments_of, assert_same_bits, everything, infer, train
from torch import Tensor

from fused_lstm.cells import CELLS

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
NAMES = [cell.name for cell in CELLS if not cell.elementwise]

# T, B, I, H on both sides of vectors, blocks of rows and depth; and everything that a layer can have, in turn
FEATURES = [
    ((5, 7, 17, 33), {"direction": "both"}),
    ((9, 1, 3, 16), {"direction": "reverse", "state": False, "bias": False}),
    ((4, 17, 40, 63), {"direction": "both", "lengths": True, "resets": True, "batch_first": True}),
    ((6, 5, 64, 20), {"direction": "both", "packed": True, "resets": True, "scale": True}),
    ((3, 110, 5, 18), {"lengths": True, "scale": True, "cell_clip": 0.5}),
    ((1, 2, 0, 130), {"direction": "both", "cell_clip": 0.5}),
]
PROJECTED = [
    ((5, 7, 17, 33), {"direction": "both", "P": 9, "proj_clip": 0.5}),
    ((6, 5, 9, 24), {"direction": "reverse", "P": 30, "packed": True, "resets": True, "scale": True, "bias": False}),
]


def layers_of(name: str, dtype: torch.dtype) -> list[Layer]:
    kind = CELLS[[cell.name for cell in CELLS].index(name)]
    wanted = FEATURES + (PROJECTED if kind.layer_norm and not kind.zoneout else [])
    layers = []
    for size, features in wanted:
        if dtype not in (torch.float32, torch.float64):
            # h is one number of 16 bits or the next; near a bound that decides whether there is a gradient or none
            features = {**features, "cell_clip": None, "proj_clip": None}
        layers.append(Layer.random(*size, dtype=dtype, cell=name, **features))
    return layers


def bound(dtype: torch.dtype) -> float:
    """In 16 bits h is rounded at every step (2 v), on both sides not always to the same number; else 500 roundings."""
    return 4 * torch.finfo(dtype).eps if dtype in (torch.bfloat16, torch.float16) else 250 * torch.finfo(dtype).eps


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor], limit: float) -> None:
    for name, value in actual.items():
        exact = expected[name].double()
        assert value.shape == exact.shape, name
        if not value.numel():
            continue
        error = (value.double() - exact).norm() / exact.norm().clamp_min(1e-30)
        assert value.isfinite().all() and (error <= limit or exact.norm() == value.double().norm() == 0), (name, error)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_layer(name, dtype):
    for index, layer in enumerate(layers_of(name, dtype)):
        cotangents = cotangents_of(layer)
        expected = definition(layer, cotangents)
        for isa in ISAS:
            threads = 1 + (index + ISAS.index(isa)) % 3
            actual = worker(isa)(train, arguments_of(layer), cotangents, everything(layer), threads)
            assert_close(actual, expected, bound(dtype))
            inferred = worker(isa)(infer, arguments_of(layer), threads)
            assert_same_bits(inferred, {key: actual[key] for key in inferred})


@pytest.mark.parametrize("name", ["layer_norm", "coupled+output_cell"])
def test_same_bits_every_time(name):
    layer = Layer.random(6, 33, 17, 40, dtype=torch.float32, direction="both", cell=name)
    call = train, arguments_of(layer), cotangents_of(layer), everything(layer), 2
    first = worker(ISAS[0])(*call)
    for _ in range(3):
        assert_same_bits(worker(ISAS[0])(*call), first)
