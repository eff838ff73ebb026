"""The command line: parsed and checked before anything heavy is imported or timed."""

from __future__ import annotations

import argparse
from pathlib import Path

from .plan import SECTIONS, SUITES, Wishes, cores
from .shapes import MODES, NAMED, SYNTAX, ShapeError, parse

COMMANDS = ("run", "compare", "plot", "table", "readme", "list")
DTYPE_NAMES = ("float32", "tf32", "bfloat16", "float16", "float64")
EPILOG = f"""
A shape is a name ({", ".join(NAMED)}) or {SYNTAX}: T steps, B rows, I input, H hidden, xL layers,
bi both directions, packed rows of different lengths, resets episodes that end inside of rows. `400>1150` in the
place of H stacks LSTMs of different sizes. Examples:

  python -m benchmarks                                        the quick suite on the CPU, 8 minutes
  python -m benchmarks --suite full --device cuda
  python -m benchmarks --shapes sentiment 70,7,333,333 128,32,256,256,bi --peers torch onnxruntime --threads 1 2
  python -m benchmarks --shapes 128,32,256,256 --peers self   how far to trust a ratio today
  python -m benchmarks list                                   peers (and how to get those that are missing), shapes
  python -m benchmarks compare old.jsonl new.jsonl            exit status 1 with regressions beyond the noise
"""


def whole(least: int):
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return int(text)

    return number


def above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def shape(text: str):
    try:
        return parse(text)
    except ShapeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def commas(values: list[str]) -> list[str]:
    """``--peers torch,onnxruntime`` as ``--peers torch onnxruntime``; a shape has commas of its own."""
    return [part for value in values for part in value.split(",") if part]


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        prog="python -m benchmarks", description="FusedLSTM against other LSTMs: right first, then how fast.",
        epilog=EPILOG, formatter_class=raw,
    )  # fmt: skip
    commands = top.add_subparsers(dest="command", metavar="{" + ",".join(COMMANDS) + "}")
    run = commands.add_parser("run", help="measure; needs not be said", epilog=EPILOG, formatter_class=raw)
    _add_run(run)
    compare = commands.add_parser("compare", help="results files: what became slower or wrong beyond the noise")
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path, nargs="+", help="of several, all have to say the same")
    for name, text in (("plot", "PNG files of a results file"), ("table", "the tables of a results file")):
        command = commands.add_parser(name, help=text)
        command.add_argument("file", type=Path)
        if name == "plot":
            command.add_argument("--output", type=Path, help="folder (default: beside the file, named like it)")
        else:
            command.add_argument("--markdown", action="store_true", help="as Markdown")
    readme = commands.add_parser("readme", help="put the speed table into README.md")
    readme.add_argument("--check", action="store_true", help="only say whether it is in step (exit status 1: not)")
    listing = commands.add_parser("list", help="peers, and why some are missing; shapes; suites")
    listing.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return top


def _add_run(run: argparse.ArgumentParser) -> None:
    what = run.add_argument_group("what")
    what.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    what.add_argument("--suite", choices=SUITES, default="quick", help="(default: %(default)s)")
    what.add_argument("--shapes", nargs="+", type=shape, metavar="SHAPE", default=[], help="these instead of a suite's")
    what.add_argument("--dtypes", nargs="+", metavar="DTYPE", default=[], help=f"some of {', '.join(DTYPE_NAMES)}")
    what.add_argument("--modes", nargs="+", metavar="MODE", default=[], help=f"some of {', '.join(MODES)}")
    what.add_argument("--peers", nargs="+", metavar="PEER", default=[], help="see `list`; `all`: every rival")
    what.add_argument("--sections", nargs="+", metavar="SECTION", default=[], help=f"some of {', '.join(SECTIONS)}")
    default = f"(default: 1 and all cores, here {cores()})"
    what.add_argument("--threads", nargs="+", type=whole(1), default=[], metavar="N", help=default)
    how = run.add_argument_group("how")
    how.add_argument("--minutes", type=above_zero, help="for everything (default: 7.5 for quick, no limit for others)")
    how.add_argument("--seconds", type=above_zero, help="a race may take (default: 2 for quick, 8 for full, else 6)")
    how.add_argument("--output", type=Path, help="a .jsonl file (benchmarks/results/MACHINE/SUITE-DEVICE.jsonl)")
    how.add_argument("--no-plots", action="store_true", help="no PNG files beside the results")


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    top = parser()
    if not argv or (argv[0] not in COMMANDS and argv[0] not in ("-h", "--help")):
        argv = ["run", *argv]
    args = top.parse_args(argv)
    if args.command == "run":
        _check_run(top, args)
    return args


def _check_run(top: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from .peers import OURS, PEERS, RIVALS

    args.dtypes, args.modes = commas(args.dtypes), commas(args.modes)
    args.peers, args.sections = commas(args.peers), commas(args.sections)
    if "all" in args.peers:
        args.peers = list(RIVALS)
    _known(top, "--dtypes", args.dtypes, DTYPE_NAMES)
    _known(top, "--modes", args.modes, MODES)
    _known(top, "--sections", args.sections, SECTIONS)
    if OURS.name in args.peers:
        top.error("--peers: fused is what all others are compared with; `self` compares it with itself")
    _known(top, "--peers", args.peers, tuple(PEERS))
    if "tf32" in args.dtypes and args.device == "cpu":
        top.error("--dtypes tf32: TF32 exists on CUDA only; take float32, or --device cuda")
    if args.shapes and args.sections:
        top.error("--sections chooses among a suite's; it has no meaning beside --shapes")
    if args.suite == "variants" and (args.shapes or args.device == "cuda"):
        top.error("--suite variants has one shape of its own, on the CPU")
    if args.output and args.output.suffix != ".jsonl":
        top.error(f"--output {args.output}: name a file that ends in .jsonl; tables and plots get its name beside it")
    if args.output and args.output.is_dir():
        top.error(f"--output {args.output} is a folder: name a file in it that ends in .jsonl")
    if too_many := [n for n in args.threads if n > cores()]:
        top.error(f"--threads {too_many[0]}: this process may use {cores()} core(s)")


def _known(top: argparse.ArgumentParser, option: str, given: list[str], known: tuple[str, ...]) -> None:
    if unknown := [value for value in given if value not in known]:
        top.error(f"{option}: {unknown[0]!r} is unknown; choose from {', '.join(known)}")


def wishes(args: argparse.Namespace) -> Wishes:
    return Wishes(
        args.device, args.suite, tuple(args.shapes), tuple(args.dtypes), tuple(args.modes), tuple(args.peers),
        tuple(sorted(set(args.threads))), tuple(args.sections),
    )  # fmt: skip
