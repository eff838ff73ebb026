"""Every CUDA family on a GPU, by name, against the definition and against torch.nn.LSTM on the same device.

Skipped where there is no GPU. So that the tests themselves are known to run, a few of their cases are rehearsed with
CPU tensors, where the family makes no difference.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import pytest
import torch
from layer_cases import Layer, gradients, random_cotangents
from layer_sampling import cotangents_of, definition, layer_of, pairwise
from operators import arguments_of, assert_same_bits, everything, infer, train
from tolerance import Tolerance, assert_within
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fused_lstm
from fused_lstm import FusedLSTM

FAMILIES = ["stepwise", "cluster", "grid"]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
CHOICES = {dtype: pairwise(seed) for seed, dtype in enumerate(DTYPES, start=200)}
ABSENT = (
    "no GPU: torch.cuda.is_available() is False" if not torch.cuda.is_available() else fused_lstm.cuda_error
)  # why CUDA tensors cannot be tested, or None
needs_gpu = pytest.mark.skipif(ABSENT is not None, reason=str(ABSENT))
PLACES = [pytest.param("cuda", id="on_device", marks=needs_gpu), pytest.param("cpu", id="rehearsal")]


@pytest.fixture(params=PLACES)
def device(request):
    return request.param


@pytest.fixture(params=FAMILIES)
def family(request, monkeypatch):
    monkeypatch.setenv("FUSED_LSTM_CUDA_FAMILY", request.param)
    return request.param


def some(values: Sequence) -> Sequence:
    """All of them, or without a GPU one: enough to say that they are skipped."""
    return values if ABSENT is None else values[:1]


def set_tf32(on: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on


@pytest.fixture(autouse=True)
def _float32_is_float32():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    set_tf32(False)
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def on(device: str, layer: Layer) -> Layer:
    """The layer with its tensors on the device, but for batch_sizes, which stays."""
    constants = {name: t if name == "batch_sizes" else t.to(device) for name, t in layer.constants.items()}
    return Layer({name: t.to(device) for name, t in layer.variables.items()}, constants, layer.options)


def trained(device: str, layer: Layer, cotangents) -> dict[str, torch.Tensor]:
    """Results and gradients of the raw operators; inference gives the same bits."""
    there = on(device, layer)
    actual = train(arguments_of(there), [None if g is None else g.to(device) for g in cotangents], everything(there))
    inferred = infer(arguments_of(there))
    assert_same_bits(inferred, {name: actual[name] for name in inferred})
    assert all(t.device.type == device for t in actual.values())
    return {name: t.cpu() for name, t in actual.items()}


# ---- against the definition


@functools.cache
def case(dtype: torch.dtype, index: int) -> tuple:
    layer, cotangents = layer_of(CHOICES[dtype][index], dtype, seed=7000 + index)
    return layer, cotangents, definition(layer, cotangents)


def cases(every: int = 1) -> list:
    found = [(dtype, index) for dtype in DTYPES for index in range(0, len(CHOICES[dtype]), every)]
    return [pytest.param(*pair, id=f"{str(pair[0])[6:]}-{pair[1]}") for pair in found]


def check_sampled(device: str, dtype: torch.dtype, index: int) -> None:
    layer, cotangents, expected = case(dtype, index)
    tolerance = dataclasses.replace(Tolerance.of(layer), projection_rounds="w_hr.0" in layer.variables)
    assert_within(trained(device, layer, cotangents), expected, tolerance)


@needs_gpu
@pytest.mark.parametrize(("dtype", "index"), some(cases()))
def test_sampled(family, dtype, index):
    check_sampled("cuda", dtype, index)


@pytest.mark.parametrize(("dtype", "index"), cases(every=20))
def test_sampled_rehearsal(family, dtype, index):
    check_sampled("cpu", dtype, index)


# T, B, I, H that families with weights on chip are made for, several tiles of rows among them
SIZES = [(5, 3, 16, 128), (9, 17, 33, 256), (6, 70, 64, 512), (3, 5, 40, 1024), (2, 9, 24, 2048)]
SHAPES = [
    dict(direction="both"),
    dict(direction="both", lengths=True),
    dict(packed=True),
    dict(direction="reverse", resets=True, batch_first=True),
]


FEW = {1024: [2], 2048: [1]}  # H: shapes, where the definition takes seconds
SIZED = [(size, k) for size in SIZES for k in FEW.get(size[3], range(len(SHAPES)))]
SIZED_NAMES = [f"{size}-{'-'.join(SHAPES[k])}" for size, k in SIZED]


@functools.cache
def sized_case(dtype: torch.dtype, size: tuple[int, ...], shape: int) -> tuple:
    layer = Layer.random(*size, dtype=dtype, **SHAPES[shape])
    cotangents = cotangents_of(layer)
    return layer, cotangents, definition(layer, cotangents)


@pytest.mark.parametrize(("size", "shape"), some(SIZED), ids=some(SIZED_NAMES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@needs_gpu
def test_made_for(family, dtype, size, shape):
    layer, cotangents, expected = sized_case(dtype, size, shape)
    assert_within(trained("cuda", layer, cotangents), expected, Tolerance.of(layer))


@pytest.mark.parametrize(("size", "shape"), some(SIZED), ids=some(SIZED_NAMES))
@needs_gpu
def test_tf32(family, size, shape):
    check_tf32("cuda", size, shape)


def test_tf32_rehearsal():
    check_tf32("cpu", *SIZED[1])


def check_tf32(device: str, size: tuple[int, ...], shape: int) -> None:
    """Operands keep 11 bits: a product is good to about 2^-11, and sums of random signs and few steps add little."""
    layer, cotangents, expected = sized_case(torch.float32, size, shape)
    set_tf32(True)  # what torch allows reaches the operators through lstm_layer
    there = [None if g is None else g.to(device) for g in cotangents]
    for name, value in gradients(on(device, layer), fused_lstm.lstm_layer, there).items():
        wanted = expected[name].double()
        error = (value.cpu().double() - wanted).norm() / wanted.norm().clamp_min(1e-30)
        assert error <= 8 * 2.0**-11, f"{name}: relative error {error:.2e}"


# ---- the module against torch.nn.LSTM

T, B, I, H = 9, 5, 12, 128
LENGTHS = torch.tensor([3, 9, 1, 4, 9])
OPTIONS = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 2, "batch_first": True, "bias": False},
    {"proj_size": 16, "bidirectional": True},
]


def pair(device: str, dtype: torch.dtype = torch.float32, **options) -> tuple[nn.LSTM, FusedLSTM]:
    theirs = nn.LSTM(I, H, **options, device=device, dtype=dtype)
    ours = FusedLSTM(I, H, **options, device=device, dtype=dtype)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def sequence(m: nn.LSTM) -> torch.Tensor:
    w = m.weight_ih_l0
    return torch.randn((B, T, I) if m.batch_first else (T, B, I), device=w.device, dtype=w.dtype, requires_grad=True)


def with_gradients(m: nn.LSTM, x: torch.Tensor, outputs: tuple[torch.Tensor, ...], cotangents) -> list[torch.Tensor]:
    return [*(y.detach() for y in outputs), *torch.autograd.grad(outputs, [x, *m.parameters()], cotangents)]


def assert_like(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    """Two float32 computations of gradients that sum at most T * B = 45 terms of order one."""
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_like_torch(device, family, options):
    theirs, ours = pair(device, **options)
    x = sequence(ours)
    y, (h, c) = theirs(x)
    cotangents = random_cotangents((y, h, c))
    expected = with_gradients(theirs, x, (y, h, c), cotangents)
    y, (h, c) = ours(x)
    assert_like(with_gradients(ours, x, (y, h, c), cotangents), expected)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_packed_and_lengths(device, family, options):
    theirs, ours = pair(device, **options)
    x, batch_first = sequence(ours), bool(options.get("batch_first"))

    def packed(m):
        y, (h, c) = m(pack_padded_sequence(x, LENGTHS, batch_first, enforce_sorted=False))
        return pad_packed_sequence(y, batch_first)[0], h, c

    expected = packed(theirs)
    cotangents = random_cotangents(expected)
    expected = with_gradients(theirs, x, expected, cotangents)
    assert_like(with_gradients(ours, x, packed(ours), cotangents), expected)
    y, (h, c) = ours(x, lengths=LENGTHS.to(device))
    assert_like(with_gradients(ours, x, (y, h, c), cotangents), expected)


def test_autocast_runs_in_bfloat16(device, family):
    _, ours = pair(device, num_layers=2, bidirectional=True)
    x = sequence(ours)
    with torch.autocast(device, torch.bfloat16):
        y, (h, c) = ours(x)
    in_bf16 = FusedLSTM(I, H, num_layers=2, bidirectional=True, device=device, dtype=torch.bfloat16)
    in_bf16.load_state_dict(ours.state_dict())
    y2, (h2, c2) = in_bf16(x.bfloat16())
    for a, b in ((y, y2), (h, h2), (c, c2)):
        assert a.dtype == torch.bfloat16 and torch.equal(a, b)
    y.float().sum().backward()
    assert x.grad.dtype == torch.float32 and ours.weight_hh_l1_reverse.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_same_bits_every_time(device, family, dtype):
    _, ours = pair(device, dtype, num_layers=2, bidirectional=True)
    x, lengths = sequence(ours), LENGTHS.to(device)

    def run():
        y, (h, c) = ours(x, lengths=lengths)
        return with_gradients(ours, x, (y, h, c), (torch.ones_like(y), torch.ones_like(h), torch.ones_like(c)))

    first = run()
    for _ in range(500 if device == "cuda" else 3):  # a race may show once in hundreds of launches
        assert all(torch.equal(a, b) for a, b in zip(run(), first, strict=True))


def test_gradients_in_eval_mode(device, family):
    _, ours = pair(device, num_layers=2)
    x = sequence(ours)
    expected = torch.autograd.grad(ours(x)[0].square().sum(), [x, *ours.parameters()])
    ours.eval()
    actual = torch.autograd.grad(ours(x)[0].square().sum(), [x, *ours.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_second_derivatives(device, family):
    layer = on(device, Layer.random(2, 2, 2, 3, direction="both", lengths=True)).requires_grad_()
    function = layer.function_of_variables(fused_lstm.lstm_layer)
    assert torch.autograd.gradgradcheck(function, tuple(layer.variables.values()), fast_mode=True)


# ---- what only a GPU has


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_captured_in_a_graph(family, dtype):
    """Forward and backward; played back with another input, other weights and other lengths."""
    _, ours = pair("cuda", dtype, num_layers=2, bidirectional=True)
    x, lengths = sequence(ours), LENGTHS.to("cuda")

    def run():
        y = ours(x, lengths=lengths)[0]
        return [y.detach(), *torch.autograd.grad(y.float().square().sum(), [x, *ours.parameters()])]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run(), run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()
    with torch.no_grad():
        for t in (x, *ours.parameters()):
            t.copy_(torch.randn_like(t) / 10)
        lengths.copy_(LENGTHS.flip(0))
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(results, run(), strict=True))


@needs_gpu
def test_the_current_stream_is_used(family):
    """The input is ready late, on a stream of its own: whoever works on another one reads what was there before."""
    _, ours = pair("cuda")
    late, expected = torch.randn(T, B, I, device="cuda"), None
    with torch.no_grad():
        expected = ours(late)[0]
    x, side = torch.zeros_like(late), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side), torch.no_grad():
        torch.cuda._sleep(100_000_000)  # cycles: tens of milliseconds
        x.copy_(late)
        y = ours(x)[0]
    side.synchronize()
    assert torch.equal(y, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_device_that_is_not_the_current_one(family):
    _, ours = pair("cuda:1")
    theirs = nn.LSTM(I, H, device="cuda:1")
    theirs.load_state_dict(ours.state_dict())
    x = sequence(ours)
    assert torch.cuda.current_device() == 0
    y, (h, c) = ours(x)
    cotangents = random_cotangents((y, h, c))
    actual = with_gradients(ours, x, (y, h, c), cotangents)
    y, (h, c) = theirs(x)
    assert_like(actual, with_gradients(theirs, x, (y, h, c), cotangents))


@needs_gpu
def test_the_host_never_waits(family):
    _, ours = pair("cuda", num_layers=2, bidirectional=True)
    x, lengths = sequence(ours), LENGTHS.to("cuda")
    resets = torch.rand(T, B, device="cuda") < 0.3
    run = lambda: ours(x, lengths=lengths, resets=resets)[0].sum().backward()  # noqa: E731
    run()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_gpu
def test_more_than_2_31_elements(family):
    """The last rows, which lie beyond 2^31, against the same rows alone."""
    T, B, H = 129, 8192, 512
    assert T * B * 4 * H > 2**31
    if torch.cuda.mem_get_info()[0] < 60 << 30:
        pytest.skip("needs 60 GiB of GPU memory")
    torch.manual_seed(0)
    ours = FusedLSTM(8, H, device="cuda", dtype=torch.bfloat16)
    x = torch.randn(T, B, 8, device="cuda", dtype=torch.bfloat16)
    results = []
    for rows in (x, x[:, -64:].contiguous()):
        rows = rows.detach().requires_grad_()
        y = ours(rows)[0]
        (dx,) = torch.autograd.grad(y, rows, torch.ones_like(y))
        results.append([t[:, -64:].float().clone() for t in (y.detach(), dx)])
        del y, dx
    for many, few in zip(*results, strict=True):  # sums of another order, rounded to bfloat16 at every step
        assert (many - few).norm() <= 2e-2 * few.norm()
