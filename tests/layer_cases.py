"""Layers to test with: random tensors for every feature, and comparison of results and gradients by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fused_lstm.cells import CELLS, INDEX

# Name of a feature -> what Layer.random takes for it. Sizes are odd on purpose.
FEATURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "no state": {"state": False},
    "no bias": {"bias": False},
    "reverse": {"direction": "reverse"},
    "both": {"direction": "both"},
    "projection": {"P": 3, "direction": "both"},
    "projection, no bias": {"P": 3, "bias": False},
    "batch first": {"batch_first": True, "direction": "both"},
    "lengths": {"lengths": True, "direction": "both"},
    "lengths, batch first": {"lengths": True, "batch_first": True, "state": False},
    "packed": {"packed": True, "direction": "both"},
    "packed, no state": {"packed": True, "state": False},
    "resets": {"resets": True, "direction": "both"},
    "resets, batch first": {"resets": True, "batch_first": True},
    "resets, lengths": {"resets": True, "lengths": True, "direction": "both"},
    "resets, packed": {"resets": True, "packed": True, "direction": "both"},
    "recurrent scale": {"scale": True, "direction": "both", "P": 3},
    "peephole": {"cell": "peephole", "direction": "both"},
    "peephole, projection, lengths": {"cell": "peephole", "P": 3, "lengths": True},
    "coupled": {"cell": "coupled", "direction": "both"},
    "zoneout": {"cell": "zoneout", "direction": "both"},
    "zoneout, packed": {"cell": "zoneout", "packed": True, "direction": "both"},
    "zoneout, batch first, resets": {"cell": "zoneout", "batch_first": True, "resets": True},
    "clips": {"P": 3, "direction": "both", "cell_clip": 0.4, "proj_clip": 0.2},
    "all elementwise parts, clip": {"cell": "coupled+peephole+zoneout", "cell_clip": 0.4},
    "layer norm": {"cell": "coupled+peephole+layer_norm", "direction": "both", "P": 3, "proj_clip": 0.2},
    "output cell": {"cell": "zoneout+output_cell", "lengths": True, "cell_clip": 0.4},
}


@dataclass
class Layer:
    """One call of lstm_layer. ``variables`` are what has a gradient, ``constants`` the other tensors, by name."""

    variables: dict[str, Tensor]
    constants: dict[str, Tensor]
    options: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def random(
        T: int = 5, B: int = 3, I: int = 3, H: int = 5, P: int = 0, *, dtype: torch.dtype = torch.float64,  # noqa: E741
        state: bool = True, bias: bool = True, direction: str = "forward", batch_first: bool = False,
        lengths: bool = False, packed: bool = False, resets: bool = False, scale: bool = False, cell: str = "vanilla",
        cell_clip: float | None = None, proj_clip: float | None = None,
    ) -> Layer:  # fmt: skip
        D = 2 if direction == "both" else 1
        variables, constants = {}, {}
        if packed:
            batch_sizes = torch.randint(1, B + 1, (T,)).sort(descending=True).values
            batch_sizes[0] = B
            constants["batch_sizes"] = batch_sizes
            leading = (int(batch_sizes.sum()),)
        else:
            leading = (B, T) if batch_first else (T, B)
        variables["x"] = torch.randn(*leading, I)
        if state:
            variables["h0"], variables["c0"] = torch.randn(D, B, P or H), torch.randn(D, B, H)
        for d in range(D):
            sizes = {"w_ih": (4 * H, I), "w_hh": (4 * H, P or H)}
            sizes |= {"b_ih": (4 * H,), "b_hh": (4 * H,)} if bias else {}
            sizes |= {"w_hr": (P, H)} if P else {}
            variables |= {f"{name}.{d}": torch.randn(size) / H**0.5 for name, size in sizes.items()}
        if scale:
            variables["recurrent_scale"] = torch.rand(D, B, P or H) * 2
        kind = CELLS[INDEX[cell]]
        if kind.n_params:
            variables["cell_params"] = torch.randn(D, kind.n_params, H)
        if kind.n_inputs:
            constants["cell_inputs"] = torch.rand(D, *leading, kind.n_inputs, H).to(dtype)
        if lengths:
            constants["lengths"] = torch.randperm(T + 1)[torch.arange(B) % (T + 1)]
        if resets:
            constants["resets"] = torch.rand(leading) < 0.4
        options = {"direction": direction, "cell": cell, "batch_first": batch_first}
        options |= {name: clip for name, clip in (("cell_clip", cell_clip), ("proj_clip", proj_clip)) if clip}
        return Layer({name: t.to(dtype) for name, t in variables.items()}, constants, options)

    def to(self, dtype: torch.dtype) -> Layer:
        """The same layer in another dtype, variables detached."""
        constants = {name: t.to(dtype) if t.is_floating_point() else t for name, t in self.constants.items()}
        return Layer({name: t.detach().to(dtype) for name, t in self.variables.items()}, constants, self.options)

    def weights(self, variables: dict[str, Tensor] | None = None) -> list[Tensor]:
        return [t for name, t in (variables or self.variables).items() if "." in name]

    def call(self, function: Callable, variables: dict[str, Tensor] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """``function`` has the signature of lstm_layer."""
        v = variables or self.variables
        extra = {name: v[name] for name in ("recurrent_scale", "cell_params") if name in v}
        return function(v["x"], v.get("h0"), v.get("c0"), self.weights(v), **extra, **self.constants, **self.options)

    def function_of_variables(self, function: Callable) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
        """``function`` as one of the values in ``variables``, in their order: what gradcheck wants."""
        return lambda *values: self.call(function, dict(zip(self.variables, values, strict=True)))

    def op_arguments(self, save: bool) -> list[Any]:
        """The arguments of torch.ops.fused_lstm.lstm_layer."""
        v, k = self.variables, self.constants
        direction = ("forward", "reverse", "both").index(self.options["direction"])
        return [
            v["x"], v.get("h0"), v.get("c0"), self.weights(), k.get("batch_sizes"), k.get("lengths"), k.get("resets"),
            v.get("recurrent_scale"), v.get("cell_params"), k.get("cell_inputs"),
            INDEX[self.options["cell"]], direction, self.options["batch_first"], save, *self._clips(),
        ]  # fmt: skip

    def _clips(self) -> list[Any]:
        """allow_tf32 and what follows it, where there is anything to say."""
        clips = [self.options.get(name, 0.0) for name in ("cell_clip", "proj_clip")]
        return [False, *clips] if any(clips) else []

    def requires_grad_(self, yes: bool = True) -> Layer:
        for t in self.variables.values():
            t.requires_grad_(yes)
        return self


def gradients(layer: Layer, function: Callable, cotangents: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
    """Results y, h_n, c_n and the gradient to every variable, by name."""
    variables = {name: t.detach().clone().requires_grad_() for name, t in layer.variables.items()}
    outputs = layer.call(function, variables)
    pairs = [(out, g) for out, g in zip(outputs, cotangents, strict=True) if g is not None]
    found = torch.autograd.grad([out for out, _ in pairs], list(variables.values()), [g for _, g in pairs])
    results = dict(zip(("y", "h_n", "c_n"), (out.detach() for out in outputs), strict=True))
    return results | {f"d{name}": g for name, g in zip(variables, found, strict=True)}


def random_cotangents(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.randn_like(out) for out in outputs)


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor], **tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        torch.testing.assert_close(value, expected[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance)
