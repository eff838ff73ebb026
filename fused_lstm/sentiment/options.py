"""Everything a user can set about a training run, in groups, and the values that suit a data set."""

from __future__ import annotations

import argparse
from dataclasses import Field, asdict, dataclass, fields, replace
from typing import Any

from .corpus import CorpusOptions
from .datasets import DataOptions, ReadingOptions
from .machine import MachineOptions
from .model import ModelConfig
from .report_options import ReportOptions
from .settings import plain_default, settings_of, updated, value_text
from .tokens import TokenOptions
from .train_settings import ClassifierTraining, SafetyOptions
from .transfer import TransferOptions

MANY_TEXTS = 40_000


@dataclass(frozen=True)
class RunOptions:
    """All groups of settings of one run."""

    data: DataOptions = DataOptions()
    reading: ReadingOptions = ReadingOptions()
    corpus: CorpusOptions = CorpusOptions()
    tokens: TokenOptions = TokenOptions()
    model: ModelConfig = ModelConfig()
    transfer: TransferOptions = TransferOptions()
    training: ClassifierTraining = ClassifierTraining()
    safety: SafetyOptions = SafetyOptions()
    report: ReportOptions = ReportOptions()
    machine: MachineOptions = MachineOptions()

    @classmethod
    def groups(cls) -> dict[str, type]:
        """The group dataclasses by the name of their attribute."""
        return {f.name: type(f.default) for f in fields(cls)}

    def set(self, **values: Any) -> RunOptions:
        """The same options with settings of any group replaced by name."""
        return self.given(argparse.Namespace(**values))

    def given(self, namespace: argparse.Namespace) -> RunOptions:
        """The same options with everything replaced that was given."""
        return replace(self, **{name: updated(getattr(self, name), namespace) for name in self.groups()})

    def nested(self) -> dict[str, dict[str, Any]]:
        """All settings by group and name: what `config_file` reads."""
        result = {}
        for name in self.groups():
            group = getattr(self, name)
            result[name] = {key: value for key, value in asdict(group).items() if key in settings_of(group)}
        return result

    def flat(self) -> dict[str, Any]:
        """All settings by name."""
        return {name: value for group in self.nested().values() for name, value in group.items()}


# Chosen on dev parts: a small model for the embedded corpus, large batches for many texts. The small model is quickest
# on one thread, and one thread gives everyone the same bits.
EMBEDDED = RunOptions().set(
    embedding=48,
    hidden=48,
    dropout=0.2,
    input_dropout=0.1,
    word_dropout=0.02,
    min_count=1,
    epochs=5,
    batch_size=32,
    lr=5e-3,
    threads=1,
    baseline_order=4,
)
FEW = RunOptions().set(
    embedding=200, hidden=200, dropout=0.6, input_dropout=0.5, word_dropout=0.05, epochs=6
)
MANY = RunOptions().set(epochs=4, batch_size=128)
PRESETS_TEXT = (
    f"Three defaults in brackets: for the embedded corpus / below / from {MANY_TEXTS:,} training texts on."
)


def defaults_for(embedded: bool, train_size: int) -> RunOptions:
    """The settings for the embedded corpus, or for ``train_size`` training texts of a user."""
    if embedded:
        return EMBEDDED
    return MANY if train_size >= MANY_TEXTS else FEW


def default_text(setting: Field) -> str:
    """The default of a setting for the help: three values where they depend on the data."""
    values = [options.flat()[setting.name] for options in (EMBEDDED, FEW, MANY)]
    if len(set(values)) == 1:
        return plain_default(setting)
    return " / ".join("all" if value is None else value_text(value) for value in values)
