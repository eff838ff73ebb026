"""``python -m benchmarks.resets``: episodes that end inside a sequence, by resets and by a loop over steps.

The loop is what reinforcement learning code runs on torch.nn.LSTM: one call a step, its state masked before.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

import fused_lstm

from .timing import compare


class Episodes:
    def __init__(self, T: int, B: int, H: int, ends: float) -> None:
        torch.manual_seed(0)
        self.torch, self.fused = nn.LSTM(H, H), fused_lstm.FusedLSTM(H, H)
        self.fused.load_state_dict(self.torch.state_dict())
        self.x = torch.randn(T, B, H, requires_grad=True)
        self.resets = torch.rand(T, B) < ends
        self.keep = (~self.resets).float()[:, None, :, None]  # of each step: (1, B, 1)
        self.state = torch.randn(1, B, H), torch.randn(1, B, H)
        self.cotangent = torch.randn(T, B, H)

    def by_loop(self) -> Tensor:
        h, c = self.state
        outputs = []
        for x, keep in zip(self.x, self.keep, strict=True):
            y, (h, c) = self.torch(x.unsqueeze(0), (keep * h, keep * c))
            outputs.append(y)
        return torch.cat(outputs)

    def by_resets(self) -> Tensor:
        return self.fused(self.x, self.state, resets=self.resets)[0]

    def train(self, way: str) -> list[Tensor]:
        module = self.torch if way == "by_loop" else self.fused
        self.x.grad = None
        module.zero_grad(set_to_none=True)
        y = getattr(self, way)()
        y.backward(self.cotangent)
        return [y.detach(), self.x.grad, *(p.grad for p in module.parameters())]

    def infer(self, way: str) -> None:
        with torch.no_grad():
            getattr(self, way)()

    def worst_error(self) -> float:
        """Largest relative (Frobenius) difference of output and gradients between the two ways."""
        pairs = zip(self.train("by_loop"), self.train("by_resets"), strict=True)
        return max(float((a - b).norm() / a.norm()) for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resets", description=__doc__.split("\n\n")[0])
    for name, default in (("T", 128), ("B", 64), ("H", 256), ("pairs", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--ends", type=float, default=0.02, help="share of steps that begin an episode")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    torch.autograd.set_multithreading_enabled(False)  # autograd's own thread would escape the clock
    episodes = Episodes(args.T, args.B, args.H, args.ends)
    error = episodes.worst_error()
    print(f"T, B, H = {args.T}, {args.B}, {args.H}, float32, torch {torch.__version__}, {fused_lstm.cpu_isa()}")
    print(f"largest relative difference of output and gradients: {error:.1e}")
    if not error < 1e-4:
        raise SystemExit("the results differ; nothing was timed")
    for threads in args.threads:
        torch.set_num_threads(threads)
        for mode in ("infer", "train"):
            run = getattr(episodes, mode)
            pair = compare(lambda: run("by_loop"), lambda: run("by_resets"), threads=threads, pairs=args.pairs)  # noqa: B023
            times = f"loop {pair.seconds_a * 1e3:.1f} ms, resets {pair.seconds_b * 1e3:.1f} ms"
            ratio = f"ratio {pair.ratio:.2f} ({pair.low:.2f}..{pair.high:.2f})"
            print(f"{threads} thread(s), {mode}: {times}, {ratio}", flush=True)


if __name__ == "__main__":
    main()
