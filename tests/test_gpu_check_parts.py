"""The parts of benchmarks/gpu_check.py: installing, workers that crash, comparing, reading tools, the table."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_gpu_check import ROOT, wheel_of_the_source_tree

from benchmarks.gpu import family, plan, table
from benchmarks.gpu.family import VARIABLE
from benchmarks.gpu.install import Installer, Unusable
from benchmarks.gpu.peers import TOLERANCE, Peers, set_tf32
from benchmarks.gpu.process import Budget, Ended, Process, Supervisor
from benchmarks.gpu.sections import Run, read_pytest, read_sanitizer, sanitizer_options
from benchmarks.gpu.store import Store

# ---- what gets installed


def installer(folder: Path, wheel: Path | None, device: str, answers: dict[str, Ended]) -> tuple[Installer, list[str]]:
    """With an answer for each process by its name; all that ran."""
    ran = []

    def run(command, name, environment, folder, limit):
        ran.append(name)
        return answers[name]

    return Installer(folder, wheel, device, run, limit=1.0), ran


def probe(file: Path | str, cuda_error: str | None = None, device: str | None = "A GPU") -> Ended:
    return Ended(0, json.dumps(dict(file=str(file), build={}, cuda_error=cuda_error, torch="2", device=device)), 1.0)


def test_a_wheel_that_is_none_gives_way(tmp_path):
    wheel = tmp_path / "fused_lstm-9-py3-none-any.whl"
    wheel.write_bytes(b"no wheel")
    this, _ = installer(tmp_path, wheel, "cpu", {"pip": Ended(1, "ERROR: bad zip", 1.0), "probe": probe(ROOT / "x")})
    found = this.install()
    assert found["source"] == "source tree" and found["refused"] == [f"wheel {wheel.name}: pip: ERROR: bad zip"]
    assert found["environment"]["PYTHONPATH"] == os.pathsep.join([str(ROOT), str(tmp_path / "code")])


def test_without_pip_a_wheel_is_unpacked(tmp_path):
    wheel, package = wheel_of_the_source_tree(tmp_path), tmp_path / "package"
    no_pip = Ended(1, "No module named pip", 1.0)
    this, _ = installer(tmp_path, wheel, "cpu", {"pip": no_pip, "probe": probe(package / "fused_lstm/__init__.py")})
    assert this.install()["source"] == f"wheel {wheel.name}"
    assert (package / "fused_lstm/_C.so").read_bytes() == (ROOT / "fused_lstm/_C.so").read_bytes()


def test_what_python_imports_must_be_the_wheel(tmp_path):
    answers = {"pip": Ended(0, "", 1.0), "probe": probe("/elsewhere/fused_lstm/__init__.py")}
    this, _ = installer(tmp_path, tmp_path / "x.whl", "cpu", answers)
    found = this.install()
    assert found["source"] == "installed package" and "/elsewhere/fused_lstm/__init__.py was imp" in found["refused"][0]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (probe("{package}/x", "built with CUDA 12"), "it does not serve CUDA tensors: built with CUDA 12"),
        (probe("{package}/x", device=None), "torch.cuda.is_available() is False"),
        (Ended(1, "ImportError: no", 1.0), "ImportError: no"),
    ],
)
def test_a_library_that_cannot_be_checked_is_refused(tmp_path, answer, reason):
    """All the way down to the build, which is for this device alone."""
    answer = replace(answer, output=answer.output.replace("{package}", str(tmp_path / "package")))
    ok = Ended(0, "9.0", 1.0)
    answers = {"pip": ok, "probe": answer, "capability": ok, "build": Ended(1, "nvcc: error", 1.0)}
    this, ran = installer(tmp_path, tmp_path / "x.whl", "cuda", answers)
    with pytest.raises(Unusable) as caught:
        this.install()
    assert f"wheel x.whl: {reason}" in str(caught.value)
    assert "build: exit code 1: nvcc: error" in str(caught.value) and ran[-2:] == ["capability", "build"]


# ---- a worker that crashes, hangs or asks for another

WORKER = """
import json, os, sys, time
parts, events = sys.argv[1:]
def report(**event):
    with open(events, "a") as file:
        file.write(json.dumps(event) + "\\n")
