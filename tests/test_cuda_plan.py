"""Which CUDA family serves what: arithmetic that needs no GPU, and fused_lstm.explain, which tells it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fused_lstm
from fused_lstm.explanation import DEVICES

FLOAT32, FLOAT64, BFLOAT16, FLOAT16 = range(4)
BOTH = 2


def plan(wanted="auto", device="H200", *, T=128, B=64, I=64, H=128, proj=0, direction=0, dtype=BFLOAT16, cell=0,
         scaled=0, tf32=0, clips=0):  # noqa: E741  # fmt: skip
    sizes = [T, B, I, H, proj, direction, dtype, cell, scaled, tf32, clips]
    numbers = list(DEVICES[device]) if isinstance(device, str) else list(device)
    return torch.ops.fused_lstm.cuda_plan(sizes, numbers, wanted)


@pytest.fixture(autouse=True)
def _no_wishes(monkeypatch):
    monkeypatch.delenv("FUSED_LSTM_CUDA_FAMILY", raising=False)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("H", [1, 128, 512, 2048])
def test_nothing_is_recommended_that_was_not_measured(device, H):
    forward, backward, *texts = plan(device=device, H=H)
    assert forward == backward == "stepwise"
    assert all("(no measurement on such a device recommends another)" in text for text in texts)


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16, FLOAT16])
@pytest.mark.parametrize("H", [1, 17, 128])
def test_cluster_serves_who_asks(dtype, H):
    assert plan("cluster", dtype=dtype, H=H, tf32=1)[:2] == ("cluster", "cluster")


def test_forward_and_backward_choose_each_for_themselves():
    """The gradients of float16 are multiplied as TF32, which takes twice the room."""
    forward, backward, _, text = plan("cluster", dtype=FLOAT16, H=512)
    assert (forward, backward) == ("cluster", "stepwise")
    assert "cluster was asked for, but it holds at most 256 hidden units of float16" in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"device": "A100"}, "it needs clusters of blocks: compute capability 9.0 or later"),
        ({"H": 513}, "it holds at most 512 hidden units of bfloat16"),
        ({"dtype": FLOAT64}, "it has no float64 kernels"),
        ({"dtype": FLOAT32}, "torch.backends.cudnn.rnn.fp32_precision does not allow"),
        ({"proj": 8}, "it knows no projection (proj_size)"),
        ({"scaled": 1}, "it knows no recurrent scale"),
        ({"cell": 1}, "it knows the vanilla cell only, not peephole"),
        ({"cell": 8}, "it knows the vanilla cell only, not layer_norm"),
        ({"clips": 1}, "it bounds no cell state (cell_clip)"),
        ({"B": 0}, "there is nothing to do"),
        ({"device": (9, 0, 132, 4096)}, "bytes of shared memory, the device gives 4096"),
        ({"device": (9, 0, 8, 227 * 1024), "H": 512}, "a cluster has 16 blocks, the device 8 multiprocessors"),
        ({"device": (12, 0, 170, 99 * 1024), "H": 512}, "it needs clusters of 16 blocks, the device has at most 8"),
    ],
    ids=str,
)
def test_a_refusal_says_why(arguments, reason):
    forward, _, text, _ = plan("cluster", **arguments)
    assert forward == "stepwise"
    assert f"cluster   cannot: {reason}" in text or reason in text
    assert "forward: stepwise (cluster was asked for, but " in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"H": 2049}, "it holds at most 2048 hidden units of bfloat16"),
        ({"H": 2048, "device": "A100"}, "it needs 128 blocks at once"),
        ({"device": (7, 5, 72, 64 * 1024)}, "it needs compute capability 8.0 or later"),
        ({"device": "L40S", "H": 1024, "dtype": FLOAT32, "tf32": 1}, "bytes of shared memory, the device gives 101376"),
        ({"dtype": FLOAT32, "H": 1025, "tf32": 1}, "it holds at most 1024 hidden units of float32"),
        ({"T": 2**20, "B": 2**12}, "it counts steps times rows in 32 bits"),
    ],
    ids=str,
)
def test_grid_refuses(arguments, reason):
    forward, _, text, _ = plan("grid", **arguments)
    assert forward == "stepwise"
    assert reason in text


def test_grid_deals_the_batch_to_the_multiprocessors():
    """512 units are 32 blocks; of 132 multiprocessors four groups of these are made: directions first, then rows."""
    one, both = (plan("grid", H=512, B=64, direction=d)[2] for d in (0, BOTH))
    for text in (one, both):
        assert "  * grid      1 launch; 4 groups of 32 blocks of 256 threads, " in text
    assert "1 groups of 32 blocks" in plan("grid", H=512, B=8)[2], "one tile of rows cannot be shared"
    assert "  * grid      2 launches; 1 groups of 128 blocks" in plan("grid", H=2048, B=64, direction=BOTH)[2]


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match="must be auto, stepwise, cluster or grid, but is .x.$"):
        plan("x")


def test_numbers_of_the_cluster_family():
    """Tiles of 8 rows and directions are clusters; weights of 512 units in bfloat16 are 2 MiB in each."""
    text = plan("cluster", B=20, H=512, direction=BOTH)[2]
    assert "  * cluster   1 launch; 6 clusters of 16 blocks of 256 threads, " in text
    assert "12 MiB of weights on chip" in text
    assert "    stepwise  512 launches, 2 a step and direction" in text


# --- fused_lstm.explain -----------------------------------------------------------------------------------------------


def test_explain_a_module(monkeypatch):
    monkeypatch.setenv("FUSED_LSTM_CUDA_FAMILY", "cluster")
    lstm = fused_lstm.FusedLSTM(100, 256, num_layers=2, bidirectional=True)
    said = fused_lstm.explain(lstm, 50, 16, dtype=torch.bfloat16, device="H200")
    assert (said.forward, said.backward) == ("cluster", "cluster")
    first, *rest = str(said).splitlines()
    assert first == (
        "each of 2 layers, bfloat16, T 50, B 16, I 100, H 256, both directions, "
        "on H200 (compute capability 9.0, 132 multiprocessors)"
    )
    assert rest[0] == "forward: cluster (FUSED_LSTM_CUDA_FAMILY=cluster)"
    assert any(line.startswith("backward: cluster") for line in rest)
    if fused_lstm.cuda_error:
        assert fused_lstm.cuda_error in rest[-1]


@pytest.mark.parametrize(
    ("options", "launches", "reason"),
    [
        ({"peephole": True}, 2, "not peephole"),
        ({"cell_clip": 1.0}, 2, "it bounds no cell state"),
        ({"recurrent_dropout": 0.1}, 2, "it knows no recurrent scale"),
        ({"layer_norm": True, "proj_size": 2}, 5, "not layer_norm"),
        ({"output_gate": "cell", "zoneout": 0.1}, 4, "not zoneout+output_cell"),
    ],
    ids=str,
)
def test_explain_knows_options(options, launches, reason):
    text = str(fused_lstm.explain(fused_lstm.FusedLSTM(8, 32, **options), 5, 2, dtype=torch.bfloat16, device="H100"))
    assert f"stepwise  {5 * launches} launches, {launches} a step and direction" in text
    assert reason in text


def test_a_plan_for_no_cell():
    with pytest.raises(RuntimeError, match="there is no cell number 99"):
        plan(cell=99)


def test_explain_obeys_torchs_setting_for_tf32(monkeypatch):
    monkeypatch.setenv("FUSED_LSTM_CUDA_FAMILY", "cluster")
    lstm = nn.LSTM(8, 32)
    before = torch.backends.cudnn.rnn.fp32_precision
    try:
        torch.backends.cudnn.rnn.fp32_precision = "tf32"
        assert fused_lstm.explain(lstm, 5, 2, device="H100").forward == "cluster"
        torch.backends.cudnn.rnn.fp32_precision = "ieee"
        assert fused_lstm.explain(lstm, 5, 2, device="H100").forward == "stepwise"
    finally:
        torch.backends.cudnn.rnn.fp32_precision = before


def test_explain_on_the_cpu():
    said = fused_lstm.explain(nn.LSTM(3, 4, proj_size=2), 5, 2)
    assert said.forward == said.backward == fused_lstm.cpu_isa()
    assert str(said).startswith("1 layer, float32, T 5, B 2, I 3, H 4, projected to 2, on the CPU\n")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"lstm": nn.GRU(2, 3)}, TypeError, "explain takes an nn.LSTM or FusedLSTM, but got GRU"),
        ({"steps": 0}, ValueError, "steps and batch must be at least 1, but are 0 and 2"),
        ({"dtype": torch.int8}, ValueError, "dtype must be one of .*, but is torch.int8"),
        ({"device": "TPU"}, ValueError, "device must be a torch device or one of A100, .*, but is 'TPU'"),
        ({"device": "meta"}, ValueError, "device must be a CPU or CUDA device"),
    ],
    ids=str,
)
def test_explain_refuses_what_it_cannot_answer(arguments, error, message):
    with pytest.raises(error, match=message):
        fused_lstm.explain(**{"lstm": nn.LSTM(2, 3), "steps": 4, "batch": 2, **arguments})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_explain_of_a_device_that_is_not_there():
    with pytest.raises(RuntimeError, match="there is no CUDA device here; name one of A100"):
        fused_lstm.explain(nn.LSTM(2, 3), 4, 2, device="cuda")
