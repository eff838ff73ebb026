"""report.html: a run as one self-contained page, from the values of metrics.json."""

from __future__ import annotations

from typing import Any

from . import page, words
from .charts import interval_chart, line_chart, reliability_chart

PAGE = "report.html"


def run_page(metrics: dict[str, Any]) -> str:
    """The whole document."""
    data = metrics["data"]
    body = [
        page.heading(metrics["title"], 1),
        page.paragraph(f"Texts: {words.counts_words(metrics)}.", "lead"),
        _tiles(metrics),
        page.bullets(data["notes"]),
        *_ratings(metrics),
        *_accuracy(metrics),
        *part_blocks(metrics["parts"]["test"], "Test"),
        *_constructions(metrics),
        *_training(metrics),
        *_mistakes(metrics["parts"]["test"]),
        *_samples(metrics),
        *_record(metrics),
        page.footer("Written by fused_lstm.sentiment. Numbers: metrics.json; each prediction: predictions.jsonl."),
    ]
    return page.page(metrics["title"], body)


def _tiles(metrics: dict[str, Any]) -> str:
    test = metrics["parts"]["test"]
    entries = [
        (f"{test['accuracy']:.2%}", "test accuracy", f"95 %: {words.interval(test['accuracy_interval_95'])}"),
        (f"{test['macro']['f1']:.4f}", "macro F1", f"{test['count']:,} texts"),
    ]
    best = max(_linear(metrics), key=lambda baseline: baseline["dev_accuracy"], default=None)
    if best is not None:
        told = best["parts"]["test"]["lstm_minus_this"]
        low, high = told["interval"]
        more = f"95 %: {100 * low:+.1f} to {100 * high:+.1f}"
        entries.append((f"{100 * told['difference']:+.2f}", "points against the linear model", more))
    threads = f"{metrics['environment'].get('threads', '?')} thread(s)"
    entries += [
        (f"{test['calibration']['ece']:.4f}", "calibration error", f"Brier {test['calibration']['brier']:.4f}"),
        (f"{test['samples_per_second']:,.0f}", "samples/s on test", threads),
    ]
    return page.tiles(entries)


