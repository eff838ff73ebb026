"""benchmarks: a run put together, its file, and what becomes of both when it is interrupted."""

from __future__ import annotations

import functools

import pytest
import torch
from bench_cases import LIMITS, threads_as_before  # noqa: F401

from benchmarks import limits, memory, parts, run
from benchmarks.plan import Group
from benchmarks.results_file import FileProblem, Writer, read, rows
from benchmarks.shapes import parse


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
