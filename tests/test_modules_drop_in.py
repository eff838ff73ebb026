"""fused_lstm/modules.py beside torch.nn.LSTM: the same arguments, names, results, gradients, errors and habits."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

from fused_lstm import FusedLSTM

T, B, I, H, P = 6, 4, 3, 7, 2  # noqa: E741
LENGTHS = torch.tensor([3, 6, 1, 4])  # sorting them is not its own inverse
OPTIONS = [
    {},
    {"bias": False},
    {"bidirectional": True},
    {"proj_size": P},
    {"num_layers": 3},
    {"num_layers": 2, "bidirectional": True, "proj_size": P, "bias": False},
]
TOLERANCE = {torch.float32: dict(rtol=1e-4, atol=1e-5), torch.float64: dict(rtol=1e-10, atol=1e-12)}
zeros = torch.zeros


# The warning of torch.nn.LSTM that oneDNN has no projections is about nothing that happens here.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


def pair(dtype: torch.dtype = torch.float64, **options) -> tuple[nn.LSTM, FusedLSTM]:
    ours, theirs = FusedLSTM(I, H, **options, dtype=dtype), nn.LSTM(I, H, **options, dtype=dtype)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def state(m: nn.LSTM, *rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    n, dtype = m.num_layers * (1 + m.bidirectional), m.weight_hh_l0.dtype
    return torch.randn(n, *rows, m.proj_size or H, dtype=dtype), torch.randn(n, *rows, H, dtype=dtype)


def run(m: nn.LSTM, x, hx, cotangents: list) -> dict[str, torch.Tensor]:
    """Results and gradients by name. The first run draws the cotangents, later ones find them in the list."""
    leaf = {"x": x.data if isinstance(x, PackedSequence) else x}
    if hx is not None:
        leaf |= {"h0": hx[0], "c0": hx[1]}
    leaf = {name: t.detach().clone().requires_grad_() for name, t in leaf.items()}
    inputs = x._replace(data=leaf["x"]) if isinstance(x, PackedSequence) else leaf["x"]
    y, (h_n, c_n) = m(inputs, None if hx is None else (leaf["h0"], leaf["c0"]))
    if isinstance(x, PackedSequence):
        assert isinstance(y, PackedSequence)
        for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
            assert getattr(y, name) is getattr(x, name)
        y = y.data
    if not cotangents:
        cotangents += [torch.randn_like(t) for t in (y, h_n, c_n)]
    leaf |= dict(m.named_parameters())
    found = torch.autograd.grad((y, h_n, c_n), list(leaf.values()), cotangents)
    return {"y": y, "h_n": h_n, "c_n": c_n} | {f"d{name}": g for name, g in zip(leaf, found, strict=True)}


def assert_same_run(theirs: nn.LSTM, ours: FusedLSTM, x, hx=None) -> None:
    cotangents: list = []
    expected, actual = (run(m, x, hx, cotangents) for m in (theirs, ours))
    tolerance = TOLERANCE[expected["y"].dtype]
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], **tolerance, msg=lambda s, n=name: f"{n}: {s}")


def inputs(kind: str, dtype: torch.dtype, batch_first: bool):
    if kind == "row":
        return torch.randn(T, I, dtype=dtype)
    x = torch.randn((B, T, I) if batch_first else (T, B, I), dtype=dtype)
    if kind == "batch":
        return x
    lengths = LENGTHS.sort(descending=True).values if kind == "packed" else LENGTHS
    return pack_padded_sequence(x, lengths, batch_first, enforce_sorted=kind == "packed")


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


def outcome(function):
    """Type and text of what a call raises; the shapes of what it returns."""
    try:
        result = function()
    except Exception as error:
        return type(error), str(error)
    if isinstance(result, nn.Module):
        return "constructed"
    y, states = result
    return [tuple(t.shape) for t in (y, *states)]


@pytest.mark.parametrize(
    "arguments",
    [
        (0, 5), (5, 0), (-1, 5), (3.0, 5), (3, 5.0), (3, 5, 0), (3, 5, 1, 1), (3, 5, 1, "yes"), (3, 5, 1, True, 1),
        (3, 5, 2, True, False, 2.0), (3, 5, 2, True, False, -0.1), (3, 5, 2, True, False, True),
        (3, 5, 2, True, False, "a"), (3, 5, 1, True, False, 0.0, False, 5), (3, 5, 1, True, False, 0.0, False, -1),
    ],
    ids=str,
)  # fmt: skip
def test_construction_errors(arguments):
    ours, theirs = outcome(lambda: FusedLSTM(*arguments)), outcome(lambda: nn.LSTM(*arguments))
    assert ours == theirs and ours != "constructed"


@pytest.mark.parametrize(
    "arguments", [{}, {"input_size": 3}, {"input_size": 3, "hidden_size": 5, "mode": "LSTM"}], ids=str
)
def test_missing_or_unknown_arguments(arguments):
    for kind in (nn.LSTM, FusedLSTM):
        with pytest.raises(TypeError):
            kind(**arguments)


# ---- errors of a call: the same type and text


def x32(*shape: int) -> torch.Tensor:
    return zeros(*shape)


def h32(*sizes: int, width: int = H) -> torch.Tensor:
    return zeros(*sizes, width)


def packed(*shape: int) -> PackedSequence:
    return pack_sequence([zeros(3, *shape), zeros(2, *shape)])


BAD_CALLS = {
    "1-D": lambda m: m(x32(I)),
    "4-D": lambda m: m(x32(T, B, I, 1)),
    "input size": lambda m: m(x32(T, B, I + 1)),
    "input size, row": lambda m: m(x32(T, I + 1)),
    "input size 0": lambda m: m(x32(T, B, 0)),
    "no steps": lambda m: m(x32(0, B, I)),
    "no steps, row": lambda m: m(x32(0, I)),
    "no steps, no rows": lambda m: m(x32(0, 0, I)),
    "no steps, state": lambda m: m(x32(0, B, I), (h32(1, B), h32(1, B))),
    "no rows": lambda m: m(x32(T, 0, I)),
    "float64": lambda m: m(x32(T, B, I).double()),
    "bfloat16": lambda m: m(x32(T, B, I).bfloat16()),
    "int": lambda m: m(x32(T, B, I).int()),
    "float64 and input size": lambda m: m(x32(T, B, I + 1).double()),
    "not a tensor": lambda m: m([1.0]),
    "h 2-D": lambda m: m(x32(T, B, I), (h32(B), h32(1, B))),
    "c 2-D": lambda m: m(x32(T, B, I), (h32(1, B), h32(B))),
    "hx 2-D": lambda m: m(x32(T, B, I), (h32(1), h32(1))),
    "hx 3-D, row": lambda m: m(x32(T, I), (h32(1, 1), h32(1, 1))),
    "h layers": lambda m: m(x32(T, B, I), (h32(2, B), h32(1, B))),
    "c layers": lambda m: m(x32(T, B, I), (h32(1, B), h32(2, B))),
    "h rows": lambda m: m(x32(T, B, I), (h32(1, B + 1), h32(1, B))),
    "c rows": lambda m: m(x32(T, B, I), (h32(1, B), h32(1, 1))),
    "h size": lambda m: m(x32(T, B, I), (h32(1, B, width=H + 1), h32(1, B))),
    "c size": lambda m: m(x32(T, B, I), (h32(1, B), h32(1, B, width=1))),
    "h size, row": lambda m: m(x32(T, I), (h32(1, width=H + 1), h32(1))),
    "h and input size": lambda m: m(x32(T, B, I + 1), (h32(2, B), h32(1, B))),
    "hx a tensor": lambda m: m(x32(T, B, I), h32(1, B)),
    "hx of one": lambda m: m(x32(T, B, I), (h32(1, B),)),
    "hx of three": lambda m: m(x32(T, B, I), (h32(1, B),) * 3),
    "hx with None": lambda m: m(x32(T, B, I), (h32(1, B), None)),
    "x on meta": lambda m: m(x32(T, B, I).to("meta")),
    "x on meta, state": lambda m: m(x32(T, B, I).to("meta"), (h32(1, B), h32(1, B))),
    "h on meta": lambda m: m(x32(T, B, I), (h32(1, B).to("meta"), h32(1, B))),
    "c on meta": lambda m: m(x32(T, B, I), (h32(1, B), h32(1, B).to("meta"))),
}


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("call", list(BAD_CALLS))
def test_errors_of_a_call(call, batch_first):
    theirs, ours = pair(torch.float32, batch_first=batch_first)
    assert outcome(lambda: BAD_CALLS[call](ours)) == outcome(lambda: BAD_CALLS[call](theirs))


@pytest.mark.parametrize("options", [dict(proj_size=P), dict(num_layers=2, bidirectional=True)], ids=str)
@pytest.mark.parametrize("sizes", [(1, B, H), (1, B, P), (2, B, P), (4, B, H), (4, 1, H)], ids=str)
def test_errors_of_states_follow_the_options(options, sizes):
    theirs, ours = pair(torch.float32, **options)
    for hx in ((zeros(sizes), zeros(sizes)), (state(theirs, B)[0], zeros(sizes))):
        expected = outcome(lambda: theirs(x32(T, B, I), hx))  # noqa: B023
        assert outcome(lambda: ours(x32(T, B, I), hx)) == expected  # noqa: B023


@pytest.mark.parametrize("dtypes", [(torch.float64, torch.float32), (torch.float32, torch.float64)], ids=str)
@pytest.mark.parametrize("which", ["h", "c", "both"])
def test_states_of_another_dtype(dtypes, which):
    """The same type; torch's text is about a matrix product or oneDNN, ours names the tensor."""
    theirs, ours = pair(dtypes[0])
    hx = [t.to(dtypes[1] if which in (name, "both") else dtypes[0]) for name, t in zip("hc", state(theirs, B))]
    x = torch.zeros(T, B, I, dtype=dtypes[0])
    name = "h0" if which != "c" else "c0"
    with pytest.raises(RuntimeError, match=f"{name} must be {str(dtypes[0])[6:]} but is {str(dtypes[1])[6:]}"):
        ours(x, tuple(hx))
    if (dtypes[0], which) != (torch.float64, "c"):  # torch adds a float32 c0 to float64
        with pytest.raises(RuntimeError):
            theirs(x, tuple(hx))


