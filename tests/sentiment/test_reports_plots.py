"""Pictures are drawn, also for one epoch and for Chinese class names; without matplotlib the reason is said."""

import sys
import warnings

import numpy as np
import pytest

from fused_lstm.sentiment.reports.outcomes import Outcomes
from fused_lstm.sentiment.reports.plots import PlotsUnavailable, draw_plots

HISTORY = [
    {"epoch": e, "train_loss": 1 / e, "dev_loss": 1.1 / e, "dev_accuracy": 0.5, "dev_macro_f1": 0.4, "seconds": 1.0}
    for e in (1, 2, 3)
]


def part(classes) -> dict:
    shares = np.eye(len(classes))[[0, 1, 1]] * 0.5 + 0.5 / len(classes)
    outcomes = Outcomes(tuple(classes), np.array([0, 0, 1]), shares, np.array([1, 2, 3]), ["k"] * 3)
    return {**outcomes.evaluation().as_dict(), "calibration": outcomes.calibration().as_dict()}


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("classes", [("bad", "good"), ("差评", "好评", "never seen"), tuple(map(str, range(17)))])
def test_pictures(epochs, classes, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = draw_plots(HISTORY[:epochs], part(classes))
    assert list(files) == ["curves.png", "confusion.png", "calibration.png"]
    for data in files.values():
        assert data.startswith(b"\x89PNG")
        assert len(data) > 5000
    assert "findfont" not in capfd.readouterr().err


def test_no_curves_without_epochs():
    assert list(draw_plots([], part("ab"))) == ["confusion.png", "calibration.png"]


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotsUnavailable, match=r'pip install "fused_lstm\[sentiment\]"'):
        draw_plots(HISTORY, part("ab"))
