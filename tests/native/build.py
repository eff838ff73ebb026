"""Builds fused_lstm_native: the internals of csrc/core, cell and cpu, bound by pybind11 for white-box tests.

It shares objects and flags with the library itself (setup.py), so that tests see the code that ships.

usage: build.py     FUSED_LSTM_BUILD and the other variables of setup.py apply
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
NAME = "fused_lstm_native"
_LIBRARY = "csrc/binding/library.cpp"


def directory() -> Path:
    """Where the module of the current FUSED_LSTM_BUILD lies."""
    kind = os.environ.get("FUSED_LSTM_BUILD") or "release"
    return ROOT / "build" / ("native" if kind == "release" else f"native-{kind}")


def build() -> Path:
    """Brings the module up to date and returns its path."""
    import pybind11

    # As under make: only developers build this, and another set of flags would compile the shared objects anew.
    os.environ.setdefault("FUSED_LSTM_WERROR", "1")
    product = _setup()
    sources = sorted(path.relative_to(ROOT).as_posix() for path in Path(__file__).parent.glob("*.cpp"))
    if not sources:
        product.fail(f"no C++ sources in {Path(__file__).parent}.")
    steps = product.Build()
    includes = [f for path in (pybind11.get_include(), sysconfig.get_path("include")) for f in ("-isystem", path)]
    objects = product.compile_kernels(steps) + [steps.compile(source, includes) for source in sources]
    module = directory() / (NAME + sysconfig.get_config_var("EXT_SUFFIX"))
    steps.link(module.relative_to(ROOT).as_posix(), objects)
    steps.run("native")
    return module


def build_emulated() -> Path:
    """The CUDA operators compiled for CPU tensors (torch.ops.fused_lstm_emulated): brought up to date, its path."""
    os.environ.setdefault("FUSED_LSTM_WERROR", "1")
    product = _setup()
    steps, torch = product.Build(), product.Torch.find()
    steps.directory += "/emulated"  # other objects of the same sources
    flags = [*product.torch_flags(torch), "-DFUSED_LSTM_EMULATE_CUDA"]
    sources = [*product.CUDA_SHARED, *product.CUDA_BINDING, "tests/native/emulated/library.cpp"]
    objects = [steps.compile(source, flags) for source in sources]
    objects += [steps.compile(source, ["-x", "c++"]) for source in product.CUDA_SOURCES]
    library = directory() / "fused_lstm_emulated.so"
    steps.link(library.relative_to(ROOT).as_posix(), objects, product.torch_only(torch))
    steps.run("emulated")
    return library


def build_amx() -> Path:
    """A copy of the package whose library emulates the tiles of AMX, brought up to date: where to import it from."""
    os.environ.setdefault("FUSED_LSTM_WERROR", "1")
    product = _setup()
    steps, torch = product.Build(), product.Torch.find()
    objects = product.compile_kernels(steps)
    objects += [steps.compile(s, product.torch_flags(torch)) for s in product.sources("binding") if s != _LIBRARY]
    own = ["csrc/cpu/amx.cpp", "csrc/cpu/isa_avx512_bf16.cpp"]
    objects = [o for o in objects if o.removeprefix(f"{steps.directory}/").removesuffix(".o") not in own]
    steps.directory += "/amx"  # other objects of the same sources
    info = json.dumps(product.build_info(steps, torch, None, "0"))
    objects += [steps.compile(source, [*product.ISAS["avx512_bf16"], "-DFUSED_LSTM_EMULATE_AMX"]) for source in own]
    objects += [steps.compile(_LIBRARY, [*product.torch_flags(torch), f'-DFUSED_LSTM_BUILD_INFO=R"json({info})json"'])]
    package = directory() / "amx" / "fused_lstm"
    package.mkdir(parents=True, exist_ok=True)
    for path in (ROOT / "fused_lstm").iterdir():
        if path.suffix != ".so" and not (package / path.name).is_symlink():
            (package / path.name).symlink_to(path)
    steps.link((package / "_C.so").relative_to(ROOT).as_posix(), objects, product.torch_only(torch))
    steps.run("amx")
    return package.parent


def _setup() -> ModuleType:
    """setup.py as a module; found by path, since its folder on sys.path would hide an installed fused_lstm."""
    spec = importlib.util.spec_from_file_location("fused_lstm_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    print(build())
    print(build_emulated())
    print(build_amx())
