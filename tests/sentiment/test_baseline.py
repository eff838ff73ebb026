"""The linear model: right on what words tell, helpless on the embedded corpus."""

import sys

import pytest

from fused_lstm.sentiment import baseline
from fused_lstm.sentiment.baseline import (
    NAIVE_BAYES,
    TFIDF,
    BaselineUnavailable,
    ngrams,
    run_baselines,
    run_rating_baseline,
)
from fused_lstm.sentiment.datasets import embedded_dataset
from fused_lstm.sentiment.examples import Example

from .conftest import easy_examples


def test_ngrams():
    assert ngrams("A b, c", 2) == ["a", "b", ",", "c", "a b", "b ,", ", c"]
    assert ngrams("好吃", 4) == ["好", "吃", "好 吃"]


def test_learns_what_single_words_tell():
    examples = easy_examples(300)
    results = run_baselines(examples[:200], examples[200:250], {"test": examples[250:]}, ("bad", "good"), 2)
    assert ["TF-IDF" in r.name for r in results] == [True, False]
    for result in results:
        assert result.parts["test"].accuracy == 1.0
        assert result.parts["test"].classes == ("bad", "good")
        assert result.outputs["test"].sum(axis=1) == pytest.approx(1)
        assert result.outputs["test"].shape == (50, 2)


@pytest.mark.parametrize("strengths", [(1e-9, 30.0), (30.0, 1e-9)])
def test_regularisation_is_chosen_on_dev(monkeypatch, strengths):
    monkeypatch.setattr(baseline, "STRENGTHS", {TFIDF: strengths, NAIVE_BAYES: strengths})
    examples = easy_examples(120) + [Example("good", f"nothing to say {i}") for i in range(60)]
    for chosen in run_baselines(examples[::2], examples[1::2], {}, ("bad", "good"), 1):
        assert chosen.strength == 30.0
        assert chosen.dev_score == 1.0


def test_three_classes():
    examples = easy_examples(200) + [Example("fair", f"an ordinary room {i}") for i in range(100)]
    parts = examples[::2], examples[1::4], {"test": examples[3::4], "none": []}
    for result in run_baselines(*parts, ("bad", "fair", "good"), 1):
        assert result.parts["test"].accuracy == 1.0
        assert result.outputs["test"].sum(axis=1) == pytest.approx(1)
        assert "none" not in result.parts


def test_ratings():
    examples = easy_examples(200)
    texts, numbers = [e.text for e in examples], [4.5 if e.label == "good" else 1.5 for e in examples]
    result = run_rating_baseline((texts[:150], numbers[:150]), (texts[150:], numbers[150:]), {"test": texts[150:]}, 1)
    assert result.dev_score > -0.2
    assert abs(result.outputs["test"] - numbers[150:]).max() < 1.5


@pytest.mark.parametrize(("order", "seed"), [(4, 7), (1, 1)])
def test_n_grams_stay_at_the_ceiling_of_words_on_the_embedded_corpus(order, seed):
    """A quarter of the texts is easy, of the twins half can be right: 62.5 % and nothing to gain from n-grams."""
    dataset = embedded_dataset(seed=seed)
    others = {"test": dataset.test, "compose": dataset.composed}
    for result in run_baselines(dataset.train, dataset.dev, others, dataset.classes, order):
        assert 0.55 < result.parts["test"].accuracy <= 0.66
        assert result.parts["compose"].accuracy == pytest.approx(0.5, abs=0.05)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(BaselineUnavailable, match=r'pip install "fused_lstm\[sentiment\]"'):
        run_baselines([], [], {}, (), 1)
