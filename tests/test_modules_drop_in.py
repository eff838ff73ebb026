"""fused_lstm/modules.py beside torch.nn.LSTM: the same arguments, names, results, gradients and habits."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import warnings

import pytest
import torch
from drop_in_cases import OPTIONS, B, H, I, P, T, assert_same_run, inputs, pair, state
from torch import nn

from fused_lstm import FusedLSTM

zeros = torch.zeros

# The warning of torch.nn.LSTM that oneDNN has no projections is about nothing that happens here.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", ["batch", "row", "packed", "packed unsorted"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_results_and_gradients(options, kind, batch_first, with_state, dtype):
    theirs, ours = pair(dtype, **options, batch_first=batch_first)
    hx = state(theirs, *(() if kind == "row" else (B,))) if with_state else None
    assert_same_run(theirs, ours, inputs(kind, dtype, batch_first), hx)


@pytest.mark.parametrize("with_state", [False, True])
def test_no_rows(with_state):
    theirs, ours = pair()
    hx = state(theirs, 0) if with_state else None
    assert_same_run(theirs, ours, torch.randn(T, 0, I, dtype=torch.float64), hx)


@pytest.mark.parametrize("batch_first", [False, True])
def test_dropout(batch_first):
    theirs, ours = pair(num_layers=3, dropout=0.5, bidirectional=True, batch_first=batch_first)
    x = inputs("batch", torch.float64, batch_first)
    for mode in (True, False):
        results = []
        for m in (theirs, ours):
            torch.manual_seed(3)
            results.append(m.train(mode)(x))
        torch.testing.assert_close(results[1], results[0])


def test_gradients_in_eval_mode():
    theirs, ours = pair(num_layers=2, dropout=0.5)
    assert_same_run(theirs.eval(), ours.eval(), inputs("batch", torch.float64, False))


def test_hx_may_be_a_list():
    theirs, ours = pair()
    x, hx = inputs("batch", torch.float64, False), list(state(theirs, B))
    torch.testing.assert_close(ours(x, hx), theirs(x, hx))


# ---- construction


def test_signature():
    assert isinstance(FusedLSTM(I, H), nn.LSTM)
    mode, *theirs = list(inspect.signature(nn.RNNBase).parameters.values())  # nn.LSTM hands its arguments on to it
    ours = list(inspect.signature(FusedLSTM).parameters.values())
    ours = [p for p in ours if p.kind != p.KEYWORD_ONLY]
    assert [(p.name, p.default, p.kind) for p in ours] == [(p.name, p.default, p.kind) for p in theirs]
    theirs, ours = (list(inspect.signature(c.forward).parameters) for c in (nn.LSTM, FusedLSTM))
    assert ours == [*theirs, "lengths", "resets"]


@pytest.mark.parametrize("options", [*OPTIONS, dict(batch_first=True, dropout=0.25, num_layers=2)], ids=str)
def test_same_parameters_and_words(options):
    torch.manual_seed(1)
    theirs = nn.LSTM(I, H, **options)
    torch.manual_seed(1)
    ours = FusedLSTM(I, H, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    assert repr(ours) == repr(theirs).replace("LSTM(", "FusedLSTM(")
    assert [[w.shape for w in layer] for layer in ours.all_weights] == [
        [w.shape for w in layer] for layer in theirs.all_weights
    ]
    assert all(a is b for a, b in zip(ours._flat_weights, ours.parameters(), strict=True))
    theirs.load_state_dict(ours.state_dict())


def test_positional_arguments():
    arguments = (I, H, 2, False, True, 0.5, True, P, "cpu", torch.float64)
    assert repr(FusedLSTM(*arguments))[5:] == repr(nn.LSTM(*arguments))
    assert FusedLSTM(*arguments).weight_hr_l1_reverse.dtype == torch.float64


def test_dropout_warning():
    def said(kind):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            kind(I, H, dropout=0.5)
        return [(w.category, str(w.message)) for w in caught]

    assert said(FusedLSTM) == said(nn.LSTM) and len(said(FusedLSTM)) == 1


# ---- autocast


@pytest.mark.parametrize("kind", ["batch", "row"])
@pytest.mark.parametrize("with_state", [False, True])
def test_autocast_dtypes(kind, with_state):
    theirs, ours = pair(torch.float32, num_layers=2, bidirectional=True)
    x, hx = inputs(kind, torch.float32, False), state(theirs, *(() if kind == "row" else (B,)))
    with torch.autocast("cpu", torch.bfloat16):
        results = [m(x, hx if with_state else None) for m in (theirs, ours)]
    for a, b in zip(*[(y, *hc) for y, hc in results], strict=True):
        assert a.dtype == b.dtype == torch.bfloat16
        torch.testing.assert_close(b, a, rtol=0.05, atol=0.02)  # two bfloat16 computations of 2 layers


def test_autocast_takes_inputs_of_another_dtype():
    _, ours = pair(torch.float32)
    x = inputs("batch", torch.float32, False)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(ours(x.bfloat16()), ours(x), rtol=0, atol=0)


# ---- living with the rest of torch


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_copies_are_whole_and_independent(options):
    theirs, ours = pair(**options)
    x = inputs("batch", torch.float64, False)
    expected = ours(x)
    stream = io.BytesIO()
    torch.save(ours, stream)
    stream.seek(0)
    copies = copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), torch.load(stream, weights_only=False)
    with torch.no_grad():
        for p in ours.parameters():
            p.zero_()
    for m in copies:
        assert type(m) is FusedLSTM and repr(m) == repr(ours)
        torch.testing.assert_close(m(x), expected, rtol=0, atol=0)
        assert_same_run(theirs, m, x)


def test_a_copy_of_a_copy_and_of_a_hooked_module():
    _, ours = pair()
    seen = []
    ours.register_forward_hook(lambda m, args, out: seen.append(m))
    twice = copy.deepcopy(copy.deepcopy(ours))
    twice(inputs("batch", torch.float64, False))
    assert seen == [twice]


def test_state_of_an_older_torch():
    """A pickle from before torch 1.8 has no proj_size."""
    _, ours = pair()
    old = {key: value for key, value in ours.__getstate__().items() if key != "proj_size"}
    revived = FusedLSTM.__new__(FusedLSTM)
    revived.__setstate__(old)
    assert revived.proj_size == 0
    x = inputs("batch", torch.float64, False)
    torch.testing.assert_close(revived(x), ours(x))


def test_meta_device_then_to_empty():
    theirs, _ = pair(num_layers=2, bidirectional=True)
    ours = FusedLSTM(I, H, num_layers=2, bidirectional=True, device="meta", dtype=torch.float64)
    y, _ = ours(zeros(T, B, I, device="meta", dtype=torch.float64))
    assert y.is_meta and y.shape == (T, B, 2 * H)
    ours = ours.to_empty(device="cpu")
    ours.load_state_dict(theirs.state_dict())
    assert_same_run(theirs, ours, inputs("batch", torch.float64, False))


def test_skip_init():
    """torch.nn.LSTM itself cannot be built this way."""
    ours = nn.utils.skip_init(FusedLSTM, I, H)
    assert ours.weight_ih_l0.device.type == "cpu" and ours.weight_ih_l0.isnan().all()


@pytest.mark.parametrize("swap", [False, True])
def test_dtype_changes(swap):
    theirs, ours = pair()
    x = inputs("batch", torch.float64, False)
    torch.__future__.set_swap_module_params_on_conversion(swap)
    try:
        assert_same_run(theirs.float(), ours.float(), x.float())
        for m in (ours.half(), ours.bfloat16(), ours.to(torch.float16)):
            y, (h_n, c_n) = m(x.to(m.weight_ih_l0.dtype))
            assert y.dtype == h_n.dtype == c_n.dtype == m.weight_ih_l0.dtype
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def test_swap_tensors_and_assigning_state_dict():
    theirs, ours = pair()
    other, _ = pair()
    x = inputs("batch", torch.float64, False)
    torch.utils.swap_tensors(ours.weight_hh_l0, nn.Parameter(other.weight_hh_l0.detach().clone()))
    theirs.weight_hh_l0.data = other.weight_hh_l0.data
    assert_same_run(theirs, ours, x)
    ours.load_state_dict(other.state_dict(), assign=True)
    assert ours.weight_ih_l0.data_ptr() == other.weight_ih_l0.data_ptr()
    assert_same_run(other, ours, x)


def test_share_memory_and_flatten_parameters():
    theirs, ours = pair()
    ours.share_memory()
    assert all(p.is_shared() for p in ours.parameters())
    before = [p.data_ptr() for p in ours.parameters()]
    assert ours.flatten_parameters() is None
    assert [p.data_ptr() for p in ours.parameters()] == before
    assert_same_run(theirs, ours, inputs("batch", torch.float64, False))


def test_replicas_of_data_parallel():
    theirs, ours = pair(num_layers=2)
    replica = ours._replicate_for_data_parallel()
    for name, p in ours.named_parameters():
        setattr(replica, name, p * 1)  # what torch.nn.parallel.replicate puts there: no parameters
    x = inputs("batch", torch.float64, False)
    torch.testing.assert_close(replica(x), theirs(x))
