"""benchmarks: every peer against float64, wrong and broken and missing ones said, rows written, a run put together."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import limits, measure, memory, parts, run, sentiment, table
from benchmarks.peers import OURS, PEERS, Call, Peer, compiling
from benchmarks.plan import Group
from benchmarks.problem import TOLERANCE, Problem, checked_steps, worst_error
from benchmarks.results_file import FileProblem, Writer, ours_is_bad, read, rows
from benchmarks.shapes import NAMED, parse

SHAPES = ("6,3,5,8", "6,3,5,8,bi,x2", "6,3,5,8,packed", "6,3,5,8>12>4", "9,3,5,8,resets")
LIMITS = limits.Limits(1, {"float32": 100.0}, {"float32": 80.0}, 20.0, "made up")


@pytest.fixture(autouse=True)
def _threads():
    """A measurement sets both for good."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.autograd.set_multithreading_enabled(True)


def bench(seconds=0.01, **more) -> measure.Bench:
    return measure.Bench("cpu", lambda threads, dtype: LIMITS, seconds, **more)


# ---- peers

HERE = [name for name, peer in PEERS.items() if not peer.missing("cpu") and "compile" not in name]


@pytest.mark.parametrize("mode", ["inference", "training", "latency"])
@pytest.mark.parametrize("spec", SHAPES)
def test_every_peer_computes_an_lstm(spec, mode):
    problem = Problem(parse(spec), "float32", mode)
    expected, agreed = problem.expected(), []
    for name, peer in {OURS.name: OURS, **{name: PEERS[name] for name in HERE}}.items():
        if peer.refuses(problem) is None:
            call = peer.call(problem, 1)
            assert worst_error(call.results(call.run()), expected) < 2e-6, name
            agreed.append(name)
    assert {"fused", "torch"} <= set(agreed)


def test_who_is_here_and_who_refuses():
    assert {"torch", "loop", "self", "fused-recompute"} <= set(HERE)
    assert PEERS["torch-benchmark"].missing("cpu") == "runs on cuda only"
    assert "not installed" in PEERS["haste"].missing("cuda") and "haste_pytorch" in PEERS["haste"].missing("cuda")
    packed = Problem(parse("4,2,3,4,packed"), "float32", "inference")
    resets = Problem(parse("4,2,3,4,resets"), "bfloat16", "training")
    assert PEERS["loop"].refuses(packed) == "knows no rows of different lengths"
    assert PEERS["loop"].refuses(resets) == "knows no resets"
    assert PEERS["onnxruntime"].refuses(resets) == "training is not its business"
    both = Problem(parse("4,2,3,4,resets,bi"), "float32", "training")
    assert "loops of our own making" in PEERS["torch"].refuses(both)
    assert PEERS["haste"].refuses(Problem(parse("4,2,3,4,bi"), "float32", "training")) == "one layer and direction only"
    assert PEERS["jax"].refuses(Problem(parse("4,2,3,4"), "float16", "training")) == "knows no float16"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_dtypes_are_within_their_tolerance(dtype):
    problem = Problem(parse("6,3,5,8"), dtype, "training")
    call = OURS.call(problem, 1)
    assert worst_error(call.results(call.run()), problem.expected()) < TOLERANCE[dtype]


def test_torch_compile_is_a_peer():
    problem = Problem(parse("2,2,3,4"), "float32", "inference")
    expected = problem.expected()
    for name in ("loop-compile", "torch-compile"):
        call = PEERS[name].call(problem, 1)
        assert worst_error(call.results(call.run()), expected) < 2e-6, name


@pytest.fixture
def dynamo(monkeypatch):
    """Its configuration afterwards as before, and graphs run as they are: they need no compiler to be counted."""
    from torch._dynamo import config

    names = ("recompile_limit", "fail_on_recompile_limit_hit", "allow_rnn")
    before = {name: getattr(config, name) for name in names}
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    yield config
    for name, value in before.items():
        setattr(config, name, value)


