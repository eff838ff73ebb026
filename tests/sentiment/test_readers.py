"""Files of every kind, whole and broken, to examples."""

from __future__ import annotations

import gzip
import json
import lzma
import sys
from pathlib import Path

import pytest

from fused_lstm.sentiment.examples import DataError, RowProblems
from fused_lstm.sentiment.readers import Fields, kind_of, read_file


def read(path: Path, content: str | bytes, kind: str | None = None, **fields):
    """(label, text) pairs, and the messages about bad rows without the file's name."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    problems = RowProblems()
    examples = list(read_file(path, Fields(**fields), problems, kind))
    return [(e.label, e.text) for e in examples], [m.removeprefix(f"{path}:") for m in problems.messages]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.tsv", "tsv"), ("a.TSV.gz", "tsv"), ("a.b.csv.xz", "csv"), ("a.jsonl", "jsonl"), ("a.gz", None), ("a", None)],
)
def test_kind_of(name, kind):
    assert kind_of(Path(name)) == kind


def test_tsv(tmp_path):
    rows, bad = read(tmp_path / "a.tsv", "1\tfine film\r\n\n0\twith\ttabs\n 1 \t spaces \n")
    assert rows == [("1", "fine film"), ("0", "with\ttabs"), ("1", "spaces")]
    assert not bad


def test_only_line_feeds_end_lines(tmp_path):
    text = "one\u2028two\x85three\x0bfour\x1cfive\rsix"
    assert read(tmp_path / "a.tsv", f"1\t{text}\n0\tb\n")[0] == [("1", text), ("0", "b")]


def test_quotes_mean_nothing_in_tsv(tmp_path):
    assert read(tmp_path / "a.tsv", '1\t"a\n0\tb" c\n')[0] == [("1", '"a'), ("0", 'b" c')]


def test_byte_order_mark(tmp_path):
    assert read(tmp_path / "a.tsv", b"\xef\xbb\xbf1\ta\n")[0] == [("1", "a")]
    assert read(tmp_path / "b.jsonl", b'\xef\xbb\xbf{"label": 1, "text": "a"}\n')[0] == [("1", "a")]


@pytest.mark.parametrize("header", ["label\ttext", "Sentiment\tReview", "label\tanything", "stars\tbody", "x\tText"])
def test_tsv_header(tmp_path, header):
    assert read(tmp_path / "a.tsv", f"{header}\npos\ta\n")[0] == [("pos", "a")]


@pytest.mark.parametrize(
    "rows", [[("1", "review")], [("review", "a text of some length is no name")], [("4", "score")], [("a", "b")]]
)
def test_data_that_looks_like_a_header_stays_data(tmp_path, rows):
    assert read(tmp_path / "a.tsv", "".join(f"{label}\t{text}\n" for label, text in rows))[0] == rows


def test_a_header_of_ratings(tmp_path):
    assert read(tmp_path / "a.csv", "text,rating\nfine,4.5\n", numeric=True)[0] == [("4.5", "fine")]
    assert read(tmp_path / "b.csv", "text,score,label\nfine,9,pos\n")[0] == [("pos", "fine")]
    with pytest.raises(DataError, match=r"expected a column named 'text' or .* it has 'id', 'stars', 'said'.*--text-f"):
        read(tmp_path / "c.tsv", "id\tstars\tsaid\n1\t5\tfine\n")


def test_one_class_for_a_number_of_either_type(tmp_path):
    content = '{"label": 1, "text": "a"}\n{"label": 1.0, "text": "b"}\n{"label": NaN, "text": "c"}\n'
    assert read(tmp_path / "a.jsonl", content) == ([("1", "a"), ("1", "b")], ["3: the label is empty"])


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.txt", "one text\n\nanother, with a comma\n0\twith a label\n", ["one text", "another, with a comma", None]),
        ("a.csv", 'text\n"a, b"\nc\n', ["a, b", "c"]),
        ("a.csv", "id,text\n7,a\n8,b\n", ["a", "b"]),
        ("a.csv", "only\ntexts\n", ["only", "texts"]),
        ("a.jsonl", '{"text": "a"}\n{"text": "b", "label": null}\n{"text": "c", "label": 1}\n', ["a", "b", "c"]),
    ],
)
def test_texts_without_labels(tmp_path, name, content, texts):
    texts = ["with a label" if text is None else text for text in texts]
    rows, bad = read(tmp_path / name, content, optional=True)
    assert ([text for _, text in rows], bad) == (texts, [])


def test_header_decides_the_columns(tmp_path):
    assert read(tmp_path / "a.tsv", "id\tsentence\tlabel\n7\tfine\t1\n")[0] == [("1", "fine")]
    rows, bad = read(tmp_path / "b.csv", "stars,id,body\n5,x,fine\n1,y\n", label="stars", text="body")
    assert rows == [("5", "fine")]
    assert bad == ["3: expected a label and a text, found 2 column(s)"]


def test_named_column_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="column named 'stars' in the first row; it has 'label', 'text'"):
        read(tmp_path / "a.tsv", "label\ttext\n1\ta\n", label="stars")


def test_bad_tsv_rows_are_named(tmp_path):
    rows, bad = read(tmp_path / "a.tsv", b"1\tgood\nno tab here\n\tno label\n0\t  \n1\tlast\n")
    assert rows == [("1", "good"), ("1", "last")]
    assert bad == [
        "2: expected a label and a text, found 1 column(s)",
        "3: the label is empty",
        "4: the text is empty",
    ]


def test_csv(tmp_path):
    content = '1,"fine, really"\n0,"two\nlines"\n1,say ""\n0,"said ""no"""\n'
    rows, bad = read(tmp_path / "a.csv", content)
    assert rows == [("1", "fine, really"), ("0", "two\nlines"), ("1", 'say ""'), ("0", 'said "no"')]
    assert not bad


