"""What a checkpoint needs beside the weights: the optimizer's state, and what each process holds alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Tensors by "<parameter>/<name>"; groups without their parameters, as JSON."""
    state = optimizer.state_dict()
    tensors = {f"{i}/{name}": value for i, values in state["state"].items() for name, value in values.items()
               if isinstance(value, Tensor)}  # fmt: skip
    return tensors, state["param_groups"]


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], groups: list[dict[str, Any]]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/")
        state.setdefault(int(index), {})[name] = value
    groups = [group | ({"betas": tuple(group["betas"])} if "betas" in group else {}) for group in groups]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def local_state(accelerator: Accelerator, carried: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random states and ``carried`` of every process, by "<process>/<name>"; to be called by all of them."""
    mine = {"cpu": torch.get_rng_state(), **{f"carried/{name}": t.detach().cpu() for name, t in carried.items()}}
    if accelerator.device.type == "cuda":
        mine["cuda"] = torch.cuda.get_rng_state(accelerator.device)
    everyone = [mine]
    if accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        everyone = gather_object([mine])
    return {f"{process}/{name}": t for process, state in enumerate(everyone) for name, t in state.items()}


def restore_local_state(accelerator: Accelerator, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sets the random states of this process; returns what it carried."""
    start = f"{accelerator.process_index}/"
    mine = {name[len(start) :]: tensor for name, tensor in tensors.items() if name.startswith(start)}
    torch.set_rng_state(mine.pop("cpu"))
    if "cuda" in mine:
        torch.cuda.set_rng_state(mine.pop("cuda"), accelerator.device)
    return {name.removeprefix("carried/"): tensor.to(accelerator.device) for name, tensor in mine.items()}
