"""benchmarks --device cuda with the CPU in the GPU's place: torch.cuda is faked, tensors lie on the CPU, and rivals
that exist for CUDA only are small stand-ins with the documented interface of the real ones, so that what translates
weights and gradients for them is tested. No time measured here means anything."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

import benchmarks.run
from benchmarks import __main__ as program
from benchmarks import limits, measure, memory, sentiment
from benchmarks.clocks import CudaClock
from benchmarks.gpu import clock as device_clock
from benchmarks.peers import PEERS
from benchmarks.plan import Group
from benchmarks.problem import Problem, worst_error
from benchmarks.results_file import read
from benchmarks.shapes import parse


class FakeCuda:
    """What benchmarks ask of torch.cuda; ``log`` keeps the order of what happened."""

    def __init__(self):
        self.log, self.refuse_capture = [], False

    def is_available(self):
        return True

    def get_device_name(self):
        return "NVIDIA Abacus 80GB"

    def get_device_properties(self, index):
        return SimpleNamespace(name=self.get_device_name(), L2_cache_size=1 << 10, major=9, minor=0)

    def synchronize(self):
        self.log.append("synchronize")

    def Event(self, enable_timing):
        assert enable_timing
        cuda = self

        class Event:
            def record(self):
                cuda.log.append("record")
                self.at = time.perf_counter()

            def synchronize(self):
                cuda.log.append("wait")

            def elapsed_time(self, other):
                return (other.at - self.at) * 1e3

        return Event()

    def Stream(self):
        return SimpleNamespace(wait_stream=lambda other: None)

    current_stream = Stream

    def stream(self, stream):
        return _Nothing()

    def CUDAGraph(self):
        return SimpleNamespace(replay=lambda: self.log.append("replay"))

    def graph(self, graph):
        if self.refuse_capture:
            raise RuntimeError("operation not permitted when stream is capturing\nmore words")
        return _Nothing()

    def reset_peak_memory_stats(self):
        self.log.append("reset")

    def memory_allocated(self):
        return 1000

    def max_memory_allocated(self):
        return 5000


class _Nothing:
    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return False


@pytest.fixture(autouse=True)
def cuda(monkeypatch):
    fake = FakeCuda()
    monkeypatch.setattr(device_clock, "cuda", fake)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield fake
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    torch.autograd.set_multithreading_enabled(True)


# ---- rivals for CUDA


def _lstm(weights, x, state=None):
    """nn.LSTM's own cell in a loop that torch differentiates; x (T, B, I), any gate order undone by the caller."""
    w_ih, w_hh, b = weights
    h, c = state or (x.new_zeros(x.shape[1], w_hh.shape[1]),) * 2
    outputs = []
    for step in x:
        i, f, g, o = (step @ w_ih.t() + h @ w_hh.t() + b).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append((h, c))
    h, c = (torch.stack(kind) for kind in zip(*outputs))
    return h, c


class HasteLstm(nn.Module):
    """haste_pytorch.LSTM: kernels (in, 4H), gates i g f o, one bias."""

    def __init__(self, input_size, hidden_size):
        super().__init__()

    def from_native_weights(self, w_ih, w_hh, b_ih, b_hh):
        def kernel(t):
            i, f, g, o = t.t().chunk(4, -1) if t.dim() == 2 else t.chunk(4, -1)
            return nn.Parameter(torch.cat([i, g, f, o], -1).detach().clone())

        self.kernel, self.recurrent_kernel, self.bias = kernel(w_ih), kernel(w_hh), kernel(b_ih + b_hh)

    def forward(self, x, state=None):
        def native(t):
            i, g, f, o = t.chunk(4, -1)
            return torch.cat([i, f, g, o], -1)

        weights = native(self.kernel).t(), native(self.recurrent_kernel).t(), native(self.bias)
        h, c = _lstm(weights, x, state and (state[0][0], state[1][0]))
        return h, (h[-1:], c[-1:])


def lstm_triton(x, hidden, cell, w_ih, w_hh, b_ih, b_hh, is_init, compute_dtype):
    """torchrl: batch first; hidden and cell (B, T, H): what a row starts from where is_init says so, and at step 0."""
    h, c, outputs = hidden[:, 0], cell[:, 0], []
    for t in range(x.shape[1]):
        begins = is_init[:, t, None]
        h, c = torch.where(begins, hidden[:, t], h), torch.where(begins, cell[:, t], c)
        h, c = (kind[0] for kind in _lstm((w_ih, w_hh, b_ih + b_hh), x[None, :, t], (h, c)))
        outputs.append((h, c))
    h_all, c_all = (torch.stack(kind, 1) for kind in zip(*outputs))
    return h_all, c_all, h, c


