"""Builds fused_lstm/_C.so and, where nvcc is found, _C_cuda.so (torch's stable ABI, no Python symbols).

torch.utils.cpp_extension would add Python symbols, link libraries of the C++ ABI and give every file the same flags.

Environment, all optional:
  FUSED_LSTM_BUILD    release (default), debug, asan, ubsan or tsan; each has its own folder under build/
  FUSED_LSTM_WERROR   1 turns warnings into errors; the Makefile sets it, installing must work with newer compilers too
  FUSED_LSTM_CCACHE   compiler launcher, such as ccache
  FUSED_LSTM_CUDA     auto (default: with CUDA where nvcc is found), 1 (fail without nvcc) or 0
  CUDA_HOME, TORCH_CUDA_ARCH_LIST   the CUDA toolkit; what to compile for (default: everything from sm_80 to sm_120)
  FUSED_LSTM_TORCH    folder of the torch package to compile against, where it cannot be found by itself
  CXX, MAX_JOBS       compiler command (default g++), number of compilers at a time (default: all cores)
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import setuptools

if int(setuptools.__version__.split(".")[0]) < 77:
    raise SystemExit("fused_lstm: setuptools >= 77 is needed to build: pip install --upgrade setuptools.")

from setuptools import Extension, setup  # noqa: E402
from setuptools.command.bdist_wheel import bdist_wheel  # noqa: E402
from setuptools.command.build_ext import build_ext  # noqa: E402

ROOT = Path(__file__).resolve().parent

# The oldest torch that the binary runs on. Left to the headers, it would load only where torch is as new as they are.
TORCH_TARGET = (2, 11)
COMPILER_MINIMUM = 10

COMMON = ["-std=c++20", "-fPIC", "-pthread", "-fvisibility=hidden", "-fno-math-errno", "-Wall", "-Wextra", "-Icsrc"]

# build type: flags of the compiler, flags of the linker
BUILDS = {
    "release": (["-O3", "-DNDEBUG"], ["-Wl,--strip-all"]),
    "debug": (["-Og", "-g3", "-D_GLIBCXX_ASSERTIONS"], []),
    "asan": (["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address"], ["-fsanitize=address"]),
    "ubsan": (["-O1", "-g", "-fsanitize=undefined", "-fno-sanitize-recover=undefined"], ["-fsanitize=undefined"]),
    "tsan": (["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=thread"], ["-fsanitize=thread"]),
}

AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c", "-mprefer-vector-width=512"]
# One kernel source, compiled once per ISA. The first entry is the only one on machines that are not x86-64.
ISAS = {
    "scalar": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": AVX512,
    "avx512_bf16": [*AVX512, "-mavx512bf16"],
}


# They go with the CUDA library, not with their neighbours.
CUDA_BINDING = [
    f"csrc/binding/{name}.cpp"
    for name in ("op_cuda", "cuda_call", "cuda_runs", "cuda_stepwise", "cuda_rowwise", "cuda_persistent", "products")
]
CUDA_SOURCES = [
    f"csrc/cuda/{name}.cu"
    for name in (
        "stepwise", "rowwise", "gather", "device",
        "cluster_forward", "cluster_backward", "grid_forward", "grid_backward",
    )  # fmt: skip
]
# What both libraries need is in both, so that neither has to find the other's symbols.
CUDA_SHARED = ["csrc/core/rows.cpp", "csrc/cuda/plan.cpp", "csrc/binding/checks.cpp"]

# Machine code for each, and PTX for what comes after: 9.0 for anything from Hopper on, 12.0 for the newest.
CUDA_ARCHS = "8.0;8.6;8.9;9.0a;9.0+PTX;10.0;12.0+PTX"


CUDA_MINIMUM = (12, 8)  # knows the fences and architectures
CUDA_OLDEST_ARCH = 8  # has asynchronous copies and products of bfloat16


def fail(sentence: str) -> NoReturn:
    raise SystemExit(f"fused_lstm: {sentence}")


@dataclass(frozen=True)
class Compiler:
    command: tuple[str, ...]
    description: str
    x86: bool
    bf16: bool  # knows AVX512-BF16

    @classmethod
    def find(cls) -> Compiler:
        command = shlex.split(os.environ.get("CXX") or "g++")
        if shutil.which(command[0]) is None:
            fail(f"C++ compiler {command[0]!r} not found: install g++ >= {COMPILER_MINIMUM}, or name yours in CXX.")

        def ask(*question: str) -> str:
            return subprocess.check_output([*command, *question], text=True).strip()

        version = ask("-dumpversion")
        if int(version.split(".")[0]) < COMPILER_MINIMUM:
            fail(f"g++ >= {COMPILER_MINIMUM} is needed, but {command[0]!r} is {version}: name a newer one in CXX.")
        x86 = ask("-dumpmachine").startswith("x86_64")
        probe = [*command, "-mavx512bf16", "-fsyntax-only", "-x", "c++", os.devnull]
        bf16 = x86 and subprocess.run(probe, stderr=subprocess.DEVNULL).returncode == 0
        return cls(tuple(command), ask("--version").splitlines()[0], x86, bf16)

    @property
    def isas(self) -> list[str]:
        if not self.x86:
            return list(ISAS)[:1]
        return [isa for isa in ISAS if self.bf16 or isa != "avx512_bf16"]


@dataclass(frozen=True)
class Torch:
    directory: Path
    version: str

    @classmethod
    def find(cls) -> Torch:
        """Locates the torch package without importing it: only its headers and libtorch.so are needed."""
        needed = ".".join(map(str, TORCH_TARGET))
        if named := os.environ.get("FUSED_LSTM_TORCH"):
            places = [named]
        else:
            spec = importlib.util.find_spec("torch")
            places = list(spec.submodule_search_locations or []) if spec else []
            # pip's build isolation hides the environment's packages from import, but sysconfig still names their
            # folder. Only stable headers are used, so whichever torch lies there will do.
            places += [os.path.join(sysconfig.get_path(kind), "torch") for kind in ("purelib", "platlib")]
        for place in map(Path, places):
            version_file = place / "version.py"
            if version_file.is_file():
                version = re.search(r"__version__ = '([^']+)'", version_file.read_text())[1]
                if tuple(map(int, version.split(".")[:2])) < TORCH_TARGET:
                    fail(f"torch >= {needed} is needed to build, but {place} is torch {version}: upgrade it.")
                return cls(place, version)
        fail(
            f"torch >= {needed} (the CPU build is enough) must be installed to build, but none was found: install it, "
            "then run pip install --no-build-isolation, or name the folder of the torch package in FUSED_LSTM_TORCH."
        )


@dataclass(frozen=True)
class Cuda:
    home: Path
    version: str
    archs: str

    @classmethod
    def find(cls) -> Cuda | None:
        wanted = os.environ.get("FUSED_LSTM_CUDA") or "auto"
        if wanted not in ("auto", "0", "1"):
            fail(f"FUSED_LSTM_CUDA must be auto, 0 or 1, but is {wanted!r}.")
        if wanted == "0":
            return None
        home = Path(os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda")
        missing = [path for path in ("bin/nvcc", "lib64/libcudart_static.a") if not (home / path).exists()]
        if missing:
            if wanted == "1":
                fail(f"FUSED_LSTM_CUDA=1, but {home / missing[0]} does not exist: set CUDA_HOME to a CUDA toolkit.")
            return None
        answer = subprocess.check_output([home / "bin/nvcc", "--version"], text=True)
        version = re.search(r"release ([\d.]+)", answer)[1]
        if tuple(map(int, version.split("."))) < CUDA_MINIMUM:
            needed = ".".join(map(str, CUDA_MINIMUM))
            sentence = f"CUDA >= {needed} is needed for CUDA tensors, but {home} is {version}"
            if wanted == "1":
                fail(f"{sentence}: set CUDA_HOME to a newer toolkit.")
            print(f"fused_lstm: {sentence}: building for the CPU alone")
            return None
        return cls(home, version, os.environ.get("TORCH_CUDA_ARCH_LIST") or CUDA_ARCHS)

    def targets(self) -> list[str]:
        flags = []
        for arch in re.split(r"[;, ]+", self.archs.strip()):
            match = re.fullmatch(r"(\d+)\.(\d+)([af]?)(\+PTX)?", arch)
            if not match:
                fail(f"TORCH_CUDA_ARCH_LIST holds {arch!r}; expected entries such as 8.0, 9.0a or 12.0+PTX.")
            if int(match[1]) < CUDA_OLDEST_ARCH:
                print(f"fused_lstm: {arch} of TORCH_CUDA_ARCH_LIST is left out, {CUDA_OLDEST_ARCH}.0 is the oldest")
                continue
            number = "".join(match.groups()[:3])
            flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
            if match[4]:
                flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
        if not flags:
            fail(f"TORCH_CUDA_ARCH_LIST is {self.archs!r}; it must name 8.0 or a later architecture.")
        return flags

    def runtime(self) -> list[str]:
        """The static runtime: no library to find where the wheel gets installed, and none of its symbols leave."""
        libraries = [str(self.home / "lib64" / name) for name in ("libcudart_static.a", "libculibos.a")]
        return [*libraries, "-Wl,--exclude-libs,ALL", "-ldl", "-lrt"]


@dataclass
class Step:
    output: str
    inputs: list[str]
    command: list[str]
    compiles: bool


@dataclass
class Build:
    """The compile and link steps of one build type, as paths relative to the root of the source tree."""

    compiler: Compiler = field(default_factory=Compiler.find)
    kind: str = field(default_factory=lambda: os.environ.get("FUSED_LSTM_BUILD") or "release")
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.kind not in BUILDS:
            fail(f"FUSED_LSTM_BUILD must be one of {', '.join(BUILDS)}, but is {self.kind!r}.")
        self.directory = f"build/{self.kind}"

    def compile(self, source: str, flags: Sequence[str] = ()) -> str:
        """Adds the compilation of one file with its own flags after the common ones; returns the object's path."""
        output = f"{self.directory}/{source}.o"
        launcher = shlex.split(os.environ.get("FUSED_LSTM_CCACHE", ""))
        werror = ["-Werror"] if os.environ.get("FUSED_LSTM_WERROR") == "1" else []
        command = [*launcher, *self.compiler.command, *COMMON, *werror, *BUILDS[self.kind][0], *flags]
        command += ["-MD", "-MF", f"{output}.d", "-c", source, "-o", output]
        self.steps.append(Step(output, [source], command, compiles=True))
        return output

    def compile_cuda(self, source: str, cuda: Cuda) -> str:
        """The same by nvcc."""
        output = f"{self.directory}/{source}.o"
        launcher = shlex.split(os.environ.get("FUSED_LSTM_CCACHE", ""))
        optimize = "-O0" if self.kind == "debug" else "-O3"
        host = ["-ccbin", self.compiler.command[-1]]
        command = [*launcher, str(cuda.home / "bin/nvcc"), *host, "-std=c++20", optimize, "-Icsrc", "-Xcompiler=-fPIC"]
        command += ["-Xcompiler=-fvisibility=hidden", "-t", "2", *cuda.targets(), "-MD", "-MF", f"{output}.d"]
        self.steps.append(Step(output, [source], [*command, "-c", source, "-o", output], compiles=True))
        return output

    def link(self, output: str, objects: list[str], flags: Sequence[str] = ()) -> Path:
        """Adds the linking of a shared library; returns its absolute path."""
        command = [*self.compiler.command, "-shared", "-pthread", *BUILDS[self.kind][1], "-o", output, *objects, *flags]
        self.steps.append(Step(output, objects, command, compiles=False))
        return ROOT / output

    def run(self, name: str) -> None:
        """Brings all steps up to date: incrementally with ninja, else every one of them by a pool of threads."""
        for step in self.steps:
            (ROOT / step.output).parent.mkdir(parents=True, exist_ok=True)
        jobs = int(os.environ.get("MAX_JOBS") or len(os.sched_getaffinity(0)))
        ninja = find_ninja()
        try:
            if ninja:
                script = f"{self.directory}/{name}.ninja"
                (ROOT / script).write_text(self.ninja_script())
                subprocess.run([*ninja, "-f", script, "-j", str(jobs)], cwd=ROOT, check=True)
                return
            print("fused_lstm: ninja is not installed, so that everything is compiled anew")
            for compiles in (True, False):
                with ThreadPoolExecutor(jobs) as pool:
                    chosen = [step.command for step in self.steps if step.compiles is compiles]
                    list(pool.map(lambda command: subprocess.run(command, cwd=ROOT, check=True), chosen))
        except subprocess.CalledProcessError as error:
            fail(f"the C++ build failed with exit status {error.returncode}; the compiler's message stands above.")

    def ninja_script(self) -> str:
        """A command is part of ninja's memory of an output, hence a changed flag compiles anew."""
        lines = [f"builddir = {self.directory}", "rule compile", " command = $argv", " description = compile $in"]
        lines += [" depfile = $out.d", " deps = gcc", "rule link", " command = $argv", " description = link $out"]
        for step in self.steps:
            rule = "compile" if step.compiles else "link"
            lines += [f"build {step.output}: {rule} {' '.join(step.inputs)}"]
            lines += [" argv = " + shlex.join(step.command).replace("$", "$$")]
        return "\n".join(lines) + "\n"


