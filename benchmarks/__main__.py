"""``python -m benchmarks``: time of torch.nn.LSTM divided by time of FusedLSTM, shape by shape.

Results are compared before anything is timed; a shape whose results differ is reported as wrong and not timed.
``--suite variants`` compares FusedLSTM with options to FusedLSTM without.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from datetime import datetime, timezone
from pathlib import Path

import torch

import fused_lstm
from fused_lstm import _library

from . import variants
from .cases import Case
from .shapes import SUITES
from .timing import compare

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-11, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n\n")[0])
    suites = [*SUITES, "variants"]
    parser.add_argument("--suite", choices=suites, default="layer", help="which shapes (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch.set_num_threads (default: %(default)s)")
    parser.add_argument("--dtype", choices=["float32", "float64", "bfloat16", "float16"], default="float32")
    parser.add_argument("--modes", nargs="+", choices=["inference", "training"], default=["inference", "training"])
    parser.add_argument("--pairs", type=int, default=15, help="pairs of samples a row (default: %(default)s)")
    parser.add_argument(
        "--self-check", action="store_true", help="time nn.LSTM against itself: how far to trust a ratio"
    )
    parser.add_argument("--json", type=Path, help="append one JSON line a row to this file")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    if args.threads == 1:  # autograd's own thread would escape the clock
        torch.autograd.set_multithreading_enabled(False)
    machine = dict(
        processor=processor(),
        torch=torch.__version__,
        fused_lstm=_library.build_info,
        isa=fused_lstm.cpu_isa(),
        threads=args.threads,
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    print(f"{machine['processor']}, torch {machine['torch']}, {machine['isa']}, {args.threads} thread(s), {args.dtype}")
    if args.suite == "variants":
        return variants.main(args, machine)
    dtype = getattr(torch, args.dtype)
    print(
        f"{'shape (T,B,I,H)':32} {'mode':10} {'ratio':>6} {'quartiles':>13} "
        f"{'nn.LSTM':>11} {'fused':>11} {'GFLOP/s':>8}"
    )
    ratios: dict[str, list[float]] = {mode: [] for mode in args.modes}
    for shape in SUITES[args.suite]:
        case = Case(shape, dtype)
        error = case.worst_error()
        if not error <= TOLERANCE[dtype]:
            print(f"{shape!s:32} WRONG: relative difference {error:.1e}")
            continue
        for mode in args.modes:
            b = case.run(case.torch if args.self_check else case.fused, mode)
            pair = compare(case.run(case.torch, mode), b, threads=args.threads, pairs=args.pairs)
            ratios[mode].append(pair.ratio)
            rate = shape.flops() * (3 if mode == "training" else 1) / pair.best_b / 1e9
            quartiles = f"{pair.low:.2f}..{pair.high:.2f}"
            print(
                f"{shape!s:32} {mode:10} {pair.ratio:6.2f} {quartiles:>13} {pair.seconds_a * 1e3:8.3f} ms "
                f"{pair.seconds_b * 1e3:8.3f} ms {rate:8.1f}",
                flush=True,
            )
            if args.json:
                row = dict(machine, shape=vars(shape), mode=mode, dtype=args.dtype, error=error, **vars(pair))
                with args.json.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    for mode, values in ratios.items():
        if values:
            mean = math.exp(sum(map(math.log, values)) / len(values))
            print(f"{mode}: geometric mean {mean:.2f}, worst {min(values):.2f}, {len(values)} shapes")


if __name__ == "__main__":
    main()
