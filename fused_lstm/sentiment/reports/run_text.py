"""report.md: a run for people, plain text that is also Markdown, from the values of metrics.json."""

from __future__ import annotations

from typing import Any

from . import words
from .tables import table

REPORT = "report.md"


def run_text(metrics: dict[str, Any]) -> str:
    """The report as one text."""
    data, test, rated = metrics["data"], metrics["parts"]["test"], words.is_rated(metrics)
    sections = [
        f"# {metrics['title']}",
        f"Texts: {words.counts_words(metrics)}.",
        *(f"- {note}" for note in data["notes"]),
        "",
        *_ratings(metrics),
        *(["## Nearest label", "", words.NEAREST] if rated else ["## Accuracy"]),
        "",
        table(words.ACCURACY_HEADER, words.accuracy_rows(metrics)),
        "",
        *(f"- {line}\n" for line in words.differences(metrics, "test")),
        "## Test, by class",
        "",
        table(words.CLASS_HEADER, words.class_rows(test)),
        "",
        "## Test, confusion (rows: true class, columns: predicted)",
        "",
        confusion_table(test),
        "",
        *([] if rated else ["## Test, calibration", "", words.calibration_words(test), ""]),
        "## Test, by length",
        "",
        table(words.LENGTH_HEADER, words.length_rows(test)),
        "",
    ]
    if rows := words.construction_rows(metrics):
        sections += ["## Accuracy by construction", "", table(("part", "construction", "correct"), rows), ""]
    sections += ["## Training" if metrics["history"] else "## Record", "", _record(metrics), ""]
    if test["mistakes"]:
        sections += [f"## {words.mistakes_title(rated)}", "", *(_mistake(mistake) for mistake in test["mistakes"]), ""]
    if metrics["samples"]:
        sections += ["## Some predictions", "", *(_sample(sample) for sample in metrics["samples"]), ""]
    return "\n".join(sections)


def _ratings(metrics: dict[str, Any]) -> list[str]:
    rows = words.rating_rows(metrics)
    return ["## Ratings", "", table(words.RATING_HEADER, rows), "", words.rating_words(metrics), ""] if rows else []


def confusion_table(part: dict[str, Any]) -> str:
    """Counts, one row per true class."""
    if not words.shows_confusion(part):
        return words.TOO_MANY_CLASSES
    names, counts = part["confusion"]["classes"], part["confusion"]["true_by_predicted"]
    return table(("true \\ predicted", *names), [(name, *map(str, row)) for name, row in zip(names, counts)])


def _record(metrics: dict[str, Any]) -> str:
    header, rows = words.epoch_rows(metrics)
    stopped = "Stopped by the user. " if metrics["interrupted"] else ""
    epochs = ""
    if rows:
        epochs = f"{table(header, rows)}\n\n{stopped}The epoch marked * was best on dev and is the one kept. "
    facts = metrics["settings"] | metrics["environment"]
    hashes = ", ".join(f"{name} {digest}" for name, digest in metrics["data"]["sha256"].items())
    return (
        f"{epochs}Test ran at {words.speed_words(metrics['parts']['test'])}.\n\n"
        f"Settings: {', '.join(f'{name} {words.value_words(value)}' for name, value in facts.items())}.\n\n"
        f"SHA-256 of the rows: {hashes}."
    )


def _sample(sample: dict[str, Any]) -> str:
    return f"- {words.answer(sample, sample['true'])}: {_on_one_line(sample['text'])}"


def _mistake(mistake: dict[str, Any]) -> str:
    text = _on_one_line(mistake["text"])
    shown = text if len(text) <= 300 else f"{text[:200]} … {text[-100:]}"
    return f"- {words.answer(mistake, mistake['true'])}: {shown}"


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