def find_ninja() -> list[str] | None:
    if importlib.util.find_spec("ninja"):
        return [sys.executable, "-m", "ninja"]
    return ["ninja"] if shutil.which("ninja") else None


def sources(*folders: str) -> list[str]:
    found = [path for folder in folders for path in (ROOT / "csrc" / folder).glob("*.cpp")]
    if not found:
        fail(f"no C++ sources in csrc/{', csrc/'.join(folders)} of {ROOT}: the source tree is incomplete.")
    return sorted({path.relative_to(ROOT).as_posix() for path in found} - set(CUDA_BINDING))


def compile_kernels(build: Build) -> list[str]:
    """Objects of csrc/core, csrc/cpu and the plan for CUDA: without a path to torch, which they must not need."""
    left_out = {f"csrc/cpu/isa_{isa}.cpp" for isa in ISAS if isa not in build.compiler.isas}
    if not build.compiler.bf16:
        left_out.add("csrc/cpu/amx.cpp")
    # Kernels throw nothing; clean-up on the way of an exception would bring in a symbol that others define as well.
    flags = {f"csrc/cpu/isa_{isa}.cpp": [*flags, "-fno-exceptions"] for isa, flags in ISAS.items()}
    missing = [] if build.compiler.x86 else ["-DFUSED_LSTM_ONLY_SCALAR"]
    flags["csrc/cpu/dispatch.cpp"] = missing + ([] if build.compiler.bf16 else ["-DFUSED_LSTM_NO_AVX512_BF16"])
    chosen = [source for source in sources("core", "cpu", "cuda") if source not in left_out]
    return [build.compile(source, flags.get(source, [])) for source in chosen]


