"""Files of models and runs: written in one step, read with an error that names file and remedy, never unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import UserError


class StoreError(UserError):
    """A model folder cannot be written or read; the message names the file and the remedy."""


def require_safetensors() -> Any:
    """The module safetensors.torch; `StoreError` with the remedy if it is missing."""
    try:
        import safetensors.torch
    except ImportError as error:
        raise StoreError('models are stored with safetensors: pip install "fused_lstm[sentiment]"') from error
    return safetensors.torch


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Lets ``write`` fill a temporary file beside ``path``, then puts it in place in one step.

    The temporary name keeps the suffix, since some writers choose the format by it.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file for people to read, atomically."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path, kind: type = dict) -> Any:
    """A JSON file that holds a ``kind``. Raises `StoreError`."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, kind):
        raise StoreError(f"{path}: expected a JSON {kind.__name__} but found {type(value).__name__}")
    return value


def checksum(path: Path) -> str:
    """SHA-256 of a file. Raises `StoreError`."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
