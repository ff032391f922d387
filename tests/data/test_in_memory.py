"""The same rows make the same task, whichever way a program holds them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from polytask.backbones.backbone import Backbone
from polytask.data.formats import write_table
from polytask.data.in_memory import table_from
from polytask.data.read import read_rows, read_task
from polytask.errors import DataError, StoreError
from polytask.inference.predict import MultiTask
from polytask.training.loop import train

TEXTS = [f"see you at {n}" for n in range(30)] + [f"WIN {n} now" for n in range(10)]
LABELS = ["ham"] * 30 + ["spam"] * 10
COLUMNS = {"text": TEXTS, "label": LABELS}
RECORDS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS)]
NAMES = ClassLabel(names=["ham", "spam"])
AS_CLASSES = Dataset.from_dict(
    {"text": TEXTS, "label": [NAMES.str2int(label) for label in LABELS]},
    features=Features({"text": Value("string"), "label": NAMES}),
)


def polars() -> Any:
    return pytest.importorskip("polars", reason="polars is not installed")


HELD: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pd.DataFrame(COLUMNS),
    "pandas with another index": lambda: pd.DataFrame(COLUMNS, index=range(100, 140)),
    "pandas of categories": lambda: pd.DataFrame(COLUMNS).astype({"label": "category"}),
    "pandas of objects": lambda: pd.DataFrame(COLUMNS).astype(object),
    "polars": lambda: polars().DataFrame(COLUMNS),
    "pyarrow": lambda: pa.table(COLUMNS),
    "pyarrow with class names": lambda: AS_CLASSES.data.table.replace_schema_metadata(
        AS_CLASSES.features.arrow_schema.metadata
    ),
    "datasets": lambda: Dataset.from_dict(COLUMNS),
    "datasets with class names": lambda: AS_CLASSES,
    "datasets formatted": lambda: AS_CLASSES.with_format("numpy"),
    "records": lambda: RECORDS,
    "columns": lambda: COLUMNS,
    "two lists": lambda: (TEXTS, LABELS),
    "two Series": lambda: (pd.Series(TEXTS), pd.Series(LABELS)),
    "two Series of polars": lambda: (polars().Series(TEXTS), polars().Series(LABELS)),
    "two arrays": lambda: (np.array(TEXTS), np.array(LABELS)),
    "two columns of a data set": lambda: (Dataset.from_dict(COLUMNS)["text"], LABELS),
    "DatasetDict": lambda: DatasetDict({"train": AS_CLASSES}),
    "a dict of tables": lambda: {"train": pd.DataFrame(COLUMNS)},
}


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("rows") / "spam.csv"
    write_table(path, ["text", "label"], list(zip(TEXTS, LABELS)))
    return read_task(path).digest


@pytest.mark.parametrize("held", HELD)
def test_the_task_does_not_depend_on_how_its_rows_are_held(held: str, digest: str) -> None:
    task = read_task(HELD[held](), "spam")
    assert task.digest == digest
    assert (task.name, task.labels, task.notes) == ("spam", ("ham", "spam"), ())


@pytest.mark.parametrize("held", ["pandas", "polars", "pyarrow", "datasets", "records"])
def test_texts_to_be_answered_are_read_from_any_table(held: str) -> None:
    found = read_rows(HELD[held]())
    assert list(found.rows.texts) == TEXTS
    assert found.labels == tuple(LABELS)


def test_a_data_set_keeps_the_order_of_its_class_names() -> None:
    names = ClassLabel(names=["zebra", "ant"])
    rows = {"text": ["a", "b", "c", "d"], "label": [0, 1, 0, 1]}
    data = Dataset.from_dict(rows, features=Features({"text": Value("string"), "label": names}))
    task = read_task(data, "animals", validation=data)
    assert (task.labels, list(task.train.targets or ())) == (("zebra", "ant"), [0, 1, 0, 1])


def test_the_splits_of_a_data_set_are_used() -> None:
    parts = DatasetDict({"train": AS_CLASSES, "validation": AS_CLASSES.select([0, 39]), "test": AS_CLASSES.select([1])})
    task = read_task(parts, "spam")
    assert (len(task.train), task.validation.texts, len(task.test or ())) == (40, [TEXTS[0], TEXTS[39]], 1)
    with pytest.raises(DataError, match="a DatasetDict has its own splits"):
        read_task(parts, "spam", validation=RECORDS)
    with pytest.raises(DataError, match=r"<DatasetDict>: there is no split 'train'\. There are: test"):
        read_task(DatasetDict({"test": AS_CLASSES}), "spam")


def test_validation_rows_may_be_held_otherwise_than_training_rows() -> None:
    task = read_task(pd.DataFrame(COLUMNS), "spam", validation=RECORDS[:3], test=pa.table(COLUMNS))
    assert (len(task.train), len(task.validation), len(task.test or ())) == (40, 3, 40)


def test_numbers_and_truth_values_are_named_as_in_a_file() -> None:
    rows = {"text": [str(n) for n in range(12)], "label": [True, False] * 6}
    assert read_task(pd.DataFrame(rows), "t").labels == ("false", "true")
    assert read_task(rows | {"label": np.array([0, 1] * 6)}, "t").labels == ("0", "1")
    assert read_task(pd.DataFrame(rows | {"label": np.linspace(0.05, 1, 12)}), "t").kind == "regression"


def test_lists_of_labels_make_a_multilabel_task() -> None:
    rows = {"text": [str(n) for n in range(12)], "label": [["a"], ["a", "b"], []] * 4}
    frame = pd.DataFrame(rows)
    frame["label"] = [np.array(cell) for cell in rows["label"]]  # as Parquet gives them
    tasks = [read_task(data, "t") for data in (rows, frame, pa.table(rows))]
    assert {task.digest for task in tasks} == {tasks[0].digest}
    assert tasks[0].kind == "multilabel"
    names = List(ClassLabel(names=["a", "b"]))
    numbers = {"text": rows["text"], "label": [[0], [0, 1], []] * 4}
    data = Dataset.from_dict(numbers, features=Features({"text": Value("string"), "label": names}))
    assert read_task(data, "t").digest == tasks[0].digest


def test_pairs_are_found_in_columns_and_in_a_list() -> None:
    pairs = [(f"premise {n}", f"hypothesis {n}") for n in range(20)]
    frame = pd.DataFrame(pairs, columns=["premise", "hypothesis"]).assign(label=["no", "yes"] * 10)
    assert read_task((pairs, ["no", "yes"] * 10), "nli").digest == read_task(frame, "nli").digest


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, ""])
def test_a_missing_label_is_refused_by_the_number_of_its_row(missing: Any) -> None:
    frame = pd.DataFrame({"text": TEXTS, "label": [*LABELS[:-1], missing]}, dtype=object)
    with pytest.raises(DataError, match=r"<DataFrame>:40, column 'label': the label is missing"):
        read_task(frame, "spam")
    assert len(read_task(frame, "spam", drop_empty=True).train) == 35


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TEXTS, r"a list was given\. Give its labels beside the texts: \(texts, labels\)"),
        (pd.Series(TEXTS), r"a Series was given\. Give its labels beside"),
        (list(zip(TEXTS, LABELS)), r"Give two lists instead of a list of pairs"),
        ((row for row in RECORDS), r"a generator was given\. Training reads the rows many times, so give list\(rows\)"),
        (7, r"a DataFrame of pandas or polars, .* two lists \(texts, labels\); a int was given"),
        ((TEXTS, LABELS[:-1]), "there are 40 texts and 39 labels"),
        ({"text": TEXTS, "label": LABELS[:-1]}, "columns differ in length: 40 in 'text' and 39 in 'label'"),
        (pd.DataFrame({"text": [], "label": []}), "<DataFrame>: there are no rows"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "<DataFrame>: two columns are called 'text'"),
        (pd.DataFrame({"text": TEXTS, "labl": LABELS}), r"<DataFrame>: no column has a usual name for the label"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_read_is_refused_with_what_would_be_right(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_task(data, "spam")


def test_rows_without_a_name_need_one() -> None:
    with pytest.raises(DataError, match=r'made of a DataFrame needs a name\. Give it one: read_task\(data, "spam"'):
        read_task(pd.DataFrame(COLUMNS))


def test_no_library_is_imported_that_the_rows_do_not_come_from() -> None:
    code = (
        "import sys\nfrom polytask.data.read import read_task\n"
        "read_task((['a', 'b'] * 4, ['x', 'y'] * 4), 't')\n"
        "print([name for name in ('pandas', 'polars', 'pyarrow', 'datasets', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_subclass_is_read_as_what_it_is_derived_from() -> None:
    class Frame(pd.DataFrame):
        pass

    assert table_from(Frame(COLUMNS)).rows[0] == (TEXTS[0], LABELS[0])


def test_errors_about_a_table_in_memory_name_its_columns_and_the_argument(tiny_backbone: Backbone) -> None:
    frame = pd.DataFrame({"body": ["good film", "bad film"], "second": ["a", "b"], "outcome": ["x", "y"]})
    with pytest.raises(DataError, match=r"""label="COLUMN". The columns are: 'body', 'second'"""):
        read_task(frame, "spam")
    with pytest.raises(DataError, match=r'Say which: label="label" or label="labels"'):
        read_task(frame.assign(label="x", labels="y"), "spam", text="body")
    with pytest.raises(DataError) as refused:
        train(tiny_backbone, frame)  # type: ignore[arg-type]
    assert str(refused.value).startswith("DataFrame with the columns 'body', 'second', 'outcome' is not a Task. Make")
    with pytest.raises(DataError, match=r"tuple \(\['a'\], \['b'\]\) is not a Task"):
        train(tiny_backbone, (["a"], ["b"]))  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=r"list is not a Store.*store.put\(adapter\)"):
        MultiTask(tiny_backbone, [])  # type: ignore[arg-type]