def flashrnn(Wx, R, b, function, backend, dtype):
    """flashrnn: Wx (B, T, gates, heads, D), R (gates, heads, D, previous), b (gates, heads, D); states (S, B, T, ..)"""
    assert (function, backend, dtype) == ("lstm", "cuda_fused", "float32") and R.shape[1] == 1
    B, T, G, _, D = Wx.shape
    identity = torch.eye(G * D)
    weights = identity, R.reshape(G * D, D), b.reshape(G * D)
    h, c = _lstm(weights, Wx.reshape(B, T, G * D).transpose(0, 1))
    states = torch.stack([h, c]).transpose(1, 2).unsqueeze(3)
    return states, states[:, :, -1:]


@pytest.fixture
def rivals(monkeypatch):
    triton = ModuleType("torchrl.modules.tensordict_module._rnn_triton")
    triton.lstm_triton = lstm_triton
    modules = {
        "haste_pytorch": SimpleNamespace(LSTM=HasteLstm), "flashrnn": SimpleNamespace(flashrnn=flashrnn),
        "torchrl": ModuleType("torchrl"), "torchrl.modules": ModuleType("torchrl.modules"),
        "torchrl.modules.tensordict_module": ModuleType("torchrl.modules.tensordict_module"), triton.__name__: triton,
    }  # fmt: skip
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    find = sys.modules["importlib.util"].find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True if name in modules else find(name))
    return ("haste", "flashrnn", "torchrl-triton")


@pytest.mark.parametrize("mode", ["inference", "training", "latency"])
@pytest.mark.parametrize("spec", ["5,3,4,8", "5,3,4,8>6", "9,3,4,8,resets"])
def test_rivals_for_cuda_get_the_right_weights_and_give_the_right_gradients(rivals, spec, mode):
    problem, compared = Problem(parse(spec), "float32", mode), 0
    expected = problem.expected()
    for name in (*rivals, "torch-benchmark"):
        assert PEERS[name].missing("cuda") is None
        if PEERS[name].refuses(problem) is None:
            call = PEERS[name].call(problem, 1)
            assert worst_error(call.results(call.run()), expected) < 2e-6, name
            compared += 1
    assert compared == {"resets": 2}.get(spec.split(",")[-1], 3 if mode == "latency" else 4)
    assert not torch.backends.cudnn.benchmark


def test_torchrl_gets_states_and_resets_that_were_made_once(rivals, monkeypatch):
    given = []

    def seen(x, hidden, cell, *weights_and_starts):
        given.append([t.data_ptr() for t in (hidden, cell, weights_and_starts[4])])
        return lstm_triton(x, hidden, cell, *weights_and_starts)

    monkeypatch.setattr(sys.modules["torchrl.modules.tensordict_module._rnn_triton"], "lstm_triton", seen)
    call = PEERS["torchrl-triton"].call(Problem(parse("5,3,4,8,resets"), "float32", "training"), 1)
    before = call.run(), call.run()  # alive, so that memory of the first is not the second's
    assert len(before) == 2 and given[0] == given[1]


def test_an_older_torchrl_is_missing(rivals, monkeypatch):
    monkeypatch.delattr(sys.modules["torchrl.modules.tensordict_module._rnn_triton"], "lstm_triton")
    assert "this torchrl has no lstm_triton" in PEERS["torchrl-triton"].missing("cuda")


# ---- the clock


def test_events_stand_round_one_call_and_the_cache_is_emptied_before(cuda):
    clock = CudaClock("cuda", "cpu")
    clock._buffer.fill_(7)
    seen = []

    def call():
        seen.append(int(clock._buffer.max()))
        cuda.log.append("call")
        time.sleep(0.002)

    assert clock.calls(call) == 1 and len(seen) == 2
    cuda.log.clear()
    assert clock.sample(call) >= 0.002
    assert cuda.log == ["record", "call", "record", "wait"] and set(seen) == {0}
    assert not clock.disturbed and clock._buffer.numel() >= 64 << 20


def test_calls_on_other_streams_are_waited_for_on_both_sides(cuda):
    """Torch's stream still empties the cache when such a call begins, and its events know nothing of the call's end."""
    clock = CudaClock("cuda", "cpu", own_streams=True)
    clock.sample(lambda: cuda.log.append("call"))
    assert cuda.log == ["synchronize", "record", "call", "synchronize", "record", "wait"]
    bench = measure.Bench("cuda", lambda *of: None, 0.01, "cpu")
    own = {name for name, peer in PEERS.items() if bench.clock(1, peer)._own_streams}
    assert own == {"jax", "flax", "onnxruntime"} and bench.clock(1, PEERS["jax"]) is bench.clock(1, PEERS["flax"])


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_jax_multiplies_in_the_precision_of_the_dtype(monkeypatch, mode):
    """XLA's default on CUDA is TF32 whatever the type; it counts while code is traced and compiled."""
    precision, seen = [], []

    @contextlib.contextmanager
    def default_matmul_precision(name):
        precision.append(name)
        yield
        precision.pop()

    def jit(function):
        compiled = SimpleNamespace(compile=lambda: seen.append(list(precision)))
        return SimpleNamespace(lower=lambda *arguments: compiled)

    fake = SimpleNamespace(
        devices=lambda platform: [platform], device_put=lambda array, device: array, jit=jit,
        default_matmul_precision=default_matmul_precision,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "jax", fake)
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(PEERS["jax"], "forward_of", lambda problem: None)
    for dtype in ("float32", "tf32"):
        problem = Problem(parse("2,2,3,4"), dtype, mode)
        assert PEERS["jax"].refuses(problem) is None
        PEERS["jax"].call(problem, 1)
    assert seen == [["float32"], ["tensorfloat32"]]
    assert "once in a process" in PEERS["jax"].refuses(problem, threads=2)


