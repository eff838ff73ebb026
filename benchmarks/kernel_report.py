"""``python -m benchmarks.kernel_report``: registers, memory, machine code and predicted time of every CUDA kernel with
weights on chip. Needs nvcc, and nvdisasm for all that concerns the loop over steps. Needs no GPU and measures nothing.

nvcc comes without nvdisasm in some installations; ``pip install nvidia-cuda-nvdisasm`` has it, triton brings one along.
How the loop is found and what is counted: ``sass.py``. How time is predicted: ``kernel_model.py``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path

from . import kernel_model, ptxas, sass

# Sources of kernels with weights on chip: those that have one a shape.
SOURCES = sorted(p for p in (ptxas.ROOT / "csrc/cuda").glob("*.cu") if "FUSED_LSTM_INSTANCE" in p.read_text())
TITLE = "CUDA kernels with weights on chip: predicted, nothing measured on hardware"


def default_archs(source: Path) -> list[str]:
    return ["sm_90a"] if kernel_model.family(source.stem) == "cluster" else ["sm_80", "sm_90a"]


def examine(source: Path, arch: str, tool: str | None) -> list[dict]:
    """A row for each kernel of a source, compiled for one architecture."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "out.cubin"
        kernels = ptxas.compile_cubin(source, cubin, arch)
        code = sass.functions(ptxas.disassemble(tool, cubin)) if tool else {}
    names = [kernel.name for kernel in kernels]
    for kernel, shape in zip(kernels, ptxas.shapes(source, names)):
        kernel.shape = shape
    signatures = ptxas.demangled(names)
    rows = [row(source, k, signature, code.get(k.name)) for k, signature in zip(kernels, signatures)]
    return sorted(rows, key=lambda r: (r["source"], r["type"], r["numbers"]))


def row(source: Path, kernel: ptxas.Kernel, signature: str, code: str | None) -> dict:
    argument = ptxas.template_argument(signature) or ""
    words = re.sub(r"[\w:]+::", "", argument.partition("<")[2].rstrip("> ")).split(", ")
    kind, hidden = kernel_model.family(source.stem), kernel.shape.get("kHidden")
    element = 32 if words[0] == "float" else 16
    found = {
        "source": source.stem,
        "arch": kernel.arch,
        "type": words[0],
        "numbers": [int(word) for word in words[1:]],
        "registers": kernel.registers,
        "threads": kernel.threads,
        "stack": kernel.stack,
        "spills": kernel.spills,
        "static_shared": kernel.static_shared,
        "dynamic_shared": kernel.shape.get("kSharedBytes"),
        "budget": kernel_model.budget(kind, hidden, element, "backward" in source.stem),
    }
    loop = sass.step_loop(sass.blocks(code)) if code else None
    if loop:
        found["loop"] = {
            "static": loop.static,
            "inner_loops": loop.inner,
            "way": sass.count(loop.way),
            "way_of_the_second_role": sass.count(loop.other_way) if loop.other_way else None,
            "up_to_the_last_message": sass.critical(loop.way),
            "chain": sass.chain(loop.way),
        }
        prediction = kernel_model.predict(kernel, loop, kind)
        found["predicted"] = prediction.as_json() if prediction and kernel.arch.startswith("sm_90") else None
    return found


# --- the table -------------------------------------------------------------------------------------------------------


def markdown(rows: list[dict], tools: str) -> str:
    parts = [f"# {TITLE}", f"{tools}. Made by `make kernel-report`.", RESOURCES, _table(resource_columns, rows)]
    if any("loop" in r for r in rows):
        parts += [LOOPS, _table(loop_columns, rows), PREDICTIONS, _table(time_columns, rows)]
    else:
        parts += ["No nvdisasm was found, so nothing is said of machine code and time."]
    return "\n\n".join(parts) + "\n"


RESOURCES = """## Resources

Of each instance: type and template numbers (see the shapes in `csrc/cuda/`), registers of a thread, bytes of stack and
spills, static and dynamic shared memory of a block."""
LOOPS = """## The loop over steps

Instructions that a warp executes at most in one step (with resets and lengths, in a row's last step), by class; "all"
includes those of no class, "code" is what the loop holds, executed or not. "urgent" are those from the wait to the last
message. `MEMBAR/CCTL` must be 0 in cluster kernels. A loop inside is counted as if it were passed once. How the loop is
found: `benchmarks/sass.py`."""
PREDICTIONS = f"""## Predicted time

Cycles and microseconds of such a step on an H200 ({kernel_model.GHZ} GHz, {kernel_model.MULTIPROCESSORS} SMs) by
`benchmarks/kernel_model.py`, lower to upper figure. "rounds": how many times in a row the kernel's clusters have to
run for B = 1, 16, 64, 256 in one direction. "budget": an estimate from before the kernels were written, for the same B
where four numbers stand. Where the loop over steps has loops inside, the figures are those of passing each once, hence
too low."""

