"""The training loop, for any task: steps, schedule, averaging, the best epoch kept, early stopping, exact resume.

Devices, processes and mixed precision are Accelerate's; the loop and its files are ours, because a run that was killed
must go on between two steps as if nothing had happened, and without unpickling anything.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .averaging import Average
from .checkpoints import Checkpoints, Snapshot
from .errors import UserError
from .logs import NoLog, RunLog
from .progress import Progress
from .run_state import load_optimizer, local_state, optimizer_state, restore_local_state
from .schedules import rate_at

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .train_settings import TrainSettings

_LOOK = 25  # steps between looks at the loss, each of which makes the host wait for a GPU


class TrainingError(UserError):
    """Training cannot go on; the message says what to change."""


class Score(NamedTuple):
    """A model on dev: ``rank`` is compared, the larger the better; ``values`` go into the history."""

    rank: tuple[float, ...]
    values: dict[str, float]


class Task(Protocol):
    """What is learnt. ``groups`` are the parameters from the input to the output; ``metrics`` a dataclass with the
    fields epoch, train_loss, seconds, samples_per_second and those that `evaluate` names."""

    module: nn.Module
    groups: list[list[nn.Parameter]]
    metrics: type

    def plan(self, epoch: int) -> Sequence[Any]:
        """The work of an epoch, a step each: a function of nothing but the epoch."""

    def samples(self, epoch: int) -> int:
        """What the steps of an epoch count up to together."""

    def loss(self, model: nn.Module, work: Any) -> tuple[Tensor, Tensor, int]:
        """What to minimise; what to report, a mean; and how many samples of all processes it is the mean of."""

    def second_loss(self, model: nn.Module, work: Any) -> Tensor | None:
        """What else to minimise in a step, given the gradients of its `loss`."""

    def evaluate(self, model: nn.Module) -> Score: ...

    def carried(self) -> dict[str, Tensor]:
        """State of this process that one step hands to the next."""

    def carry(self, tensors: dict[str, Tensor]) -> None: ...


@dataclass
class TrainResult:
    """What happened; the model itself holds the weights of ``best_epoch``."""

    history: list[Any] = field(default_factory=list)
    best_epoch: int = 0
    interrupted: bool = False
    resumed_at: int | None = None


class Loop:
    """One run of ``task``. With ``checkpoints`` it goes on where an earlier one of the same identity ended."""

    def __init__(
        self,
        task: Task,
        settings: TrainSettings,
        accelerator: Accelerator,
        checkpoints: Checkpoints | None = None,
        log: RunLog | None = None,
        unit: str = "samples",
    ) -> None:
        self.task, self.settings, self.accelerator, self.checkpoints = task, settings, accelerator, checkpoints
        self.log, self.unit = log or NoLog(), unit
        self.model = accelerator.prepare_model(task.module.to(accelerator.device))
        self.bare = accelerator.unwrap_model(self.model)  # forward without the hooks of several processes
        self.optimizer = _optimizer(task.groups, settings)
        self.average = self._new_average()
        self.averaging = settings.averaging == "ema"
        self.total_steps = sum(len(task.plan(epoch)) for epoch in range(1, settings.epochs + 1))
        self.epoch, self.position, self.step = 1, 0, 0
        self.seconds = 0.0
        self.sums = torch.zeros(2, dtype=torch.float64, device=accelerator.device)  # loss, samples of this epoch
        self.best_rank: tuple[float, ...] | None = None
        self.best_weights: dict[str, Tensor] | None = None
        self.result = TrainResult()

    def run(self, on_epoch: Callable[[Any], None] = lambda metrics: None) -> TrainResult:
        """Trains; leaves the module with the weights of the best epoch, in evaluation mode."""
        self._restore()
        try:
            while not self._over():
                self._epoch(on_epoch)
        except KeyboardInterrupt:
            if self.best_weights is None and self.step == 0:
                raise
            self.result.interrupted = True
        finally:
            self.log.close()
        if self.best_weights is not None:
            self.task.module.load_state_dict(self.best_weights)
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        for parameter in self.task.module.parameters():
            parameter.requires_grad_(True)
        self.task.module.eval()
        return self.result

    def _over(self) -> bool:
        if self.epoch > self.settings.epochs:
            return True
        done = len(self.result.history)
        return bool(done) and self.position == 0 and done - self.result.best_epoch >= self.settings.patience

    # --- an epoch

    def _epoch(self, on_epoch: Callable[[Any], None]) -> None:
        self._freeze()
        self.model.train()
        work = self.task.plan(self.epoch)
        title = f"epoch {self.epoch}/{self.settings.epochs}"
        with Progress(self.task.samples(self.epoch), title, self.unit, self.accelerator.is_main_process) as progress:
            progress.start(int(self.sums[1]))
            started = time.perf_counter()
            while self.position < len(work):
                progress.add(self._train_on(work[self.position]))
                self.position += 1
                if self.position % _LOOK == 0:
                    self._look(progress)
                if self.position < len(work) and self._checkpoint_due():
                    self.seconds, started = self.seconds + time.perf_counter() - started, time.perf_counter()
                    self._save()
            self.seconds += time.perf_counter() - started
        self._look(None)
        self._close_epoch(on_epoch)

    def _train_on(self, work: Any) -> int:
        self._set_rates()
        self.optimizer.zero_grad(set_to_none=True)
        loss, told, count = self.task.loss(self.model, work)
        self.accelerator.backward(loss)
        second = self.task.second_loss(self.model, work)
        if second is not None:
            self.accelerator.backward(second)
        if self.settings.clip:
            nn.utils.clip_grad_norm_(self.task.module.parameters(), self.settings.clip)
        self.optimizer.step()
        self.step += 1
        if self._averages_now():
            self.average.update()
        self.sums += torch.stack([told.detach().double() * count, told.new_tensor(count, dtype=torch.float64)])
        return count

    def _averages_now(self) -> bool:
        if self.settings.averaging == "swa":
            return self.step > self.settings.average_from * self.total_steps
        return self.averaging

    def _set_rates(self) -> None:
        settings = self.settings
        rate = settings.lr * rate_at(settings.schedule, self.step, self.total_steps, settings.warmup)
        top = len(self.optimizer.param_groups) - 1
        for depth, group in enumerate(self.optimizer.param_groups):
            group["lr"] = rate / settings.layer_decay ** (top - depth)

    def _freeze(self) -> None:
        if not self.settings.unfreeze:
            return
        top = len(self.task.groups) - 1
        for depth, group in enumerate(self.task.groups):
            for parameter in group:
                parameter.requires_grad_(top - depth < self.epoch)

    def _look(self, progress: Progress | None) -> None:
        loss, samples = (self.sums / self.sums[1].clamp(min=1)).tolist()[0], self.sums[1]
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} at step {self.step}; try a smaller --lr than {self.settings.lr:g}"
            )
        if progress is not None and samples:
            progress.tell(loss)
            self.log.step(self.step, {"train/loss": loss, "train/lr": self.optimizer.param_groups[-1]["lr"]})

    def _close_epoch(self, on_epoch: Callable[[Any], None]) -> None:
        loss, samples = self.sums.tolist()
        averaged = self.average.count > 0
        if averaged:
            self.average.swap()
        score = self.task.evaluate(self.bare)
        metrics = self.task.metrics(
            epoch=self.epoch,
            train_loss=loss / max(samples, 1),
            seconds=self.seconds,
            samples_per_second=samples / self.seconds if self.seconds else 0.0,
            **score.values,
        )
        if self.best_rank is None or score.rank > self.best_rank:
            self.best_rank, self.result.best_epoch = score.rank, self.epoch
            self.best_weights = {k: v.detach().clone() for k, v in self.task.module.state_dict().items()}
        if averaged:
            self.average.swap()
        self.result.history.append(metrics)
        self._start_averaging()
        self.epoch, self.position, self.seconds = self.epoch + 1, 0, 0.0
        self.sums.zero_()
        self.task.carry({})
        self.log.epoch(self.result.history, self.step)
        self._save()
        on_epoch(metrics)

    def _start_averaging(self) -> None:
        """NT-ASGD: dev has not been better for ``average_patience`` epochs."""
        waited = self.epoch - self.result.best_epoch
        if self.settings.averaging == "ntasgd" and not self.averaging:
            self.averaging = waited >= self.settings.average_patience

    def _new_average(self) -> Average:
        decay = self.settings.ema_decay if self.settings.averaging == "ema" else None
        return Average(self.task.module.parameters(), decay)

    # --- checkpoints

    def _checkpoint_due(self) -> bool:
        if self.checkpoints is None:
            return False
        due = self.checkpoints.due(self.step)
        if self.accelerator.num_processes == 1:
            return due
        flag = torch.tensor(float(due), device=self.accelerator.device)  # the clocks of the processes differ
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def _save(self) -> None:
        if self.checkpoints is None:
            return
        self._look(None)
        local = local_state(self.accelerator, self.task.carried())
        if not self.accelerator.is_main_process:
            self.checkpoints.due(self.step)
            return
        averages, count = self.average.state()
        optimizer, groups = optimizer_state(self.optimizer)
        snapshot = Snapshot(
            plain={
                "epoch": self.epoch,
                "position": self.position,
                "step": self.step,
                "seconds": self.seconds,
                "averaging": self.averaging,
                "average": count,
                "optimizer": groups,
                "best_rank": self.best_rank,
                "best_epoch": self.result.best_epoch,
                "threads": torch.get_num_threads(),
                "history": [asdict(metrics) for metrics in self.result.history],
            }
        )
        snapshot.put("model", self.task.module.state_dict())
        snapshot.put("best", self.best_weights or {})
        snapshot.put("average", averages)
        snapshot.put("optimizer", optimizer)
        snapshot.put("local", local)
        snapshot.put("loop", {"sums": self.sums})
        self.checkpoints.save(self.step, snapshot)

    def _restore(self) -> None:
        snapshot = None if self.checkpoints is None else self.checkpoints.load()
        if snapshot is None:
            return
        plain = snapshot.plain
        self.epoch, self.position, self.step = plain["epoch"], plain["position"], plain["step"]
        self.seconds, self.averaging = plain["seconds"], plain["averaging"]
        self.best_rank = None if plain["best_rank"] is None else tuple(plain["best_rank"])
        self.best_weights = snapshot.take("best") or None
        self.result.best_epoch, self.result.resumed_at = plain["best_epoch"], self.step
        self.result.history = [self.task.metrics(**metrics) for metrics in plain["history"]]
        if plain["threads"] != torch.get_num_threads() and self.accelerator.is_main_process:
            self.checkpoints.say(
                f"Warning: goes on with {torch.get_num_threads()} thread(s) what was begun with {plain['threads']}: "
                "last bits may differ from those of a run in one piece."
            )
        self.task.module.load_state_dict(snapshot.take("model"))
        self.average.restore(snapshot.take("average"), plain["average"])
        load_optimizer(self.optimizer, snapshot.take("optimizer"), plain["optimizer"])
        self.sums.copy_(snapshot.tensors["loop/sums"])
        self.task.carry(restore_local_state(self.accelerator, snapshot.take("local")))


def _optimizer(groups: list[list[nn.Parameter]], settings: TrainSettings) -> torch.optim.Optimizer:
    parameters = [{"params": group} for group in groups if group]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    return torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
