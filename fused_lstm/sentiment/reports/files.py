"""Several files that belong together: all of them are replaced, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..stored_files import json_text, write_together


def write_files(folder: Path, contents: Mapping[str, Any]) -> None:
    """Writes text, bytes or JSON values under the names given, into ``folder``, which is made if need be.

    A full disk leaves what was there. Raises `StoreError`.
    """
    write_together(folder, {name: _writer(content) for name, content in contents.items()})


def write_file(path: Path, content: Any) -> None:
    """One file in the same way."""
    write_files(path.parent, {path.name: content})


def _writer(content: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(_bytes(content))

    return write


def _bytes(content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    return (content if isinstance(content, str) else json_text(content)).encode("utf-8", "replace")
