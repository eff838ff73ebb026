"""Several files that belong together: all of them are replaced, or none."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..stored_files import StoreError


def write_files(folder: Path, contents: Mapping[str, Any]) -> None:
    """Writes text, bytes or JSON values under the names given, into ``folder``, which is made if need be.

    Everything is on disk under temporary names before the first file is replaced, so a full disk leaves what was there.
    Raises `StoreError`.
    """
    staged: list[tuple[Path, Path]] = []
    name = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            handle, temporary = tempfile.mkstemp(prefix=f".{name}-", dir=folder)
            staged.append((Path(temporary), folder / name))
            with os.fdopen(handle, "wb") as stream:
                stream.write(_bytes(content))
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(0o644)
        for temporary, target in staged:
            os.replace(temporary, target)
    except OSError as error:
        raise StoreError(
            f"{folder / name}: cannot be written: {error.strerror}; files of an earlier run were left as they were"
        ) from error
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)


def write_file(path: Path, content: Any) -> None:
    """One file in the same way."""
    write_files(path.parent, {path.name: content})


def _bytes(content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    if not isinstance(content, str):
        content = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    return content.encode("utf-8", "replace")
