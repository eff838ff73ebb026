"""Checkpoints of a run: one safetensors file each, tensors and JSON, put in place in one step, checked when read.

The newest two are kept. One that cannot be written leaves those before it as they are; one that cannot be read makes
room for the one before. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import UserError
from .stored_files import require_safetensors, write_atomically

FORMAT = "fused_lstm.sentiment.checkpoint/1"
_NAME = re.compile(r"step-(\d{9})\.safetensors")


class CheckpointError(UserError):
    """A checkpoint belongs to another run; the message says what differs and the remedy."""


class _Broken(Exception):
    """A file is no whole checkpoint."""


@dataclass
class Snapshot:
    """``plain`` holds JSON values, ``tensors`` the rest."""

    plain: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def put(self, prefix: str, tensors: dict[str, Tensor]) -> None:
        self.tensors |= {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}

    def take(self, prefix: str) -> dict[str, Tensor]:
        start = f"{prefix}/"
        return {name[len(start) :]: tensor for name, tensor in self.tensors.items() if name.startswith(start)}


class Checkpoints:
    """The checkpoints in ``folder``, of the run that ``identity`` describes: settings, data, anything that decides it.

    `due` says when it is time for one: after ``seconds``, or ``steps`` (0: by time alone). ``say`` tells of trouble.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        seconds: float = 120.0,
        steps: int = 0,
        say: Callable[[str], None] = print,
        keep: int = 2,
    ) -> None:
        require_safetensors()
        self.folder, self.seconds, self.steps, self.say, self.keep = folder, seconds, steps, say, keep
        self.identity = json.loads(json.dumps(identity))
        self._last_time, self._last_step = time.monotonic(), 0

    def due(self, step: int) -> bool:
        if self.steps and step - self._last_step >= self.steps:
            return True
        return time.monotonic() - self._last_time >= self.seconds

    def save(self, step: int, snapshot: Snapshot) -> bool:
        """Writes one. Trouble with the disk is said, costs this checkpoint alone, and gives False."""
        self._last_time, self._last_step = time.monotonic(), step
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / f"step-{step:09d}.safetensors", lambda path: self._write(path, snapshot))
            _sync_folder(self.folder)
            for old in self._files()[self.keep :]:
                old.unlink(missing_ok=True)
        except OSError as error:
            self.say(f"Warning: no checkpoint at step {step}: {error.strerror or error}. Earlier ones are intact.")
            return False
        return True

    def load(self) -> Snapshot | None:
        """The newest that is whole; None if there is none. `CheckpointError` if it is of another run."""
        for path in self._files():
            try:
                snapshot, identity = self._read(path)
            except (_Broken, OSError) as error:
                self.say(f"Warning: {path}: {error}; going back to the checkpoint before it.")
                continue
            self._compare(path, identity)
            self._last_step = int(_NAME.fullmatch(path.name)[1])
            return snapshot
        return None

    def check(self) -> None:
        """Raises `CheckpointError` if the newest is of another run, without reading the tensors."""
        for path in self._files():
            try:
                identity = _identity(path)
            except (_Broken, OSError):
                continue
            self._compare(path, identity)
            return

    def clear(self) -> None:
        """Removes all of them: the run is over, or is to start anew."""
        for path in self._files():
            path.unlink(missing_ok=True)
        for path in self.folder.glob(".step-*.safetensors"):  # what a kill during writing left
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        """Newest first."""
        if not self.folder.is_dir():
            return []
        return sorted((path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)

    def _write(self, path: Path, snapshot: Snapshot) -> None:
        from safetensors import SafetensorError

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in snapshot.tensors.items()}
        plain = json.dumps(snapshot.plain)
        header = {
            "format": FORMAT,
            "identity": json.dumps(self.identity),
            "plain": plain,
            "sha256": _checksum(plain, tensors),
        }
        try:
            require_safetensors().save_file(tensors, path, header)
        except SafetensorError as error:  # a full disk, in the words of its own library
            raise OSError(str(error)) from error

    def _read(self, path: Path) -> tuple[Snapshot, dict[str, Any]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
            if header.get("format") != FORMAT:
                raise _Broken(f"expected format {FORMAT!r}, found {header.get('format')!r}")
            if _checksum(header["plain"], tensors) != header["sha256"]:
                raise _Broken("the checksum does not fit")
            return Snapshot(json.loads(header["plain"]), tensors), json.loads(header["identity"])
        except (SafetensorError, KeyError, ValueError) as error:
            raise _Broken(f"is damaged ({error})") from error

    def _compare(self, path: Path, identity: dict[str, Any]) -> None:
        names = sorted(identity.keys() | self.identity.keys())
        differ = [name for name in names if identity.get(name) != self.identity.get(name)]
        if differ:
            listed = ", ".join(f"{n} was {identity.get(n)!r}, is {self.identity.get(n)!r}" for n in differ[:4])
            raise CheckpointError(
                f"{path.parent}: holds an unfinished run with other settings or data ({listed}); "
                "repeat its command to finish it, choose another --output, or give --fresh to start anew"
            )


def _identity(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {})["identity"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise _Broken(f"is damaged ({error})") from error


def _checksum(plain: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(plain.encode())
    for name in sorted(tensors):
        tensor = tensors[name].reshape(-1)
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(memoryview(tensor.view(torch.uint8).numpy()) if tensor.numel() else b"")
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
