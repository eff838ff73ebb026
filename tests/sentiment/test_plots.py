"""Both pictures are written, also for one epoch and for Chinese class names; without matplotlib the reason is said."""

import sys
import warnings

import pytest

from fused_lstm.sentiment.metrics import Evaluation
from fused_lstm.sentiment.plots import PlotsUnavailable, draw_plots
from fused_lstm.sentiment.training import EpochMetrics

HISTORY = [EpochMetrics(e, 1 / e, 1.1 / e, 0.5 + e / 10, 0.4 + e / 10, 1.0, 100.0) for e in (1, 2, 3)]


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("classes", [("bad", "good"), ("差评", "好评", "never seen"), tuple(map(str, range(17)))])
def test_pictures(tmp_path, epochs, classes, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = draw_plots(tmp_path, HISTORY[:epochs], Evaluation.of(classes, [0, 0, 1], [0, 1, 1]))
    assert [path.name for path in paths] == ["curves.png", "confusion.png"]
    for path in paths:
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) > 5000
    assert len(list(tmp_path.iterdir())) == 2
    assert "findfont" not in capfd.readouterr().err


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotsUnavailable, match=r'pip install "fused_lstm\[sentiment\]"'):
        draw_plots(tmp_path, HISTORY, Evaluation.of("ab", [0], [0]))
