"""Tables line up, and every number of a run is in both the text and metrics.json."""

import json

from fused_lstm.sentiment.baseline import Baseline
from fused_lstm.sentiment.metrics import Evaluation
from fused_lstm.sentiment.predictor import Prediction
from fused_lstm.sentiment.report import PartResult, RunReport, confusion_table, table
from fused_lstm.sentiment.training import EpochMetrics, TrainResult


def test_table_lines_up_and_stays_one_row_per_row():
    assert table(("name", "x"), [("好", "1"), ("a|b\nc", "22")]).split("\n") == [
        "| name   | x  |",
        "|--------|----|",
        "| 好     | 1  |",
        "| a\\|b c | 22 |",
    ]


def test_confusion_table():
    text = confusion_table(Evaluation.of(("bad", "good"), [0, 0, 0, 1], [0, 0, 1, 1]))
    assert [line.split("|")[1:4] for line in text.replace(" ", "").split("\n")[2:]] == [
        ["bad", "2", "1"], ["good", "0", "1"]
    ]


def report(baseline: bool = True, interrupted: bool = False) -> RunReport:
    evaluation = Evaluation.of(("bad", "good"), [0] * 40 + [1] * 60, [0] * 30 + [1] * 70)
    linear = Evaluation.of(("bad", "good"), [0] * 40 + [1] * 60, [1] * 100)
    history = [EpochMetrics(e, 0.7 / e, 0.8 / e, 0.6 + e / 100, 0.5, 2.0, 321.0) for e in (1, 2)]
    return RunReport(
        data="some data",
        counts={"train": 1234, "dev": 10, "test": 100},
        notes=["A leak."],
        settings={"hidden": 7},
        environment={"threads": 1},
        training=TrainResult(history, 2, interrupted),
        parts={"test": PartResult(evaluation, 0.25, 2.0, {"easy": (30, 40)})},
        baseline=Baseline("the linear one", 3.0, 0.61, {"test": linear}, 1.0) if baseline else None,
        samples=[(Prediction("fine | film", "good", 0.75, (0.25, 0.75), 1.0), "bad")],
        plots=["curves.png"],
    )


def test_text_holds_the_numbers():
    text = report().text()
    pieces = ["some data", "train 1,234", "- A leak.", "90.00", "82.6 to 94.5", "60.00", "the linear one", "hidden 7"]
    pieces += ["2 *", "321", "0.8571", "easy", "30/40", "50 samples/s", "- good (0.750, in truth bad): fine | film"]
    assert [piece for piece in pieces if piece not in text] == []
    assert "Stopped by the user" not in text
    assert "Stopped by the user" in report(interrupted=True).text()
    assert "the linear one" not in report(baseline=False).text()


def test_files(tmp_path):
    report().write(tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["parts"]["test"]["accuracy"] == 0.9
    assert metrics["parts"]["test"]["constructions"] == {"easy": {"correct": 30, "count": 40}}
    assert metrics["parts"]["test"]["confusion"]["true_by_predicted"] == [[30, 10], [0, 60]]
    assert metrics["baseline"]["parts"]["test"]["accuracy"] == 0.6
    assert [epoch["dev_accuracy"] for epoch in metrics["history"]] == [0.61, 0.62]
    assert metrics["best_epoch"] == 2
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == report().text()
    report(baseline=False).write(tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["baseline"] is None
