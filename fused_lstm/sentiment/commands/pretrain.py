"""pretrain: a language model to start classifiers from."""

from __future__ import annotations

import argparse

from ..corpus import CorpusOptions
from ..data_help import DATA_HELP
from ..datasets import DataOptions, ReadingOptions, open_dataset
from ..devices import is_main_process
from ..language_model import LanguageModelConfig
from ..machine import MachineOptions
from ..pretrain_run import PretrainOptions, PretrainRun, gather_texts, run_pretraining
from ..settings import build
from ..tokens import TokenOptions
from ..train_settings import SafetyOptions, TrainSettings

INTERRUPTED = 130
SUMMARY = "train a language model on texts, labels unseen, for train --init-from"
DETAILS = (
    f"{DATA_HELP}\nTexts that dev or test hold are never trained on. Perplexity is per word, the first of a text not "
    "counted.\nKilled, the same command goes on from the last checkpoint, to the same weights."
)


def groups() -> dict[str, type]:
    return {
        "pretraining": PretrainOptions,
        "data": DataOptions,
        "reading": ReadingOptions,
        "corpus": CorpusOptions,
        "tokens": TokenOptions,
        "language_model": LanguageModelConfig,
        "training": TrainSettings,
        "safety": SafetyOptions,
        "machine": MachineOptions,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything is a setting."""


def run(arguments: argparse.Namespace) -> int:
    options = {name: build(group, arguments) for name, group in groups().items()}
    options["machine"].apply()
    say = _say if is_main_process() else _silent
    dataset = open_dataset(options["data"], options["reading"], options["corpus"])
    for note in dataset.notes:
        say(note)
    more = options["pretraining"].more_texts
    texts, dev = gather_texts(dataset, more, options["reading"], say)
    settings = PretrainRun(
        options["pretraining"], options["tokens"], options["language_model"],
        options["training"], options["safety"], options["machine"],
    )  # fmt: skip
    result = run_pretraining(texts, dev, settings, say)
    return INTERRUPTED if result.interrupted else 0


def _say(line: str) -> None:
    print(line, flush=True)


def _silent(line: str) -> None:
    """Other processes leave speaking to the main one."""
