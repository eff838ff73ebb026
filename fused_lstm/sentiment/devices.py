"""Where training runs: one process or several, CPU or GPU, by Accelerate."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

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


def process_count() -> int:
    """How many processes torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this is the process that writes files and speaks."""
    return int(os.environ.get("RANK", "0")) == 0
