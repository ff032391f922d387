"""The 17 text tasks from their CSV files."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest

from polytask.errors import DataError, UnknownName
from polytask.suites.text17 import TEXT17, available_tasks, read_text17

SPLITS = ("train", "validation", "test")


def write(path: Path, *rows: list[str], packed: bool = False) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.getvalue().encode()) if packed else text.getvalue().encode())


def spam(root: Path, folder: str = "sms_spam", rows: tuple[int, int, int] = (6, 2, 3), packed: bool = False) -> Path:
    for split, count in zip(SPLITS, rows):
        lines = [[f'{split} "{i}",\nsecond line', ("spam", "ham")[i % 2]] for i in range(count)]
        write(root / folder / f"{split}.csv{'.gz' if packed else ''}", ["text", "label"], *lines, packed=packed)
    return root


def test_the_means_of_the_papers_figures_match_its_table() -> None:
    figures = zip(*((task.no_bert, task.full, task.top, task.adapters) for task in TEXT17.values()))
    assert len(TEXT17) == 17
    assert [sum(column) / 17 for column in figures] == pytest.approx([72.7, 73.7, 74.0, 73.3], abs=0.08)


@pytest.mark.parametrize("packed", [False, True])
def test_splits_keep_their_order_and_labels_are_sorted(tmp_path: Path, packed: bool) -> None:
    task = read_text17("sms_spam", spam(tmp_path, packed=packed))
    assert task.labels == ("ham", "spam")
    assert (task.kind, task.metric) == ("classification", "accuracy")
    assert list(task.train.targets or []) == [1, 0, 1, 0, 1, 0]
    assert list(task.validation.texts) == ['validation "0",\nsecond line', 'validation "1",\nsecond line']
    assert task.test is not None
    assert len(task.test) == 3


def test_a_label_that_occurs_only_in_the_test_file_counts(tmp_path: Path) -> None:
    spam(tmp_path)
    write(tmp_path / "sms_spam" / "test.csv", ["text", "label"], ["a", "fraud"])
    task = read_text17("sms_spam", tmp_path)
    assert task.labels == ("fraud", "ham", "spam")
    assert task.test is not None
    assert list(task.test.targets or []) == [0]
    assert "sms_spam: 3 classes instead of the paper's 2" in task.notes


def test_other_columns_are_ignored(tmp_path: Path) -> None:
    for split in SPLITS:
        rows = [["Atheism", "AGAINST", "a tweet"], ["Atheism", "FOR", "another"]]
        write(tmp_path / "crowdflower_progressive_stance" / f"{split}.csv", ["target", "label", "text"], *rows)
    task = read_text17("crowdflower_progressive_stance", tmp_path)
    assert list(task.train.texts) == ["a tweet", "another"]
    assert task.train.pairs is None


def test_a_text_longer_than_csv_allows_is_read_whole(tmp_path: Path) -> None:
    spam(tmp_path)
    write(tmp_path / "sms_spam" / "test.csv", ["text", "label"], ["x" * 200_000, "ham"])
    task = read_text17("sms_spam", tmp_path)
    assert task.test is not None
    assert len(task.test.texts[0]) == 200_000


def test_the_papers_row_counts_give_no_note(tmp_path: Path) -> None:
    assert read_text17("sms_spam", spam(tmp_path, rows=TEXT17["sms_spam"].rows)).notes == ()
    spam(tmp_path, rows=(6, 2, 3))
    assert read_text17("sms_spam", tmp_path).notes == (
        "sms_spam: 6 / 2 / 3 rows instead of the paper's 4,459 / 557 / 558",
    )


def test_a_sample_is_read_with_a_note_if_the_whole_is_missing(tmp_path: Path) -> None:
    spam(tmp_path, "sms_spam_sample")
    assert "sms_spam: a sample, read from sms_spam_sample" in read_text17("sms_spam", tmp_path).notes
    assert available_tasks(tmp_path)["sms_spam"].is_sample
    spam(tmp_path)
    assert not available_tasks(tmp_path)["sms_spam"].is_sample
    (tmp_path / "sms_spam" / "test.csv").unlink()
    assert available_tasks(tmp_path) == {}


def test_a_limit_takes_the_first_rows_of_train(tmp_path: Path) -> None:
    task = read_text17("sms_spam", spam(tmp_path), limit=4)
    assert list(task.train.targets or []) == [1, 0, 1, 0]
    assert len(task.validation) == 2
    assert "sms_spam: the first 4 of 6 training rows" in task.notes


def test_an_unknown_task_and_a_missing_folder_or_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'sms_spam'"):
        read_text17("sms-spam", tmp_path)
    with pytest.raises(DataError, match="there is no folder sms_spam"):
        read_text17("sms_spam", tmp_path)
    spam(tmp_path)
    (tmp_path / "sms_spam" / "validation.csv").unlink()
    with pytest.raises(DataError, match=r"there is no validation\.csv \(or validation\.csv\.gz\)"):
        read_text17("sms_spam", tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "column 'text': there is no such column"),
        ("text,label\n", "the file contains no rows"),
        ("text,class\na,b\n", "column 'label': there is no such column. The columns are: text, class"),
        ('text,label\n"two\nlines",ham\nb\n', r"train\.csv:4: 1 columns instead of 2"),
        ("text,label\na,ham\n\n b,\n", r"train\.csv:4, column 'label': the cell is empty"),
        ('text,label\n"two\nlines",\n', r"train\.csv:2, column 'label': the cell is empty"),
        ("text,label\n  ,ham\n", r"train\.csv:2, column 'text': the cell is empty"),
        ('text,label\n"open,ham\n', "not a CSV file"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, content: str, problem: str) -> None:
    (spam(tmp_path) / "sms_spam" / "train.csv").write_text(content)
    with pytest.raises(DataError, match=problem):
        read_text17("sms_spam", tmp_path)


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    for split in SPLITS:
        write(tmp_path / "sms_spam" / f"{split}.csv", ["text", "label"], ["a", "ham"], ["b", "ham"])
    with pytest.raises(DataError, match="every row has the label 'ham'"):
        read_text17("sms_spam", tmp_path)
