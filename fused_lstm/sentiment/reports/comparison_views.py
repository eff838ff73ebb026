"""A comparison for the terminal and as a page."""

from __future__ import annotations

from . import page, words
from .charts import interval_chart, line_chart
from .comparison import Comparison
from .run_page import curves
from .tables import table


def comparison_text(told: Comparison) -> str:
    """Markdown that lines up in a terminal."""
    sections = [table(_header(told), _rows(told)), ""]
    if told.groups:
        sections += ["Over seeds, mean ± sd:", "", table(_seed_header(told), _seed_rows(told)), ""]
    sections += [*(f"- {line}" for line in _pairs(told)), ""]
    if told.settings:
        sections += ["Settings that differ:", "", table(*_settings(told)), ""]
    return "\n".join(sections)


def comparison_page(told: Comparison) -> str:
    """The same and the curves as a self-contained page."""
    names = ", ".join(run.name for run in told.runs)
    intervals = [(run.name, run.figure("accuracy"), *run.test["accuracy_interval_95"]) for run in told.runs]
    body = [
        page.heading(f"{len(told.runs)} runs side by side", 1),
        page.paragraph(names, "lead"),
        page.heading("Test part"),
        page.table(_header(told), _rows(told), "Wilson intervals"),
        page.charts([(interval_chart("Test accuracy with 95 % intervals", intervals, "test accuracy"), "")]),
        page.heading("Against the first run, text by text"),
        page.bullets(_pairs(told)),
    ]
    if told.groups:
        body += [page.heading("Over seeds"), page.table(_seed_header(told), _seed_rows(told), "Mean ± sd (n − 1)")]
    body += _curves(told)
    if told.settings:
        header, rows = _settings(told)
        columns = range(len(header))
        body += [page.heading("Settings that differ"), page.table(header, rows, text_columns=columns)]
    data = {run.name: f"{run.metrics['title']}; test rows {run.test['sha256']}" for run in told.runs}
    body += [page.heading("Data"), page.facts(data, "What each run was about")]
    return page.page(f"Runs side by side: {names}", body)


def _curves(told: Comparison) -> list[str]:
    series: dict[str, dict[str, list[tuple[float, float]]]] = {"loss": {}, "dev": {}}
    for run in told.runs:
        found = curves(run.metrics["history"])
        for chart, name in (("loss", "dev"), ("dev", "accuracy")):
            if name in found[chart]:
                series[chart][run.name] = found[chart][name]
    if not any(series.values()):
        return []
    loss = " or ".join(dict.fromkeys(words.loss_name("ratings" in run.test) for run in told.runs))
    charts = [
        (line_chart("Dev accuracy by epoch", series["dev"], "epoch", "", percent=True), "Dev accuracy"),
        (line_chart("Dev loss by epoch", series["loss"], "epoch", loss), "Dev loss"),
    ]
    return [page.heading("Curves"), page.charts(charts)]


def _header(told: Comparison) -> tuple[str, ...]:
    return ("run", "accuracy %", "95 % interval", *told.figures[1:], "texts")


def _rows(told: Comparison) -> list[tuple[str, ...]]:
    return [
        (
            run.name,
            f"{100 * run.figure('accuracy'):.2f}",
            words.interval(run.test["accuracy_interval_95"]),
            *(_figure(name, run.figure(name)) for name in told.figures[1:]),
            f"{run.test['count']:,}",
        )
        for run in told.runs
    ]


def _seed_header(told: Comparison) -> tuple[str, ...]:
    return ("runs", "seeds", *("accuracy %" if name == "accuracy" else name for name in told.figures))


def _seed_rows(told: Comparison) -> list[tuple[str, ...]]:
    rows = []
    for group in told.groups:
        seeds = ", ".join(str(run.settings.get("seed")) for run in group.runs)
        spreads = [" ± ".join(_figure(name, value) for value in group.spread(name)) for name in told.figures]
        rows.append((group.name, seeds, *spreads))
    return rows


def _figure(name: str, value: float) -> str:
    if name == "accuracy":
        return f"{100 * value:.2f}"
    return f"{value:,.0f}" if name == "samples/s" else f"{value:.4f}"


def _pairs(told: Comparison) -> list[str]:
    first = told.runs[0].name
    return [
        words.difference(pair.difference.as_dict(), pair.run.name, first)
        if pair.difference
        else f"{pair.run.name} is not tested against {first}: {pair.reason}."
        for pair in told.pairs
    ]


def _settings(told: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    header = ("setting", *(run.name for run in told.runs))
    return header, [(name, *map(words.value_words, values)) for name, values in told.settings.items()]

