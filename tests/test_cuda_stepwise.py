"""The CUDA operators, family `stepwise`, compiled for CPU tensors: what runs on a GPU but for the launches themselves.

torch.ops.fused_lstm_emulated is csrc/binding/op_cuda.cpp and csrc/cuda/stepwise.cu by the C++ compiler (tests/native).
"""

from __future__ import annotations

import dataclasses

import operators
import pytest
import test_layer_rowwise
import torch
from cuda_emulated import emulated_ops
from layer_sampling import cotangents_of, definition, layer_of, pairwise
from operators import arguments_of, assert_same_bits, everything
from tolerance import Tolerance, assert_within
from torch._subclasses.fake_tensor import FakeTensorMode

import fused_lstm

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
CHOICES = {dtype: pairwise(seed) for seed, dtype in enumerate(DTYPES, start=100)}
CASES = [(dtype, index) for dtype in DTYPES for index in range(len(CHOICES[dtype]))]


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the functions of ``operators`` call the CUDA code."""
    monkeypatch.setenv("FUSED_LSTM_CUDA_FAMILY", "stepwise")
    monkeypatch.setattr(operators, "torch", emulated_ops())


@pytest.mark.parametrize(("dtype", "index"), CASES)
def test_layer(emulated, dtype, index):
    layer, cotangents = layer_of(CHOICES[dtype][index], dtype, seed=5000 + index)
    actual = operators.train(arguments_of(layer), cotangents, everything(layer))
    # scale * h is rounded on its way into W_hh, as o * tanh(c) on its way into W_hr
    rounds = "w_hr.0" in layer.variables or "recurrent_scale" in layer.variables
    tolerance = dataclasses.replace(Tolerance.of(layer), projection_rounds=rounds)
    assert_within(actual, definition(layer, cotangents), tolerance)
    inferred = operators.infer(arguments_of(layer))
    assert_same_bits(inferred, {name: actual[name] for name in inferred})


def test_lengths_below_zero_count_as_zero(emulated):
    choice = {**CHOICES[torch.float32][0], "rows": "lengths", "T": 4, "B": 3, "projection": "none", "state": "both"}
    for direction in ("forward", "reverse"):
        layer, cotangents = layer_of({**choice, "direction": direction}, torch.float32, seed=1)
        results = []
        for short in (-7, 0):
            layer.constants["lengths"] = torch.tensor([4, short, 2])
            results.append(operators.train(arguments_of(layer), cotangents, everything(layer)))
        assert_same_bits(*results)


def test_lengths_are_not_read_by_the_host(emulated):
    """A length beyond T is the kernels' own affair; checking it would make the host wait for the device."""
    layer, _ = layer_of({**CHOICES[torch.float32][0], "rows": "lengths", "T": 5, "B": 2}, torch.float32, seed=1)
    layer.constants["lengths"] = torch.tensor([99, 3])
    operators.infer(arguments_of(layer))


def test_cuda_tensors_are_refused_with_the_reason():
    if fused_lstm.cuda_error is None:
        pytest.skip("the operators serve CUDA tensors here")
    with FakeTensorMode():
        x = torch.empty(3, 2, 4, device="cuda")
        with pytest.raises(RuntimeError, match="cannot work on CUDA tensors here: .+"):
            fused_lstm.lstm_layer(x, None, None, [torch.empty(20, 4, device="cuda"), torch.empty(20, 5, device="cuda")])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", test_layer_rowwise.NAMES)
def test_cells_that_need_a_whole_row(emulated, name, dtype):
    for layer in test_layer_rowwise.layers_of(name, dtype):
        cotangents = cotangents_of(layer)
        actual = operators.train(arguments_of(layer), cotangents, everything(layer))
        # gradients at the gates are rounded to 16 bits here: once more than on the CPU, before sums
        factor = 3 if dtype in (torch.bfloat16, torch.float16) else 1
        limit = factor * test_layer_rowwise.bound(dtype)
        test_layer_rowwise.assert_close(actual, definition(layer, cotangents), limit)
        inferred = operators.infer(arguments_of(layer))
        assert_same_bits(inferred, {key: actual[key] for key in inferred})
