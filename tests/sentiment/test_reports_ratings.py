"""Models whose labels are numbers: errors, correlations and the ridge regression beside the classes."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fused_lstm.sentiment.answers import Writer
from fused_lstm.sentiment.batches import NumberedTexts
from fused_lstm.sentiment.datasets import Dataset
from fused_lstm.sentiment.examples import Example
from fused_lstm.sentiment.options import RunOptions
from fused_lstm.sentiment.predictor import explain_texts, predict_ratings, predict_texts
from fused_lstm.sentiment.reports.card import model_card
from fused_lstm.sentiment.reports.comparison import Comparison
from fused_lstm.sentiment.reports.comparison_views import comparison_text
from fused_lstm.sentiment.reports.measure import measure
from fused_lstm.sentiment.reports.reporting import report_run
from fused_lstm.sentiment.reports.run_page import run_page
from fused_lstm.sentiment.store import StoredModel
from fused_lstm.sentiment.tokens import Vocabulary
from fused_lstm.sentiment.training import EVALUATION_TOKENS, EpochMetrics, TrainResult

CLASSES = ("1", "2", "3.5")
WORDS = {"bad": 1.2, "fair": 2.1, "good": 3.2}


class Rater(nn.Module):
    """The mean of the numbers of its words; scores and ``raw`` as a rating classifier gives them."""

    def __init__(self, numbers: list[float]) -> None:
        super().__init__()
        self.config = SimpleNamespace(classes=len(CLASSES), regression=True, vocabulary=len(numbers))
        self.embedding = nn.Embedding.from_pretrained(torch.tensor(numbers)[:, None])
        self.register_buffer("ratings", torch.tensor([float(name) for name in CLASSES]))

    def forward(self, tokens, lengths, raw=False):
        number = self.embedding(tokens).sum(dim=1) / lengths[:, None]
        return number if raw else -((number - self.ratings) ** 2)


@pytest.fixture
def rater() -> StoredModel:
    settings = SimpleNamespace(classes=CLASSES, max_length=0)
    return StoredModel(Rater([0.0, 0.0, *WORDS.values()]), Vocabulary(list(WORDS)), settings)


def examples(count):
    draw = np.random.default_rng(6)
    words = draw.choice(list(WORDS), (count, 3))
    labels = dict(zip(WORDS, CLASSES))
    return [Example(labels[row[0]], " ".join(row)) for row in words.tolist()]


def test_numbers_of_a_part(rater):
    rows = examples(50)
    told = measure(rater, rows).as_dict()["ratings"]
    errors = np.array([np.mean([WORDS[w] for w in e.text.split()]) - float(e.label) for e in rows])
    assert told["mse"] == pytest.approx((errors**2).mean(), rel=1e-5)
    assert told["mae"] == pytest.approx(abs(errors).mean(), rel=1e-5)
    mistakes = measure(rater, rows, 3).mistakes
    far = np.argsort(-(errors**2), kind="stable")[:3]
    assert [m["text"] for m in mistakes] == [rows[i].text for i in far]


def test_batches_are_bounded_and_go_where_the_model_is():
    class Elsewhere(nn.Linear):
        """On a device that computes nothing."""

        def forward(self, tokens, lengths, raw=False):
            assert {tokens.device.type, lengths.device.type} == {"meta"}
            assert tokens.numel() <= EVALUATION_TOKENS or len(tokens) == 1
            return torch.ones(len(tokens), 1)

    lengths = [EVALUATION_TOKENS // 3] * 7 + [5]
    texts = NumberedTexts([[2] * length for length in lengths], [0] * 8)
    assert predict_ratings(Elsewhere(1, 1, device="meta"), texts).tolist() == [1] * 8


def test_predictions_and_explanations(rater):
    (told,) = predict_texts(rater, ["good good bad"])
    number = (3.2 * 2 + 1.2) / 3
    assert told.rating == pytest.approx(number)
    assert told.label == "2"
    (explained,) = explain_texts(rater, ["good good bad"])
    assert explained.score == pytest.approx(number)
    assert explained.weights == pytest.approx([3.2 / 3, 3.2 / 3, 1.2 / 3])
    stream = io.StringIO()
    Writer(CLASSES, "jsonl", stream)(told)
    assert json.loads(stream.getvalue())["rating"] == pytest.approx(number)


def test_the_loss_of_ratings_is_a_squared_error(rater, tmp_path):
    rows = examples(60)
    dataset = Dataset("stars", rows[:40], rows[40:50], rows[50:])
    history = [EpochMetrics(1, 0.5, 0.4, 0.6, 0.5, 1.0, 10.0)]
    options = RunOptions().set(plots=False, baseline=False)
    report = report_run(rater, dataset, options, TrainResult(history, 1), tmp_path)
    page = run_page(report.as_dict())
    assert "squared error" in page and "cross-entropy" not in page and "Dev, nearest label" in page


def test_report_shows_errors_and_the_ridge_regression(rater, tmp_path):
    rows = examples(160)
    dataset = Dataset("stars", rows[:100], rows[100:120], rows[120:])
    for name in "ab":
        report = report_run(rater, dataset, RunOptions().set(plots=False), TrainResult(), tmp_path / name)
    told = report.as_dict()
    assert told["rating_baseline"]["test"]["mse"] < told["rating_baseline"]["test"]["mse_of_the_mean"]
    assert told["rating_baseline"]["mse_difference"]["test"] == "paired bootstrap"
    ours, theirs = told["parts"]["test"]["ratings"]["mse"], told["rating_baseline"]["test"]["mse"]
    assert told["rating_baseline"]["mse_difference"]["difference"] == pytest.approx(ours - theirs)
    for text in (report.text(), run_page(told), model_card(told)):
        for piece in (f"{ours:.4f}", f"{theirs:.4f}", "ridge regression", "paired bootstrap"):
            assert piece in text
    mse = told["parts"]["test"]["ratings"]["mse"]
    page = run_page(told)
    assert page.index("test MSE") < page.index("Nearest label")
    assert "test accuracy</span>" not in page and "cross-entropy" not in page and "alibration" not in page
    mistake = told["parts"]["test"]["mistakes"][0]
    title = f"{mistake['rating']:.3f} (nearest label {mistake['predicted']}, in truth {mistake['true']})"
    for text in (report.text(), page):
        assert "Largest errors" in text and "Surest" not in text and title in text
    head = model_card(told).split("---")[1]
    assert f"{{type: mse, value: {mse:.6f}}}" in head and "pearsonr" in head and "accuracy" not in head
    text = comparison_text(Comparison.of([tmp_path / "a", tmp_path / "b"]))
    assert "| MSE" in text and f"{ours:.4f}" in text
