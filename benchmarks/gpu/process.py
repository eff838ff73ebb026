"""Processes with a time limit, and work cut into parts, of which one may crash or hang without harm to the others."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

POLL = 0.05  # seconds
PATIENCE = 3  # workers that one family may end
NOT_TRIED = "not tried"


@dataclass
class Budget:
    """When the run has to end."""

    seconds: float
    start: float

    @property
    def left(self) -> float:
        return self.start + self.seconds - time.monotonic()


@dataclass(frozen=True)
class Ended:
    code: int | None  # None: it was ended at its limit
    output: str
    seconds: float

    @property
    def how(self) -> str:
        if self.code is None:
            return f"ended at its limit of {self.seconds:.0f} s"
        return f"killed by {signal.Signals(-self.code).name}" if self.code < 0 else f"exit code {self.code}"

    def last_words(self, lines: int = 4) -> str:
        return "\n".join(self.output.strip().splitlines()[-lines:])


class Process:
    """A process in a group of its own, whose output goes to a file."""

    running: set[Process] = set()

    def __init__(self, command: Sequence[str], output: Path, environment: dict[str, str], folder: Path) -> None:
        self.path, self.start = output, time.monotonic()
        with output.open("wb") as file:
            self._popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                env=environment, cwd=folder, start_new_session=True,
            )  # fmt: skip
        Process.running.add(self)

    def alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    def end(self) -> Ended:
        """How it ended; ends it if it did not."""
        code = self._popen.poll()
        try:  # what it started as well
            os.killpg(self._popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        with contextlib.suppress(subprocess.TimeoutExpired):  # a driver may hold on to it; the check goes on
            self._popen.wait(15)
        Process.running.discard(self)
        return Ended(code, self.path.read_text(errors="replace"), self.seconds)

    def wait(self, limit: float) -> Ended:
        while self.alive() and self.seconds < limit:
            time.sleep(POLL)
        return self.end()


def end_all() -> None:
    for process in list(Process.running):
        process.end()


class Events:
    """Lines of JSON that a worker appends to a file."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(b"")
        self._file = path.open("rb")
        self._rest = b""

    def read(self) -> list[dict]:
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [json.loads(line) for line in lines]


@dataclass
class Supervisor:
    """Has parts done by a worker, one after another; starts a new worker without the part that ended the last one.

    start: starts a worker on a list of parts; it reports {"begin": key}, then {"end": key, ...results} for each, and
        {"restart": reason} where it cannot go on but is not to blame, as after an error that spoils the CUDA context.
    """

    start: Callable[[list[dict], Path], Process]
    events: Path
    log: Callable[[str], None]
    part_limit: float  # seconds that one part may take
    first_limit: float = 90.0  # until the first part begins: imports, the CUDA context
    _failures: dict[str | None, int] = field(default_factory=dict)

    def run(self, parts: list[dict], limit: float, done: Callable[[dict], None]) -> list[dict]:
        """Calls ``done`` with each result, failures included; returns the parts that time did not suffice for."""
        finish = time.monotonic() + limit
        while parts and time.monotonic() < finish:
            before = len(parts)
            parts, failed, why = self._one_worker(parts, finish, done)
            if failed is not None:
                parts = [part for part in parts if part["key"] != failed["key"]]
                done(failed)
                parts = self._without_hopeless(failed, parts, done)
            elif len(parts) == before and time.monotonic() < finish:  # it did nothing, nor would the next one
                for part in parts:
                    done({**part, "status": "failed", "error": f"worker: {why}"})
                return []
        return parts

    def _without_hopeless(self, failed: dict, parts: list[dict], done: Callable[[dict], None]) -> list[dict]:
        """Parts less those of a family that ended its worker too often: each new worker costs seconds."""
        family = failed.get("family")
        self._failures[family] = self._failures.get(family, 0) + 1
        if family is None or self._failures[family] < PATIENCE:
            return parts
        for part in parts:
            if part.get("family") == family:
                done({**part, "status": "failed", "error": f"{NOT_TRIED}: {family} ended {PATIENCE} workers before"})
        return [part for part in parts if part.get("family") != family]

    def _one_worker(
        self, parts: list[dict], finish: float, done: Callable[[dict], None]
    ) -> tuple[list[dict], dict | None, str | None]:
        """Parts left, the failure of the part that was under way when the worker ended, and how it ended."""
        events, missing = Events(self.events), {part["key"]: part for part in parts}
        process, current, spoiled = self.start(parts, self.events), None, False
        since = time.monotonic()
        while True:
            alive = process.alive()  # asked before reading, so that nothing written before the end is lost
            for event in events.read():
                since = time.monotonic()
                if "begin" in event:
                    current = event["begin"]
                elif "end" in event:
                    current = None
                    done({**missing.pop(event.pop("end")), **event})
                else:
                    spoiled = True
            if not missing or not alive or time.monotonic() >= finish:
                break
            if time.monotonic() - since > (self.part_limit if current else self.first_limit):
                break
            time.sleep(POLL)
        ended = process.wait(5.0) if not missing or spoiled else process.end()
        self.log(ended.output)
        why, left = f"{ended.how}: {ended.last_words()}", list(missing.values())
        if current is None or time.monotonic() >= finish:
            return left, None, why
        return left, {**missing[current], "status": "failed", "error": why}, why
