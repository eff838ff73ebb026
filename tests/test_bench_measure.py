"""benchmarks: a group: wrong and broken and missing peers said, rows written; limits, memory, parts, training."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from bench_cases import bench, threads_as_before  # noqa: F401

from benchmarks import limits, measure, memory, parts, sentiment
from benchmarks.peers import PEERS, Call, Peer
from benchmarks.plan import Group
from benchmarks.results_file import ours_is_bad
from benchmarks.shapes import NAMED, parse

# ---- one group


class Wrong(Peer):
    """Right but for the last gradient: off by one in a thousand."""

    name, what = "wrong", "a peer with a mistake"

    def call(self, problem, threads):
        call = PEERS["torch"].call(problem, threads)

        def results(found):
            *others, last = call.results(found)
            return [*others, last * 1.001]

        return Call(lambda: pytest.fail("timed") if self.checked() else call.run(), results)

    def __init__(self):
        self.runs = 0

    def checked(self):
        self.runs += 1
        return self.runs > 1


class Broken(Peer):
    name, what = "broken", "a peer that raises"

    def call(self, problem, threads):
        raise RuntimeError("no kernel image")


class Absent(Peer):
    name, what, install = "absent", "a peer that is not there", "pip install absent"

    def missing(self, device):
        return "absent is not installed"


def test_a_wrong_peer_is_shown_as_wrong_and_the_others_are_timed():
    peers = {**PEERS, "wrong": Wrong(), "broken": Broken(), "absent": Absent()}
    group = Group("shapes", parse("6,3,5,8"), "training", peers=("wrong", "broken", "absent", "onnxruntime", "torch"))
    found = {row["peer"]: row for row in bench(peers=peers).measure(group)}
    assert found["wrong"]["status"] == "wrong" and "ratio" not in found["wrong"]
    assert found["wrong"]["error"] == pytest.approx(1e-3, rel=1e-2) and "not timed" in found["wrong"]["note"]
    assert found["broken"]["status"] == "failed" and found["broken"]["note"] == "RuntimeError: no kernel image"
    assert (found["absent"]["status"], found["absent"]["install"]) == ("missing", "pip install absent")
    assert found["onnxruntime"]["status"] == "refused"
    row = found["torch"]
    assert row["status"] in ("ok", "noisy") and row["ratio"] > 0 and row["error"] < 2e-6 > row["ours_error"]
    work = group.shape.flops("training") / row["ours_seconds"] / 1e9
    assert row["gflops"] == pytest.approx(work) and row["peak_share"] == pytest.approx(work / 100)
    assert row["gemm_share"] == pytest.approx(work / 80) and row["clock"] == "CPU time of the thread"
    json.dumps(row, allow_nan=False)


def test_ours_when_wrong_is_not_timed_either(monkeypatch):
    monkeypatch.setattr(measure, "OURS", Wrong())
    (row,) = bench().measure(Group("shapes", parse("6,3,5,8"), "training"))
    assert (row["peer"], row["status"]) == ("wrong", "wrong")


class Tires(Peer):
    """Right when checked, broken once it is timed."""

    name, what = "tires", "a peer that raises at its second call"

    def call(self, problem, threads):
        call, runs = PEERS["torch"].call(problem, threads), []

        def run():
            runs.append(1)
            if len(runs) > 1:
                raise RuntimeError("out of breath")
            return call.run()

        return Call(run, call.results)


def test_who_raises_while_timed_is_the_one_to_blame(monkeypatch):
    group = Group("shapes", parse("6,3,5,8"), "training", peers=("torch", "tires", "self"))
    bench_of_them = bench(peers={**PEERS, "tires": Tires()})
    found = {row["peer"]: row for row in bench_of_them.measure(group)}
    assert found["tires"]["note"] == "while timing: RuntimeError: out of breath"
    assert found["tires"]["status"] == "failed" and found["torch"]["ratio"] > 0 and found["self"]["ratio"] > 0
    ours = Tires()
    ours.name = "fused"
    monkeypatch.setattr(measure, "OURS", ours)
    (row,) = bench_of_them.measure(Group("shapes", parse("6,3,5,8"), "training", peers=("torch",)))
    assert (row["peer"], row["status"]) == ("fused", "failed") and "while timing" in row["note"]
    assert ours_is_bad(row)


def test_without_a_rival_ours_runs_against_itself():
    group = Group("latency", parse("1,2,5,8"), "latency", threads=2 if limits_of_cores() > 1 else 1, peers=())
    (row,) = bench().measure(group)
    assert row["peer"] == "self" and row["ratio"] > 0


def limits_of_cores():
    from benchmarks.plan import cores

    return cores()


def test_the_row_says_that_fewer_steps_were_checked(monkeypatch):
    monkeypatch.setattr(measure, "checked_steps", lambda shape, mode: 3)
    (row,) = bench().measure(Group("shapes", parse("6,3,5,8"), "inference", peers=("torch",)))
    assert row["checked_steps"] == 3 and row["T"] == 6


# ---- the rest of a run


def test_limits_are_measured(monkeypatch):
    monkeypatch.setattr(limits, "SECONDS", 1e-4)
    monkeypatch.setattr(limits, "BUFFER", 1 << 16)
    found = limits.measure("cpu", 2, ("float32", "bfloat16"))
    assert found.fma_gflops["float32"] > 0 and found.memory_gb_per_s > 0 and found.gemm_gflops["bfloat16"] > 0
    assert found.peak("float32") == (found.fma_gflops["float32"], "FMA")
    assert found.peak("float16")[1] == "FMA float32"
    assert limits.Limits(1, {}, {"float32": 3.0}, 1.0, "").peak("float32") == (3.0, "GEMM")


def test_limits_without_a_compiler(monkeypatch):
    monkeypatch.setattr(limits, "SECONDS", 1e-4)
    monkeypatch.setattr(limits, "BUFFER", 1 << 16)
    monkeypatch.setattr(limits, "library", lambda: (None, "no compiler"))
    found = limits.measure("cpu", 1)
    assert found.fma_gflops == {} and found.memory_gb_per_s > 0 and found.how == "torch alone: no compiler"


def test_a_file_that_does_not_compile_is_said_and_not_tried_again(monkeypatch, tmp_path):
    for compiler in ("false", "no-such-compiler"):
        monkeypatch.setenv("CXX", compiler)
        loaded, why = limits.library.__wrapped__(tmp_path)
        assert loaded is None and why.startswith("limits.cpp did not compile: ") and len(why) > 30
    library = functools.cache(limits.library.__wrapped__)
    tried, run = [], limits.subprocess.run
    monkeypatch.setattr(limits.subprocess, "run", lambda *args, **more: tried.append(1) or run(*args, **more))
    assert library(tmp_path) == library(tmp_path) and len(tried) == 1


def test_memory_in_a_process_of_its_own():
    group = Group("memory", parse("64,8,64,64"), "memory")
    found = {name: memory.in_own_process(name, group) for name in ("fused", "fused-recompute")}
    assert found["fused"]["saved"] > found["fused-recompute"]["saved"] > 0


def test_memory_asks_first_and_one_failure_costs_one_peer(monkeypatch):
    def sizes(peer, group):
        if peer == "loop":
            raise RuntimeError("MemoryError: 3 GiB")
        return {"peak": 100 if peer == "fused" else 300, "saved": 50}

    monkeypatch.setattr(memory, "in_own_process", sizes)
    monkeypatch.setitem(PEERS, "wrong", Wrong())
    names = ("torch-benchmark", "onnxruntime", "loop", "wrong", "torch")
    monkeypatch.setattr(PEERS["onnxruntime"], "missing", lambda device: None)
    found = {row["peer"]: row for row in memory.measure(Group("memory", parse("4,2,3,4"), "memory", peers=names))}
    assert {name: found[name]["status"] for name in names} == {
        "torch-benchmark": "missing", "onnxruntime": "refused", "loop": "failed", "wrong": "wrong", "torch": "ok",
    }  # fmt: skip
    assert found["onnxruntime"]["note"] == "training is not its business"
    assert found["loop"]["note"] == "RuntimeError: MemoryError: 3 GiB" and "not measured" in found["wrong"]["note"]
    assert (found["torch"]["ratio"], found["torch"]["ours_peak"]) == (3.0, 100)
    (packed,) = memory.measure(Group("memory", parse("4,2,3,4,packed"), "memory", peers=("loop",)))
    assert packed["note"] == "knows no rows of different lengths"
    monkeypatch.setattr(memory, "OURS", Broken())
    (row,) = memory.measure(Group("memory", parse("4,2,3,4"), "memory", peers=("torch",)))
    assert (row["peer"], row["status"], row["note"]) == ("broken", "failed", "RuntimeError: no kernel image")


def test_parts_make_up_a_call():
    row = {
        "parts": {name: 1.0 for name in (*parts.FORWARD, *parts.BACKWARD)} | {"recurrent product": 0.75, "cell": 0.5},
        "whole": {"inference": 3.5, "training": 7.0},
    }
    inference, training = (parts.stack(row, mode) for mode in ("inference", "training"))
    assert list(inference) == ["packing", "x-projection", "recurrent step", "cell", "rest"]
    assert inference["recurrent step"] == 0.75 and inference["cell"] == 0.25 and inference["rest"] == 0.5
    assert sum(training.values()) == pytest.approx(7.0) and training["rest"] == -1.0 and len(training) == 10


def test_parts_are_timed_by_themselves():
    (row,) = parts.measure(Group("parts", parse("3,7,20,24"), "training"), seconds=0.01)
    assert set(row["parts"]) == {*parts.FORWARD, *parts.BACKWARD, "recurrent product", "cell"}
    assert all(seconds > 0 for seconds in row["parts"].values()) and row["whole"]["training"] > 0
    assert set(row["barriers"]) == {"1", "2"} and row["gflops"]["dW"] > 0


def test_without_a_compiler_there_are_no_parts(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(parts.Unavailable, match="parts.cpp was not built: .*no-such-compiler"):
        parts.native.__wrapped__()
    with pytest.raises(parts.Unavailable, match="no kernels for abacus"):
        parts.native().time_parts("abacus", 1, 1, 1, 1, 1)


def test_sentiment_training_end_to_end(monkeypatch):
    settings = ("--corpus-size", "40", "--epochs", "1", "--no-baseline", "--no-plots")
    assert sentiment.samples_per_second("torch", 1, settings) > 0
    order, rates = [], {"fused": 6.0, "torch": 4.0}
    monkeypatch.setattr(sentiment, "samples_per_second", lambda lstm, *more: order.append(lstm) or rates[lstm])
    group = Group("sentiment", NAMED["sentiment"], "training")
    (row,) = sentiment.measure(group)
    assert (row["ratio"], row["low"], row["high"], row["status"]) == (1.5, 1.5, 1.5, "ok")
    assert (row["ours_samples_per_second"], row["samples_per_second"]) == (6.0, 4.0)
    assert order[:4] == ["fused", "torch", "torch", "fused"]
    (row,) = sentiment.measure(group, pairs=3)  # too few for an interval
    assert row["status"] == "noisy" and row["low"] is None


@pytest.mark.parametrize("device, shown", [("cpu", ""), ("cuda", "0,1")])
def test_sentiment_training_runs_on_the_device_asked_for(monkeypatch, device, shown):
    """The application takes a GPU where it sees one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    seen = []

    def train(command, env, **options):
        seen.append((env or os.environ)["CUDA_VISIBLE_DEVICES"])
        history = [{"samples_per_second": 5.0}] * 2
        (Path(command[command.index("--output") + 1]) / "metrics.json").write_text(json.dumps({"history": history}))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr("subprocess.run", train)
    (row,) = sentiment.measure(Group("sentiment", NAMED["sentiment"], "training"), device=device)
    assert set(seen) == {shown} and len(seen) == 2 * sentiment.PAIRS
    assert (row["device"], row["ratio"], row["ours_samples_per_second"]) == (device, 1.0, 5.0)


def test_processes_that_fail_are_quoted(monkeypatch):
    failed = SimpleNamespace(returncode=1, stdout="", stderr="Traceback\nMemoryError: 3 GiB\n")
    monkeypatch.setattr("subprocess.run", lambda *args, **options: failed)
    with pytest.raises(RuntimeError, match="^MemoryError: 3 GiB$"):
        memory.in_own_process("torch", Group("memory", parse("4,2,3,4"), "memory"))
    with pytest.raises(RuntimeError, match="^sentiment train --lstm torch: MemoryError: 3 GiB$"):
        sentiment.samples_per_second("torch", 1)
