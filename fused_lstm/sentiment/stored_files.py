"""Files of models and runs: written in one step, read with an error that names file and remedy, never unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
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


def write_together(folder: Path, writers: Mapping[str, Callable[[Path], None]]) -> None:
    """Files of ``folder``, which is made if need be, by name: all of them are replaced, or none.

    Each of ``writers`` fills a temporary file, in their order; all are on disk before the first is put in place.
    Raises `StoreError`.
    """
    staged: list[tuple[Path, Path]] = []
    name = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, write in writers.items():
            handle, temporary = tempfile.mkstemp(prefix=f".{name}-", suffix=Path(name).suffix, dir=folder)
            os.close(handle)
            staged.append((Path(temporary), folder / name))
            write(Path(temporary))
            Path(temporary).chmod(0o644)
            with open(temporary, "rb") as stream:
                os.fsync(stream.fileno())
        for temporary, target in staged:
            os.replace(temporary, target)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"{folder / name}: cannot be written: {reason}; files of an earlier run were left as they were"
        ) from error
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file for people to read, atomically."""
    write_text(path, json_text(value))


def json_text(value: object) -> str:
    """JSON for people to read."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


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
