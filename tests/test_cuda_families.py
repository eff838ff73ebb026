"""The CUDA operators served by kernels with weights on chip, by name: operator, plan, kernels and emulator together."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import dataclass

import operators
import pytest
import torch
from cuda_emulated import emulated_ops
from layer_sampling import Choice, definition, layer_of, pairwise
from operators import arguments_of, assert_same_bits, everything
from tolerance import Tolerance, assert_within

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
FAMILIES = ["cluster", "grid"]
CASES = 24  # of each dtype and family


@dataclass(frozen=True)
class Tf32(Tolerance):
    """float32 whose recurrent products see 10 bits of both factors: an error of sqrt(2) 2^-11 in each of P products.

    Errors of weights are the same at every step, so that those of different steps add up.
    """

    @property
    def product(self) -> float:
        return math.sqrt(2) * 2.0**-11

    @property
    def state(self) -> float:
        return super().state + self._memory**2 * self.product * math.sqrt(self.P / self.H)

    @property
    def chain(self) -> float:
        return super().chain + self._memory**2 * self.product


def choices(seed: int) -> list[Choice]:
    """What these families take, small enough for an emulator."""
    found: list[Choice] = []
    for choice in pairwise(seed):
        choice |= {"projection": "none", "scale": False, "cell": "vanilla", "cell_clip": False}
        choice["H"] = min(choice["H"], 63)
        if choice not in found:
            found.append(choice)
    return found[:CASES]


CHOICES = {dtype: choices(seed) for seed, dtype in enumerate(DTYPES, start=300)}


@pytest.fixture(params=FAMILIES)
def family(request, monkeypatch) -> str:
    monkeypatch.setenv("FUSED_LSTM_CUDA_FAMILY", request.param)
    monkeypatch.setattr(operators, "torch", emulated_ops())
    torch.ops.fused_lstm_emulated.emulate(0, False)
    return request.param


@pytest.mark.parametrize("index", range(CASES))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layer(family, dtype, index):
    torch.ops.fused_lstm_emulated.emulate(index, False)
    layer, cotangents = layer_of(CHOICES[dtype][index], dtype, seed=7000 + index)
    arguments = arguments_of(layer)
    launches = torch.ops.fused_lstm_emulated.launches()
    actual = operators.train(arguments, cotangents, everything(layer), allow_tf32=True)
    assert torch.ops.fused_lstm_emulated.launches() == launches + 2, "forward and backward are one launch each"
    tolerance = Tolerance.of(layer)
    if dtype == torch.float32:
        tolerance = Tf32(**vars(tolerance))
    assert_within(actual, definition(layer, cotangents), tolerance)
    inferred = operators.infer(arguments, allow_tf32=True)
    assert_same_bits(inferred, {name: actual[name] for name in inferred})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_padding_holds_does_not_matter(family, dtype):
    choice = {**CHOICES[dtype][0], "T": 5, "B": 6, "I": 3, "H": 20, "rows": "lengths", "direction": "both"}
    layer, cotangents = layer_of(choice, dtype, seed=3)
    x, lengths = layer.variables["x"], layer.constants["lengths"]
    first = 1 if layer.options["batch_first"] else 0
    time = torch.arange(5).unsqueeze(1 - first)
    padding = time >= lengths.unsqueeze(first)
    assert padding.any()
    results = []
    for filling in (0.0, torch.nan, torch.inf):
        layer.variables["x"] = torch.where(padding.unsqueeze(-1), torch.tensor(filling, dtype=dtype), x)
        results.append(operators.train(arguments_of(layer), cotangents, everything(layer), allow_tf32=True))
    for name, value in results[0].items():
        assert not value.isnan().any(), name
        if name != "dx":
            assert all(torch.equal(value, other[name]) for other in results[1:]), name


# Units that fill each compiled shape, or all but one.
SHAPES = {
    "cluster": [(dtype, H) for dtype in DTYPES for H in (128, 255, 256)]
    + [(torch.bfloat16, 511), (torch.float16, 512)],
    "grid": [(dtype, H) for dtype in DTYPES for H in (250, 512)] + [(torch.bfloat16, 1024)],
}


@pytest.mark.parametrize(
    ("family", "dtype", "H"),
    [(name, *each) for name, shapes in SHAPES.items() for each in shapes],
    ids=str,
    indirect=["family"],
)
def test_shapes_of_the_device(family, dtype, H):
    """What was compiled for hardware, not only the small shapes that other tests use."""
    choice = {**CHOICES[dtype][0], "T": 3, "B": 3, "I": 2, "H": H, "direction": "forward", "rows": "all"}
    layer, cotangents = layer_of(choice, dtype, seed=H)
    launches = torch.ops.fused_lstm_emulated.launches()
    actual = operators.train(arguments_of(layer), cotangents, everything(layer), allow_tf32=True)
    backward_too = family != "cluster" or dtype != torch.float16 or H <= 256
    assert torch.ops.fused_lstm_emulated.launches() == launches + (2 if backward_too else 1)
    tolerance = Tolerance.of(layer)
    if dtype == torch.float32:
        tolerance = Tf32(**vars(tolerance))
    assert_within(actual, definition(layer, cotangents), tolerance)


PRELUDE = f"""
import sys
sys.path[:0] = {sys.path!r}
import torch
from cuda_emulated import emulated_ops
from layer_cases import Layer
import operators

