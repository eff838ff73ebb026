"""The training loop: bucketed batches, AdamW with a decaying rate, the best epoch on dev kept, early stopping."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .batches import Batch, NumberedTexts
from .errors import UserError
from .metrics import Evaluation
from .model import SentimentClassifier
from .settings import at_least, nonnegative, positive, setting

EVALUATION_BATCH = 256


class TrainingError(UserError):
    """Training cannot go on; the message says what to change."""


@dataclass(frozen=True)
class TrainSettings:
    """Training."""

    epochs: int = setting(10, "at most; the best one on dev is kept", at_least(1))
    batch_size: int = setting(64, "texts in a batch", at_least(1))
    lr: float = setting(2e-3, "AdamW step size at the start, decays linearly to 0", positive)
    weight_decay: float = setting(0.0, "of AdamW", nonnegative)
    clip: float = setting(1.0, "largest norm of the gradient", positive)
    patience: int = setting(3, "stop after N epochs without progress on dev", at_least(1))
    seed: int = setting(1, "same seed and threads, same model")


@dataclass(frozen=True)
class EpochMetrics:
    """One line of the history. ``seconds`` and ``samples_per_second`` are those of training, dev not included."""

    epoch: int
    train_loss: float
    dev_loss: float
    dev_accuracy: float
    dev_macro_f1: float
    seconds: float
    samples_per_second: float

    def line(self) -> str:
        """The same for a person."""
        return (
            f"epoch {self.epoch:2d}  train loss {self.train_loss:.4f}  dev loss {self.dev_loss:.4f}  "
            f"dev accuracy {self.dev_accuracy:7.2%}  macro F1 {self.dev_macro_f1:.4f}  "
            f"{self.seconds:.1f} s  {self.samples_per_second:,.0f} samples/s"
        )


@dataclass
class TrainResult:
    """What happened; the model itself holds the weights of ``best_epoch``."""

    history: list[EpochMetrics] = field(default_factory=list)
    best_epoch: int = 0
    interrupted: bool = False


def fit(
    model: SentimentClassifier,
    train: NumberedTexts,
    dev: NumberedTexts,
    classes: Sequence[str],
    settings: TrainSettings,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
) -> TrainResult:
    """Initialises and trains ``model``; leaves it with the weights of the best epoch on dev, in evaluation mode.

    The same data, settings and number of threads give the same bits. An interrupt (Ctrl-C) ends training and keeps the
    best weights so far; one that comes before the first step is passed on. The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return _Run(model, train, dev, classes, settings).go(on_epoch)


@torch.no_grad()
def predict(model: SentimentClassifier, texts: NumberedTexts, batch_size: int = EVALUATION_BATCH) -> Tensor:
    """Probabilities (N, classes), in the order of the texts."""
    return torch.softmax(_scores(model, texts, batch_size), dim=1)


def evaluate(
    model: SentimentClassifier, texts: NumberedTexts, classes: Sequence[str]
) -> tuple[float, Evaluation, Tensor]:
    """Mean loss, counts, and the predicted class numbers (N,) of labelled texts."""
    with torch.no_grad():
        scores = _scores(model, texts, EVALUATION_BATCH)
        loss = cross_entropy(scores, texts.labels).item()
    predicted = scores.argmax(dim=1)
    return loss, Evaluation.of(classes, texts.labels.tolist(), predicted.tolist()), predicted


def _scores(model: SentimentClassifier, texts: NumberedTexts, batch_size: int) -> Tensor:
    was_training = model.training
    model.eval()
    scores = torch.empty(len(texts), model.config.classes)
    for batch in texts.in_order_of_length(batch_size):
        scores[batch.rows] = model(batch.tokens, batch.lengths)
    model.train(was_training)
    return scores


class _Run:
    """The state of one training run."""

    def __init__(
        self,
        model: SentimentClassifier,
        train: NumberedTexts,
        dev: NumberedTexts,
        classes: Sequence[str],
        settings: TrainSettings,
    ) -> None:
        self.model, self.train, self.dev, self.classes, self.settings = model, train, dev, classes, settings
        self.generator = torch.Generator().manual_seed(settings.seed)
        model.initialise(self.generator)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        self.total_steps = max(1, settings.epochs * math.ceil(len(train) / settings.batch_size))
        self.step = 0
        self.best_rank = (-1.0, 0.0)
        self.best_weights: dict[str, Tensor] | None = None
        self.result = TrainResult()

    def go(self, on_epoch: Callable[[EpochMetrics], None]) -> TrainResult:
        for epoch in range(1, self.settings.epochs + 1):
            try:
                self._epoch(epoch, on_epoch)
            except KeyboardInterrupt:
                self.result.interrupted = True
                if self.best_weights is None and self.step == 0:
                    raise
                break
            if epoch - self.result.best_epoch >= self.settings.patience:
                break
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)
        self.model.eval()
        return self.result

    def _epoch(self, epoch: int, on_epoch: Callable[[EpochMetrics], None]) -> None:
        started, total_loss = time.perf_counter(), 0.0
        self.model.train()
        batches = self.train.shuffled(self.settings.batch_size, self.generator)
        for batch in _with_progress(batches, len(self.train), f"epoch {epoch}/{self.settings.epochs}"):
            total_loss += self._train_on(batch) * len(batch.labels)
        seconds = time.perf_counter() - started
        dev_loss, evaluation, _ = evaluate(self.model, self.dev, self.classes)
        metrics = EpochMetrics(
            epoch,
            total_loss / len(self.train),
            dev_loss,
            evaluation.accuracy,
            evaluation.macro().f1,
            seconds,
            len(self.train) / seconds,
        )
        rank = (evaluation.accuracy, -dev_loss)
        if rank > self.best_rank:
            self.best_rank, self.result.best_epoch = rank, epoch
            self.best_weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.result.history.append(metrics)
        on_epoch(metrics)

    def _train_on(self, batch: Batch) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * (1 - self.step / self.total_steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(self.model(batch.tokens, batch.lengths), batch.labels)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.step += 1
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss became {value} at step {self.step}; try a smaller --lr than {self.settings.lr:g}"
            )
        return value


def _with_progress(batches: Iterable[Batch], samples: int, title: str) -> Iterable[Batch]:
    """The batches, with a bar counting samples on a terminal; as they are elsewhere, or without tqdm."""
    if not sys.stderr.isatty():
        yield from batches
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield from batches
        return
    with tqdm(total=samples, desc=title, unit="samples", unit_scale=True, leave=False) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch.labels))
