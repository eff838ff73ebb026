"""Folders with part files, and trees of text files by class."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fused_lstm.sentiment.examples import DataError, RowProblems
from fused_lstm.sentiment.folders import class_tree_files, find_part_files, read_class_tree


def grow(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return root


def test_part_files(tmp_path):
    grow(tmp_path, {"train.tsv.gz": "", "valid.csv": "", "test.jsonl": "", "train_phrases.tsv": "", "README.md": ""})
    found = find_part_files(tmp_path, skip=set())
    assert {part: path.name for part, path in found.items()} == {
        "train": "train.tsv.gz", "dev": "valid.csv", "test": "test.jsonl"
    }
    assert set(find_part_files(tmp_path, skip={"train"})) == {"dev", "test"}


def test_two_files_for_one_part(tmp_path):
    grow(tmp_path, {"train.tsv": "", "train.csv": ""})
    with pytest.raises(DataError, match=r"train\.csv, train\.tsv.*--train-file"):
        find_part_files(tmp_path, skip=set())


def test_class_tree(tmp_path):
    grow(
        tmp_path,
        {
            "train/pos/1.txt": "fine\nfilm\n",
            "train/neg/2.txt.gz": "dull",
            "train/unsup/3.txt": "nothing known",
            "train/notes.txt": "not a class",
            "test/pos/4.txt": "well",
            "test/neg/5.txt": " \n",
        },
    )
    problems = RowProblems()
    parts = read_class_tree(tmp_path, problems)
    assert {part: [tuple(e)[:2] for e in examples] for part, examples in parts.items()} == {
        "train": [("neg", "dull"), ("pos", "fine\nfilm")],
        "test": [("pos", "well")],
    }
    assert problems.messages == [f"{tmp_path / 'test/neg/5.txt'}:1: the text is empty"]


def test_classes_without_parts_are_training_data(tmp_path):
    grow(tmp_path, {"happy/a.txt": "joy", "sad/b.txt": "grief", "empty/c.md": "no text file"})
    parts = read_class_tree(tmp_path, RowProblems())
    assert [tuple(e)[:2] for e in parts["train"]] == [("happy", "joy"), ("sad", "grief")]
    assert set(parts) == {"train"}


def test_empty_folder(tmp_path):
    assert read_class_tree(tmp_path, RowProblems()) == {}


def test_texts_without_a_class(tmp_path):
    files = {"train/pos/1.txt": "fine", "train/unsup/2.txt": "unknown", "train/urls_pos.txt": "an address"}
    grow(tmp_path, files)
    for folder, texts in ((tmp_path, ["fine", "unknown"]), (tmp_path / "train" / "unsup", ["unknown"])):
        parts = read_class_tree(folder, RowProblems(), optional=True)
        assert [e.text for e in parts["train"]] == texts
        assert len(class_tree_files(folder, optional=True)) == len(texts)
