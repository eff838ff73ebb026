"""Finds or makes the library to check, and proves that this one is what Python imports."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .process import Ended

ROOT = Path(__file__).resolve().parents[2]

# Imported with `code` behind the candidate on the path. Prints one line of JSON.
PROBE = """
import json, sys
import torch
import fused_lstm
from fused_lstm import _library
cuda = torch.cuda.is_available()
print(json.dumps(dict(
    file=fused_lstm.__file__, build=_library.build_info, cuda_error=fused_lstm.cuda_error, torch=torch.__version__,
    device=torch.cuda.get_device_name() if cuda else None,
)))
"""
CAPABILITY = "import torch; print('{}.{}'.format(*torch.cuda.get_device_capability()))"

Runner = Callable[..., Ended]  # (command, name, environment, folder, limit)


class Unusable(Exception):
    """Why a candidate cannot be checked."""


@dataclass
class Installer:
    """Candidates in turn: a wheel, the source tree as built, what the environment has installed, a build."""

    scratch: Path
    wheel: Path | None
    device: str
    run: Runner
    limit: float  # seconds

    def __post_init__(self) -> None:
        # The check's own code, without the source tree's fused_lstm/ beside it.
        self.code = self.scratch / "code"
        self.code.mkdir(parents=True, exist_ok=True)
        if not (self.code / "benchmarks").exists():
            (self.code / "benchmarks").symlink_to(ROOT / "benchmarks")
        self.package = self.scratch / "package"

    def environment(self, first: Path | None) -> dict[str, str]:
        paths = [*([str(first)] if first else []), str(self.code)]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}

    def install(self) -> dict:
        """What was found: its source, environment, what the probe says, and why other candidates were refused."""
        refused = []
        for source, prepare in self._candidates():
            try:
                environment = self.environment(prepare())
                return {"source": source, "refused": refused, "environment": environment, **self._probe(environment)}
            except Unusable as error:
                refused.append(f"{source}: {error}")
        raise Unusable("; ".join(refused))

    def _candidates(self) -> list[tuple[str, Callable[[], Path | None]]]:
        wheels = [self.wheel] if self.wheel else sorted((ROOT / "dist").glob("*.whl"), key=lambda w: -w.stat().st_mtime)
        candidates = [(f"wheel {wheel.name}", lambda wheel=wheel: self._unpack(wheel)) for wheel in wheels[:1]]
        candidates.append(("source tree", self._tree))
        candidates.append(("installed package", lambda: None))
        candidates.append(("build", self._build))
        return candidates

    def _empty(self) -> Path:
        shutil.rmtree(self.package, ignore_errors=True)
        return self.package

    def _unpack(self, wheel: Path) -> Path:
        target = self._empty()
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        command += ["--no-index", "--target", str(target), str(wheel)]
        done = self.run(command, "pip", environment=dict(os.environ), folder=self.scratch, limit=60)
        if done.code == 0:
            return target
        if "No module named pip" not in done.output:
            raise Unusable(f"pip: {done.last_words(2)}")
        target.mkdir()
        with zipfile.ZipFile(wheel) as archive:  # what pip does to a wheel without scripts
            archive.extractall(target)
        return target

    def _tree(self) -> Path:
        needed = ["_C.so", "_C_cuda.so"] if self.device == "cuda" else ["_C.so"]
        missing = [name for name in needed if not (ROOT / "fused_lstm" / name).exists()]
        if missing:
            raise Unusable(f"fused_lstm/{missing[0]} is not built")
        return ROOT

    def _build(self) -> Path:
        target, environment = self._empty(), dict(os.environ)
        environment["FUSED_LSTM_WERROR"] = "0"  # a compiler that nobody here has seen
        environment["FUSED_LSTM_CUDA"] = "1" if self.device == "cuda" else "0"
        if self.device == "cuda":
            done = self.run([sys.executable, "-c", CAPABILITY], "capability", environment, self.scratch, limit=60)
            if done.code != 0:
                raise Unusable(f"torch names no CUDA device: {done.last_words(1)}")
            capability = done.output.split()[-1]  # machine code for this device alone: minutes less
            environment.setdefault("TORCH_CUDA_ARCH_LIST", "9.0a" if capability == "9.0" else capability)
        command = [sys.executable, "setup.py", "--quiet", "build", "--build-lib", str(target)]
        done = self.run(command, "build", environment, ROOT, limit=self.limit)
        if done.code != 0:
            raise Unusable(f"{done.how}: {done.last_words(3)}")
        return target

    def _probe(self, environment: dict[str, str]) -> dict:
        done = self.run([sys.executable, "-c", PROBE], "probe", environment, self.scratch, limit=90)
        if done.code != 0:
            raise Unusable(done.last_words(1))
        found = json.loads(done.output.strip().splitlines()[-1])
        first = Path(environment["PYTHONPATH"].split(os.pathsep)[0])
        if first != self.code and not Path(found["file"]).is_relative_to(first):
            raise Unusable(f"{found['file']} was imported instead of what lies in {first}")
        if self.device == "cuda" and found["cuda_error"]:
            raise Unusable(f"it does not serve CUDA tensors: {found['cuda_error']}")
        if self.device == "cuda" and found["device"] is None:
            raise Unusable("torch.cuda.is_available() is False")
        return found
