"""fused_lstm/convert.py: swapping modules inside a model."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from fused_lstm import FusedLSTM, FusedLSTMCell, convert

I, H = 3, 5  # noqa: E741
X = torch.randn(6, 4, I)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"lstm": nn.LSTM(I, H, 2, bidirectional=True, dropout=0.5)})
        self.decoder = nn.Sequential(nn.Linear(2 * H, I), nn.LSTMCell(I, H))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.encoder["lstm"](x)
        return self.decoder(y[-1])[0]


def test_results_gradients_and_the_same_parameters():
    original = Tagger().eval()
    model = copy.deepcopy(original)
    before = list(model.parameters())
    keys = list(model.state_dict())
    assert convert(model) is model
    assert type(model.encoder["lstm"]) is FusedLSTM and type(model.decoder[1]) is FusedLSTMCell
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True)) and list(model.state_dict()) == keys
    torch.testing.assert_close(model(X), original(X))
    g = torch.randn(4, H)
    found = [torch.autograd.grad(m(X), list(m.parameters()), g) for m in (model, original)]
    torch.testing.assert_close(*found)


def test_report():
    model, report = convert(Tagger(), report=True)
    assert report.swapped == ["encoder.lstm", "decoder.1"] and report.skipped == {}
    assert str(report) == "swapped encoder.lstm\nswapped decoder.1"
    again, report = convert(model, report=True)
    assert again is model and report.swapped == [] and report.skipped == {} and str(report) == "no LSTM found"


@pytest.mark.parametrize("kind, fused", [(nn.LSTM, FusedLSTM), (nn.LSTMCell, FusedLSTMCell)])
def test_the_model_itself(kind, fused):
    original = kind(I, H)
    model, report = convert(original, report=True)
    assert type(model) is fused and type(original) is kind and report.swapped == [""]
    assert str(report) == "swapped (the model itself)"
    assert model.weight_ih is original.weight_ih if kind is nn.LSTMCell else model.weight_ih_l0 is original.weight_ih_l0
    x = X if kind is nn.LSTM else X[0]
    torch.testing.assert_close(model(x), original(x))
    assert convert(model) is model


@pytest.mark.parametrize(
    "options",
    [dict(num_layers=2, bidirectional=True, proj_size=2, bias=False, batch_first=True, dropout=0.25), dict()],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_options_modes_and_frozen_parameters(options):
    original = nn.LSTM(I, H, **options, dtype=torch.float64).eval()
    original.weight_hh_l0.requires_grad_(False)
    model = convert(original)
    assert repr(model) == f"Fused{original!r}" and not model.training
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in original.parameters()]
    x = X.double()
    torch.testing.assert_close(model(x), original(x))
    assert not original.train(False).training and model.train().training and not original.training


def test_hooks_move_and_their_handles_still_work():
    original = nn.LSTM(I, H)
    seen = []
    handle = original.register_forward_hook(lambda m, args, out: seen.append(type(m)))
    original.register_forward_pre_hook(lambda m, args: (args[0] * 0,))
    model = convert(nn.Sequential(original))
    y, _ = model(X)
    torch.testing.assert_close(y, model[0].forward(X * 0)[0])
    assert seen == [FusedLSTM]
    handle.remove()
    model(X)
    assert seen == [FusedLSTM]


def test_a_module_in_several_places_stays_one():
    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.left = nn.LSTM(I, H)
            self.right = self.left
            self.list = nn.ModuleList([self.left, nn.LSTM(I, H)])

    model, report = convert(Siamese(), report=True)
    assert model.left is model.right is model.list[0] is not model.list[1]
    assert report.swapped == ["left", "right", "list.0", "list.1"]


def test_shared_parents():
    inner = nn.Sequential(nn.LSTM(I, H))
    model = convert(nn.ModuleList([inner, inner]))
    assert model[0] is model[1] is inner and type(inner[0]) is FusedLSTM


def test_tied_parameters_stay_tied():
    model = nn.ModuleList([nn.LSTM(I, H), nn.LSTM(I, H)])
    model[1].weight_hh_l0 = model[0].weight_hh_l0
    convert(model)
    assert model[1].weight_hh_l0 is model[0].weight_hh_l0


def test_others_are_left_alone_and_named():
    class Mine(nn.LSTM):
        def forward(self, x):
            return super().forward(x)[0]

    patched = nn.LSTM(I, H)
    patched.forward = lambda x: x
    parametrized = nn.LSTM(I, H)
    parametrizations.weight_norm(parametrized, "weight_hh_l0")
    gru, fused = nn.GRU(I, H), FusedLSTM(I, H)
    modules = dict(
        mine=Mine(I, H), patched=patched, parametrized=parametrized, gru=gru, fused=fused, lstm=nn.LSTM(I, H)
    )
    model, report = convert(nn.ModuleDict(modules), report=True)
    assert report.swapped == ["lstm"]
    assert list(report.skipped) == ["mine", "patched", "parametrized"]
    assert all(model[name] is m for name, m in modules.items() if name != "lstm")
    assert "Mine is a subclass" in report.skipped["mine"]
    assert report.skipped["patched"] == "its forward was replaced on the instance"
    assert "ParametrizedLSTM is a subclass" in report.skipped["parametrized"]
    assert "left alone mine: " in str(report)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_weights_made_by_hooks():
    for change in (
        lambda m: prune.l1_unstructured(m, "weight_hh_l0", amount=0.5),
        lambda m: nn.utils.weight_norm(m, "weight_hh_l0"),
    ):
        original = nn.LSTM(I, H)
        change(original)
        expected = original(X)[0]
        model = convert(original)
        torch.testing.assert_close(model(X)[0], expected)
        model(X)[0].sum().backward()


def test_the_result_is_a_whole_module():
    model = convert(nn.Sequential(nn.LSTM(I, H, 2)))
    expected = model(X)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other(X), expected)
    model.double()
    torch.testing.assert_close(model(X.double())[0], expected[0].double())
    fresh = nn.Sequential(nn.LSTM(I, H, 2))
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh(X), expected)


def test_an_optimizer_made_before_goes_on():
    model = nn.Sequential(nn.LSTM(I, H))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    convert(model)
    before = model(X)[0]
    before.sum().backward()
    optimizer.step()
    assert not torch.allclose(model(X)[0], before)


def test_a_compiled_lstm_does_not_bring_its_compiled_call():
    original = nn.LSTM(I, H)
    original.compile(backend="eager")
    model = convert(original)
    assert model._compiled_call_impl is None
    torch.testing.assert_close(model(X), model.forward(X))


def test_a_model_without_lstm():
    model, report = convert(nn.Linear(2, 2), report=True)
    assert report.swapped == [] and type(model) is nn.Linear
