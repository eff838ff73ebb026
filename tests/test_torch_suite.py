"""What PyTorch's own test-suite asks of torch.nn.LSTM and LSTMCell, asked of FusedLSTM and FusedLSTMCell.

Inputs, references and errors are those of torch's database of modules; the checks are what test_modules.py does with
them on a CPU. Parity with a GPU, transfer between devices and memory formats of images do not apply.
"""

from __future__ import annotations

import copy
import io
import pickle
from unittest import mock

import pytest
import torch
from torch import nn

from fused_lstm import FusedLSTM, FusedLSTMCell

# Imported, these forbid the whole process to set flags of torch.backends, which other tests do.
with mock.patch("torch.backends.disable_global_flags"):
    from torch.testing._internal.common_modules import ModuleErrorEnum, module_db
    from torch.testing._internal.common_utils import freeze_rng_state, gradcheck, gradgradcheck

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
