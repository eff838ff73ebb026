"""``python -m benchmarks [run|compare|plot|table|readme|list]``; without a command: run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from . import arguments

RESULTS = Path(__file__).parent / "results"


def main(argv: list[str] | None = None) -> int:
    args = arguments.parse_arguments(sys.argv[1:] if argv is None else argv)
    from .readme import ReadmeProblem
    from .results_file import FileProblem

    try:
        return globals()[f"_{args.command}"](args)
    except (FileProblem, ReadmeProblem, Impossible) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has gone (table | head); nothing must be flushed again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


class Impossible(Exception):
    """What was asked for cannot be measured here."""


def _run(args) -> int:
    from . import machine, plan, plots, run, table, variants
    from .gpu import clock as device_clock
    from .results_file import read

    if args.device == "cuda" and not device_clock.cuda.is_available():
        raise Impossible("--device cuda: torch.cuda.is_available() is False (a torch without CUDA, or no GPU)")
    output = args.output or RESULTS / machine.name(args.device) / f"{_name(args)}-{args.device}.jsonl"
    seconds = args.seconds or {"quick": 2.0, "full": 8.0}.get(args.suite, 6.0)
    if args.suite == "variants":
        return variants.main(args.threads or [1], seconds, output if args.output else None)
    wishes = arguments.wishes(args)
    groups = plan.groups(wishes)
    if not groups:
        raise Impossible("nothing is left to measure: these sections, modes and dtypes exclude each other")
    minutes = args.minutes or (7.5 if args.suite == "quick" and not args.shapes else float("inf"))
    status = run.Runner(args.device, output, seconds, minutes).run(groups)
    records = read(output)
    print("\n" + table.document(records))
    output.with_suffix(".md").write_text(table.document(records, table.markdown), encoding="utf-8")
    for line in plan.left_out(wishes):
        print(line)
    print(f"Written: {output}, {output.with_suffix('.md').name}")
    if not args.no_plots:
        try:
            print("\n".join(f"plot {file}" for file in plots.draw(records, output.with_suffix(""))))
        except plots.NoMatplotlib as error:
            print(f"No plots: {error}")
    return status


def _name(args) -> str:
    return "shapes" if args.shapes else args.suite


def _compare(args) -> int:
    from .compare import report

    text, status = report(args.old, args.new)
    print(text)
    return status


def _plot(args) -> int:
    from . import plots
    from .results_file import read

    try:
        files = plots.draw(read(args.file), args.output or args.file.with_suffix(""))
    except plots.NoMatplotlib as error:
        raise Impossible(str(error)) from None
    print("\n".join(map(str, files)) or "The file has nothing to plot.")
    return 0


def _table(args) -> int:
    from . import table
    from .results_file import read

    print(table.document(read(args.file), table.markdown if args.markdown else table.aligned), end="")
    return 0


def _readme(args) -> int:
    from .readme import update

    return update(check=args.check)


def _list(args) -> int:
    from .peers import PEERS
    from .plan import SECTIONS, SUITES
    from .shapes import NAMED

    print(f"Peers on {args.device}")
    for peer in PEERS.values():
        why = peer.missing(args.device)
        remedy = f". To have it: {peer.install}" if args.device in peer.devices else ""
        print(f"  {peer.name:16} {peer.what}" + (f"\n{'':19}missing: {why}{remedy}" if why else ""))
    print("\nShapes")
    for shape in NAMED.values():
        print(f"  {shape.name:16} {shape.spec}")
    print(f"\nSuites    {', '.join(SUITES)}\nSections  {', '.join(SECTIONS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
