"""One training run from data to report: vocabulary, model, training, evaluation, baseline, files.

The model is on disk before anything that only reports is started.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from .batches import NumberedTexts
from .checkpoints import Checkpoints
from .datasets import Dataset
from .devices import is_main_process, process_count
from .examples import DataError, RowProblems
from .language_model_store import StoredLanguageModel, load_language_model
from .logs import FolderLog
from .model import SentimentClassifier
from .model_folder import prepare_folder
from .options import RunOptions
from .predictor import number_examples
from .reports.files import write_file
from .reports.reporting import report_run
from .reports.run_report import RunReport
from .splits import DEV, TRAIN
from .store import CLASSIFIER, ModelSettings, StoredModel, save
from .stored_files import require_safetensors
from .training import EpochMetrics, Start, TrainResult, fit
from .transfer import as_classifier, take_encoder
from .vectors import Vectors, read_vectors
from .vocabularies import learn_vocabulary

CHECKPOINTS = "checkpoints"
SETTINGS = "settings.json"  # --config takes it: the same run again
Say = Callable[[str], None]


def run(dataset: Dataset, options: RunOptions, folder: Path, say: Say) -> RunReport | None:
    """Trains on ``dataset``, writes model and report into ``folder``, tells a person about it through ``say``.

    Goes on where a run with the same data and settings was killed. None in processes that only help to train.
    """
    require_safetensors()
    prepare_folder(folder, CLASSIFIER)
    if not is_main_process():
        say = _silent
    say(f"Data: {dataset.name}: {dataset.counts()}")
    for note in dataset.notes:
        say(f"  {note}")

    source = _source(options)
    model = _untrained(dataset, options, source)
    network = model.network
    parameters = sum(p.numel() for p in network.parameters())
    say(
        f"Model: {parameters:,} parameters, vocabulary {len(model.vocabulary):,}, "
        f"LSTM {options.machine.lstm}, {torch.get_num_threads()} thread(s)"
    )
    train, dev = (_numbered(model, dataset, part) for part in (TRAIN, DEV))
    vectors = _vectors(model, dataset, options, say)
    checkpoints = _checkpoints(folder, model, train, dev, options, source, vectors, say)
    log = None
    if is_main_process():
        # Only now: a command that the checkpoints refuse must not change what the unfinished run has written.
        write_file(folder / SETTINGS, options.nested())
        log = FolderLog(folder, options.safety.tensorboard, say)
    result = _train(model, train, dev, options, _start(source, vectors), checkpoints, log, say)
    if not is_main_process():
        return None
    save(folder, network, model.vocabulary, model.settings)
    say(f"Model of epoch {result.best_epoch or '-'} saved in {folder}")

    report = report_run(model, dataset, options, result, folder)
    if not result.interrupted:
        checkpoints.clear()
    return report


def _source(options: RunOptions) -> StoredLanguageModel | None:
    """The language model to start from."""
    folder = options.transfer.init_from
    return None if folder is None else load_language_model(Path(folder), options.machine.lstm)


def _untrained(dataset: Dataset, options: RunOptions, source: StoredLanguageModel | None) -> StoredModel:
    if source is None:
        prepared = dataset.prepared
        texts = (example.text for example in dataset.train)
        vocabulary = learn_vocabulary(texts, options.tokens) if prepared is None else prepared.vocabulary
        config = replace(options.model, vocabulary=len(vocabulary))
    else:
        vocabulary, config = source.vocabulary, as_classifier(options.model, source.network.config)
    config = replace(config, classes=len(dataset.classes))
    if config.regression:
        _check_ratings(dataset.classes)
    settings = ModelSettings(
        model=config,
        classes=tuple(dataset.classes),
        max_length=options.tokens.max_length,
        trained_on=dataset.name,
        embedded=dataset.embedded,
        training=options.flat(),
    )
    return StoredModel(SentimentClassifier(config, options.machine.lstm), vocabulary, settings)


def _check_ratings(classes: Sequence[str]) -> None:
    for name in classes:
        try:
            float(name)
        except ValueError:
            raise DataError(f"label {name!r} is no number; --regression needs labels such as 1 to 5") from None


def _numbered(model: StoredModel, dataset: Dataset, part: str) -> NumberedTexts:
    prepared = dataset.prepared
    if prepared is not None and prepared.vocabulary.words == model.vocabulary.words:
        return prepared.numbered[part]
    examples = {TRAIN: dataset.train, DEV: dataset.dev}[part]
    return number_examples(examples, model.vocabulary, model.settings.classes, model.settings.max_length)


def _vectors(model: StoredModel, dataset: Dataset, options: RunOptions, say: Say) -> Vectors | None:
    if options.data.vectors is None:
        return None
    if options.transfer.init_from is not None:
        raise DataError("--vectors and --init-from both say where word vectors start; leave one of them out")
    problems = RowProblems(options.reading.strict)
    vectors = read_vectors(Path(options.data.vectors), model.vocabulary, problems)
    for note in (vectors.note, *problems.lines()):
        say(note)
        dataset.notes.append(note)
    return vectors


def _start(source: StoredLanguageModel | None, vectors: Vectors | None) -> Start:
    """What replaces weights that were drawn at random."""

    def start(network: SentimentClassifier) -> None:
        if source is not None:
            take_encoder(network, source)
        if vectors is not None:
            network.use_vectors(vectors.values, vectors.known)

    return start


def _checkpoints(
    folder: Path,
    model: StoredModel,
    train: NumberedTexts,
    dev: NumberedTexts,
    options: RunOptions,
    source: StoredLanguageModel | None,
    vectors: Vectors | None,
    say: Say,
) -> Checkpoints:
    """Those of this very run: everything that decides about the weights is part of its identity."""
    identity = {
        **asdict(model.settings.model),
        **asdict(options.training),
        "lstm": options.machine.lstm,
        "language model": source and source.digest,
        "processes": process_count(),
        "training data": train.digest(),
        "dev data": dev.digest(),
        "word vectors": None if vectors is None else vectors.digest(),
    }
    safety = options.safety
    seconds, steps = safety.checkpoint_seconds, safety.checkpoint_steps
    checkpoints = Checkpoints(folder / CHECKPOINTS, identity, seconds, steps, say)
    if not safety.fresh:
        checkpoints.check()
    elif is_main_process():
        checkpoints.clear()
    return checkpoints


def _train(
    model: StoredModel,
    train: NumberedTexts,
    dev: NumberedTexts,
    options: RunOptions,
    start: Start,
    checkpoints: Checkpoints,
    log: FolderLog | None,
    say: Say,
) -> TrainResult:
    def on_epoch(metrics: EpochMetrics) -> None:
        say(metrics.line())

    result = fit(
        model.network,
        train,
        dev,
        model.settings.classes,
        options.training,
        on_epoch,
        start,
        checkpoints,
        log,
    )
    if result.resumed_at is not None:
        say(f"This run was continued at step {result.resumed_at}.")
    if result.interrupted:
        say("Interrupted: keeping the best weights so far. The same command goes on from the last checkpoint.")
    return result


def _silent(line: str) -> None:
    """Other processes leave speaking to the main one."""
