"""compare: runs side by side."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from ..reports.comparison import Comparison
from ..reports.comparison_views import comparison_page, comparison_text
from ..reports.files import write_file
from ..settings import SettingsError, build, setting

SUMMARY = "show two or more runs side by side"
DETAILS = (
    "Every run is tested against the first, text by text (exact McNemar), if both have seen the same test rows.\n"
    "Runs that only the seed tells apart are summed up as mean and standard deviation."
)


@dataclass(frozen=True)
class CompareOptions:
    """Output."""

    html: str | None = setting(None, "also write a page to FILE", metavar="FILE")
    json: str | None = setting(None, "also write the numbers to FILE", metavar="FILE")


def groups() -> dict[str, type]:
    return {"comparison": CompareOptions}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", nargs="+", metavar="RUN", help="folder written by train, or by evaluate --report")


def run(arguments: argparse.Namespace) -> int:
    options = build(CompareOptions, arguments)
    if len(arguments.run_folder) < 2:
        raise SettingsError("compare: expected two runs or more, found one")
    told = Comparison.of([Path(folder) for folder in arguments.run_folder])
    print(comparison_text(told))
    if options.html:
        write_file(Path(options.html), comparison_page(told))
    if options.json:
        write_file(Path(options.json), told.as_dict())
    return 0
