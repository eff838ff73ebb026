"""Prints the largest error of the layer in units of what tests/tolerance.py allows.

usage: PYTHONPATH=. python tests/measure_errors.py [number of seeds, default 1]

One line per dtype, ISA and feature: number of layers, the worst of outputs, of gradients to single values and of
gradients that are sums over rows, and the name and sizes of the very worst. Near 1: the derivation misses something, or
a kernel loses digits. Far below 0.01: the tolerance would not notice such a loss.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import torch
from isa_worker import ISAS, worker
from layer_sampling import definition, layer_of, pairwise
from operators import arguments_of, everything, train
from tolerance import SUMS_OVER_ROWS, Tolerance, worst

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def features(choice: dict) -> list[str]:
    """The groups of lines that a layer counts in."""
    names = ["all", choice["cell"], choice["direction"], choice["rows"]]
    names += [name for name in ("resets", "scale", "batch_first") if choice[name]]
    return names + (["projection"] if choice["projection"] != "none" else [])


def kind(name: str) -> str:
    if not name.startswith("d"):
        return "outputs"
    return "sums" if name.split(".")[0] in SUMS_OVER_ROWS else "gradients"


def main(seeds: int) -> None:
    for dtype in DTYPES:
        table = defaultdict(lambda: {"layers": 0, "outputs": 0.0, "gradients": 0.0, "sums": 0.0, "at": (0.0, "")})
        for seed in range(seeds):
            for index, choice in enumerate(pairwise(100 + seed)):
                layer, cotangents = layer_of(choice, dtype, seed=index)
                expected, tolerance = definition(layer, cotangents), Tolerance.of(layer)
                arguments = arguments_of(layer), cotangents, everything(layer), choice["threads"]
                for isa in ISAS:
                    actual = worker(isa)(train, *arguments)
                    ratios = {name: worst(name, value, expected[name], tolerance) for name, value in actual.items()}
                    for feature in features(choice):
                        line = table[isa, feature]
                        line["layers"] += 1
                        for name, ratio in ratios.items():
                            line[kind(name)] = max(line[kind(name)], ratio)
                            sizes = ", ".join(f"{k}={choice[k]}" for k in "TBIH")
                            line["at"] = max(line["at"], (ratio, f"{name}, {sizes}"))
        print(f"\n{dtype}\n{'ISA':8} {'feature':12} layers  outputs  gradients  sums   worst")
        for (isa, feature), line in sorted(table.items()):
            values = f"{line['outputs']:7.3f}  {line['gradients']:9.3f}  {line['sums']:5.3f}"
            print(f"{isa:8} {feature:12} {line['layers']:6}  {values}  {line['at'][1]}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
