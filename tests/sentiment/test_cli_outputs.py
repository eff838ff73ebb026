"""What predict --explain, evaluate --report, export and compare give, as a user calls them."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from fused_lstm.sentiment import exporting
from fused_lstm.sentiment.cli import main
from fused_lstm.sentiment.predictor import predict_texts
from fused_lstm.sentiment.store import load, save

TEXTS = ["good film .", "好吃!", "bad"]


def store(folder, small_model, **settings):
    save(folder, small_model.network, small_model.vocabulary, replace(small_model.settings, **settings))
    return folder


@pytest.fixture
def model_folder(tmp_path, small_model):
    return store(tmp_path / "model", small_model)


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "data.tsv"
    rows = [("good", "good film"), ("bad", "bad bad film ."), ("fair", "film 好"), ("good", "吃 !"), ("bad", "bad")]
    file.write_text("".join(f"{label}\t{text} {i}\n" for i in range(6) for label, text in rows), encoding="utf-8")
    return file


@pytest.mark.parametrize("command", ["predict", "evaluate", "export", "compare"])
def test_help(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert f"usage: fused-lstm-sentiment {command} " in capsys.readouterr().out


# --- predict


def test_explanations_in_jsonl_and_text(model_folder, capsys):
    assert main(["predict", str(model_folder), "--format", "jsonl", "--explain", *TEXTS]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["tokens"] for row in rows] == [["good", "film", "."], ["好", "吃", "!"], ["bad"]]
    assert all(len(row["weights"]) == len(row["tokens"]) for row in rows)
    assert main(["predict", str(model_folder), "--explain", "--integrated", "8", *TEXTS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0::2] == [f"{row['label']}  {row['probability']:.3f}  {row['text']}" for row in rows]
    assert re.fullmatch(r"    bad [+-]\d\.\d\d", lines[5])


def test_explanations_in_colour(model_folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["predict", str(model_folder), "--explain", "好吃!"]) == 0
    coloured = capsys.readouterr().out
    assert "\x1b[48;5;" in coloured
    assert re.sub(r"\x1b\[[^m]*m", "", coloured).endswith("  好吃!\n")
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["predict", str(model_folder), "--explain", "好吃!"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_page_of_explanations(model_folder, tmp_path, capsys):
    page = tmp_path / "out.html"
    assert main(["predict", str(model_folder), "--html", str(page), *TEXTS, "<b>"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and text.count('class="text"') == 4
    shown = re.sub("<[^>]*>", "", text.split("</style>")[1])
    for piece in ("good film .", "好吃!", "&lt;b&gt;", "of its tokens are unknown"):
        assert piece in shown


def test_speed_is_said_for_files_and_pipes_alone(model_folder, tmp_path, capsys):
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(TEXTS * 5), encoding="utf-8")
    for size in ("1", "4", "256"):
        assert main(["predict", str(model_folder), "--file", str(file), "--batch-size", size]) == 0
        captured = capsys.readouterr()
        assert len(captured.out.splitlines()) == 15
        assert size == "1" or re.search(r"^15 texts in .* samples/s$", captured.err)
    assert main(["predict", str(model_folder), "good"]) == 0
    assert capsys.readouterr().err == ""


# --- evaluate and compare


def test_evaluate_writes_what_compare_reads(model_folder, data, tmp_path, small_model, capsys):
    with torch.no_grad():
        small_model.network.output.bias[0] += 0.3
    other = store(tmp_path / "other", small_model)
    for model in (model_folder, other):
        assert main(["evaluate", str(model), str(data), "--report", str(tmp_path / f"{model.name}-told")]) == 0
    told = tmp_path / "model-told"
    assert {path.name for path in told.iterdir()} == {"metrics.json", "report.md", "report.html", "predictions.jsonl"}
    metrics = json.loads((told / "metrics.json").read_text())
    assert metrics["parts"]["test"]["count"] == metrics["data"]["counts"]["test"] == 30
    assert f"{100 * metrics['parts']['test']['accuracy']:.2f}" in capsys.readouterr().out

    page, numbers = tmp_path / "compare.html", tmp_path / "compare.json"
    folders = [str(told), str(tmp_path / "other-told")]
    assert main(["compare", *folders, "--html", str(page), "--json", str(numbers)]) == 0
    text = capsys.readouterr().out
    pair = json.loads(numbers.read_text())["against_the_first"][0]["difference"]
    accuracies = [json.loads(open(f"{f}/metrics.json").read())["parts"]["test"]["accuracy"] for f in folders]
    assert pair["difference"] == pytest.approx(accuracies[1] - accuracies[0])
    assert f"{100 * pair['difference']:+.2f} points" in text
    assert "other-told less model-told" in text and "other-told less model-told" in page.read_text()


def test_evaluate_does_not_replace_the_report_of_a_training(model_folder, data, capsys):
    before = sorted(path.name for path in model_folder.iterdir())
    assert main(["evaluate", str(model_folder), str(data), "--report", str(model_folder)]) == 1
    assert "is a model folder with the report of its training; choose another" in capsys.readouterr().err
    assert sorted(path.name for path in model_folder.iterdir()) == before


def run_folder(path, seed, accuracy=0.5, sha="a", **settings):
    """The least of a run that compare needs."""
    path.mkdir()
    part = {
        "accuracy": accuracy, "accuracy_interval_95": [0.4, 0.6], "macro": {"f1": accuracy}, "loss": 0.7, "count": 2,
        "calibration": {"ece": 0.1}, "samples_per_second": 10.0, "sha256": sha, "confusion": {"classes": ["a", "b"]},
    }  # fmt: skip
    history = [{"epoch": e, "dev_loss": 0.5 / e, "dev_accuracy": 0.5 + e / 10} for e in (1, 2)]
    metrics = {
        "format": "fused_lstm.sentiment.metrics", "version": 2, "title": "a run", "data": {"sha256": {"test": sha}},
        "settings": {"seed": seed, "output": str(path), **settings}, "history": history, "parts": {"test": part},
    }  # fmt: skip
    (path / "metrics.json").write_text(json.dumps(metrics))
    rows = [{"part": "test", "text": "k", "true": "a", "probabilities": [0.9, 0.1]}] * 2
    (path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_seeds_are_summed_up_and_other_data_is_not_tested(tmp_path, capsys):
    one, two = (run_folder(tmp_path / f"s{seed}", seed, 0.5 + seed / 10) for seed in (1, 2))
    wide = run_folder(tmp_path / "wide", 1, 0.9, "b", hidden=9)
    assert main(["compare", one, two, wide, "--html", str(tmp_path / "c.html")]) == 0
    text = capsys.readouterr().out
    assert "| s1 s2 | 1, 2  | 65.00 ± 7.07 |" in text
    assert "wide is not tested against s1: its test rows are not those of s1." in text
    assert re.search(r"\| hidden +\| not set +\| not set +\| 9 ", text)
    assert "s2 less s1: +0.00 points" in text
    assert (tmp_path / "c.html").read_text().count("<svg") == 3


def break_metrics(folder, change):
    file = folder / "metrics.json"
    metrics = json.loads(file.read_text())
    change(metrics)
    file.write_text(json.dumps(metrics))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "metrics.json").unlink(), "b: holds no metrics.json; give folders written by train"),
        (lambda f: (f / "metrics.json").write_text("{"), "metrics.json: cannot be read as JSON"),
        (lambda f: break_metrics(f, lambda m: m.update(version=3)), "version 3 is not the one this program reads"),
        (lambda f: break_metrics(f, lambda m: m.pop("format")), "is not a report of this program"),
        (lambda f: break_metrics(f, lambda m: m["parts"]["test"].pop("loss")), "metrics.json: lacks 'loss'"),
        (lambda f: (f / "predictions.jsonl").unlink(), "predictions.jsonl: cannot be read: No such file"),
        (lambda f: (f / "predictions.jsonl").write_text("{"), "predictions.jsonl:1: expected one prediction"),
    ],
)
def test_compare_names_what_is_broken(tmp_path, capsys, damage, message):
    folders = [run_folder(tmp_path / name, 1) for name in "ab"]
    damage(tmp_path / "b")
    assert main(["compare", *folders]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert main(["compare", folders[0]]) == 1


# --- export


@pytest.mark.parametrize("max_length", [0, 12])
def test_exports_answer_as_the_model_does_as_their_usage_says(tmp_path, small_model, capsys, monkeypatch, max_length):
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    folder = store(tmp_path / "model", small_model, max_length=max_length)
    exported = tmp_path / "exported"
    assert main(["export", str(folder), str(exported)]) == 0
    said = capsys.readouterr().out
    assert said.count("compared with the model, at most") == 2
    assert {path.name for path in exported.iterdir()} == {
        "model.onnx", "model.pt2", "tokenizer.json", "labels.json", "USAGE.md", "export.json"
    }
    texts = [*TEXTS, "", "good " * 30 + "bad"]
    expected = [prediction.probabilities for prediction in predict_texts(load(folder), texts)]
    code = re.findall(r"```python\n(.*?)```", (exported / "USAGE.md").read_text(), re.DOTALL)
    assert len(code) == (4 if max_length else 3)
    monkeypatch.chdir(exported)
    names: dict = {}
    for block in code:
        exec(block.replace('["a first text", "another one"]', repr(texts)), names)
        if "probabilities" in names:
            assert np.asarray(names.pop("probabilities")) == pytest.approx(np.array(expected), abs=1e-5)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_export_that_differs_is_not_written(model_folder, tmp_path, capsys, monkeypatch):
    class Wrong(exporting.Answers):
        def forward(self, tokens, lengths):
            result = super().forward(tokens, lengths)
            return result if torch.compiler.is_compiling() else result + 1e-3

    monkeypatch.setattr(exporting, "Answers", Wrong)
    assert main(["export", str(model_folder), str(tmp_path / "out"), "--programs", "torch"]) == 1
    assert "gives other results than the model (0.001 away" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_export_without_the_libraries(model_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", str(model_folder), str(tmp_path / "a"), "--programs", "onnx"]) == 0
    assert "not compared with the model: onnxruntime is not installed" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", str(model_folder), str(tmp_path / "b")]) == 1
    assert 'pip install "fused_lstm[onnx]", or choose --programs torch' in capsys.readouterr().err
    assert main(["export", str(model_folder), str(tmp_path / "b"), "--programs", "torch"]) == 0


def test_what_export_refuses(model_folder, tmp_path, capsys):
    assert main(["export", str(model_folder), str(tmp_path / "out"), "--lstm", "torch"]) == 1
    assert "leave --lstm at fused" in capsys.readouterr().err
    assert main(["export", str(model_folder), str(model_folder)]) == 1
    assert "is a model folder; choose another one" in capsys.readouterr().err


# --- a full disk


def test_a_full_disk_is_one_sentence_and_leaves_the_last_report(model_folder, data, tmp_path, capsys, monkeypatch):
    told = tmp_path / "told"
    assert main(["evaluate", str(model_folder), str(data), "--report", str(told)]) == 0
    before = {path.name: path.read_bytes() for path in told.iterdir()}

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    capsys.readouterr()
    assert main(["evaluate", str(model_folder), str(data), "--report", str(told)]) == 1
    error = capsys.readouterr().err
    assert "No space left on device" in error and error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in told.iterdir()} == before


def test_a_model_folder_of_a_newer_version(model_folder, capsys):
    file = model_folder / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "version": config["version"] + 1}))
    for command in (["predict", str(model_folder), "x"], ["export", str(model_folder), str(model_folder / "out")]):
        assert main(command) == 1
        assert "format version" in capsys.readouterr().err


def test_loading_unpickles_nothing(model_folder, capsys, monkeypatch):
    def refuse(*arguments, **more):
        raise AssertionError("unpickled")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    assert main(["predict", str(model_folder), "good"]) == 0
