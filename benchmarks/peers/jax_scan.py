"""JAX: a jitted lax.scan over steps, and Flax's nn.RNN. Compiled by XLA for the sizes at hand."""

from __future__ import annotations

import os

import numpy
import torch
from torch import Tensor

from ..problem import Problem, Result
from .base import Call, Peer, module_missing, only_plain

_ORDER = "ifgo"
# On CUDA XLA would take TF32 for float32 too.
_PRECISION = {"float32": "float32", "tf32": "tensorfloat32"}


class _Xla(Peer):
    own_threads = own_streams = True
    modes, dtypes = ("inference", "training", "latency"), tuple(_PRECISION)
    slow = True
    install = "pip install jax flax (CUDA: jax[cuda13])"

    def missing(self, device: str) -> str | None:
        absent = module_missing("jax")
        if absent:
            return absent
        _configure()
        import jax

        try:
            jax.devices(_platform(device))
        except RuntimeError as error:
            return f"jax: {str(error).splitlines()[0]}"
        return None

    def refuses_threads(self, threads: int) -> str | None:
        return None if threads == 1 else "XLA takes its number of threads once in a process, and here that is one"

    def refuses_shape(self, problem: Problem) -> str | None:
        return only_plain(problem)

    def call(self, problem: Problem, threads: int) -> Call:
        _configure()
        import jax

        device = jax.devices(_platform(problem.device))[0]
        put = lambda t: jax.device_put(t.detach().cpu().numpy(), device)  # noqa: E731
        x, weights = put(problem.x), [[put(w) for w in ws] for ws in problem.weights]
        forward, precision = self.forward_of(problem), _PRECISION[problem.dtype_name]
        if problem.mode != "training":
            states = [None if pair is None else tuple(map(put, pair)) for pair in problem.states]
            with jax.default_matmul_precision(precision):
                compiled = jax.jit(forward).lower(x, weights, states).compile()
            return Call(
                lambda: jax.block_until_ready(compiled(x, weights, states)),
                lambda found: _inference(problem, found),
            )
        cotangent = put(problem.cotangent)

        def step(x, weights, cotangent):
            y, pull = jax.vjp(lambda x, weights: forward(x, weights, [None] * len(weights))[0], x, weights)
            return y, *pull(cotangent)

        with jax.default_matmul_precision(precision):
            compiled = jax.jit(step).lower(x, weights, cotangent).compile()
        return Call(lambda: jax.block_until_ready(compiled(x, weights, cotangent)), _training)

    def forward_of(self, problem: Problem):
        """(x, weights, states) -> (y, [(h_n, c_n)]), weights and states as torch has them."""
        raise NotImplementedError


def _platform(device: str) -> str:
    return "cpu" if device == "cpu" else "cuda"


def _configure() -> None:
    """One thread. Before the first import: XLA reads these once in a process."""
    os.environ.setdefault("JAX_PLATFORMS", "")
    if "xla_cpu_multi_thread_eigen" not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false").strip()


def _tensor(array) -> Tensor:
    return torch.from_numpy(numpy.array(array))


def _inference(problem: Problem, found) -> Result:
    y, states = found
    if problem.mode != "latency":
        return [_tensor(y)]
    return [_tensor(y), *(_tensor(t) for pair in states for t in pair)]


def _training(found) -> Result:
    y, dx, weights = found
    return [_tensor(y), _tensor(dx), *(_tensor(w) for of_module in weights for w in of_module)]


class JaxScan(_Xla):
    name, what = "jax", "JAX: jitted lax.scan, the products with x done at once"

    def forward_of(self, problem: Problem):
        import jax
        from jax import numpy as jnp

        def direction(x, h, c, w_ih, w_hh, b_ih, b_hh, reverse):
            def step(carry, a):
                h, c = carry
                i, f, g, o = jnp.split(a + h @ w_hh.T, 4, -1)
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                h = jax.nn.sigmoid(o) * jnp.tanh(c)
                return (h, c), h

            (h, c), y = jax.lax.scan(step, (h, c), x @ w_ih.T + (b_ih + b_hh), reverse=reverse)
            return y, h, c

        return _over_layers(problem, direction)


class Flax(_Xla):
    name, what = "flax", "Flax: linen.RNN over OptimizedLSTMCell"

    def missing(self, device: str) -> str | None:
        return module_missing("flax") or super().missing(device)

    def forward_of(self, problem: Problem):
        from flax import linen
        from jax import numpy as jnp

        def direction(x, h, c, w_ih, w_hh, b_ih, b_hh, reverse):
            cell = linen.OptimizedLSTMCell(h.shape[-1])
            parts = zip(_ORDER, *(jnp.split(w, 4) for w in (w_ih, w_hh, b_ih + b_hh)))
            of_cell = {}
            for gate, into, over, bias in parts:
                of_cell[f"i{gate}"] = {"kernel": into.T}
                of_cell[f"h{gate}"] = {"kernel": over.T, "bias": bias}
            rnn = linen.RNN(cell, time_major=True, return_carry=True, reverse=reverse, keep_order=True)
            (c, h), y = rnn.apply({"params": {"cell": of_cell}}, x, initial_carry=(c, h))
            return y, h, c

        return _over_layers(problem, direction)


def _over_layers(problem: Problem, direction):
    from jax import numpy as jnp

    def forward(x, weights, states):
        y, after = x, []
        for m, of_module, state in zip(problem.modules, weights, states):
            h_n, c_n = [], []
            for layer in range(m.layers):
                outputs = []
                for d in range(m.directions):
                    k = layer * m.directions + d
                    zeros = jnp.zeros((y.shape[1], m.H), y.dtype)
                    h, c = (zeros, zeros) if state is None else (state[0][k], state[1][k])
                    out, h, c = direction(y, h, c, *of_module[4 * k : 4 * k + 4], d == 1)
                    outputs.append(out)
                    h_n.append(h), c_n.append(c)
                y = jnp.concatenate(outputs, -1)
            after.append((jnp.stack(h_n), jnp.stack(c_n)))
        return y, after

    return forward