# ---- a whole run


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Runs the program and returns its rows."""
    monkeypatch.setattr(benchmarks.run, "Runner", functools.partial(benchmarks.run.Runner, where="cpu"))
    monkeypatch.setattr(limits, "SECONDS", 1e-4)

    def run(*argv):
        output = tmp_path / "cuda.jsonl"
        status = program.main(["--device", "cuda", "--seconds", "0.01", "--no-plots", "--output", str(output), *argv])
        return status, read(output)

    return run


def rows(records, **wanted):
    return [r for r in records if r["kind"] == "row" and all(r[key] == value for key, value in wanted.items())]


def test_a_run_eager_and_as_graphs(measured, cuda, capsys):
    peers = ["torch", "torch-benchmark", "onnxruntime", "haste"]
    status, records = measured("--shapes", "3,2,4,8", "1,2,4,8", "--dtypes", "float32", "tf32", "--peers", *peers)
    assert status == 0
    machine = records[0]
    assert machine["machine"] == "nvidia-abacus-80gb" and machine["gpu"]["L2_cache_size"] == 1 << 10
    (limit, *_) = (r for r in records if r["kind"] == "limits")
    assert limit["fma_gflops"] == {} and limit["gemm_gflops"]["float32"] > 0 and limit["memory_gb_per_s"] > 0
    for mode in ("inference", "training", "latency"):
        for dtype in ("float32", "tf32"):
            found = {r["peer"]: r for r in rows(records, mode=mode, dtype=dtype)}
            assert {"torch", "torch-benchmark", "torch+graph", "torch-benchmark+graph"} <= set(found)
            assert found["torch"]["clock"] == "CUDA events" and found["torch"]["peak_of"] == "GEMM"
            assert found["haste"]["status"] == "missing" and found["onnxruntime"]["status"] in ("missing", "refused")
    assert "replay" in cuda.log and "without haste: haste_pytorch is not installed" in capsys.readouterr().out


def test_what_cannot_be_captured_is_said_and_eager_rows_stay(measured, cuda):
    cuda.refuse_capture = True
    status, records = measured("--shapes", "3,2,4,8", "--modes", "training", "--dtypes", "bfloat16", "--peers", "torch")
    found = {r["peer"]: r for r in rows(records)}
    assert status == 0 and found["torch"]["ratio"] > 0 and set(found) == {"torch", "torch+graph", "fused+graph"}
    assert found["torch+graph"]["note"] == "cannot be captured: operation not permitted when stream is capturing"


def test_memory_is_that_of_the_allocator(measured, cuda):
    status, records = measured("--shapes", "3,2,4,8", "--modes", "memory", "--dtypes", "float32")
    (torch_row, recompute) = rows(records, section="memory")
    assert status == 0 and torch_row["peak"] == torch_row["ours_peak"] == 4000 and "reset" in cuda.log
    assert recompute["peer"] == "fused-recompute" and recompute["saved"] > 0
    here = memory.measure_here(PEERS["torch"], parse("3,2,4,8"), "float32", 1, "cuda", "cpu")
    assert here["peak"] == 4000 and here["saved"] > 0


def test_a_suite_of_many_sections(measured, monkeypatch):
    """Every section that exists on CUDA, each cut down to its smallest problem."""
    whole = benchmarks.plan.groups

    def cut(wishes):
        chosen: dict[tuple, Group] = {}
        for group in whole(wishes):
            chosen.setdefault((group.section, group.axis, group.mode), group)
        small = parse("2,2,3,4")
        return [Group(g.section, small, g.mode, g.dtype, 1, ("torch",), g.axis) for g in chosen.values()]

    monkeypatch.setattr(benchmarks.plan, "groups", cut)
    monkeypatch.setattr(sentiment, "samples_per_second", lambda lstm, threads, settings, device: 7.0)
    status, records = measured("--suite", "quick")
    sections, everywhere = {r["section"] for r in rows(records)}, set(benchmarks.plan.SECTIONS) - {"parts", "scaling"}
    assert status == 0 and sections >= everywhere | {"scaling T"}
    assert {r["device"] for r in rows(records)} == {"cuda"}
