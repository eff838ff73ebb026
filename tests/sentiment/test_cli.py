"""train, evaluate and predict as a user calls them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fused_lstm.sentiment import loop
from fused_lstm.sentiment.cli import main
from fused_lstm.sentiment.commands.predict import EMBEDDED_WARNING
from fused_lstm.sentiment.store import save

from .conftest import easy_examples

SMALL = ["--embedding", "12", "--hidden", "10", "--dropout", "0.1", "--epochs", "4"]
SMALL += ["--batch-size", "8", "--lr", "0.02", "--threads", "1"]


def train(data: Path, output: Path, *more: str) -> int:
    return main(["train", "--data", str(data), "--output", str(output), *SMALL, *more])


@pytest.fixture
def model_folder(tmp_path, small_model):
    folder = tmp_path / "model"
    save(folder, small_model.network, small_model.vocabulary, small_model.settings)
    return str(folder)


@pytest.mark.parametrize("backend", ["fused", "torch"])
def test_train_evaluate_predict(easy_tsv, tmp_path, capsys, backend):
    run = tmp_path / "run"
    assert train(easy_tsv, run, "--lstm", backend, "--target-accuracy", "0.9") == 0
    output = capsys.readouterr().out
    assert "TF-IDF 1-2-grams" in output
    assert "95 % interval" in output
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["parts"]["test"]["accuracy"] >= 0.9
    assert metrics["settings"]["lstm"] == backend
    assert f"{100 * metrics['parts']['test']['accuracy']:.2f}" in output

    numbers = tmp_path / "numbers.json"
    assert main(["evaluate", str(run), str(easy_tsv), "--lstm", "torch", "--json", str(numbers)]) == 0
    assert "macro mean" in capsys.readouterr().out
    assert json.loads(numbers.read_text())["count"] == 240

    assert main(["predict", str(run), "a lovely hall 7", "a gloomy porch 9"]) == 0
    captured = capsys.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()] == ["good", "bad"]
    assert captured.err == ""


def test_predictions_on_all_roads_are_the_same(model_folder, tmp_path, capsys, monkeypatch):
    texts = ["good film .", "好吃!", "bad"]
    main(["predict", model_folder, *texts])
    expected = capsys.readouterr().out
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts), encoding="utf-8")
    main(["predict", model_folder, "--file", str(file)])
    assert capsys.readouterr().out == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\r\n".join(texts).encode())))
    main(["predict", model_folder])
    assert capsys.readouterr().out == expected
    assert len(expected.splitlines()) == 3


def test_formats(model_folder, capsys):
    texts = ["good\tfilm\nnow", "好吃!"]
    assert main(["predict", model_folder, "--format", "jsonl", *texts]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == texts
    for row in rows:
        assert row["probability"] == row["probabilities"][row["label"]] == max(row["probabilities"].values())
        assert sum(row["probabilities"].values()) == pytest.approx(1)
    assert main(["predict", model_folder, "--format", "tsv", *texts]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.split("\n")[:-1]]
    assert lines[0] == ["label", "probability", "text", "bad", "fair", "good"]
    assert lines[1][2] == "good film now"
    for line, row in zip(lines[1:], rows):
        assert line[0] == row["label"]
        assert [float(cell) for cell in line[3:]] == pytest.approx(list(row["probabilities"].values()), abs=1e-6)


def test_every_line_of_input_has_a_line_of_output(model_folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"good\n\nbad\xff\n  \nfilm")))
    assert main(["predict", model_folder]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


@pytest.mark.parametrize("road", ["file", "stdin"])
def test_lines_that_are_not_utf8_are_read_as_in_training_and_told(model_folder, tmp_path, capsys, monkeypatch, road):
    lines = ["good", "caf\xe9".encode("latin-1"), "好吃!".encode("gb18030"), "film"]
    content = b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)
    file = tmp_path / "a.txt"
    file.write_bytes(content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    more = ["--file", str(file)] if road == "file" else []
    assert main(["predict", model_folder, "--format", "jsonl", *more]) == 0
    told = capsys.readouterr()
    assert [json.loads(line)["text"] for line in told.out.splitlines()] == ["good", "café", "好吃!", "film"]
    name = file if road == "file" else "standard input"
    assert f"1 line(s) were not UTF-8 and were read as latin-1, the first at {name}:2." in told.err
    assert f"1 line(s) were not UTF-8 and were read as gb18030, the first at {name}:3." in told.err


def test_an_argument_that_is_not_utf8(model_folder, capsys):
    assert main(["predict", model_folder, "--format", "jsonl", "caf\udce9"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "caf\ufffd"


def test_a_model_of_the_embedded_corpus_warns(tmp_path, capsys):
    run = str(tmp_path / "run")
    small = ["--corpus-size", "200", "--language", "zh", "--no-plots", *SMALL, "--epochs", "1"]
    assert main(["train", "--output", run, *small]) == 0
    assert "compose" in capsys.readouterr().out
    assert main(["predict", run, "好"]) == 0
    captured = capsys.readouterr()
    assert captured.err.strip() == EMBEDDED_WARNING
    assert len(captured.out.splitlines()) == 1


def test_threads(tmp_path, easy_tsv, monkeypatch):
    """The embedded corpus takes one thread, other data what torch has, unless the user says otherwise."""
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    quick = ["--epochs", "1", "--hidden", "4", "--no-baseline", "--no-plots", "--output", str(tmp_path / "run")]
    assert main(["train", "--corpus-size", "50", *quick]) == 0
    assert set(asked) == {1}
    asked.clear()
    assert main(["train", "--corpus-size", "50", "--threads", "3", *quick]) == 0
    assert set(asked) == {3}
    asked.clear()
    assert main(["train", "--data", str(easy_tsv), *quick]) == 0
    assert asked == []


def test_missing_the_target_fails(easy_tsv, tmp_path, capsys):
    assert train(easy_tsv, tmp_path / "run", "--target-accuracy", "1", "--lr", "1e-9", "--epochs", "1") == 1
    assert "below the target 1.0" in capsys.readouterr().err


def test_bad_rows_are_reported_or_fatal(easy_tsv, tmp_path, capsys):
    with open(easy_tsv, "a", encoding="utf-8") as stream:
        stream.write("no label on this line\n")
    assert train(easy_tsv, tmp_path / "run", "--no-baseline", "--no-plots", "--epochs", "1") == 0
    assert f"{easy_tsv}:241: expected a label and a text" in capsys.readouterr().out
    assert train(easy_tsv, tmp_path / "strict", "--strict") == 1
    assert "easy.tsv:241" in capsys.readouterr().err
    assert not (tmp_path / "strict").exists()


def test_fields_and_parts(tmp_path, capsys):
    for part, count in (("train", 200), ("dev", 20), ("test", 20)):
        lines = [json.dumps({"stars": e.label, "body": e.text}) for e in easy_examples(count, seed=count)]
        (tmp_path / f"{part}.jsonl").write_text("\n".join(lines))
    named = ["--label-field", "stars", "--text-field", "body"]
    assert train(tmp_path, tmp_path / "run", *named, "--no-baseline", "--no-plots") == 0
    assert "train 200, dev 20, test 20" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "run"), str(tmp_path), "--part", "dev", *named]) == 0
    assert "| 20 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "nowhere.tsv"], "nowhere.tsv: no such file"),
        (["train", "--test-file", "x.tsv"], "--test-file needs --data or --train-file"),
        (["evaluate", "nowhere", "data.tsv"], "nowhere: not a folder of a classifier"),
        (["predict", "nowhere", "text"], "nowhere: not a folder of a classifier"),
    ],
)
def test_errors_are_one_sentence(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_evaluate_names_labels_the_model_lacks(model_folder, tmp_path, capsys):
    data = tmp_path / "data.tsv"
    data.write_text("good\tgood film\nsplendid\tfilm\n")
    assert main(["evaluate", model_folder, str(data)]) == 0
    assert "1 row(s) with labels the model does not know" in capsys.readouterr().err
    data.write_text("1\tgood film\n")
    assert main(["evaluate", model_folder, str(data)]) == 1
    assert "no row has a label of the model (bad, fair, good); found 1" in capsys.readouterr().err


def test_interrupt_saves_the_best_so_far(easy_tsv, tmp_path, capsys, monkeypatch):
    steps = iter(range(30))
    step = loop.Loop._train_on

    def interrupted(self, batch):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(loop.Loop, "_train_on", interrupted)
    assert train(easy_tsv, tmp_path / "run", "--no-baseline", "--no-plots") == 130
    assert "Interrupted" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["interrupted"]
    assert main(["predict", str(tmp_path / "run"), "a lovely hall"]) == 0


def test_as_a_program(model_folder):
    program = [sys.executable, "-m", "fused_lstm.sentiment"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [*program, "predict", model_folder, "--format", "jsonl", "--threads", "1"],
        input="好吃!\n", capture_output=True, text=True, encoding="utf-8", cwd=root, timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"] == "好吃!"


def test_a_reader_that_leaves_early_causes_no_traceback(model_folder, tmp_path):
    file = tmp_path / "many.txt"
    file.write_text("good film\n" * 20_000)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "fused_lstm.sentiment", "predict", model_folder, "--file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root) as process:
        process.stdout.readline()
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
