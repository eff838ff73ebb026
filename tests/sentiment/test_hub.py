"""Folders that the library datasets saved, and public names, without a network."""

from __future__ import annotations

import sys

import pytest

from fused_lstm.sentiment import hub
from fused_lstm.sentiment.data_options import DataOptions, ReadingOptions
from fused_lstm.sentiment.datasets import load_dataset, load_part
from fused_lstm.sentiment.examples import DataError, RowProblems
from fused_lstm.sentiment.readers import Fields

datasets = pytest.importorskip("datasets", reason="the library datasets is an optional extra")

NAMES = ["negative", "positive"]


def rows(name, count, text="text", hidden=False):
    features = datasets.Features({text: datasets.Value("string"), "label": datasets.ClassLabel(names=NAMES)})
    labels = [-1 if hidden else i % 2 for i in range(count)]
    return datasets.Dataset.from_dict({text: [f"{name} {i}" for i in range(count)], "label": labels}, features=features)


@pytest.fixture
def parts():
    return datasets.DatasetDict(
        {"train": rows("a", 8), "validation": rows("b", 4), "test": rows("c", 4), "unsupervised": rows("d", 2)}
    )


def load(name, problems=None, **reading):
    return load_dataset(DataOptions(data=str(name)), ReadingOptions(**reading), problems or RowProblems())


def test_a_saved_folder(tmp_path, parts):
    parts.save_to_disk(tmp_path / "saved")
    dataset = load(tmp_path / "saved")
    assert [len(dataset.train), len(dataset.dev), len(dataset.test)] == [8, 4, 4]
    assert dataset.classes == NAMES
    assert dataset.train[1][:2] == ("positive", "a 1")
    assert dataset.notes == ["Not used: unsupervised."]
    assert len(load(f"file://{tmp_path / 'saved'}").train) == 8


def test_parts_without_labels_are_texts(tmp_path, parts):
    parts["unsupervised"] = rows("d", 2, hidden=True)
    parts.save_to_disk(tmp_path / "saved")
    problems = RowProblems()
    texts = load_part(tmp_path / "saved", "train", ReadingOptions(labels_optional=True), problems)
    assert [e.text for e in texts] == [*(f"a {i}" for i in range(8)), "d 0", "d 1"]
    assert problems.count == 0


def test_a_single_saved_set_is_divided(tmp_path):
    rows("a", 60).save_to_disk(tmp_path / "saved")
    dataset = load(tmp_path / "saved")
    assert sum(len(part) for part in (dataset.train, dataset.dev, dataset.test)) == 60
    assert "hash" in dataset.notes[0]


def test_a_repository_folder_by_its_path(tmp_path, parts):
    """What the hub serves, from disk: the same call that fetches a public set."""
    for name in ("train", "test"):
        parts[name].to_parquet(tmp_path / "data" / f"{name}-00000-of-00001.parquet")
    found, notes = hub.open_hub(f"hf:{tmp_path}", Fields(), RowProblems())
    assert notes == []
    assert [e.label for e in found["test"]] == ["negative", "positive"] * 2


def test_a_public_name_with_hidden_test_labels(monkeypatch, parts):
    """As sst2: the text has a name of its own, the test part no labels."""
    asked = []

    def fetch(*arguments, streaming):
        assert streaming
        asked.append(arguments)
        sets = {"train": rows("a", 60, "sentence"), "validation": rows("b", 4, "sentence")}
        sets["test"] = rows("c", 4, "sentence", hidden=True)
        return datasets.IterableDatasetDict({name: part.to_iterable_dataset() for name, part in sets.items()})

    monkeypatch.setattr(datasets, "load_dataset", fetch)
    dataset = load("sst2")
    assert asked == [("stanfordnlp/sst2", None)]
    assert [e.text for e in dataset.test] == ["b 0", "b 1", "b 2", "b 3"]
    assert len(dataset.train) + len(dataset.dev) == 60
    assert "The test part has no labels: validation is used instead." in dataset.notes
    with pytest.raises(DataError, match="no text field") as error:
        load("hf:someone/else:english", RowProblems(strict=True), text_field="body")
    assert asked[1] == ("someone/else", "english")
    assert "hf:someone/else:english/train:1:" in str(error.value)


def test_rows_without_a_label_are_named(tmp_path):
    labels = [0, -1, None, 1] * 5
    texts = [f"t {i}" for i in range(20)]
    datasets.Dataset.from_dict({"text": texts, "label": labels}).save_to_disk(tmp_path / "saved")
    problems = RowProblems()
    dataset = load(tmp_path / "saved", problems)
    assert sum(len(part) for part in (dataset.train, dataset.dev, dataset.test)) == 10
    assert problems.messages[0] == f"{tmp_path / 'saved'}/train:2: the row has no label"
    assert problems.count == 10


def test_numbers_of_classes_count_in_a_regression(tmp_path, parts):
    parts.save_to_disk(tmp_path / "saved")
    assert load(tmp_path / "saved", numeric_labels=True).classes == ["0", "1"]


def test_without_a_network(monkeypatch):
    def fetch(*arguments, **options):
        raise ConnectionError("Couldn't reach 'stanfordnlp/imdb' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", fetch)
    with pytest.raises(DataError, match=r"imdb: cannot be fetched .*ConnectionError.*--data PATH"):
        load("imdb")


def test_unknown_names():
    with pytest.raises(DataError, match=r"imbd: no such file or folder, nor a public set .*imdb, sst2.*hf:owner/name"):
        load("imbd")


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="needs the library datasets: pip install"):
        load("imdb")


def test_a_damaged_folder(tmp_path):
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as a saved data set"):
        load(tmp_path)
