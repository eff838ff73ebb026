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
        page.tiles(_rating_tiles(metrics) if words.is_rated(metrics) else _tiles(metrics)),
        page.bullets(data["notes"]),
        *_ratings(metrics),
        *_accuracy(metrics),
        *_part_blocks(metrics["parts"]["test"], "Test"),
        *_constructions(metrics),
        *_training(metrics),
        *_mistakes(metrics["parts"]["test"]),
        *_samples(metrics),
        *_record(metrics),
        page.footer("Written by fused_lstm.sentiment. Numbers: metrics.json; each prediction: predictions.jsonl."),
    ]
    return page.page(metrics["title"], body)


def _tiles(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
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
    ece, brier = test["calibration"]["ece"], test["calibration"]["brier"]
    return [*entries, (f"{ece:.4f}", "calibration error", f"Brier {brier:.4f}"), _speed_tile(metrics)]


def _rating_tiles(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    test = metrics["parts"]["test"]
    told = test["ratings"]
    entries = [
        (f"{told['mse']:.4f}", "test MSE", "95 %: {:.3f} to {:.3f}".format(*told["mse_interval_95"])),
        (f"{told['mae']:.4f}", "mean absolute error", "95 %: {:.3f} to {:.3f}".format(*told["mae_interval_95"])),
        (f"{told['pearson']:.4f}", "Pearson", "95 %: {:.3f} to {:.3f}".format(*told["pearson_interval_95"])),
    ]
    if baseline := metrics.get("rating_baseline"):
        against = baseline["mse_difference"]
        more = "95 %: {:+.3f} to {:+.3f}".format(*against["interval"])
        entries.append((f"{against['difference']:+.4f}", "MSE against the linear model", more))
    return [*entries, _speed_tile(metrics)]


def _speed_tile(metrics: dict[str, Any]) -> tuple[str, str, str]:
    speed, threads = metrics["parts"]["test"]["samples_per_second"], metrics["environment"].get("threads", "?")
    return f"{speed:,.0f}", "samples/s on test", f"{threads} thread(s)"


def _linear(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    return [baseline for baseline in metrics["baselines"] if "test" in baseline["parts"]]


def _ratings(metrics: dict[str, Any]) -> list[str]:
    rows = words.rating_rows(metrics)
    if not rows:
        return []
    caption = "Errors of the predicted number; intervals by bootstrap and Fisher's z"
    table = page.table(words.RATING_HEADER, rows, caption, (0, 1))
    models = [("this LSTM", metrics["parts"]["test"]["ratings"])]
    if baseline := metrics.get("rating_baseline"):
        models.append((baseline["name"], baseline["test"]))
    errors = [(name, told["mse"], *told["mse_interval_95"]) for name, told in models]
    chart = interval_chart("Test MSE with 95 % intervals", errors, "mean squared error on test", percent=False)
    words_below = page.paragraph(words.rating_words(metrics))
    return [page.heading("Ratings"), table, page.charts([(chart, "")]), words_below]


def _accuracy(metrics: dict[str, Any]) -> list[str]:
    models = [("this LSTM", metrics["parts"]["test"])]
    models += [(baseline["name"], baseline["parts"]["test"]) for baseline in _linear(metrics)]
    rows = [(name, part["accuracy"], *part["accuracy_interval_95"]) for name, part in models]
    caption = "Wilson intervals; dev chose the epoch" if metrics["history"] else "Wilson intervals"
    rated = words.is_rated(metrics)
    return [
        page.heading("Nearest label" if rated else "Accuracy"),
        page.paragraph(words.NEAREST, "soft") if rated else "",
        page.table(words.ACCURACY_HEADER, words.accuracy_rows(metrics), caption, (0, 1)),
        page.charts([(interval_chart("Test accuracy with 95 % intervals", rows, "test accuracy"), "")]),
        page.bullets(words.differences(metrics, "test")),
    ]


def _part_blocks(part: dict[str, Any], name: str) -> list[str]:
    """What there is to say about one part: classes, confusion, calibration, lengths."""
    bands, rated = part["by_length"], "ratings" in part
    lengths = [(f"{words.span(b)} tokens ({b['count']:,})", b["accuracy"], *b["accuracy_interval_95"]) for b in bands]
    bins, classes = part["calibration"]["bins"], len(part["confusion"]["classes"])
    by_length = interval_chart(f"{name}: accuracy by length", lengths, "accuracy", one_colour=True)
    charts = [(by_length, "Accuracy by length of the text")]
    if not rated:  # how far a number is from a label is no probability that anybody asked for
        diagram = reliability_chart(f"{name}: reliability diagram", bins, classes)
        told = "Reliability: points below the dashed line are overconfident; grey: how many texts"
        charts.insert(0, (diagram, told))
    return [
        page.heading(f"{name}, by class"),
        page.table(words.CLASS_HEADER, words.class_rows(part)),
        page.heading(f"{name}, confusion"),
        _confusion(part),
        page.heading(f"{name}, by length" if rated else f"{name}, calibration and length"),
        "" if rated else page.paragraph(words.calibration_words(part)),
        page.charts(charts),
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
    rated = words.is_rated(metrics)
    dev = "Dev, nearest label" if rated else "Dev"
    return [
        page.heading("Training"),
        page.paragraph(f"{stopped}The epoch marked * was best on dev and is the one kept."),
        page.charts(
            [
                (line_chart("Loss by epoch", series["loss"], "epoch", words.loss_name(rated)), "Loss"),
                (line_chart("Dev scores by epoch", series["dev"], "epoch", "", percent=True), dev),
            ]
        ),
        page.table(header, rows),
    ]


def _mistakes(part: dict[str, Any]) -> list[str]:
    if not part["mistakes"]:
        return []
    rated = "ratings" in part
    if rated:
        lead = "Predicted numbers by their distance from the true ones. Shades: what each token adds to the number "
        meaning = "blue raises it, orange underlined lowers it."
    else:
        lead = "Wrong answers by the probability given to them. Shades: what each token adds to the answer "
        meaning = "blue speaks for it, orange underlined against it."
    blocks = [
        page.heading(words.mistakes_title(rated)),
        page.paragraph(f"{lead}(gradient × input); {meaning}", "soft"),
    ]
    for mistake in part["mistakes"]:
        title = f"Answer {words.answer(mistake, mistake['true'])}"
        blocks += [page.heading(title, 3), page.marked_text(mistake["pieces"], f"text of the mistake: {title}")]
    return blocks


def _samples(metrics: dict[str, Any]) -> list[str]:
    if not metrics["samples"]:
        return []
    rated = words.is_rated(metrics)
    rows = [
        (
            sample["label"],
            f"{sample['rating'] if rated else sample['probability']:.3f}",
            sample["true"] or "not known",
            sample["text"],
        )
        for sample in metrics["samples"]
    ]
    header = ("nearest label", "number") if rated else ("prediction", "probability")
    table = page.table((*header, "truth", "text"), rows, text_columns=(0, 2, 3))
    return [page.heading("Some predictions"), table]


def _record(metrics: dict[str, Any]) -> list[str]:
    data = metrics["data"]
    names = words.label_columns(data)
    labels = [(part, *(f"{counts.get(name, 0):,}" for name in names)) for part, counts in data["labels"].items()]
    settings = {name: words.value_words(value) for name, value in metrics["settings"].items()}
    return [
        page.heading("Record"),
        page.details("Data: labels and hashes", page.table(("part", *names), labels, "Texts by label")
                     + page.facts(data["sha256"], "SHA-256 of the rows, whatever their order")),
        page.details("Settings", page.facts(settings, "Settings of the run")),
        page.details("Machine and versions", page.facts(metrics["environment"], "Where it ran")),
    ]
