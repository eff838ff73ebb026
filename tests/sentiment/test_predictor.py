"""Texts in, labels out, in order and in blocks."""

from itertools import count

import pytest

from fused_lstm.sentiment.examples import Example
from fused_lstm.sentiment.predictor import number_examples, predict_texts

TEXTS = ["good film .", "好吃!", "", "good good bad film . ! nothing", "bad"]


def test_predictions_match_their_texts_whatever_the_block(small_model):
    whole = list(predict_texts(small_model, TEXTS))
    assert [p.text for p in whole] == TEXTS
    for chunk in (1, 2, 5):
        for ours, theirs in zip(predict_texts(small_model, TEXTS, chunk), whole, strict=True):
            assert ours.label == theirs.label
            assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-6)


def test_probabilities(small_model):
    for prediction in predict_texts(small_model, TEXTS):
        assert sum(prediction.probabilities) == pytest.approx(1)
        assert prediction.probability == max(prediction.probabilities)
        index = prediction.probabilities.index(prediction.probability)
        assert prediction.label == small_model.settings.classes[index]


def test_known_share(small_model):
    known = [p.known for p in predict_texts(small_model, TEXTS)]
    assert known == pytest.approx([1, 1, 0, 6 / 7, 1])


def test_an_endless_stream_is_answered_block_by_block(small_model):
    predictions = predict_texts(small_model, ("good" for _ in count()), chunk=3)
    assert [next(predictions).text for _ in range(4)] == ["good"] * 4


def test_long_texts_are_cut_as_in_training(small_model):
    long = " ".join(["good"] * 6 + ["film"] * 50 + ["bad"] * 6)
    cut = " ".join(["good"] * 6 + ["bad"] * 6)
    first, second = predict_texts(small_model, [long, cut])
    assert first.probabilities == pytest.approx(second.probabilities)


def test_number_examples(small_model):
    examples = [Example("good", "bad film"), Example("bad", "x")]
    texts = number_examples(examples, small_model.vocabulary, ("bad", "fair", "good"), 12)
    assert texts.labels.tolist() == [2, 0]
    assert texts.batch(texts.labels.new_tensor([0])).tokens.tolist() == [[3, 4]]