def test_bad_csv_rows_are_named_by_their_first_line(tmp_path):
    content = '1,"two\nlines"\n0,a,b\n1\n"x"y,z\n1,fine\n0,"never closed\n1,swallowed\n'
    rows, bad = read(tmp_path / "a.csv", content)
    assert rows == [("1", "two\nlines"), ("1", "fine"), ("1", "swallowed")]
    assert [message.split(":")[0] for message in bad] == ["3", "4", "5", "7"]
    assert "found 3" in bad[0]
    assert "unexpected end of data" in bad[3]


@pytest.mark.parametrize("later", ["", '250,"a proper text, quoted"\n'])
def test_a_stray_quote_costs_its_line_alone(tmp_path, later):
    rows = [f"{i},text {i}\n" for i in range(400)]
    rows[6] = '6,"text 6\n'
    rows[250] = later or rows[250]
    read_rows, bad = read(tmp_path / "a.csv", "".join(rows))
    assert [int(label) for label, _ in read_rows] == [i for i in range(400) if i != 6]
    assert len(bad) == 1 and bad[0].startswith("7: not a CSV row, this line was left out: ")


def test_long_csv_texts(tmp_path):
    text = "long " * 30_000
    assert read(tmp_path / "a.csv", f'1,"{text}"\n0,short\n') == ([("1", text.strip()), ("0", "short")], [])


def test_csv_with_semicolons(tmp_path):
    assert read(tmp_path / "a.csv", 'label;text\n1;"fine; really, yes"\n')[0] == [("1", "fine; really, yes")]
    assert read(tmp_path / "b.csv", "1;fine\n0;dull, too\n")[0] == [("1", "fine"), ("0", "dull, too")]


def test_columns_by_number(tmp_path):
    rows, bad = read(tmp_path / "a.csv", '4,7,"fine, really"\n0,8\n', label="1", text="3")
    assert rows == [("4", "fine, really")]
    assert bad == ["2: expected a label and a text, found 2 column(s)"]


def test_numeric_labels(tmp_path):
    content = "4.0\ta\n1e0\tb\ngood\tc\nnan\td\n2.5\te\n1234567.5\tf\n-0.0\tg\n3.3333333\th\n"
    rows, bad = read(tmp_path / "a.tsv", content, numeric=True)
    assert rows == [
        ("4", "a"), ("1", "b"), ("2.5", "e"), ("1234567.5", "f"), ("0", "g"), ("3.3333333", "h")
    ]  # fmt: skip
    assert bad == ["3: expected a number as the label, found 'good'", "4: expected a number as the label, found 'nan'"]


def test_jsonl(tmp_path):
    lines = [
        {"text": "fine", "label": 1},
        {"Sentence": "well", "sentiment": "pos"},
        {"text": "x", "label": True},
        {"text": "y", "label": 0.5, "more": None},
    ]
    content = "\n".join(json.dumps(line) for line in lines) + "\n"
    rows, bad = read(tmp_path / "a.jsonl", content)
    assert rows == [("1", "fine"), ("pos", "well"), ("true", "x"), ("0.5", "y")]
    assert not bad


