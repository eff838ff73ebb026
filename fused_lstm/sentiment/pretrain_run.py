"""One run of pre-training from texts to a stored language model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from .checkpoints import Checkpoints
from .datasets import Dataset, ReadingOptions, load_part
from .devices import is_main_process, process_count
from .examples import DataError, RowProblems
from .language_model import LanguageModel, LanguageModelConfig
from .language_model_store import LANGUAGE_MODEL, save_language_model
from .logs import FolderLog
from .loop import TrainResult
from .machine import MachineOptions
from .model_folder import prepare_folder
from .pretraining import pretrain
from .reports.files import write_file
from .settings import at_least, setting
from .splits import TRAIN, normalised
from .stored_files import require_safetensors
from .streams import Texts
from .tokens import TokenOptions
from .train_settings import SafetyOptions, TrainSettings
from .vocabularies import learn_vocabulary

CHECKPOINTS, METRICS = "checkpoints", "metrics.json"
DEFAULT_OUTPUT = "runs/language-model"
MORE_TEXTS_HELP = (
    "also learn from these, one text on each line of a .txt, or any data as below; labels need not be there, and count "
    "for nothing"
)
Say = Callable[[str], None]


@dataclass(frozen=True)
class PretrainOptions:
    """Texts and windows."""

    output: str = setting(DEFAULT_OUTPUT, "the language model", metavar="FOLDER")
    more_texts: str | None = setting(None, MORE_TEXTS_HELP, metavar="PATH")
    bptt: int = setting(70, "steps that a gradient goes back, about", at_least(2))


@dataclass(frozen=True)
class PretrainRun:
    """Everything that is set about one."""

    pretraining: PretrainOptions
    tokens: TokenOptions
    model: LanguageModelConfig
    training: TrainSettings
    safety: SafetyOptions
    machine: MachineOptions


def gather_texts(
    dataset: Dataset, more: str | None, reading: ReadingOptions, say: Say
) -> tuple[list[str], list[str]]:
    """Texts to train on and those of dev. None that dev or test hold is trained on, whatever file it comes from."""
    texts = [example.text for example in dataset.train]
    if more is not None:
        problems = RowProblems(reading.strict)
        found = load_part(more, TRAIN, replace(reading, labels_optional=True), problems)
        if not found:
            raise DataError(
                f"{more}: --more-texts holds no text that could be read; expected one on each line of a .txt, or data "
                f"with a field text{problems.first()}"
            )
        texts += [example.text for example in found]
        for line in problems.lines():
            say(line)
    held_out = {normalised(e.text) for part in (dataset.dev, dataset.test, dataset.composed) for e in part}
    kept = [text for text in texts if normalised(text) not in held_out]
    if len(kept) < len(texts):
        say(f"{len(texts) - len(kept):,} texts that dev or test hold as well were left out.")
    return kept, [example.text for example in dataset.dev]


def run_pretraining(texts: Sequence[str], dev_texts: Sequence[str], run: PretrainRun, say: Say) -> TrainResult:
    """Trains and stores a language model; goes on where a run with the same data and settings was killed."""
    require_safetensors()
    folder = Path(run.pretraining.output)
    prepare_folder(folder, LANGUAGE_MODEL)
    vocabulary = learn_vocabulary(texts, run.tokens)
    config = replace(run.model, vocabulary=len(vocabulary))
    network = LanguageModel(config, run.machine.lstm)
    train, dev = (
        Texts(list(vocabulary.encode_texts(part, run.tokens.max_length)), config.backwards)
        for part in (texts, dev_texts)
    )
    _check_size(train, run)
    parameters = sum(p.numel() for p in network.parameters())
    say(f"Data: {len(texts):,} texts, {len(train.flat):,} tokens; dev {len(dev_texts):,}, {len(dev.flat):,}")
    say(
        f"Model: {parameters:,} parameters, vocabulary {len(vocabulary):,}, LSTM {run.machine.lstm}, "
        f"{torch.get_num_threads()} thread(s), {'backwards' if config.backwards else 'forwards'}"
    )
    identity = {
        **asdict(config),
        **asdict(run.training),
        "bptt": run.pretraining.bptt,
        "lstm": run.machine.lstm,
        "processes": process_count(),
        "training data": _digest(train),
        "dev data": _digest(dev),
    }
    safety = run.safety
    checkpoints = Checkpoints(
        folder / CHECKPOINTS, identity, safety.checkpoint_seconds, safety.checkpoint_steps, say
    )
    if safety.fresh and is_main_process():
        checkpoints.clear()
    log = FolderLog(folder, safety.tensorboard, say) if is_main_process() else None
    result = pretrain(
        network, train, dev, run.training, run.pretraining.bptt, lambda m: say(m.line()), checkpoints, log
    )
    if not is_main_process():
        return result
    settings = {"training": asdict(run.training), "pretraining": asdict(run.pretraining)}
    record = settings | {"data": identity["training data"]}
    save_language_model(folder, network, vocabulary, run.tokens.max_length, record)
    history = [asdict(metrics) for metrics in result.history]
    write_file(folder / METRICS, {"best_epoch": result.best_epoch, "history": history, "settings": asdict(run)})
    if not result.interrupted:
        checkpoints.clear()
    say(f"Language model of epoch {result.best_epoch or '-'} saved in {folder}")
    return result


def _check_size(train: Texts, run: PretrainRun) -> None:
    needed = run.training.batch_size * 2
    if len(train.flat) < needed:
        raise DataError(
            f"{len(train.flat)} tokens do not fill {run.training.batch_size} streams (expected {needed} or more); "
            "give more texts or a smaller --batch-size"
        )


def _digest(texts: Texts) -> str:
    return hashlib.sha256(texts.flat.numpy().tobytes() + texts.lengths.numpy().tobytes()).hexdigest()
