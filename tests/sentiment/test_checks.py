"""Copies, contradictions and leaks are counted, and left out on request."""

from __future__ import annotations

import torch

from fused_lstm.sentiment.checks import contradictions, hashes_of, inspect, later_copies
from fused_lstm.sentiment.data_options import DataOptions
from fused_lstm.sentiment.examples import Example


def hashes(*texts):
    return hashes_of(Example("x", text) for text in texts)


TRAIN = hashes("Fine film", "dull", "fine  FILM", "new", "in dev", "ＤＵＬＬ")
DEV, TEST = hashes("in dev", "other", "both"), hashes("dull", "both", "fine films")
LABELS = torch.tensor([1, 0, 0, 1, 1, 0])


def look(**options):
    labels = {"train": LABELS, "dev": torch.zeros(3), "test": torch.zeros(3)}
    keep, notes = inspect({"train": TRAIN, "dev": DEV, "test": TEST}, labels, DataOptions(**options))
    return {part: torch.nonzero(rows).flatten().tolist() for part, rows in keep.items()}, notes


def test_copies_and_contradictions():
    assert later_copies(TRAIN).tolist() == [False, False, True, False, False, True]
    assert not later_copies(hashes("a", "b")).any()
    assert contradictions(TRAIN, LABELS) == 1


def test_by_default_everything_is_kept_and_told():
    keep, notes = look()
    assert keep == {"train": [0, 1, 2, 3, 4, 5], "dev": [0, 1, 2], "test": [0, 1, 2]}
    assert notes == [
        "Duplicates: 2 of 6 train rows repeat an earlier text, 1 text(s) with different labels.",
        "Leak: 1 of 3 dev texts also occur in train (case and spacing aside).",
        "Leak: 1 of 3 test texts also occur in train (case and spacing aside).",
        "Leak: 1 of 3 test texts also occur in dev (case and spacing aside).",
    ]


def test_leaks_leave_the_parts_that_are_learnt_from():
    keep, notes = look(drop_leaks=True)
    assert keep == {"train": [0, 2, 3], "dev": [0, 1], "test": [0, 1, 2]}
    assert notes[2].endswith("(case and spacing aside); 2 train row(s) were left out.")


def test_copies_are_left_out():
    keep, notes = look(drop_duplicates=True)
    assert keep["train"] == [0, 1, 3, 4]
    assert notes[0].endswith("; they were left out.")
