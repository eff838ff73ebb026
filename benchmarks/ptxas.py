"""What nvcc and ptxas say of a CUDA source: kernels, registers, stack, spills; sizes that their shapes compute."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NO_COMPILER = "nvcc, the CUDA compiler, is neither in CUDA_HOME nor on PATH; it comes with the CUDA toolkit"


class ToolError(RuntimeError):
    """A compiler or disassembler failed; the message holds its command and output."""


@dataclass
class Kernel:
    name: str  # mangled
    arch: str
    registers: int
    stack: int
    spills: int  # bytes, stores and loads
    static_shared: int = 0
    shape: dict[str, int] = field(default_factory=dict)  # see `shapes`; empty where unknown

    @property
    def threads(self) -> int | None:
        return self.shape.get("kThreads")


def run(command: list[str]) -> str:
    """Its output, both streams."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise ToolError(f"{' '.join(command)}\nexit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def compiler() -> str | None:
    """nvcc of $CUDA_HOME, of PATH, or where the toolkit is usually installed. None: nowhere."""
    home = os.environ.get("CUDA_HOME")
    places = [f"{home}/bin/nvcc"] if home else ["nvcc", "/usr/local/cuda/bin/nvcc"]
    return next((found for place in places if (found := shutil.which(place))), None)


def nvcc(source: Path, out: Path, *flags: str) -> str:
    """Compiles with the flags of all our device code; its output, ptxas included."""
    found = compiler()
    if not found:
        raise ToolError(NO_COMPILER)
    command = [found, "-std=c++20", "-O3", "-I", str(ROOT / "csrc"), "-Xcompiler", "-Wall,-Wextra,-Werror"]
    return run([*command, *flags, "-o", str(out), str(source)])


def compile_cubin(source: Path, out: Path, arch: str) -> list[Kernel]:
    """Machine code of one architecture, such as sm_90a, and what `ptxas -v` says of its kernels."""
    virtual = arch.replace("sm_", "compute_")
    return parse(nvcc(source, out, "-gencode", f"arch={virtual},code={arch}", "-Xptxas", "-v", "-cubin"))


def parse(text: str) -> list[Kernel]:
    """The kernels of `ptxas -v`, in its order."""
    found = []
    for part in text.split("Compiling entry function '")[1:]:
        name, arch = re.match(r"(\w+)' for '(\w+)'", part).groups()
        stack, stores, loads = map(
            int, re.search(r"(\d+) bytes stack.* (\d+) bytes spill st.* (\d+) bytes spill l", part).groups()
        )
        used = re.search(r"Used (\d+) registers.*", part)
        shared = re.search(r"(\d+) bytes smem", used[0])
        found.append(Kernel(name, arch, int(used[1]), stack, stores + loads, int(shared[1]) if shared else 0))
    return found


def demangled(names: list[str]) -> list[str]:
    return run(["c++filt", *names]).splitlines()


def template_argument(signature: str) -> str | None:
    """`Shape<T, 1>` of `void ns::kernel<Shape<T, 1> >(...)`."""
    start = signature.find("<") + 1
    depth = 1
    for at in range(start, len(signature) if start else 0):
        depth += {"<": 1, ">": -1}.get(signature[at], 0)
        if depth == 0:
            return signature[start:at].strip()
    return None


SIZES = "kHidden kBlocks kSplit kUnits kThreads kSharedBytes kRows kBufferBytes kInboxBytes".split()


def shapes(source: Path, names: list[str]) -> list[dict[str, int]]:
    """The constants named above of each kernel's shape, by the kernels' own arithmetic: a C++ program prints them."""
    arguments = [template_argument(signature) for signature in demangled(names)]
    header = source.with_suffix(".cuh")
    if not header.exists() or None in arguments:
        return [{} for _ in names]
    members = "".join(
        f'  if constexpr (requires {{ S::{m}; }}) std::printf("\\"{m}\\": %lld, ", (long long)S::{m});\n' for m in SIZES
    )
    calls = "".join(f"  describe<{argument}>();\n" for argument in arguments)
    program = f"""#include <cstdio>
#include "cuda/{header.name}"
template <class S>
void describe() {{
  std::printf("{{");
{members}  std::printf("\\"known\\": 1}}\\n");
}}
int main() {{
{calls}}}
"""
    with tempfile.TemporaryDirectory() as folder:
        file, binary = Path(folder) / "shapes.cpp", Path(folder) / "shapes"
        file.write_text(program)
        compiler = os.environ.get("CXX", "g++").split()
        run([*compiler, "-std=c++20", "-I", str(ROOT / "csrc"), "-o", str(binary), str(file)])
        return [json.loads(line) for line in run([str(binary)]).splitlines()]


def disassembler() -> str | None:
    """nvdisasm beside nvcc, on PATH, or of a Python package: nvidia-cuda-nvdisasm, triton. None: nowhere."""
    found, packages = compiler(), Path(sysconfig.get_paths()["purelib"])
    places = [Path(found).with_name("nvdisasm")] if found else []
    places += [Path("nvdisasm"), *sorted(packages.glob("nvidia/*/bin/nvdisasm"))]
    places += [packages / "triton/backends/nvidia/bin/nvdisasm"]
    return next((tool for place in places if (tool := shutil.which(place))), None)


def disassemble(tool: str, cubin: Path) -> str:
    return run([tool, "-c", str(cubin)])