def test_packed_errors_of_the_same_type():
    theirs, ours = pair(torch.float32)
    on_meta = PackedSequence(zeros(5, I, device="meta"), torch.tensor([2, 2, 1]))
    for bad in (packed(I + 1), packed(1, I), packed(I).double(), on_meta):
        for m in (theirs, ours):
            with pytest.raises(RuntimeError):
                m(bad)
    with pytest.raises(RuntimeError, match=f"Expected {I}, got {I + 1}"):
        ours(packed(I + 1))


@pytest.mark.parametrize(
    "h, c, message",
    [
        (h32(1, 3), h32(1, 2), r"Expected hidden\[0\] size \(1, 2, 7\), got \[1, 3, 7\]"),
        (h32(1, 2), h32(1, 3), r"Expected hidden\[1\] size \(1, 2, 7\), got \[1, 3, 7\]"),
        (h32(1, 2, width=H - 1), h32(1, 2), r"Expected hidden\[0\] size \(1, 2, 7\), got \[1, 2, 6\]"),
        (h32(2), h32(2), r"Expected hidden\[0\] size \(1, 2, 7\), got \[2, 7\]"),
        (zeros(0), h32(1, 2), r"Expected hidden\[0\] size \(1, 2, 7\), got \[0\]"),
    ],
)
def test_packed_with_a_wrong_state(h, c, message):
    """torch.nn.LSTM reads out of bounds here and may take the process with it, so there is nothing to compare with."""
    _, ours = pair(torch.float32)
    with pytest.raises(RuntimeError, match=message):
        ours(packed(I), (h, c))


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l1_reverse"])
@pytest.mark.parametrize("shape", [(0,), (1,), (H,), (4 * H + 1, H), (4 * H - 4, I), ()], ids=str)
@pytest.mark.parametrize("grad", [False, True])
def test_malformed_weights_raise(name, shape, grad):
    """torch.nn.LSTM may read out of bounds here."""
    _, ours = pair(torch.float32, num_layers=2, bidirectional=True, proj_size=P)
    getattr(ours, name).data = zeros(shape)
    for x in (x32(T, B, I), packed(I)):
        with torch.set_grad_enabled(grad), pytest.raises(RuntimeError):
            ours(x)


