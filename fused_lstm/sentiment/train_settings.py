"""How a model is trained, and how its run is kept safe and told of: settings of users."""

from __future__ import annotations

from dataclasses import dataclass

from .averaging import AVERAGINGS
from .schedules import SCHEDULES
from .settings import at_least, nonnegative, positive, rate, setting, share

OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class TrainSettings:
    """Training."""

    epochs: int = setting(10, "at most; the best one on dev is kept", at_least(1))
    batch_size: int = setting(64, "texts (pretrain: streams) in a batch, of all processes together", at_least(1))
    batch_tokens: int = setting(65_536, "tokens in a batch, padding included, or one text; 0: any", at_least(0))
    optimizer: str = setting("adamw", "what makes steps of gradients", choices=OPTIMIZERS)
    lr: float = setting(2e-3, "its peak rate", positive)
    schedule: str = setting("linear", "how the rate changes over the run; all but constant end at 0", choices=SCHEDULES)
    warmup: float = setting(0.0, "share of the steps over which the rate rises (one-cycle: 0.3)", rate, metavar="P")
    weight_decay: float = setting(0.0, "weights shrink by this times the rate", nonnegative)
    clip: float = setting(1.0, "largest norm of the gradient; 0: any", nonnegative)
    layer_decay: float = setting(1.0, "each layer learns this much slower than the one above (ULMFiT: 2.6)", positive)
    unfreeze: bool = setting(False, "train the head alone in epoch 1, one layer more in each epoch after")
    averaging: str = setting("none", "evaluate and keep an average of the weights", choices=AVERAGINGS)
    ema_decay: float = setting(0.999, "ema: what of the average stays at a step", rate)
    average_from: float = setting(0.7, "swa: share of the steps before it starts", rate, metavar="P")
    average_patience: int = setting(2, "ntasgd: starts after N epochs without progress on dev", at_least(1))
    patience: int = setting(3, "stop after N epochs without progress on dev", at_least(1))
    precision: str = setting("float32", "of products in training; sums stay float32", choices=PRECISIONS)
    deterministic: bool = setting(False, "refuse operations of torch that differ from run to run (GPU)")
    seed: int = setting(1, "same seed and threads, same model")


@dataclass(frozen=True)
class ClassifierTraining(TrainSettings):
    """Training."""

    adversarial: float = setting(
        0.0, "learn from word vectors moved against the model, too, by so much (Miyato: 5); 0: do not. Takes twice "
        "the time", nonnegative, metavar="EPS",
    )
    crop: float = setting(1.0, "least share of a batch's texts that is read, from anywhere in them", share)


@dataclass(frozen=True)
class SafetyOptions:
    """Checkpoints and logs."""

    checkpoint_seconds: float = setting(120.0, "a checkpoint every X seconds, and after each epoch", positive)
    checkpoint_steps: int = setting(0, "and every N steps; 0: by time alone", at_least(0))
    fresh: bool = setting(False, "start anew where an unfinished run could be continued")
    tensorboard: bool = setting(False, "also write a log for TensorBoard")


