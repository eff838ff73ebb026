"""The options by which ``FusedLSTM`` goes beyond ``torch.nn.LSTM``: checked, kept together, made into arguments.

A module without options holds no :class:`Variants` at all, and computes what ``torch.nn.LSTM`` computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as _dropout

from .cells import CELLS, Cell, cell_index

OUTPUT_GATES = ("hidden", "cell")


@dataclass(frozen=True)
class Variants:
    """Fields as the keyword arguments of :class:`fused_lstm.FusedLSTM`; ``zoneout`` as the pair (p_h, p_c)."""

    weight_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    zoneout: tuple[float, float] = (0.0, 0.0)
    peephole: bool = False
    coupled_gates: bool = False
    forget_bias: float | None = None
    cell_clip: float | None = None
    proj_clip: float | None = None
    layer_norm: bool = False
    output_gate: str = "hidden"

    @staticmethod
    def of(*, bias: bool, proj_size: int, **given: Any) -> Variants | None:
        """None where every option has its default.

        Raises:
            TypeError, ValueError: an option is out of range, or two of them do not go together.
        """
        if isinstance(given.get("zoneout"), (int, float)):
            given["zoneout"] = (given["zoneout"], given["zoneout"])
        variants = Variants(**given)
        if variants == Variants():
            return None
        variants._check_values()
        variants._check_combination(bias, proj_size)
        return variants

    def _check_values(self) -> None:
        for name in ("weight_dropout", "recurrent_dropout"):
            _check_probability(name, getattr(self, name))
        if not isinstance(self.zoneout, tuple) or len(self.zoneout) != 2:
            raise TypeError(f"zoneout must be a number or a pair (p_h, p_c), but is {self.zoneout!r}")
        for p in self.zoneout:
            _check_probability("zoneout", p)
        for name in ("cell_clip", "proj_clip"):
            clip = getattr(self, name)
            if clip is not None and not 0 < clip < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, or None for no bound, but is {clip}")
        for name in ("peephole", "coupled_gates", "layer_norm"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, but is {getattr(self, name)!r}")
        if self.output_gate not in OUTPUT_GATES:
            raise ValueError(f"output_gate must be 'hidden' or 'cell', but is {self.output_gate!r}")
        if self.forget_bias is not None and not math.isfinite(self.forget_bias):
            raise ValueError(f"forget_bias must be finite, or None, but is {self.forget_bias}")

    def _check_combination(self, bias: bool, proj_size: int) -> None:
        def refuse(what: str, why: str, instead: str) -> None:
            raise ValueError(f"{what} cannot be combined: {why}; {instead}")

        if any(self.zoneout) and proj_size:
            refuse(
                "zoneout and proj_size",
                "zoneout mixes the new h with the old one, unit by unit, before there is a projection",
                "use recurrent_dropout, or proj_size=0",
            )
        if self.output_gate == "cell" and proj_size:
            refuse(
                "output_gate='cell' and proj_size",
                "the output gate reads c through the last hidden_size rows of weight_hh, which proj_size narrows",
                "use peephole=True, or proj_size=0",
            )
        if self.output_gate == "cell" and self.peephole:
            refuse(
                "output_gate='cell' and peephole=True",
                "the output gate would read c twice, through a full matrix and through its diagonal",
                "use one of them",
            )
        if self.output_gate == "cell" and self.layer_norm:
            refuse(
                "output_gate='cell' and layer_norm=True",
                "the four gates are normalised together, before there is the c that the output gate wants to read",
                "use peephole=True with layer_norm=True",
            )
        if self.proj_clip is not None and not proj_size:
            refuse("proj_clip and proj_size=0", "there is no projected h to bound", "use cell_clip")
        if self.forget_bias is not None and not bias:
            refuse("forget_bias and bias=False", "there is no bias to add it to", "use bias=True")

    # --- the cell

    @property
    def cell(self) -> Cell:
        parts = {
            "coupled": self.coupled_gates,
            "peephole": self.peephole,
            "zoneout": any(self.zoneout),
            "layer_norm": self.layer_norm,
            "output_cell": self.output_gate == "cell",
        }
        return CELLS[cell_index("+".join(part for part, yes in parts.items() if yes) or "vanilla")]

    def shapes(self, H: int) -> dict[str, tuple[int, ...]]:
        """Parameters of a layer and direction besides those of nn.LSTM, in the order of ``cell_params``."""
        shapes: dict[str, tuple[int, ...]] = {"weight_p": (3, H)} if self.peephole else {}
        if self.layer_norm:
            shapes |= {"gamma_ih": (4 * H,), "gamma_hh": (4 * H,), "gamma_c": (H,), "beta_c": (H,)}
        return shapes

    def add_parameters(self, module: nn.Module, suffixes: list[str], H: int, like: Tensor) -> None:
        for suffix in suffixes:
            for name, shape in self.shapes(H).items():
                setattr(module, name + suffix, nn.Parameter(torch.empty(shape, device=like.device, dtype=like.dtype)))

    def reset_parameters(self, module: nn.Module, suffixes: list[str], H: int) -> None:
        """What nn.LSTM does not know how to fill; and the forget gate's bias, on top of what it drew."""
        bound = 1 / math.sqrt(H) if H > 0 else 0
        with torch.no_grad():
            for suffix in suffixes:
                for name in self.shapes(H):
                    parameter = getattr(module, name + suffix)
                    if name == "weight_p":
                        parameter.uniform_(-bound, bound)
                    else:
                        parameter.fill_(0.0 if name == "beta_c" else 1.0)
                if self.forget_bias is not None:
                    getattr(module, "bias_ih" + suffix)[H : 2 * H] += self.forget_bias

    def cell_params(self, module: nn.Module, suffixes: list[str], H: int) -> Tensor | None:
        """(L*D, n, H), or None."""
        names = self.shapes(H)
        if not names:
            return None
        each = [[getattr(module, name + suffix).reshape(-1, H) for name in names] for suffix in suffixes]
        return torch.stack([torch.cat(rows) for rows in each])

    # --- what is drawn

    def dropped(self, w_hh: Tensor, training: bool) -> Tensor:
        return _dropout(w_hh, self.weight_dropout, training) if self.weight_dropout else w_hh

    def recurrent_scale(self, like: Tensor, shape: tuple[int, ...], training: bool) -> Tensor | None:
        if not (training and self.recurrent_dropout):
            return None
        return _dropout(like.new_ones(shape), self.recurrent_dropout)

    def keep_masks(self, like: Tensor, shape: tuple[int, ...], training: bool) -> Tensor | None:
        """``shape`` (..., H) -> (..., 2, H): what is taken of the new h and c; in eval mode its expectation."""
        if not any(self.zoneout):
            return None
        expected = [like.new_full(shape, 1 - p) for p in self.zoneout]
        return torch.stack([torch.bernoulli(e) for e in expected] if training else expected, -2)

    # --- for people

    def changed(self) -> Iterator[tuple[str, Any]]:
        """Options that are not at their defaults."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                yield field.name, value

    def __str__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.changed())


def _check_probability(name: str, p: Any) -> None:
    if not isinstance(p, (int, float)) or isinstance(p, bool) or not 0 <= p <= 1:
        raise ValueError(f"{name} must be a probability, a number in [0, 1], but is {p!r}")


def with_dropped(weights: list[Tensor], each: int, drop: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """``weights`` with every W_hh, the second of each layer and direction, passed through ``drop``."""
    return [drop(w) if k % each == 1 else w for k, w in enumerate(weights)]
