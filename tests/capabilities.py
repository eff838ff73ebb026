"""What torch can do to a module. A capability is a function: ``f(LSTM)`` runs it on that class and raises if it fails.

``LSTM`` is torch.nn.LSTM or fused_lstm.FusedLSTM. Results are compared with ``reference.lstm`` or with the same thing
done another way; deeper tests of each stand in the files that ``TESTS`` names.
"""

from __future__ import annotations

import copy
import io

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fused_lstm import reference

T, B, I, H = 6, 3, 4, 5  # noqa: E741
CAPABILITIES: dict[str, object] = {}
TESTS: dict[str, str] = {}
close = torch.testing.assert_close


def capability(name: str, test: str):
    def register(f):
        CAPABILITIES[name], TESTS[name] = f, test
        return f

    return register


def made(LSTM, dtype=torch.float64, **options) -> nn.LSTM:
    torch.manual_seed(0)
    return LSTM(I, H, dtype=dtype, **options)


def given(dtype=torch.float64, requires_grad=False) -> Tensor:
    return torch.randn(T, B, I, generator=torch.Generator().manual_seed(1), dtype=dtype).requires_grad_(requires_grad)


def defined(m: nn.LSTM, x: Tensor, **more) -> Tensor:
    weights = [p for layer in m.all_weights for p in layer]
    direction = "both" if m.bidirectional else "forward"
    return reference.lstm(x, None, weights, m.num_layers, direction=direction, **more)[0]


def check_training(LSTM, dtype, rtol, **options) -> None:
    m, x = made(LSTM, dtype, **options), given(dtype, requires_grad=True)
    expected = defined(m, x)
    wanted = torch.autograd.grad(expected.sum(), [x, *m.parameters()])
    actual = m(x)[0]
    found = torch.autograd.grad(actual.sum(), [x, *m.parameters()])
    close([actual, *found], [expected, *wanted], rtol=rtol, atol=rtol)


# ---- in nn.LSTM's place


@capability("float64, float32 training", "test_modules_drop_in.py")
def _(LSTM):
    check_training(LSTM, torch.float64, 1e-10, num_layers=2, bidirectional=True)
    check_training(LSTM, torch.float32, 1e-4, num_layers=2, bidirectional=True)


@capability("bfloat16, float16 training", "test_layer_values.py")
def _(LSTM):
    check_training(LSTM, torch.bfloat16, 6e-2)
    check_training(LSTM, torch.float16, 1e-2)


@capability("projection (`proj_size`)", "test_modules_drop_in.py")
def _(LSTM):
    check_training(LSTM, torch.float64, 1e-10, proj_size=3, num_layers=2)


@capability("PackedSequence", "test_functional.py")
def _(LSTM):
    m, x, lengths = made(LSTM), given(), torch.tensor([2, 6, 4])
    y, n = pad_packed_sequence(m(pack_padded_sequence(x, lengths, enforce_sorted=False))[0])
    assert isinstance(m(pack_padded_sequence(x, lengths, enforce_sorted=False))[0], PackedSequence)
    for row, length in enumerate(lengths):
        close(y[:length, row], defined(m, x[:length, row : row + 1])[:, 0])


@capability("copies: pickle, deepcopy, state_dict", "test_modules_drop_in.py")
def _(LSTM):
    m, x, file = made(LSTM), given(), io.BytesIO()
    torch.save(m, file)
    file.seek(0)
    for other in (copy.deepcopy(m), torch.load(file, weights_only=False)):
        close(other(x)[0], m(x)[0])


# ---- what nn.LSTM has no words for


@capability("unsorted `lengths`, without packing", "test_layer_layouts.py")
def _(LSTM):
    m, x, lengths = made(LSTM, bidirectional=True), given(), torch.tensor([2, 6, 4])
    close(m(x, lengths=lengths)[0], defined(m, x, lengths=lengths))


@capability("`resets` inside of a sequence", "test_layer_layouts.py")
def _(LSTM):
    m, x, resets = made(LSTM), given(), torch.zeros(T, B, dtype=torch.bool)
    resets[3, 1] = True
    close(m(x, resets=resets)[0], defined(m, x, resets=resets))


