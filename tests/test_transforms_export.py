"""FusedLSTM taken out of Python: torch.export, AOTInductor, torch.fx, TorchScript."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from torch import nn

from fused_lstm import FusedLSTM

T, B, I, H = 6, 4, 3, 5  # noqa: E741


class Tagger(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.lstm = FusedLSTM(I, H, 2, bidirectional=True, **options)
        self.head = nn.Linear(2 * H, 2)

    def forward(self, x, hx=None, lengths=None, resets=None):
        y, (h_n, c_n) = self.lstm(x, hx, lengths=lengths, resets=resets)
        return self.head(y), h_n, c_n


def arguments(T: int, B: int) -> tuple:
    hx = torch.randn(4, B, H), torch.randn(4, B, H)
    return torch.randn(T, B, I), hx, torch.randint(0, T + 1, (B,)), torch.rand(T, B) < 0.3


STEPS, ROWS = torch.export.Dim("steps", min=2, max=512), torch.export.Dim("rows", min=2, max=512)
ALL_DYNAMIC = ({0: STEPS, 1: ROWS}, ({1: ROWS}, {1: ROWS}), {0: ROWS}, {0: STEPS, 1: ROWS})


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_export_with_dynamic_steps_and_rows(strict, grad, tmp_path):
    m = Tagger()
    with torch.set_grad_enabled(grad):
        program = torch.export.export(m, arguments(T, B), dynamic_shapes=ALL_DYNAMIC, strict=strict)
    torch.export.save(program, tmp_path / "tagger.pt2")
    loaded = torch.export.load(tmp_path / "tagger.pt2").module()
    for sizes in ((17, 3), (2, 9)):
        given = arguments(*sizes)
        torch.testing.assert_close(loaded(*given), m(*given))
    ops = [n.target for n in program.graph.nodes]
    assert ops.count(torch.ops.fused_lstm.lstm_layer.default) == 2


@pytest.mark.parametrize("strict", [False, True])
def test_exported_program_trains(strict):
    m = FusedLSTM(I, H, batch_first=True)
    x = torch.randn(B, T, I)
    unlifted = torch.export.export(m, (x,), strict=strict).module()
    found = torch.autograd.grad(unlifted(x)[0].pow(2).sum(), list(unlifted.parameters()))
    expected = torch.autograd.grad(m(x)[0].pow(2).sum(), list(m.parameters()))
    torch.testing.assert_close(found, expected)


def test_decompositions_leave_the_operator_whole():
    program = torch.export.export(Tagger().eval(), (torch.randn(T, B, I),)).run_decompositions()
    assert torch.ops.fused_lstm.lstm_layer.default in [n.target for n in program.graph.nodes]


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="AOTInductor compiles C++")
def test_aot_inductor(tmp_path):
    """One layer, nothing to fuse: what is compiled is the call of the operator."""
    m = FusedLSTM(I, H, bidirectional=True).eval()
    quick = {
        "aot_inductor.compile_wrapper_opt_level": "O0",
        "aot_inductor.precompile_headers": False,
        "cpp_cache_precompile_headers": False,
        "cpp.vec_isa_ok": True,  # otherwise it compiles a probe for each instruction set
    }
    with torch.no_grad():
        program = torch.export.export(m, (torch.randn(T, B, I),), dynamic_shapes=({0: STEPS, 1: ROWS},))
        path = torch._inductor.aoti_compile_and_package(
            program, package_path=str(tmp_path / "lstm.pt2"), inductor_configs=quick
        )
        packaged = torch._inductor.aoti_load_package(path)
        for sizes in ((T, B), (17, 3)):
            x = torch.randn(*sizes, I)
            torch.testing.assert_close(packaged(x), m(x))


# ---- torch.fx and TorchScript: as torch.nn.LSTM


def test_fx_takes_it_as_a_leaf():
    m = Tagger()
    traced = torch.fx.symbolic_trace(m, concrete_args={"hx": None, "lengths": None, "resets": None})
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["lstm", "head"]
    x, _, lengths, resets = arguments(T, B)
    torch.testing.assert_close(traced(x, None, None, None), m(x))
    traced = torch.fx.symbolic_trace(m, concrete_args={"hx": None})
    torch.testing.assert_close(traced(x, None, lengths, resets), m(x, None, lengths, resets))


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated", "ignore::torch.jit.TracerWarning")
def test_scripting_is_refused_in_one_sentence_and_tracing_works_inside_of_it():
    for m in (Tagger(), FusedLSTM(I, H)):
        with pytest.raises(RuntimeError, match="torch.jit.script cannot compile FusedLSTM; use torch.jit.trace or"):
            torch.jit.script(m)
    x = torch.randn(T, B, I)
    model = nn.Sequential(FusedLSTM(I, H).eval())
    model[0] = torch.jit.trace(model[0], (x,))
    torch.testing.assert_close(torch.jit.script(model)(x)[0], model(x)[0])
