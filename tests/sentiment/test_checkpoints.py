"""Checkpoints come back as they were; damage, a full disk and other runs are noticed and lose nothing."""

from __future__ import annotations

import resource

import pytest
import torch

from fused_lstm.sentiment.checkpoints import CheckpointError, Checkpoints, Snapshot

IDENTITY = {"lr": 0.1, "data": "abc"}


def snapshot(value: float, size: int = 3) -> Snapshot:
    result = Snapshot({"step": value, "rank": [0.1, -1 / 3], "none": None})
    result.put("model", {"a": torch.full((size,), value), "empty": torch.empty(0), "scalar": torch.tensor(value)})
    result.put("rng", {"0": torch.tensor([1, 255], dtype=torch.uint8)})
    return result


@pytest.fixture
def said():
    return []


@pytest.fixture
def checkpoints(tmp_path, said):
    return Checkpoints(tmp_path / "checkpoints", IDENTITY, say=said.append)


def values_of(loaded: Snapshot) -> float:
    assert loaded.plain["rank"] == [0.1, -1 / 3]
    assert loaded.take("rng")["0"].tolist() == [1, 255]
    assert loaded.take("model")["empty"].shape == (0,)
    return loaded.take("model")["scalar"].item()


def test_the_newest_two_are_kept_and_the_newest_comes_back(checkpoints, said):
    assert checkpoints.load() is None
    for step in (1, 20, 300):
        assert checkpoints.save(step, snapshot(step))
    assert [path.name for path in sorted(checkpoints.folder.iterdir())] == [
        "step-000000020.safetensors", "step-000000300.safetensors"
    ]  # fmt: skip
    assert values_of(checkpoints.load()) == 300
    checkpoints.clear()
    assert not checkpoints.folder.exists()
    assert said == []


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm",
    [
        flip_a_bit,
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\x80\x04K\x01."),  # a pickle
        lambda path: path.unlink() or path.mkdir(),
    ],
    ids=["bit", "cut", "empty", "foreign", "folder"],
)
def test_a_broken_one_makes_room_for_the_one_before(checkpoints, said, harm):
    checkpoints.save(1, snapshot(1))
    checkpoints.save(2, snapshot(2))
    harm(checkpoints.folder / "step-000000002.safetensors")
    assert values_of(checkpoints.load()) == 1
    assert len(said) == 1
    assert said[0].startswith("Warning: ")
    assert "going back to the checkpoint before it" in said[0]


def test_a_full_disk_costs_the_new_one_alone(checkpoints, said):
    checkpoints.save(1, snapshot(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # writing fails beyond, as on a full disk
    try:
        assert not checkpoints.save(2, snapshot(2, size=100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "no checkpoint at step 2" in said[0]
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-000000001.safetensors"]
    assert values_of(checkpoints.load()) == 1


def test_what_a_kill_left_half_written_is_no_checkpoint(checkpoints):
    checkpoints.save(1, snapshot(1))
    (checkpoints.folder / ".step-000000002-x7.safetensors").write_bytes(b"half")
    assert values_of(checkpoints.load()) == 1
    checkpoints.clear()
    assert not checkpoints.folder.exists()


def test_another_run_is_refused(checkpoints):
    checkpoints.save(1, snapshot(1))
    other = Checkpoints(checkpoints.folder, {"lr": 0.2, "data": "abc"})
    with pytest.raises(CheckpointError, match=r"other settings or data \(lr was 0.1, is 0.2\).*--fresh"):
        other.load()
    with pytest.raises(CheckpointError, match="lr was 0.1, is 0.2"):
        other.check()
    checkpoints.save(2, snapshot(2))
    (checkpoints.folder / "step-000000002.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="lr was 0.1, is 0.2"):
        other.check()
    checkpoints.check()


def test_due_by_steps_and_by_time(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    checkpoints = Checkpoints(tmp_path, IDENTITY, seconds=60, steps=10)
    assert not checkpoints.due(9)
    assert checkpoints.due(10)
    now[0] += 61
    assert checkpoints.due(1)
    checkpoints.save(1, snapshot(1))
    assert not checkpoints.due(10)
    assert checkpoints.due(11)
