"""One training run from data to report: vocabulary, model, training, evaluation, baseline, files.

The model is on disk before anything that only reports is started.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from .baseline import Baseline, BaselineUnavailable, run_baseline
from .batches import NumberedTexts
from .datasets import Dataset
from .examples import Example
from .model import SentimentClassifier
from .options import RunOptions
from .plots import PlotsUnavailable, draw_plots
from .predictor import number_examples, predict_texts
from .report import PartResult, RunReport
from .samples import sample_texts
from .splits import TEST
from .store import ModelSettings, StoredModel, prepare_folder, require_safetensors, save, write_json
from .training import EpochMetrics, TrainResult, evaluate, fit
from .vocabularies import learn_vocabulary

COMPOSE = "compose"
SETTINGS = "settings.json"  # --config takes it: the same run again
Say = Callable[[str], None]


def run(dataset: Dataset, options: RunOptions, folder: Path, say: Say) -> RunReport:
    """Trains on ``dataset``, writes model and report into ``folder``, tells a person about it through ``say``."""
    require_safetensors()
    prepare_folder(folder)
    write_json(folder / SETTINGS, options.nested())
    counts = {"train": len(dataset.train), "dev": len(dataset.dev), "test": len(dataset.test)}
    if dataset.composed:
        counts[COMPOSE] = len(dataset.composed)
    say(f"Data: {dataset.name}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    for note in dataset.notes:
        say(f"  {note}")

    model = _untrained(dataset, options)
    network = model.network
    parameters = sum(p.numel() for p in network.parameters())
    environment = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "parameters": parameters,
        "vocabulary": len(model.vocabulary),
    }
    say(
        f"Model: {parameters:,} parameters, vocabulary {len(model.vocabulary):,}, "
        f"LSTM {options.machine.lstm}, {environment['threads']} thread(s)"
    )
    result = _train(model, dataset, options, say)
    save(folder, network, model.vocabulary, model.settings)
    say(f"Model of epoch {result.best_epoch or '-'} saved in {folder}")

    parts = {TEST: evaluate_part(model, dataset.test)}
    if dataset.composed:
        parts[COMPOSE] = evaluate_part(model, dataset.composed)
    notes = list(dataset.notes)
    baseline = _baseline(dataset, options, notes)
    texts, truths = sample_texts(dataset, model.vocabulary)
    samples = list(zip(predict_texts(model, texts), truths))
    plots = _plots(folder, result, parts[TEST], options, notes)
    settings = options.flat()
    report = RunReport(dataset.name, counts, notes, settings, environment, result, parts, baseline, samples, plots)
    report.write(folder)
    return report


def evaluate_part(model: StoredModel, examples: Sequence[Example]) -> PartResult:
    """Loss, counts, speed, and hits by construction where examples name one."""
    settings = model.settings
    texts = number_examples(examples, model.vocabulary, settings.classes, settings.max_length)
    started = time.perf_counter()
    loss, evaluation, predicted = evaluate(model.network, texts, settings.classes)
    seconds = time.perf_counter() - started
    totals, hits = Counter[str](), Counter[str]()
    for example, right in zip(examples, (predicted == texts.labels).tolist()):
        if example.kind:
            totals[example.kind] += 1
            hits[example.kind] += right
    return PartResult(evaluation, loss, seconds, {kind: (hits[kind], total) for kind, total in totals.items()})


def _untrained(dataset: Dataset, options: RunOptions) -> StoredModel:
    vocabulary = learn_vocabulary((example.text for example in dataset.train), options.tokens)
    config = replace(options.model, vocabulary=len(vocabulary), classes=len(dataset.classes))
    settings = ModelSettings(
        model=config,
        classes=tuple(dataset.classes),
        max_length=options.tokens.max_length,
        trained_on=dataset.name,
        embedded=dataset.embedded,
        training=options.flat(),
    )
    return StoredModel(SentimentClassifier(config, options.machine.lstm), vocabulary, settings)


def _train(model: StoredModel, dataset: Dataset, options: RunOptions, say: Say) -> TrainResult:
    settings = model.settings

    def number(examples: Sequence[Example]) -> NumberedTexts:
        return number_examples(examples, model.vocabulary, settings.classes, settings.max_length)

    def on_epoch(metrics: EpochMetrics) -> None:
        say(metrics.line())

    result = fit(
        model.network, number(dataset.train), number(dataset.dev), settings.classes, options.training, on_epoch
    )
    if result.interrupted:
        say("Interrupted: keeping the best weights so far.")
    return result


def _baseline(dataset: Dataset, options: RunOptions, notes: list[str]) -> Baseline | None:
    if not options.report.baseline:
        notes.append("The linear baseline was not asked for.")
        return None
    others = {TEST: dataset.test, COMPOSE: dataset.composed}
    try:
        return run_baseline(dataset.train, dataset.dev, others, dataset.classes, options.report.baseline_order)
    except BaselineUnavailable as error:
        notes.append(f"No baseline row: {error}.")
        return None


def _plots(
    folder: Path, result: TrainResult, test: PartResult, options: RunOptions, notes: list[str]
) -> list[str]:
    if not options.report.plots or not result.history:
        return []
    try:
        return [path.name for path in draw_plots(folder, result.history, test.evaluation)]
    except PlotsUnavailable as error:
        notes.append(f"No plots: {error}.")
        return []
