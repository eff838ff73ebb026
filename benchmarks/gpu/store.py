"""The results file: rewritten as a whole, atomically, so that whatever ends the run leaves a readable one."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

FORMAT = 1
NAME = "gpu_check.json"


def read(folder: Path) -> dict[str, Any] | None:
    """The results of an earlier run, or None where there are none."""
    file = folder / NAME
    if not file.is_file():
        return None
    try:
        state = json.loads(file.read_text())
    except ValueError as error:
        raise SystemExit(f"gpu_check: {file} is not JSON ({error}): remove it, or resume from another folder") from None
    if state.get("format") != FORMAT:
        raise SystemExit(f"gpu_check: {file} has format {state.get('format')}, not {FORMAT}: start in a new folder")
    return state


class Store:
    def __init__(self, folder: Path, state: dict[str, Any]) -> None:
        self.folder, self.state = folder, state
        folder.mkdir(parents=True, exist_ok=True)
        self._log = (folder / "gpu_check.log").open("ab", buffering=0)
        self._written = 0.0

    @property
    def sections(self) -> dict[str, Any]:
        return self.state.setdefault("sections", {})

    def save(self, at_most_every: float = 0.0) -> None:
        if time.monotonic() - self._written < at_most_every:
            return
        self._written = time.monotonic()
        new = self.folder / (NAME + ".new")
        new.write_text(json.dumps(self.state, indent=1) + "\n")
        os.replace(new, self.folder / NAME)

    def log(self, text: str | bytes) -> None:
        data = text.encode() if isinstance(text, str) else text
        self._log.write(data if data.endswith(b"\n") else data + b"\n")

    def say(self, text: str) -> None:
        print(text, flush=True)
        self.log(text)
