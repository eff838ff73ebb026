"""Model folders: what is written comes back; what is broken, foreign or newer is named."""

from __future__ import annotations

import errno
import json
import os
import sys
from itertools import count

import pytest
import safetensors.torch
import torch
from safetensors.torch import save_file

from fused_lstm.sentiment import stored_files
from fused_lstm.sentiment.model_folder import CONFIG, VOCABULARY, WEIGHTS, prepare_folder
from fused_lstm.sentiment.store import CLASSIFIER, load, save
from fused_lstm.sentiment.stored_files import StoreError, write_text
from fused_lstm.sentiment.tokens import Vocabulary


@pytest.fixture
def folder(tmp_path, small_model):
    path = tmp_path / "deep" / "model"
    save(path, small_model.network, small_model.vocabulary, small_model.settings)
    return path


def change(folder, **entries):
    """Changes entries of config.json; None removes one."""
    config = json.loads((folder / CONFIG).read_text())
    config = {name: value for name, value in (config | entries).items() if value is not None}
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize("backend", ["torch", "fused"])
def test_what_is_saved_comes_back(folder, small_model, backend):
    loaded = load(folder, backend)
    assert loaded.settings == small_model.settings
    assert loaded.vocabulary.words == small_model.vocabulary.words
    assert not loaded.network.training
    for name, value in small_model.network.state_dict().items():
        assert torch.equal(value, loaded.network.state_dict()[name]), name
    tokens, lengths = torch.tensor([[2, 3, 5], [8, 0, 0]]), torch.tensor([3, 1])
    torch.testing.assert_close(loaded.network(tokens, lengths), small_model.network(tokens, lengths))


def test_three_files_and_no_leftovers(folder):
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS, VOCABULARY]
    assert "好" in (folder / VOCABULARY).read_text(encoding="utf-8")


def test_saving_again_replaces(folder, small_model):
    torch.nn.init.zeros_(small_model.network.output.weight)
    save(folder, small_model.network, small_model.vocabulary, small_model.settings)
    assert not load(folder, "torch").network.output.weight.any()


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, VOCABULARY])
def test_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(StoreError, match=name):
        load(folder, "torch")


@pytest.mark.parametrize("name", [WEIGHTS, VOCABULARY])
def test_changed_file(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[-3] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(StoreError, match=f"{name}: does not belong to config.json or is damaged"):
        load(folder, "torch")


@pytest.mark.parametrize("file", [0, 1, 2])
def test_a_full_disk_leaves_the_earlier_model(folder, small_model, monkeypatch, file):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    torch.nn.init.zeros_(small_model.network.output.weight)
    sync, synced = os.fsync, count()

    def full(handle):
        if next(synced) == file:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="cannot be written: No space left on device; files of an earlier run"):
        save(folder, small_model.network, small_model.vocabulary, small_model.settings)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "error"), [(["\ud800"], "surrogates not allowed"), (["good"], "I/O error: No space left")]
)
def test_what_cannot_be_stored_leaves_the_earlier_model(folder, small_model, monkeypatch, words, error):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(weights, path):
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    if words == ["good"]:
        monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(StoreError, match=error):
        save(folder, small_model.network, Vocabulary(words), small_model.settings)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_replacing_that_was_cut_short_is_noticed(folder, small_model, monkeypatch):
    torch.nn.init.zeros_(small_model.network.output.weight)
    replace, calls = os.replace, count()

    def killed(source, target):
        if next(calls):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save(folder, small_model.network, small_model.vocabulary, small_model.settings)
    with pytest.raises(StoreError, match="does not belong"):
        load(folder, "torch")


def test_not_a_model_folder(tmp_path):
    with pytest.raises(StoreError, match="not a folder of a classifier"):
        load(tmp_path / "nowhere")
    (tmp_path / CONFIG).write_text('{"architectures": ["Other"]}')
    with pytest.raises(StoreError, match=r"expected format 'fused_lstm\.sentiment' but found None"):
        load(tmp_path)
    with pytest.raises(StoreError, match="of no classifier"):
        prepare_folder(tmp_path, CLASSIFIER)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_broken_config(folder, text):
    (folder / CONFIG).write_text(text)
    with pytest.raises(StoreError, match=CONFIG):
        load(folder, "torch")


@pytest.mark.parametrize("version", [2, 4, "3", None])
def test_other_versions(folder, version):
    change(folder, version=version)
    with pytest.raises(StoreError, match="use the fused_lstm it was written with"):
        load(folder, "torch")


@pytest.mark.parametrize("name", ["model", "classes", "max_length", "sha256"])
def test_missing_entry(folder, name):
    change(folder, **{name: None})
    with pytest.raises(StoreError, match=name):
        load(folder, "torch")


@pytest.mark.parametrize(
    "entries",
    [{"hidden": "many"}, {"hidden": -3}, {"pooling": "sum"}, {"dropout": None}, {"vocabulary": 0}],
)
def test_wrong_sizes(folder, entries):
    model = json.loads((folder / CONFIG).read_text())["model"]
    change(folder, model=model | entries)
    with pytest.raises(StoreError):
        load(folder, "torch")


def test_classes_and_vocabulary_must_fit_the_model(folder):
    change(folder, classes=["bad", "good"])
    with pytest.raises(StoreError, match="names 2 classes, the model has 3"):
        load(folder, "torch")


@pytest.mark.parametrize(
    "change_state",
    [
        lambda state: {},
        lambda state: {**state, "model": {**state["model"], "vocab": {"<pad>": 0, "<unk>": 1, "a": 2}}},
        lambda state: {**state, "model": {**state["model"], "vocab": {"a": 0}}},
        lambda state: {**state, "pre_tokenizer": None},
        lambda state: {**state, "model": {**state["model"], "type": "BPE"}},
    ],
)
def test_vocabulary_must_fit(folder, change_state):
    (folder / VOCABULARY).write_text(json.dumps(change_state(json.loads((folder / VOCABULARY).read_text()))))
    change(folder, sha256={name: stored_files.checksum(folder / name) for name in (WEIGHTS, VOCABULARY)})
    with pytest.raises(StoreError, match=VOCABULARY):
        load(folder, "torch")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (lambda w: {**w, "output.bias": torch.zeros(4)}, r"output\.bias should have shape \(3,\) but has \(4,\)"),
        (lambda w: {n: v for n, v in w.items() if n != "output.bias"}, r"output\.bias .* but has none"),
        (lambda w: {**w, "other": torch.zeros(1)}, "other should have shape none"),
    ],
)
def test_weights_must_fit(folder, small_model, weights, message):
    save_file(weights(dict(small_model.network.state_dict())), folder / WEIGHTS)
    change(folder, sha256={name: stored_files.checksum(folder / name) for name in (WEIGHTS, VOCABULARY)})
    with pytest.raises(StoreError, match=message):
        load(folder, "torch")


def test_file_that_is_not_safetensors(folder):
    (folder / WEIGHTS).write_bytes(b"\x80\x04pickle or anything else")
    change(folder, sha256={name: stored_files.checksum(folder / name) for name in (WEIGHTS, VOCABULARY)})
    with pytest.raises(StoreError, match="cannot be read"):
        load(folder, "torch")


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError

    with pytest.raises(OSError):
        stored_files.write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_without_safetensors(tmp_path, small_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(StoreError, match=r'pip install "fused_lstm\[sentiment\]"'):
        save(tmp_path, small_model.network, small_model.vocabulary, small_model.settings)