def torch_flags(torch: Torch) -> list[str]:
    target = f"-DTORCH_TARGET_VERSION=0x{TORCH_TARGET[0]:02x}{TORCH_TARGET[1]:02x}000000000000"
    headers = torch.directory / "include"
    # The prefix map keeps this machine's paths out of error messages that are made in torch's headers.
    return [target, "-isystem", str(headers), f"-ffile-prefix-map={headers}/="]


def torch_only(torch: Torch) -> list[str]:
    # libtorch.so alone, which pulls in whatever this torch consists of. It defines nothing itself, so that --as-needed
    # would drop it. -lc10 and -ltorch_cpu stay out: they export parts of libstdc++, which another torch may lack.
    return [f"-L{torch.directory / 'lib'}", "-Wl,--no-as-needed", "-ltorch", "-Wl,--as-needed"]


def compile_binding(build: Build, torch: Torch, cuda: Cuda | None, version: str) -> list[str]:
    info = json.dumps(build_info(build, torch, cuda, version))
    own = {"csrc/binding/library.cpp": [f'-DFUSED_LSTM_BUILD_INFO=R"json({info})json"']}
    return [build.compile(source, torch_flags(torch) + own.get(source, [])) for source in sources("binding")]


def build_info(build: Build, torch: Torch, cuda: Cuda | None, version: str) -> dict[str, object]:
    return {
        "version": version,
        "commit": commit(),
        "build": build.kind,
        "compiler": build.compiler.description,
        "isas": [*build.compiler.isas, *["amx_bf16"] * build.compiler.bf16],
        "torch_headers": torch.version,
        "torch_target": ".".join(map(str, TORCH_TARGET)),
        "cuda": cuda.version if cuda else None,
        "cuda_archs": cuda.archs if cuda else None,
    }


