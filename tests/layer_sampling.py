"""Few layers that still combine every value of every feature with every value of every other."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import torch
from layer_cases import Layer, gradients

from fused_lstm import reference

# Sizes lie on both sides of what kernels divide by: 1, vectors (2 to 16), row tiles (5, 6), blocks of rows (96).
FEATURES: dict[str, list[Any]] = {
    "T": [1, 2, 4, 9],
    "B": [1, 2, 6, 7, 17],
    "I": [0, 1, 17, 63, 64, 129],
    "H": [1, 16, 17, 63, 64, 129],
    "projection": ["none", "narrow", "wide"],
    "direction": ["forward", "reverse", "both"],
    "state": ["none", "h0", "c0", "both"],
    "bias": [False, True],
    "rows": ["all", "lengths", "packed"],
    "batch_first": [False, True],
    "resets": [False, True],
    "scale": [False, True],
    "cell": ["vanilla", "peephole", "coupled", "zoneout", "coupled+peephole", "coupled+peephole+zoneout"],
    "cell_clip": [False, True],
    "cotangents": ["all", "no y", "no h_n", "no c_n"],
    "threads": [1, 2, 4],
}
Choice = dict[str, Any]


def _allowed(choice: Choice) -> bool:
    if "zoneout" in choice["cell"] and choice["projection"] != "none":
        return False
    if choice["rows"] == "packed" and choice["batch_first"]:
        return False
    return True


def _pairs(choice: Choice) -> Iterator[tuple]:
    return itertools.combinations(choice.items(), 2)


def all_pairs() -> set[tuple]:
    """Every pair of values that some allowed choice can have."""
    zoneouts = [cell for cell in FEATURES["cell"] if "zoneout" in cell]
    forbidden = {
        *((("projection", width), ("cell", cell)) for width in ("narrow", "wide") for cell in zoneouts),
        (("rows", "packed"), ("batch_first", True)),
    }
    pairs = set()
    for (a, values), (b, others) in itertools.combinations(FEATURES.items(), 2):
        pairs |= {((a, value), (b, other)) for value in values for other in others}
    return pairs - forbidden


def pairwise(seed: int) -> list[Choice]:
    """Choices that cover all_pairs(), the most new ones first."""
    chance, missing, chosen = random.Random(seed), all_pairs(), []
    while missing:
        candidates = []
        for _ in range(40):
            choice = {name: chance.choice(values) for name, values in FEATURES.items()}
            # a candidate that is sure to bring something new
            choice |= dict(chance.choice(sorted(missing, key=str)) if chance.random() < 0.5 else ())
            if _allowed(choice):
                candidates.append((sum(pair in missing for pair in _pairs(choice)), choice))
        gain, best = max(candidates, key=lambda candidate: candidate[0], default=(0, None))
        if gain:
            chosen.append(best)
            missing -= set(_pairs(best))
    return chosen


def layer_of(choice: Choice, dtype: torch.dtype, seed: int) -> tuple[Layer, tuple[torch.Tensor | None, ...]]:
    """The layer, and cotangents for y, h_n and c_n."""
    torch.manual_seed(seed)
    H = choice["H"]
    # h of 16 bits is one number or the next; near the bound that decides whether there is a gradient or none
    clip = 0.5 if choice["cell_clip"] and dtype.itemsize > 2 else None
    layer = Layer.random(
        choice["T"], choice["B"], choice["I"], H,
        {"none": 0, "narrow": max(1, H // 3), "wide": H + 2}[choice["projection"]],
        dtype=dtype, bias=choice["bias"], direction=choice["direction"], batch_first=choice["batch_first"],
        lengths=choice["rows"] == "lengths", packed=choice["rows"] == "packed", resets=choice["resets"],
        scale=choice["scale"], cell=choice["cell"], cell_clip=clip,
    )  # fmt: skip
    for name in ("h0", "c0"):
        if choice["state"] not in (name, "both"):
            del layer.variables[name]
    return layer, cotangents_of(layer, without=choice["cotangents"].removeprefix("no "))


def cotangents_of(layer: Layer, without: str = "") -> tuple[torch.Tensor | None, ...]:
    x, w_hh, dtype = layer.variables["x"], layer.variables["w_hh.0"], layer.variables["x"].dtype
    D = 2 if layer.options["direction"] == "both" else 1
    H, P = w_hh.shape[0] // 4, (layer.variables.get("w_hr.0", w_hh)).shape[0 if "w_hr.0" in layer.variables else 1]
    if "batch_sizes" in layer.constants:
        B = int(layer.constants["batch_sizes"][0])
    else:
        B = x.shape[0 if layer.options["batch_first"] else 1]
    shapes = {"y": (*x.shape[:-1], D * P), "h_n": (D, B, P), "c_n": (D, B, H)}
    return tuple(None if name == without else torch.randn(shape).to(dtype) for name, shape in shapes.items())


def definition(layer: Layer, cotangents: tuple[torch.Tensor | None, ...] | None) -> dict[str, torch.Tensor]:
    """Results (and gradients) by name as reference.py computes them: in float64, for 16 bits by its rules for them."""
    if layer.variables["x"].dtype not in (torch.bfloat16, torch.float16):
        layer = layer.to(torch.float64)
        cotangents = cotangents and tuple(None if g is None else g.double() for g in cotangents)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices this small are not worth a team
    try:
        if cotangents is None:
            return dict(zip(("y", "h_n", "c_n"), layer.call(reference.lstm_layer), strict=True))
        return gradients(layer, reference.lstm_layer, cotangents)
    finally:
        torch.set_num_threads(threads)
