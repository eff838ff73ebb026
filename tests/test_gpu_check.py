"""benchmarks/gpu_check.py: rehearsed on the CPU at toy sizes, and what it does when things go wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from benchmarks.gpu import plan  # noqa: E402

SANITIZER = """#!/bin/sh
case "$*" in
  *--help*) echo "  --kernel-regex arg"; exit 0 ;;
  *"racecheck --kernel-regex kns=fused_lstm"*cluster*) echo "bf16: served by cluster"
    echo "========= Error: Race reported between Write access and Read access"
    echo "========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)" ;;
  *synccheck*grid*) echo "killed before it could say anything" ;;
  *) echo "bf16: served by stepwise"; echo "========= ERROR SUMMARY: 0 errors" ;;
esac
"""


def start(out: Path, *arguments: object, path: str | None = None) -> subprocess.Popen:
    environment = {**os.environ, "CUDA_HOME": "/nonexistent", "PATH": path or os.environ["PATH"]}
    command = [sys.executable, str(ROOT / "benchmarks/gpu_check.py"), "--device", "cpu", "--out", str(out)]
    return subprocess.Popen(
        [*command, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> subprocess.CompletedProcess:
    output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def results(out: Path) -> dict:
    return json.loads((out / "gpu_check.json").read_text())


def wheel_of_the_source_tree(folder: Path) -> Path:
    wheel, info = folder / "fused_lstm-0.1.0-py3-none-any.whl", "fused_lstm-0.1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in [*(ROOT / "fused_lstm").glob("*.py"), ROOT / "fused_lstm/_C.so"]:
            archive.write(file, f"fused_lstm/{file.name}")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: fused_lstm\nVersion: 0.1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture(scope="module")
def rehearsals(tmp_path_factory):
    """Two runs side by side. One checks a wheel, under a sanitizer that finds something. The other has the source tree
    and no sanitizer, is interrupted in the grid, and resumed."""
    folder = tmp_path_factory.mktemp("gpu_check")
    (folder / "bin").mkdir()
    (folder / "bin/compute-sanitizer").write_text(SANITIZER)
    (folder / "bin/compute-sanitizer").chmod(0o755)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    checks = "environment,tests,families,sanitizer"
    wheel = wheel_of_the_source_tree(folder)
    first = start(folder / "first", "--wheel", wheel, "--sections", checks, path=path)

    second, asked = folder / "second", ["--sections", "sanitizer,graphs,grid,profile"]
    folders = os.environ["PATH"].split(os.pathsep)
    without = os.pathsep.join(path for path in folders if not Path(path, "compute-sanitizer").exists())
    interrupted = start(second, *asked, path=without)
    while interrupted.poll() is None and not _grid_began(second):
        time.sleep(0.01)
    interrupted.send_signal(signal.SIGTERM)
    interrupted = finish(interrupted)
    shutil.copytree(second, folder / "interrupted")
    resumed = finish(start(second, *asked, "--resume", path=without))
    return SimpleNamespace(folder=folder, first=finish(first), interrupted=interrupted, resumed=resumed)


def _grid_began(out: Path) -> bool:
    return (out / "gpu_check.json").exists() and bool(results(out)["sections"].get("grid", {}).get("rows"))


def test_checks_of_a_wheel(rehearsals):
    state = results(rehearsals.folder / "first")
    sections = {name: section["status"] for name, section in state["sections"].items()}
    assert sections == dict.fromkeys(["install", "environment", "tests", "families", "sanitizer"], "complete"), sections
    (installed,) = state["sections"]["install"]["rows"]
    assert installed["source"].startswith("wheel fused_lstm-0.1.0") and not installed["refused"]
    assert not Path(installed["file"]).is_relative_to(ROOT), "the source tree was imported instead of the wheel"
    (environment,) = state["sections"]["environment"]["rows"]
    assert environment["torch"] == installed["torch"] and environment["cores"] > 0
    assert environment["fused_lstm"]["file"] == installed["file"]
    (tests,) = state["sections"]["tests"]["rows"]
    assert tests["right"] and tests["counts"] == {"passed": 2}
    families = state["sections"]["families"]["rows"]
    assert [row["key"] for row in families] == [case["key"] for case in plan.correctness(stand_in=True)]
    assert all(row["right"] and row["same_bits"] and 0 < row["error"] < row["tolerance"] for row in families)


def test_what_the_sanitizer_found(rehearsals):
    rows = {row["key"]: row for row in results(rehearsals.folder / "first")["sections"]["sanitizer"]["rows"]}
    assert len(rows) == 9
    assert rows["racecheck cluster"]["errors"] == 2 and not rows["racecheck cluster"]["right"]
    assert rows["synccheck grid"]["status"] == "failed" and "no summary" in rows["synccheck grid"]["error"]
    assert all(row["right"] for key, row in rows.items() if key not in ("racecheck cluster", "synccheck grid"))
    assert rehearsals.first.returncode == 1
    assert "WRONG OR FAILED sanitizer: racecheck cluster: WRONG errors 2" in rehearsals.first.stdout


def test_an_interrupted_run_is_resumed(rehearsals):
    assert rehearsals.interrupted.returncode == 143
    before, after = results(rehearsals.folder / "interrupted"), results(rehearsals.folder / "second")
    kept = before["sections"]["grid"]["rows"]
    assert before["sections"]["grid"]["status"] == "partial" and 0 < len(kept) < 18
    assert rehearsals.resumed.returncode == 0, rehearsals.resumed.stdout + rehearsals.resumed.stderr
    assert "graphs: complete already" in rehearsals.resumed.stdout
    assert before["sections"]["graphs"] == after["sections"]["graphs"]
    rows = {row["key"]: row for row in after["sections"]["grid"]["rows"]}
    assert list(rows) == [part.key for part in plan.grid(stand_in=True)]
    assert all(rows[row["key"]] == row for row in kept)
    assert after["sections"]["grid"]["status"] == "complete" and after["sections"]["grid"]["left"] == []
    assert len(after["runs"]) == 2


def test_rows_of_the_grid(rehearsals):
    state = results(rehearsals.folder / "second")
    assert all(row["right"] for row in state["sections"]["graphs"]["rows"])
    for row in state["sections"]["grid"]["rows"]:
        assert row["right"] and row["error"] <= row["tolerance"] and row["torch_error"] <= row["tolerance"]
        for mode in ("inference", "training"):
            eager, graph = row[mode]["eager"], row[mode]["graph"]
            assert eager["low"] <= eager["ratio"] <= eager["high"] and eager["torch_us"] > 0
            assert graph["ours_us"] > 0 and ("ratio" in graph) == (row["structure"] not in ("lengths", "packed"))
    (profile,) = state["sections"]["profile"]["rows"]
    assert profile["torch"][0]["us"] > 0 and any("fused_lstm" in event["kernel"] for event in profile["fused"])


def test_a_missing_sanitizer_is_said(rehearsals):
    assert results(rehearsals.folder / "second")["sections"]["sanitizer"]["status"] == "not run"
    assert "sanitizer: compute-sanitizer is not installed" in rehearsals.resumed.stdout


def test_the_table(rehearsals):
    text = (rehearsals.folder / "second/table.md").read_text()
    assert "REHEARSAL ON THE CPU" in text and "met" not in text.replace("Geometric", "").replace("geometric", "")
    assert "### bf16, lengths" in text and "### tf32, 1 layer" in text and "### fp16" not in text
    assert "everywhere: worst row >= 1 |" in text and "over 12 of 12" in text
    lines = text.splitlines()
    header = lines.index("### bf16, 1 layer") + 2
    assert {line.count("|") for line in lines[header : header + 5]} == {15}


def test_a_missing_wheel_is_an_error(tmp_path):
    done = finish(start(tmp_path / "out", "--wheel", tmp_path / "none.whl"))
    assert done.returncode == 2 and "none.whl does not exist: build one with `make wheel`" in done.stderr


def test_a_spent_budget_ends_the_run(tmp_path):
    done = finish(start(tmp_path, "--minutes", "0.01"))
    sections = results(tmp_path)["sections"]
    assert list(sections) == ["install", "environment", "tests", "families", "sanitizer", "graphs", "grid", "profile"]
    assert {section["status"] for section in sections.values()} == {"not run"}
    assert done.returncode == 0 and "not measured    install: no time was left" in done.stdout
    again = finish(start(tmp_path, "--minutes", "0.01"))
    assert again.returncode == 1 and "holds results already: go on with --resume" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sections", "grid,gird"], "--sections knows install, environment"),
        (["--resume"], "nothing to resume"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    done = finish(start(tmp_path / "out", *arguments))
    assert done.returncode and message in done.stderr
