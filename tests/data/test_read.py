"""Tasks from files: what is inferred, what arguments override, and what is refused."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polytask.data.formats import write_table
from polytask.data.read import read_rows, read_task, rows_for
from polytask.errors import DataError, PolytaskError, RecipeError, UnknownName

SPAM = [(f"see you at {n}", "ham") for n in range(30)] + [(f"WIN {n} now", "spam") for n in range(10)]


@pytest.fixture
def put(tmp_path):
    def write(name, content):
        path = tmp_path / name
        if isinstance(content, str):
            path.write_text(content)
        else:
            header, *rows = content
            write_table(path, header, rows)
        return path

    return write


def csv_of(labels):
    return [("text", "label"), *((f"text {row}", label) for row, label in enumerate(labels))]


def test_a_csv_becomes_a_task(put):
    task = read_task(put("spam.csv.gz", [("text", "label"), *SPAM]))
    assert (task.name, task.kind, task.labels, task.metric) == ("spam", "classification", ("ham", "spam"), "accuracy")
    assert (len(task.train), len(task.validation), task.test, task.notes) == (36, 4, None, ())
    every = [*zip(task.train.texts, task.train.targets), *zip(task.validation.texts, task.validation.targets)]
    assert sorted(every) == sorted((text, task.labels.index(label)) for text, label in SPAM)


@pytest.mark.parametrize("suffix", ["csv", "tsv.gz", "jsonl", "ndjson.gz", "parquet"])
def test_the_format_does_not_change_the_task(put, suffix):
    other = read_task(put(f"spam.{suffix}", [("text", "label"), *SPAM]))
    assert other.digest == read_task(put("spam2.csv", [("text", "label"), *SPAM]), "spam").digest


def test_the_seed_chooses_the_validation_rows(put):
    path = put("spam.csv", [("text", "label"), *SPAM])
    assert read_task(path, seed=1).digest == read_task(path, seed=1).digest != read_task(path).digest
    assert len(read_task(path, validation_share=0.5).validation) == 20


def test_pairs_are_found_with_a_note(put):
    path = put("rte.tsv", [("sentence1", "sentence2", "label"), ("a", "b", "no"), ("c", "d", "yes")])
    with pytest.raises(DataError, match="no label has two rows"):
        read_task(path)
    task = read_task(path, validation=path)
    assert (task.train.texts, task.train.pairs) == (["a", "c"], ["b", "d"])
    assert (
        "Each text is a pair, 'sentence1' with 'sentence2'. To read only one of them, give it with --text."
        in task.notes
    )
    assert read_task(path, validation=path, text="sentence1").train.pairs is None
    asked = read_task(path, validation=path, text_pair="sentence2")
    assert (asked.train.pairs, "a pair" in " ".join(asked.notes)) == (["b", "d"], False)


def test_files_of_validation_and_test_are_read_with_the_labels_of_train(put):
    train = put("train.csv", csv_of("abc"))
    task = read_task(train, validation=put("v.csv", [("label", "text"), ("c", "x")]), test=put("t.jsonl", csv_of("bb")))
    assert len(task.train) == 3
    assert (task.validation.texts, task.validation.targets) == (["x"], [2])
    assert task.test.targets == [1, 1]


def test_scores_give_a_regression(put):
    task = read_task(put("sts.csv", csv_of([0.5 * n for n in range(20)])))
    assert (task.kind, task.labels, task.metric) == ("regression", (), "pearson")
    assert sorted([*task.train.targets, *task.validation.targets]) == [0.5 * n for n in range(20)]
    assert read_task(put("n.csv", csv_of(range(20))), kind="regression").kind == "regression"


@pytest.mark.parametrize("name", ["topics.csv", "topics.jsonl", "topics.parquet"])
def test_lists_and_joined_cells_make_a_multilabel_task(put, name):
    cells = [["sports"], ["politics", "sports"], ["film"]] * 4
    task = read_task(put(name, csv_of(["|".join(c) for c in cells] if name.endswith("csv") else cells)))
    assert (task.kind, task.labels, task.metric) == ("multilabel", ("film", "politics", "sports"), "micro_f1")
    assert set(task.train.targets) == {(2,), (1, 2), (0,)}


def test_a_given_kind_overrides_the_inferred_one(put):
    path = put("x.csv", csv_of(["a|b", "c"] * 3))
    assert read_task(path, kind="classification").labels == ("a|b", "c")
    assert read_task(put("y.csv", csv_of(["a", "b"] * 3)), kind="multilabel").train.targets[0] in [(0,), (1,)]


def test_empty_rows_are_dropped_on_request(put):
    path = put("dirty.csv", 'text,label\na,x\n"  ",x\nb,\nc,y\nd,x\ne,y\n')
    with pytest.raises(DataError, match=r"dirty\.csv:3, column 'text': the text is empty\. .*--drop-empty"):
        read_task(path)
    task = read_task(path, drop_empty=True)
    assert len(task.train) + len(task.validation) == 4
    assert task.notes == (f"{path}: 2 rows were dropped because of an empty text or label.",)
    with pytest.raises(DataError, match="no rows are left"):
        read_task(put("none.csv", "text,label\na,\nb,\n"), drop_empty=True)


REFUSED = {
    "no name": (
        "my reviews!.csv",
        csv_of("aabb"),
        {},
        "'my reviews!' cannot be the name of a task. Give one with --task",
    ),
    "a long name": ("a.csv", csv_of("aabb"), {"name": "x" * 65}, "cannot be the name of a task"),
    "a path as name": ("a.csv", csv_of("aabb"), {"name": "../a"}, "cannot be the name of a task"),
    "no label": ("a.csv", [("text", "when"), ("a", "b")], {}, "no column has a usual name for the label"),
    "no such column": ("a.csv", csv_of("aabb"), {"label": "labl"}, "no column 'labl'. Did you mean 'label'?"),
    "one class": ("a.csv", csv_of("aaa"), {}, r"a.csv, column 'label': all 3 rows have the label 'a'"),
    "an empty text": (
        "a.csv",
        "text,label\na,1\n,0\n,1\n",
        {},
        "a.csv:3, column 'text': the text is empty, and in 1 more row. ",
    ),
    "an empty label": ("a.csv", 'text,label\n"a\nb",1\nc,\n', {}, "a.csv:4, column 'label': the label is missing"),
    "a null text": (
        "a.jsonl",
        '{"text": "a", "label": 1}\n{"label": 0}\n',
        {},
        "a.jsonl:2, column 'text': the text is empty",
    ),
    "a number as text": (
        "a.jsonl",
        '{"text": 5, "label": 1}\n',
        {},
        "a.jsonl:1, column 'text': the text is not a string: 5",
    ),
    "NaN as text": ("a.jsonl", '{"text": NaN, "label": 1}\n', {}, "a.jsonl:1, column 'text': the text is empty"),
    "NaN as score": ("a.csv", csv_of(["1.5", "nan"]), {}, "a.csv:3, column 'label': nan is not a finite number"),
    "a row of Parquet": ("a.parquet", csv_of(["x", None]), {}, "a.parquet:2, column 'label': the label is missing"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_data_that_cannot_be_used_are_refused_with_their_place(put, why):
    name, content, asked, said = REFUSED[why]
    with pytest.raises(DataError) as caught:
        read_task(put(name, content), **asked)
    assert said in str(caught.value)


def test_labels_that_train_does_not_have_are_refused(put):
    train = put("train.csv", csv_of("aabb"))
    for name, option in (("dev.csv", "validation"), ("held.csv", "test")):
        with pytest.raises(
            DataError, match=rf"{name}:3, column 'label': the label 'A' .*Did you mean 'a'\? Its labels are: a, b"
        ):
            read_task(train, **{option: put(name, csv_of("aA"))})


def test_a_test_file_without_the_columns_of_train_is_refused(put):
    with pytest.raises(DataError, match=r"t\.csv: there is no column 'label'\. The columns are: 'text', 'id'"):
        read_task(put("train.csv", csv_of("aabb")), test=put("t.csv", [("text", "id"), ("a", "1")]))


def test_kinds_and_metrics_that_do_not_exist_or_fit_are_refused(put):
    path = put("a.csv", csv_of("aabb"))
    assert read_task(path, metric="f1").metric == "f1"
    with pytest.raises(UnknownName, match=r"no metric called 'acc'"):
        read_task(path, metric="acc")
    with pytest.raises(RecipeError, match="this is a classification task"):
        read_task(path, metric="pearson")
    with pytest.raises(UnknownName, match=r"no kind of task in files called 'tagging'"):
        read_task(path, kind="tagging")


def test_rows_to_predict_keep_every_column(put):
    read = read_rows(put("in.csv", [("id", "text", "label"), ("7", "a", " x "), ("8", "b", "")]))
    assert (read.rows.texts, read.rows.pairs, read.rows.targets) == (["a", "b"], None, None)
    assert read.labels == ("x", "")
    assert (read.table.header, list(read.table.rows[0])) == (("id", "text", "label"), ["7", "a", " x "])
    assert read_rows(put("in2.csv", [("text",), ("a",)])).labels is None


def test_dropped_rows_are_dropped_from_all_columns(put):
    read = read_rows(put("in.jsonl", '{"id": 1, "text": ""}\n{"id": 2, "text": "b"}\n'), drop_empty=True)
    assert (read.rows.texts, [list(row) for row in read.table.rows]) == (["b"], [[2, "b"]])


def test_rows_are_read_against_known_labels(put):
    path = put("test.csv", csv_of("ba"))
    assert rows_for(("c", "b", "a"), "classification", path).targets == [1, 2]
    with pytest.raises(
        DataError, match=r"test\.csv:3, column 'label': the label 'a' is not a label of this task\. Its labels are: b"
    ):
        rows_for(("b",), "classification", path)
    assert rows_for((), "regression", put("r.csv", csv_of(["1", "2"]))).targets == [1.0, 2.0]


CELLS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.text(max_size=3))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.fixed_dictionaries({}, optional={"text": CELLS, "label": CELLS, "extra": CELLS}), max_size=8))
def test_any_json_lines_give_a_task_or_are_refused(tmp_path, objects):
    path = tmp_path / "any.jsonl"
    path.write_text("\n".join(map(json.dumps, objects)))
    for drop_empty in (False, True):
        try:
            task = read_task(path, drop_empty=drop_empty)
        except PolytaskError:
            continue
        assert len(task.train) >= 1
        assert len(task.validation) >= 1


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from('ab12.|",; é\n\t')))
def test_any_csv_gives_a_task_or_is_refused(tmp_path, body):
    path = tmp_path / "any.csv"
    path.write_text("text,label\n" + body)
    with contextlib.suppress(PolytaskError):
        assert len(read_task(path).train) >= 1