def test_weights_of_another_dtype_or_missing_raise():
    _, ours = pair(torch.float32)
    ours.weight_hh_l0.data = ours.weight_hh_l0.data.double()
    with pytest.raises(RuntimeError, match="w_hh must be float32 but is float64"):
        ours(x32(T, B, I))
    del ours.weight_hh_l0
    with pytest.raises(AttributeError, match="weight_hh_l0"):
        ours(x32(T, B, I))


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


# ---- weights that change between calls: never a stale one


def change_in_place(m):
    with torch.no_grad():
        m.weight_hh_l0.mul_(2)


def change_data(m):
    m.bias_ih_l0.data = m.bias_ih_l0.data + 1


def change_by_optimizer(m):
    for p in m.parameters():
        p.grad = torch.ones_like(p)
    torch.optim.SGD(m.parameters(), lr=0.1).step()


def change_by_state_dict(m):
    m.load_state_dict({name: t * 3 for name, t in m.state_dict().items()})


def change_by_assignment(m):
    m.weight_ih_l0 = nn.Parameter(m.weight_ih_l0.detach() * -1)


def change_by_plain_tensor(m):
    """What WeightDrop recipes do."""
    weight = m.weight_hh_l0.detach() * 0.5
    del m.weight_hh_l0
    m.weight_hh_l0 = weight


