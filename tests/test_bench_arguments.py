"""benchmarks: what the command line and the notation of shapes accept, and what they say of the rest."""

from __future__ import annotations

import pytest

from benchmarks import arguments, plan
from benchmarks.plan import Wishes, groups
from benchmarks.problem import Problem
from benchmarks.shapes import MODES, NAMED, Shape, ShapeError, parse


@pytest.mark.parametrize(
    "text, shape",
    [
        ("7,3,5,16", Shape("", 7, 3, 5, 16)),
        (" 7, 3, 5, 16 ", Shape("", 7, 3, 5, 16)),
        ("7,3,5,16,bi,x2", Shape("", 7, 3, 5, 16, layers=2, bidirectional=True)),
        ("7,3,5,16,packed", Shape("", 7, 3, 5, 16, packed=True)),
        ("7,3,5,16>32>8,resets", Shape("", 7, 3, 5, 16, resets=True, then=(32, 8))),
        ("rl", NAMED["rl"]),
    ],
)
def test_shapes(text, shape):
    assert parse(text) == shape
    assert shape.name or parse(shape.spec) == shape


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("speach", "neither the name of a shape (sentiment, awd-lstm, rnn-t"),
        ("7,3,5", "T,B,I,H[>H2"),
        ("0,3,5,16", "T must be a number from 1 on, not '0'"),
        ("7,3,5,h", "H must be a number from 1 on, not 'h'"),
        ("7,3,5,16>", "H must be a number from 1 on, not ''"),
        ("7,3,5,16,x0", "the number of layers must be a number from 1 on"),
        ("7,3,5,16,both", "'both' is none of xL, bi, packed, resets"),
        ("7,3,5,16,packed,resets", "do not go together"),
    ],
)
def test_shapes_refused(text, complaint):
    with pytest.raises(ShapeError) as error:
        parse(text)
    assert complaint in str(error.value)


def test_named_shapes_are_those_that_people_run():
    assert {name: shape.spec for name, shape in NAMED.items()} == {
        "sentiment": "256,64,300,256,bi",
        "awd-lstm": "70,80,400,1150>1150>400",
        "rnn-t": "1,1,640,640",
        "speech": "800,16,80,512,x4,bi",
        "rl": "128,64,256,256,resets",
        "forecasting": "96,512,7,64",
        "char-lm": "128,32,128,1024",
    }


def test_work_and_traffic_of_a_shape():
    shape = parse("10,4,3,8")
    assert shape.flops() == 10 * 4 * 2 * 4 * 8 * (3 + 8) and shape.flops("training") == 3 * shape.flops()
    assert parse("10,4,3,8,bi,x2").flops() == 10 * 4 * 2 * 2 * 4 * 8 * ((3 + 8) + (16 + 8))
    weights = 4 * 8 * (3 + 8 + 2)
    assert shape.traffic("inference", 4) == 4 * (10 * 4 * (3 + 8) + weights)
    assert shape.traffic("training", 4) > 3 * shape.traffic("inference", 4)


def test_work_of_packed_rows_is_that_of_their_lengths():
    shape = parse("100,8,3,16,packed")
    lengths = shape.lengths()
    assert lengths == shape.lengths() and lengths[0] == max(lengths) == 100 and 50 <= min(lengths) < 100
    assert len(set(lengths)) > 4 and shape.rows() == sum(lengths)
    assert parse("100,1,3,16,packed").flops() == parse("100,1,3,16").flops()
    assert Problem(shape, "float32", "inference").lengths.tolist() == lengths


# ---- the command line


def test_without_a_command_it_runs_the_quick_suite():
    args = arguments.parse_arguments([])
    assert (args.command, args.suite, args.device, args.shapes) == ("run", "quick", "cpu", [])
    assert arguments.parse_arguments(["--suite", "full"]).suite == "full"


def test_lists_take_spaces_and_commas():
    args = arguments.parse_arguments(
        ["--peers", "torch,onnxruntime", "loop", "--shapes", "rl", "7,3,5,16,bi", "--modes", "training,inference"]
    )
    assert args.peers == ["torch", "onnxruntime", "loop"] and args.modes == ["training", "inference"]
    assert [shape.spec for shape in args.shapes] == [NAMED["rl"].spec, "7,3,5,16,bi"]
    assert arguments.parse_arguments(["run", "--peers", "all"]).peers[:2] == ["torch", "torch-compile"]


@pytest.mark.parametrize(
    "argv, complaint",
    [
        (["--suite", "slow"], "invalid choice: 'slow'"),
        (["--device", "tpu"], "invalid choice: 'tpu'"),
        (["--shapes", "7,3"], "'7,3' is neither the name of a shape"),
        (["--dtypes", "float8"], "--dtypes: 'float8' is unknown; choose from float32"),
        (["--dtypes", "tf32"], "TF32 exists on CUDA only"),
        (["--modes", "train"], "--modes: 'train' is unknown; choose from inference, training, latency, memory"),
        (["--peers", "cudnn"], "--peers: 'cudnn' is unknown; choose from torch"),
        (["--peers", "fused"], "`self` compares it with itself"),
        (["--sections", "grids"], "--sections: 'grids' is unknown"),
        (["--sections", "grid", "--shapes", "rl"], "no meaning beside --shapes"),
        (["--suite", "variants", "--shapes", "rl"], "has one shape of its own"),
        (["--threads", "0"], "'0' is no whole number from 1 on"),
        (["--threads", "4096"], "this process may use"),
        (["--minutes", "-1"], "'-1' is no number above 0"),
        (["--seconds", "soon"], "'soon' is no number above 0"),
        (["--output", "o/x.md"], "--output o/x.md: name a file that ends in .jsonl"),
        (["--output", "results"], "name a file that ends in .jsonl"),
        (["compare", "old.jsonl"], "the following arguments are required: new"),
        (["plots"], "unrecognized arguments: plots"),
    ],
)
def test_refused_with_what_to_do(argv, complaint, capsys):
    with pytest.raises(SystemExit) as stop:
        arguments.parse_arguments(argv)
    assert stop.value.code == 2 and complaint in capsys.readouterr().err


