"""An LSTM for PyTorch that takes the place of ``torch.nn.LSTM``: fused forward and backward in C++.

>>> from fused_lstm import FusedLSTM
>>> lstm = FusedLSTM(128, 256, num_layers=2, batch_first=True)      # instead of torch.nn.LSTM(...)

or, for a model that exists: ``model = fused_lstm.convert(model)``.
"""

from typing import Any

try:
    from ._library import build_info, cpu_isa, cuda_error
except ImportError as _error:
    # The plain torch parts, fused_lstm.reference and fused_lstm.cells, need no compiled operators and stay usable.
    _missing = _error

    def __getattr__(name: str) -> Any:
        if name in __all__:
            raise ImportError(f"fused_lstm.{name} is not available. {_missing}") from _missing
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
else:
    __version__: str = build_info["version"]

    from .cell_module import FusedLSTMCell
    from .convert import ConversionReport, convert
    from .explanation import Explanation, explain
    from .functional import lstm, lstm_layer
    from .modules import FusedLSTM

__all__ = [
    "ConversionReport",
    "Explanation",
    "FusedLSTM",
    "FusedLSTMCell",
    "build_info",
    "convert",
    "cpu_isa",
    "cuda_error",
    "explain",
    "lstm",
    "lstm_layer",
]
