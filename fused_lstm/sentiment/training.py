"""Classifiers: how one is trained by `loop`, and what it says about texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from .adversary import Adversary
from .batches import NumberedTexts
from .checkpoints import Checkpoints
from .devices import make_accelerator, random_state
from .logs import RunLog
from .loop import Loop, Score, TrainingError, TrainResult
from .metrics import Evaluation
from .model import SentimentClassifier
from .order import rows_by_length, shuffled_rows
from .train_settings import ClassifierTraining

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["ClassifierTraining", "EpochMetrics", "TrainResult", "TrainingError", "evaluate", "fit", "predict"]

EVALUATION_BATCH = 256
EVALUATION_TOKENS = 2**16
Start = Callable[[SentimentClassifier], None]


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


def fit(
    model: SentimentClassifier,
    train: NumberedTexts,
    dev: NumberedTexts,
    classes: Sequence[str],
    settings: ClassifierTraining,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    start: Start = lambda model: None,
    checkpoints: Checkpoints | None = None,
    log: RunLog | None = None,
) -> TrainResult:
    """Initialises and trains ``model``; leaves it with the weights of the best epoch on dev, in evaluation mode.

    ``start`` may put other weights into the initialised model: word vectors, a language model's layers. The same data,
    settings and number of threads give the same bits, also when a run with ``checkpoints`` was killed and repeated.
    An interrupt (Ctrl-C) ends training and keeps the best weights so far; one that comes before the first step is
    passed on. The global random state is left as it was.
    """
    accelerator = make_accelerator(settings)
    with random_state(settings, accelerator.process_index):
        model.initialise(torch.Generator().manual_seed(settings.seed))
        if model.config.regression:
            model.set_ratings(classes)
        start(model)
        task = ClassifierTask(model, train, dev, classes, settings, accelerator)
        return Loop(task, settings, accelerator, checkpoints, log).run(on_epoch)


class ClassifierTask:
    """A `loop.Task`: a step is a batch of texts, of which every process takes its share."""

    metrics = EpochMetrics

    def __init__(
        self,
        model: SentimentClassifier,
        train: NumberedTexts,
        dev: NumberedTexts,
        classes: Sequence[str],
        settings: ClassifierTraining,
        accelerator: Accelerator,
    ) -> None:
        self.module, self.train, self.dev, self.classes = model, train, dev, classes
        self.settings, self.accelerator = settings, accelerator
        self.adversary = Adversary(model.encoder.embedding, settings.adversarial) if settings.adversarial else None
        self.groups = [list(module.parameters()) for module in model.groups()]
        if settings.layer_decay == 1 and not settings.unfreeze:
            self.groups = [[parameter for group in self.groups for parameter in group]]

    def plan(self, epoch: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + epoch)
        return shuffled_rows(self.train.lengths, self.settings.batch_size, generator, self.settings.batch_tokens)

    def samples(self, epoch: int) -> int:
        return len(self.train)

    def loss(self, model: nn.Module, work: Tensor) -> tuple[Tensor, Tensor, int]:
        processes, count = self.accelerator.num_processes, len(work)
        mine = work[self.accelerator.process_index :: processes]
        # A last batch may be smaller than the number of processes; who has nothing to do takes part with no weight.
        batch = self.train.batch(mine if len(mine) else work[:1], self._drawn_share())
        self._batch = [t.to(self.accelerator.device) for t in (batch.tokens, batch.lengths, batch.labels)]
        self._weight = (1 if len(mine) else 0) / count
        if self.adversary is None:
            loss = self._weighed(model)
        else:
            with self.adversary.watching():
                loss = self._weighed(model)
        told = loss if processes == 1 else self.accelerator.reduce(loss.detach(), "sum")
        return loss * self._share(), told, count

    def second_loss(self, model: nn.Module, work: Tensor) -> Tensor | None:
        if self.adversary is None:
            return None
        with self.adversary.attacking():
            return self._weighed(model) * self._share()

    def _weighed(self, model: nn.Module) -> Tensor:
        """The loss of this process's texts, as a part of the mean over the texts of all."""
        tokens, lengths, labels = self._batch
        scores = model(tokens, lengths, raw=True)
        if self.module.config.regression:
            return mse_loss(scores[:, 0], self.module.ratings[labels], reduction="sum") * self._weight
        return cross_entropy(scores, labels, reduction="sum") * self._weight

    def _share(self) -> float:
        """Gradients are averaged over processes, and so are clean and moved texts."""
        return self.accelerator.num_processes / (1 if self.adversary is None else 2)

    def _drawn_share(self) -> float:
        """How much of its texts a batch has. The same for all of them, so that they stay of similar length."""
        least = self.settings.crop
        return 1.0 if least == 1 else least + (1 - least) * torch.rand(()).item()

    def evaluate(self, model: nn.Module) -> Score:
        model.eval()
        scores = _scores(model, self.dev, EVALUATION_BATCH, self.accelerator)
        loss, evaluation, _ = _judge(model, scores, self.dev, self.classes)
        values = {"dev_loss": loss, "dev_accuracy": evaluation.accuracy, "dev_macro_f1": evaluation.macro().f1}
        rank = (-loss,) if self.module.config.regression else (evaluation.accuracy, -loss)
        return Score(rank, values)

    def carried(self) -> dict[str, Tensor]:
        return {}

    def carry(self, tensors: dict[str, Tensor]) -> None:
        """Batches of texts have nothing to hand on."""


@torch.no_grad()
def predict(model: SentimentClassifier, texts: NumberedTexts, batch_size: int = EVALUATION_BATCH) -> Tensor:
    """Probabilities (N, classes), in the order of the texts."""
    return torch.softmax(_evaluated(model, texts, batch_size), dim=1)


def evaluate(
    model: SentimentClassifier, texts: NumberedTexts, classes: Sequence[str]
) -> tuple[float, Evaluation, Tensor]:
    """Mean loss (of a regression: squared error), counts, and the predicted class numbers (N,) of labelled texts."""
    return _judge(model, _evaluated(model, texts, EVALUATION_BATCH), texts, classes)


def _judge(
    model: SentimentClassifier, scores: Tensor, texts: NumberedTexts, classes: Sequence[str]
) -> tuple[float, Evaluation, Tensor]:
    if model.config.regression:  # the score of a class is minus the squared distance to it
        loss = -scores.gather(1, texts.labels[:, None]).mean().item()
    else:
        loss = cross_entropy(scores, texts.labels).item()
    predicted = scores.argmax(dim=1)
    return loss, Evaluation.of(classes, texts.labels.tolist(), predicted.tolist()), predicted


def _evaluated(model: SentimentClassifier, texts: NumberedTexts, batch_size: int) -> Tensor:
    was_training = model.training
    scores = _scores(model.eval(), texts, batch_size)
    model.train(was_training)
    return scores


@torch.no_grad()
def _scores(
    model: nn.Module, texts: NumberedTexts, batch_size: int, accelerator: Accelerator | None = None
) -> Tensor:
    """Scores of all texts, on the CPU; with ``accelerator`` each process computes its share of the batches."""
    device = next(model.parameters()).device
    result = torch.zeros(len(texts), model.config.classes)
    index, processes = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    for rows in rows_by_length(texts.lengths, batch_size, EVALUATION_TOKENS)[index::processes]:
        batch = texts.batch(rows)
        result[rows] = model(batch.tokens.to(device), batch.lengths.to(device)).float().cpu()
    if processes > 1:
        result = accelerator.reduce(result.to(accelerator.device), "sum").cpu()
    return result