for part in json.load(open(parts)):
    key = part["key"]
    if key.startswith("early"):
        raise SystemExit("no such device")
    report(begin=key)
    if key.startswith("crash"):
        print("illegal address", flush=True)
        os.abort()
    if key.startswith("hang"):
        time.sleep(60)
    report(end=key, status="done", pid=os.getpid())
    if key.startswith("spoil"):
        report(restart="spoiled")
        break
"""


def supervised(folder: Path, parts: list[dict], limit: float = 20.0) -> tuple[dict[str, dict], list[dict], str]:
    script, file, logged, rows = folder / "worker.py", folder / "parts.json", [], {}
    script.write_text(WORKER)

    def launch(parts: list[dict], events: Path) -> Process:
        file.write_text(json.dumps(parts))
        command = [sys.executable, str(script), str(file), str(events)]
        return Process(command, folder / "output", dict(os.environ), folder)

    supervisor = Supervisor(launch, folder / "events", logged.append, part_limit=1.0)
    left = supervisor.run(parts, limit, lambda row: rows.setdefault(row["key"], row))
    return rows, left, "".join(logged)


def test_one_bad_part_costs_only_itself(tmp_path):
    keys = ["a", "crash", "b", "hang", "spoil", "c"]
    rows, left, log = supervised(tmp_path, [{"key": key} for key in keys])
    assert not left and set(rows) == set(keys)
    assert [key for key in keys if rows[key]["status"] == "failed"] == ["crash", "hang"]
    assert "SIGABRT" in rows["crash"]["error"] and "illegal address" in rows["crash"]["error"]
    assert "ended at its limit" in rows["hang"]["error"]
    assert rows["spoil"]["pid"] != rows["c"]["pid"] and "illegal address" in log


def test_a_family_that_keeps_crashing_is_given_up(tmp_path):
    parts = [{"key": f"crash {k}", "family": "cluster"} for k in range(5)] + [{"key": "a", "family": "stepwise"}]
    rows, left, _ = supervised(tmp_path, parts)
    assert not left and rows["a"]["status"] == "done"
    tried = ["not tried" not in row["error"] for row in rows.values() if row["family"] == "cluster"]
    assert tried == [True, True, True, False, False]


def test_a_worker_that_cannot_begin_is_not_started_again(tmp_path):
    rows, left, _ = supervised(tmp_path, [{"key": "early"}, {"key": "b"}])
    assert not left and {row["status"] for row in rows.values()} == {"failed"}
    assert all("no such device" in row["error"] for row in rows.values())


def test_what_time_does_not_suffice_for_is_left_over(tmp_path):
    rows, left, _ = supervised(tmp_path, [{"key": "a"}, {"key": "hang"}, {"key": "b"}], limit=0.7)
    assert list(rows) == ["a"] and [part["key"] for part in left] == ["hang", "b"]


def test_a_family_given_up_in_one_section_is_not_tried_in_the_next(tmp_path):
    rows = [{"key": "x", "family": "grid", "status": "failed", "error": "not tried: grid ended 3 workers before"}]
    entry, state = {"rows": []}, {"sections": {"families": {"rows": rows}}}
    run = Run(Store(tmp_path, state), Budget(60, time.monotonic()), tmp_path, "cpu", None)
    assert run._by_worker("graphs", entry, [{"key": "a", "family": "grid"}], 5.0, 1.0) == "complete"
    assert [row["status"] for row in entry["rows"]] == ["failed"] and not Process.running


# ---- what is compared

PART = dict(dtype="fp32", H=8, B=3, T=4, structure="lengths", family="stepwise")


@pytest.fixture
def peers():
    before = torch.backends.cuda.matmul.allow_tf32
    yield Peers(PART, "cpu")
    set_tf32(before)


@pytest.mark.parametrize("structure", ["lengths", "packed"])
def test_wrong_results_are_found(peers, structure):
    peers.part = {**PART, "structure": structure}
    expected = peers.expected()
    assert peers.worst_error("fused", expected) < TOLERANCE["fp32"] / 10
    with torch.no_grad():
        peers.fused.weight_hh_l0[5, 3] += 1e-2
    assert peers.worst_error("fused", expected) > TOLERANCE["fp32"]
    with torch.no_grad():
        peers.fused.weight_hh_l0[5, 3] = float("nan")
    assert peers.worst_error("fused", expected) == float("inf")


# ---- reading what tools say


def test_reading_pytest():
    text = "tests/x.py::test_a[1] PASSED [ 50%]\ntests/x.py::test_b FAILED [100%]\n"
    summary = "FAILED tests/x.py::test_b - assert 1\n=== 1 failed, 1 passed, 3 skipped, 2 errors in 0.1s ===\n"
    row = read_pytest(Ended(1, text + summary, 1.0))
    assert row["counts"] == {"failed": 1, "passed": 1, "skipped": 3, "error": 2}
    assert row["status"] == "done" and not row["right"] and row["failures"] == ["tests/x.py::test_b - assert 1"]
    hung = read_pytest(Ended(None, text + "tests/x.py::test_c[cluster-1] ", 60.0))
    assert hung["status"] == "failed" and hung["counts"] == {"passed": 1, "failed": 1}
    assert hung["error"] == "ended at its limit of 60 s, at tests/x.py::test_c[cluster-1]"
    assert not read_pytest(Ended(0, "=== 7 skipped in 0.1s ===", 1.0))["right"]
    assert read_pytest(Ended(5, "=== 7 deselected in 0.1s ===", 1.0))["status"] == "failed"  # nothing ran: no success


def test_reading_the_sanitizer():
    clean = "x: served by grid\n========= ERROR SUMMARY: 0 errors\n"
    assert read_sanitizer(Ended(0, clean, 1.0))["right"]
    assert not read_sanitizer(Ended(-11, clean, 1.0))["right"]
    assert read_sanitizer(Ended(0, clean.replace("0 err", "3 err"), 1.0))["errors"] == 3
    assert read_sanitizer(Ended(0, "========= ERROR SUMMARY: 0 errors\n", 1.0))["status"] == "failed"  # ran nothing
    help_text = "...\n --kernel-regex arg ...\n --report-api-errors arg"
    assert sanitizer_options(help_text, "racecheck") == ["--kernel-regex", "kns=fused_lstm"]
    assert sanitizer_options(help_text, "memcheck")[2:] == ["--report-api-errors", "no"]
    assert sanitizer_options("", "memcheck") == []


# ---- who served


@pytest.mark.parametrize(
    ("ran", "served"),
    [(("grid", "grid"), "grid"), (("grid", "stepwise"), "grid/stepwise"), (("stepwise", "stepwise"), "stepwise")],
    ids=str,
)
def test_who_served(monkeypatch, ran, served):
    """The operators count the calls of each family, forward before backward."""
    monkeypatch.delenv(VARIABLE, raising=False)
    counts = [7, 3, 1, 5, 2, 2]

    def call():
        assert os.environ[VARIABLE] == "grid"
        for half, name in enumerate(ran):
            counts[3 * half + family.NAMES.index(name)] += 2

    ops = SimpleNamespace(fused_lstm=SimpleNamespace(cuda_served=lambda: list(counts)))
    monkeypatch.setattr(family, "torch", SimpleNamespace(ops=ops))
    peers = SimpleNamespace(device="cuda", call=lambda which, mode: call)
    assert family.served_by("grid", peers) == served
    assert VARIABLE not in os.environ


# ---- plan and table of a real run


def test_the_plan_covers_the_grid():
    parts = plan.grid(stand_in=False)
    wanted = {
        (dtype, H, B, structure)
        for dtype in ("bf16", "fp16", "tf32", "fp32")
        for H in (128, 256, 512, 768, 1024, 2048)
        for B in (1, 16, 64, 256)
        for structure in ("1 layer", "2 layers", "bidirectional", "lengths", "packed")
    }
    assert {(part.dtype, part.H, part.B, part.structure) for part in parts} == wanted
    assert len(parts) == len(wanted) * 3
    assert {part.structure for part in parts[:216]} == {"1 layer"}
    assert {part.dtype for part in parts[:216]} == {"bf16", "fp16", "tf32"}


def grid_row(by: str, eager: float, graph: float | str, **place) -> dict:
    part = plan.Part(**{"dtype": "bf16", "H": 256, "B": 64, "structure": "1 layer", "T": 128, **place}, family=by)
    times = {"torch_us": 1280.0, "ours_us": 1280.0 / eager, "ratio": eager}
    replays = {**times, "ratio": graph} if isinstance(graph, float) else graph
    found = dict(status="done", served=by, right=True, error=1e-3, torch_error=2e-3)
    return {**part.described(), **found, "inference": {"eager": times, "graph": replays},
            "training": {"eager": times, "graph": replays}}  # fmt: skip


def real_state(*rows: dict) -> dict:
    identity = {"device": "A GPU", "torch": "2.11", "version": "0.1", "commit": "abc"}
    sections = {"grid": {"status": "partial", "seconds": 1, "rows": list(rows), "left": ["bf16 H512 ..."]}}
    return {"device": "cuda", "identity": identity, "started": "today", "sections": sections}


def test_goals_count_the_best_family_of_a_row():
    rows = [grid_row("stepwise", 0.5, 2.0), grid_row("cluster", 4.0, 8.0), grid_row("stepwise", 1.0, "no", H=2048)]
    state = real_state(*rows)
    text = table.document(state)
    assert "A GPU, torch 2.11, fused_lstm 0.1 (abc), today" in text
    assert "| everywhere: worst row >= 1 | 1.00 over 4 of 960: met | 8.00 over 2 of 960: met |" in text
    assert "| training: geometric mean >= 2 | 2.00 over 2 of 480: met |" in text
    assert "| bf16, H <= 512: geometric mean >= 3 | 4.00 over 2 of 120: met |" in text
    assert "| packed and lengths: geometric mean >= 5 | not measured | not measured |" in text
    assert "| 256 | 64 | cluster | 10.00 | 2.50 | 4.00 | 2.50 | 8.00 |" in text
    assert "| 2048 | 64 | stepwise | 10.00 | 10.00 | 1.00 | – | – |" in text
    assert "* grid: 1 parts, from bf16 H512 ..." in text
    rows[1]["training"]["eager"]["ratio"] = 0.9
    assert "worst row >= 1 | 0.90 over 4 of 960: NOT met" in table.document(state)
    assert "worst ratio in training: 0.50, bf16 H256 B64 T128 1 layer stepwise" in table.summary(state)


def test_wrong_and_failed_rows_are_shown():
    wrong = {**plan.Part("bf16", 256, 64, "1 layer", 128, "cluster").described(), "status": "done",
             "served": "cluster", "error": 0.5, "right": False}  # fmt: skip
    failed = {**plan.Part("bf16", 256, 16, "1 layer", 128, "grid").described(), "status": "failed", "error": "SIGSEGV"}
    state = real_state(wrong, failed)
    assert list(table.problems(state)) == [
        "grid: bf16 H256 B64 T128 1 layer cluster: WRONG error 0.5",
        "grid: bf16 H256 B16 T128 1 layer grid: SIGSEGV",
    ]
    assert "| grid | partial | 1 | 2 | 0 | 2 |" in table.document(state)
