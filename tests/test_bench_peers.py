"""benchmarks: every peer against float64, and what torch.compile made of those that it compiles."""

from __future__ import annotations

import functools

import pytest
import torch
from bench_cases import bench, threads_as_before  # noqa: F401

from benchmarks import table
from benchmarks.peers import OURS, PEERS, compiling
from benchmarks.plan import Group
from benchmarks.problem import TOLERANCE, Problem, checked_steps, worst_error
from benchmarks.shapes import NAMED, parse

SHAPES = ("6,3,5,8", "6,3,5,8,bi,x2", "6,3,5,8,packed", "6,3,5,8>12>4", "9,3,5,8,resets")
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
