"""Memory: nothing leaks, what is released is used again, and results live as long as somebody holds them."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import threading

import pytest
import torch
from layer_cases import Layer
from layer_sampling import cotangents_of
from operators import arguments_of, backward, everything, forward

KIB, MIB = 2**10, 2**20
LARGE = (32, 16, 64, 128)  # T, B, I, H: reserve and most gradients come from the pool


@pytest.fixture(autouse=True)
def _fresh_pool():
    torch.ops.fused_lstm.trim_memory()
    yield
    torch.ops.fused_lstm.poison_memory(False)
    torch.ops.fused_lstm.trim_memory()


def layer_and_cotangents(*size: int, **features) -> tuple[Layer, tuple]:
    layer = Layer.random(*size, **{"dtype": torch.float32, **features})
    return layer, cotangents_of(layer)


def step(layer: Layer, cotangents: tuple) -> tuple:
    y, h_n, c_n, reserve = forward(arguments_of(layer), save=True)
    return y, h_n, c_n, reserve, backward(arguments_of(layer), cotangents, y, reserve, everything(layer))


GROWTH = """
import torch
from test_memory import GROWTH_CALLS, layer_and_cotangents, step
import fused_lstm

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

torch.set_num_threads(2)
layers = [
    layer_and_cotangents(4, 3, 5, 7, P=2, direction="both", lengths=True, scale=True, cell="peephole"),
    layer_and_cotangents(3, 4, 9, 17, direction="both", packed=True, cell="zoneout", resets=True, dtype=torch.bfloat16),
    layer_and_cotangents(2, 17, 40, 65, batch_first=True),
]
weights = [torch.randn(28, k, requires_grad=True) for k in (5, 7)]

def call():
    for layer, cotangents in layers:
        step(layer, cotangents)
    y, _, _ = fused_lstm.lstm_layer(torch.randn(4, 3, 5), None, None, weights)
    y.sum().backward()
    try:
        fused_lstm.lstm_layer(torch.randn(4, 3, 6), None, None, weights)
        raise AssertionError
    except RuntimeError:
        pass

for _ in range(GROWTH_CALLS // 4):
    call()
before = resident()
for _ in range(GROWTH_CALLS):
    call()
print(resident() - before)
"""
GROWTH_CALLS = 2000


def test_no_growth():
    """2000 rounds of every kind of call, refused ones too: 64 bytes a call would be 512 KiB."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-c", GROWTH]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 512 * KIB


def test_released_memory_is_used_again():
    """After the first step of training no step has to touch a fresh page: that would cost more than its numbers."""
    layer, cotangents = layer_and_cotangents(*LARGE)
    page, steps = 4096, 20
    *_, reserve, gradients = step(layer, cotangents)
    pooled = sum(t.numel() * t.element_size() for t in (reserve, *gradients.values()))
    assert pooled >= MIB, "the test is about large tensors"
    del reserve, gradients
    step(layer, cotangents)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        step(layer, cotangents)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults * page < steps * pooled / 10


def test_trimming_returns_what_is_idle_and_only_that():
    trim = torch.ops.fused_lstm.trim_memory
    layer, cotangents = layer_and_cotangents(*LARGE)
    y, h_n, c_n, reserve, gradients = step(layer, cotangents)
    trim()
    assert trim() == 0
    kept = [t.clone() for t in (y, reserve, *gradients.values())]
    size = reserve.numel() * reserve.element_size()
    del reserve
    freed = trim()
    assert size <= freed <= size + 3 * MIB
    assert trim() == 0
    for t, copy in zip((y, *gradients.values()), (kept[0], *kept[2:]), strict=True):
        assert torch.equal(t, copy)


@pytest.mark.parametrize("size", [LARGE, (3, 2, 5, 7)], ids=str)
def test_results_outlive_everything_else(size):
    layer, cotangents = layer_and_cotangents(*size, direction="both")
    results = [step(layer, cotangents) for _ in range(3)]
    flat = [t for r in results for t in (*r[:4], *r[4].values())]
    copies = [t.clone() for t in flat]
    assert len({t.data_ptr() for t in flat}) == len(flat), "two results share memory"
    views = [t.flatten()[1:] for t in flat]
    del layer, cotangents, results, flat
    gc.collect()
    torch.ops.fused_lstm.trim_memory()
    torch.ops.fused_lstm.poison_memory(True)  # whatever is handed out from here on is overwritten
    for _ in range(5):
        step(*layer_and_cotangents(*size, direction="both"))
    for view, copy in zip(views, copies, strict=True):
        # NaN is what padding of the reserve may hold
        torch.testing.assert_close(view, copy.flatten()[1:], rtol=0, atol=0, equal_nan=True)


def test_results_are_ordinary_tensors():
    layer, cotangents = layer_and_cotangents(*LARGE)
    for t in step(layer, cotangents)[:3]:
        copy = t.clone()
        assert torch.equal(t.mul_(2), copy * 2)
        assert t.untyped_storage().nbytes() == t.numel() * t.element_size()
        assert t.resize_(2 * t.numel()).numel() == 2 * copy.numel()


def test_results_released_by_another_thread():
    layer, cotangents = layer_and_cotangents(*LARGE)
    held = [step(layer, cotangents)]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    freed = torch.ops.fused_lstm.trim_memory()
    assert freed >= MIB
