"""Vocabularies of every kind: learnt, used, written to tokenizer.json and read again."""

from __future__ import annotations

import json
import sys

import pytest

from fused_lstm.sentiment.corpus import generate
from fused_lstm.sentiment.subwords import MARK, TokenizersMissing
from fused_lstm.sentiment.tokens import MOST, PAD, TOKENIZERS, UNKNOWN, UNKNOWN_ID, TokenOptions
from fused_lstm.sentiment.vocabularies import learn_vocabulary, vocabulary_from_state, vocabulary_state

tokenizers = pytest.importorskip("tokenizers", reason="byte-pair encoding is an optional extra")

TEXTS = [
    "It's a FINE film, isn't it? 3.5 of 10,000 …",
    "\u2018Don\u2019t\u2019 go: 2½ blocks, x² \u203f",
    "味道很棒！送餐很及时，下次还来。",
    "味道很棒, the best 拉面 in 2015年",
    "tabs\tand\nlines\x1f caf\u00e9 cafe\u0301",
    "한국어 カナ 😀👍",
    "<pad> <unk> <pad>",
]
MANY = TEXTS * 3 + [example.text for example in generate(200)]


def learn(kind, **options):
    return learn_vocabulary(iter(MANY), TokenOptions(tokenizer=kind, **options))


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_written_and_read(kind):
    vocabulary = learn(kind)
    state = json.loads(json.dumps(vocabulary_state(vocabulary)))
    again = vocabulary_from_state(state)
    assert type(again) is type(vocabulary)
    assert again.words == vocabulary.words
    numbers = list(vocabulary.encode_texts(MANY))
    assert list(again.encode_texts(MANY)) == numbers
    assert [vocabulary.encode(vocabulary.tokens(text)) for text in MANY] == numbers
    assert sum(number == UNKNOWN_ID for text in numbers for number in text) < 0.02 * sum(map(len, numbers))


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_library_reads_the_file_with_the_same_numbers(kind):
    vocabulary = learn(kind)
    library = tokenizers.Tokenizer.from_str(json.dumps(vocabulary_state(vocabulary)))
    unseen = ["An unseen text: 新的句子，没见过。", "isn't 3d 's", *TEXTS]
    assert [e.ids for e in library.encode_batch(unseen)] == list(vocabulary.encode_texts(unseen))


def test_pieces():
    vocabulary = learn("bpe")
    assert vocabulary.tokens("film film,味道很棒！") == [f"{MARK}film", f"{MARK}film", ",", "味道很棒", "！"]
    pieces = vocabulary.tokens("filmfilm")
    assert len(pieces) > 1
    assert "".join(pieces) == f"{MARK}filmfilm"


def test_learning_pieces_is_deterministic():
    assert learn("bpe").state == learn("bpe").state


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_reserved_words_in_a_text_are_text(kind):
    (numbers,) = learn(kind).encode_texts([f"{PAD} film {UNKNOWN}"])
    assert 0 not in numbers
    assert len(numbers) >= 6


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_limits(kind):
    assert len(learn(kind, max_vocabulary=120).words) <= 120
    assert TokenOptions(tokenizer=kind).most == MOST[kind]
    vocabulary = learn(kind)
    (whole,), (cut,) = (list(vocabulary.encode_texts([MANY[-1]], length)) for length in (0, 5))
    assert cut == whole[:2] + whole[-3:]
    assert list(vocabulary.encode_texts(["", " "])) == [[UNKNOWN_ID], [UNKNOWN_ID]]


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for kind in ("word", "char"):
        assert learn(kind).words
    with pytest.raises(TokenizersMissing, match="or choose --tokenizer word"):
        learn("bpe")


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_foreign_files(kind):
    state = vocabulary_state(learn(kind))
    for wrong in ({}, {**state, "model": {**state["model"], "vocab": {"a": 0}}}, {**state, "model": {"type": "BPE"}}):
        with pytest.raises(ValueError):
            vocabulary_from_state(wrong)
