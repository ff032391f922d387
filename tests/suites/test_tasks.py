"""The paper's tasks by name, from folders and, offline, from what the hub would give."""

from __future__ import annotations

import csv
from pathlib import Path

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from polytask.errors import DataError, UnknownName
from polytask.suites import glue, tasks
from polytask.suites.tasks import available, drawn, names, read
from tests.papers import write_data
from tests.suites.test_glue import mnli


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def test_a_cap_draws_rows_from_the_whole_file_and_is_noted(data: Path) -> None:
    whole, capped = read("CoLA", data).task, read("CoLA", data, max_rows=20, max_validation=3, max_test=5).task
    assert len(whole.train) + len(whole.validation) == 48
    assert (len(capped.train), len(capped.validation), capped.test and len(capped.test)) == (20, 3, 5)
    assert set(capped.train.targets or ()) == {0, 1}  # the file is sorted by label
    assert capped == read("CoLA", data, max_rows=20, max_validation=3, max_test=5).task
    for note in ("20 of 44 training rows, drawn with seed 0", "3 of 4 validation rows", "5 of 12 test rows"):
        assert any(note in said for said in capped.notes), capped.notes


def test_rows_are_drawn_as_they_always_were() -> None:
    assert drawn(20, 5) == [0, 5, 7, 12, 13]
    assert drawn(3, 5) == [0, 1, 2]


def test_what_is_there_is_found(data: Path) -> None:
    assert available(data) == {"CoLA", "sms_spam"}
    mnli(data / "glue", "MNLI_sample")
    assert available(data) == {"CoLA", "sms_spam", "MNLI-m"}
    with pytest.raises(DataError, match="there is no such folder"):
        available(data / "no")


def test_mnli_is_also_scored_on_mismatched_rows_and_a_sample_is_one(data: Path) -> None:
    mnli(data / "glue", "MNLI_sample")
    loaded = read("MNLI-m", data, max_test=4)
    assert loaded.is_sample
    assert loaded.task.test is not None
    assert len(loaded.task.test) == 3
    assert {name: len(rows) for name, rows in loaded.also.items()} == {"MNLI-mm": 4}
    assert not read("sms_spam", data).is_sample


def test_the_suites_have_the_papers_tasks() -> None:
    assert len(names("text17")) == 17
    assert names("glue") == ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "QNLI", "RTE", "WNLI")
    with pytest.raises(UnknownName, match=r"no task of the paper called 'CoLa'\. Did you mean 'CoLA'"):
        read("CoLa")


# -- the hub, offline -------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders with the columns, configurations and label names of the hub's data sets."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    monkeypatch.setattr(glue, "HUB", str(tmp_path / "glue"))
    return tmp_path


def publish(folder: Path, config: str, splits: dict[str, int], columns: tuple[str, ...], label: object) -> None:
    features = Features({**{column: Value("string") for column in columns}, "label": label})
    lines = [f"- config_name: {config}", "  data_files:"]
    for split, count in splits.items():
        cells = {column: [f"{split} {column} {row}" for row in range(count)] for column in columns}
        unlabelled = split.startswith("test")
        number = isinstance(label, Value)
        labels = [-1 if unlabelled else 0.5 * (row % 9) if number else row % len(label.names) for row in range(count)]  # type: ignore[attr-defined]
        path = folder / config / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_dict({**cells, "label": labels}, features=features).to_parquet(path)
        lines += [f"  - split: {split}", f"    path: {config}/{split}.parquet"]
    (folder / "README.md").write_text("\n".join(["---", "configs:", *lines, "---", ""]), encoding="utf-8")


def test_glue_from_the_hub_reports_on_dev_and_holds_out_of_train(hub: Path) -> None:
    names_there = ClassLabel(names=["unacceptable", "acceptable"])
    publish(hub / "glue", "cola", {"train": 40, "validation": 6, "test": 5}, ("sentence",), names_there)
    loaded = read("CoLA")
    task = loaded.task
    assert (len(task.train), len(task.validation), task.labels) == (36, 4, ("unacceptable", "acceptable"))
    assert task.test is not None
    assert list(task.test.texts) == [f"validation sentence {row}" for row in range(6)]
    assert task.metric == "matthews"


def test_mnli_from_the_hub_has_both_dev_sets(hub: Path) -> None:
    labels = ClassLabel(names=["entailment", "neutral", "contradiction"])
    splits = {"train": 30, "validation_matched": 6, "validation_mismatched": 9}
    publish(hub / "glue", "mnli", splits, ("premise", "hypothesis"), labels)
    loaded = read("MNLI-m")
    assert loaded.task.test is not None
    assert (loaded.task.test.texts[0], loaded.task.test.pairs and loaded.task.test.pairs[0]) == (
        "validation_matched premise 0",
        "validation_matched hypothesis 0",
    )
    assert len(loaded.also["MNLI-mm"]) == 9


def test_stsb_from_the_hub_is_a_regression(hub: Path) -> None:
    publish(hub / "glue", "stsb", {"train": 30, "validation": 6}, ("sentence1", "sentence2"), Value("float32"))
    task = read("STS-B").task
    assert (task.kind, task.metric) == ("regression", "spearman")
    assert task.test is not None
    assert task.test.targets == [0.5 * (row % 9) for row in range(6)]


def test_a_task_with_one_split_on_the_hub_is_split_three_ways(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub / "sms", "plain_text", {"train": 100}, ("sms",), ClassLabel(names=["ham", "spam"]))
    monkeypatch.setitem(tasks.TEXT17_HUB, "sms_spam", (f"{hub / 'sms'}:plain_text", "sms", "label"))
    task = read("sms_spam").task
    assert task.test is not None
    assert (len(task.train), len(task.validation), len(task.test)) == (81, 10, 9)
    assert not {*task.test.texts} & {*task.train.texts, *task.validation.texts}
    assert any("splits are not the paper's" in note for note in task.notes)


def test_a_task_that_is_not_on_the_hub_says_to_give_a_folder() -> None:
    with pytest.raises(DataError, match=r"crowdflower_airline is not read from the hub\. Give --data DIR"):
        read("crowdflower_airline")


def test_a_sheet_without_labels_is_refused_by_the_reader(data: Path) -> None:
    with open(data / "text17" / "sms_spam" / "test.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text",), ("a",)])
    with pytest.raises(DataError, match="there is no such column"):
        read("sms_spam", data)