def change_by_storage(m):
    m.weight_hh_l0.data.untyped_storage().copy_(torch.zeros_like(m.weight_hh_l0).untyped_storage())


def change_by_parametrization(m):
    class Half(nn.Module):
        def forward(self, w):
            return w * 0.5

    parametrize.register_parametrization(m, "weight_ih_l0", Half())


def change_by_new_weight_norm(m):
    parametrizations.weight_norm(m, "weight_hh_l0")
    m.parametrizations.weight_hh_l0.original0.data *= 2


def change_by_pruning(m):
    prune.l1_unstructured(m, "weight_hh_l0", amount=0.5)


CHANGES = [value for name, value in list(globals().items()) if name.startswith("change_")]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("grad", [False, True])
def test_changed_weights_count(change, grad):
    theirs, ours = pair()
    x = inputs("batch", torch.float64, False)
    with torch.set_grad_enabled(grad):
        before = ours(x)[0].clone()
    for m in (theirs, ours):
        change(m)
    with torch.set_grad_enabled(grad):
        actual = ours(x)[0]
    assert not torch.allclose(actual, before)
    # torch.nn.LSTM itself keeps the old weights after a change by parametrization or by plain tensor; a copy does not.
    fresh = nn.LSTM(I, H, dtype=torch.float64)
    with torch.no_grad():
        for name, p in fresh.named_parameters():
            p.copy_(getattr(theirs, name))
    torch.testing.assert_close(actual, fresh(x)[0])