@capability("`recompute`: no gates kept for backward", "test_recompute.py")
def _(LSTM):
    check_training(LSTM, torch.float64, 1e-10, recompute=True)


@capability("DropConnect, zoneout, layer norm, peepholes, ...", "test_variants.py")
def _(LSTM):
    m = made(LSTM, weight_dropout=0.3, zoneout=0.1, peephole=True)
    m(given(requires_grad=True))[0].sum().backward()
    made(LSTM, layer_norm=True)(given())
    made(LSTM, output_gate="cell")(given())


# ---- derivatives


@capability("gradients in eval mode", "test_cuda_device.py")
def _(LSTM):
    m, x = made(LSTM).eval(), given(requires_grad=True)
    close(torch.autograd.grad(m(x)[0].sum(), x), torch.autograd.grad(defined(m, x).sum(), x))


@capability("second derivatives, float64", "test_ops.py")
def _(LSTM):
    m, x = made(LSTM), given(requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: m(x)[0], x, fast_mode=True)


@capability("gradient penalty, float32", "test_transforms_tooling.py")
def _(LSTM):
    found = []
    m, x = made(LSTM, torch.float32), given(torch.float32, requires_grad=True)
    for y in (m(x)[0], defined(m, x)):
        (dx,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        found.append(torch.autograd.grad(dx.pow(2).sum(), list(m.parameters())[:2]))
    close(*found, rtol=1e-3, atol=1e-4)


@capability("forward-mode derivatives, jacrev", "test_transforms_func.py")
def _(LSTM):
    m, x = made(LSTM), given()
    forward, backward = (way(lambda x: m(x)[0])(x) for way in (torch.func.jacfwd, torch.func.jacrev))
    close(forward, backward)


@capability("vmap over inputs", "test_transforms_func.py")
def _(LSTM):
    m, x = made(LSTM), given()
    close(torch.func.vmap(lambda x: m(x)[0])(torch.stack([x, 2 * x]))[1], defined(m, 2 * x))


@capability("vmap over weights (ensembles)", "test_transforms_func.py")
def _(LSTM):
    models, x = [made(LSTM), made(LSTM, bias=True)], given()
    nn.init.ones_(models[1].bias_hh_l0)
    params, buffers = torch.func.stack_module_state(models)
    y = torch.func.vmap(lambda p, b: torch.func.functional_call(models[0], (p, b), (x,))[0])(params, buffers)
    close(y, torch.stack([defined(m, x) for m in models]))


@capability("gradients per sample", "test_transforms_func.py")
def _(LSTM):
    m, x = made(LSTM), given()
    weights = dict(m.named_parameters())

    def loss(weights, row):
        return torch.func.functional_call(m, weights, (row[:, None],))[0].sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 1))(weights, x)
    wanted = torch.autograd.grad(defined(m, x).sum(), list(weights.values()))
    close([g.sum(0) for g in found.values()], list(wanted))


# ---- graphs and export


@capability("torch.compile(fullgraph=True), a new graph at most once over 4 lengths", "test_transforms_compile.py")
def _(LSTM):
    torch._dynamo.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    m = made(LSTM)
    compiled = torch.compile(m, fullgraph=True, backend=backend)
    for steps in (6, 3, 4, 5):
        close(compiled(given()[:steps])[0], defined(m, given()[:steps]))
    assert len(graphs) <= 2


@capability("torch.export, steps and rows dynamic", "test_transforms_export.py")
def _(LSTM):
    m, x = made(LSTM).eval(), given()
    axes = {0: torch.export.Dim("steps", min=2), 1: torch.export.Dim("rows", min=2)}
    program = torch.export.export(m, (x,), dynamic_shapes=(axes,))
    longer = torch.cat([x, x])
    close(program.module()(longer)[0], defined(m, longer))


@capability("torch.jit.script of a module around it", "test_transforms_export.py")
def _(LSTM):
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = made(LSTM)

        def forward(self, x: Tensor) -> Tensor:
            return self.lstm(x)[0]

    close(torch.jit.script(Around())(given()), defined(made(LSTM), given()))


@capability("torch.jit.trace", "test_transforms_export.py")
def _(LSTM):
    close(torch.jit.trace(made(LSTM), given())(given())[0], defined(made(LSTM), given()))


