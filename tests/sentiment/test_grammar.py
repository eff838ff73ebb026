"""Labels are right: every sentence is read back by a second, independent interpreter of the rules."""

from __future__ import annotations

import re

import pytest

from fused_lstm.sentiment.grammar import COMPOSED, TWINS, plain
from fused_lstm.sentiment.lexicon import LEXICONS, Lexicon
from fused_lstm.sentiment.splitmix import SplitMix64
from fused_lstm.sentiment.tokens import tokenize

# What is left of a sentence when its clauses are replaced by V, and the clause that decides (from 0).
DECISIVE = {
    "en": {
        "V but V .": 1,
        "although V , V .": 1,
        "V , although V .": 0,
        "last year V , this year V .": 1,
        "this year V , last year V .": 0,
        "i deny that V and i claim that V .": 1,
        "i claim that V and i deny that V .": 0,
        "although V , V but V .": 2,
        "V but V but V .": 2,
        "last year V but V , this year V .": 2,
        "this year V but V , last year V .": 1,
        "this year although V , V , last year V .": 1,
        "last year V , this year V , although V .": 1,
        "i deny that V but V and i claim that V .": 2,
        "i claim that V but V and i deny that V .": 1,
    },
    "zh": {
        "V，但是V。": 1,
        "虽然V，V。": 1,
        "V，虽然V。": 0,
        "去年V，今年V。": 1,
        "今年V，去年V。": 0,
        "我否认V，我主张V。": 1,
        "我主张V，我否认V。": 0,
        "虽然V，V，但是V。": 2,
        "V，但是V，但是V。": 2,
        "去年V，但是V，今年V。": 2,
        "今年V，但是V，去年V。": 1,
        "今年虽然V，V，去年V。": 1,
        "去年V，今年V，虽然V。": 1,
        "我否认V，但是V，我主张V。": 2,
        "我主张V，但是V，我否认V。": 1,
    },
}
AND = {"en": "V and V .", "zh": "V，V。"}
DENIED = {
    "i deny that V and i claim that V .": [0],
    "i claim that V and i deny that V .": [1],
    "i deny that V but V and i claim that V .": [1],
    "i claim that V but V and i deny that V .": [2],
    "我否认V，我主张V。": [0],
    "我主张V，我否认V。": [1],
    "我否认V，但是V，我主张V。": [1],
    "我主张V，但是V，我否认V。": [2],
}
NOT = {"en": "not ,", "zh": "并非"}
STRONG = {"en": ("extremely", "utterly"), "zh": ("极其", "格外")}


def clause_pattern(lexicon: Lexicon) -> re.Pattern[str]:
    aspect, aside, opinion = ("|".join(map(re.escape, words)) for words in (
        lexicon.aspects, lexicon.asides, lexicon.praise + lexicon.blame
    ))
    if lexicon.name == "en":
        return re.compile(rf"the (?:{aspect}) is , (?:{aside}) , (.*?)({opinion}) (?:{aside})(?= |$)")
    return re.compile(rf"(?:{aspect})呢，(?:{aside})，([^，]*，怎么说呢，)?({opinion})，(?:{aside})")


def interpret(text: str, lexicon: Lexicon) -> bool:
    """Whether the sentence is positive."""
    values, modifiers = [], []
    for modifier, opinion in clause_pattern(lexicon).findall(text):
        modifiers.append(modifier)
        values.append((opinion in lexicon.praise) != modifier.startswith(NOT[lexicon.name]))
    skeleton = clause_pattern(lexicon).sub("V", text)
    for line in lexicon.openings + lexicon.closings:
        if line:
            skeleton = skeleton.replace(line, "").strip()
    if skeleton != AND[lexicon.name]:
        deciding = DECISIVE[lexicon.name][skeleton]
        claimed = values[deciding]
        assert all(values[denied] != claimed for denied in DENIED.get(skeleton, [])), "what is denied is also claimed"
        return claimed
    strong = [m.startswith(STRONG[lexicon.name]) for m in modifiers]
    if any(strong):
        return values[strong.index(True)]
    first, second = values
    assert first == second
    return first


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", [*TWINS, *COMPOSED])
def test_twins_hold_the_same_tokens_and_opposite_labels(language, name):
    lexicon, stream = LEXICONS[language], SplitMix64(11)
    for _ in range(40):
        first, second = (TWINS | COMPOSED)[name](stream, lexicon)
        assert sorted(tokenize(first.text)) == sorted(tokenize(second.text))
        assert first.text != second.text
        assert first.positive != second.positive
        assert interpret(first.text, lexicon) == first.positive
        assert interpret(second.text, lexicon) == second.positive


@pytest.mark.parametrize("language", ["en", "zh"])
def test_easy_sentences_agree_with_their_words(language):
    lexicon, stream = LEXICONS[language], SplitMix64(12)
    for _ in range(40):
        (sentence,) = plain(stream, lexicon)
        assert interpret(sentence.text, lexicon) == sentence.positive


@pytest.mark.parametrize("lexicon", LEXICONS.values(), ids=LEXICONS)
def test_lexicon_has_no_word_twice_and_the_same_frames_in_each_language(lexicon):
    for words in (lexicon.aspects, lexicon.praise + lexicon.blame, lexicon.asides, lexicon.openings, lexicon.closings):
        assert len(set(words)) == len(words)
    assert len(lexicon.praise) == len(lexicon.blame)
    assert lexicon.frames.keys() == LEXICONS["en"].frames.keys()
    assert len(set(lexicon.frames.values())) == len(lexicon.frames)
    assert len(tokenize(lexicon.negated)) == len(tokenize(lexicon.affirmed))
    assert {len(tokenize(m)) for m in lexicon.weak} == {len(tokenize(m)) for m in lexicon.strong}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_run_of_four_tokens_holds_both_operator_and_opinion(language):
    """If 4-grams saw an operator beside an opinion, a linear model could do without the order."""
    lexicon, stream = LEXICONS[language], SplitMix64(13)
    frames = " ".join(lexicon.frames.values())
    modifiers = " ".join((lexicon.negated, lexicon.affirmed, *lexicon.weak, *lexicon.strong))
    common = set(tokenize("{0} {1} {2} , . ， 。 and i that by the way as they say 怎么说呢 我".join(lexicon.asides)))
    operators = set(tokenize(f"{frames} {modifiers}")) - common
    assert len(operators) >= 10
    for construction in (TWINS | COMPOSED).values():
        for _ in range(20):
            for sentence in construction(stream, lexicon):
                opinions = [m.span(2) for m in clause_pattern(lexicon).finditer(sentence.text)]
                for start, end in opinions:
                    before, after = tokenize(sentence.text[:start]), tokenize(sentence.text[end:])
                    assert not operators & {*before[-3:], *after[:3]}, sentence.text
