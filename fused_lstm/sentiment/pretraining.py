"""How a language model is trained by `loop`: carried state, resets where texts begin, perplexity on dev."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .checkpoints import Checkpoints
from .devices import make_accelerator, random_state
from .language_model import NO_TARGET, LanguageModel
from .logs import RunLog
from .loop import Loop, Score, TrainResult
from .order import rows_by_length
from .recurrent import State
from .streams import Streams, Texts, Window, windows
from .train_settings import TrainSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

_EVALUATION_TEXTS, _EVALUATION_TOKENS = 256, 2**15


@dataclass(frozen=True)
class LanguageModelMetrics:
    """One line of the history. Losses are means over words in nats; samples are words."""

    epoch: int
    train_loss: float
    dev_loss: float
    dev_perplexity: float
    seconds: float
    samples_per_second: float

    def line(self) -> str:
        """The same for a person."""
        return (
            f"epoch {self.epoch:2d}  train loss {self.train_loss:.4f}  dev loss {self.dev_loss:.4f}  "
            f"dev perplexity {self.dev_perplexity:.2f}  {self.seconds:.1f} s  {self.samples_per_second:,.0f} words/s"
        )


def pretrain(
    model: LanguageModel,
    train: Texts,
    dev: Texts,
    settings: TrainSettings,
    bptt: int,
    on_epoch: Callable[[LanguageModelMetrics], None] = lambda metrics: None,
    checkpoints: Checkpoints | None = None,
    log: RunLog | None = None,
) -> TrainResult:
    """As `training.fit`, for language models; ``settings.batch_size`` is the number of streams side by side."""
    accelerator = make_accelerator(settings)
    with random_state(settings, accelerator.process_index):
        model.initialise(torch.Generator().manual_seed(settings.seed))
        task = LanguageModelTask(model, train, dev, settings, bptt, accelerator)
        return Loop(task, settings, accelerator, checkpoints, log, unit="words").run(on_epoch)


@torch.no_grad()
def perplexity(model: LanguageModel, texts: Texts) -> float:
    """Per word, each text from a state of zeros, its first word not counted."""
    total, words = _losses(model.eval(), texts, 0, 1)
    return math.exp(total / max(words, 1))


class LanguageModelTask:
    """A `loop.Task`: a step is a window of all streams, of which every process takes its share."""

    metrics = LanguageModelMetrics

    def __init__(
        self,
        model: LanguageModel,
        train: Texts,
        dev: Texts,
        settings: TrainSettings,
        bptt: int,
        accelerator: Accelerator,
    ) -> None:
        self.module, self.train, self.dev = model, train, dev
        self.settings, self.bptt, self.accelerator = settings, bptt, accelerator
        self.groups = [list(model.parameters())]
        self.states: list[State] | None = None
        self._made: tuple[int, Streams] | None = None

    def _generator(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.settings.seed * 1_000_003 + epoch)

    def plan(self, epoch: int) -> list[Window]:
        return windows(epoch, self.train.steps(self.settings.batch_size), self.bptt, self._generator(-epoch))

    def samples(self, epoch: int) -> int:
        return int((self._streams(epoch).targets != NO_TARGET).sum())

    def _streams(self, epoch: int) -> Streams:
        if self._made is None or self._made[0] != epoch:
            self._made = (epoch, self.train.streams(self.settings.batch_size, self._generator(epoch)))
        return self._made[1]

    def loss(self, model: nn.Module, work: Window) -> tuple[Tensor, Tensor, int]:
        processes = self.accelerator.num_processes
        inside = slice(work.start, work.start + work.length)
        every = Streams(*(t[:, inside] for t in self._streams(work.epoch)))
        count = int((every.targets != NO_TARGET).sum())
        device = self.accelerator.device
        mine = Streams(*(t[self.accelerator.process_index :: processes].to(device) for t in every))
        total, penalty, states = model(mine.tokens, mine.targets, self.states, mine.resets)
        self.states = [(h.detach(), c.detach()) for h, c in states]
        # A fixed number, not that of this window: shorter windows make shorter steps, as Merity et al. scale the rate.
        expected = self.settings.batch_size * self.bptt
        loss = total * processes / expected + penalty * (work.length / self.bptt)
        told = total.detach() / max(count, 1)
        return loss, told if processes == 1 else self.accelerator.reduce(told, "sum"), count

    def second_loss(self, model: nn.Module, work: Window) -> Tensor | None:
        return None

    def evaluate(self, model: nn.Module) -> Score:
        with torch.no_grad():
            total, words = _losses(
                model.eval(), self.dev, self.accelerator.process_index, self.accelerator.num_processes
            )
        if self.accelerator.num_processes > 1:
            sums = torch.tensor([total, words], dtype=torch.float64, device=self.accelerator.device)
            total, words = self.accelerator.reduce(sums, "sum").tolist()
        loss = total / max(words, 1)
        return Score((-loss,), {"dev_loss": loss, "dev_perplexity": math.exp(min(loss, 700.0))})

    def carried(self) -> dict[str, Tensor]:
        pairs = enumerate(self.states or [])
        return {f"{name}{i}": t for i, pair in pairs for name, t in zip("hc", pair)}

    def carry(self, tensors: dict[str, Tensor]) -> None:
        count = len(tensors) // 2
        self.states = [(tensors[f"h{i}"], tensors[f"c{i}"]) for i in range(count)] or None


def _losses(model: LanguageModel, texts: Texts, index: int, processes: int) -> tuple[float, int]:
    """The sum of the losses and the number of words, of every ``processes``-th batch from ``index`` on."""
    device = next(model.parameters()).device
    total, words = 0.0, 0
    for which in rows_by_length(texts.lengths, _EVALUATION_TEXTS, _EVALUATION_TOKENS)[index::processes]:
        tokens, targets, lengths = (t.to(device) for t in texts.rows(which))
        total += model(tokens, targets, lengths=lengths)[0].item()
        words += int((targets != NO_TARGET).sum())
    return total, words
