"""bfloat16 where the CPU multiplies it: calls that cpu/bf16.h serves, at sizes around what kernels divide by.

Tiles of AMX are emulated where there are none.
"""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from isa_worker import ISAS, worker
from layer_cases import Layer
from layer_sampling import cotangents_of, definition
from operators import arguments_of, assert_same_bits, everything, infer, train
from tolerance import Tolerance, assert_within

pytestmark = [
    pytest.mark.skipif("avx512_bf16" not in ISAS, reason="this CPU has no avx512_bf16: bfloat16 becomes float first"),
    pytest.mark.parametrize("isa", ["avx512_bf16", "amx_bf16"]),
]

# T, B, I, H: pairs along k (odd I, odd H), vectors of 16, panels of 64, tiles of 6 rows, blocks of 96 and 144 rows, of
# 1024 gates (H > 256) and of 1024 rows (T * B), too few rows to pack (12), tiles of 16 rows and 32 deep, 1024 at a time
SIZES = [
    (1, 1, 1, 1), (1, 3, 7, 15), (3, 1, 17, 16), (5, 2, 0, 33), (2, 7, 64, 31), (13, 1, 31, 65),
    (9, 12, 33, 63), (7, 23, 130, 129), (3, 100, 65, 48), (150, 7, 5, 17), (4, 3, 19, 259), (2, 49, 1061, 32),
    (3, 37, 64, 71),
]  # fmt: skip
FEATURES = {
    "plain": {},
    "no state, no bias": {"state": False, "bias": False},
    "both": {"direction": "both"},
    "batch first, reverse": {"batch_first": True, "direction": "reverse"},
    "lengths": {"lengths": True, "direction": "both"},
    "packed": {"packed": True, "direction": "both"},
    "resets": {"resets": True, "direction": "both"},
    "resets, lengths": {"resets": True, "lengths": True, "direction": "both", "batch_first": True},
    "resets, packed": {"resets": True, "packed": True, "direction": "reverse"},
}
EVERY_FEATURE = (*SIZES[1:7], SIZES[-1])
CASES = [(size, feature) for size in SIZES for feature in FEATURES if feature == "both" or size in EVERY_FEATURE]


@functools.cache
def case(size: tuple[int, ...], feature: str) -> tuple:
    torch.manual_seed(hash(size) % 1000)
    layer = Layer.random(*size, dtype=torch.bfloat16, **FEATURES[feature])
    cotangents = cotangents_of(layer)
    return layer, cotangents, definition(layer, cotangents)


@pytest.mark.parametrize(("size", "feature"), CASES, ids=lambda value: str(value).replace(" ", ""))
def test_layer(isa, size, feature):
    layer, cotangents, expected = case(size, feature)
    tolerance, arguments = Tolerance.of(layer), arguments_of(layer)
    assert_within(worker(isa)(train, arguments, cotangents, everything(layer)), expected, tolerance)
    assert_within(worker(isa)(infer, arguments), expected, tolerance)


@pytest.mark.parametrize("recompute", [False, True])
def test_clip(isa, recompute):
    """c stays within its bound in the kernels as well; the definition's gradients hold where h is never near it."""
    layer = Layer.random(6, 20, 9, 40, dtype=torch.bfloat16, cell_clip=0.5)
    arguments = [*arguments_of(layer)[:13], 0.5, 0.0, recompute]
    actual = worker(isa)(train, arguments, cotangents_of(layer), everything(layer))
    assert actual["c_n"].abs().max() == 0.5
    assert_within(worker(isa)(infer, arguments), definition(layer, None), Tolerance.of(layer))


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("size", [(9, 3, 33, 63), (20, 64, 65, 48)], ids=str)
def test_threads(isa, size, threads):
    """States do not depend on the number of threads, nothing depends on the run."""
    layer, cotangents, expected = case(size, "both")
    arguments = arguments_of(layer), cotangents, everything(layer)
    alone = worker(isa)(train, *arguments)
    first, second = (worker(isa)(train, *arguments, threads) for _ in range(2))
    assert_same_bits(first, second)
    assert_within(first, expected, Tolerance.of(layer))
    for name in ("y", "h_n", "c_n", "dx", "dh0", "dc0", "dw_ih.0", "dw_hh.0"):
        assert torch.equal(first[name], alone[name]), name


@pytest.mark.parametrize(("inputs", "hidden"), list(itertools.product([16, 17], [16, 19])))
def test_nothing_beyond_a_row_is_read(isa, inputs, hidden):
    """Neighbours of x and dy are NaN; the zero that meets them in a panel would not stop that."""
    layer = Layer.random(5, 9, inputs, hidden, dtype=torch.bfloat16)
    cotangents = cotangents_of(layer)
    apart = lambda t: torch.full((*t.shape[:-1], t.shape[-1] + 1), torch.nan, dtype=t.dtype)[..., :-1].copy_(t)  # noqa: E731
    plain = worker(isa)(train, arguments_of(layer), cotangents, everything(layer))
    layer.variables["x"] = apart(layer.variables["x"])
    spread = worker(isa)(train, arguments_of(layer), (apart(cotangents[0]), *cotangents[1:]), everything(layer))
    assert_same_bits(spread, plain)


def test_forward_and_backward_of_different_roads(isa):
    """recompute: forward multiplies bfloat16, backward makes gates again in float. Also says that the roads differ."""
    layer, cotangents, expected = case((9, 12, 33, 63), "both")
    arguments = arguments_of(layer)
    again = [*arguments[:13], 0.0, 0.0, True]
    assert_within(worker(isa)(train, again, cotangents, everything(layer)), expected, Tolerance.of(layer))
    widened = worker("avx512")(train, arguments, cotangents, everything(layer))
    multiplied = worker(isa)(train, arguments, cotangents, everything(layer))
    assert any(not torch.equal(widened[name], multiplied[name]) for name in widened)


def test_denormal_products_are_zero(isa):
    """What the instruction does, and README says: a denormal x does not reach the gates, as float32 would have it."""
    layer = Layer.random(1, 1, 1, 1, dtype=torch.bfloat16, state=False, bias=False)
    for name, t in layer.variables.items():
        t.fill_(1e-39 if name == "x" else 2.0**120)
    assert worker(isa)(infer, arguments_of(layer))["c_n"].item() == 0
    assert worker("avx512")(infer, arguments_of(layer))["c_n"].item() > 0
