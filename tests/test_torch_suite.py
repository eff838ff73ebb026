"""What PyTorch's own test-suite asks of torch.nn.LSTM and LSTMCell, asked of FusedLSTM and FusedLSTMCell.

Inputs, references and errors are those of torch's database of modules; the checks are what test_modules.py does with
them on a CPU. Parity with a GPU, transfer between devices and memory formats of images do not apply.
"""

from __future__ import annotations

import copy
import io
import pickle
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads
from torch.testing._internal.common_modules import ModuleErrorEnum, module_db
from torch.testing._internal.common_utils import freeze_rng_state, gradcheck, gradgradcheck

from fused_lstm import FusedLSTM, FusedLSTMCell

INFOS = {
    ours: next(info for info in module_db if info.module_cls is theirs)
    for theirs, ours in ((nn.LSTM, FusedLSTM), (nn.LSTMCell, FusedLSTMCell))
}
DTYPES = (torch.float32, torch.float64)
CPU = torch.device("cpu")

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
modules = pytest.mark.parametrize("cls", list(INFOS), ids=lambda c: c.__name__)
dtypes = pytest.mark.parametrize("dtype", DTYPES)
trainings = pytest.mark.parametrize("training", [True, False])


def samples(cls, dtype=torch.float64, training=True, requires_grad=False):
    """A module and its arguments, for each input that torch has for it."""
    info = INFOS[cls]
    for sample in info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=requires_grad, training=training
    ):
        made, given = sample.constructor_input, sample.forward_input
        m = cls(*made.args, **made.kwargs, device="cpu", dtype=dtype).train(training)
        yield m, given.args, given.kwargs, sample


def flat(value) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for part in value for t in flat(part)] if isinstance(value, (tuple, list)) else []


