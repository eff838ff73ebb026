"""The report of a run: every number in metrics.json, text, page and card; all files replaced or none."""

from __future__ import annotations

import errno
import json
import os
from html.parser import HTMLParser

import numpy as np
import pytest

from fused_lstm.sentiment.baseline import Baseline
from fused_lstm.sentiment.examples import Example
from fused_lstm.sentiment.metrics import Evaluation
from fused_lstm.sentiment.predictor import Prediction
from fused_lstm.sentiment.reports import page
from fused_lstm.sentiment.reports.card import model_card
from fused_lstm.sentiment.reports.files import write_files
from fused_lstm.sentiment.reports.measure import PartResult, measure
from fused_lstm.sentiment.reports.outcomes import Outcomes, read_rows
from fused_lstm.sentiment.reports.run_page import run_page
from fused_lstm.sentiment.reports.run_report import DataFacts, RunReport
from fused_lstm.sentiment.reports.run_text import confusion_table
from fused_lstm.sentiment.reports.tables import table
from fused_lstm.sentiment.stored_files import StoreError
from fused_lstm.sentiment.training import EpochMetrics, TrainResult

MISTAKE = {"text": "a <b>bad</b> film", "true": "bad", "predicted": "good", "probability": 0.9, "pieces": []}


def shares_of_good(of_bad: list[float], of_good: list[float]) -> Outcomes:
    good = np.array([*of_bad, *of_good])
    true = np.array([0] * len(of_bad) + [1] * len(of_good))
    keys = [f"key{i}" for i in range(len(good))]
    return Outcomes(("bad", "good"), true, np.stack([1 - good, good], axis=1), 1 + np.arange(len(good)), keys)


def report(baseline: bool = True, interrupted: bool = False) -> RunReport:
    outcomes = shares_of_good([0.25] * 30 + [0.75] * 10, [0.75] * 60)
    linear = np.tile([0.4, 0.6], (100, 1))
    mistakes = [{**MISTAKE, "pieces": [["a ", 0.0], ["<b>bad</b>", -1.0], [" film", 0.5]]}]
    part = PartResult(outcomes, outcomes.evaluation(), 0.25, 2.0, 5000, "abc", {"easy": (30, 40)}, mistakes)
    dev = shares_of_good([0.25, 0.75], [0.75])
    dev_part = PartResult(dev, dev.evaluation(), 0.25, 2.0, 5, "def")
    history = [EpochMetrics(e, 0.7 / e, 0.8 / e, 0.6 + e / 100, 0.5, 2.0, 321.0) for e in (1, 2)]
    hits = Evaluation.of(("bad", "good"), [0] * 40 + [1] * 60, [1] * 100)
    facts = DataFacts.of_parts("some <data>", {"train": [Example("bad", "x")] * 1234, "test": []}, ["A leak."])
    return RunReport(
        facts,
        {"hidden": 7, "seed": 1},
        {"threads": 1, "parameters": 1000},
        TrainResult(history, 2, interrupted),
        {"test": part, "dev": dev_part},
        [Baseline("the linear one", 3.0, 0.61, {"test": hits}, 1.0, {"test": linear})] if baseline else [],
        [(Prediction("fine | film", "good", 0.75, (0.25, 0.75), 1.0), "bad")],
    )


def test_table_lines_up_and_stays_one_row_per_row():
    assert table(("name", "x"), [("好", "1"), ("a|b\nc", "22")]).split("\n") == [
        "| name   | x  |",
        "|--------|----|",
        "| 好     | 1  |",
        "| a\\|b c | 22 |",
    ]


def test_confusion_table():
    text = confusion_table(Evaluation.of(("bad", "good"), [0, 0, 0, 1], [0, 0, 1, 1]).as_dict())
    assert [line.split("|")[1:4] for line in text.replace(" ", "").split("\n")[2:]] == [
        ["bad", "2", "1"], ["good", "0", "1"]
    ]


def test_text_holds_the_numbers():
    text = report().text()
    pieces = ["some <data>", "train 1,234", "- A leak.", "90.00", "82.6 to 94.5", "60.00", "the linear one", "hidden 7"]
    pieces += ["2 *", "321", "0.8571", "easy", "30/40", "50 samples/s", "- good (0.750, in truth bad): fine | film"]
    pieces += ["+30.00 points", "only this LSTM right on 30", "calibration error", "1 to 21", "a <b>bad</b> film"]
    assert [piece for piece in pieces if piece not in text] == []
    assert "Stopped by the user" not in text
    assert "Stopped by the user" in report(interrupted=True).text()
    assert "the linear one" not in report(baseline=False).text()


