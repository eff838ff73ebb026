"""Numbers as sentences and cells, the same in every text and page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Part = dict[str, Any]
MOST_CLASSES = 30
TOO_MANY_CLASSES = f"More than {MOST_CLASSES} classes: the matrix is in metrics.json."
ACCURACY_HEADER = ("part", "model", "accuracy %", "95 % interval", "macro F1", "texts")
CLASS_HEADER = ("class", "precision", "recall", "F1", "texts")
RATING_HEADER = ("part", "model", "MSE", "95 %", "MAE", "Pearson", "95 % of it", "Spearman")
NEAREST = "Of ratings, the label nearest to the predicted number counts as the answer."
LENGTH_HEADER = ("tokens", "accuracy %", "95 % interval", "texts")
EPOCH_NAMES = {
    "epoch": "epoch",
    "train_loss": "train loss",
    "dev_loss": "dev loss",
    "dev_accuracy": "dev accuracy",
    "dev_macro_f1": "dev macro F1",
    "seconds": "seconds",
    "samples_per_second": "samples/s",
}


def interval(bounds: tuple[float, float] | list[float]) -> str:
    """Two shares in per cent."""
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def accuracy_cells(part: Part) -> tuple[str, str, str, str]:
    """Accuracy, interval, macro F1 and count as they stand in tables."""
    accuracy = f"{100 * part['accuracy']:.2f}"
    return accuracy, interval(part["accuracy_interval_95"]), f"{part['macro']['f1']:.4f}", f"{part['count']:,}"


def accuracy_rows(metrics: dict[str, Any]) -> list[tuple[str, ...]]:
    """Every model on every part."""
    rows = []
    for name, part in metrics["parts"].items():
        rows.append((name, "this LSTM", *accuracy_cells(part)))
        for baseline in metrics["baselines"]:
            if name in baseline["parts"]:
                rows.append((name, baseline["name"], *accuracy_cells(baseline["parts"][name])))
    return rows


def summary(part: Part) -> str:
    """The figures that matter most on one line."""
    if told := part.get("ratings"):
        low, high = told["mse_interval_95"]
        return f"MSE {told['mse']:.4f}  [{low:.4f}, {high:.4f}]  MAE {told['mae']:.4f}  Pearson {told['pearson']:.4f}"
    low, high = part["accuracy_interval_95"]
    return f"{part['accuracy']:8.2%}  [{low:.2%}, {high:.2%}]  macro F1 {part['macro']['f1']:.4f}"


def shows_confusion(part: Part) -> bool:
    """Whether a confusion matrix can still be read."""
    return len(part["confusion"]["classes"]) <= MOST_CLASSES


def rating_rows(metrics: dict[str, Any]) -> list[tuple[str, ...]]:
    """Errors of predicted numbers; nothing for models without."""
    told = [(name, "this LSTM", part["ratings"]) for name, part in metrics["parts"].items() if "ratings" in part]
    if baseline := metrics.get("rating_baseline"):
        told.append(("test", baseline["name"], baseline["test"]))
    return [(part, model, *rating_cells(r)) for part, model, r in told]


def rating_cells(told: dict[str, Any]) -> tuple[str, ...]:
    """Errors and correlations as they stand in tables."""
    return (
        f"{told['mse']:.4f}",
        "{:.3f} to {:.3f}".format(*told["mse_interval_95"]),
        f"{told['mae']:.4f}",
        f"{told['pearson']:.4f}",
        "{:.3f} to {:.3f}".format(*told["pearson_interval_95"]),
        f"{told['spearman']:.4f}",
    )


def is_rated(metrics: dict[str, Any]) -> bool:
    """Whether the labels are numbers to the model, so that errors matter more than hits."""
    return "ratings" in metrics["parts"]["test"]


def loss_name(rated: bool) -> str:
    return "squared error" if rated else "cross-entropy (nats)"


def mean_words(part: Part) -> str:
    """What an MSE is to be measured against at least."""
    return f"Always answering the mean rating of test would have an MSE of {part['ratings']['mse_of_the_mean']:.4f}."


def rating_words(metrics: dict[str, Any]) -> str:
    """What errors are to be measured against."""
    text = mean_words(metrics["parts"]["test"])
    if baseline := metrics.get("rating_baseline"):
        told = baseline["mse_difference"]
        low, high = told["interval"]
        text += (
            f" MSE of this LSTM less that of {baseline['name']}: {told['difference']:+.4f} ({low:+.4f} to "
            f"{high:+.4f}), {told['test']} p = {told['p_value']:.2g}."
        )
    return text


def class_rows(part: Part) -> list[tuple[str, ...]]:
    """Precision, recall and F1 of each class and their means."""
    named = [*part["per_class"].items(), ("macro mean", {**part["macro"], "support": part["count"]})]
    return [
        (name, f"{s['precision']:.4f}", f"{s['recall']:.4f}", f"{s['f1']:.4f}", f"{s['support']:,}")
        for name, s in named
    ]


def length_rows(part: Part) -> list[tuple[str, ...]]:
    """Accuracy by length of the text."""
    return [
        (span(b), f"{100 * b['accuracy']:.2f}", interval(b["accuracy_interval_95"]), f"{b['count']:,}")
        for b in part["by_length"]
    ]


def span(band: dict[str, Any]) -> str:
    """The lengths of one band."""
    return str(band["from"]) if band["from"] == band["to"] else f"{band['from']} to {band['to']}"


def construction_rows(metrics: dict[str, Any]) -> list[tuple[str, ...]]:
    """Hits by construction of the embedded corpus."""
    return [
        (name, kind, f"{hits['correct']}/{hits['count']}")
        for name, part in metrics["parts"].items()
        for kind, hits in sorted(part.get("constructions", {}).items())
    ]


def epoch_rows(metrics: dict[str, Any]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Header and rows of the history; the epoch that was kept is marked."""
    history = metrics["history"]
    names = list(history[0]) if history else list(EPOCH_NAMES)
    rows = [tuple(_epoch_cell(name, epoch[name], metrics["best_epoch"]) for name in names) for epoch in history]
    return [EPOCH_NAMES.get(name, name.replace("_", " ")) for name in names], rows


