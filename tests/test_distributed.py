"""Two processes over gloo on the CPU: DistributedDataParallel, fully_shard and distributed checkpoints of FusedLSTM.

Each check runs in both processes and compares with the same model in one process on the whole batch.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from fused_lstm import FusedLSTM

T, B, I, H = 5, 4, 3, 6  # noqa: E741


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = FusedLSTM(I, H, 2, bidirectional=True, proj_size=4, dtype=torch.float64)
        self.head = nn.Linear(8, 1, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0]).square().mean()


def fresh() -> tuple[Model, torch.Tensor]:
    torch.manual_seed(5)
    return Model(), torch.randn(T, B, I, dtype=torch.float64)


def alone(steps: int = 0) -> Model:
    """The model after some optimiser steps on the whole batch, and a backward."""
    model, x = fresh()
    train(model, x, steps)
    return model


def mine(x: torch.Tensor) -> torch.Tensor:
    return x.chunk(2, dim=1)[dist.get_rank()]


def whole(t: torch.Tensor) -> torch.Tensor:
    return t.full_tensor() if hasattr(t, "full_tensor") else t


def assert_same_model(model: nn.Module, expected: nn.Module, gradients: bool = True) -> None:
    ours, theirs = dict(model.named_parameters()), dict(expected.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, p in ours.items():
        torch.testing.assert_close(whole(p.detach()), theirs[name].detach(), msg=lambda m, n=name: f"{n}: {m}")
        if gradients:
            torch.testing.assert_close(whole(p.grad), theirs[name].grad, msg=lambda m, n=name: f"d{n}: {m}")


def train(model: nn.Module, x: torch.Tensor, steps: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).backward()
        optimizer.step()
    optimizer.zero_grad()
    model(x).backward()


def check_ddp(_: Path) -> None:
    model, x = fresh()
    wrapped = nn.parallel.DistributedDataParallel(model)
    train(wrapped, mine(x), 2)
    assert_same_model(wrapped.module, alone(2))


def check_ddp_views_and_no_sync(_: Path) -> None:
    """Gradients that are views of buckets, gathered over two halves of each process's share."""
    model, x = fresh()
    wrapped = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True, static_graph=False)
    first, second = mine(x).chunk(2, dim=1)
    with wrapped.no_sync():
        (wrapped(first) / 2).backward()
    (wrapped(second) / 2).backward()
    assert_same_model(wrapped.module, alone())


def shard(model: Model) -> Model:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (2,))
    fully_shard(model.lstm, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def check_fully_shard(_: Path) -> None:
    model, x = fresh()
    model = shard(model)
    held = model.lstm.weight_ih_l0
    assert type(held).__name__ == "DTensor" and held.to_local().shape[0] == 2 * H  # half of 4H
    train(model, mine(x), 2)
    assert_same_model(model, alone(2))


def check_checkpoint(folder: Path) -> None:
    """Saved sharded, loaded sharded, and loaded whole."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

    model, x = fresh()
    model = shard(model)
    train(model, mine(x), 1)
    dcp.save(get_model_state_dict(model), checkpoint_id=folder)
    for wrap in (shard, lambda m: m):
        torch.manual_seed(99)
        other = wrap(Model())
        state = get_model_state_dict(other)
        dcp.load(state, checkpoint_id=folder)
        set_model_state_dict(other, state)
        assert_same_model(other, alone(1), gradients=False)
        assert torch.isfinite(other(x))


CHECKS = {name.removeprefix("check_"): f for name, f in list(globals().items()) if name.startswith("check_")}


def work(rank: int, port: int, names: list[str], folder: str, failures) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    for name in names:
        try:
            CHECKS[name](Path(folder) / name)
        except BaseException as error:
            failures[f"{name}, process {rank}"] = f"{type(error).__name__}: {error}"
            break  # the other process waits for a partner that is out of step: it ends with this one
    dist.barrier() if not failures else None
    os._exit(0)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Both processes run all checks, one after the other: starting them is what takes time."""
    if sys.platform != "linux" or not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("torch was built without gloo")
    import torch.multiprocessing as mp

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = mp.get_context("spawn")
    with context.Manager() as manager:
        failures = manager.dict()
        arguments = (port, list(CHECKS), str(tmp_path_factory.mktemp("checkpoints")), failures)
        processes = [context.Process(target=work, args=(rank, *arguments), daemon=True) for rank in range(2)]
        for p in processes:
            p.start()
        for p in processes:
            p.join(120)
        codes = [p.exitcode for p in processes]
        for p in processes:
            p.kill()
        return dict(failures), codes


@pytest.mark.parametrize("check", list(CHECKS))
def test_two_processes(outcome, check):
    failures, codes = outcome
    found = [text for who, text in failures.items() if who.startswith(check + ",")]
    assert not found, found
    assert failures or codes == [0, 0], f"exit codes {codes}"