COUNTED = ["HMMA", "LDSM", "LDS/STS", "LDG/STG", "push", "SHFL", "BAR", "MUFU", "MEMBAR/CCTL"]


def _name(r: dict) -> list[tuple[str, str]]:
    return [
        ("kernel", r["source"]),
        ("arch", r["arch"]),
        ("instance", f"{r['type']} {' '.join(map(str, r['numbers']))}"),
    ]


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _span(values: tuple[float, float] | list[float], digits: int) -> str:
    low, high = (f"{value:.{digits}f}" for value in values)
    return low if low == high else f"{low}-{high}"


def resource_columns(r: dict) -> list[tuple[str, str]]:
    names = ["threads", "registers", "stack", "spills", "static_shared", "dynamic_shared"]
    return _name(r) + [(name.replace("_", " "), _or_dash(r[name])) for name in names]


def loop_columns(r: dict) -> list[tuple[str, str]]:
    loop = r.get("loop")
    if not loop:
        return []
    counts = [(name, str(loop["way"][name])) for name in COUNTED]
    rest = [("urgent", loop["up_to_the_last_message"]), ("all", loop["way"]["total"]), ("code", loop["static"])]
    rest += [("loops inside", loop["inner_loops"])]
    return _name(r) + counts + [(name, str(value)) for name, value in rest]


def time_columns(r: dict) -> list[tuple[str, str]]:
    p = r.get("predicted")
    if not p:
        return []
    return _name(r) + [
        ("products", f"{p['products']:.0f}"),
        ("issue", f"{p['issue']:.0f}"),
        ("barriers", f"{p['barriers']:.0f}"),
        ("memory", _span(p["memory"], 0)),
        ("exchange", _span(p["exchange"], 0)),
        ("µs a step", _span(p["microseconds"], 2)),
        ("rounds", "/".join(map(str, p["rounds"].values())) or "-"),
        ("budget, µs", r["budget"]),
    ]


def _table(columns, rows: list[dict]) -> str:
    lines = [line for r in rows if (line := columns(r))]
    if not lines:
        return "None."
    cells = [[name for name, _ in lines[0]], ["---"] * len(lines[0])] + [[value for _, value in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


# --- the program -----------------------------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernel_report", description=__doc__)
    parser.add_argument("--arch", nargs="+", help="such as sm_90a (default: sm_90a; grid kernels sm_80 as well)")
    parser.add_argument("--output", type=Path, help="write OUTPUT.md and OUTPUT.json instead of printing")
    return parser.parse_args()


def version(text: str) -> str:
    return re.search(r"V(\d[\d.]+)", text)[1]


def main() -> int:
    args = arguments()
    if not SOURCES:
        print("kernel_report: no kernels in csrc/cuda", file=sys.stderr)
        return 1
    compiler, tool = ptxas.compiler(), ptxas.disassembler()
    if not compiler:
        print(f"kernel_report: {ptxas.NO_COMPILER}", file=sys.stderr)
        return 1
    if not tool:
        print("kernel_report: no nvdisasm, hence nothing about the loop over steps; see --help", file=sys.stderr)
    try:
        tools = f"nvcc {version(ptxas.run([compiler, '--version']))}"
        tools += f", nvdisasm {version(ptxas.run([tool, '--version']))}" if tool else ", no nvdisasm"
        jobs = [(source, arch) for source in SOURCES for arch in args.arch or default_archs(source)]
        rows = [r for source, arch in jobs for r in examine(source, arch, tool)]
    except ptxas.ToolError as failed:
        print(f"kernel_report: {failed}", file=sys.stderr)
        return 1
    table = markdown(rows, tools)
    if not args.output:
        print(table)
        return 0
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.with_suffix(".md").write_text(table)
    report = {"title": TITLE, "tools": tools, "kernels": rows}
    args.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
