"""LSTMs of other projects for CUDA, where a user has installed them: TorchRL's Triton kernels, Haste, FlashRNN.

Nothing of theirs is in this repository; only their public functions are called. None of this has been run here, as it
takes a GPU: that is why each is compared with float64 before it is timed, here as everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..problem import Problem, Result
from .base import Call, Peer, forward_call, module_missing, only_plain


class OneLayer(Peer):
    """A function of (x, weights, state) for one layer and direction, batch wherever it wants it."""

    devices = ("cuda",)
    module = ""

    def missing(self, device: str) -> str | None:
        return super().missing(device) or module_missing(self.module)

    def refuses_shape(self, problem: Problem) -> str | None:
        return only_plain(problem, layers=False)

    def given(self, problem: Problem, weights: list[Tensor], state):
        """``state`` in the form in which ``layer`` takes it, made once."""
        return state

    def layer(self, problem: Problem, x: Tensor, weights: list[Tensor], state) -> tuple[Tensor, Tensor, Tensor]:
        """y (T, B, H), h_n and c_n (1, B, H)"""
        raise NotImplementedError

    def call(self, problem: Problem, threads: int) -> Call:
        leaves = [[w.detach().requires_grad_() for w in weights] for weights in problem.weights]
        sources = [problem.leaf, *(w for weights in leaves for w in weights)]
        given = [self.given(problem, weights, state) for weights, state in zip(problem.weights, problem.states)]

        def forward() -> tuple[Tensor, list]:
            y, states = problem.leaf, []
            for weights, state in zip(leaves, given):
                y, *after = self.layer(problem, y, weights, state)
                states.append(tuple(after))
            return y, states

        return forward_call(problem, forward, sources)


class TorchRlTriton(OneLayer):
    name, what = "torchrl-triton", "TorchRL's Triton LSTM (recurrent_backend='triton'), resets by is_init"
    install = "pip install torchrl (0.12 or later), triton"
    module = "torchrl"
    dtypes = ("float32", "tf32", "bfloat16")

    def missing(self, device: str) -> str | None:
        absent = super().missing(device)
        if absent:
            return absent
        try:
            self._function()
        except ImportError as error:
            return f"this torchrl has no lstm_triton: {error}"
        return None

    @staticmethod
    def _function():
        from torchrl.modules.tensordict_module._rnn_triton import lstm_triton

        return lstm_triton

    def refuses_shape(self, problem: Problem) -> str | None:
        if problem.lengths is not None or any(m.layers > 1 or m.bidirectional for m in problem.modules):
            return "one layer and direction, no lengths"
        return None

    def given(self, problem: Problem, weights: list[Tensor], state) -> tuple[Tensor, Tensor, Tensor]:
        """h and c (B, T, H), what a row starts from at each step, and whether it starts there"""
        x = problem.x
        T, B, H = x.shape[0], x.shape[1], weights[1].shape[1]
        starts = torch.zeros(B, T, dtype=torch.bool, device=x.device)
        h, c = x.new_zeros(2, B, T, H).unbind()
        if problem.resets is not None:
            starts = problem.resets.t().contiguous()
        if state is not None:
            h[:, 0], c[:, 0] = state[0][0], state[1][0]
        return h, c, starts

    def layer(self, problem: Problem, x: Tensor, weights: list[Tensor], state):
        h, c, starts = state
        kind = torch.bfloat16 if x.dtype == torch.bfloat16 else torch.float32
        y, _, h_n, c_n = self._function()(x.transpose(0, 1).contiguous(), h, c, *weights, starts, kind)
        return y.transpose(0, 1), h_n.unsqueeze(0), c_n.unsqueeze(0)


class Haste(OneLayer):
    name, what = "haste", "Haste: haste_pytorch.LSTM"
    install = "from source: github.com/lmnt-com/haste, `make haste_pytorch`"
    module = "haste_pytorch"
    dtypes = ("float32",)

    def call(self, problem: Problem, threads: int) -> Call:
        import haste_pytorch

        made = []
        for m, weights in zip(problem.modules, problem.weights):
            module = haste_pytorch.LSTM(m.I, m.H).to(problem.device)
            module.from_native_weights(*weights)
            made.append(module.train(problem.mode == "training"))
        sources = [problem.leaf, *(p for module in made for p in module.parameters())]

        def forward() -> tuple[Tensor, list]:
            y, states = problem.leaf, []
            for module, state in zip(made, problem.states):
                y, after = module(y, state)
                states.append(after)
            return y, states

        call = forward_call(problem, forward, sources)
        return Call(call.run, lambda found: _as_native(problem, found))


def _as_native(problem: Problem, found: Result) -> Result:
    """Gradients of kernels (in, 4H), gates i g f o and one bias, as those of torch's parameters."""
    if problem.mode != "training":
        return found
    y, dx, *rest = found
    native = [y, dx]
    for at in range(0, len(rest), 3):
        kernel, recurrent, bias = (_reordered(t) for t in rest[at : at + 3])
        native += [kernel.t(), recurrent.t(), bias, bias]
    return native


def _reordered(t: Tensor) -> Tensor:
    i, g, f, o = t.chunk(4, -1)
    return torch.cat([i, f, g, o], -1)


class FlashRnn(OneLayer):
    name, what = "flashrnn", "FlashRNN, backend cuda_fused, one head; the products with x by torch"
    install = "pip install flashrnn (its licence is not ours; nothing of it is in this repository)"
    module = "flashrnn"
    modes, dtypes = ("inference", "training"), ("float32", "bfloat16", "float16")

    def layer(self, problem: Problem, x: Tensor, weights: list[Tensor], state):
        from flashrnn import flashrnn

        w_ih, w_hh, b_ih, b_hh = weights
        T, B, H = x.shape[0], x.shape[1], w_hh.shape[1]
        projected = (x.transpose(0, 1) @ w_ih.t()).view(B, T, 4, 1, H)
        states, last = flashrnn(
            projected, w_hh.view(4, 1, H, H), (b_ih + b_hh).view(4, 1, H), function="lstm", backend="cuda_fused",
            dtype=str(x.dtype).removeprefix("torch."),
        )  # fmt: skip
        y = states[0].reshape(B, T, H).transpose(0, 1)  # states: (h, c), (B, T, heads, H) each
        return y, last[0].reshape(1, B, H), last[1].reshape(1, B, H)
