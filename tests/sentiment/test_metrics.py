"""Counts to numbers, against values worked out by hand and against scikit-learn."""

import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from fused_lstm.sentiment.metrics import Evaluation, wilson_interval
from fused_lstm.sentiment.splitmix import SplitMix64


def test_by_hand():
    evaluation = Evaluation.of(("a", "b"), [0, 0, 0, 1, 1], [0, 0, 1, 1, 0])
    assert evaluation.confusion == ((2, 1), (1, 1))
    assert evaluation.accuracy == 0.6
    a, b = evaluation.scores()
    assert (a.precision, a.recall, a.f1, a.support) == (2 / 3, 2 / 3, 2 / 3, 3)
    assert (b.precision, b.recall, b.f1, b.support) == (0.5, 0.5, 0.5, 2)
    assert evaluation.macro().f1 == pytest.approx((2 / 3 + 0.5) / 2)


def test_against_scikit_learn():
    stream = SplitMix64(9)
    true = [stream.below(4) for _ in range(500)]
    given = [t if stream.chance(0.6) else stream.below(4) for t in true]
    evaluation = Evaluation.of("abcd", true, given)
    precision, recall, f1, support = precision_recall_fscore_support(true, given)
    for i, scores in enumerate(evaluation.scores()):
        assert vars(scores) == pytest.approx(
            {"precision": precision[i], "recall": recall[i], "f1": f1[i], "support": support[i]}
        )
    assert evaluation.accuracy == pytest.approx(accuracy_score(true, given))
    assert evaluation.macro().f1 == pytest.approx(f1.mean())


def test_class_that_never_occurs_does_not_count_in_the_mean():
    evaluation = Evaluation.of("abc", [0, 1], [0, 1])
    assert evaluation.scores()[2].f1 == 0
    assert evaluation.macro().f1 == 1


def test_nothing_to_evaluate():
    evaluation = Evaluation.of("ab", [], [])
    assert (evaluation.accuracy, evaluation.interval, evaluation.macro().f1) == (0.0, (0.0, 1.0), 0.0)


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (29, 29, 0.8830, 1.0)],
)
def test_wilson_interval_against_published_values(successes, total, low, high):
    """R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert wilson_interval(successes, total) == pytest.approx((low, high), abs=6e-5)
