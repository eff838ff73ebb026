"""Settings: fields to flags, to values of files, and back."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import pytest

from fused_lstm.sentiment.settings import add_flags, at_least, build, from_file_value, setting, settings_of, updated


@dataclass(frozen=True)
class Options:
    """Garden.

    More about it.
    """

    beds: int = setting(3, "how many (100 % ours)", at_least(1))
    shade: float | None = setting(None, "share of it")
    crop: str = setting("peas", "what grows", choices=("peas", "beans"))
    water: bool = setting(True, "water it")
    internal: int = 5


def parse(*words):
    parser = argparse.ArgumentParser()
    add_flags(parser, Options)
    return parser.parse_args(words)


def test_only_what_was_given_is_there():
    assert vars(parse()) == {}
    assert vars(parse("--beds", "4", "--no-water")) == {"beds": 4, "water": False}
    assert build(Options, parse("--shade", "0.5")) == Options(shade=0.5)
    assert updated(Options(beds=9), parse("--crop", "beans")) == Options(beds=9, crop="beans")
    assert "internal" not in settings_of(Options)


def test_help(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    for part in ("garden:", "how many (100 % ours) (3)", "share of it --crop", "(peas)", "--no-water", "(yes)"):
        assert part in text


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [("beds", 4, 4), ("shade", 1, 1.0), ("shade", 0.25, 0.25), ("crop", "beans", "beans"), ("water", False, False)],
)
def test_values_of_files(name, value, result):
    found = from_file_value(settings_of(Options)[name], value)
    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("beds", 0, "must be at least 1, not 0"),
        ("beds", True, "expected a whole number, found True"),
        ("beds", 2.5, "expected a whole number, found 2.5"),
        ("beds", [1], "expected a whole number"),
        ("shade", "0.5", "expected a number, found '0.5'"),
        ("crop", "roses", "expected one of peas, beans, found 'roses'"),
        ("crop", 1, "expected a string, found 1"),
        ("water", 1, "expected true or false, found 1"),
    ],
)
def test_wrong_values_of_files(name, value, message):
    with pytest.raises(ValueError, match=message):
        from_file_value(settings_of(Options)[name], value)