def commit() -> str | None:
    """Commit of a git checkout, with "-dirty" when it was changed since; None for an unpacked archive."""
    if not (ROOT / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        return subprocess.check_output(command, cwd=ROOT, text=True, stderr=subprocess.DEVNULL, env=environment).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def build_libraries(version: str) -> dict[str, Path]:
    """Compiles and links; returns the library of each extension module that could be built."""
    build, torch, cuda = Build(), Torch.find(), Cuda.find()
    objects = compile_kernels(build) + compile_binding(build, torch, cuda, version)
    libraries = {"fused_lstm._C": build.link(f"{build.directory}/_C.so", objects, torch_only(torch))}
    if cuda:
        objects = [f"{build.directory}/{source}.o" for source in CUDA_SHARED]
        objects += [build.compile(source, torch_flags(torch)) for source in CUDA_BINDING]
        objects += [build.compile_cuda(source, cuda) for source in CUDA_SOURCES]
        flags = [*torch_only(torch), *cuda.runtime()]
        libraries["fused_lstm._C_cuda"] = build.link(f"{build.directory}/_C_cuda.so", objects, flags)
    build.run("library")
    return libraries


class BuildLibrary(build_ext):
    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", os.sep) + ".so"  # a plain library: nothing in it depends on a Python version

    def build_extensions(self) -> None:
        libraries = build_libraries(self.distribution.get_version())
        for extension in self.extensions:
            destination = Path(self.get_ext_fullpath(extension.name))
            destination.parent.mkdir(parents=True, exist_ok=True)
            destination.unlink(missing_ok=True)  # never write into a file that a running process has mapped
            if extension.name in libraries:
                shutil.copy2(libraries[extension.name], destination)
        self.extensions = [extension for extension in self.extensions if extension.name in libraries]
        self.force = True  # --inplace copies it on, even over a newer library of another build type


class Wheel(bdist_wheel):
    def run(self) -> None:
        # What earlier builds left there would be packed too.
        shutil.rmtree(self.get_finalized_command("build").build_lib, ignore_errors=True)
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


if __name__ == "__main__":
    setup(
        ext_modules=[
            Extension("fused_lstm._C", sources("core", "cpu", "cuda", "binding")),
            Extension("fused_lstm._C_cuda", [*CUDA_BINDING, *CUDA_SOURCES]),
        ],
        cmdclass={"build_ext": BuildLibrary, "bdist_wheel": Wheel},
    )