def test_what_was_compiled_is_counted_in_every_group(dynamo):
    for H in range(4, 14):  # more than the 8 recompilations that dynamo allows a function in a process
        (row,) = bench().measure(Group("peers", parse(f"2,2,3,{H}"), "inference", peers=("loop-compile",)))
        assert row["graphs"] >= 1 and row["ratio"] > 0 and table.note_of({**row, "status": "ok"}) == ""
    for spec, graphs, note in (("2,2,3,4", 1, ""), ("17,2,3,4", 0, "not compiled")):
        (row,) = bench().measure(Group("peers", parse(spec), "inference", peers=("torch-compile",)))
        assert row["graphs"] == graphs and row["ratio"] > 0 and table.note_of({**row, "status": "ok"}) == note
    assert not dynamo.allow_rnn
    del row["graphs"]  # as in older files
    assert table.note_of({**row, "status": "ok"}) == "perhaps not compiled"


def test_code_that_dynamo_gave_up_is_no_peer(dynamo, monkeypatch):
    """Beyond its limit it would run the loop as it is, under the name of a compiled one."""
    monkeypatch.setattr(compiling, "RECOMPILATIONS", 1)
    group = Group("peers", parse("2,2,3,4>5>6"), "inference", peers=("loop-compile", "torch"))
    found = {row["peer"]: row for row in bench().measure(group)}
    assert found["loop-compile"]["status"] == "failed" and "limit" in found["loop-compile"]["note"]
    assert found["torch"]["ratio"] > 0


def test_errors_are_found_wherever_they_are():
    right = [torch.ones(3), torch.ones(2, 2)]
    assert worst_error(right, right) == 0
    assert worst_error([right[0], right[1] * 1.01], right) == pytest.approx(0.01, rel=1e-5)
    assert worst_error([right[0], torch.full((2, 2), float("nan"))], right) == float("inf")
    assert worst_error(right[:1], right) == worst_error([right[0], torch.ones(4)], right) == float("inf")


def test_heavy_shapes_are_checked_on_fewer_steps():
    assert checked_steps(NAMED["speech"], "training") < 20 and checked_steps(parse("9,3,5,8"), "training") == 9
    assert checked_steps(parse("65536,1,4,4"), "inference") == 2048


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


def runner(tmp_path, groups, **more):
    said, output = [], tmp_path / "out.jsonl"
    special = more.pop("special", {})
    this = run.Runner("cpu", output, 0.01, more.pop("minutes", 9), say=more.pop("say", said.append), special=special)
    this.limits = lambda threads, dtype: LIMITS
    this.bench.limits = this.limits
    return this.run(groups), read(output), said


def test_a_run_writes_what_it_finds(tmp_path, monkeypatch):
    sizes = {"fused": {"peak": 100, "saved": 50}, "fused-recompute": {"peak": 50, "saved": 10}}
    monkeypatch.setattr(memory, "in_own_process", lambda peer, group: sizes[peer])
    small = functools.partial(Group, shape=parse("4,2,3,4"), mode="inference")
    groups = [small("shapes", peers=("torch", "torch-benchmark")), small("memory", peers=("fused-recompute",))]
    groups += [small("parts"), small("sentiment")]

    def no_parts(group):
        raise parts.Unavailable("no compiler")

    def no_sentiment(group):
        raise ValueError("no corpus")

    status, records, said = runner(tmp_path, groups, special={"parts": no_parts, "sentiment": no_sentiment})
    assert status == 1  # the sentiment run failed, and it is ours
    found = {(r["section"], r["peer"]): r for r in records if r["kind"] == "row"}
    assert found["shapes", "torch"]["ratio"] > 0 and found["shapes", "torch-benchmark"]["status"] == "missing"
    row = found["memory", "fused-recompute"]
    assert (row["ratio"], row["ours_saved"], row["saved"]) == (0.5, 50, 10)
    assert (found["parts", ""]["status"], found["parts", ""]["note"]) == ("missing", "no compiler")
    assert found["sentiment", ""]["note"] == "ValueError: no corpus"
    assert said[0].startswith("without torch-benchmark: runs on cuda only. To have it:")
    machine = records[0]
    assert machine["kind"] == "run" and machine["torch"] == torch.__version__ and machine["load"] and machine["cores"]
    assert records[-1]["kind"] == "end" and records[-1]["left"] == 0


