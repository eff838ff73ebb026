""".ci/check_includes.py: planted mistakes are found, what is allowed passes. Which files clang-format sees, and how."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def check(root: Path) -> tuple[int, str]:
    command = [sys.executable, str(ROOT / ".ci/check_includes.py"), str(root)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert not result.stderr
    return result.returncode, result.stdout


@pytest.fixture
def tree(tmp_path):
    """A tree that passes, and a function that adds a line to one of its files."""
    files = {
        "core/problem.h": "#include <cstdint>",
        "cell/variants.h": '#include "core/problem.h"',
        "cpu/simd.h": '#include <immintrin.h>\n#include "cell/variants.h"\n#include "cpu/kernels.h"',
        "cuda/stepwise.cu": '#include <cuda_runtime.h>\n#include "core/problem.h"',
        "binding/op_cpu.cpp": '#include <torch/csrc/stable/tensor.h>\n#include "cpu/kernels.h"',
        "binding/op_cuda.cpp": '#include <cuda_runtime.h>\n#include "binding/checks.h"',
        "binding/checks.h": "#include <torch/headeronly/util/Exception.h>",
    }
    (tmp_path / "setup.py").touch()
    for path, text in files.items():
        file = tmp_path / "csrc" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    def plant(path: str, line: str) -> Path:
        with (tmp_path / "csrc" / path).open("a") as file:
            file.write(line + "\n")
        return tmp_path

    plant.root = tmp_path
    return plant


def test_a_good_tree_passes(tree):
    assert check(tree.root)[0] == 0


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("core/problem.h", '#include "cell/variants.h"'),
        ("core/problem.h", '#  include "cpu/simd.h"'),
        ("core/problem.h", "#include <torch/csrc/stable/tensor.h>"),
        ("cell/variants.h", '#include "cpu/simd.h"'),
        ("cell/variants.h", "#include <immintrin.h>"),
        ("cpu/simd.h", '#include "cuda/plan.h"'),
        ("cpu/simd.h", '#include "binding/checks.h"'),
        ("cpu/simd.h", "#include <torch/headeronly/core/ScalarType.h>"),
        ("cpu/simd.h", '#include "simd_avx2.h"'),
        ("cpu/simd.h", '#include "../core/problem.h"'),
        ("cuda/stepwise.cu", '#include "cpu/simd.h"'),
        ("binding/op_cpu.cpp", "#include <cuda_runtime.h>"),
        ("binding/op_cpu.cpp", "#include <immintrin.h>"),
        ("binding/op_cpu.cpp", "#include <ATen/ATen.h>"),
        ("binding/op_cpu.cpp", "#include <torch/extension.h>"),
        ("binding/op_cpu.cpp", "#include <Python.h>"),
        ("binding/op_cpu.cpp", '#include "torch/csrc/stable/tensor.h"'),
    ],
)
def test_a_wrong_include_is_found(tree, path, line):
    status, output = check(tree(path, line))
    assert status == 1
    number = len((tree.root / "csrc" / path).read_text().splitlines())
    (problem,) = output.splitlines()
    assert problem.startswith(f"csrc/{path}:{number}: ")


def test_a_new_folder_needs_a_rule(tree):
    (tree.root / "csrc/metal").mkdir()
    status, output = check(tree("metal/kernel.h", "#include <cstdint>"))
    assert status == 1 and "csrc/metal/kernel.h" in output


def test_a_long_file_is_found(tree):
    assert check(tree("core/problem.h", "//\n" * 448))[0] == 0  # 450 lines
    status, output = check(tree("core/problem.h", "//"))
    assert status == 1 and "csrc/core/problem.h: 451 lines" in output


# --- clang-format ----------------------------------------------------------------------------------------------------

KERNEL = """\
template <class S>
FUSED_LSTM_KERNEL(S::kThreads) kernel(FUSED_LSTM_ARGUMENT Arguments p) {
  // A table of our own:
  //   name      what
  //   n         how many
  UNROLL for (int i = 0; i < S::kMany; ++i) {
    sum[i] = p.from[i];
    odd[i] = 0;
  }
}
"""


def formatted(text: str) -> str:
    tool = shutil.which("clang-format", path=str(Path(sys.executable).parent)) or shutil.which("clang-format")
    assert tool, "clang-format is part of the extra `dev`"
    command = [tool, f"--style=file:{ROOT / '.clang-format'}", "--assume-filename=kernel.cuh"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def test_cuda_sources_keep_what_is_written_by_hand():
    assert formatted(KERNEL) == KERNEL


def test_inside_an_unrolled_loop_mistakes_are_found():
    assert formatted(KERNEL.replace("    sum[i] = p", " sum[i]=p")) == KERNEL


def test_lint_formats_every_kind_of_source(tmp_path):
    recipe = subprocess.run(["make", "-n", "lint"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in recipe.splitlines() if "clang-format --dry-run" in line)
    sources = ["benchmarks/native/f.cpp", "csrc/a.h", "csrc/cuda/b.cu", "csrc/cuda/c.cuh", "tests/native/d.cpp"]
    for name in (*sources, "csrc/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = subprocess.run(line.split("|")[0], shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert sorted(found.stdout.split()) == sources
