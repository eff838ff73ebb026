"""The CUDA operators, family `stepwise`, compiled for CPU tensors: what runs on a GPU but for the launches themselves.

torch.ops.fused_lstm_emulated is csrc/binding/op_cuda.cpp and csrc/cuda/stepwise.cu by the C++ compiler (tests/native).
"""

from __future__ import annotations

import dataclasses

import operators
import pytest
import torch
from cuda_emulated import emulated_ops
from layer_sampling import definition, layer_of, pairwise
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
    tolerance = dataclasses.replace(Tolerance.of(layer), projection_rounds="w_hr.0" in layer.variables)
    assert_within(actual, definition(layer, cotangents), tolerance)
    inferred = operators.infer(arguments_of(layer))
    assert_same_bits(inferred, {name: actual[name] for name in inferred})


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
