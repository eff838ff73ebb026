"""What is not UTF-8 is read as Chinese where it looks Chinese, else as Latin-1."""

from __future__ import annotations

import pytest

from fused_lstm.sentiment.encodings import decode_other
from fused_lstm.sentiment.examples import DataError, RowProblems
from fused_lstm.sentiment.readers import Fields, read_file


@pytest.mark.parametrize("text", ["味道很好，送得也快", "1\t很 good 的电影！", "饭都凉了 :("])
def test_chinese(text):
    assert decode_other(text.encode("gb18030")) == (text, "gb18030")


@pytest.mark.parametrize(
    "text", ["café", "très bien, début d'été", "naïve Übergröße", "él vio \u201cesto\u201d \u2013 5 \u20ac"]
)
def test_western(text):
    assert decode_other(text.encode("cp1252")) == (text, "latin-1")


def test_bytes_that_windows_does_not_define():
    assert decode_other(b"a\x81 b") == ("a\x81 b", "latin-1")


def test_repairs_are_counted_and_told(tmp_path):
    path = tmp_path / "a.tsv"
    lines = [b"1\tfine", "0\t太差了".encode("gbk"), "1\tcafé".encode("latin-1"), "1\t好".encode("gbk")]
    path.write_bytes(b"\n".join(lines))
    problems = RowProblems()
    rows = [(e.label, e.text) for e in read_file(path, Fields(), problems)]
    assert rows == [("1", "fine"), ("0", "太差了"), ("1", "café"), ("1", "好")]
    assert problems.lines() == [
        f"2 line(s) were not UTF-8 and were read as gb18030, the first at {path}:2.",
        f"1 line(s) were not UTF-8 and were read as latin-1, the first at {path}:3.",
    ]
    with pytest.raises(DataError, match=r"a\.tsv:2: not UTF-8 at byte 5"):
        list(read_file(path, Fields(), RowProblems(strict=True)))
