"""How far results of a layer may lie from the definition, derived from sizes and the unit roundoff; nothing is fitted.

Layers are those of ``layer_cases``: weights N(0, 1/H), inputs, states and cotangents N(0, 1), so |h| < 1.

u    unit roundoff of the type that is computed in: 2^-24, for float64 2^-53 (there times sqrt 2: the reference,
     computed in float64 too, has the same error)
v    unit roundoff of a 16-bit dtype, else 0

1. *A pre-activation* is a sum of K = I + P + 2 products, its size A = sqrt(K/H). Its roundings are independent enough
   to add up like a random walk (Higham & Mary 2019), each at most u times a partial sum of size A: sqrt(K) A u.
2. *One step.* sigmoid has slopes up to 1/4, tanh up to 1, so an error of a pre-activation reaches the state at most as
   it is; activations are good to 4 ulps (8 u) themselves; the cell multiplies and adds 3 times (3 u):
   step = (sqrt(K) A + 11) u, relative to 1 + |value|.
3. *T steps.* The forget gate keeps a share f of an old error, so that the last m = 1/(1 - f) steps count; a gate one
   standard deviation above its mean, f = sigmoid(A), makes m = 1 + exp(A). With these weights the way back through
   W_hh does not amplify. Errors of different steps are independent: state = sqrt(min(T, m)) step.
4. *A step of backward* multiplies by W^T, a sum of 4H products (sqrt(4H) u), and by about ten factors (10 u), which are
   made of states with their error (state). Its recurrence has the same Jacobian, hence the same memory:
   chain = sqrt(min(T, m)) (sqrt(4H) u + 10 u + state), relative to the size of the gradient.
5. *Sums* over n terms (n = T B rows for weights, biases and cell parameters; T steps for a recurrent scale) add
   sqrt(n) u. What they carry is relative to the terms, which must not be judged by a sum that happened to cancel:
   gradients at the gates are about 0.1 (a cotangent of 1 by slopes of 1/4), sums of n about 0.1 sqrt(n). So errors are
   relative to max(rms of the tensor, 0.1 sqrt(n)) + |value|.
6. *16 bits.* Both sides round results: one step of the dtype, 2 v |value|. They also round h at every step, and where
   errors of size `state` make them round to different sides, h differs by 2 v: a share p = state/v of all h, at least
   one of the P a step. Such an error meets w_hh: sqrt(P p) of H^-1/2 2 v more in `step`. In backward, autograd rounds
   the gradient of every rounded h to the dtype, where the kernel keeps float32: v more in a step of `chain`.
   Kernels that multiply bfloat16 keep that in float32 too, but round the gradients at the gates as products read them:
   v relative to each, independent, hence v relative to a sum of 4H of them, as large as what autograd rounds. The two
   are independent of each other and of every other step, so their sizes add up to sqrt(2) v, within LAMBDA v.

All of these are standard deviations or above. Of a million normal errors one exceeds LAMBDA = 5 of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from layer_cases import Layer
from torch import Tensor

LAMBDA = 5.0
SUMS_OVER_ROWS = ("dw_ih", "dw_hh", "db_ih", "db_hh", "dw_hr", "dcell_params")
SIXTEEN_BITS = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Tolerance:
    dtype: torch.dtype
    T: int
    B: int
    I: int  # noqa: E741
    H: int
    P: int
    memory: float = 0.0  # of the forget gates, in steps; 0: as in 3.
    projection_rounds: bool = False  # o * tanh(c) is rounded to a 16-bit dtype on its way into W_hr: all h differ by v

    @staticmethod
    def of(layer: Layer) -> Tolerance:
        x, w_ih, w_hh = (layer.variables[name] for name in ("x", "w_ih.0", "w_hh.0"))
        if "batch_sizes" in layer.constants:
            batch_sizes = layer.constants["batch_sizes"]
            T, B = len(batch_sizes), int(batch_sizes[0])
        else:
            T, B = x.shape[1::-1] if layer.options["batch_first"] else x.shape[:2]
        return Tolerance(x.dtype, T, B, w_ih.shape[1], w_ih.shape[0] // 4, w_hh.shape[1])

    @property
    def u(self) -> float:
        return 2.0**-53 * math.sqrt(2) if self.dtype == torch.float64 else 2.0**-24

    @property
    def v(self) -> float:
        return torch.finfo(self.dtype).eps / 2 if self.dtype in SIXTEEN_BITS else 0.0

    @property
    def _memory(self) -> float:
        K = self.I + self.P + 2
        memory = self.memory or 1 + math.exp(min(50.0, math.sqrt(K / self.H)))
        return math.sqrt(min(max(self.T, 1), memory))

    @property
    def state(self) -> float:
        K = self.I + self.P + 2
        step = (math.sqrt(K) * math.sqrt(K / self.H) + 11) * self.u
        if self.v:
            share = 1.0 if self.projection_rounds else min(1.0, max(self._memory * step / self.v, 1 / self.P))
            step += math.sqrt(self.P * share / self.H) * 2 * self.v
        return self._memory * step

    @property
    def chain(self) -> float:
        return self._memory * ((math.sqrt(4 * self.H) + 10) * self.u + self.state + self.v)

    def _terms(self, name: str) -> int:
        if name.split(".")[0] in SUMS_OVER_ROWS:
            return max(1, self.T * self.B)
        return max(1, self.T) if name == "drecurrent_scale" else 1

    def __call__(self, name: str, expected: Tensor) -> Tensor:
        """How far each value of the result ``name`` (y, h_n, c_n, dx, dw_ih.0, ...) may lie from ``expected``."""
        size = expected.double().abs()
        if not name.startswith("d"):
            return LAMBDA * self.state * (1 + size) + 2 * self.v * size
        n = self._terms(name)
        typical = max(expected.double().square().mean().sqrt().item(), 0.1 * math.sqrt(n)) if size.numel() else 0.0
        return LAMBDA * (self.chain + math.sqrt(n) * self.u) * (typical + size) + 2 * self.v * size


def worst(name: str, actual: Tensor, expected: Tensor, tolerance: Tolerance) -> float:
    """The largest error in units of what is tolerated; infinite where only one side is a number."""
    assert actual.shape == expected.shape, f"{name}: shape {tuple(actual.shape)}, not {tuple(expected.shape)}"
    assert actual.dtype == tolerance.dtype, f"{name}: {actual.dtype}, not {tolerance.dtype}"
    if actual.numel() == 0:
        return 0.0
    ratio = (actual.double() - expected.double()).abs() / tolerance(name, expected)
    return ratio.nan_to_num(nan=math.inf).max().item()


def assert_within(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: Tolerance) -> None:
    """Every result of ``actual`` against the one of that name in ``expected``."""
    for name, value in actual.items():
        ratio = worst(name, value, expected[name], tolerance)
        assert ratio <= 1, f"{name} is {ratio:.3g} times as far from the definition as {tolerance} allows"
