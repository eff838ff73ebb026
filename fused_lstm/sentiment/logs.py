"""Logs for programs: the history as CSV, and TensorBoard's files where it is installed and asked for."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from .stored_files import write_text

HISTORY = "history.csv"
TENSORBOARD = "tensorboard"


class RunLog(Protocol):
    """Told of steps and epochs; ``history`` is everything so far."""

    def step(self, step: int, values: dict[str, float]) -> None: ...
    def epoch(self, history: Sequence[Any], step: int) -> None: ...
    def close(self) -> None: ...


class NoLog:
    """Tells nobody."""

    def step(self, step: int, values: dict[str, float]) -> None: ...
    def epoch(self, history: Sequence[Any], step: int) -> None: ...
    def close(self) -> None: ...


class FolderLog:
    """``history.csv`` in ``folder``, written anew after each epoch, so that a resumed run leaves no row twice."""

    def __init__(self, folder: Path, tensorboard: bool = False, say: Callable[[str], None] = print) -> None:
        self.folder = folder
        self._say = say
        self._board = self._open_board() if tensorboard else None

    def _open_board(self) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._say('No TensorBoard log: pip install "fused_lstm[tensorboard]".')
            return None
        return SummaryWriter(str(self.folder / TENSORBOARD))

    def step(self, step: int, values: dict[str, float]) -> None:
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def epoch(self, history: Sequence[Any], step: int) -> None:
        rows = [asdict(metrics) for metrics in history]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        try:
            write_text(self.folder / HISTORY, text.getvalue())
        except OSError as error:
            self._say(f"Warning: {self.folder / HISTORY} was not written: {error.strerror or error}")
        if self._board is not None:
            for name, value in rows[-1].items():
                if name not in ("epoch", "train_loss"):
                    self._board.add_scalar(f"epoch/{name}", value, step)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
