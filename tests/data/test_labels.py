"""Kinds, names and targets from a column of labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.labels import (
    check_variety,
    format_label,
    infer_kind,
    is_empty,
    label_names,
    normalize_labels,
    parse_targets,
    sort_labels,
)
from polytask.data.table import Column
from polytask.errors import DataError


def column(*cells):
    return Column("f.csv", "label", cells, range(2, 2 + len(cells)))


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["ham", "spam"], "classification"),
        (["0", "1"], "classification"),
        ([0, 1, 5], "classification"),
        ([True, False], "classification"),
        (["0.5", "1"], "regression"),
        ([0.5, 1], "regression"),
        (["1e-3", "-2", ".5", "5."], "regression"),
        (["1.5", "nan"], "regression"),
        (["1.5", "high"], "classification"),
        (["a|b", "a"], "multilabel"),
        (["a|b", "b|a"], "multilabel"),
        (["a|b", "b|c"], "multilabel"),
        (["1.0|2", "1|3"], "multilabel"),
        (["spam|junk", "ham"], "classification"),
        (["spam|junk", "spam | junk", "ham|fine"], "classification"),
        (["a|b", "c|d", "e|f", "a"], "classification"),
        ([["a", "b"], []], "multilabel"),
    ],
)
def test_the_kind_is_inferred_from_the_labels(cells, kind):
    assert infer_kind(cells) == kind


def test_whole_numbers_are_sorted_by_value_and_words_by_characters():
    assert label_names(column("10", "9", "-1", "9"), "classification") == ("-1", "9", "10")
    assert label_names(column("b", "B", "a10", "a9"), "classification") == ("B", "a10", "a9", "b")
    assert label_names(column(10, 9), "classification") == ("9", "10")


def test_json_booleans_are_the_labels_false_and_true():
    assert label_names(column(True, False), "classification") == ("false", "true")


def test_targets_are_indices_tuples_of_them_or_numbers():
    assert parse_targets(column("b ", " a"), "classification", ("a", "b")) == [1, 0]
    assert parse_targets(column("b|a|a", "", "a|", ["b"], []), "multilabel", ("a", "b")) == [(0, 1), (), (0,), (1,), ()]
    assert parse_targets(column("0.5", 2, " -1e3 "), "regression", ()) == [0.5, 2.0, -1000.0]


@pytest.mark.parametrize(
    ("cells", "kind", "said"),
    [
        (
            ["a", "c"],
            "classification",
            r"f.csv:3, column 'label': the label 'c' is not a label of this task.*Its labels are: a, B",
        ),
        (["a", "b"], "classification", r"Did you mean 'B'\?"),
        (["a", " "], "classification", "f.csv:3, column 'label': the label is missing. Fill it in, or .* --drop-empty"),
        (["a", None], "multilabel", "f.csv:3, .*the label is missing"),
        ([1.0, float("nan")], "regression", "f.csv:3, .*the label is missing"),
        (["a", ["a"]], "classification", "f.csv:3, .*a list of labels.*--kind multilabel"),
        (["a", {"b": 1}], "classification", "f.csv:3, .*is not a label"),
        (["1", "nan"], "regression", "f.csv:3, .*nan is not a finite number"),
        (["1", "-inf"], "regression", "not a finite number"),
        (["1", "1e999"], "regression", "not a finite number"),
        ([1, 10**400], "regression", "not a finite number"),
        (["1", "4,5"], "regression", "'4,5' is not a number. Use a decimal point, not a comma"),
        (["1", "good"], "regression", "'good' is not a number.*--kind classification"),
        ([1, True], "regression", "'True' is not a number"),
    ],
)
def test_a_cell_that_is_not_a_label_is_refused_with_its_place(cells, kind, said):
    with pytest.raises(DataError, match=said):
        parse_targets(column(*cells), kind, ("a", "B"))


@pytest.mark.parametrize(
    ("kind", "targets", "said"),
    [
        ("classification", [1, 1, 1], "all 3 rows have the label 'b'. At least two different labels are needed"),
        ("classification", [0], "the only row has the label 'a'"),
        ("multilabel", [(0, 1), (0, 1)], "all 2 rows have the labels 'a' and 'b'"),
        ("multilabel", [(), ()], "all 2 rows have no label"),
        ("regression", [0.5, 0.5], "all 2 rows have the number 0.5. At least two different numbers"),
    ],
)
def test_equal_targets_are_refused(kind, targets, said):
    with pytest.raises(DataError, match=said):
        check_variety(column("a", "b"), kind, targets, ("a", "b"))


def test_a_cell_is_formatted_as_its_label():
    assert [format_label(cell) for cell in (" a ", 1, True, None, ["a", 2], 0.5)] == [
        "a",
        "1",
        "true",
        "",
        "a|2",
        "0.5",
    ]


@given(st.sets(st.text() | st.integers().map(str), min_size=1))
def test_the_order_of_labels_does_not_depend_on_the_order_of_rows(names):
    assert sort_labels(names) == sort_labels(dict.fromkeys(sorted(names, reverse=True)).keys())
    assert set(sort_labels(names)) == names


@given(st.lists(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()), min_size=1))
def test_any_column_gives_targets_or_is_refused(cells):
    kind = infer_kind(cells)
    try:
        labels = label_names(column(*cells), kind)
        assert len(parse_targets(column(*cells), kind, labels)) == len(cells)
    except DataError:
        pass


def read(cells, kind=None):
    own = normalize_labels(column(*cells), kind)
    kind = kind or infer_kind([cell for cell in own.cells if not is_empty(cell)], "label")
    return kind, label_names(own, kind)


@pytest.mark.parametrize(
    ("cells", "kind", "names"),
    [
        (["True", "False"], "classification", ("false", "true")),
        (["TRUE", "false", True], "classification", ("false", "true")),
        (["True", "False", "Neither"], "classification", ("Neither", "false", "true")),
        ([True, False, "Neither"], "classification", ("Neither", "false", "true")),
        (["TRUE", "1", "0"], "classification", ("0", "1", "true")),
        ([1, 1.0, 1.5] * 3, "classification", ("1", "1.5")),
        (["1", "1.0", "1.5"] * 3, "classification", ("1", "1.5")),
        ([-0.0, 0.0, 0.5] * 3, "classification", ("0", "0.5")),
        (["-0.0", "0.0"] * 3, "classification", ("0",)),
        ([-0.0, 0.0, "none"], "classification", ("0.0", "none")),
        ([1, 1.0, "none"], "classification", ("1", "none")),
        (["1", "1.0", "none"], "classification", ("1", "1.0", "none")),
        (["2.0", "2.10", "2.9"] * 3, "classification", ("2.0", "2.10", "2.9")),
        (["1.0|2.0", "1", "2"], "multilabel", ("1", "2")),
        (["True|False", "true"], "multilabel", ("false", "true")),
        ([["True", 1.0], [True, 1], "1|TRUE"], "multilabel", ("1", "true")),
        (["spam|junk", "ham"], "classification", ("ham", "spam|junk")),
        (["['a']", "set()", "{'b'}"], "multilabel", ("a", "b")),
        (["1.0", "0.0"] * 3, "classification", ("0", "1")),
        ([1.0, 0.0, float("nan")] * 3, "classification", ("0", "1")),
        (["10.", "9.0", "9"] * 3, "classification", ("9", "10")),
        (["1.1", "1.2", "2.10"] * 3, "classification", ("1.1", "1.2", "2.10")),
        ([f"{n}.{k}" for n in range(9) for k in (2, 10, 9)] * 3, "classification", None),
        (["2.1", "2.10", "3.0"] * 3, "classification", ("2.1", "2.10", "3.0")),
        ([float(n) for n in range(30)], "regression", ()),
        ([n / 8 for n in range(30)] * 4, "regression", ()),
        (["['a', 'b']", "['a']", "[]"], "multilabel", ("a", "b")),
        (['["a", "b"]', '["it\'s"]'], "multilabel", ("a", "b", "it's")),
        (["['a' 'b c']", "['a']", "[\"it's\" 'a']"], "multilabel", ("a", "b c", "it's")),
        (["('a',)", "{'b', 'a'}"], "multilabel", ("a", "b")),
        (["[1, 2]", "[1 2 3]"], "multilabel", ("1", "2", "3")),
        ([["True"], ["False", True]], "multilabel", ("false", "true")),
        (["[a", "['a']"], "classification", ("['a']", "[a")),
        (["[deleted]", "[removed]"], "classification", ("[deleted]", "[removed]")),
        (["(a)", "(b)"], "classification", ("(a)", "(b)")),
    ],
)
def test_a_label_has_one_name_in_all_formats(cells, kind, names):
    found, given = read(cells)
    assert found == kind
    assert names is None or given == names


def test_a_given_kind_decides_how_numbers_and_lists_are_read():
    assert read([float(n) for n in range(30)], "classification")[1][:3] == ("0", "1", "2")
    assert read(["['a']", "['b']"], "classification")[1] == ("['a']", "['b']")
    assert normalize_labels(column("1.0", "0.0"), "regression").cells == ("1.0", "0.0")


def test_numbers_in_a_column_of_scores_are_scores():
    assert infer_kind(["0.5", "1.5"] * 9, "Score") == "regression"
    assert infer_kind(["0.5", "1.5"] * 9, "label") == "classification"


def test_labels_of_older_adapters_are_found_by_canonical_name():
    assert parse_targets(column("true", "false", "TRUE"), "classification", ("False", "True")) == [1, 0, 1]
    assert parse_targets(column("1", "0", 1.0), "classification", ("0.0", "1.0")) == [1, 0, 1]
    with pytest.raises(DataError, match="not a label of this task"):
        parse_targets(column("1"), "classification", ("1.0", "1.00"))


def test_a_number_that_cannot_be_learned_is_refused_with_its_line():
    with pytest.raises(DataError, match=r"f\.csv:3, .*1e\+38 is too large"):
        parse_targets(column("1", "1e38"), "regression", ())


ODD = {
    "a word": ("none", "'none' is not a list of labels, but others are"),
    "a list that is cut": ("['a' 'b' ... 'c']", "is not a list of labels, but others are"),
    "null in a list": ('["a", null]', "the list contains None, which is not a label"),
    "a list in a list": ('[["a"]]', "the list contains .'a'., which is not a label"),
    "a mapping": ("{'a': 1}", "is not a list of labels, but others are"),
}


@pytest.mark.parametrize("kind", [None, "multilabel"])
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_cell_in_a_column_of_lists_is_refused_with_its_line(odd, kind):
    cell, said = ODD[odd]
    with pytest.raises(DataError, match=rf"f\.csv:4, column 'label': .*{said}"):
        read(["['a', 'b']", "['a']", cell, "[]"], kind)


def test_null_in_a_list_of_json_is_refused_with_its_line():
    with pytest.raises(DataError, match=r"f\.csv:3, column 'label': the list contains None, which is not a label"):
        read([["a"], ["b", None]])


def test_a_list_in_a_column_of_joined_names_is_refused_where_lists_are_asked_for():
    with pytest.raises(DataError, match=r"f\.csv:4, .*is a list of labels, but most other cells are not"):
        read(["a|b", "a", "['b']"], "multilabel")


def test_few_lists_in_a_column_of_names_are_names():
    assert read(["a", "b", "['b']"]) == ("classification", ("['b']", "a", "b"))


def test_joined_labels_are_found_by_canonical_name():
    labels = ("1", "true")
    assert parse_targets(column("1.0|True", "TRUE", "1"), "multilabel", labels) == [(0, 1), (1,), (0,)]
