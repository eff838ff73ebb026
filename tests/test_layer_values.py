"""The layer on every ISA and dtype against fused_lstm/reference.py, every two features combined."""

from __future__ import annotations

import functools

import pytest
import torch
from isa_worker import ISAS, worker
from layer_cases import Layer
from layer_sampling import FEATURES, all_pairs, cotangents_of, definition, layer_of, pairwise
from operators import arguments_of, assert_same_bits, everything, infer, train
from tolerance import Tolerance, assert_within

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
CHOICES = {dtype: pairwise(seed) for seed, dtype in enumerate(DTYPES)}
CASES = [(dtype, index) for dtype in DTYPES for index in range(len(CHOICES[dtype]))]


@functools.cache
def case(dtype: torch.dtype, index: int) -> tuple:
    """Layer, cotangents and what the definition says, for all ISAs."""
    layer, cotangents = layer_of(CHOICES[dtype][index], dtype, seed=1000 + index)
    return layer, cotangents, definition(layer, cotangents)


def test_every_two_values_of_every_two_features_are_combined():
    for choices in CHOICES.values():
        covered = {pair for choice in choices for pair in all_pairs() if set(pair) <= set(choice.items())}
        assert covered == all_pairs()
        assert all(set(choice) == set(FEATURES) for choice in choices)


@pytest.mark.parametrize(("dtype", "index"), CASES, ids=[f"{str(dtype)[6:]}-{index}" for dtype, index in CASES])
@pytest.mark.parametrize("isa", ISAS)
def test_layer(isa, dtype, index):
    layer, cotangents, expected = case(dtype, index)
    threads = CHOICES[dtype][index]["threads"]
    actual = worker(isa)(train, arguments_of(layer), cotangents, everything(layer), threads)
    assert_within(actual, expected, Tolerance.of(layer))
    inferred = worker(isa)(infer, arguments_of(layer), threads)
    assert_same_bits(inferred, {name: actual[name] for name in inferred})


# T, B, I, H, P: beyond the blocks in which memory is walked (512 deep, 96 rows), where a case is too large to combine
LARGE = [(3, 4, 700, 150, 0), (2, 130, 40, 33, 0), (110, 6, 20, 24, 0), (2, 3, 5, 40, 530), (70, 17, 129, 140, 7)]


@pytest.mark.parametrize("size", LARGE, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_large(isa, dtype, size):
    layer, cotangents, expected = large_case(dtype, size)
    actual = worker(isa)(train, arguments_of(layer), cotangents, everything(layer), 2)
    assert_within(actual, expected, Tolerance.of(layer))


@functools.cache
def large_case(dtype: torch.dtype, size: tuple[int, ...]) -> tuple:
    layer = Layer.random(*size, dtype=dtype, direction="both")
    cotangents = cotangents_of(layer)
    return layer, cotangents, definition(layer, cotangents)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_16_bit_outputs_are_the_definition_rounded(isa, dtype):
    """h is rounded to the very same numbers but where float32 errors cross the middle between two of them.

    That happens to a share of about state/v of all values (see tolerance.py). Without rounding at every step nearly
    half of them would differ.
    """
    layer = Layer.random(20, 17, 33, 63, dtype=dtype, direction="both")
    tolerance = Tolerance.of(layer)
    actual = worker(isa)(infer, arguments_of(layer))
    expected = definition(layer, None)
    float32_state = Tolerance(torch.float32, tolerance.T, tolerance.B, tolerance.I, tolerance.H, tolerance.P).state
    for name in ("y", "h_n", "c_n"):
        different = (actual[name] != expected[name]).double().mean().item()
        assert different <= 5 * float32_state / tolerance.v + 2 / actual[name].numel(), (name, different)
