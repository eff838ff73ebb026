"""--config: TOML, YAML and JSON to settings of a command."""

from __future__ import annotations

import json
import sys

import pytest

from fused_lstm.sentiment.arguments import parse
from fused_lstm.sentiment.options import RunOptions
from fused_lstm.sentiment.settings import SettingsError


def read(tmp_path, text, *words, name="a.toml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return RunOptions().given(parse(["train", "--config", str(path), *words]))


TOML = 'lr = 0.01\n[model]\nhidden = 7\nbidirectional = false\n[training]\nbatch-size = 9\n[train]\nepochs = 2\n'
YAML = "lr: 0.01\nmodel: {hidden: 7, bidirectional: false}\ntraining:\n  batch_size: 9\ntrain:\n  epochs: 2\n"


@pytest.mark.parametrize(("name", "text"), [("a.toml", TOML), ("a.yaml", YAML)])
def test_settings_are_read_and_flags_win(tmp_path, name, text):
    if name.endswith("yaml"):
        pytest.importorskip("yaml")
    options = read(tmp_path, text, "--hidden", "8", name=name)
    assert options.model.hidden == 8
    assert not options.model.bidirectional
    assert (options.training.lr, options.training.batch_size, options.training.epochs) == (0.01, 9, 2)
    assert options.model.layers == RunOptions().model.layers


def test_what_a_run_writes_can_be_read(tmp_path):
    options = RunOptions().set(hidden=5, lr=0.5, data="x.tsv", plots=False)
    assert read(tmp_path, json.dumps(options.nested()), name="settings.json") == options


def test_a_file_may_serve_several_commands(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('threads = 2\nhidden = 7\n[predict]\nformat = "tsv"\nthreads = 3\n')
    predict = parse(["predict", "model", "--config", str(path)])
    assert (predict.format, predict.threads, hasattr(predict, "hidden")) == ("tsv", 3, False)
    assert parse(["train", "--config", str(path)]).threads == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hiden = 3", "unknown setting 'hiden'; did you mean 'hidden'"),
        ("[model]\nhiden = 3", "unknown setting 'hiden'; did you mean 'hidden'"),
        ("[modle]\nhidden = 3", "unknown table 'modle'; did you mean 'model'"),
        ('[train]\nformat = "tsv"', "unknown setting 'format'"),
        ("hidden = 0", "hidden: must be at least 1, not 0"),
        ("hidden = 3\n[model]\nhidden = 3", "'hidden' is set twice"),
        ("hidden 3", "cannot be read as TOML"),
    ],
)
def test_wrong_files(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.ini", "", "expected a settings file named .toml"),
        ("a.json", "[1]", "expected names and values, found list"),
        ("a.json", "{", "cannot be read as JSON"),
    ],
)
def test_other_files(tmp_path, name, text, message):
    with pytest.raises(SettingsError, match=message):
        read(tmp_path, text, name=name)


def test_missing_file(tmp_path):
    with pytest.raises(SettingsError, match="No such file"):
        parse(["train", "--config", str(tmp_path / "a.toml")])


def test_without_yaml(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(SettingsError, match="PyYAML: pip install"):
        read(tmp_path, "hidden: 3", name="a.yaml")
