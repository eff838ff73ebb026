"""Lets torch.compile trace ``FusedLSTM``.

Dynamo refuses every instance of ``torch.nn.LSTM`` unless ``torch._dynamo.config.allow_rnn`` is set, which would let it
trace the user's own ``torch.nn.LSTM`` as well. Here it is set for a ``FusedLSTM`` alone, and only while dynamo decides
about that object. Importing dynamo takes longer than importing torch, so this waits until somebody else does.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_BUILDER = "torch._dynamo.variables.builder"


class _AfterImport(MetaPathFinder):
    """Finds the one module as Python would, and touches it up once it is loaded."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name != _BUILDER:
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _touch_up(module)

        spec.loader.exec_module = exec_module
        return spec


def _touch_up(builder: ModuleType) -> None:
    kind = getattr(builder, "VariableBuilder", None)
    wrap_module = getattr(kind, "wrap_module", None)
    config = getattr(builder, "config", None)
    if wrap_module is None or not hasattr(config, "allow_rnn"):
        return  # another dynamo: whether it refuses is its own affair

    def wrap_any_module(self, value):
        from .modules import FusedLSTM

        if isinstance(value, FusedLSTM) and not config.allow_rnn:
            with config.patch(allow_rnn=True):
                return wrap_module(self, value)
        return wrap_module(self, value)

    kind.wrap_module = wrap_any_module


def install() -> None:
    if _BUILDER in sys.modules:
        _touch_up(sys.modules[_BUILDER])
    else:
        sys.meta_path.insert(0, _AfterImport())
