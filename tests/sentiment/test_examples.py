"""Bad rows are counted, a few are shown, and strict makes the first one fatal."""

import pytest

from fused_lstm.sentiment.examples import DataError, RowProblems


def test_nothing_wrong_is_not_reported():
    assert RowProblems().lines() == []


def test_all_are_counted_and_the_first_are_shown():
    problems = RowProblems(keep=2)
    for line in range(1, 6):
        problems.add("a.tsv", line, "no tab")
    assert problems.count == 5
    assert problems.lines() == [
        "5 row(s) could not be read and were left out:", "a.tsv:1: no tab", "a.tsv:2: no tab", "... and 3 more"
    ]


def test_strict():
    with pytest.raises(DataError, match=r"a\.tsv:7: no tab.*--strict"):
        RowProblems(strict=True).add("a.tsv", 7, "no tab")
