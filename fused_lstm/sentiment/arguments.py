"""The command line: the parser of all commands, made from their settings, and the file of --config."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import Field
from importlib import import_module
from pathlib import Path
from types import ModuleType

from . import commands
from .config_file import read_settings
from .settings import add_flags, settings_of

CONFIG_HELP = (
    "settings from a TOML, YAML or JSON file, by the names of the flags, at the top or in tables such as [model]; "
    "flags win over it"
)


def _formatter(prog: str) -> argparse.HelpFormatter:
    width = min(120, shutil.get_terminal_size((110, 24)).columns)
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=32, width=width)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line as attributes: those of the command's arguments, settings that were given, ``run``.

    Exits with status 2 and a message if the line is wrong; raises `SettingsError` if the file of --config is.
    """
    modules = {name: import_module(f".{name}", commands.__name__) for name in commands.NAMES}
    parser = build_parser(modules)
    arguments, rest = parser.parse_known_args(argv)
    module = modules[arguments.command]
    # Where options stand between MODEL and TEXT, argparse has closed the list of texts before it sees them.
    into = getattr(module, "REST", None)
    if into and (rest[:1] == ["--"] or not any(word.startswith("-") for word in rest)):
        getattr(arguments, into).extend(rest[1:] if rest[:1] == ["--"] else rest)
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if arguments.config is not None:
        _add_from_file(arguments, modules)
    arguments.run = module.run
    return arguments


def build_parser(modules: dict[str, ModuleType]) -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="fused-lstm-sentiment",
        description="Trains, evaluates and uses LSTM sentiment classifiers. Try: train, without anything else.",
        formatter_class=_formatter,
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in modules.items():
        subparser = subparsers.add_parser(
            name,
            help=module.SUMMARY,
            description=f"{module.SUMMARY[0].upper()}{module.SUMMARY[1:]}.",
            epilog=module.DETAILS,
            usage=getattr(module, "USAGE", None),
            formatter_class=_formatter,
        )
        module.add_arguments(subparser)
        subparser.add_argument("--config", metavar="FILE", help=CONFIG_HELP)
        for group in module.groups().values():
            add_flags(subparser, group, getattr(module, "DEFAULT_TEXT", None))
    return parser


def _add_from_file(arguments: argparse.Namespace, modules: dict[str, ModuleType]) -> None:
    known = {name: _settings(module) for name, module in modules.items()}
    tables = {group for module in modules.values() for group in module.groups()}
    for name, value in read_settings(Path(arguments.config), arguments.command, known, tables).items():
        if not hasattr(arguments, name):
            setattr(arguments, name, value)


def _settings(module: ModuleType) -> dict[str, Field]:
    return {name: f for group in module.groups().values() for name, f in settings_of(group).items()}