def test_a_run_ends_when_its_time_is_up(tmp_path):
    groups = [Group("shapes", parse("4,2,3,4"), mode) for mode in ("inference", "training")]
    status, records, said = runner(tmp_path, groups, minutes=1e-9)
    assert status == 0 and "2 of 2 were left out" in said[-1]
    assert [r["status"] for r in records if r["kind"] == "row"] == ["not run"] * 2 and records[-1]["left"] == 2


def test_an_interrupted_run_keeps_what_it_has(tmp_path, capsys):
    output = tmp_path / "out.jsonl"
    output.write_text("of before")
    groups = [Group(section, parse("4,2,3,4"), "inference", peers=("torch",)) for section in ("shapes", "sentiment")]

    def interrupted(group):
        raise KeyboardInterrupt

    for number, name in enumerate(("out.partial.jsonl", "out.2.partial.jsonl")):
        with pytest.raises(KeyboardInterrupt):
            runner(tmp_path, groups[number:], special={"sentiment": interrupted}, say=print)
        records, last = read(tmp_path / name), read(tmp_path / name)[-1]
        assert last["kind"] == "end" and last["interrupted"] and name in capsys.readouterr().out
        assert [r["peer"] for r in records if r["kind"] == "row"] == ["torch"] * (1 - number)
    assert output.read_text() == "of before"
    assert len(read(tmp_path / "out.partial.jsonl")) > len(records)  # the second left the first alone


def test_limits_are_written_once(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "measure", lambda *args: LIMITS)
    this = run.Runner("cpu", tmp_path / "out.jsonl", 0.01, 9, say=lambda text: None)
    this.run([Group("shapes", parse("4,2,3,4"), mode, peers=("torch",)) for mode in ("inference", "training")])
    assert sum(record["kind"] == "limits" for record in read(this.output)) == 1


# ---- the file


def test_the_file_of_before_stays(tmp_path):
    for number in range(2):
        writer = Writer(tmp_path / "a.jsonl")
        writer.run({"number": number})
        writer.write({"kind": "row", "section": "x"})
        assert not number or read(tmp_path / "a.jsonl")[0]["number"] == 0  # until the new one is whole
        writer.finish()
    assert read(tmp_path / "a.previous.jsonl")[0]["number"] == 0
    (row,) = rows(tmp_path / "a.jsonl")
    assert row["run"]["number"] == 1 and not (tmp_path / "a.partial.jsonl").exists()


def test_files_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.jsonl").mkdir()
    for path, complaint in (("file/a.jsonl", "cannot be written"), ("folder.jsonl", "is a folder")):
        with pytest.raises(FileProblem, match=complaint):
            Writer(tmp_path / path)
    assert (tmp_path / "folder.jsonl").is_dir()
    (tmp_path / "a.jsonl").write_bytes(b"\x89PNG\xff")
    with pytest.raises(FileProblem, match="is no text"):
        read(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    "text, complaint",
    [
        (None, "does not exist"),
        ("{nonsense", ":1 is not JSON"),
        ('{"ratio": 1}', "is no line of a results file"),
        ('{"kind": "row"}', "does not begin with a run of format"),
        ("", "does not begin with a run of format"),
    ],
)
def test_files_that_are_none(tmp_path, text, complaint):
    file = tmp_path / "a.jsonl"
    if text is not None:
        file.write_text(text)
    with pytest.raises(FileProblem, match=complaint):
        read(file)
