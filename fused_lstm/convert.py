"""``convert``: puts the fused modules in the place of ``torch.nn.LSTM`` and ``torch.nn.LSTMCell``, inside any model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, overload

from torch import nn
from torch.nn import LSTM as _LSTM
from torch.nn import LSTMCell as _LSTMCell

from .cell_module import FusedLSTMCell
from .modules import FusedLSTM

_REPLACEMENT: dict[type[nn.Module], type[nn.Module]] = {_LSTM: FusedLSTM, _LSTMCell: FusedLSTMCell}


@dataclass
class ConversionReport:
    """What :func:`convert` did. Names are those of ``model.named_modules()``, "" being the model itself.

    Attributes:
        swapped: names that were ``torch.nn.LSTM`` or ``torch.nn.LSTMCell`` and are fused now.
        skipped: names left alone although they are a kind of ``torch.nn.LSTM`` or ``LSTMCell``, and why.
    """

    swapped: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"swapped {name or '(the model itself)'}" for name in self.swapped]
        lines += [f"left alone {name or '(the model itself)'}: {reason}" for name, reason in self.skipped.items()]
        return "\n".join(lines) or "no LSTM found"


@overload
def convert(model: nn.Module, *, report: Literal[False] = False) -> nn.Module: ...
@overload
def convert(model: nn.Module, *, report: Literal[True]) -> tuple[nn.Module, ConversionReport]: ...
def convert(model: nn.Module, *, report: bool = False) -> nn.Module | tuple[nn.Module, ConversionReport]:
    """Swaps every ``torch.nn.LSTM`` and ``torch.nn.LSTMCell`` of a model for its fused counterpart, in place.

    A replacement takes over all that its predecessor holds: the very same parameters (an optimizer keeps working),
    buffers, hooks, train or eval mode. A module that stands in several places stands there again as one. Modules that
    are fused already stay. Subclasses, among them parametrized modules, and modules whose ``forward`` was replaced also
    stay, because what they do beyond an LSTM would be lost; the report names them.

    Args:
        model: any module. If it is itself an LSTM there is no parent to change: use what is returned.
        report: return ``(model, ConversionReport)`` instead of the model alone.

    Example:
        >>> model, done = fused_lstm.convert(model, report=True)
        >>> print(done)
        swapped encoder.lstm
    """
    done = ConversionReport()
    replacements: dict[nn.Module, nn.Module] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if not isinstance(module, (_LSTM, _LSTMCell)) or isinstance(module, (FusedLSTM, FusedLSTMCell)):
            continue
        reason = _reason_to_stay(module)
        if reason is not None:
            done.skipped[name] = reason
            continue
        if module not in replacements:
            replacements[module] = _take_over(module)
        done.swapped.append(name)
        if not name:
            model = replacements[module]
            continue
        parent_name, _, child_name = name.rpartition(".")
        model.get_submodule(parent_name)._modules[child_name] = replacements[module]
    return (model, done) if report else model


def _reason_to_stay(module: nn.Module) -> str | None:
    kind = type(module)
    if kind not in _REPLACEMENT:
        return f"{kind.__module__}.{kind.__qualname__} is a subclass, which may do more than an LSTM"
    if "forward" in vars(module):
        return "its forward was replaced on the instance"
    return None


def _take_over(module: nn.Module) -> nn.Module:
    """A fused module around the state of ``module``; containers are shared too, so that handles of hooks still work."""
    kind = _REPLACEMENT[type(module)]
    replacement = kind.__new__(kind)
    state = dict(vars(module))
    state.pop("_compiled_call_impl", None)  # made by module.compile(), it would run the module that was compiled
    if isinstance(module, _LSTM):
        state.pop("_flat_weights", None)
        state["_flat_weight_refs"] = []
    vars(replacement).update(state)
    return replacement
