"""lstm_layer_backward: what is asked for comes back and nothing else, the same bits every time."""

from __future__ import annotations

import random

import pytest
import torch
from isa_worker import ISAS, worker
from layer_cases import Layer
from layer_sampling import cotangents_of
from operators import NEEDS, Results, arguments_of, assert_same_bits, backward, everything, forward, infer, train

T, B, I, H = 6, 5, 9, 19  # noqa: E741
EVERY_BIT = {"P": 4, "scale": True, "cell": "peephole"}  # a layer whose every argument has a gradient
LAYERS = [
    {"dtype": torch.float32, "direction": "both", "resets": True, **EVERY_BIT},
    {"dtype": torch.float64, "direction": "reverse", "lengths": True, **EVERY_BIT},
    {"dtype": torch.bfloat16, "direction": "both", "packed": True, **EVERY_BIT},
    {"dtype": torch.float32, "direction": "forward", "cell": "zoneout", "scale": True, "bias": False},
    {"dtype": torch.float32, "direction": "both", "batch_first": True, "lengths": True},
]


def all_masks(arguments: list, cotangents: tuple, masks: list[int], threads: int) -> list[Results]:
    torch.set_num_threads(threads)
    y, _, _, reserve = forward(arguments, save=True)
    return [backward(arguments, cotangents, y, reserve, needs) for needs in masks]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("features", LAYERS, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_needs(isa, features, threads):
    layer = Layer.random(T, B, I, H, **features)
    cotangents = cotangents_of(layer)
    full = everything(layer)
    singles = [1 << bit for bit in range(len(NEEDS)) if full >> bit & 1]
    masks = [0, *singles, *(full & ~single for single in singles)]
    masks += [random.Random(seed).getrandbits(9) & full for seed in range(25)]
    expected, *found = worker(isa)(all_masks, arguments_of(layer), cotangents, [full, *masks], threads)
    for needs, results in zip(masks, found, strict=True):
        wanted = [name for bit, name in enumerate(NEEDS) if needs >> bit & 1]
        assert {name[1:].split(".")[0] for name in results} == set(wanted)
        assert_same_bits(results, {name: expected[name] for name in results})


@pytest.mark.parametrize("features", LAYERS, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_no_cotangent_means_zeros(isa, features):
    layer = Layer.random(T, B, I, H, **features)
    cotangents = cotangents_of(layer)
    for present in [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), ()]:
        some = tuple(g if k in present else None for k, g in enumerate(cotangents))
        zeros = tuple(g if k in present else torch.zeros_like(g) for k, g in enumerate(cotangents))
        actual = worker(isa)(train, arguments_of(layer), some, everything(layer))
        assert_same_bits(actual, worker(isa)(train, arguments_of(layer), zeros, everything(layer)))
        if not present:
            assert all((value == 0).all() for name, value in actual.items() if name.startswith("d"))


def repeatedly(arguments: list, cotangents: tuple, needs: int, threads: int) -> tuple[list[Results], bool]:
    """Forward and backward twice over, two backwards on the reserve of each; were the arguments left alone?"""
    torch.set_num_threads(threads)
    found, tensors = [], [*(t for t in arguments[:3] if t is not None), *arguments[3], *cotangents]
    before = [t.clone() for t in tensors]
    for _ in range(2):
        y, h_n, c_n, reserve = forward(arguments, save=True)
        kept = y.clone(), reserve.clone()
        for _ in range(2):
            gradients = backward(arguments, cotangents, y, reserve, needs)
            found.append({"y": y, "h_n": h_n, "c_n": c_n, **gradients})
        tensors += [y, reserve]
        before += kept
    same = [(t == b) | (t.isnan() & b.isnan()) for t, b in zip(tensors, before, strict=True)]
    return found, all(each.all() for each in same)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [(4, 33, 40, 64), (4, 2, 64, 129)], ids=str)
@pytest.mark.parametrize("features", LAYERS, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_same_bits_every_time(isa, features, size, threads):
    layer = Layer.random(*size, **features)
    cotangents = cotangents_of(layer)
    first, *others = (found := worker(isa)(repeatedly, arguments_of(layer), cotangents, everything(layer), threads))[0]
    assert found[1], "an argument was written to"
    for other in others:
        assert_same_bits(other, first)


@pytest.mark.parametrize("size", [(T, B, I, H), (9, 33, 40, 64), (5, 2, 64, 129), (1, 1, 3, 5)], ids=str)
@pytest.mark.parametrize("features", LAYERS, ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_inference_has_the_bits_of_training(isa, features, size):
    layer = Layer.random(*size, **features)
    for threads in (1, 2):
        inferred = worker(isa)(infer, arguments_of(layer), threads)
        trained = worker(isa)(train, arguments_of(layer), cotangents_of(layer), 0, threads)
        assert_same_bits(inferred, trained)
