"""Runs a plan: one group after the other, rows into the file as they come, and what time was too short for."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import limits as limits_of
from . import machine, memory, parts, sentiment
from .measure import Bench, described
from .peers import PEERS
from .plan import Group
from .results_file import Writer, ours_is_bad

Say = Callable[[str], None]


@dataclass
class Runner:
    device: str
    output: Path
    seconds: float  # a race may take
    minutes: float  # everything may take
    where: str | None = None
    say: Say = print
    bench: Bench | None = None
    special: dict[str, Callable[[Group], list[dict]]] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._limits: dict[tuple[int, str], limits_of.Limits] = {}
        self.bench = self.bench or Bench(self.device, self.limits, self.seconds, self.where)
        self.special = {
            "parts": functools.partial(parts.measure, seconds=self.seconds),
            "memory": functools.partial(memory.measure, device=self.device, where=self.where),
            "sentiment": functools.partial(sentiment.measure, device=self.device),
        } | self.special

    def limits(self, threads: int, dtype: str) -> limits_of.Limits:
        """Measured when first asked for, and written into the file."""
        if (threads, dtype) not in self._limits:
            found = limits_of.measure(self.device, threads, (dtype,), self.where)
            self._limits[threads, dtype] = found
            self._writer.write({"kind": "limits", "dtype": dtype, **found.as_dict()})
        return self._limits[threads, dtype]

    def run(self, groups: list[Group]) -> int:
        """Exit status: 1 if a result of ours was wrong or failed."""
        self._writer = Writer(self.output)
        self._writer.run(machine.describe(self.device))
        self._say_missing(groups)
        self._bad, self._left = 0, 0
        try:
            self._groups(groups)
        except KeyboardInterrupt:
            self._end(interrupted=True)
            self.say(f"\nInterrupted. What was measured is in {self._writer.stop()}")
            raise
        self._end()
        self._writer.finish()
        if self._left:
            self.say(f"{self._left} of {len(groups)} were left out: {self.minutes:g} minutes were up (--minutes)")
        return 1 if self._bad else 0

    def _groups(self, groups: list[Group]) -> None:
        for i, group in enumerate(groups):
            if time.monotonic() - self.started > self.minutes * 60:
                self._left += 1
                self._writer.write({**described(group, self.device, ""), "status": "not run", "note": "time was up"})
                continue
            begun = time.monotonic()
            rows = self._measured(group)
            for row in rows:
                self._writer.write(row)
                self._bad += ours_is_bad(row)
            told = "; ".join(map(brief, rows)) or "nothing"
            self.say(f"[{i + 1}/{len(groups)}] {headline(group)}: {told}  [{time.monotonic() - begun:.1f} s]")

    def _end(self, **more: object) -> None:
        minutes = round((time.monotonic() - self.started) / 60, 2)
        self._writer.write({"kind": "end", "minutes": minutes, "load": machine.load(), "left": self._left, **more})

    def _measured(self, group: Group) -> list[dict]:
        measure = self.special.get(group.section, self.bench.measure)
        try:
            return measure(group)
        except parts.Unavailable as error:
            return [{**described(group, self.device, ""), "status": "missing", "note": str(error)}]
        except Exception as error:  # noqa: BLE001  (one measurement must not cost the others)
            note = f"{type(error).__name__}: {error}"[:300]
            return [{**described(group, self.device, ""), "status": "failed", "note": note}]

    def _say_missing(self, groups: list[Group]) -> None:
        for name in dict.fromkeys(name for group in groups for name in group.peers):
            peer = PEERS[name]
            if why := peer.missing(self.device):
                self.say(f"without {name}: {why}. To have it: {peer.install}")
                self._writer.write({"kind": "peer", "peer": name, "missing": why, "install": peer.install})
            else:
                self._writer.write({"kind": "peer", "peer": name, "what": peer.what})


def headline(group: Group) -> str:
    axis = f" {group.axis}" if group.axis else ""
    return f"{group.section}{axis} {group.shape} {group.mode} {group.dtype}, {group.threads} thread(s)"


def brief(row: dict) -> str:
    if "ratio" in row:
        bounds = "" if row.get("low") is None else f" ({row['low']:.2f}..{row['high']:.2f})"
        noisy = " noisy" if row["status"] == "noisy" else ""
        return f"{row['peer']} {row['ratio']:.2f}{bounds}{noisy}{'' if bounds or not noisy else ', machine busy'}"
    if "parts" in row:
        return f"{len(row['parts'])} parts"
    return f"{row['peer'] or 'ours'} {row['status']}"
