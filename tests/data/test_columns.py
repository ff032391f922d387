"""Columns are found by their names, or the user is asked."""

from __future__ import annotations

import pytest

from polytask.data.columns import Roles, find_roles
from polytask.data.table import Table
from polytask.errors import DataError


def table(*header, rows=()):
    return Table("f.csv", header, rows or [["x"] * len(header)], [2])


@pytest.mark.parametrize(
    ("header", "roles"),
    [
        (("text", "label"), Roles(0, None, 1)),
        (("LABEL", "id", "Text"), Roles(2, None, 0)),
        (("review", "sentiment"), Roles(0, None, 1)),
        (("text", "label", "target"), Roles(0, None, 1)),
        (("text", "label", "label_text"), Roles(0, None, 1)),
        (("title", "text", "category"), Roles(1, None, 2)),
        (("index", "sentence1", "sentence2", "score"), Roles(1, 2, 3)),
        (("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"), Roles(3, 4, 0)),
        (("index", "question", "sentence", "label"), Roles(1, 2, 3)),
        (("label1", "sentence1", "sentence2", "gold_label"), Roles(1, 2, 3)),
        (("text", "text_pair", "label"), Roles(0, 1, 2)),
        (("", "text", "label"), Roles(1, None, 2)),
    ],
)
def test_usual_names_are_found(header, roles):
    assert find_roles(table(*header)) == roles


def test_given_columns_take_precedence_over_usual_names():
    assert find_roles(table("text", "label", "v1", "v2"), text="V1", label="v2") == Roles(2, None, 3)


def test_a_given_text_column_is_single_unless_its_pair_is_given():
    header = ("sentence1", "sentence2", "label")
    assert find_roles(table(*header), text="sentence2") == Roles(1, None, 2)
    assert find_roles(table(*header), text="sentence2", text_pair="sentence1") == Roles(1, 0, 2)


def test_a_label_column_may_be_optional():
    assert find_roles(table("text"), needs_label=False) == Roles(0, None, None)
    assert find_roles(table("text", "topic", "emotion"), needs_label=False) == Roles(0, None, None)
    assert find_roles(table("text", "topic"), needs_label=False) == Roles(0, None, 1)


@pytest.mark.parametrize(
    ("header", "asked", "said"),
    [
        (("title", "body", "label"), {}, "several columns could hold the text. Say which: --text title or --text body"),
        (("text", "topic", "my emotion", "emotion"), {}, "hold the label. Say which: --label topic or --label emotion"),
        (
            ("tweet text", "label"),
            {},
            r"no column has a usual name for the text. Name it with --text, perhaps --text 'tw",
        ),
        (
            ("text", "airline_sentiment"),
            {},
            "Name it with --label, perhaps --label airline_sentiment. The columns are: 't",
        ),
        (("v1", "v2"), {}, r"Name it with --text. The columns are: 'v1', 'v2'$"),
        (
            ("text", "label"),
            {"label": "lable"},
            r"no column 'lable'. Did you mean 'label'\? The columns are: 'text', 'label'",
        ),
        (("text", "label"), {"text": "label", "label": "label"}, "column 'label' is given for two roles"),
        (("text,label",), {}, "Several columns were read as one"),
        (("question", "passage", "context", "label"), {}, "several columns could hold the text"),
    ],
)
def test_an_unclear_column_is_an_error_that_asks_the_user(header, asked, said):
    with pytest.raises(DataError, match=said):
        find_roles(table(*header), **asked)


def test_a_file_without_column_names_is_recognised():
    rows = [["ham", "See you at 5"], ["spam", "WIN cash"]]
    with pytest.raises(DataError, match="The first line looks like data: add a line above it with the column names"):
        find_roles(table("ham", "Go until jurong point", rows=rows))
    with pytest.raises(DataError, match="looks like data"):
        find_roles(table("1", "Go until jurong point"), text="text")
