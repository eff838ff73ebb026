"""From a user's path to three parts, and what is said about them."""

from __future__ import annotations

import pytest

from fused_lstm.sentiment.datasets import DataOptions, ReadingOptions, embedded_dataset, load_dataset, load_part
from fused_lstm.sentiment.examples import DataError, RowProblems


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{label}\t{text}\n" for label, text in rows), encoding="utf-8")
    return path


def rows(name, count):
    return [(str(i % 2), f"{name} text {i}") for i in range(count)]


def load(path, **options):
    data = DataOptions(data=None if path is None else str(path), **options)
    return load_dataset(data, ReadingOptions(), RowProblems())


def test_one_file_is_divided(tmp_path):
    dataset = load(write(tmp_path / "all.tsv", rows("a", 200)))
    sizes = [len(dataset.train), len(dataset.dev), len(dataset.test)]
    assert sum(sizes) == 200
    assert min(sizes) > 5
    assert sizes[0] > 130
    assert "hash" in dataset.notes[0]
    assert dataset.classes == ["0", "1"]
    assert not dataset.composed


def test_a_folder_of_parts_is_taken_as_it_is(tmp_path):
    for part, count in (("train", 30), ("dev", 6), ("test", 8)):
        write(tmp_path / f"{part}.tsv", rows(part, count))
    dataset = load(tmp_path)
    assert [len(dataset.train), len(dataset.dev), len(dataset.test)] == [30, 6, 8]
    assert dataset.notes == []


def test_a_missing_part_is_taken_from_train(tmp_path):
    write(tmp_path / "train.tsv", rows("train", 200))
    write(tmp_path / "test.tsv", rows("test", 8))
    dataset = load(tmp_path)
    assert len(dataset.test) == 8
    assert len(dataset.train) + len(dataset.dev) == 200
    assert 5 < len(dataset.dev) < 40
    assert dataset.notes[0].startswith("No dev part")


def test_files_named_by_options_win(tmp_path):
    for part in ("train", "dev", "test"):
        write(tmp_path / f"{part}.tsv", rows(part, 10))
    write(tmp_path / "train_more.tsv", rows("more", 20))
    elsewhere = write(tmp_path / "else" / "where.tsv", rows("where", 12))
    dataset = load(tmp_path, train_file="train_more.tsv", test_file=str(elsewhere))
    assert [len(dataset.train), len(dataset.dev), len(dataset.test)] == [20, 10, 12]
    alone = load(None, train_file=str(tmp_path / "train.tsv"), dev_file=str(elsewhere), test_file=str(elsewhere))
    assert [len(alone.train), len(alone.dev)] == [10, 12]


def test_leaks_are_told(tmp_path):
    write(tmp_path / "train.tsv", rows("same", 20))
    write(tmp_path / "dev.tsv", rows("dev", 5))
    write(tmp_path / "test.tsv", [("1", "SAME  text 3"), ("0", "new")])
    assert load(tmp_path).notes == ["Leak: 1 of 2 test texts also occur in train (case and spacing aside)."]


def test_labels_that_train_lacks_are_left_out_and_told(tmp_path):
    write(tmp_path / "train.tsv", rows("train", 20))
    write(tmp_path / "dev.tsv", rows("dev", 5))
    write(tmp_path / "test.tsv", [("1", "a"), ("2", "b"), ("2", "c")])
    dataset = load(tmp_path)
    assert [e.text for e in dataset.test] == ["a"]
    assert "2 test row(s) were left out: train has no such label ('2')" in dataset.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([("1", f"t {i}") for i in range(30)], "every training row has the label '1'"),
        ([(f"text {i}", "1 0"[i % 2 :]) for i in range(60)] + [(f"t {i}", f"u {i}") for i in range(60)], "exchanged"),
        ([], "no training examples"),
    ],
)
def test_useless_data(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "train.tsv", content))


def test_missing_paths(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no training examples"):
        load(tmp_path)


def test_a_part_without_usable_rows(tmp_path):
    write(tmp_path / "train.tsv", rows("train", 20))
    write(tmp_path / "dev.tsv", rows("dev", 5))
    write(tmp_path / "test.tsv", [("", "no label")])
    with pytest.raises(DataError, match=r"the test part holds no usable row \(1 row.*test.tsv:1: the label is empty"):
        load(tmp_path)


def test_the_first_problems_stand_in_the_error(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("words\nfine\n")
    with pytest.raises(DataError, match=r"no usable row \(2 row.* not be read: .*a.csv:1: expected a label"):
        load(file)


def test_load_part(tmp_path):
    file = write(tmp_path / "one" / "anything.tsv", rows("a", 7))
    assert len(load_part(str(file), "test", ReadingOptions(), RowProblems())) == 7
    write(tmp_path / "two" / "test.tsv", rows("b", 4))
    assert len(load_part(str(tmp_path / "two"), "test", ReadingOptions(), RowProblems())) == 4
    with pytest.raises(DataError, match="has no dev part; it has test"):
        load_part(str(tmp_path / "two"), "dev", ReadingOptions(), RowProblems())


def test_embedded_dataset():
    dataset = embedded_dataset(300, noise=0.25)
    assert dataset.embedded
    assert len(dataset.composed) == 1000
    assert "75.0%" in dataset.notes[1]
    clean = {e.text: e.label for part in ("train", "dev", "test") for e in getattr(embedded_dataset(300), part)}
    flipped = sum(clean[e.text] != e.label for part in ("train", "dev", "test") for e in getattr(dataset, part))
    assert 45 < flipped < 105
