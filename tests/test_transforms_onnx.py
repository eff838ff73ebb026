"""fused_lstm/onnx.py: one LSTM node per layer, run by onnxruntime with the results of eager."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import fused_lstm.onnx
from fused_lstm import FusedLSTM, lstm_layer

T, B, I, H = 6, 4, 3, 5  # noqa: E741
STEPS, ROWS = torch.export.Dim("steps", min=2, max=512), torch.export.Dim("rows", min=2, max=512)


class Tagger(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.lstm = FusedLSTM(I, H, **options)
        self.head = nn.Linear(H * (1 + self.lstm.bidirectional), 2)

    def forward(self, x, hx=None, lengths=None, resets=None):
        y, (h_n, c_n) = self.lstm(x, hx, lengths=lengths, resets=resets)
        return self.head(y), h_n, c_n


def export(model: nn.Module, args: tuple, **more):
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    table = fused_lstm.onnx.translation_table()
    return torch.onnx.export(model, args, dynamo=True, custom_translation_table=table, verbose=False, **more)


def run(program, args: tuple) -> list[torch.Tensor]:
    session = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed").InferenceSession(
        program.model_proto.SerializeToString()
    )
    values = [t for t in torch.utils._pytree.tree_leaves(args) if t is not None]
    names = [i.name for i in session.get_inputs()]
    feed = {name: t.numpy() for name, t in zip(names, values, strict=True)}
    return [torch.from_numpy(a) for a in session.run(None, feed)]


DEEP = {"num_layers": 2, "bidirectional": True}
CASES = [
    ({"bias": False}, "state"),
    ({}, "lengths"),
    (DEEP, "plain"),
    (DEEP, "lengths and state"),
    ({**DEEP, "batch_first": True}, "lengths and state"),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("options, what", CASES, ids=str)
def test_same_results(options, what):
    m = Tagger(**options).eval()
    states = m.lstm.num_layers * (1 + m.lstm.bidirectional)
    lead = 1 if options.get("batch_first") else 0

    def arguments(T: int, B: int) -> tuple:
        x = torch.randn(B, T, I) if lead else torch.randn(T, B, I)
        hx = (torch.randn(states, B, H), torch.randn(states, B, H)) if "state" in what else None
        lengths = torch.cat([torch.tensor([0, T]), torch.randint(1, T + 1, (B - 2,))]) if "lengths" in what else None
        return x, hx, lengths

    dynamic = (
        {lead: STEPS, 1 - lead: ROWS},
        ({1: ROWS}, {1: ROWS}) if "state" in what else None,
        {0: ROWS} if "lengths" in what else None,
    )
    program = export(m, arguments(T, B), dynamic_shapes=dynamic)
    assert [node.op_type for node in program.model_proto.graph.node].count("LSTM") == m.lstm.num_layers
    for sizes in ((T, B), (11, 7)):
        args = arguments(*sizes)
        torch.testing.assert_close(run(program, args), list(m(*args)))


class Layer(nn.Module):
    """A layer of the functional interface, for what the module has no option for."""

    def __init__(self, **more):
        super().__init__()
        self.weights = nn.ParameterList(nn.LSTM(I, H).parameters())
        self.more = more

    def forward(self, x):
        return lstm_layer(x, None, None, list(self.weights), **self.more)[0]


def test_reverse_alone():
    m = Layer(direction="reverse")
    x = torch.randn(T, B, I)
    torch.testing.assert_close(run(export(m, (x,)), (x,)), [m(x)])


REFUSED = {
    "resets": (Tagger(), lambda: (torch.randn(T, B, I), None, None, torch.rand(T, B) < 0.3), "resets inside"),
    "projection": (Tagger(proj_size=2), None, "projection of h"),
    "mask": (Layer(recurrent_scale=torch.rand(1, B, H)), None, "mask on h"),
    "cell": (Layer(cell="coupled"), None, "cell 'coupled'"),
    "clip": (Layer(cell_clip=1.0), None, "clip of cell"),
    "packed": (Layer(batch_sizes=torch.tensor([4, 3, 1])), lambda: (torch.randn(8, I),), "packed input"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("what", list(REFUSED))
def test_what_a_node_cannot_express_is_refused(what):
    model, args, message = REFUSED[what]
    if what == "projection":
        model.head = nn.Identity()
    with pytest.raises(Exception, match=f"(?s)An ONNX LSTM node has no {message}"):
        export(model.eval(), args() if args else (torch.randn(T, B, I),))


def test_without_onnxscript(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"fused_lstm\[onnx\]"):
        fused_lstm.onnx.translation_table()


def test_packing_is_not_exported_by_torch():
    """The way to variable lengths is lengths=, see above."""
    m = FusedLSTM(I, H)
    p = pack_padded_sequence(torch.randn(T, B, I), torch.tensor([6, 4, 2, 1]))
    with pytest.raises(Exception, match="(?s)packed input|PackedSequence"):
        export(m, (p,))