def test_halves_of_surrogate_pairs_are_replaced_and_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"label": 1, "text": "cut \\ud83d"}\n{"label": "x\\udc00", "text": "whole \\ud83d\\ude00"}\n')
    problems = RowProblems()
    rows = [(e.label, e.text) for e in read_file(path, Fields(), problems)]
    assert rows == [("1", "cut \ufffd"), ("x\ufffd", "whole \U0001f600")]
    assert problems.lines() == [
        f"2 row(s) held halves of surrogate pairs, replaced by U+FFFD, the first at {path}:1."
    ]
    with pytest.raises(DataError, match=r"a\.jsonl:1: half of a surrogate pair"):
        list(read_file(path, Fields(), RowProblems(strict=True)))


def test_bad_jsonl_rows(tmp_path):
    lines = (
        '{"label": 1, "text": "a"}',
        "nothing",
        "[1]",
        '{"text": "a"}',
        '{"label": null, "text": "a"}',
        '{"label": 1, "text": 2}',
    )
    rows, bad = read(tmp_path / "a.jsonl", "\n".join(lines))
    assert rows == [("1", "a")]
    assert bad[0].startswith("2: not JSON")
    assert bad[1:] == [
        "3: expected a JSON object, found list",
        "4: no label field; the fields are 'text'",
        "5: expected a label and a string, found NoneType and str",
        "6: expected a label and a string, found int and int",
    ]


def test_json_array(tmp_path):
    rows, bad = read(tmp_path / "a.json", '[{"label": 1, "text": "a"},\n {"label": 0}, {"label": 0, "text": "b"}]')
    assert rows == [("1", "a"), ("0", "b")]
    assert bad == ["2: entry 2: no text field; the fields are 'label'"]
    with pytest.raises(DataError, match="begins like a JSON array but is none"):
        read(tmp_path / "b.json", '[{"label": 1, "text": "a"}')


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet is an optional extra")
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet is an optional extra")
    columns = {"Label": [1, 0, None, 1], "id": [7, 8, 9, 10], "text": ["fine", "dull", "x", " "]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    problems = RowProblems()
    rows = [(e.label, e.text) for e in read_file(tmp_path / "a.parquet", Fields(), problems)]
    assert rows == [("1", "fine"), ("0", "dull")]
    assert problems.messages == [
        f"{tmp_path / 'a.parquet'}:3: expected a label and a string, found NoneType and str",
        f"{tmp_path / 'a.parquet'}:4: the text is empty",
    ]
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read(tmp_path / "b.parquet", "not so")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="needs pyarrow: pip install"):
        read(tmp_path / "b.parquet", "x")


def test_rows_are_read_as_they_are_asked_for(tmp_path):
    (tmp_path / "a.tsv").write_text("1\ta\nbroken\n1\tb\n")
    problems = RowProblems()
    rows = read_file(tmp_path / "a.tsv", Fields(), problems)
    assert next(rows).text == "a"
    assert problems.count == 0
    assert next(rows).text == "b"
    assert problems.count == 1


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
@pytest.mark.parametrize("name", ["a.tsv.gz", "a.tsv.xz", "a.tsv"])
def test_compressed_files_are_told_by_content(tmp_path, pack, name):
    assert read(tmp_path / name, pack("1\t好吃\n".encode()))[0] == [("1", "好吃")]


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_damaged_archive(tmp_path, pack):
    packed = pack("".join(f"1\ttext number {i * i}\n" for i in range(2000)).encode())
    with pytest.raises(DataError, match="the archive is damaged after line"):
        read(tmp_path / "a.tsv.gz", packed[: len(packed) // 2])


def test_utf16_is_named(tmp_path):
    with pytest.raises(DataError, match="UTF-16"):
        read(tmp_path / "a.tsv", "1\ta\n".encode("utf-16"))


def test_unknown_kind_and_missing_file(tmp_path):
    with pytest.raises(DataError, match="--data-format"):
        read(tmp_path / "a.dat", "1\ta\n")
    assert read(tmp_path / "a.dat", "1\ta\n", kind="tsv")[0] == [("1", "a")]
    with pytest.raises(DataError, match="cannot be read"):
        list(read_file(tmp_path / "none.tsv", Fields(), RowProblems()))


def test_strict_stops_at_the_first_bad_row(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("1\ta\nbroken\n")
    with pytest.raises(DataError, match=r"a\.tsv:2: "):
        list(read_file(path, Fields(), RowProblems(strict=True)))
