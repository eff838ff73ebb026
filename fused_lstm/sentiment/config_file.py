"""Settings from a file: TOML, YAML or JSON, the same names as the flags.

Names stand at the top or in tables named after a command or a group ([model], [training]); a table named after a
command counts for that command alone, the rest for every command that knows the name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import Field
from pathlib import Path
from typing import Any

from .settings import SettingsError, from_file_value, nearest

SUFFIXES = (".toml", ".yaml", ".yml", ".json")


def read_settings(
    path: Path, command: str, commands: Mapping[str, Mapping[str, Field]], tables: Iterable[str]
) -> dict[str, Any]:
    """The settings that the file gives to ``command``.

    ``commands`` holds the settings of every command, ``tables`` the names under which settings may be grouped. Raises
    `SettingsError` for unknown names, wrong values and files that cannot be read.
    """
    tables = set(tables)
    every = {name: f for known in commands.values() for name, f in known.items()}
    shared: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, value in _read(path).items():
        name = key.replace("-", "_")
        if not isinstance(value, dict):
            _take(path, name, value, every, [*every, *tables, *commands], shared)
        elif name in commands:
            for inner, inner_value in value.items():
                _take(path, inner.replace("-", "_"), inner_value, commands[name], commands[name], own, name == command)
        elif name in tables:
            for inner, inner_value in value.items():
                _take(path, inner.replace("-", "_"), inner_value, every, every, shared)
        else:
            raise SettingsError(f"{path}: unknown table {key!r}{nearest(name, [*tables, *commands])}")
    return {name: value for name, value in shared.items() if name in commands[command]} | own


def _take(
    path: Path,
    name: str,
    value: Any,
    known: Mapping[str, Field],
    names: Iterable[str],
    target: dict[str, Any],
    counts: bool = True,
) -> None:
    if name not in known:
        raise SettingsError(f"{path}: unknown setting {name!r}{nearest(name, names)}")
    if value is None or not counts:
        return
    if name in target:
        raise SettingsError(f"{path}: {name!r} is set twice")
    try:
        target[name] = from_file_value(known[name], value)
    except ValueError as error:
        raise SettingsError(f"{path}: {name}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise SettingsError(f"{path}: expected a settings file named {', '.join(SUFFIXES)}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    parse = {".toml": _toml, ".json": json.loads}.get(suffix, _yaml)
    try:
        values = parse(text)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"{path}: cannot be read as {suffix[1:].upper()}: {reason}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise SettingsError(f"{path}: expected names and values, found {type(values).__name__}")
    return values


def _toml(text: str) -> Any:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        try:
            import tomli as tomllib
        except ImportError as error:
            raise SettingsError(
                'TOML needs Python 3.11 or tomli: pip install "fused_lstm[sentiment]", or use JSON'
            ) from error
    return tomllib.loads(text)


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise SettingsError('YAML needs PyYAML: pip install "fused_lstm[sentiment]", or use TOML') from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
