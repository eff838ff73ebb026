"""What nvcc and ptxas say of the CUDA kernels: they compile, nothing spills. Runs wherever nvcc is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import kernel_report, ptxas, sass

REGISTERS = 65536  # of a multiprocessor
SHARED = {"sm_80": 163 * 1024, "sm_90a": 227 * 1024}  # of a block
CASES = [(source, arch) for source in kernel_report.SOURCES for arch in kernel_report.default_archs(source)]

pytestmark = pytest.mark.skipif(ptxas.compiler() is None, reason="nvcc, the CUDA compiler, is not installed")


def instances(source: Path) -> int:
    """Of how many shapes a source instantiates its kernel."""
    (name,) = re.findall(r"(\w+)\(FUSED_LSTM_INSTANCE\)", source.read_text())
    headers = [path.read_text() for path in source.parent.glob("*_shapes.h")]
    (table,) = (text.split(f"#define {name}(X)", 1)[1] for text in headers if f"#define {name}(X)" in text)
    return len(re.findall(r"X\(\w+(?:, \w+)+\)", table.split("\n\n")[0]))


@pytest.mark.parametrize(("source", "arch"), CASES, ids=lambda value: getattr(value, "stem", value))
def test_nothing_spills(source, arch, tmp_path):
    kernels = ptxas.compile_cubin(source, tmp_path / "out", arch)
    assert len(kernels) == instances(source) > 0
    for kernel, shape in zip(kernels, ptxas.shapes(source, [k.name for k in kernels])):
        print(f"{kernel.name}: {shape}, {kernel.registers} registers")
        assert (kernel.stack, kernel.spills) == (0, 0), kernel
        assert kernel.registers * shape["kThreads"] <= REGISTERS, kernel
        assert kernel.static_shared + shape["kSharedBytes"] <= SHARED[arch], kernel


@pytest.mark.parametrize(("name", "least"), [("stepwise", 20), ("gather", 10)])
def test_launches_for_each_element_do_not_spill(name, least, tmp_path):
    kernels = ptxas.compile_cubin(ptxas.ROOT / f"csrc/cuda/{name}.cu", tmp_path / "out", "sm_90a")
    assert len(kernels) >= least
    assert [k for k in kernels if k.spills] == []


@pytest.mark.parametrize(("source", "arch"), CASES, ids=lambda value: getattr(value, "stem", value))
def test_the_loop_over_steps_in_machine_code(source, arch, tmp_path):
    """Every kernel has one; between blocks of a cluster no fence or flush of a cache is in it."""
    tool = ptxas.disassembler()
    if not tool:
        pytest.skip("nvdisasm is neither beside nvcc nor installed as a Python package")
    ptxas.compile_cubin(source, tmp_path / "out", arch)
    code = sass.functions(ptxas.disassemble(tool, tmp_path / "out"))
    assert len(code) == instances(source)
    for name, body in code.items():
        loop = sass.step_loop(sass.blocks(body))
        assert loop and sass.count(loop.way)["HMMA"] > 0, name
        if source.stem.startswith("cluster"):
            found = [i for i in loop.way + loop.other_way if i.kind == "MEMBAR/CCTL"]
            assert not found and sass.count(loop.way)["push"] > 0, (name, found)


def test_primitives_without_clusters_compile_for_older_devices(tmp_path):
    """What needs sm_90 stays away from code for sm_80; mma, matrices, copies and flags are there."""
    source = tmp_path / "old.cu"
    source.write_text("""
        #include "cuda/primitives.h"
        namespace fused_lstm::cuda {
        __global__ void kernel(float* x, uint32_t* flag) {
          float d[4] = {};
          uint32_t a[4];
          shared_store(16 * thread_rank(), Words4{});
          copy_async(16 * thread_rank(), x), copy_commit(), copy_wait<0>();
          block_sync();
          load_matrices(a, 16 * thread_rank());
          mma<float>(d, a, a[0], a[1]), mma<BFloat16>(d, a, a[0], a[1]), mma<Float16>(d, a, a[0], a[1]);
          exchange_store(x, d[0]);
          flag_release(flag, pack<Float16>(d[0], d[1])), flag_wait(flag, exchange_load(x).word[0]);
          x[block_index()] = round_to_tf32(d[2]);
        }
        }
    """)
    ptxas.compile_cubin(source, tmp_path / "out", "sm_80")
