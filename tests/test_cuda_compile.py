"""What nvcc and ptxas say of the kernels with weights on chip: they compile, nothing spills. Runs wherever nvcc is."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "csrc/cuda").glob("cluster_*.cu"))
REGISTERS = 65536  # of a multiprocessor
TYPES = {"BFloat16": "NS_8BFloat16E", "Float16": "NS_7Float16E", "float": "f"}

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc, the CUDA compiler, is not installed")


@dataclass
class Kernel:
    name: str
    registers: int
    stack: int
    spills: int


def shapes(source: Path) -> list[tuple[str, int, int, int]]:
    """Type, hidden units, blocks, and what the last number means: those that a source instantiates."""
    (name,) = re.findall(r"(\w+)\(FUSED_LSTM_INSTANCE\)", source.read_text())
    text = (ROOT / "csrc/cuda/cluster_shapes.h").read_text().split(f"#define {name}(X)", 1)[1].split("\n\n")[0]
    return [(t, int(h), int(c), int(k)) for t, h, c, k in re.findall(r"X\((\w+), (\d+), (\d+), (\d+)\)", text)]


def nvcc(source: Path, folder: Path, *flags: str) -> str:
    command = ["nvcc", "-std=c++20", "-O3", "-I", str(ROOT / "csrc"), "-Xcompiler", "-Wall,-Wextra,-Werror"]
    command += [*flags, "-o", str(folder / "out"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def report(text: str) -> list[Kernel]:
    """The kernels of `ptxas -v`."""
    found = []
    for part in text.split("Compiling entry function '")[1:]:
        stack, stores, loads = map(
            int, re.search(r"(\d+) bytes stack.* (\d+) bytes spill st.* (\d+) bytes spill l", part).groups()
        )
        registers = int(re.search(r"Used (\d+) registers", part)[1])
        found.append(Kernel(part.split("'")[0], registers, stack, stores + loads))
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_nothing_spills(source, tmp_path):
    kernels = report(nvcc(source, tmp_path, "-gencode", "arch=compute_90a,code=sm_90a", "-Xptxas", "-v", "-cubin"))
    for kind, hidden, blocks, last in shapes(source):
        name = f"{TYPES[kind]}Li{hidden}ELi{blocks}ELi{last}E"
        (kernel,) = (k for k in kernels if name in k.name)
        threads = 32 * (last if "backward" in source.name else hidden // blocks // 8 * last)
        print(f"{source.stem} {name}: {threads} threads, {kernel.registers} registers")
        assert (kernel.stack, kernel.spills) == (0, 0), kernel
        assert kernel.registers * threads <= REGISTERS, kernel
    assert len(kernels) == len(shapes(source)) > 0


def test_primitives_without_clusters_compile_for_older_devices(tmp_path):
    """What needs sm_90 stays away from code for sm_80; mma, matrices and flags are there."""
    source = tmp_path / "old.cu"
    source.write_text("""
        #include "cuda/primitives.h"
        namespace fused_lstm::cuda {
        __global__ void kernel(float* x, uint32_t* flag) {
          float d[4] = {};
          uint32_t a[4];
          shared_store(16 * thread_rank(), Words4{});
          block_sync();
          load_matrices(a, 16 * thread_rank());
          mma<float>(d, a, a[0], a[1]), mma<BFloat16>(d, a, a[0], a[1]), mma<Float16>(d, a, a[0], a[1]);
          flag_release(flag, pack<Float16>(d[0], d[1])), flag_wait(flag, 1);
          x[block_index()] = round_to_tf32(d[2]);
        }
        }
    """)
    nvcc(source, tmp_path, "-gencode", "arch=compute_80,code=sm_80", "-cubin")
