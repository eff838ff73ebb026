"""Model folders: what is written comes back; what is broken, foreign or newer is named."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from fused_lstm.sentiment import model_folder, stored_files
from fused_lstm.sentiment.model_folder import CONFIG, VOCABULARY, WEIGHTS, prepare_folder
from fused_lstm.sentiment.store import CLASSIFIER, load, save
from fused_lstm.sentiment.stored_files import StoreError, write_text


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


def test_writing_that_was_cut_short_is_noticed(folder, small_model, monkeypatch):
    torch.nn.init.zeros_(small_model.network.output.weight)

    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(model_folder, "write_json", fail)
        with pytest.raises(OSError, match="no space left"):
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