def _epoch_cell(name: str, value: Any, best: int) -> str:
    if name == "epoch":
        return f"{value} *" if value == best else str(value)
    if name == "samples_per_second":
        return f"{value:,.0f}"
    if name == "seconds":
        return f"{value:.1f}"
    if name.endswith("accuracy"):
        return f"{value:.2%}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def answer(told: dict[str, Any], truth: str | None) -> str:
    """What a model answered, of a mistake or a sample: ``good (0.931, in truth bad)``; of ratings ``4.213 (nearest
    label 4, in truth 1)``."""
    label = told["predicted"] if "predicted" in told else told["label"]
    more = f", in truth {truth}" if truth else ""
    if told.get("rating") is None:
        return f"{label} ({told['probability']:.3f}{more})"
    return f"{told['rating']:.3f} (nearest label {label}{more})"


def mistakes_title(rated: bool) -> str:
    return "Largest errors" if rated else "Surest mistakes"


def difference(told: dict[str, Any], first: str, second: str) -> str:
    """A paired difference of accuracies as a sentence."""
    low, high = told["interval"]
    points = f"{100 * told['difference']:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f})"
    tail = "the interval holds 0: no winner may be claimed" if low <= 0 <= high else "the interval does not hold 0"
    return (
        f"{first} less {second}: {points}; only {first} right on {told['only_first']:,} texts, only {second} on "
        f"{told['only_second']:,}; {told['test']} p = {told['p_value']:.2g}; {tail}."
    )


def differences(metrics: dict[str, Any], part: str) -> list[str]:
    """This model against every linear one."""
    return [
        difference(baseline["parts"][part]["lstm_minus_this"], "this LSTM", baseline["name"])
        for baseline in metrics["baselines"]
        if part in baseline["parts"]
    ]


def calibration_words(part: Part) -> str:
    """Calibration in two sentences."""
    told = part["calibration"]
    text = (
        f"Expected calibration error {told['ece']:.4f} (15 bins), Brier score {told['brier']:.4f}, mean confidence "
        f"{told['mean_confidence']:.2%} at {part['accuracy']:.2%} accuracy, cross-entropy {part['loss']:.4f}."
    )
    if better := told.get("at_dev_temperature"):
        text += (
            f" Scores divided by {better['temperature']:.2f}, the best temperature on dev, would have given "
            f"{better['ece']:.4f} and {better['brier']:.4f}."
        )
    return text


def speed_words(part: Part) -> str:
    return f"{part['samples_per_second']:,.0f} samples/s, {part['tokens_per_second']:,.0f} tokens/s"


def counts_words(metrics: dict[str, Any]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in metrics["data"]["counts"].items())


def listed(labels: Sequence[str]) -> str:
    """All of them, or the first and the last of very many."""
    return ", ".join(labels if len(labels) <= MOST_CLASSES else [*labels[:3], "...", *labels[-3:]])


def label_columns(data: dict[str, Any]) -> list[str]:
    """The labels that get a column in a table of parts; none if there are too many to be read."""
    names = sorted({label for labels in data["labels"].values() for label in labels})
    return names if len(names) <= MOST_CLASSES else []


def value_words(value: Any) -> str:
    """A setting for a person."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
