"""Word vectors learnt from texts."""

from __future__ import annotations

import lzma

import numpy as np
import pytest

from fused_lstm.sentiment import cooccurrence
from fused_lstm.sentiment.cli import main
from fused_lstm.sentiment.cooccurrence import learn_vectors
from fused_lstm.sentiment.examples import RowProblems
from fused_lstm.sentiment.splitmix import SplitMix64
from fused_lstm.sentiment.tokens import Vocabulary
from fused_lstm.sentiment.vectors import read_vectors

ANIMALS, PLANTS = (2, 3, 4, 5), (6, 7, 8, 9)  # animals stand beside 10 and 11, plants beside 12 and 13


def garden(count: int = 400) -> list[list[int]]:
    stream = SplitMix64(4)
    texts = []
    for _ in range(count):
        kind, beside = (ANIMALS, (10, 11)) if stream.chance(0.5) else (PLANTS, (12, 13))
        texts.append([stream.choice(beside), stream.choice(kind), stream.choice(beside), 1])
    return texts


def likeness(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit @ unit.T


def test_words_with_the_same_neighbours_are_alike():
    vectors = learn_vectors(garden(), 15, 4, 2)
    assert vectors.shape == (15, 4) and vectors.dtype == np.float32
    like = likeness(vectors)
    same = like[np.ix_(ANIMALS, ANIMALS)].min()
    assert same > 0.9 and like[np.ix_(ANIMALS, PLANTS)].max() < same - 0.5


def test_padding_unknown_and_unseen_words_have_none():
    vectors = learn_vectors(garden(), 15, 4, 2)
    assert not vectors[[0, 1, 14]].any() and vectors[2:14].any(axis=1).all()


def test_the_same_numbers_again_and_in_pieces(monkeypatch):
    once = learn_vectors(garden(), 15, 4, 2)
    assert np.array_equal(once, learn_vectors(garden(), 15, 4, 2))
    monkeypatch.setattr(cooccurrence, "_PIECE", 50)
    np.testing.assert_allclose(learn_vectors(garden(), 15, 4, 2), once, atol=1e-4)


def test_texts_do_not_meet_and_distance_counts():
    meetings = cooccurrence._meetings([[2, 3, 4], [5, 2]], 6, 3).toarray()
    assert meetings[2, 3] == meetings[3, 2] == 1 and meetings[2, 4] == 0.5 and meetings[5, 2] == 1
    assert meetings[4, 5] == 0 and meetings.sum() == 2 * (1 + 1 + 0.5 + 1)


def test_information_against_the_formula():
    meetings = cooccurrence._meetings(garden(), 14, 2)
    found, counts = cooccurrence._positive_information(meetings).toarray(), meetings.toarray()
    context = counts.sum(1) ** 0.75 / (counts.sum(1) ** 0.75).sum()
    for a, b in ((2, 10), (6, 12), (2, 12), (3, 3)):
        expected = np.log(counts[a, b] / counts[a].sum() / context[b]) if counts[a, b] else 0.0
        assert found[a, b] == pytest.approx(max(0.0, expected), rel=1e-5)


def test_too_few_texts():
    with pytest.raises(ValueError, match="too few words stand near each other for 8 numbers a word"):
        learn_vectors([[2, 3]], 15, 8, 2)


def test_the_command_writes_what_train_reads(tmp_path, easy_tsv, capsys):
    more = tmp_path / "more.txt.xz"
    more.write_bytes(lzma.compress(b"a murky kitchen\na murky garden\n" * 20))
    path = tmp_path / "made" / "vectors.txt"
    command = ["vectors", "--data", str(easy_tsv), "--more-texts", str(more), "--output", str(path), "--size", "6"]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "texts" in told and f"train --vectors {path} --embedding 6" in told
    words = Vocabulary(["lovely", "gloomy", "kitchen", "murky", "nowhere"])
    vectors = read_vectors(path, words, RowProblems())
    assert vectors.values.shape == (7, 6) and vectors.known.tolist() == [False] * 2 + [True] * 4 + [False]
    first = path.read_bytes()
    assert main(command) == 0 and path.read_bytes() == first


def test_the_command_says_what_is_missing(tmp_path, easy_tsv, capsys):
    assert main(["vectors", "--data", str(easy_tsv), "--output", str(tmp_path / "v.txt"), "--size", "5000"]) == 1
    assert "too few words stand near each other for 5000 numbers a word" in capsys.readouterr().err
    assert not (tmp_path / "v.txt").exists()
