"""The command line says what is wrong with it."""

import pytest

from fused_lstm.sentiment.arguments import parse


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["train", "--epochs", "0"], "must be at least 1, not 0"),
        (["train", "--epochs", "many"], "invalid integer value: 'many'"),
        (["train", "--dropout", "1"], "must be at least 0 and below 1"),
        (["train", "--noise", "1.5"], "must be between 0 and 1"),
        (["train", "--lr", "-1"], "must be above 0"),
        (["train", "--lr", "nan"], "must be above 0"),
        (["train", "--weight-decay", "-1"], "must be 0 or above"),
        (["train", "--lstm", "other"], "invalid choice"),
        (["evaluate", "model"], "DATA"),
        (["predict"], "MODEL"),
        (["predict", "model", "text", "--colour"], "unrecognized arguments: --colour"),
        (["evaluate", "model", "data", "more"], "unrecognized arguments: more"),
    ],
)
def test_wrong_use(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["train"], ["evaluate"], ["predict"]])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        parse([*command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ({"train", "evaluate", "predict"} if not command else {"--lstm", "--threads"}))


@pytest.mark.parametrize(
    "words",
    [
        ["model", "a b", "c", "--format", "tsv"],
        ["model", "--format", "tsv", "a b", "c"],
        ["--format", "tsv", "model", "a b", "c"],
    ],
)
def test_texts_may_stand_before_and_after_options(words):
    arguments = parse(["predict", *words])
    assert (arguments.model, arguments.text, arguments.format) == ("model", ["a b", "c"], "tsv")


@pytest.mark.parametrize("options", [[], ["--format", "tsv"]])
def test_texts_that_begin_with_a_dash(options):
    assert parse(["predict", "model", *options, "--", "-5 degrees", "cold"]).text == ["-5 degrees", "cold"]
