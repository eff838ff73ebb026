"""Where training runs: one process or several, CPU or GPU, by Accelerate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from .errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .train_settings import TrainSettings


class DeviceError(UserError):
    """Training cannot run here; the message holds the remedy."""


def make_accelerator(settings: TrainSettings) -> Accelerator:
    """Joins the processes that torchrun started, if it did. A GPU is used where there is one."""
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise DeviceError('training needs accelerate: pip install "fused_lstm[sentiment]"') from error
    AcceleratorState._reset_state()  # a process could otherwise train with one precision only
    # Frozen layers have no gradient that could be waited for.
    parallel = DistributedDataParallelKwargs(find_unused_parameters=settings.unfreeze)
    precision = {"float32": "no", "bfloat16": "bf16"}[settings.precision]
    return Accelerator(mixed_precision=precision, kwargs_handlers=[parallel])


@contextmanager
def random_state(settings: TrainSettings, process: int) -> Iterator[None]:
    """Torch's random state from the seed, another one for each process; afterwards it is as it was."""
    kept, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it torch refuses cuBLAS
        torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed + 7919 * process)
            yield
    finally:
        torch.use_deterministic_algorithms(kept, warn_only=warned)


def process_count() -> int:
    """How many processes torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this is the process that writes files and speaks."""
    return int(os.environ.get("RANK", "0")) == 0