operators.torch = emulated_ops()
ops = torch.ops.fused_lstm_emulated
"""

NO_LEAVE = PRELUDE + """
layer = Layer.random(4, 3, 5, 20, dtype=torch.float32)
operators.train(operators.arguments_of(layer), (torch.ones(4, 3, 20), None, None), 1 | 8 | 16 | 32)
print(ops.launches())
"""

WITHOUT_ROOM = PRELUDE + """
layer = Layer.random(4, 3, 5, 20, dtype=torch.bfloat16)
pull = (torch.ones(4, 3, 20).bfloat16(), None, None)
run = lambda: operators.train(operators.arguments_of(layer), pull, 1 | 8 | 16 | 32)
expected = run()
ops.emulate(0, True)
found, again = run(), run()
print(max(((found[k].double() - expected[k].double()).norm() / expected[k].double().norm()).item() for k in found))
ops.emulate(0, False)
before = ops.launches()
run()
print(ops.launches() - before)
print(*ops.cuda_served())
"""


def run(code: str, family: str) -> tuple[list[str], list[str]]:
    """Lines of stdout, and warnings, of a process of its own: what was said or failed once is remembered."""
    environment = {**os.environ, "FUSED_LSTM_CUDA_FAMILY": family}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = [line for line in done.stdout.splitlines() if not line.startswith("ninja: ")]
    return printed, [line for line in done.stderr.splitlines() if "Warning: " in line]


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_needs_leave_to_round(family):
    (launches,), (warning,) = run(NO_LEAVE, family)
    assert launches == "0"
    assert f"fused_lstm: {family} was asked for, but it multiplies float32 as TF32" in warning
    assert "stepwise serves instead" in warning


@pytest.mark.parametrize("family", FAMILIES)
def test_a_refused_launch_falls_back_once_with_a_warning(family):
    """A shared or divided GPU may have no room for a cluster."""
    (error, launches_afterwards, served), warnings = run(WITHOUT_ROOM, family)
    assert float(error) < 0.02 and launches_afterwards == "0"
    ours = ["3 1 0 3 1 0", "3 0 1 3 0 1"][FAMILIES.index(family)]
    assert served == ours, "calls of stepwise, cluster and grid; forward, then backward"
    assert len(warnings) == 2
    for warning, name in zip(warnings, ("forward", "backward")):
        assert f"fused_lstm: the {name} kernel of family {family} for 20 hidden units cannot be launched" in warning


def test_an_unknown_family_is_an_error(family, monkeypatch):
    monkeypatch.setenv("FUSED_LSTM_CUDA_FAMILY", "fastest")
    layer, _ = layer_of(CHOICES[torch.bfloat16][0], torch.bfloat16, seed=1)
    with pytest.raises(ValueError, match='must be auto, stepwise, cluster or grid, but is "fastest"'):
        operators.infer(arguments_of(layer))
