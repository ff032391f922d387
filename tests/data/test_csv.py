"""Parsing and formatting of CSV and TSV."""

from __future__ import annotations

import pytest

from polytask.data.csv import format_delimited, read_csv, read_tsv
from polytask.errors import DataError


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_separator_of_a_csv_is_found_in_its_first_line(mark):
    assert read_csv("f", f"text{mark}label\na{mark}b\n").rows == [["text", "label"], ["a", "b"]]


def test_a_comma_takes_precedence_over_a_semicolon():
    assert read_csv("f", "text,a;b\nx;y,z\n").rows[1] == ["x;y", "z"]


def test_a_tsv_of_a_spreadsheet_is_unquoted():
    text = 'text\tlabel\n"he said ""hi"""\ta\n"two\nlines"\tb\n'
    assert read_tsv("f", text).rows[1:] == [['he said "hi"', "a"], ["two\nlines", "b"]]
    assert read_tsv("f", text).lines == [1, 2, 3]


def test_quotation_marks_of_glue_are_ordinary_characters():
    never_closed = 'text\tlabel\n" the food was good .\t1\nfine\t0\n'
    assert read_tsv("f", never_closed).rows[1:] == [['" the food was good .', "1"], ["fine", "0"]]
    text_after = 'text\tlabel\n"bad" food\t1\nfine\t0\n'
    assert read_tsv("f", text_after).rows[1] == ['"bad" food', "1"]


def test_a_quotation_mark_that_would_swallow_rows_is_an_ordinary_character():
    text = 'text\tlabel\n" opens here\t1\nmiddle\t0\ncloses here "\t1\n'
    assert [row[1] for row in read_tsv("f", text).rows] == ["label", "1", "0", "1"]


def test_one_column_of_quoted_lines_is_read_as_quoted():
    assert read_tsv("f", 'text\n"two\nlines"\n').rows[1:] == [["two\nlines"]]


def test_a_tsv_that_is_invalid_with_and_without_quoting_is_refused_with_both_lines():
    with pytest.raises(DataError, match=r"f:2: .*fix line 4 instead: it has 1 field where the first line has 2"):
        read_tsv("f", 'text\tlabel\n"bad" food\t1\nfine\t0\nno label\n')


def test_ragged_rows_are_counted():
    with pytest.raises(DataError, match=r"f:3: the row has 3 fields where the first line has 2; 1 more row has"):
        read_csv("f", "a,b\n1,2\n1,2,3\n1,2\n1\n")


def test_blank_lines_are_skipped_and_lines_of_separators_are_empty_rows():
    assert read_csv("f", "\n\na,b\n,\n\n,,,\n1,2\n\n").rows == [["a", "b"], ["", ""], ["", ""], ["1", "2"]]
    assert read_tsv("f", "a\tb\n\t\n\n1\t2\n").lines == [1, 2, 4]


@pytest.mark.parametrize("read", [read_csv, read_tsv])
def test_a_blank_line_of_one_column_is_a_row(read):
    assert read("f", "\ntext\na\n\nb\n\n").rows == [["text"], ["a"], [""], ["b"], [""]]
    assert read("f", "text\r\na\r\n\r\nb").lines == [1, 2, 3, 4]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_separator_inside_a_quoted_name_is_ignored(mark):
    assert read_csv("f", f'"text, whole"{mark}label\na{mark}b\n').rows == [["text, whole", "label"], ["a", "b"]]


def test_rows_end_in_a_line_feed_and_line_breaks_in_cells_are_quoted():
    assert format_delimited(["a", "b"], [["x\ry", None], [True, ["p", "q"]]], ",") == (
        'a,b\n"x\ry",\ntrue,"[""p"", ""q""]"\n'
    )
