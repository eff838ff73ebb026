"""benchmarks: tables, plots, comparisons and README's table, from results files made up here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import compare, limits, machine, plots, readme, run, table
from benchmarks.measure import described
from benchmarks.plan import Group
from benchmarks.results_file import FORMAT, read
from benchmarks.shapes import STREAMING, Shape, parse

RUN = {
    "kind": "run", "format": FORMAT, "device": "cpu", "machine": "abacus", "processor": "Abacus 3000", "cores": 2,
    "isa": "scalar", "torch": "2.99", "commit": "abc", "fused_lstm": {"version": "9", "commit": "abc"},
    "time": "2030-01-01T00:00:00+00:00", "load": [0.5, 0, 0],
}  # fmt: skip
LIMIT = {
    "kind": "limits", "dtype": "float32", "threads": 1, "fma_gflops": {"float32": 100.0},
    "gemm_gflops": {"float32": 80.0}, "memory_gb_per_s": 20.0, "how": "",
}  # fmt: skip
END = {"kind": "end", "minutes": 3.5, "load": [0.7, 0, 0], "left": 0}


def row(shape="7,3,5,16", ratio=1.5, width=0.02, *, section="shapes", mode="inference", peer="torch", axis="", **more):
    shape = shape if isinstance(shape, Shape) else parse(shape)
    group = Group(section, shape, mode, more.pop("dtype", "float32"), more.pop("threads", 1), (), axis)
    ours = shape.flops(mode) / 50e9
    return {
        **described(group, "cpu", peer), "status": "ok", "ratio": ratio, "low": ratio - width, "high": ratio + width,
        "ours_seconds": ours, "seconds": ratio * ours, "gflops": 50.0, "intensity": 10.0, "peak_share": 0.5,
        "gemm_share": 0.625, "memory_share": 0.25, "checked_steps": shape.T, **more,
    }  # fmt: skip


def without_time(status, **more):
    keys = ("ratio", "low", "high", "ours_seconds", "seconds", "peak_share", "memory_share", "gflops", "intensity")
    keys += ("gemm_share",)
    return {key: value for key, value in row(status=status, **more).items() if key not in keys}


PARTS = {
    "packing": 1.0, "x-projection": 2.0, "recurrent step": 3.0, "recurrent product": 2.5, "cell": 1.0,
    "packing for backward": 1.0, "recurrent product, backward": 2.0, "cell, backward": 1.0, "dx": 2.0, "dW": 4.0,
}  # fmt: skip


def everything():
    """A row of every kind."""
    found = [RUN, LIMIT, {"kind": "peer", "peer": "haste", "missing": "not installed", "install": "from source"}]
    found += [row(), row(mode="training", ratio=0.8, status="noisy", width=0.1)]
    found += [row(STREAMING[0], mode="latency", section="latency", ratio=3.0)]
    found += [row("70,7,333,333", checked_steps=9, peer="loop", ratio=20.0)]
    found += [row("70,7,333,333", peer=peer, ratio=0.5) for peer in ("onnxruntime", "self")]
    found += [row("9,9,9,9", status="noisy", low=None, high=None, disturbed=5)]
    found += [without_time("wrong", peer="jax", note="relative error 1e-1, allowed 1e-4: not timed", error=0.1)]
    found += [without_time("refused", peer="onnxruntime", note="training is not its business")]
    found += [without_time("not run", peer="", note="time was up")]
    for mode in ("inference", "training"):
        for b in (1, 16):
            found += [row(f"8,{b},{h},{h}", section="grid", mode=mode, ratio=1 + b / h) for h in (8, 32)]
        for axis, shapes in {"T": ("8,2,4,4", "64,2,4,4"), "layers": ("8,2,4,4", "8,2,4,4,x2")}.items():
            found += [row(s, section="scaling", axis=axis, mode=mode) for s in shapes]
        found += [row("8,2,4,4", section="scaling", axis="threads", mode=mode, threads=n) for n in (1, 2)]
    parts = without_time("ok", section="parts", mode="training", peer="")
    whole = {"inference": 7.0, "training": 15.0}
    found += [{**parts, "parts": PARTS, "whole": whole, "gflops": {"dW": 70.0}, "barriers": {"1": 3e-9, "2": 1e-7}}]
    found += [without_time("missing", section="parts", peer="", shape="5,4,3,2", note="no compiler")]
    memory = {"ratio": 2.0, "peak": 8 << 20, "saved": 4 << 20, "ours_peak": 4 << 20, "ours_saved": 1 << 20}
    found += [{**without_time("ok", section="memory", mode="memory"), **memory}]
    found += [without_time("refused", section="memory", mode="memory", peer="loop", note="knows no resets")]
    rates = {"ratio": 1.25, "low": 1.2, "high": 1.3, "ours_samples_per_second": 500.0, "samples_per_second": 400.0}
    found += [{**without_time("ok", section="sentiment", mode="training"), "name": "classifier", **rates}]
    return [*found, END]


def written(folder: Path, records, name="a.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


# ---- tables


def test_the_table_says_everything():
    text = table.document(everything())
    lines = {" ".join(line.split()) for line in text.splitlines()}
    for line in (
        "Abacus 3000 (scalar, 2 cores), torch 2.99, fused_lstm 9 (abc, built from abc)",
        "2030-01-01T00:00:00+00:00, load 0.5 at the start, 0.7 at the end, 3.5 minutes",
        "float32, 1 thread(s): multiply-adds 100 GFLOP/s, torch.mm 80 GFLOP/s, memory 20 GB/s",
        "7,3,5,16 training float32 1 torch 0.80 0.70..0.90 0.484 0.387 50 62 25 noisy",
        "9,9,9,9 inference float32 1 torch (1.50) unknown 0.233 0.35 50 62 25 noisy, machine busy",
        "7,3,5,16 inference float32 1 jax wrong relative error 1e-1, allowed 1e-4: not timed",
        "7,3,5,16 inference float32 1 – not run time was up",
        "7,3,5,16 torch 2.00 4 8 1 4",
        "7,3,5,16 loop refused knows no resets",
        "classifier 1 1.25 1.20..1.30 500 400",
        "* haste: not installed. To have it: from source",
        "7,3,5,16 7000 14 29 36 7 14",
        "5,4,3,2: missing, no compiler",
        "torch float32 inference 1 5 1.51 1.03 0",
    ):
        assert line in lines, f"{line!r} not in\n{text}"
    assert "checked at T 9" in text and "not its business" not in text
    assert "The 5 worst ratios to torch.nn.LSTM in float32" in text
    worst = text.split("worst ratios")[1]
    assert "Slower than a peer in float32: 2 of 25 rows" in worst
    of_torch, of_all = worst.split("Slower than a peer")
    assert of_torch.index("0.80") < of_torch.index("1.03") and "loop" not in of_torch
    assert of_all.index("onnxruntime") < of_all.index("0.80") and "0.50" in of_all and "self" not in of_all


@pytest.mark.parametrize("value, text", [(0.01234, "0.0123"), (12.34, "12.3"), (999.4, "999"), (1449.6, "1450")])
def test_numbers_have_three_digits_or_are_whole(value, text):
    assert table.number(value) == text


def test_as_markdown_every_line_has_its_cells():
    lines = [line for line in table.document(everything(), table.markdown).splitlines() if line.startswith("|")]
    assert len(lines) > 30
    for before, line in zip(lines, lines[1:]):
        if line.startswith("|---"):
            assert before.count("|") == line.count("|")


def test_whether_a_row_is_noisy_is_read_from_its_interval(tmp_path):
    """As written by a program that took 5 % on one side and 1 % on the other for 3 % either way."""
    lopsided = {**row(ratio=1.0), "low": 0.99, "high": 1.05}
    known = {**row(ratio=1.0, width=0.01), "status": "noisy"}
    memory = {**without_time("ok", section="memory"), "ratio": 2.0}
    lines = [RUN, lopsided, known, row(low=None, high=None), memory, without_time("wrong")]
    found = [r["status"] for r in read(written(tmp_path, lines)) if r["kind"] == "row"]
    assert found == ["noisy", "ok", "noisy", "ok", "wrong"]


# ---- plots


def test_plots(tmp_path):
    pytest.importorskip("matplotlib", reason="plots are an optional extra")
    files = {file.name for file in plots.draw(everything(), tmp_path / "plots")}
    assert files == {
        "ratio-float32-1.png", "scaling-T.png", "scaling-layers.png", "scaling-threads.png", "roofline-float32-1.png",
        "where-time-goes.png",
    }  # fmt: skip
    assert all((tmp_path / "plots" / name).read_bytes()[:4] == b"\x89PNG" for name in files)


def test_plots_of_an_earlier_file_go_and_other_pictures_stay(tmp_path):
    pytest.importorskip("matplotlib", reason="plots are an optional extra")
    for name in ("ratio-bfloat16-1.png", "scaling-B.png", "holiday.png"):
        (tmp_path / name).write_text("old")
    assert plots.draw([RUN, END], tmp_path) == []
    assert [file.name for file in tmp_path.iterdir()] == ["holiday.png"]


def test_an_axis_needs_two_sizes_and_threads_are_whole(tmp_path):
    pytest.importorskip("matplotlib", reason="plots are an optional extra")
    threads = [row("8,2,4,4", section="scaling", axis="threads", threads=n) for n in (1, 2, 4)]
    figures = plots.scaling(plots.pyplot(), [row("8,2,4,4", section="scaling", axis="T"), *threads])
    assert set(figures) == {"scaling-threads"}
    (axis,) = figures["scaling-threads"].axes
    assert [text.get_text() for text in axis.get_xticklabels()] == ["1", "2", "4"]
    assert not len(axis.get_xticks(minor=True))


def test_without_matplotlib_it_says_how_to_get_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert program.main(["plot", str(written(tmp_path, everything()))]) == 2
    assert 'pip install ".[bench]", or go without: --no-plots' in capsys.readouterr().err


# ---- compare


@pytest.mark.parametrize(
    "old, new, verdict",
    [
        (row(ratio=1.5), row(ratio=1.2), "slower"),
        (row(ratio=1.2), row(ratio=1.5), "faster"),
        (row(ratio=1.5), row(ratio=1.47, width=0.001), "same"),
        (row(ratio=1.5, width=0.2), row(ratio=1.3), "noisy"),
        (row(), row(low=None, high=None, ratio=1.0), "noisy"),
        (row(), row(low=None, high=None), "noisy"),
        (row(), without_time("wrong"), "wrong"),
        (row(), without_time("failed"), "wrong"),
        (without_time("wrong"), row(), "right again"),
        (without_time("wrong"), without_time("wrong"), "same"),
        (without_time("missing"), row(), "same"),
    ],
)
def test_verdicts(old, new, verdict):
    (change,) = compare.changes([old], [new])
    assert change.verdict == verdict and change.regression == (verdict in ("slower", "wrong"))


def test_memory_is_compared_by_itself():
    mib, row = 1 << 20, {**without_time("ok", section="memory"), "ratio": 1.0}
    for was, peak, verdict in (
        (100, 150, "more memory"), (100, 101, "same"), (100, 50, "less memory"), (0, 0, "same"), (0, 0.9, "same"),
        (0, 2, "more memory"),
    ):  # fmt: skip
        (change,) = compare.changes([{**row, "ours_peak": was * mib}], [{**row, "ours_peak": peak * mib}])
        assert change.verdict == verdict, (was, peak)


def test_ours_gone_wrong_is_a_regression_though_no_rows_of_peers_are_left(tmp_path, capsys):
    old = written(tmp_path, [RUN, row(), row("9,9,9,9")], "old.jsonl")
    for status, peer in (("wrong", "fused"), ("failed", ""), ("failed", "fused+graph")):
        new = written(tmp_path, [RUN, without_time(status, peer=peer), row("9,9,9,9")], "new.jsonl")
        assert program.main(["compare", str(old), str(new)]) == 1, (status, peer)
        assert "1 rows in both, 1 regressions" in capsys.readouterr().out
        assert compare.report(old, [old, new])[1] == 1  # one wrong result among several files is no noise
        assert compare.report(new, [new])[1] == 0  # known before
    new = written(tmp_path, [RUN, row(), without_time("failed", peer="jax")], "new.jsonl")
    assert compare.report(old, [new])[1] == 0


def test_calls_beside_their_parts_are_compared(tmp_path):
    def file(name, whole, torch_ratio=1.5, pace=1.0):
        parts = {**without_time("ok", section="parts", mode="training", peer=""), "whole": whole}
        timed = row(ratio=torch_ratio)
        return written(tmp_path, [RUN, {**timed, "seconds": pace * timed["seconds"]}, parts], name)

    old = file("old.jsonl", {"inference": 1.0, "training": 4.0})
    text, status = compare.report(old, [file("new.jsonl", {"inference": 1.0, "training": 12.0})])
    assert status == 1 and "slower" in text and "1000, 12000 ms" in text and "0.33" in text
    assert compare.report(old, [file("new.jsonl", {"inference": 1.1, "training": 4.4})])[1] == 0
    slower_machine = file("new.jsonl", {"inference": 2.0, "training": 8.0}, pace=2.0)
    assert compare.report(old, [slower_machine])[1] == 0


def grown(factors, **more):
    return [row(f"{n + 1},2,3,4", ratio=2 * factor, **more) for n, factor in enumerate(factors)]


def test_noise_between_runs_is_estimated_from_all_rows():
    jitter = [0.96, 1.04, 0.97, 1.03, 0.95, 1.05, 0.98, 1.02, 1.0, 0.99]
    old, noise = grown([1.0] * 11, width=0.001), compare.threshold([*jitter, 0.8])
    assert 0.05 < noise < 0.15
    verdicts = [c.verdict for c in compare.changes(old, grown([*jitter, 0.8], width=0.001))]
    assert verdicts[10] == "slower" and set(verdicts[:10]) == {"noisy", "same"}
    assert [c.verdict for c in compare.changes(old, grown([1.0] * 10 + [0.95], width=0.001))][10] == "slower"
    assert compare.threshold(jitter[:7]) == pytest.approx(0.03, rel=0.02)  # too few to estimate from


def test_of_several_new_files_all_must_agree(tmp_path):
    old = written(tmp_path, [RUN, row(), row("9,9,9,9")], "old.jsonl")
    once = written(tmp_path, [RUN, row(ratio=1.0), row("9,9,9,9", ratio=1.0)], "once.jsonl")
    again = written(tmp_path, [RUN, row(ratio=1.01), row("9,9,9,9")], "again.jsonl")
    assert "2 regressions" in compare.report(old, [once])[0]
    text, status = compare.report(old, [once, again])
    assert status == 1 and "1 regressions, 1 undecided" in text


def test_a_common_shift_is_a_regression_too(tmp_path):
    dice = [0.93, 0.90, 0.95, 0.88, 0.96, 0.91, 0.94, 0.89, 0.92, 0.95, 0.87, 0.93]
    old = written(tmp_path, [RUN, *grown([1.0] * 12, width=0.5)], "old.jsonl")
    new = written(tmp_path, [RUN, *grown(dice, width=0.5)], "new.jsonl")
    text, status = compare.report(old, [new])
    assert "0 regressions" in text and "median 0.925 (everything is slower)" in text and status == 1
    text, status = compare.report(new, [old])
    assert "(everything is faster)" in text and status == 0


def test_compare_as_a_command(tmp_path, capsys):
    old = written(tmp_path, [RUN, row(), row("9,9,9,9")], "old.jsonl")
    worse = written(tmp_path, [RUN, row(ratio=1.1), row("5,5,5,5")], "worse.jsonl")
    other = written(tmp_path, [{**RUN, "machine": "quipu"}, row("1,1,1,1")], "other.jsonl")
    assert program.main(["compare", str(old), str(old)]) == 0
    assert "Nothing changed beyond the noise." in capsys.readouterr().out
    assert program.main(["compare", str(old), str(worse)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "slower shapes 7,3,5,16 inference float32 1 torch 1.50 (1.48..1.52) 1.10 (1.08..1.12) 0.73" in out
    assert "1 rows in both, 1 regressions, 0 undecided; 1 only in old.jsonl, 1 only in worse.jsonl" in out
    assert program.main(["compare", str(old), str(other)]) == 1
    out = capsys.readouterr().out
    assert "Different machines: abacus, quipu" in out and "nothing was compared" in out
    assert program.main(["compare", str(old), str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl does not exist" in capsys.readouterr().err


# ---- README


def test_readme_is_in_step_with_its_results_file(capsys):
    assert program.main(["readme", "--check"]) == 0, capsys.readouterr().out


def test_readme_is_written_between_its_markers(tmp_path, capsys):
    written(tmp_path, everything())
    file = tmp_path / "README.md"
    file.write_text("before\n<!-- speed: a.jsonl -->\nold\n<!-- /speed -->\nafter\n")
    assert readme.update(file, check=True) == 1 and "not in step" in capsys.readouterr().out
    assert readme.update(file) == 0 == readme.update(file, check=True)
    text = file.read_text()
    assert text.startswith("before\n<!-- speed: a.jsonl -->\n") and text.endswith("<!-- /speed -->\nafter\n")
    assert "| 7,3,5,16 | 1.50 | ~0.80 |" in text and "| 9,9,9,9 | ? |  |" in text
    assert "1,1,128,128, one step | 3.00 |" in text and "| geometric mean without one step |  | **0.80** |" in text
    assert "20.0" not in text  # the loop's
    written(tmp_path, [RUN, row("5,5,5,5", dtype="bfloat16", ratio=2.5)], "b.jsonl")
    file.write_text("<!-- speed: a.jsonl b.jsonl -->\n<!-- /speed -->\n")
    assert readme.update(file) == 0
    text = file.read_text()
    assert "| 9,9,9,9 | ? |  |" in text and "| bfloat16: T,B,I,H | inference, 1 thread |" in text
    assert "| 5,5,5,5 | 2.50 |" in text
    file.write_text("no markers")
    with pytest.raises(readme.ReadmeProblem, match="has no lines <!-- speed"):
        readme.update(file)


# ---- the rest of the program


def test_table_and_list_as_commands(tmp_path, capsys):
    file = written(tmp_path, everything())
    assert program.main(["table", str(file)]) == 0 and "## Means and worst" in capsys.readouterr().out
    assert program.main(["list", "--device", "cuda"]) == 0
    out = capsys.readouterr().out
    assert "awd-lstm" in out and "missing: haste_pytorch is not installed. To have it: from source" in out


def test_what_cannot_be_measured_is_said(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert program.main(["--device", "cuda"]) == 2
    assert "torch.cuda.is_available() is False" in capsys.readouterr().err
    assert program.main(["--sections", "parts", "--modes", "latency"]) == 2
    assert "nothing is left to measure" in capsys.readouterr().err


def test_a_whole_run(tmp_path, capsys, monkeypatch):
    found = limits.Limits(1, {"float32": 100.0}, {"float32": 80.0}, 20.0, "")
    monkeypatch.setattr(limits, "measure", lambda *args: found)
    output = tmp_path / "out.jsonl"
    argv = ["--shapes", "4,2,3,4", "--threads", "1", "--peers", "torch", "--seconds", "0.01", "--output", str(output)]
    assert program.main(argv) == 0
    assert "## shapes" in capsys.readouterr().out and "## shapes" in output.with_suffix(".md").read_text()
    assert [r["peer"] for r in read(output) if r["kind"] == "row"] == ["torch", "torch"]
    assert program.main([*argv, "--no-plots"]) == 0 and output.with_suffix(".previous.jsonl").exists()


def test_interrupted_it_ends_without_a_traceback(monkeypatch, tmp_path, capsys):
    def interrupted(self, group):
        raise KeyboardInterrupt

    monkeypatch.setattr(run.Runner, "_measured", interrupted)
    argv = ["--shapes", "4,2,3,4", "--threads", "1", "--peers", "torch", "--output", str(tmp_path / "out.jsonl")]
    assert program.main(argv) == 130
    assert "Interrupted. What was measured is in" in capsys.readouterr().out
    assert not (tmp_path / "out.jsonl").exists() and program.main(["table", str(tmp_path / "out.partial.jsonl")]) == 0
    (tmp_path / "file").write_text("")
    assert program.main([*argv[:-1], str(tmp_path / "file" / "out.jsonl")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    argv = ["plot", str(written(tmp_path, everything())), "--output", str(tmp_path / "file")]
    assert program.main(argv) == 2


def test_variants_are_a_suite_of_their_own(tmp_path, capsys, monkeypatch):
    from benchmarks import variants

    monkeypatch.setattr(variants, "VARIANTS", [{"peephole": True}, {"proj_size": 2, "proj_clip": 1.0}])
    monkeypatch.setattr(variants, "TIMED", (2, 2, 3, 4))
    output = tmp_path / "v.jsonl"
    argv = ["--suite", "variants", "--seconds", "0.01", "--threads", "1", "--output", str(output)]
    assert program.main(argv) == 0 and "peephole=True" in capsys.readouterr().out
    found = [record for record in read(output) if record["kind"] == "variant"]
    assert len(found) == 2 and found[0]["training"]["ratio"] > 0 and found[1]["error"] < 1e-5


# ---- the machine


@pytest.mark.parametrize(
    "vendor, family, model, told, name",
    [
        ("AuthenticAMD", 25, 17, "AMD EPYC", "epyc-zen4"),
        ("AuthenticAMD", 25, 1, "AMD EPYC 7763 64-Core Processor", "epyc-7763-zen3"),
        ("GenuineIntel", 6, 143, "Intel(R) Xeon(R) Gold 6430 CPU @ 2.1GHz", "xeon-gold-6430"),
    ],
)
def test_names_of_machines(vendor, family, model, told, name):
    text = f"vendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {told}\n\nmodel\t: 0"
    assert machine.name("cpu", machine.cpuinfo(text)) == name


def test_a_machine_is_described():
    found = machine.describe("cpu")
    assert found["cores"] >= 1 and len(found["load"]) == 3 and found["fused_lstm"]["version"]
    json.dumps(found)
