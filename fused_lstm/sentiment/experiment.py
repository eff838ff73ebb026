"""One training run from data to report: vocabulary, model, training, evaluation, baseline, files.

The model is on disk before anything that only reports is started.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from .batches import NumberedTexts
from .datasets import Dataset
from .examples import Example
from .model import SentimentClassifier
from .options import RunOptions
from .predictor import number_examples
from .reports.reporting import report_run
from .reports.run_report import COMPOSE, RunReport
from .store import ModelSettings, StoredModel, prepare_folder, require_safetensors, save, write_json
from .training import EpochMetrics, TrainResult, fit
from .vocabularies import learn_vocabulary

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
    say(
        f"Model: {parameters:,} parameters, vocabulary {len(model.vocabulary):,}, "
        f"LSTM {options.machine.lstm}, {torch.get_num_threads()} thread(s)"
    )
    result = _train(model, dataset, options, say)
    save(folder, network, model.vocabulary, model.settings)
    say(f"Model of epoch {result.best_epoch or '-'} saved in {folder}")

    return report_run(model, dataset, options, result, folder)


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
