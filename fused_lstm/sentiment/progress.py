"""A progress bar with samples a second on a terminal; nothing elsewhere, or without tqdm."""

from __future__ import annotations

import sys
from typing import Any


class Progress:
    """Counts ``samples``. A context manager: the bar is gone when it is left."""

    def __init__(self, samples: int, title: str, unit: str = "samples", wanted: bool = True) -> None:
        self._bar: Any = None
        if not wanted or not sys.stderr.isatty():
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self._bar = tqdm(total=samples, desc=title, unit=unit, unit_scale=True, leave=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def start(self, done: int) -> None:
        """``done`` were counted before a resume, and say nothing about the speed."""
        if self._bar is not None and done:
            self._bar.initial = self._bar.n = done
            self._bar.refresh()

    def add(self, samples: int) -> None:
        if self._bar is not None:
            self._bar.update(samples)

    def tell(self, loss: float) -> None:
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