def test_metrics(tmp_path):
    report().write(tmp_path, {"curves.png": b"picture"})
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    test = metrics["parts"]["test"]
    assert test["accuracy"] == 0.9
    assert test["constructions"] == {"easy": {"correct": 30, "count": 40}}
    assert test["confusion"]["true_by_predicted"] == [[30, 10], [0, 60]]
    assert test["calibration"]["ece"] == pytest.approx(0.15)
    assert test["calibration"]["at_dev_temperature"]["temperature"] > 1
    linear = metrics["baselines"][0]["parts"]["test"]
    assert linear["accuracy"] == 0.6
    assert linear["lstm_minus_this"]["difference"] == pytest.approx(0.3)
    assert [epoch["dev_accuracy"] for epoch in metrics["history"]] == [0.61, 0.62]
    assert metrics["best_epoch"] == 2
    assert metrics["plots"] == ["curves.png"]
    assert metrics["data"]["counts"] == {"train": 1234}
    assert (tmp_path / "curves.png").read_bytes() == b"picture"
    rows = read_rows(tmp_path / "predictions.jsonl", "test")
    assert len(rows) == 100
    assert rows[0] == {"text": "key0", "true": "bad", "probabilities": [0.75, 0.25]}


class Page(HTMLParser):
    """Checks that tags close in order; collects text and what could lead outside."""

    VOID = {"meta", "line", "rect", "polyline"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words, self.outside, self.headless = "", [], 0
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.outside += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]
        self.headless += tag == "th" and "scope" not in dict(attributes)
        assert tag not in ("script", "link", "img", "iframe")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in self.VOID
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def test_page_is_whole_and_refers_to_nothing():
    text = run_page(report().as_dict())
    read = Page(text)
    assert read.outside == [] and read.headless == 0
    assert "url(" not in text and "@import" not in text
    pieces = ["some <data>", "90.00%", "82.6 to 94.5", "+30.00", "the linear one", "A leak.", "fine | film", "30/40"]
    pieces += ["<b>bad</b>", "good (0.900, in truth bad)", "hidden", "321"]
    assert [piece for piece in pieces if piece not in read.words] == []
    assert 'class="against"' in text and 'class="for"' in text
    assert text.count("<svg") == 5
    assert Page(run_page(report(baseline=False).as_dict())).outside == []


def test_page_of_a_run_that_ended_before_its_first_epoch():
    told = report(baseline=False, interrupted=True)
    told.training.history.clear()
    told.parts["test"].mistakes.clear()
    assert "Surest mistakes" not in Page(run_page(told.as_dict())).words
    assert told.text()


def test_many_classes_do_not_make_a_matrix_that_nobody_can_read():
    count = 31
    shares = np.eye(count)
    outcomes = Outcomes(tuple(map(str, range(count))), np.arange(count), shares, np.arange(count) + 1, ["k"] * count)
    told = report(baseline=False)
    told.parts = {"test": PartResult(outcomes, outcomes.evaluation(), 0.0, 1.0, 1, "abc")}
    for text in (told.text(), run_page(told.as_dict())):
        assert "More than 30 classes" in text and "true \\ predicted" not in text


def test_texts_cannot_break_out_of_the_page():
    evil = '"><script>alert(1)</script>'
    blocks = [page.marked_text([(evil, 1.0), (evil, 0.0)], evil), page.table((evil,), [(evil,)], evil)]
    blocks.append(page.bullets([evil]))
    blocks += [page.facts({evil: evil}, evil), page.tiles([(evil, evil, evil)]), page.heat_table([evil], [[1]], evil)]
    assert evil in Page(page.page(evil, blocks)).words


def test_card():
    text = model_card(report().as_dict())
    assert text.startswith("---\nlibrary_name: fused_lstm\n")
    assert "value: 0.900000" in text
    for piece in ("Intended use and limits", "bad, good", "82.6 to 94.5", "- A leak.", "fused_lstm.sentiment.store"):
        assert piece in text
    assert "artificial grammar" not in text


def test_measure(small_model):
    examples = [Example("good", "good film", "x"), Example("bad", "good film", "x"), Example("bad", "bad", "y")]
    part = measure(small_model, examples)
    assert part.evaluation.total == 3 and part.tokens == 5 and part.seconds > 0
    assert part.kinds["x"][1] == 2 and part.kinds["y"][1] == 1
    assert len(part.mistakes) == 3 - part.evaluation.correct
    told = part.as_dict()
    assert told["loss"] == pytest.approx(-np.log([p[t] for p, t in zip(part.outcomes.probabilities, [2, 0, 0])]).mean())
    for mistake in told["mistakes"]:
        assert "".join(text for text, _ in mistake["pieces"]) == mistake["text"]
        assert mistake["predicted"] != mistake["true"]


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    write_files(tmp_path, {"a": "old a", "b": {"old": "b"}})
    sync, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="b: cannot be written: No space left on device; files of an earlier run"):
        write_files(tmp_path, {"a": "new a", "b": "new b"})
    assert (tmp_path / "a").read_text() == "old a"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("line", ["not json", "[1]", '{"part": "test"}'])
def test_broken_rows_name_file_and_line(tmp_path, line):
    file = tmp_path / "predictions.jsonl"
    file.write_text('{"part": "dev", "text": "k", "true": "a", "probabilities": [1]}\n' + line + "\n")
    with pytest.raises(StoreError, match=r"predictions.jsonl:2: expected one prediction as JSON"):
        read_rows(file, "test")
