"""Settings as fields of dataclasses: each carries its help and its limits, and becomes a flag and a key of a file.

A group of settings is a frozen dataclass whose fields are made by `setting`; other fields are not for users. Names are
unique over all groups of a command. What was given on the command line or in a file stands in a namespace under the
field's name; what was not given is absent from it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import Field, field, fields, replace
from difflib import get_close_matches
from typing import Any, TypeVar

from .errors import UserError

Group = TypeVar("Group")
_KINDS: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}


class SettingsError(UserError):
    """A setting in a file is unknown or has a value that cannot be."""


def setting(
    default: Any,
    help: str,
    kind: Callable[[str], Any] | None = None,
    choices: Iterable[str] | None = None,
    metavar: str | None = None,
) -> Any:
    """A field that users can set. ``kind`` turns text into the value, or raises like a type of argparse; without it the
    annotation decides (int, float, str or bool, each also with ``| None``). ``metavar`` names the value in the help."""
    metadata = {"help": help, "kind": kind, "choices": None if choices is None else tuple(choices), "metavar": metavar}
    return field(default=default, metadata={"setting": metadata})


def settings_of(group: type | object) -> dict[str, Field]:
    """The fields of a group that users can set, by name."""
    return {f.name: f for f in fields(group) if "setting" in f.metadata}


def add_flags(
    parser: argparse.ArgumentParser, group: type, default_text: Callable[[Field], str] | None = None
) -> None:
    """One flag for each setting of ``group``, under the first line of its docstring as the title."""
    title = (group.__doc__ or group.__name__).split("\n")[0].rstrip(".").lower()
    target = parser.add_argument_group(title)
    describe = default_text or plain_default
    for name, f in settings_of(group).items():
        told = f.metadata["setting"]
        default = describe(f)
        text = told["help"].replace("%", "%%") + (f" ({default})" if default else "")
        flag = f"--{name.replace('_', '-')}"
        if _base(f) == "bool":
            target.add_argument(
                flag, dest=name, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
            )
            continue
        target.add_argument(
            flag,
            dest=name,
            default=argparse.SUPPRESS,
            help=text,
            type=told["kind"] or _KINDS[_base(f)],
            choices=told["choices"],
            metavar=told["metavar"] or _metavar(f),
        )


def _metavar(f: Field) -> str | None:
    if f.metadata["setting"]["choices"]:
        return None
    return {"int": "N", "float": "X"}.get(_base(f), f.name.rpartition("_")[2].upper())


def plain_default(f: Field) -> str:
    """The default of a setting as it stands in the help; empty if there is nothing to say."""
    if f.default is None or f.default == "":
        return ""
    if isinstance(f.default, bool):
        return "yes" if f.default else "no"
    return value_text(f.default)


def value_text(value: Any) -> str:
    """A value for a person."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def given_in(group: type | object, namespace: argparse.Namespace) -> dict[str, Any]:
    """The settings of ``group`` that were given."""
    return {name: getattr(namespace, name) for name in settings_of(group) if hasattr(namespace, name)}


def build(group: type[Group], namespace: argparse.Namespace) -> Group:
    """The group with its defaults, and everything replaced that was given."""
    return group(**given_in(group, namespace))


def updated(group: Group, namespace: argparse.Namespace) -> Group:
    """The same group with everything replaced that was given."""
    return replace(group, **given_in(group, namespace))


def from_file_value(f: Field, value: Any) -> Any:
    """A value as a file holds it, brought to the type of the setting. Raises ValueError saying what was expected."""
    told, base = f.metadata["setting"], _base(f)
    if base == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"expected true or false, found {value!r}")
        return value
    native: tuple[type, ...] = {"int": (int,), "float": (int, float), "str": (str,)}[base]
    if base == "str" and told["kind"] is not None:  # it may read numbers from text ("1e-3,2e-3"), and take one alone
        native = (str, int, float)
    if isinstance(value, bool) or not isinstance(value, native):
        raise ValueError(f"expected {_article(base)}, found {value!r}")
    try:
        result = (told["kind"] or _KINDS[base])(str(value))
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise ValueError(str(error)) from error
    if told["choices"] and result not in told["choices"]:
        raise ValueError(f"expected one of {', '.join(told['choices'])}, found {value!r}")
    return result


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` or nothing."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _base(f: Field) -> str:
    kind = f.type if isinstance(f.type, str) else f.type.__name__
    return kind.removesuffix(" | None")


def _article(base: str) -> str:
    return {"int": "a whole number", "float": "a number", "str": "a string"}[base]


# --- kinds: types for argparse with limits ---------------------------------------------------------------------------


def at_least(least: int) -> Callable[[str], int]:
    """Integers not below ``least``."""

    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {value}")
        return value

    return integer


def _number(text: str, allowed: Callable[[float], bool], expected: str) -> float:
    value = float(text)
    if not allowed(value):
        raise argparse.ArgumentTypeError(f"must be {expected}, not {text}")
    return value


def share(text: str) -> float:
    return _number(text, lambda value: 0 <= value <= 1, "between 0 and 1")


def rate(text: str) -> float:
    return _number(text, lambda value: 0 <= value < 1, "at least 0 and below 1")


def positive(text: str) -> float:
    return _number(text, lambda value: 0 < value < float("inf"), "above 0")


def nonnegative(text: str) -> float:
    return _number(text, lambda value: 0 <= value < float("inf"), "0 or above")
