"""The figures of a report: calibration, paired differences, ratings, lengths, hashes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import brier_score_loss, f1_score, log_loss, mean_absolute_error, mean_squared_error

from fused_lstm.sentiment.examples import Example
from fused_lstm.sentiment.metrics import Evaluation
from fused_lstm.sentiment.reports import calibration, pairing, ratings
from fused_lstm.sentiment.reports.calibration import Calibration
from fused_lstm.sentiment.reports.fingerprints import fingerprint, text_key
from fused_lstm.sentiment.reports.outcomes import Outcomes, macro_f1_interval


def random_outcomes(count: int = 400, classes: int = 3, sharpness: float = 1.0) -> Outcomes:
    """Labels drawn from the very probabilities, which ``sharpness`` then distorts."""
    draw = np.random.default_rng(1)
    honest = draw.dirichlet(np.ones(classes), count)
    true = (draw.random((count, 1)) > honest.cumsum(axis=1)).sum(axis=1).clip(max=classes - 1)
    shown = honest**sharpness
    names = tuple("abcdefgh"[:classes])
    lengths = draw.integers(1, 60, count)
    return Outcomes(names, true, shown / shown.sum(axis=1, keepdims=True), lengths, [str(i) for i in range(count)])


def test_calibration_by_hand():
    shares = np.array([[0.9, 0.1], [0.88, 0.12], [0.4, 0.6], [0.0, 1.0]])
    told = Calibration.of(shares, np.array([0, 1, 1, 1]))
    # Bins (13/15, 14/15], (8/15, 9/15], (14/15, 1]: 2 texts at 0.89 half right, 1 at 0.6 right, 1 at 1.0 right.
    assert told.ece == pytest.approx((2 * 0.39 + 0.4 + 0) / 4)
    assert told.brier == pytest.approx(2 * (0.1**2 + 0.88**2 + 0.4**2 + 0) / 4)
    assert [b.count for b in told.bins if b.count] == [1, 2, 1]
    assert sum(b["count"] for b in told.as_dict()["bins"]) == 4


def test_brier_and_log_loss_against_scikit_learn():
    outcomes = random_outcomes()
    told = outcomes.calibration()
    assert told.brier == pytest.approx(brier_score_loss(outcomes.true, outcomes.probabilities, labels=[0, 1, 2]))
    assert outcomes.loss() == pytest.approx(log_loss(outcomes.true, outcomes.probabilities, labels=[0, 1, 2]))


def test_temperature_undoes_what_sharpened_the_probabilities():
    outcomes = random_outcomes(4000, sharpness=2.5)
    temperature = outcomes.temperature()
    assert temperature == pytest.approx(2.5, rel=0.15)
    better = Calibration.of(calibration.at_temperature(outcomes.probabilities, temperature), outcomes.true)
    assert better.ece < 0.03 < 0.1 < outcomes.calibration().ece
    assert np.allclose(calibration.at_temperature(outcomes.probabilities, 1.0), outcomes.probabilities)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 3), (1, 9), (40, 22), (300, 400)])
def test_mcnemar_is_the_binomial_test(first, second):
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert pairing.mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


def test_interval_of_a_difference_covers():
    """95 % of the intervals hold the true difference: 0.10, of two models that agree on most texts."""
    draw = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        luck = draw.random(150)
        told = pairing.compare_hits((luck < 0.85).tolist(), ((luck < 0.72) | (luck > 0.97)).tolist())
        held += told.interval[0] <= 0.10 <= told.interval[1]
    assert 0.92 <= held / 400 <= 0.98


def test_paired_difference_by_hand():
    told = pairing.compare_hits([True, True, True, False], [True, False, False, True])
    assert (told.only_first, told.only_second, told.difference) == (2, 1, 0.25)
    assert told.p_value == 1.0
    assert told.interval[0] < 0.25 < told.interval[1]
    assert pairing.compare_hits([True] * 9, [True] * 9).difference == 0


def test_paired_errors():
    draw = np.random.default_rng(3)
    errors = draw.random(200)
    better = pairing.compare_errors(errors, errors + 0.05 + 0.01 * draw.random(200))
    assert better.interval[1] < 0 and better.p_value < 0.01
    same = pairing.compare_errors(errors, draw.permutation(errors))
    assert same.interval[0] < 0 < same.interval[1] and same.p_value > 0.05


def test_ratings_against_scipy_and_scikit_learn():
    draw = np.random.default_rng(4)
    true = draw.integers(1, 6, 120).astype(float)
    predicted = true + draw.normal(0, 1, 120).round(1)
    told = ratings.RatingEvaluation.of(true.tolist(), predicted.tolist())
    assert told.mse == pytest.approx(mean_squared_error(true, predicted))
    assert told.mae == pytest.approx(mean_absolute_error(true, predicted))
    expected = stats.pearsonr(true, predicted)
    assert told.pearson == pytest.approx(expected.statistic)
    assert told.spearman == pytest.approx(stats.spearmanr(true, predicted).statistic)
    assert told.pearson_interval == pytest.approx(tuple(expected.confidence_interval()), abs=1e-9)
    assert told.mse_interval[0] < told.mse < told.mse_interval[1]
    assert told.mean_mse == pytest.approx(true.var())


def test_ratings_that_do_not_vary():
    told = ratings.RatingEvaluation.of([2.0, 2.0], [1.0, 3.0])
    assert (told.mse, told.mae, told.pearson, told.spearman) == (1.0, 1.0, 0.0, 0.0)
    assert told.pearson_interval == (-1.0, 1.0)


def test_macro_f1_interval():
    outcomes = random_outcomes()
    evaluation = outcomes.evaluation()
    low, high = macro_f1_interval(evaluation)
    macro = f1_score(outcomes.true, outcomes.predicted, average="macro")
    assert evaluation.macro().f1 == pytest.approx(macro)
    assert low < macro < high
    draw = np.random.default_rng(5)
    rows = [draw.integers(0, 400, 400) for _ in range(300)]
    again = [f1_score(outcomes.true[r], outcomes.predicted[r], average="macro") for r in rows]
    assert (low, high) == pytest.approx(tuple(np.quantile(again, [0.025, 0.975])), abs=0.02)
    assert macro_f1_interval(Evaluation.of("ab", [], [])) == (0.0, 1.0)


def test_bands_of_length_hold_every_text_once():
    outcomes = random_outcomes()
    bands = outcomes.by_length()
    assert len(bands) == 5
    assert sum(b["count"] for b in bands) == 400
    assert sum(b["correct"] for b in bands) == int(outcomes.hits.sum())
    for band in bands:
        inside = (outcomes.lengths >= band["from"]) & (outcomes.lengths <= band["to"])
        assert band["count"] == inside.sum()
        assert 40 < band["count"] < 120
    outcomes.lengths[:] = 7
    assert [(b["from"], b["to"], b["count"]) for b in outcomes.by_length()] == [(7, 7, 400)]


def test_hardest_are_the_surest_wrong_ones():
    outcomes = random_outcomes()
    places = outcomes.hardest(10)
    sureness = outcomes.probabilities.max(axis=1)
    assert not outcomes.hits[places].any()
    assert sureness[places].tolist() == sorted(sureness[~outcomes.hits], reverse=True)[:10]


def test_fingerprints_know_rows_but_not_their_order():
    rows = [Example("a", "x"), Example("b", "y"), Example("b", "y")]
    assert fingerprint(rows) == fingerprint(rows[::-1])
    others = [rows[:2], [Example("b", "x"), *rows[1:]], [Example("ab", ""), *rows[1:]], [Example("a", "x "), *rows[1:]]]
    assert len({fingerprint(r) for r in [rows, *others]}) == 5
    assert len(text_key("好")) == 16 and text_key("a") != text_key("b")
    assert text_key("\ud800")