def _linear(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    return [baseline for baseline in metrics["baselines"] if "test" in baseline["parts"]]


def _ratings(metrics: dict[str, Any]) -> list[str]:
    rows = words.rating_rows(metrics)
    if not rows:
        return []
    caption = "Errors of the predicted number; intervals by bootstrap and Fisher's z"
    table = page.table(words.RATING_HEADER, rows, caption, (0, 1))
    return [page.heading("Ratings"), table, page.paragraph(words.rating_words(metrics))]


def _accuracy(metrics: dict[str, Any]) -> list[str]:
    models = [("this LSTM", metrics["parts"]["test"])]
    models += [(baseline["name"], baseline["parts"]["test"]) for baseline in _linear(metrics)]
    rows = [(name, part["accuracy"], *part["accuracy_interval_95"]) for name, part in models]
    caption = "Wilson intervals; dev chose the epoch" if metrics["history"] else "Wilson intervals"
    return [
        page.heading("Accuracy"),
        page.table(words.ACCURACY_HEADER, words.accuracy_rows(metrics), caption, (0, 1)),
        page.charts([(interval_chart("Test accuracy with 95 % intervals", rows, "test accuracy"), "")]),
        page.bullets(words.differences(metrics, "test")),
    ]


def part_blocks(part: dict[str, Any], name: str) -> list[str]:
    """What there is to say about one part: classes, confusion, calibration, lengths."""
    bands = part["by_length"]
    lengths = [(f"{words.span(b)} tokens ({b['count']:,})", b["accuracy"], *b["accuracy_interval_95"]) for b in bands]
    bins, classes = part["calibration"]["bins"], len(part["confusion"]["classes"])
    return [
        page.heading(f"{name}, by class"),
        page.table(words.CLASS_HEADER, words.class_rows(part)),
        page.heading(f"{name}, confusion"),
        _confusion(part),
        page.heading(f"{name}, calibration and length"),
        page.paragraph(words.calibration_words(part)),
        page.charts(
            [
                (
                    reliability_chart(f"{name}: reliability diagram", bins, classes),
                    "Reliability: points below the dashed line are overconfident; grey: how many texts",
                ),
                (
                    interval_chart(f"{name}: accuracy by length", lengths, "accuracy", one_colour=True),
                    "Accuracy by length of the text",
                ),
            ]
        ),
        page.details("Accuracy by length as a table", page.table(words.LENGTH_HEADER, words.length_rows(part))),
    ]


def _confusion(part: dict[str, Any]) -> str:
    if not words.shows_confusion(part):
        return page.paragraph(words.TOO_MANY_CLASSES)
    told = part["confusion"]
    return page.heat_table(told["classes"], told["true_by_predicted"], "Texts, and share of the true class")


def _constructions(metrics: dict[str, Any]) -> list[str]:
    rows = words.construction_rows(metrics)
    if not rows:
        return []
    table = page.table(("part", "construction", "correct"), rows, text_columns=(0, 1))
    return [page.heading("Accuracy by construction"), page.details("Every construction of the grammar", table)]


def curves(history: list[dict[str, Any]], prefix: str = "") -> dict[str, dict[str, list[tuple[float, float]]]]:
    """The series of a history: "loss" and "dev", each by name."""
    series: dict[str, dict[str, list[tuple[float, float]]]] = {"loss": {}, "dev": {}}
    for name in history[0] if history else ():
        points = [(epoch["epoch"], epoch[name]) for epoch in history if isinstance(epoch[name], float)]
        if name.endswith("loss"):
            series["loss"][prefix + name.removesuffix("_loss")] = points
        elif name.startswith("dev_"):
            series["dev"][prefix + words.EPOCH_NAMES.get(name, name).removeprefix("dev ")] = points
    return series


def _training(metrics: dict[str, Any]) -> list[str]:
    if not metrics["history"]:
        return []
    header, rows = words.epoch_rows(metrics)
    series = curves(metrics["history"])
    stopped = "Stopped by the user. " if metrics["interrupted"] else ""
    return [
        page.heading("Training"),
        page.paragraph(f"{stopped}The epoch marked * was best on dev and is the one kept."),
        page.charts(
            [
                (line_chart("Loss by epoch", series["loss"], "epoch", "cross-entropy (nats)"), "Loss"),
                (line_chart("Dev scores by epoch", series["dev"], "epoch", "", percent=True), "Dev"),
            ]
        ),
        page.table(header, rows),
    ]


def _mistakes(part: dict[str, Any]) -> list[str]:
    if not part["mistakes"]:
        return []
    blocks = [
        page.heading("Surest mistakes"),
        page.paragraph(
            "Wrong answers by the probability given to them. Shades: what each token adds to the answer (gradient × "
            "input); blue speaks for it, orange underlined against it.",
            "soft",
        ),
    ]
    for mistake in part["mistakes"]:
        title = f"Answer {mistake['predicted']} ({mistake['probability']:.3f}), in truth {mistake['true']}"
        blocks += [page.heading(title, 3), page.marked_text(mistake["pieces"], f"text of the mistake: {title}")]
    return blocks


def _samples(metrics: dict[str, Any]) -> list[str]:
    if not metrics["samples"]:
        return []
    rows = [
        (sample["label"], f"{sample['probability']:.3f}", sample["true"] or "not known", sample["text"])
        for sample in metrics["samples"]
    ]
    table = page.table(("prediction", "probability", "truth", "text"), rows, text_columns=(0, 2, 3))
    return [page.heading("Some predictions"), table]


def _record(metrics: dict[str, Any]) -> list[str]:
    data = metrics["data"]
    names = sorted({label for labels in data["labels"].values() for label in labels})
    labels = [(part, *(f"{counts.get(name, 0):,}" for name in names)) for part, counts in data["labels"].items()]
    settings = {name: words.value_words(value) for name, value in metrics["settings"].items()}
    return [
        page.heading("Record"),
        page.details("Data: labels and hashes", page.table(("part", *names), labels, "Texts by label")
                     + page.facts(data["sha256"], "SHA-256 of the rows, whatever their order")),
        page.details("Settings", page.facts(settings, "Settings of the run")),
        page.details("Machine and versions", page.facts(metrics["environment"], "Where it ran")),
    ]
