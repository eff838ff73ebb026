"""setup.py and pyproject.toml: flags of each file, what is built anew, what the library needs, what a wheel holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import time
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from fused_lstm import _library

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = Path(_library.__file__).with_name("_C.so")


@pytest.fixture
def product(monkeypatch):
    """setup.py as a module, with none of its variables set."""
    for name in ("FUSED_LSTM_BUILD", "FUSED_LSTM_WERROR", "FUSED_LSTM_CCACHE", "FUSED_LSTM_TORCH", "CXX", "MAX_JOBS"):
        monkeypatch.delenv(name, raising=False)
    spec = spec_from_file_location("product_setup", ROOT / "setup.py")
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def read(*command: str | Path) -> str:
    return subprocess.check_output(list(map(str, command)), text=True)


# --- the flags of each file


def test_isa_files_alone_get_isa_flags(product):
    build = product.Build()
    if not build.compiler.x86:
        pytest.skip("ISA flags are for x86-64")
    product.compile_kernels(build)
    machine_flags = {step.inputs[0]: [flag for flag in step.command if flag.startswith("-m")] for step in build.steps}
    expected = {f"csrc/cpu/isa_{isa}.cpp": flags for isa, flags in product.ISAS.items()}
    assert machine_flags == {source: expected.get(source, []) for source in machine_flags}
    assert set(expected) <= set(machine_flags)


def test_other_processors_get_scalar_kernels_only(product):
    arm = product.Compiler(("aarch64-linux-gnu-g++",), "g++ for another processor", x86=False, bf16=False)
    build = product.Build(compiler=arm)
    product.compile_kernels(build)
    commands = {step.inputs[0]: step.command for step in build.steps}
    assert [source for source in commands if "/isa_" in source] == ["csrc/cpu/isa_scalar.cpp"]
    assert "-DFUSED_LSTM_ONLY_SCALAR" in commands["csrc/cpu/dispatch.cpp"]
    assert not [flag for command in commands.values() for flag in command if flag.startswith("-m")]


def test_compilers_without_bfloat16_leave_its_kernels_out(product):
    build = product.Build(compiler=product.Compiler(("g++",), "g++ of before", x86=True, bf16=False))
    product.compile_kernels(build)
    commands = {step.inputs[0]: step.command for step in build.steps}
    assert "csrc/cpu/isa_avx512.cpp" in commands and "csrc/cpu/isa_avx512_bf16.cpp" not in commands
    assert "-DFUSED_LSTM_NO_AVX512_BF16" in commands["csrc/cpu/dispatch.cpp"]


def test_only_binding_sees_torch(product):
    build, torch = product.Build(), product.Torch.find()
    product.compile_kernels(build)
    product.compile_binding(build, torch, None, "1.2.3")
    for step in build.steps:
        sees_torch = str(torch.directory / "include") in step.command
        assert sees_torch == step.inputs[0].startswith("csrc/binding/"), step.inputs
        assert ("-DTORCH_TARGET_VERSION=0x020b000000000000" in step.command) == sees_torch
        assert any('"version": "1.2.3"' in flag for flag in step.command) == (
            step.inputs[0] == "csrc/binding/library.cpp"
        )


def test_cuda_targets(product):
    cuda = product.Cuda(product.ROOT, "13.0", "8.0;9.0a, 12.0+PTX")
    assert cuda.targets() == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_120,code=sm_120",
        "-gencode=arch=compute_120,code=compute_120",
    ]
    with pytest.raises(SystemExit, match="TORCH_CUDA_ARCH_LIST holds 'hopper'"):
        product.Cuda(product.ROOT, "13.0", "hopper").targets()


def test_architectures_older_than_the_kernels_are_left_out(product, capsys):
    """Images that come with CUDA set the variable to all that they support."""
    assert product.Cuda(product.ROOT, "13.0", "7.5 8.0").targets() == ["-gencode=arch=compute_80,code=sm_80"]
    assert "7.5 of TORCH_CUDA_ARCH_LIST is left out, 8.0 is the oldest" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="it must name 8.0 or a later architecture"):
        product.Cuda(product.ROOT, "13.0", "7.0;7.5").targets()


def test_a_toolkit_that_is_too_old_costs_cuda_alone(product, monkeypatch, tmp_path, capsys):
    for path in ("bin/nvcc", "lib64/libcudart_static.a"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.4, V12.4.131'\n")
        (tmp_path / path).chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("FUSED_LSTM_CUDA", "auto")
    assert product.Cuda.find() is None
    assert "CUDA >= 12.8 is needed for CUDA tensors" in capsys.readouterr().out
    monkeypatch.setenv("FUSED_LSTM_CUDA", "1")
    with pytest.raises(SystemExit, match="is 12.4: set CUDA_HOME to a newer toolkit"):
        product.Cuda.find()


def test_cuda_asked_for_but_missing(product, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    for wanted, outcome in (("auto", None), ("0", None)):
        monkeypatch.setenv("FUSED_LSTM_CUDA", wanted)
        assert product.Cuda.find() is outcome
    monkeypatch.setenv("FUSED_LSTM_CUDA", "1")
    with pytest.raises(SystemExit, match="set CUDA_HOME to a CUDA toolkit"):
        product.Cuda.find()


# --- what is built anew


@pytest.fixture
def small_tree(product, tmp_path, monkeypatch):
    """A tree of two files and one header; returns a function that builds it and says what was built anew."""
    monkeypatch.setattr(product, "ROOT", tmp_path)
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc/number.h").write_text("#define NUMBER 1\n")
    (tmp_path / "csrc/a.cpp").write_text('#include "number.h"\nint a() { return NUMBER; }\n')
    (tmp_path / "csrc/b.cpp").write_text("int b() { return 2; }\n")

    def times() -> dict[str, int]:
        outputs = [path for path in tmp_path.rglob("build/**/*") if path.suffix in (".o", ".so")]
        return {path.name: path.stat().st_mtime_ns for path in outputs}

    def build(b_flags=()) -> set[str]:
        before = times()
        steps = product.Build()
        objects = [steps.compile("csrc/a.cpp"), steps.compile("csrc/b.cpp", b_flags)]
        steps.link(f"{steps.directory}/lib.so", objects)
        steps.run("small")
        return {name for name, when in times().items() if before.get(name) != when}

    build.root = tmp_path
    return build


def test_only_what_changed_is_built_anew(small_tree, product):
    assert product.find_ninja(), "make test installs ninja"
    assert small_tree() == {"a.cpp.o", "b.cpp.o", "lib.so"}
    assert small_tree() == set()
    assert small_tree(b_flags=['-DINFO=R"({"a b": "$c"})"']) == {"b.cpp.o", "lib.so"}
    time.sleep(0.01)
    (small_tree.root / "csrc/number.h").write_text("#define NUMBER 2\n")
    assert small_tree(b_flags=['-DINFO=R"({"a b": "$c"})"']) == {"a.cpp.o", "lib.so"}


def test_build_types_do_not_mix(small_tree, monkeypatch):
    small_tree()
    monkeypatch.setenv("FUSED_LSTM_BUILD", "debug")
    small_tree()
    assert (small_tree.root / "build/debug/lib.so").is_file() and (small_tree.root / "build/release/lib.so").is_file()


def test_without_ninja_everything_is_built(small_tree, product, monkeypatch):
    monkeypatch.setattr(product, "find_ninja", lambda: None)
    for _ in range(2):
        assert small_tree() == {"a.cpp.o", "b.cpp.o", "lib.so"}


@pytest.mark.parametrize("ninja", [True, False])
def test_warnings_are_errors_only_on_request(small_tree, product, monkeypatch, ninja, capfd):
    if not ninja:
        monkeypatch.setattr(product, "find_ninja", lambda: None)
    (small_tree.root / "csrc/b.cpp").write_text("int b(int unused) { return 2; }\n")
    small_tree()
    monkeypatch.setenv("FUSED_LSTM_WERROR", "1")
    with pytest.raises(SystemExit, match="the C\\+\\+ build failed"):
        small_tree()
    assert "unused-parameter" in "".join(capfd.readouterr())


def test_inplace_library_gives_way_to_an_older_one(product, tmp_path, monkeypatch):
    """Back from a debug build, the release library is the older file; it must replace the debug one all the same."""
    monkeypatch.chdir(tmp_path)
    library = tmp_path / "release.so"
    library.write_text("release")
    os.utime(library, (1e9, 1e9))
    inplace = tmp_path / "package/_C.so"
    inplace.parent.mkdir()
    inplace.write_text("debug")
    monkeypatch.setattr(product, "build_libraries", lambda version: {"package._C": library})
    extension = product.Extension("package._C", ["a.cpp"])
    distribution = product.setuptools.Distribution({"name": "x", "packages": ["package"], "ext_modules": [extension]})
    command = product.BuildLibrary(distribution)
    command.inplace = True
    command.ensure_finalized()
    command.run()
    assert inplace.read_text() == "release"


# --- what is said when something is missing


def test_missing_compiler(product, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SystemExit, match="C\\+\\+ compiler 'no-such-compiler' not found: install g\\+\\+ >= 10"):
        product.Build()


def test_unknown_build_type(product, monkeypatch):
    monkeypatch.setenv("FUSED_LSTM_BUILD", "fast")
    with pytest.raises(SystemExit, match="one of release, debug, asan, ubsan, tsan, but is 'fast'"):
        product.Build()


def test_missing_torch(product, monkeypatch, tmp_path):
    monkeypatch.setenv("FUSED_LSTM_TORCH", str(tmp_path))
    with pytest.raises(SystemExit, match="torch >= 2.11 .* must be installed to build.*--no-build-isolation"):
        product.Torch.find()


def test_old_torch(product, monkeypatch, tmp_path):
    monkeypatch.setenv("FUSED_LSTM_TORCH", str(tmp_path))
    (tmp_path / "version.py").write_text("__version__ = '2.10.0+cu128'\n")
    with pytest.raises(SystemExit, match="torch >= 2.11 is needed to build, but .* is torch 2.10.0\\+cu128"):
        product.Torch.find()


def test_missing_sources(product, monkeypatch, tmp_path):
    monkeypatch.setattr(product, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="no C\\+\\+ sources in csrc/core, csrc/cpu"):
        product.sources("core", "cpu")


# --- the library


def test_library_needs_torch_and_the_system_only():
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", read("readelf", "--dynamic", LIBRARY)))
    if _library.build_info["build"] == "release":
        assert {name.split(".so")[0] for name in needed} <= {
            "libtorch", "libstdc++", "libgcc_s", "libm", "libc", "libpthread", "ld-linux-x86-64", "ld-linux-aarch64",
        }  # fmt: skip
    assert "libtorch.so" in needed


def test_library_has_no_python_symbols():
    symbols = [line.split()[-1] for line in read("nm", "--dynamic", LIBRARY).splitlines()]
    assert not [symbol for symbol in symbols if re.match(r"_?Py[A-Z_]", symbol)]


def test_library_holds_no_paths_of_the_machine_that_built_it(product):
    if _library.build_info["build"] != "release":
        pytest.skip("debug information names paths")
    content = LIBRARY.read_bytes()
    for path in (product.Torch.find().directory, ROOT):
        assert str(path).encode() not in content


def test_isa_objects_share_no_code(product, tmp_path):
    """A weak function that was compiled with AVX could be the copy that the linker keeps for every file."""
    build = product.Build()
    product.compile_kernels(build)
    steps = [step for step in build.steps if "/isa_" in step.inputs[0]]
    assert steps
    for step in steps:
        object_file = ROOT / step.output
        if not object_file.is_file():
            object_file = tmp_path / "isa.o"
            command = [str(object_file) if part == step.output else part for part in step.command]
            command = [part.replace(f"{step.output}.d", f"{object_file}.d") for part in command]
            subprocess.run(command, cwd=ROOT, check=True)
        symbols = [line.split(maxsplit=1) for line in read("nm", "-C", "--format=posix", object_file).splitlines()]
        shared = [line for line in read("nm", "-C", object_file).splitlines() if re.search(r" [WVu] ", line)]
        assert symbols and not shared, f"{step.inputs[0]}: " + "\n".join(shared)


# --- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel made where earlier builds have left files that do not belong in it."""
    if _library.build_info["build"] != "release":
        pytest.skip("wheels are of the release build")
    stale = ROOT / "build" / f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}" / "fused_lstm"
    stale.mkdir(parents=True, exist_ok=True)
    (stale / "_C_stale.so").touch()
    destination = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "setup.py", "--quiet", "bdist_wheel", "--dist-dir", str(destination)]
    environment = {**os.environ, "FUSED_LSTM_WERROR": "1", "FUSED_LSTM_CUDA": "0"}  # as make: its objects serve
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    (path,) = destination.glob("*.whl")
    return path


def test_wheel_serves_every_python(wheel):
    assert re.fullmatch(r"fused_lstm-[\d.]+-py3-none-linux_\w+\.whl", wheel.name)


def test_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"fused_lstm/_C.so", "fused_lstm/py.typed", "fused_lstm/_library.py"} <= set(names)
    assert [name for name in names if name.endswith(".so")] == ["fused_lstm/_C.so"]
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fused_lstm").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == package
    assert all(name.startswith(("fused_lstm/", "fused_lstm-")) for name in names)


# --- pinned versions


def test_every_dependency_is_pinned():
    try:
        import tomllib
    except ImportError:
        pytest.skip("tomllib came with Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    wanted += [name for extra in project["project"]["optional-dependencies"].values() for name in extra]
    pins = re.findall(r"^([\w.-]+)==[\w.]+", (ROOT / ".ci/constraints.txt").read_text(), re.MULTILINE)
    assert {re.match(r"[\w.-]+", name)[0] for name in wanted} <= set(pins)
    assert not any(name.startswith("torch") for name in project["build-system"]["requires"])
