"""Word vectors from text files."""

from __future__ import annotations

import json

import pytest
import torch

from fused_lstm.sentiment.cli import main
from fused_lstm.sentiment.examples import DataError, RowProblems
from fused_lstm.sentiment.tokens import Vocabulary
from fused_lstm.sentiment.vectors import read_vectors, vector_size

WORDS = Vocabulary(["good", "bad", "好", "none"])
LINES = "Good 9 9 9\ngood 1 2 3\nbad 4 5e-1 6\n好 -1 0 1\nother 7 7 7\n"


def read(tmp_path, text):
    path = tmp_path / "vectors.txt"
    path.write_text(text, encoding="utf-8")
    problems = RowProblems()
    return read_vectors(path, WORDS, problems), problems.messages


@pytest.mark.parametrize("header", ["", "5 3\n"])
def test_both_formats(tmp_path, header):
    vectors, bad = read(tmp_path, header + LINES)
    assert bad == []
    assert vectors.known.tolist() == [False, False, True, True, True, False]
    assert vectors.values[2:5].tolist() == [[1, 2, 3], [4, 0.5, 6], [-1, 0, 1]]
    assert not vectors.values[~vectors.known].any()
    assert vectors.note == f"Word vectors: 3 of 4 tokens of the vocabulary (75.0%) are in {tmp_path / 'vectors.txt'}."


def test_other_case_is_taken_where_there_is_no_better(tmp_path):
    vectors, _ = read(tmp_path, "good 1 2 3\nGOOD 9 9 9\nBad 1 1 1\nBAD 2 2 2\n")
    assert vectors.values[2:4].tolist() == [[1, 2, 3], [1, 1, 1]]


def test_bad_lines_are_named(tmp_path):
    vectors, bad = read(tmp_path, "good 1 2 3\nbad 1 2\nbad 1 2 x\nnone 1 nan 3\n好 1 2 3\n. . . 1 2 3\n")
    assert [line.removeprefix(f"{tmp_path / 'vectors.txt'}:") for line in bad] == [
        "2: expected a word and 3 numbers",
        "3: expected 3 numbers after the word 'bad'",
        "4: the vector of 'none' is not finite",
    ]
    assert vectors.known.sum() == 2


@pytest.mark.parametrize("text", ["", "word\n", "only words here\n"])
def test_other_files(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match="expected a word and its vector"):
        vector_size(tmp_path / "a.txt")


def test_another_language(tmp_path):
    with pytest.raises(DataError, match="has vectors for 0 of 4 words of the vocabulary; another language"):
        read(tmp_path, "bon 1 2 3\nmal 1 2 3\n")


def test_training_starts_from_them(easy_tsv, tmp_path, capsys):
    words = ["lovely", "sunny", "clever", "gloomy", "broken", "rude"]
    vectors = [[10.0 * (i < 3) + j for j in range(5)] for i in range(6)]
    text = "".join(f"{word} {' '.join(map(str, vector))}\n" for word, vector in zip(words, vectors))
    (tmp_path / "v.txt").write_text(text)
    run = tmp_path / "run"
    arguments = ["--data", str(easy_tsv), "--output", str(run), "--vectors", str(tmp_path / "v.txt")]
    arguments += ["--hidden", "4", "--epochs", "1", "--lr", "1e-9", "--no-baseline", "--no-plots", "--threads", "1"]
    assert main(["train", *arguments]) == 0
    assert "Word vectors: 6 of " in capsys.readouterr().out
    from safetensors.torch import load_file

    weight = load_file(run / "model.safetensors")["encoder.embedding.weight"]
    vocabulary = json.loads((run / "tokenizer.json").read_text())["model"]["vocab"]
    found = weight[[vocabulary[word] for word in words]]
    assert found.shape == (6, 5)
    expected = torch.tensor(vectors)
    torch.testing.assert_close(found / found.std(), expected / expected.std(), rtol=1e-4, atol=1e-4)
