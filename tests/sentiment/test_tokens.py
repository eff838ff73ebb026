"""Tokens of English, Chinese and mixed text; the vocabulary."""

import pytest

from fused_lstm.sentiment.tokens import PAD_ID, UNKNOWN_ID, Characters, Vocabulary, tokenize


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's a FINE film, isn't it?", ["it's", "a", "fine", "film", ",", "isn't", "it", "?"]),
        ("it 's does n't", ["it", "'s", "does", "n't"]),
        ("Don\u2019t", ["don't"]),
        ("'quoted' words", ["'", "quoted", "'", "words"]),
        ("3.5 of 10,000, 3d", ["3.5", "of", "10,000", ",", "3d"]),
        ("well...!", ["well", ".", ".", ".", "!"]),
        ("很好吃，送得快！", ["很", "好", "吃", "，", "送", "得", "快", "！"]),
        ("买了MP3播放器2015年", ["买", "了", "mp3", "播", "放", "器", "2015", "年"]),
        ("good好bad差", ["good", "好", "bad", "差"]),
        ("カナ 한국어", ["カ", "ナ", "한국어"]),
        ("\U00020000x", ["\U00020000", "x"]),
        ("cafe\u0301", ["café"]),
        ("a\u2028b\x85c", ["a", "b", "c"]),
        ("😀👍", ["😀", "👍"]),
        ("", []),
        (" \t\n", []),
    ],
)
def test_tokenize(text, expected):
    assert tokenize(text) == expected


def test_vocabulary_orders_by_count_then_word():
    vocabulary = Vocabulary.build([["b", "a", "c"], ["a", "b"], ["a"]])
    assert vocabulary.words == ["a", "b", "c"]
    assert len(vocabulary) == 5
    assert vocabulary.encode(["a", "b", "zebra", "c"]) == [2, 3, UNKNOWN_ID, 4]
    assert "c" in vocabulary
    assert "zebra" not in vocabulary


def test_characters():
    assert Characters.tokens(" Don\u2019t\t\n STOP ") == list("don't stop")
    assert Characters.tokens("很好吃") == ["很", "好", "吃"]
    vocabulary = Characters.build([Characters.tokens("abba c")])
    assert vocabulary.words == ["a", "b", " ", "c"]
    assert vocabulary.encode(vocabulary.tokens("cab!")) == [5, 2, 3, UNKNOWN_ID]


def test_vocabulary_limits():
    lists = [["a", "b"], ["a", "b"], ["a", "c"]]
    assert Vocabulary.build(lists, min_count=2).words == ["a", "b"]
    assert Vocabulary.build(lists, max_size=1).words == ["a"]


def test_encode_never_gives_an_empty_list_or_padding():
    vocabulary = Vocabulary(["a"])
    assert vocabulary.encode([]) == [UNKNOWN_ID]
    assert PAD_ID not in vocabulary.encode(["<pad>", "<unk>", "a"])


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(1, [11]), (2, [2, 11]), (5, [2, 3, 9, 10, 11]), (10, [*range(2, 12)]), (0, [*range(2, 12)])],
)
def test_long_texts_keep_both_ends(limit, expected):
    vocabulary = Vocabulary([str(i) for i in range(10)])
    assert vocabulary.encode([str(i) for i in range(10)], limit) == expected


@pytest.mark.parametrize("words", [["a", "a"], ["<pad>"], ["b", "<unk>"]])
def test_vocabulary_refuses_words_twice_and_reserved_ones(words):
    with pytest.raises(ValueError, match="vocabulary"):
        Vocabulary(words)
