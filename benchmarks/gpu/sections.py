"""The sections of the check, each in processes of its own: whatever one of them does, the next one gets its turn."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import plan
from .install import ROOT, Installer, Unusable
from .process import NOT_TRIED, Budget, Ended, Process, Supervisor
from .store import Store

# Seconds that a section may take at most; what it does not use is left for those after it.
LIMITS = {
    "environment": 40, "install": 270, "tests": 130, "families": 60, "sanitizer": 110, "graphs": 40, "grid": 540,
    "profile": 40,
}  # fmt: skip
# Seconds that a section leaves to those after it.
RESERVED = {"grid": 20, "tests": 60, "install": 60}
ALWAYS = ("install",)  # even where it was done before: everything else needs what it finds


@dataclass
class Run:
    store: Store
    budget: Budget
    scratch: Path
    device: str
    wheel: Path | None
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def stand_in(self) -> bool:
        return self.device == "cpu"

    def section(self, name: str) -> None:
        """Runs one section and records how it went."""
        entry = self.store.sections[name]
        if entry["status"] == "complete" and name not in ALWAYS:
            self.store.say(f"{name}: complete already")
            return
        limit = min(LIMITS[name], self.budget.left - RESERVED.get(name, 5))
        if limit < 5:
            entry["note"] = "no time was left"
            self.store.say(f"{name}: no time left")
            self.store.save()
            return
        self.store.say(f"{name} ...")
        start, before = time.monotonic(), entry.get("seconds", 0.0)
        entry.pop("note", None)
        try:
            entry["status"] = getattr(self, f"_{name}")(entry, limit)
        except Exception as error:  # recorded; the next section has its turn
            entry.update(status="failed", note=f"{type(error).__name__}: {error}")
        entry["seconds"] = round(before + time.monotonic() - start, 1)
        self.store.save()
        note = f" ({entry['note']})" if "note" in entry else ""
        self.store.say(f"{name}: {entry['status']}, {len(entry['rows'])} rows, {time.monotonic() - start:.0f} s{note}")

    # ---- processes

    def start(self, command: list[str], name: str, environment: dict[str, str], folder: Path) -> Process:
        self.store.log(f"$ {' '.join(command)}")
        return Process(command, self.scratch / f"{name}.out", environment, folder)

    def run(self, command: list[str], name: str, environment: dict, folder: Path, limit: float) -> Ended:
        ended = self.start(command, name, environment, folder).wait(min(limit, max(1.0, self.budget.left - 2)))
        self.store.log(f"{ended.output}\n[{name}: {ended.how}, {ended.seconds:.1f} s]")
        return ended

    def _by_worker(self, task: str, entry: dict, parts: list[dict], limit: float, part_limit: float) -> str:
        """Parts not done yet; those that failed before get another chance."""
        rows = {row["key"]: row for row in entry["rows"] if row["status"] == "done"}
        order = {part["key"]: k for k, part in enumerate(parts)}

        def done(row: dict) -> None:
            rows[row["key"]] = row
            entry["rows"] = sorted(rows.values(), key=lambda row: order.get(row["key"], len(order)))
            entry["status"] = "partial"  # should this process be killed
            self.store.save(at_most_every=2.0)

        for part in parts:
            if part.get("family") in self._given_up() and task != "families" and part["key"] not in rows:
                done({**part, "status": "failed", "error": f"{NOT_TRIED}: {part['family']} was given up in families"})

        def start(parts: list[dict], events: Path) -> Process:
            file = self.scratch / f"{task}-parts.json"
            file.write_text(json.dumps(parts))
            command = [sys.executable, "-m", "benchmarks.gpu.worker", task, "--device", self.device]
            command += ["--parts", str(file), "--events", str(events)]
            return self.start(command, task, self.environment, self.scratch)

        supervisor = Supervisor(start, self.scratch / f"{task}-events.jsonl", self.store.log, part_limit)
        left = supervisor.run([part for part in parts if part["key"] not in rows], limit, done)
        entry["left"] = [part["key"] for part in left]
        return "partial" if left else "complete"

    def _given_up(self) -> set[str]:
        """Families that hang or crash time after time: minutes that other sections can use."""
        rows = self.store.sections.get("families", {}).get("rows", [])
        return {row["family"] for row in rows if row.get("error") and str(row["error"]).startswith(NOT_TRIED)}

    # ---- the sections: each returns its status

    def _install(self, entry: dict, limit: float) -> str:
        installer = Installer(self.scratch, self.wheel, self.device, self.run, limit)
        try:
            found = installer.install()
        except Unusable as error:
            self.store.state["unusable"] = entry["note"] = str(error)
            return "failed"
        self.environment = found.pop("environment")
        if found["refused"]:
            entry["note"] = "; ".join(found["refused"])
        identity = {
            "mode": self.device, "device": found["device"], "torch": found["torch"],
            "version": found["build"]["version"], "commit": found["build"]["commit"],
        }  # fmt: skip
        known = self.store.state.setdefault("identity", identity)
        if known != identity:
            raise SystemExit(f"gpu_check: results of {known} cannot go on with {identity}: start in a new folder")
        entry["rows"] = [found]
        return "complete"

    def _environment(self, entry: dict, limit: float) -> str:
        return self._by_worker("environment", entry, [{"key": "environment"}], limit, part_limit=limit)

    def _tests(self, entry: dict, limit: float) -> str:
        finish, rows = time.monotonic() + limit, {row["key"]: row for row in entry["rows"] if row["status"] == "done"}
        for name, arguments in self._test_runs().items():
            left = finish - time.monotonic()
            if name in rows or left < 5:
                continue
            command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "-rfE", "--tb=short"]
            command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), *arguments]
            ended = self.run(command, "pytest", self.environment, self.scratch, limit=min(left, 60))
            rows[name] = {"key": name, **read_pytest(ended)}
            entry["rows"] = list(rows.values())
            self.store.save()
        return "complete" if rows.keys() == self._test_runs().keys() else "partial"

    def _test_runs(self) -> dict[str, list[str]]:
        if self.stand_in:
            return {"rehearsal": [str(ROOT / "tests/test_lint.py"), "--noconftest", "-k", "good_tree or long_file"]}
        device = str(ROOT / "tests/test_cuda_device.py")
        runs = {family: [device, "-k", f"{family} and not rehearsal"] for family in plan.FAMILIES}
        runs["on the CPU of this machine"] = [str(ROOT / "tests/test_modules.py")]
        return runs

    def _families(self, entry: dict, limit: float) -> str:
        return self._by_worker("families", entry, plan.correctness(self.stand_in), limit, part_limit=15)

    def _sanitizer(self, entry: dict, limit: float) -> str:
        tool = find_sanitizer()
        if tool is None:
            entry["note"] = "compute-sanitizer is not installed"
            return "not run"
        # The caching allocator would hide what lies beyond a tensor but still in its block.
        environment = {**self.environment, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        rows = {row["key"]: row for row in entry["rows"] if row["status"] == "done"}
        help_text = self.run([tool, "--help"], "help", environment, self.scratch, limit=20).output
        finish = time.monotonic() + limit
        for check in plan.SANITIZER_TOOLS:
            started = {}
            for family in plan.FAMILIES:  # side by side: nothing is timed
                if f"{check} {family}" in rows or finish - time.monotonic() < 5:
                    continue
                command = [tool, "--tool", check, *sanitizer_options(help_text, check)]
                command += [sys.executable, "-m", "benchmarks.gpu.small", family, "--device", self.device]
                started[f"{check} {family}"] = self.start(command, f"{check}-{family}", environment, self.scratch)
            for key, process in started.items():
                ended = process.wait(finish - time.monotonic() + process.seconds)
                self.store.log(f"{ended.output}\n[{key}: {ended.how}]")
                rows[key] = {"key": key, **read_sanitizer(ended)}
                entry["rows"] = list(rows.values())
                self.store.save()
        return "complete" if len(rows) == len(plan.SANITIZER_TOOLS) * len(plan.FAMILIES) else "partial"

    def _graphs(self, entry: dict, limit: float) -> str:
        return self._by_worker("graphs", entry, plan.captures(self.stand_in), limit, part_limit=15)

    def _grid(self, entry: dict, limit: float) -> str:
        parts = [part.described() for part in plan.grid(self.stand_in)]
        return self._by_worker("grid", entry, parts, limit, part_limit=25)

    def _profile(self, entry: dict, limit: float) -> str:
        """Of the rows where we are slowest compared with nn.LSTM."""
        timed = [row for row in self.store.sections.get("grid", {}).get("rows", []) if "training" in row]
        if not timed:
            entry["note"] = "the grid has no timed row"
            return "not run"
        timed.sort(key=lambda row: row["training"]["eager"]["ratio"])
        names = ("key", "dtype", "H", "B", "structure", "T", "family")
        parts = [{name: row[name] for name in names} for row in timed[: 1 if self.stand_in else 4]]
        entry["rows"] = []
        return self._by_worker("profile", entry, parts, limit, part_limit=20)


SECTIONS = ("install", "environment", "tests", "families", "sanitizer", "graphs", "grid", "profile")


def read_pytest(ended: Ended) -> dict:
    """Counts and failures, from the summary or, where the run did not get that far, from the lines of single tests."""
    summary = re.search(r"^=+ (.*\b(?:passed|failed|skipped|error|deselected)\b.*) =+$", ended.output, re.MULTILINE)
    if summary:
        found = re.findall(r"(\d+) (passed|failed|skipped|error)", summary[1])
        counts = {outcome: int(count) for count, outcome in found}
    else:
        lines = re.findall(r"^\S+::.* (PASSED|FAILED) ", ended.output, re.MULTILINE)
        counts = {outcome: lines.count(outcome.upper()) for outcome in ("passed", "failed")}
    failures = re.findall(r"^(?:FAILED|ERROR) (.*)$", ended.output, re.MULTILINE)
    row = {"counts": counts, "failures": failures[:50], "seconds": round(ended.seconds, 1)}
    if summary and ended.code in (0, 1):
        return {"status": "done", "right": ended.code == 0 and counts.get("passed", 0) > 0, **row}
    tests = re.findall(r"^(\S+::.*?)(?: PASSED| FAILED| SKIPPED|\s*$)", ended.output, re.MULTILINE)
    return {"status": "failed", "right": False, "error": f"{ended.how}, at {(tests or ['the start'])[-1]}", **row}


def find_sanitizer() -> str | None:
    home = Path(os.environ.get("CUDA_HOME") or "/usr/local/cuda")
    for place in ("compute-sanitizer", home / "bin/compute-sanitizer", home / "compute-sanitizer/compute-sanitizer"):
        if found := shutil.which(str(place)):
            return found
    return None


def sanitizer_options(help_text: str, check: str) -> list[str]:
    """Only kernels of this project: those of cuBLAS take minutes and are not ours to mend. As far as the tool can."""
    option = next((option for option in ("--kernel-regex", "--filter") if option in help_text), None)
    options = [option, "kns=fused_lstm"] if option else []
    if check == "memcheck" and "--report-api-errors" in help_text:
        options += ["--report-api-errors", "no"]  # torch asks the driver for what may not be there
    return options


def read_sanitizer(ended: Ended) -> dict:
    """The tool's own summary; without one it is no result."""
    summaries = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)(.*)", ended.output)
    row = {"how": ended.how, "seconds": round(ended.seconds, 1)}
    served = re.findall(r"served by (\w+)", ended.output)
    if not summaries or not served:
        return {"status": "failed", "right": False, "error": f"no summary: {ended.last_words()}", **row}
    errors = sum(int(count) for count, _ in summaries)
    first = [line for line in ended.output.splitlines() if line.startswith("=========")][:12] if errors else []
    return {"status": "done", "right": errors == 0 and ended.code == 0, "errors": errors, "served": sorted(set(served)),
            "calls": len(served), "first": first, **row}  # fmt: skip
