"""What runs the model: the LSTM's implementation and the threads."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .recurrent import BACKENDS
from .settings import at_least, setting


@dataclass(frozen=True)
class MachineOptions:
    """Machine."""

    lstm: str = setting("fused", "fused_lstm.FusedLSTM or torch.nn.LSTM", choices=BACKENDS)
    threads: int | None = setting(None, "CPU threads", at_least(1))

    def apply(self) -> None:
        """Sets the number of threads of this process."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
