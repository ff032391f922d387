"""Tasks from data sets that ``datasets`` reads."""

from __future__ import annotations

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from polytask.data.hub import read_hub
from polytask.data.task import Answer
from polytask.errors import DataError

LABEL = ClassLabel(names=["unacceptable", "acceptable"])


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def write_split(folder, split, labels, feature=LABEL):
    features = Features({"sentence": Value("string"), "label": feature})
    rows = {"sentence": [f"{split} {row}" for row in range(len(labels))], "label": labels}
    Dataset.from_dict(rows, features=features).to_parquet(folder / "cola" / f"{split}.parquet")
    return str(folder / "cola")


def test_a_data_set_becomes_a_task_with_the_order_of_its_labels(tmp_path):
    write_split(tmp_path, "train", [0, 1] * 10)
    write_split(tmp_path, "test", [-1] * 4)
    task = read_hub(write_split(tmp_path, "validation", [1, 0, 0]))
    assert (task.name, task.kind, task.labels) == ("cola", "classification", ("unacceptable", "acceptable"))
    assert (len(task.train), list(task.validation.targets), task.test) == (20, [1, 0, 0], None)
    assert task.notes == (f"The test rows of {tmp_path / 'cola'} have no labels and are not used.",)


def test_lists_of_labels_make_a_multilabel_task(tmp_path):
    spec = write_split(tmp_path, "train", [[0], [0, 1], []] * 5, List(LABEL))
    task = read_hub(spec, "mood", metric="macro_f1")
    assert (task.name, task.kind, task.labels) == ("mood", "multilabel", ("unacceptable", "acceptable"))
    assert task.metric == "macro_f1"
    assert len(task.train) + len(task.validation) == 15


def test_numbers_make_a_regression(tmp_path):
    assert read_hub(write_split(tmp_path, "train", [0.5 * n for n in range(20)], Value("float32"))).kind == "regression"


def test_a_row_without_a_label_is_refused_with_its_split_and_number(tmp_path):
    with pytest.raises(DataError, match=r"cola\[train\]:3, column 'label': the label is missing"):
        read_hub(write_split(tmp_path, "train", [0, 1, -1]))


def test_a_data_set_without_training_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no split 'train'\. There are: test"):
        read_hub(write_split(tmp_path, "test", [0, 1]))


def test_a_configuration_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    spec = write_split(tmp_path, "train", [0, 1])
    with pytest.raises(DataError, match=r"'sst' not found\. Available: .*default.*after a colon: --hub .*:NAME"):
        read_hub(f"{spec}:sst")


def test_a_data_set_that_cannot_be_reached_is_refused():
    with pytest.raises(DataError, match=r"nyu-mll/no-such-set:x: the data set cannot be loaded: .*Check its name at"):
        read_hub("nyu-mll/no-such-set:x")


def test_questions_with_answers_make_a_task_of_spans(tmp_path):
    rows = {
        "title": [f"t{row % 10}" for row in range(40)],
        "context": [f"Rollo led the raiders {row % 10}." for row in range(40)],
        "question": [f"Who led {row}?" for row in range(40)],
        "answers": [{"text": ["Rollo"], "answer_start": [0]}] * 40,
    }
    (tmp_path / "squad").mkdir()
    Dataset.from_dict(rows).to_parquet(tmp_path / "squad" / "train.parquet")
    task = read_hub(str(tmp_path / "squad"), kind="span")
    assert (task.name, task.kind, len(task.train), len(task.validation)) == ("squad", "span", 36, 4)
    assert task.train.targets[0] == (Answer("Rollo", 0),)