@capability("FLOPs counted", "test_transforms_tooling.py")
def _(LSTM):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        made(LSTM, torch.float32)(given(torch.float32))
    assert counter.get_total_flops() == 2 * T * B * 4 * H * (I + H)


# ---- training tools


@capability("activation checkpointing, both modes", "test_transforms_tooling.py")
def _(LSTM):
    from torch.utils.checkpoint import checkpoint

    m, x = made(LSTM), given(requires_grad=True)
    wanted = torch.autograd.grad(defined(m, x).sum(), x)
    for reentrant in (False, True):
        (found,) = torch.autograd.grad(checkpoint(lambda x: m(x)[0], x, use_reentrant=False).sum(), x)
        close((found,), wanted)
        if reentrant:
            x.grad = None
            checkpoint(lambda x: m(x)[0], x, use_reentrant=True).sum().backward()
            close((x.grad,), wanted)


@capability("inference_mode, autocast to bfloat16", "test_transforms_tooling.py")
def _(LSTM):
    m, x = made(LSTM, torch.float32), given(torch.float32)
    with torch.inference_mode():
        close(m(x)[0], defined(m, x))
    with torch.autocast("cpu", torch.bfloat16):
        y = m(x)[0]
    assert y.dtype == torch.bfloat16
    close(y.float(), defined(m, x), rtol=3e-2, atol=3e-2)


@capability("weight_norm, spectral_norm, orthogonal, pruning", "test_transforms_tooling.py")
def _(LSTM):
    for change in (parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal):
        m = made(LSTM, torch.float32)
        change(m, "weight_hh_l0")
        y = m(given(torch.float32))[0]
        y.sum().backward()
        weights = [m.weight_ih_l0, m.eval().weight_hh_l0, m.bias_ih_l0, m.bias_hh_l0]
        close(m(given(torch.float32))[0], reference.lstm(given(torch.float32), None, weights)[0], rtol=1e-4, atol=1e-5)
    m = made(LSTM)
    prune.random_unstructured(m, "weight_hh_l0", 0.5)
    weights = [m.weight_ih_l0, m.weight_hh_l0, m.bias_ih_l0, m.bias_hh_l0]
    close(m(given())[0], reference.lstm(given(), None, weights)[0])


@capability("frozen weights cost no gradient work", "test_transforms_tooling.py")
def _(LSTM):
    from torch.utils.flop_counter import FlopCounterMode

    m, counts = made(LSTM, torch.float32), []
    for asked in (True, False):
        m.requires_grad_(asked)
        y = m(given(torch.float32, requires_grad=True))[0].sum()
        with FlopCounterMode(display=False) as counter:
            y.backward()
        counts.append(counter.get_total_flops())
    assert 0 < counts[1] < counts[0]


@capability("functional_call, stateless, hooks", "test_transforms_tooling.py")
def _(LSTM):
    m, seen = made(LSTM), []
    m.register_forward_hook(lambda *_: seen.append(1))
    zeros = {name: torch.zeros_like(p) for name, p in m.named_parameters()}
    assert (torch.func.functional_call(m, zeros, (given(),))[0] == 0).all() and seen == [1]


@capability("torch.utils.swap_tensors, `.to` with swapping", "test_torch_suite.py")
def _(LSTM):
    m, x = made(LSTM, torch.float32), given()
    m(x.float())
    torch.utils.swap_tensors(m.weight_ih_l0, nn.Parameter(m.weight_ih_l0.detach() * 2))
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        close(m.to(torch.float64)(x)[0], defined(m, x))
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


@capability("a weight of another shape is refused", "test_modules_drop_in_weights.py")
def _(LSTM):
    m = made(LSTM, torch.float32)
    m.weight_hh_l0.data = torch.zeros(4 * H, H - 2)
    if LSTM is nn.LSTM:
        raise RuntimeError("not run: reads outside of its tensors, may end the process")
    try:
        m(given(torch.float32))
    except RuntimeError as error:
        assert "weight_hh" in str(error) or "w_hh" in str(error)
    else:
        raise AssertionError("computed with a weight of the wrong shape")
