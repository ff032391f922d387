"""Notes on suspicious data."""

from __future__ import annotations

import pytest

from polytask.data.formats import write_table
from polytask.data.read import read_task


def notes(tmp_path, labels, name="label", texts=None, **asked):
    texts = texts or [f"text {row}" for row in range(len(labels))]
    write_table(tmp_path / "task.csv", ["text", name], list(zip(texts, labels)))
    return " ".join(read_task(tmp_path / "task.csv", **asked).notes)


@pytest.mark.parametrize(
    ("labels", "name", "said"),
    [
        ([1, 2, 3, 4, 5] * 4, "label", "The 5 whole numbers in column 'label' (1 to 5) are treated as classes"),
        ([0, 1, 2] * 4, "score", "If they are scores, use --kind regression."),
        (list(range(30)) * 2, "label", "The 30 whole numbers in column 'label' (0 to 29)"),
        (
            [f"name {row}" for row in range(30)] * 2,
            "label",
            "There are 30 different labels in 60 rows. If 'label' is not",
        ),
        (
            ["0.0", "1.0"] * 10,
            "label",
            "are whole numbers and treated as classes: 0, 1. If they are scores, use --kind regression.",
        ),
        (
            ["1.1", "2.9", "2.10"] * 5,
            "label",
            "The 3 different numbers in column 'label' repeat and are treated as classes",
        ),
        (['["a"]', "['b', 'a']"] * 5, "label", "is read as a list of labels. If it is one name, use --kind"),
        (["a|b", "b", "a"] * 5, "label", "5 rows have a '|' in the label, so each row may have several labels."),
        (
            ["a|b", "c"] * 5,
            "label",
            "5 rows have a '|' in the label, such as 'a|b'. It is part of the name, because its parts occur in no "
            "other label. If rows may have several labels, use --kind multilabel.",
        ),
        (["a", "b", "['a']"] * 5, "label", "5 rows have a list such as \"['a']\" in the label, read as a name"),
        (["a", "b"] * 50 + ["a|b"], "label", "1 row has a '|' in the label, so each row may have several labels."),
        (["a", "b", " a", "b "] * 5, "label", "10 rows have spaces around the label. They were removed."),
        (
            ["Spam", "spam", "s pam", "ham"] * 5,
            "label",
            "The labels 'Spam', 's pam' and 'spam' differ only in case or spaces",
        ),
        (
            ["nan", "yes", "no"] * 5,
            "label",
            "5 rows have the label 'nan'. If it means a missing label, remove them.",
        ),
        (["a", "b"] * 5 + ["c"], "label", "Only one row has the label 'c'. It is used for training, so no validation"),
        (
            ["a", "b"] * 5 + ["c", "d"],
            "label",
            "Only one row has each of the labels 'c' and 'd'. It is used for training",
        ),
        (["a|b", "a", "b", ""] * 5, "label", "5 rows have none of the labels."),
    ],
)
def test_suspicious_labels_give_a_note(tmp_path, labels, name, said):
    assert said in notes(tmp_path, labels, name)


@pytest.mark.parametrize(
    "labels",
    [
        ["ham", "spam"] * 5,
        [0, 1, 2, 3, 4, 5] * 5,
        [1, 2, 3, 4] * 5,
        [1, 0] * 5,
        [x / 8 for x in range(30)],
    ],
)
def test_ordinary_labels_give_no_note(tmp_path, labels):
    assert notes(tmp_path, labels) == ""


def test_a_given_kind_gives_no_note(tmp_path):
    assert notes(tmp_path, [1, 2, 3, 4, 5] * 4, kind="classification") == ""
    assert notes(tmp_path, [1, 2, 3, 4, 5] * 4, kind="regression") == ""


def test_texts_that_mean_a_missing_text_are_counted(tmp_path):
    assert "2 rows have a text such as 'nan' or 'null'." in notes(
        tmp_path, ["a", "b"] * 3, texts=["nan", *"bcde", "NULL"]
    )


def test_rows_in_both_train_and_test_are_counted(tmp_path):
    write_table(
        tmp_path / "test.csv", ["text", "label"], [("text 0", "a"), ("new", "b"), ("text 1", "b"), ("newer", "a")]
    )
    said = notes(tmp_path, ["a", "b"] * 5, test=tmp_path / "test.csv", validation=tmp_path / "test.csv")
    assert "2 of 4 validation rows (50.0%) have a text that is also in the training rows" in said
    assert "2 of 4 test rows (50.0%)" in said