def test_a_folder_is_no_results_file(tmp_path, capsys):
    (tmp_path / "old.jsonl").mkdir()
    with pytest.raises(SystemExit):
        arguments.parse_arguments(["--output", str(tmp_path / "old.jsonl")])
    assert "old.jsonl is a folder" in capsys.readouterr().err


# ---- plans


@pytest.mark.parametrize("suite", [name for name in plan.SUITES if name != "variants"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_plans_hold_every_section_once(suite, device):
    found = groups(Wishes(device=device, suite=suite))
    keys = [(g.section, g.axis, g.shape.spec, g.mode, g.dtype, g.threads) for g in found]
    assert found and len(keys) == len(set(keys)) and {g.mode for g in found} <= set(MODES)
    if suite in ("quick", "full"):
        assert {g.section for g in found} == set(plan.SECTIONS) - ({"parts"} if device == "cuda" else set())
        assert {g.shape.name for g in found if g.section == "shapes"} >= set(NAMED)
        assert max(g.shape.T for g in found if g.axis == "T") == 65536
    if device == "cuda":
        assert {g.threads for g in found} == {1} and "tf32" in {g.dtype for g in found}


@pytest.mark.parametrize("suite", ["quick", "full"])
def test_plans_for_128_cores_are_no_longer_than_they_must_be(suite, monkeypatch):
    monkeypatch.setattr(plan, "cores", lambda: 128)
    found = groups(Wishes(suite=suite))
    axis = [g.threads for g in found if g.axis == "threads" and g.mode == "training"]
    assert axis == [1, 2, 4, 8, 16, 32, 64, 128] and plan.doubled(6) == [1, 2, 4, 6] and plan.doubled(1) == [1]
    on_all = [i for i, g in enumerate(found) if g.section == "shapes" and g.threads == 128]
    assert len(on_all) >= len(NAMED)
    assert max(on_all) < min(i for i, g in enumerate(found) if g.section in ("grid", "scaling"))


def test_only_quick_runs_on_the_cpu_shorten_shapes():
    steps = {
        (suite, device): {g.shape.name: g.shape.T for g in groups(Wishes(device=device, suite=suite)) if g.shape.name}
        for suite in ("quick", "full") for device in ("cpu", "cuda")
    }  # fmt: skip
    assert (steps["quick", "cpu"]["speech"], steps["quick", "cpu"]["packed"]) == (plan.QUICK_STEPS["speech"], 64)
    for key in (("full", "cpu"), ("quick", "cuda"), ("full", "cuda")):
        assert (steps[key]["speech"], steps[key]["packed"]) == (NAMED["speech"].T, 128)


def test_peers_of_a_plan_are_those_of_the_device():
    shapes = {device: groups(Wishes(device=device))[0].peers for device in ("cpu", "cuda")}
    assert shapes["cpu"] == ("torch", "onnxruntime")
    assert shapes["cuda"] == ("torch", "torch-benchmark", "onnxruntime", "torchrl-triton", "haste", "flashrnn")
    everybody = [g for g in groups(Wishes(suite="full")) if g.section == "peers"]
    assert len(everybody) == 8 and {"loop-compile", "torch-compile", "jax", "flax"} <= set(everybody[0].peers)


def test_what_a_suite_lacks_in_a_dtype_is_told():
    assert plan.left_out(Wishes(dtypes=("bfloat16",))) == ["Not measured in bfloat16: parts, sentiment"]
    both = plan.left_out(Wishes(dtypes=("float32", "bfloat16")))
    assert both == ["Not measured in bfloat16: structure, latency, peers, scaling, parts, sentiment"]
    assert plan.left_out(Wishes()) == [] == plan.left_out(Wishes(dtypes=("bfloat16",), shapes=(parse("7,3,5,16"),)))
    memory = [g for g in groups(Wishes(dtypes=("bfloat16",))) if g.section == "memory"]
    assert memory and all(g.dtype == "bfloat16" for g in memory)


def test_wishes_are_granted():
    shapes = parse("7,3,5,16"), parse("1,1,5,16")
    found = groups(Wishes(shapes=shapes, dtypes=("bfloat16",), threads=(1,), peers=("loop",)))
    assert [(g.shape.T, g.mode) for g in found] == [(7, "inference"), (7, "training"), (1, "latency")]
    assert all(g.dtype == "bfloat16" and g.peers == ("loop",) for g in found)
    (memory,) = groups(Wishes(shapes=(parse("7,3,5,16"),), modes=("memory",), threads=(1,)))
    assert memory.section == "memory"
    only = groups(Wishes(sections=("grid",), modes=("training",), dtypes=("bfloat16",)))
    assert only and all((g.section, g.mode, g.dtype) == ("grid", "training", "bfloat16") for g in only)
    assert groups(Wishes(sections=("parts",), modes=("latency",))) == []
