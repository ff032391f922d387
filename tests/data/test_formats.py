"""Reading and writing tables in every format."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polytask.data.formats import SUFFIXES, check_writable, read_table, stem, write_table
from polytask.errors import DataError

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
TRICKY = st.text(st.sampled_from('"\n\r\t,;|\\ é😀a'), min_size=1)


def put(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tables_are_read_back_in_every_format(tmp_path, suffix):
    texts = [
        'two\nlines, "quoted"',
        "tab\tand é 😀",
        "carriage\rreturn",
        " spaces ",
        "'",
        '"',
        "ends in \\",
        "x" * 200_000,
    ]
    path = tmp_path / f"file{suffix}"
    write_table(path, ["text", "label"], [(text, "a") for text in texts])
    table = read_table(path)
    assert table.header == ("text", "label")
    assert [tuple(row) for row in table.rows] == [(text, "a") for text in texts]


@pytest.mark.parametrize("suffix", SUFFIXES)
@QUICK
@given(rows=st.lists(st.tuples(TEXTS | TRICKY, TEXTS | TRICKY), min_size=1, max_size=8))
def test_any_text_survives_a_round_trip(tmp_path, suffix, rows):
    if suffix.startswith(".tsv"):  # csv.py reads a tab and a line break in one text differently
        rows = [tuple(cell.replace("\t", " ") for cell in row) for row in rows]
    path = tmp_path / f"file{suffix}"
    write_table(path, ["text", "label"], rows)
    assert [tuple(row) for row in read_table(path).rows] == rows


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".parquet"])
@QUICK
@given(content=st.binary() | st.text(st.sampled_from('ab1",;|{}[]:\\ud \t\n\r')).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path, suffix, content):
    path = put(tmp_path, f"file{suffix}", gzip.compress(content) if suffix.endswith(".gz") else content)
    try:
        table = read_table(path)
    except DataError:
        return
    assert all(len(row) == len(table.header) for row in table.rows)


def test_a_damaged_parquet_file_is_refused(tmp_path):
    path = tmp_path / "file.parquet"
    write_table(path, ["text"], [["a"], ["b"]])
    for damaged in (path.read_bytes()[:-20], b"PAR1 but not really PAR1", path.read_bytes()[20:]):
        with pytest.raises(DataError, match="not valid Parquet"):
            read_table(put(tmp_path, "damaged.parquet", damaged))


def test_values_keep_their_types_where_the_format_has_types(tmp_path):
    for name in ("file.jsonl", "file.parquet"):
        write_table(tmp_path / name, ["text", "n", "x", "many", "yes"], [("a", 1, 0.5, ["b", "c"], True)])
        assert list(read_table(tmp_path / name).rows[0]) == ["a", 1, 0.5, ["b", "c"], True]


def test_a_line_of_json_may_omit_a_key(tmp_path):
    path = put(tmp_path, "file.jsonl", '{"text": "a", "label": 1}\n\n{"label": 2}\n{"more": 3}\n')
    table = read_table(path)
    assert table.header == ("text", "label", "more")
    assert table.rows == [["a", 1, None], [None, 2, None], [None, None, 3]]
    assert list(table.lines) == [1, 3, 4]


def test_the_line_of_a_row_is_where_it_starts(tmp_path):
    path = put(tmp_path, "file.csv", 'text,label\n"one\ntwo\r\nthree",a\n\nplain,b\n')
    assert list(read_table(path).lines) == [2, 6]


def test_a_byte_order_mark_is_not_part_of_the_first_column_name(tmp_path):
    for name, content in (("a.csv", "text,label\nx,1\n"), ("a.jsonl", '{"text": "x", "label": 1}')):
        assert read_table(put(tmp_path, name, b"\xef\xbb\xbf" + content.encode())).header == ("text", "label")


def test_suffixes_ignore_case_and_are_not_part_of_the_stem(tmp_path):
    assert len(read_table(put(tmp_path, "FILE.CSV", "text\nx\n"))) == 1
    assert [stem(f"a/b{suffix}") for suffix in SUFFIXES] == ["b"] * len(SUFFIXES)
    assert stem("x.y.csv.gz") == "x.y"


def test_writing_replaces_a_file_whole_or_not_at_all(tmp_path):
    path = put(tmp_path, "file.parquet", "old")
    with pytest.raises(DataError, match=r"Write \.jsonl instead"):
        write_table(path, ["text"], [["a"], [1]])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


REFUSED = {
    "empty.csv": (b"", "the file is empty"),
    "blank.csv": (b"\xef\xbb\xbf \n\n", "the file is empty"),
    "header.csv": (b"text,label\n", "there are no rows, only column names"),
    "ragged.csv": (
        b"text,label\na,1\nb,c,1\n",
        r"ragged.csv:3: the row has 3 fields where the first line has 2\. Put a text",
    ),
    "twice.csv": (b"text,label,text\na,1,b\n", "two columns are called 'text'"),
    "nul.csv": (b"text,label\na,1\nb\0,1\n", "nul.csv:3: the line contains a NUL"),
    "open.csv": (b'text,label\na,1\n"b,1\nc,0\n', "open.csv:3: the row opens a quotation mark that is never closed"),
    "stray.csv": (b'text,label\n"a" b,1\n', "stray.csv:2: in this row, text follows a closing quotation mark"),
    "cp1252.csv": (b"text,label\nok,1\ncaf\xe9 here,0\n", r"cp1252.csv:3: byte 0xe9 is not UTF-8.*--encoding cp1252"),
    "utf16.csv": ("text,label\na,1\n".encode("utf-16"), "UTF-16, not UTF-8.*--encoding utf-16"),
    "bad.jsonl": (b'{"text": "a"}\n{"text": \n', "bad.jsonl:2: the line is not JSON: Expecting value at character"),
    "list.jsonl": (b'[{"text": "a"}]\n', "list.jsonl:1: the line is an array, not an object"),
    "value.jsonl": (b'{"text": "a"}\n12\n', r"value.jsonl:2: the line is a single value \(12\)"),
    "deep.jsonl": (b"[" * 100_000, "deep.jsonl:1: the line"),
    "long.jsonl": (b'{"a": ' + b"9" * 5000 + b"}", "long.jsonl:1: the line cannot be read as JSON"),
    "half.jsonl": (b'{"text": "\\ud83d"}\n', "half.jsonl:1: a string contains half a character"),
    "plain.csv.gz": (b"text\na\n", "not a gzip file"),
    "short.csv.gz": (gzip.compress(b"text\n" + bytes(range(32, 120)) * 50)[:-12], "the gzip file ends too early"),
    "flipped.csv.gz": (gzip.compress(b"text\naaaa\n")[:-6] + b"\0" * 6, "the gzip file is damaged"),
    "sheet.xlsx": (
        b"PK",
        "files ending in '.xlsx' are not supported. Save the sheet as 'CSV UTF-8'. Supported are: .csv",
    ),
    "array.json": (b"[]", "call it .jsonl"),
    "nothing": (b"", "no suffix that gives its format"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_invalid_file_is_refused_with_its_line(tmp_path, name):
    content, said = REFUSED[name]
    with pytest.raises(DataError, match=f"(?s){said}") as caught:
        read_table(put(tmp_path, name, content))
    assert str(tmp_path / name) in str(caught.value)


def test_a_missing_file_is_refused_with_a_suggestion(tmp_path):
    put(tmp_path, "reviews.csv", "text\na\n")
    put(tmp_path, "notes.md", "")
    with pytest.raises(DataError, match=r"no such file\. Did you mean '.*reviews\.csv'"):
        read_table(tmp_path / "review.csv")
    with pytest.raises(DataError, match=r"Its folder has: reviews\.csv$"):
        read_table(tmp_path / "zzz.jsonl")
    with pytest.raises(DataError, match="there is no folder"):
        read_table(tmp_path / "no" / "file.csv")
    with pytest.raises(DataError, match=r"this is a folder, not a file\. It has: reviews\.csv"):
        read_table(tmp_path)
    with pytest.raises(DataError, match="cannot be opened"):
        read_table("a\0b.csv")


def test_a_parquet_file_with_duplicate_column_names_is_refused(tmp_path):
    pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), tmp_path / "file.parquet")
    with pytest.raises(DataError, match="two columns are called 'text'"):
        read_table(tmp_path / "file.parquet")


def test_several_columns_may_be_unnamed(tmp_path):
    table = read_table(put(tmp_path, "spam.csv", "v1,v2,,\nham,hello,,\n"))
    assert table.header == ("v1", "v2", "", "")


def test_an_unsupported_output_name_is_refused_before_any_work(tmp_path):
    with pytest.raises(DataError, match=r"'\.pdf' are not supported"):
        check_writable(tmp_path / "out.pdf")


def test_json_lines_are_written_without_ascii_escapes(tmp_path):
    write_table(tmp_path / "out.jsonl", ["text"], [["é"]])
    assert (tmp_path / "out.jsonl").read_text() == json.dumps({"text": "é"}, ensure_ascii=False) + "\n"
