"""From a trained model to its report: every part measured, linear models fitted, pictures drawn, files written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..baseline import Baseline, BaselineUnavailable, run_baselines, run_rating_baseline
from ..datasets import Dataset
from ..examples import Example
from ..options import RunOptions
from ..predictor import predict_texts, predicts_ratings
from ..samples import sample_texts
from ..splits import DEV, TEST
from ..store import StoredModel
from ..training import TrainResult
from .measure import PartResult, measure
from .plots import PlotsUnavailable, draw_plots
from .run_report import COMPOSE, DataFacts, RunReport, environment
from .words import MOST_CLASSES


def report_run(
    model: StoredModel, dataset: Dataset, options: RunOptions, training: TrainResult, folder: Path
) -> RunReport:
    """The report on ``model``, which ``training`` made from ``dataset``; its files are in ``folder``."""
    parts = {TEST: dataset.test, COMPOSE: dataset.composed, DEV: dataset.dev}
    facts = DataFacts.of(dataset)
    parameters = sum(p.numel() for p in model.network.parameters())
    texts, truths = sample_texts(dataset, model.vocabulary)
    report = RunReport(
        facts,
        options.flat(),
        environment(parameters, len(model.vocabulary)),
        training,
        {name: _measured(model, name, examples) for name, examples in parts.items() if examples},
        _baselines(dataset, options, facts.notes, predicts_ratings(model.network)),
        list(zip(predict_texts(model, texts), truths)),
    )
    if predicts_ratings(model.network):
        report.rating_baseline = _rating_baseline(dataset, options, facts.notes)
    report.write(folder, _pictures(report, options, facts.notes))
    return report


def _measured(model: StoredModel, part: str, examples: Sequence[Example]) -> PartResult:
    """Mistakes are shown of the test part alone."""
    return measure(model, examples) if part == TEST else measure(model, examples, mistakes=0)


def _baselines(dataset: Dataset, options: RunOptions, notes: list[str], rated: bool) -> list[Baseline]:
    if not options.report.baseline:
        notes.append("The linear baseline was not asked for.")
        return []
    if rated and len(dataset.classes) > MOST_CLASSES:
        return []  # one linear model for each rating; the ridge regression is what to compare with
    others = {TEST: dataset.test, COMPOSE: dataset.composed}
    try:
        return run_baselines(dataset.train, dataset.dev, others, dataset.classes, options.report.baseline_order)
    except BaselineUnavailable as error:
        notes.append(f"No baseline row: {error}.")
        return []


def _rating_baseline(dataset: Dataset, options: RunOptions, notes: list[str]) -> Baseline | None:
    if not options.report.baseline:
        return None

    def numbers(examples: Sequence[Example]) -> tuple[list[str], list[float]]:
        return [e.text for e in examples], [float(e.label) for e in examples]

    try:
        order, test = options.report.baseline_order, {TEST: [e.text for e in dataset.test]}
        return run_rating_baseline(numbers(dataset.train), numbers(dataset.dev), test, order)
    except BaselineUnavailable as error:
        notes.append(f"No baseline row: {error}.")
        return None


def _pictures(report: RunReport, options: RunOptions, notes: list[str]) -> dict[str, bytes]:
    if not options.report.plots:
        return {}
    told = report.as_dict()
    try:
        return draw_plots(told["history"], told["parts"][TEST])
    except PlotsUnavailable as error:
        notes.append(f"No plots: {error}.")
        return {}