def test_parametrized_weights_get_gradients_and_may_be_undone():
    theirs, ours = pair()
    parametrizations.weight_norm(ours, "weight_hh_l0")
    parametrizations.weight_norm(theirs, "weight_hh_l0")
    x = inputs("batch", torch.float64, False)
    assert_same_run(theirs, ours, x)
    parametrize.remove_parametrizations(ours, "weight_hh_l0")
    assert type(ours) is FusedLSTM and "weight_hh_l0" in dict(ours.named_parameters())
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_weight_norm_by_hook():
    theirs, ours = pair()
    for m in (theirs, ours):
        nn.utils.weight_norm(m, "weight_hh_l0")
        m.weight_hh_l0_g.data.mul_(1.5)
    assert_same_run(theirs, ours, inputs("batch", torch.float64, False))


def test_functional_call():
    theirs, ours = pair()
    x = inputs("batch", torch.float64, False)
    before = ours(x)
    swapped = {name: torch.randn_like(p) for name, p in ours.named_parameters()}
    expected = torch.func.functional_call(theirs, swapped, (x,))
    torch.testing.assert_close(torch.func.functional_call(ours, swapped, (x,)), expected)
    torch.testing.assert_close(ours(x), before, rtol=0, atol=0)

    def loss(parameters, m):
        return torch.func.functional_call(m, parameters, (x,))[0].pow(2).sum()

    torch.testing.assert_close(torch.func.grad(loss)(swapped, ours), torch.func.grad(loss)(swapped, theirs))


def test_results_of_earlier_calls_stay():
    _, ours = pair(num_layers=2)
    other = FusedLSTM(I, H, 2, dtype=torch.float64)
    xs = [inputs("batch", torch.float64, False) for _ in range(4)]
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            alone = [[t.clone() for t in (y, *hc)] for y, hc in map(ours, xs)]
            kept = []
            for x in xs:
                y, hc = ours(x)
                kept.append([y, *hc])
                other(x * 2)
        torch.testing.assert_close(kept, alone, rtol=0, atol=0)


def test_backward_of_interleaved_graphs():
    theirs, ours = pair()
    other = FusedLSTM(I, H, dtype=torch.float64)
    xs = [inputs("batch", torch.float64, False).requires_grad_() for _ in range(3)]
    graphs = [(ours(x)[0], other(x)[0]) for x in xs]
    for x, (y, _) in reversed(list(zip(xs, graphs, strict=True))):
        (actual,) = torch.autograd.grad(y.sum(), x)
        (expected,) = torch.autograd.grad(theirs(x)[0].sum(), x)
        torch.testing.assert_close(actual, expected)


def test_double_backward():
    theirs, ours = pair(num_layers=2)
    x = inputs("batch", torch.float64, False).requires_grad_()

    def penalty(m):
        (slope,) = torch.autograd.grad(m(x)[0].pow(2).sum(), x, create_graph=True)
        return torch.autograd.grad(slope.pow(2).sum(), [x, *m.parameters()], allow_unused=True)

    for actual, expected in zip(penalty(ours), penalty(theirs), strict=True):
        torch.testing.assert_close(actual, expected)


def test_training_step_by_step():
    theirs, ours = pair(num_layers=2, bidirectional=True)
    x, target = inputs("batch", torch.float64, False), torch.randn(T, B, 2 * H, dtype=torch.float64)
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.05) for m in (theirs, ours)]
    for _ in range(5):
        losses = []
        for m, optimizer in zip((theirs, ours), optimizers, strict=True):
            optimizer.zero_grad()
            loss = (m(x)[0] - target).pow(2).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(m.parameters(), 0.1)
            optimizer.step()
            losses.append(loss.detach())
        torch.testing.assert_close(losses[1], losses[0])
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_another_class_under_torch_nn_lstm(monkeypatch):
    """Code that puts FusedLSTM in the place of torch.nn.LSTM must not make it its own base class."""
    monkeypatch.setattr(nn, "LSTM", FusedLSTM)
    monkeypatch.setattr(nn.modules.rnn, "LSTM", FusedLSTM)
    m = nn.LSTM(I, H, 2, dtype=torch.float64)
    m = pickle.loads(pickle.dumps(copy.deepcopy(m)))
    assert m(inputs("packed unsorted", torch.float64, False), state(m, B))[1][0].shape == (2, B, H)
