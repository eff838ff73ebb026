"""prepare writes what the same data gives in memory, and train takes it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from fused_lstm.sentiment.cli import main
from fused_lstm.sentiment.data_options import DataOptions, ReadingOptions
from fused_lstm.sentiment.datasets import load_dataset, load_part, open_dataset
from fused_lstm.sentiment.examples import DataError, RowProblems
from fused_lstm.sentiment.options import RunOptions
from fused_lstm.sentiment.predictor import number_examples
from fused_lstm.sentiment.preparation import prepare
from fused_lstm.sentiment.prepared import INDEX, is_prepared, open_prepared
from fused_lstm.sentiment.tokens import TokenOptions
from fused_lstm.sentiment.vocabularies import learn_vocabulary

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
PARTS = ("train", "dev", "test")


def run(source, folder, tokens=None, numeric=False, **data):
    options = DataOptions(data=str(source), **data)
    return prepare(options, ReadingOptions(numeric_labels=numeric), tokens or TokenOptions(), folder, lambda line: None)


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("kind", ["word", "char"])
def test_the_same_as_in_memory(easy_tsv, tmp_path, drop, kind):
    with open(easy_tsv, "a", encoding="utf-8") as stream:
        stream.write("good\tA lovely hall 3\nbad\ta  LOVELY hall 3\nno tab\n好\t好吃！\n")
    tokens = TokenOptions(tokenizer=kind, min_count=1, max_length=7)
    index = run(easy_tsv, tmp_path / "out", tokens, drop_duplicates=drop)
    problems = RowProblems()
    memory = load_dataset(DataOptions(data=str(easy_tsv), drop_duplicates=drop), ReadingOptions(), problems)
    prepared = open_prepared(tmp_path / "out")
    opened = open_dataset(DataOptions(data=str(tmp_path / "out")), ReadingOptions(), RunOptions().corpus)
    assert opened.counts() == memory.counts() and "bad: " in memory.counts()
    assert prepared.classes == memory.classes
    assert index["notes"] == memory.notes + problems.lines()
    vocabulary = learn_vocabulary((e.text for e in memory.train), tokens)
    assert prepared.vocabulary.words == vocabulary.words
    assert prepared.tokens == tokens
    for part in PARTS:
        examples = getattr(memory, part)
        assert list(prepared.texts[part]) == examples
        expected, found = number_examples(examples, vocabulary, memory.classes, 7), prepared.numbered[part]
        assert len(found) == len(examples) == index["parts"][part]["rows"]
        rows = torch.arange(len(examples)).flip(0)
        for ours, theirs in zip(found.batch(rows), expected.batch(rows)):
            assert torch.equal(ours, theirs)


def test_what_a_person_is_told(tmp_path):
    texts = [f"word{i % 7} and {i}" for i in range(40)]
    for part, rows in (("train", texts[:30]), ("dev", texts[30:36]), ("test", texts[36:] + texts[:1])):
        (tmp_path / f"{part}.tsv").write_text("".join(f"{i % 3 and 'x' or 'y'}\t{t}\n" for i, t in enumerate(rows)))
    index = run(tmp_path, tmp_path / "out", drop_leaks=True)
    assert index["parts"]["train"]["rows"] == 29
    assert index["parts"]["train"]["classes"] == {"x": 20, "y": 9}
    assert index["parts"]["train"]["length"] == {"median": 3, "p95": 3, "max": 3}
    assert 0 < index["parts"]["test"]["unknown_share"] < 0.5
    assert index["notes"] == [
        "Leak: 1 of 5 test texts also occur in train (case and spacing aside); 1 train row(s) were left out."
    ]
    assert [Path(source["file"]).name for source in index["sources"]] == ["train.tsv", "dev.tsv", "test.tsv"]
    assert all(len(source["sha256"]) == 64 for source in index["sources"])


def test_numbers_as_labels(tmp_path):
    rows = [f"{i % 11}.0\ttext {i}\n" for i in range(60)] + ["good\tno number\n"]
    (tmp_path / "a.tsv").write_text("".join(rows))
    index = run(tmp_path / "a.tsv", tmp_path / "out", numeric=True)
    assert index["classes"] == [str(i) for i in range(11)]
    assert "a.tsv:61: expected a number as the label, found 'good'" in index["notes"][-1]


def test_continuous_numbers_are_refused_with_the_reason(tmp_path):
    (tmp_path / "a.tsv").write_text("".join(f"{i / 7}\ttext {i}\n" for i in range(60)))
    data, reading = DataOptions(data=str(tmp_path / "a.tsv")), ReadingOptions(numeric_labels=True)
    message = r"the dev part holds no usable row: \d+ dev row\(s\) were left out: train has no such label .*round them"
    with pytest.raises(DataError, match=message):
        load_dataset(data, reading, RowProblems())
    with pytest.raises(DataError, match=message):
        run(tmp_path / "a.tsv", tmp_path / "out", numeric=True)
    (tmp_path / "a.tsv").write_text("".join(f"{i / 7}\ttext {i}\n" for i in range(1300)))
    message = r"ratings of at most 1,000 different values, found 1,\d+ in 1,\d+ training rows; round them"
    with pytest.raises(DataError, match=message):
        load_dataset(data, reading, RowProblems())
    with pytest.raises(DataError, match=message):
        run(tmp_path / "a.tsv", tmp_path / "out", numeric=True)


def test_train_and_evaluate_on_it(easy_tsv, tmp_path, capsys):
    out, model = tmp_path / "out", tmp_path / "model"
    assert main(["prepare", "--data", str(easy_tsv), "--into", str(out), "--min-count", "1"]) == 0
    told = capsys.readouterr().out
    assert "| train |" in told
    assert "bad " in told
    assert "train --data" in told
    small = ["--hidden", "8", "--embedding", "8", "--epochs", "2", "--batch-size", "16", "--threads", "1"]
    weights = []
    for data in (out, easy_tsv):
        folder = model / data.name
        assert main(["train", "--data", str(data), "--output", str(folder), "--min-count", "1", *small]) == 0
        weights.append((folder / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    capsys.readouterr()
    assert main(["evaluate", str(folder), str(out), "--part", "dev"]) == 0
    assert "macro mean" in capsys.readouterr().out
    assert main(["train", "--data", str(out), "--tokenizer", "char", *small]) == 1
    assert "was prepared with --tokenizer word, not char" in capsys.readouterr().err
    assert main(["prepare", "--data", str(out)]) == 1
    assert "is prepared already" in capsys.readouterr().err
    assert main(["train", "--data", str(out), "--drop-leaks", *small]) == 1
    assert "whose parts are decided" in capsys.readouterr().err


def test_ratings_from_file_to_evaluation(tmp_path, capsys):
    rows = [f"{i % 5}.0\t{'very ' * (i % 5)}fine {i}\n" for i in range(80)] + ["good\tno number\n"]
    (tmp_path / "a.tsv").write_text("".join(rows))
    run_folder = str(tmp_path / "run")
    small = ["--hidden", "4", "--epochs", "1", "--no-baseline", "--no-plots", "--regression", "--threads", "1"]
    assert main(["train", "--data", str(tmp_path / "a.tsv"), "--output", run_folder, *small]) == 0
    assert "a.tsv:81: expected a number as the label, found 'good'" in capsys.readouterr().out
    assert json.loads((Path(run_folder) / "config.json").read_text())["classes"] == ["0", "1", "2", "3", "4"]
    report = tmp_path / "report"
    assert main(["evaluate", run_folder, str(tmp_path / "a.tsv"), "--report", str(report)]) == 0
    told = capsys.readouterr()
    assert "1 row(s) could not be read" in told.err
    mse = json.loads((report / "metrics.json").read_text())["parts"]["test"]["ratings"]["mse"]
    assert told.out.startswith("| MSE ") and f"| {mse:.4f} |" in told.out.splitlines()[2]
    assert "alibration" not in told.out
    assert main(["predict", run_folder, "--format", "tsv", "--html", str(tmp_path / "p.html"), "very fine"]) == 0
    header, row = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert header == ["label", "probability", "text", "0", "1", "2", "3", "4", "rating"]
    page = (tmp_path / "p.html").read_text()
    assert "adds to the predicted number" in page and "log-odds" not in page
    assert f"{float(row[-1]):.3f}, nearest label {row[0]}" in page


def test_a_folder_is_replaced_only_by_a_whole_one(easy_tsv, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(easy_tsv, out)
    before = (out / INDEX).read_text()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("fused_lstm.sentiment.preparation.NumberWriter.close", full)
        with pytest.raises(DataError, match="cannot be written: No space left on device"):
            run(easy_tsv, out)
    assert (out / INDEX).read_text() == before
    assert sorted(os.listdir(tmp_path)) == ["easy.tsv", "out"]
    run(easy_tsv, out, TokenOptions(tokenizer="char"))
    assert open_prepared(out).vocabulary.kind == "char"
    assert sorted(os.listdir(tmp_path)) == ["easy.tsv", "out"]


def test_other_folders_are_left_alone(easy_tsv, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="holds something other than prepared data; choose another folder with --into"):
        run(easy_tsv, tmp_path / "full")
    assert not is_prepared(tmp_path / "full")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: os.truncate(folder / "train.tokens", 8), "should have"),
        (lambda folder: (folder / "dev.text").unlink(), "cannot be read: No such file"),
        (lambda folder: (folder / INDEX).write_text("{"), "cannot be read as JSON"),
        (lambda folder: (folder / INDEX).write_text('{"format": "other"}'), "expected fused_lstm.sentiment.prepared"),
    ],
)
def test_damaged_folders(easy_tsv, tmp_path, spoil, message):
    run(easy_tsv, tmp_path / "out")
    spoil(tmp_path / "out")
    with pytest.raises(DataError, match=message):
        open_prepared(tmp_path / "out")


def test_texts_are_a_sequence(easy_tsv, tmp_path):
    run(easy_tsv, tmp_path / "out")
    texts = load_part(str(tmp_path / "out"), "train", ReadingOptions(), RowProblems())
    assert texts[-1] == list(texts)[-1] == texts[len(texts) - 1]
    assert texts[2:4] == [texts[2], texts[3]]
    with pytest.raises(IndexError):
        texts[len(texts)]


def test_without_data(capsys):
    assert main(["prepare"]) == 1
    assert "prepare needs --data PATH or --train-file FILE" in capsys.readouterr().err


@pytest.mark.skipif(not (SHARED / "manifest.json").exists(), reason="the real data sets are not beside this checkout")
def test_a_real_set_has_the_leaks_that_its_manifest_counts(tmp_path):
    index = run(SHARED / "sst2", tmp_path / "out")
    counted = {part["file"]: part["rows"] for s in json.loads((SHARED / "manifest.json").read_text())["datasets"]
               for part in s["files"]}
    assert [index["parts"][part]["rows"] for part in PARTS] == [counted[f"sst2/{part}.tsv.gz"] for part in PARTS]
    assert "Leak: 2 of 1,821 test texts also occur in train (case and spacing aside)." in index["notes"]
    dataset = open_dataset(DataOptions(data=str(tmp_path / "out")), ReadingOptions(), RunOptions().corpus)
    assert len(dataset.train) == 6920