def leaves(value):
    """A copy that may be differentiated by."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_()
    return type(value)(leaves(part) for part in value)


def backward(out) -> None:
    sum(t.sum() for t in flat(out)).backward()


@modules
@dtypes
@trainings
def test_forward(cls, dtype, training):
    for m, args, kwargs, sample in samples(cls, dtype, training):
        with freeze_rng_state():
            out = m(*args, **kwargs)
        assert sample.reference_fn is not None
        torch.testing.assert_close(out, sample.reference_fn(m, *args, **kwargs))


@modules
@dtypes
def test_factory_kwargs(cls, dtype):
    info = INFOS[cls]
    for sample in info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=False, training=True):
        made = sample.constructor_input
        for device in ("cpu", "meta"):
            m = cls(*made.args, **made.kwargs, device=device, dtype=dtype)
            assert {(p.device.type, p.dtype) for p in m.parameters()} == {(device, dtype)}
        with torch.device("meta"):
            assert {p.device.type for p in cls(*made.args, **made.kwargs).parameters()} == {"meta"}


@modules
@trainings
def test_repr(cls, training):
    for m, *_ in samples(cls, training=training):
        assert repr(m) == str(m) and m.__class__.__name__ in repr(m)


@modules
@dtypes
@trainings
def test_pickle_and_save(cls, dtype, training):
    for m, args, kwargs, _ in samples(cls, dtype, training):
        expected = m(*args, **kwargs)
        buffer = io.BytesIO()
        torch.save(m, buffer)
        buffer.seek(0)
        for other in (pickle.loads(pickle.dumps(m)), copy.deepcopy(m), torch.load(buffer, weights_only=False)):
            torch.testing.assert_close(other(*args, **kwargs), expected, rtol=0, atol=0)
        buffer = io.BytesIO()
        torch.save(m.state_dict(), buffer)
        buffer.seek(0)
        fresh = copy.deepcopy(m)
        fresh.reset_parameters()
        fresh.load_state_dict(torch.load(buffer, weights_only=True))
        torch.testing.assert_close(fresh(*args, **kwargs), expected, rtol=0, atol=0)


def strided(t: torch.Tensor) -> torch.Tensor:
    """The same numbers with gaps between them."""
    gaps = t.new_empty(*t.shape, 2)
    gaps[..., 0] = t.detach()
    return gaps[..., 0].requires_grad_(t.requires_grad)


def strided_all(value):
    return strided(value) if isinstance(value, torch.Tensor) else type(value)(strided_all(v) for v in value)


@modules
@trainings
def test_non_contiguous_tensors(cls, training):
    for m, args, _, _ in samples(cls, training=training):
        found = []
        for transform in (leaves, lambda v: leaves(v) if v is None else strided_all(leaves(v))):
            inputs = transform(list(args))
            m.zero_grad()
            out = m(*inputs)
            # cotangents with gaps too
            torch.autograd.backward(flat(out), [strided(torch.ones_like(t) * 1.5) for t in flat(out)])
            found.append([*flat(out), *(t.grad for t in flat(inputs)), *(p.grad.clone() for p in m.parameters())])
        torch.testing.assert_close(found[1], found[0])
        with torch.no_grad():  # and weights
            for name, p in list(m.named_parameters()):
                setattr(m, name, nn.Parameter(strided(p)))
        torch.testing.assert_close(flat(m(*args)), [t.detach() for t in found[0][: len(flat(out))]])


def check_gradients(cls, check, training) -> None:
    # second derivatives take their time: some of the inputs, others in each mode
    chosen = slice(int(training), None, 11) if check is gradgradcheck and cls is FusedLSTM else slice(None)
    for m, args, kwargs, _ in list(samples(cls, training=training, requires_grad=True))[chosen]:
        parameters = dict(m.named_parameters())
        tensors = [t for t in flat(list(args)) if t.requires_grad]

        def function(*values, m=m, args=args, kwargs=kwargs, parameters=parameters, tensors=tensors):
            n = len(tensors)
            given, weights = iter(values[:n]), dict(zip(parameters, values[n:], strict=True))

            def fill(v):
                return next(given) if isinstance(v, torch.Tensor) else tuple(fill(part) for part in v)

            with freeze_rng_state():
                return tuple(flat(torch.func.functional_call(m, weights, tuple(fill(a) for a in args), kwargs)))

        assert check(function, (*tensors, *parameters.values()))


@modules
@trainings
def test_grad(cls, training):
    check_gradients(cls, gradcheck, training)


@modules
@trainings
def test_gradgrad(cls, training):
    check_gradients(cls, gradgradcheck, training)


@modules
def test_train_and_eval_modes(cls):
    """Without the attribute `training` a module fails where the modes differ, and only there."""
    for m, args, kwargs, _ in samples(cls):
        del m.__dict__["training"]
        if INFOS[cls].train_and_eval_differ:
            with pytest.raises(AttributeError, match="training"):
                m(*args, **kwargs)
        else:
            m(*args, **kwargs)


@modules
@dtypes
@trainings
def test_errors(cls, dtype, training):
    info = INFOS[cls]
    found = info.module_error_inputs_func(info, device="cpu", dtype=dtype, requires_grad=False, training=training)
    assert len(found) > 3
    for case in found:
        made, given = case.module_error_input.constructor_input, case.module_error_input.forward_input
        if case.error_on == ModuleErrorEnum.CONSTRUCTION_ERROR:
            with pytest.raises(case.error_type, match=case.error_regex):
                cls(*made.args, **made.kwargs)
            continue
        m = cls(*made.args, **{"device": "cpu", "dtype": dtype, **made.kwargs}).train(training)
        with pytest.raises(case.error_type, match=case.error_regex):
            m(*given.args, **given.kwargs)


@pytest.fixture(params=[False, True], ids=["data", "swap"])
def swap(request):
    torch.__future__.set_swap_module_params_on_conversion(request.param)
    yield request.param
    torch.__future__.set_swap_module_params_on_conversion(False)


@modules
@pytest.mark.parametrize("with_grad", [False, True])
@trainings
def test_to(cls, swap, with_grad, training):
    for m, args, kwargs, _ in samples(cls, training=training):
        before = {name: (id(p), p.detach().clone()) for name, p in m.named_parameters()}
        if with_grad:
            backward(m(*args, **kwargs))
        for dtype in (torch.float32, torch.bfloat16, torch.float64):
            m.to(dtype)
            converted = [t.to(dtype) for t in flat(list(args))]
            hx = () if len(converted) == 1 else (tuple(converted[1:]),)
            assert {t.dtype for t in flat(m(converted[0], *hx))} == {dtype}
        for name, p in m.named_parameters():
            assert id(p) == before[name][0]
            torch.testing.assert_close(p.detach(), before[name][1], rtol=2**-7, atol=2**-9)
            assert (p.grad is not None and p.grad.dtype == torch.float64) == with_grad
        backward(m(*args, **kwargs))


@modules
def test_to_empty(cls, swap):
    for m, args, kwargs, _ in samples(cls):
        meta = copy.deepcopy(m).to("meta")
        with torch.no_grad():
            out = meta(*(_on_meta(a) for a in args), **kwargs)
        assert all(t.is_meta for t in flat(out))
        meta.to_empty(device="cpu")
        meta.load_state_dict(m.state_dict())
        torch.testing.assert_close(meta(*args, **kwargs), m(*args, **kwargs), rtol=0, atol=0)


def _on_meta(value):
    return value.to("meta") if isinstance(value, torch.Tensor) else tuple(_on_meta(v) for v in value)


@modules
@pytest.mark.parametrize("assign", [False, True])
def test_load_state_dict(cls, swap, assign):
    for m, args, kwargs, _ in samples(cls):
        other = copy.deepcopy(m)
        other.reset_parameters()
        other.load_state_dict(m.state_dict(), assign=assign)
        torch.testing.assert_close(other(*args, **kwargs), m(*args, **kwargs), rtol=0, atol=0)


# ---- test_nn.py


def torch_and_fused(*args, **kwargs) -> tuple[nn.LSTM, FusedLSTM]:
    theirs, ours = nn.LSTM(*args, **kwargs), FusedLSTM(*args, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


STATES = [
    # h0, c0 for T=6, B=4, L=3, H=20, and what is said of the first that is wrong
    ((4, 20), (3, 4, 20), "should also be 3-D"),
    ((3, 5, 20), (3, 4, 20), "Expected hidden[0] size (3, 4, 20), got [3, 5, 20]"),
    ((3, 4, 20), (4, 4, 20), "Expected hidden[1] size (3, 4, 20), got [4, 4, 20]"),
    ((3, 4, 21), (3, 4, 20), "Expected hidden[0] size (3, 4, 20), got [3, 4, 21]"),
]


@pytest.mark.parametrize(("h", "c", "words"), STATES)
def test_shapes_of_states(h, c, words):
    for m in torch_and_fused(10, 20, 3):
        with pytest.raises(RuntimeError, match=re.escape(words)):
            m(torch.randn(6, 4, 10), (torch.randn(h), torch.randn(c)))
        with pytest.raises(RuntimeError, match="must be equal to input_size. Expected 10, got 11"):
            m(torch.randn(6, 4, 11))


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"proj_size": 3}], ids=str)
@pytest.mark.parametrize("rows", [(), (4,)])
def test_no_state_is_a_state_of_zeros(options, rows):
    m = FusedLSTM(10, 20, 2, **options)
    n = 4 if m.bidirectional else 2
    x = torch.randn(6, *rows, 10)
    zeros = torch.zeros(n, *rows, m.proj_size or 20), torch.zeros(n, *rows, 20)
    torch.testing.assert_close(m(x), m(x, zeros), rtol=0, atol=0)


def test_graph_may_be_kept():
    m = FusedLSTM(10, 20, 2)
    x = torch.randn(6, 4, 10, requires_grad=True)
    out = m(x)[0].sum()
    found = []
    for _ in range(3):
        found.append(torch.autograd.grad(out, [x, *m.parameters()], retain_graph=True))
    torch.testing.assert_close(found[1:], [found[0]] * 2, rtol=0, atol=0)
    out.backward()
    with pytest.raises(RuntimeError, match="second time"):
        out.backward()


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("options", [{}, {"proj_size": 3}], ids=str)
def test_weight_norm(options):
    theirs, m = torch_and_fused(4, 5, bidirectional=True, num_layers=2, **options)
    x, names = torch.randn(3, 2, 4), ["weight_ih_l0", "weight_hh_l1_reverse"]
    expected = theirs(x)
    for name in names:
        before = getattr(m, name).detach().clone()
        m = nn.utils.weight_norm(m, name=name)
        assert isinstance(getattr(m, f"{name}_g"), nn.Parameter) and name not in dict(m.named_parameters())
        torch.testing.assert_close(getattr(m, name), before)
    torch.testing.assert_close(m(x), expected)
    with torch.no_grad():
        m.weight_ih_l0_g.mul_(2)
        theirs.weight_ih_l0.mul_(2)
    torch.testing.assert_close(m(x), theirs(x))
    for name in names:
        m = nn.utils.remove_weight_norm(m, name=name)
        assert isinstance(getattr(m, name), nn.Parameter)
    torch.testing.assert_close(m(x), theirs(x))


@pytest.mark.parametrize("register", ["weight_norm", "spectral_norm", "orthogonal"])
def test_parametrizations(register):
    m = FusedLSTM(4, 8)
    getattr(nn.utils.parametrizations, register)(m, "weight_hh_l0")
    fresh = nn.LSTM(4, 8).eval()
    x = torch.randn(5, 3, 4)
    m.eval()  # spectral_norm iterates while training
    fresh.load_state_dict({name: getattr(m, name).detach() for name in fresh.state_dict()})
    torch.testing.assert_close(m(x), fresh(x))
    m.train()
    m(x)[0].sum().backward()
    assert all(p.grad is not None for p in m.parameters())
    copied = pickle.loads(pickle.dumps(m.state_dict()))
    m.load_state_dict(copied)
    assert copy.deepcopy(m).eval()(x)[0].shape == (5, 3, 8)


def test_pruning():
    m = FusedLSTM(32, 32)
    x = torch.randn(3, 2, 32)
    prune.l1_unstructured(m, "weight_ih_l0", 0.5)
    assert sum(isinstance(w, nn.Parameter) for w in m._flat_weights) == 3
    masked = m._flat_weights[0]
    assert masked is m.weight_ih_l0 and (masked == 0).sum() == masked.numel() // 2
    sparse = m(x)
    prune.remove(m, "weight_ih_l0")
    assert sum(isinstance(w, nn.Parameter) for w in m._flat_weights) == 4
    torch.testing.assert_close(m(x), sparse)
    prune.global_unstructured(
        [(m, "weight_ih_l0"), (m, "weight_hh_l0")], pruning_method=prune.L1Unstructured, amount=0.2
    )
    m(x)[0].sum().backward()
    assert (m.weight_hh_l0_orig.grad[m.weight_hh_l0_mask == 0] == 0).all()


def test_tied_weights():
    theirs, ours = torch_and_fused(6, 6, 2, dtype=torch.float64)
    x = torch.randn(4, 3, 6, dtype=torch.float64)
    for m in (theirs, ours):
        m.weight_ih_l1 = m.weight_hh_l0
        m.weight_hh_l1 = m.weight_hh_l0
        m.flatten_parameters()
        optimizer = torch.optim.SGD(m.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            m(x)[0].square().mean().backward()
            optimizer.step()
    assert ours.weight_ih_l1 is ours.weight_hh_l0
    torch.testing.assert_close(dict(ours.named_parameters()), dict(theirs.named_parameters()))


def test_dropout_changes_between_calls():
    theirs, ours = torch_and_fused(5, 6, 3, dropout=0.9)
    x = torch.randn(4, 3, 5)
    for p in (0.9, 0.0, 1.0, 0.5):
        outs = []
        for m in (theirs, ours):
            m.dropout = p
            torch.manual_seed(4)
            outs.append(m(x))
        torch.testing.assert_close(outs[1], outs[0])


def test_in_containers():
    class Last(nn.Module):
        def __init__(self, m):
            super().__init__()
            self.m = m

        def forward(self, x):
            return self.m(x)[0]

    m = nn.Sequential(nn.Linear(3, 4), Last(FusedLSTM(4, 5)), nn.Linear(5, 1))
    x = torch.randn(6, 2, 3)
    expected = m(x)
    torch.testing.assert_close(nn.DataParallel(m)(x), expected)  # without a GPU it calls the module itself
    torch.testing.assert_close(copy.deepcopy(m).double()(x.double()).float(), expected, rtol=1e-4, atol=1e-5)
    assert len(list(m.parameters())) == 8 and isinstance(m[1].m.all_weights[0][0], nn.Parameter)


@pytest.mark.parametrize("enforce_sorted", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_packed_and_back(enforce_sorted, batch_first):
    theirs, ours = torch_and_fused(3, 4, 2, bidirectional=True, batch_first=batch_first)
    sequences = [torch.randn(n, 3) for n in ((6, 4, 4, 1) if enforce_sorted else (1, 4, 6, 4))]
    packed = nn.utils.rnn.pack_sequence(sequences, enforce_sorted=enforce_sorted)
    outs = [m(packed) for m in (theirs, ours)]
    assert type(outs[1][0]) is nn.utils.rnn.PackedSequence
    torch.testing.assert_close(outs[1][1], outs[0][1])
    for total in (None, 9):
        padded = [
            nn.utils.rnn.pad_packed_sequence(out, batch_first=batch_first, total_length=total)[0] for out, _ in outs
        ]
        torch.testing.assert_close(padded[1], padded[0])
    unpacked = nn.utils.rnn.unpack_sequence(outs[1][0])
    for k, sequence in enumerate(sequences):  # each as if it were alone
        torch.testing.assert_close(unpacked[k], ours(sequence)[0])
    half = packed.double()
    assert ours.double()(half)[0].data.dtype == torch.float64


def test_per_sample_gradients():
    theirs, ours = torch_and_fused(3, 4, batch_first=True, dtype=torch.float64)
    x = torch.randn(5, 6, 3, dtype=torch.float64)
    expected, actual = [], []
    for m, found in ((theirs, expected), (ours, actual)):
        call_for_per_sample_grads(m, batch_size=5)(x)[0].sum().backward()
        found += [p.grad_sample for p in m.parameters()]
    torch.testing.assert_close(actual, expected)
    ours.zero_grad()
    fresh = FusedLSTM(3, 4, batch_first=True, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="lengths, resets or options were given"):
        call_for_per_sample_grads(fresh, batch_size=5)(x, lengths=torch.full((5,), 6))


def test_stateless_and_hooks():
    m, seen = FusedLSTM(3, 4), []
    x = torch.randn(5, 2, 3, requires_grad=True)
    handles = [
        m.register_forward_pre_hook(lambda *_: seen.append("pre")),
        m.register_forward_hook(lambda *_: seen.append("post")),
        m.register_full_backward_hook(lambda _, inputs, outputs: seen.append(len(inputs))),
        m.weight_hh_l0.register_hook(lambda g: g * 0),
    ]
    m(x)[0].sum().backward()
    assert seen == ["pre", "post", 1] and (m.weight_hh_l0.grad == 0).all() and m.weight_ih_l0.grad.abs().sum() > 0
    for handle in handles:
        handle.remove()
    zeros = {name: torch.zeros_like(p) for name, p in m.named_parameters()}
    assert (torch.func.functional_call(m, zeros, (x,))[0] == 0).all() and (m(x)[0] != 0).any()
