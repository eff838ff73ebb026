"""Accuracy over seeds, from runs of the sentiment application."""

from __future__ import annotations

import json

import pytest

from benchmarks import accuracy


def run(folder, name, seed, right, baselines=(), **settings):
    measured = {"accuracy": right, "accuracy_interval_95": [right - 0.01, right + 0.01]}
    metrics = {
        "settings": {"seed": seed, "data": "/somewhere/else", "output": str(seed), "lr": 0.1, **settings},
        "data": {"sha256": {"test": "abc"}, "counts": {"test": 1200}},
        "environment": {"processor": "a"},
        "parts": {"test": measured},
        "baselines": [{"name": n, "parts": {"test": {**measured, "accuracy": a}}} for n, a in baselines],
        "best_epoch": 2,
        "history": [{"dev_accuracy": 0.7, "seconds": 30.0}, {"dev_accuracy": 0.8, "seconds": 90.0}],
    }
    path = folder / f"{name}-{seed}"
    path.mkdir()
    (path / "metrics.json").write_text(json.dumps(metrics))


def test_seeds_are_put_together(tmp_path):
    run(tmp_path, "some-set", 1, 0.80, [("TF-IDF", 0.79), ("NB", 0.81)], vectors="/of/this/machine/vectors.txt")
    run(tmp_path, "some-set", 2, 0.84, vectors="/of/this/machine/vectors.txt")
    found = accuracy.gather(tmp_path)
    assert "machine" not in json.dumps(found) and found["some-set"]["settings"]["vectors"] == "vectors.txt"
    assert found["some-set"]["seeds"]["2"]["dev"] == 0.8
    row = accuracy.table(found).splitlines()[-1]
    assert row == "| some-set | 1,200 | 82.00 ± 2.83 | 80.00, 84.00 | 83.00 to 85.00 | 81.00 | 2.0 |"


def test_other_settings_are_no_seeds(tmp_path):
    run(tmp_path, "set", 1, 0.8)
    run(tmp_path, "set", 2, 0.8, lr=0.2)
    with pytest.raises(SystemExit, match="set-2: differs from set-1 in more than the seed"):
        accuracy.gather(tmp_path)
