"""Keeps data flowing one way through csrc/: fails on includes that a folder may not have, and on files grown too long.

core <- cell <- cpu, cuda <- binding; only binding knows torch, only cuda knows CUDA, only cpu knows intrinsics.

usage: check_includes.py [ROOT]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

MAY_SEE = {
    "core": {"core"},
    "cell": {"core", "cell"},
    "cpu": {"core", "cell", "cpu"},
    "cuda": {"core", "cell", "cuda"},
    "binding": {"core", "cell", "cpu", "cuda", "binding"},
}

# Headers from elsewhere by pattern, and the start of the paths below csrc/ that may include them.
FOREIGN = {
    r"torch/(csrc/stable|csrc/inductor/aoti_torch/c|headeronly)/": ("binding/",),
    r"torch/|ATen/|c10/|Python\.h|pybind11/": (),  # these have no stable ABI
    r"cuda|cooperative_groups|mma\.h|cu(blas|dnn|rand)": ("cuda/", "binding/op_cuda.cpp"),
    r"(.*intrin|arm_neon|arm_sve)\.h": ("cpu/",),
}

LONGEST = 450
LONGER_FOR_A_REASON: dict[str, str] = {}  # path: reason

INCLUDE = re.compile(r'\s*#\s*include\s+(["<])([^">]+)[">]')


def bad_include(path: str, quote: str, header: str) -> str | None:
    """Says what is wrong when csrc/`path` includes `header`, or returns None."""
    folder = path.split("/")[0]
    if quote == '"':
        if header.split("/")[0] not in MAY_SEE:
            return f'"{header}" must be written from csrc/ on, as in "{folder}/{header}"; <> is for what is not ours'
        if header.split("/")[0] not in MAY_SEE[folder]:
            return f'{folder}/ may not include "{header}", only from {", ".join(sorted(MAY_SEE[folder]))}'
        return None
    for pattern, allowed in FOREIGN.items():
        if re.match(pattern, header):
            if path.startswith(allowed):
                return None
            return f"<{header}> may be included only by {', '.join(allowed) or 'nobody'}"
    return None


def check_includes(root: Path) -> list[str]:
    problems = []
    csrc = root / "csrc"
    for file in sorted(path for path in csrc.rglob("*") if path.suffix in {".h", ".cpp", ".cu", ".cuh"}):
        path = file.relative_to(csrc).as_posix()
        if path.split("/")[0] not in MAY_SEE:
            problems.append(f"csrc/{path}: lies in none of the folders {', '.join(MAY_SEE)}")
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if (match := INCLUDE.match(line)) and (problem := bad_include(path, match[1], match[2])):
                problems.append(f"csrc/{path}:{number}: {problem}")
    return problems


def check_lengths(root: Path) -> list[str]:
    problems = []
    folders = ("csrc", "fused_lstm", "benchmarks", "tests", ".ci")
    files = [path for folder in folders for path in (root / folder).rglob("*")] + [root / "setup.py"]
    for file in sorted(path for path in files if path.suffix in {".h", ".cpp", ".cu", ".cuh", ".py"}):
        path = file.relative_to(root).as_posix()
        lines = len(file.read_text().splitlines())
        if lines > LONGEST and path not in LONGER_FOR_A_REASON:
            problems.append(f"{path}: {lines} lines, above {LONGEST}: split it, or say why in LONGER_FOR_A_REASON")
        if lines <= LONGEST and path in LONGER_FOR_A_REASON:
            problems.append(f"{path}: {lines} lines, needs no place in LONGER_FOR_A_REASON any more")
    return problems


if __name__ == "__main__":
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    problems = check_includes(root) + check_lengths(root)
    print("\n".join(problems) or "includes and lengths: ok")
    sys.exit(bool(problems))
