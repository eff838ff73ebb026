#!/usr/bin/env python3
"""Everything that a GPU has to be asked about this project, in one command: ``make gpu-check``.

Installs the wheel of dist/ (or takes what is built, or builds), runs the tests on the device, checks every kernel
family by name, under compute-sanitizer and in CUDA graphs, then times torch.nn.LSTM (cuDNN) against each of them. Needs
no network and, beside torch, pytest. What is found lies in one folder: gpu_check.json, table.md, gpu_check.log.

Each section runs in processes of its own. What crashes, hangs or runs out of time is recorded, and the rest goes on;
with --resume a later run does what is left.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# In place of the folder of this file, whose modules would pass for others of their names.
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "benchmarks")]

from benchmarks.gpu import store, table  # noqa: E402
from benchmarks.gpu.process import Budget, end_all  # noqa: E402
from benchmarks.gpu.sections import SECTIONS, Run  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    today = ROOT / "benchmarks/results" / f"gpu-{datetime.now(timezone.utc):%Y-%m-%d}"
    parser.add_argument(
        "--out", type=Path, default=Path(os.environ.get("OUT") or today),
        help="folder of the results (default: $OUT, else benchmarks/results/gpu-<date>)",
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=9.0, help="time for everything (default: %(default)s)")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="some of %(default)s")
    parser.add_argument(
        "--resume", type=Path, nargs="?", const=True, default=None, metavar="DIR",
        help="go on with the results in DIR (default: --out): what is done there is not done again",
    )  # fmt: skip
    parser.add_argument("--wheel", type=Path, help="what to install (default: the newest dist/*.whl, if any)")
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], default="cuda", help="cpu: a rehearsal at toy sizes, without any GPU"
    )
    args = parser.parse_args()
    args.sections = [name.strip() for name in args.sections.split(",") if name.strip()]
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f"--sections knows {', '.join(SECTIONS)}, not {', '.join(sorted(unknown))}")
    if args.wheel and not args.wheel.is_file():
        parser.error(f"--wheel {args.wheel} does not exist: build one with `make wheel`, or leave --wheel out")
    args.wheel = args.wheel and args.wheel.resolve()
    return args


def begin(args: argparse.Namespace) -> dict:
    """The results to fill: new ones, or those of the run to go on with."""
    if args.resume:
        source = args.out if args.resume is True else args.resume
        state = store.read(source)
        if state is None:
            raise SystemExit(f"gpu_check: nothing to resume, {source / store.NAME} does not exist: leave out --resume")
        if state["device"] != args.device:
            raise SystemExit(f"gpu_check: {source} holds results of --device {state['device']}, not {args.device}")
        return state
    if (args.out / store.NAME).exists():
        raise SystemExit(f"gpu_check: {args.out} holds results already: go on with --resume, or name another --out")
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"format": store.FORMAT, "device": args.device, "started": started, "runs": [], "sections": {}}


def check(args: argparse.Namespace, results: store.Store, budget: Budget, scratch: Path) -> None:
    run = Run(results, budget, scratch, args.device, args.wheel)
    asked = [name for name in SECTIONS if name in {*args.sections, "install"}]
    for name in asked:
        results.sections.setdefault(name, {"status": "not run", "note": "not reached", "rows": []})
    for name in asked:
        run.section(name)
        (args.out / "table.md").write_text(table.document(results.state))
        if name == "install" and results.sections["install"]["status"] != "complete":
            break  # nothing to check


def main() -> int:
    args = arguments()
    budget = Budget(args.minutes * 60, time.monotonic())
    results = store.Store(args.out, begin(args))
    results.state["runs"].append({"arguments": sys.argv[1:], "time": datetime.now(timezone.utc).isoformat()})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scratch = Path(tempfile.mkdtemp(prefix="gpu-check-"))
    try:
        check(args, results, budget, scratch)
    finally:
        end_all()
        shutil.rmtree(scratch, ignore_errors=True)
        results.save()
        (args.out / "table.md").write_text(table.document(results.state))
    print(table.summary(results.state))
    print(f"{args.out / store.NAME}, table.md, gpu_check.log")
    return 1 if any(True for _ in table.problems(results.state)) else 0


if __name__ == "__main__":
    sys.exit(main())
