"""Splits by hash: stable, complete, equal texts together."""

import hashlib

import pytest

from fused_lstm.sentiment.examples import DataError, Example
from fused_lstm.sentiment.splits import normalised, split, token_bag

PARTS = ("train", "dev", "test")


def numbered(count):
    return [Example("x", f"text {i}") for i in range(count)]


def test_normalised():
    assert normalised("  Ｆｉｎｅ\t FILM ") == normalised("fine film") == "fine film"
    assert normalised("fine film") != normalised("fine films")


def test_token_bag_ignores_order_alone():
    assert token_bag("b a , a") == token_bag("a b a ,")
    assert token_bag("a b") != token_bag("a b b")


def test_shares_and_completeness():
    examples = numbered(3000)
    dealt = split(examples, PARTS)
    assert sorted(e for part in dealt.values() for e in part) == sorted(examples)
    for part in ("dev", "test"):
        assert 230 < len(dealt[part]) < 370
    assert len(split(examples, ("train", "dev"))["train"]) > 2600


def test_membership_does_not_depend_on_the_other_texts():
    few, many = split(numbered(1000), PARTS), split(numbered(2000), PARTS)
    for part in PARTS:
        assert set(few[part]) <= set(many[part])


def test_equal_texts_stay_together():
    variants = ("Text {}", "text  {} ", "ＴＥＸＴ {}")
    examples = [Example(str(i), variant.format(i)) for i in range(300) for variant in variants]
    for part in split(examples, PARTS).values():
        assert len(part) % 3 == 0
        assert len({e.label for e in part}) == len(part) // 3


@pytest.mark.parametrize("count", [3, 4, 7])
def test_no_part_is_empty(count):
    dealt = split(numbered(count), PARTS)
    assert all(dealt.values())
    assert sum(map(len, dealt.values())) == count


def test_too_few_texts():
    with pytest.raises(DataError, match="2 different"):
        split([Example("1", "a"), Example("0", "b"), Example("1", "A ")], PARTS)


def test_the_rule_that_every_earlier_run_followed():
    """Unsigned first 8 bytes of the SHA-256, modulo 10: 1 is dev, 2 is test."""
    examples = numbered(500)
    dealt = split(examples, PARTS)
    for place, part in ((1, "dev"), (2, "test")):
        hashes = (hashlib.sha256(example.text.encode()).digest() for example in examples)
        expected = [e for e, h in zip(examples, hashes) if int.from_bytes(h[:8], "big") % 10 == place]
        assert dealt[part] == expected
