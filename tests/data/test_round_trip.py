"""Written tables are read back unchanged, for every kind of task and format."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polytask.cli.output import cells_of, check_output
from polytask.data.formats import SUFFIXES, read_table, write_table
from polytask.data.read import read_rows, read_task
from polytask.data.task import Rows, Task
from polytask.errors import DataError
from polytask.inference.prediction import Prediction

TARGETS = {
    "words": (["ham", "spam"] * 6, "classification", ("ham", "spam")),
    "whole numbers": ([0, 1, 5] * 4, "classification", ("0", "1", "5")),
    "numbers with a point": ([0.0, 1.0, None] * 4, "classification", ("0", "1")),
    "truth": ([True, False] * 6, "classification", ("false", "true")),
    "words for truth": (["True", "False"] * 6, "classification", ("false", "true")),
    "words for truth and more": (["True", "False", "Unknown"] * 4, "classification", ("Unknown", "false", "true")),
    "numbers in two spellings": ([1, 1.0, 1.5] * 4, "classification", ("1", "1.5")),
    "two zeros": ([-0.0, 0.0, 0.5] * 4, "classification", ("0", "0.5")),
    "whole numbers in bars": (["1.0|2.0", "1", "2.0"] * 4, "multilabel", ("1", "2")),
    "a bar in a name": (["spam|junk", "ham"] * 6, "classification", ("ham", "spam|junk")),
    "sets": (["{'a', 'b'}", "set()", "{'b'}"] * 4, "multilabel", ("a", "b")),
    "sections": (["2.1", "2.10", "2.9"] * 4, "classification", ("2.1", "2.10", "2.9")),
    "bars": (["a|b", "a", "", "b"] * 3, "multilabel", ("a", "b")),
    "lists": ([["a", "b c"], ["a"], [], ["it's"]] * 3, "multilabel", ("a", "b c", "it's")),
    "lists of bars": ([["a|b"], ["a", "c"], []] * 4, "multilabel", ("a", "a|b", "c")),
    "scores": ([n / 8 for n in range(30)], "regression", ()),
}


def rows_of(name):
    cells = TARGETS[name][0]
    return [(f"text {row}", cell) for row, cell in enumerate(cells)]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", TARGETS)
def test_a_task_is_the_same_in_every_format(tmp_path, name, suffix):
    _, kind, labels = TARGETS[name]
    write_table(tmp_path / f"t{suffix}", ["text", "label"], rows_of(name))
    task = read_task(tmp_path / f"t{suffix}", drop_empty=name == "numbers with a point")
    write_table(tmp_path / "same.jsonl", ["text", "label"], rows_of(name))
    same = read_task(tmp_path / "same.jsonl", "t", drop_empty=name == "numbers with a point")
    assert (task.kind, task.labels, task.digest) == (kind, labels, same.digest)


def test_booleans_beside_words_have_the_same_names_in_text_and_json(tmp_path):
    rows = [(f"text {row}", (True, False, "Unknown")[row % 3]) for row in range(12)]
    for suffix in (".csv", ".jsonl"):
        write_table(tmp_path / f"t{suffix}", ["text", "label"], rows)
    (tmp_path / "t.tsv").write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    tasks = [read_task(tmp_path / f"t{suffix}") for suffix in (".csv", ".jsonl", ".tsv")]
    assert {task.digest for task in tasks} == {tasks[0].digest}
    assert tasks[0].labels == ("Unknown", "false", "true")


ANSWERS = {
    "classification": [Prediction(task="t", label=label, probs={"a|b": 0.5, "c": 0.5}) for label in ("c", "a|b")],
    "multilabel": [
        Prediction(task="t", labels=labels, probs={"a|b": 0.9, "c": 0.8}) for labels in ((), ("c",), ("a|b", "c"))
    ],
    "regression": [Prediction(task="t", score=score) for score in (0.125, -3.5)],
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ANSWERS)
def test_written_predictions_are_read_back_as_labels(tmp_path, kind, suffix):
    answers = ANSWERS[kind] * 4
    written = cells_of("t", answers)
    rows = [(f"text {row}", *cells) for row, cells in enumerate(zip(*written.values()))]
    write_table(tmp_path / f"out{suffix}", ["text", *written], rows)
    task = read_task(tmp_path / f"out{suffix}", label="t", kind=kind, validation=tmp_path / f"out{suffix}")
    given = {
        "classification": lambda target: {"label": task.labels[target]},
        "multilabel": lambda target: {"labels": tuple(task.labels[at] for at in target)},
        "regression": lambda target: {"score": target},
    }[kind]
    for target, answer in zip(task.train.targets, answers, strict=True):
        assert all(getattr(answer, name) == value for name, value in given(target).items())
    if kind == "multilabel":  # what is a list needs no --kind
        assert read_task(tmp_path / f"out{suffix}", label="t").kind == kind


def features(**of_column):
    return {b"huggingface": json.dumps({"info": {"features": of_column}}).encode()}


@pytest.mark.parametrize("wrapped", [False, True])
def test_class_names_of_a_parquet_file_are_kept_in_their_order(tmp_path, wrapped):
    feature = {"names": ["World", "Sports", "Business"], "_type": "ClassLabel"}
    cells = [[0, 2], [2], [1]] * 4 if wrapped else [0, 2, 1] * 4
    table = pa.table({"text": [f"text {row}" for row in range(12)], "label": cells})
    own = {"feature": feature, "_type": "List"} if wrapped else feature
    pq.write_table(table.replace_schema_metadata(features(label=own)), tmp_path / "news.parquet")
    task = read_task(tmp_path / "news.parquet")
    assert task.labels == ("World", "Sports", "Business")
    assert set(task.train.targets) == ({(0, 2), (2,), (1,)} if wrapped else {0, 1, 2})


@pytest.mark.parametrize("metadata", [b"{", b"[]", b'{"info": 3}', b'{"info": {"features": {"label": {"names": 3}}}}'])
def test_damaged_class_names_are_ignored(tmp_path, metadata):
    table = pa.table({"text": ["a", "b", "c", "d"], "label": [0, 1, 0, 1]})
    pq.write_table(table.replace_schema_metadata({b"huggingface": metadata}), tmp_path / "t.parquet")
    assert read_task(tmp_path / "t.parquet").labels == ("0", "1")


def test_class_index_minus_one_is_a_missing_label(tmp_path):
    table = pa.table({"text": ["a", "b", "c"], "label": [0, 1, -1]})
    own = {"names": ["no", "yes"], "_type": "ClassLabel"}
    pq.write_table(table.replace_schema_metadata(features(label=own)), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="the label is missing"):
        read_task(tmp_path / "t.parquet")


@pytest.mark.parametrize("name", ["in.csv", "in.tsv", "in.jsonl", "in.parquet"])
def test_empty_texts_keep_their_rows(tmp_path, name):
    write_table(tmp_path / name, ["text"], [["a"], [""], ["b"], [None], ["c"], [""]])
    assert list(read_rows(tmp_path / name, keep_empty=True).rows.texts) == ["a", "", "b", "", "c", ""]
    write_table(tmp_path / name, ["text", "id"], [["a", "1"], ["", ""], ["b", "2"], ["", ""]])
    assert len(read_rows(tmp_path / name, keep_empty=True).rows) == 4


def test_another_encoding_is_read_if_it_is_given(tmp_path):
    content = "text,label\n" + "caf\u00e9,ja\nma\u00e7\u00e3,n\u00e3o\n" * 4
    for encoding in ("cp1252", "utf-16"):
        path = tmp_path / f"{encoding}.csv"
        path.write_bytes(content.encode(encoding))
        with pytest.raises(DataError, match=f"--encoding {encoding}"):
            read_task(path)
        assert read_task(path, encoding=encoding, validation=path).labels == ("ja", "n\u00e3o")
    with pytest.raises(DataError, match="no encoding is called 'rot'"):
        read_table(path, "rot")
    with pytest.raises(DataError, match=r"ascii\.csv: the file is not ascii|is not ascii"):
        read_table(path, "ascii")
    with pytest.raises(DataError, match="no encoding is called 'base64'"):
        read_table(path, "base64")


def test_the_encoding_applies_to_text_files_only(tmp_path):
    rows = [("caf\u00e9", "n\u00e3o"), ("ma\u00e7\u00e3", "ja")] * 4
    (tmp_path / "t.csv").write_bytes(("text,label\n" + "".join(f"{a},{b}\n" for a, b in rows)).encode("cp1252"))
    write_table(tmp_path / "v.parquet", ["text", "label"], rows)
    task = read_task(tmp_path / "t.csv", validation=tmp_path / "v.parquet", encoding="cp1252")
    assert task.train == task.validation
    with pytest.raises(DataError, match="no encoding is called 'rot'"):
        read_table(tmp_path / "v.parquet", "rot")


def test_a_task_built_in_python_is_checked_like_a_file():
    with pytest.raises(DataError, match="2 texts and 1 targets"):
        Rows(["a", "b"], targets=[0])
    rows = Rows(["a", "b"], targets=[0, 1])
    for labels, said in (((0, 1), "has the label 0"), (("a", " "), "has the label ' '"), ((), "has no labels")):
        with pytest.raises(DataError, match=said):
            Task("t", "classification", labels, "accuracy", rows, rows)


@pytest.mark.parametrize(
    ("kind", "targets", "said"),
    [
        ("classification", [1, 1], "all 2 rows have the label 'b'. At least two different labels are needed"),
        ("multilabel", [[0], (0,)], "all 2 rows have the label 'a'"),
        ("regression", [0.5, 0.5], "all 2 rows have the number 0.5. At least two different numbers"),
    ],
)
def test_a_task_built_in_python_needs_two_different_targets(kind, targets, said):
    labels = () if kind == "regression" else ("a", "b")
    rows = Rows(["x", "y"], targets=targets)
    with pytest.raises(DataError, match=f"task 't': {said}"):
        Task("t", kind, labels, "accuracy", rows, rows)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_task_built_in_python_has_no_empty_text_and_no_empty_split(split):
    whole = Rows(["x", "y"], ["u", "v"], targets=[0, 1])
    splits = {"train": whole, "validation": whole}
    for texts, pairs in ((["x", ""], ["u", "v"]), (["x", "y"], ["u", " \n"])):
        with pytest.raises(DataError, match=r"text 2 of the .* rows of task 't' is empty"):
            Task("t", "classification", ("a", "b"), "accuracy", **splits | {split: Rows(texts, pairs, [0, 1])})
    with pytest.raises(DataError, match=r"task 't' has no .* rows"):
        Task("t", "classification", ("a", "b"), "accuracy", **splits | {split: Rows([], targets=[])})


def test_unlabelled_test_rows_may_have_an_empty_text():
    whole = Rows(["x", "y"], targets=[0, 1])
    assert Task("t", "classification", ("a", "b"), "accuracy", whole, whole, Rows(["", "z"])).test is not None


def test_a_label_is_matched_as_written_before_its_canonical_name(tmp_path):
    rows = [(f"text {row}", label) for row, label in enumerate(["1", "1.0", "x"] * 5)]
    write_table(tmp_path / "train.csv", ["text", "label"], rows)
    write_table(tmp_path / "other.csv", ["text", "label"], [("a", "1.0"), ("b", "1.0"), ("c", "1")])
    task = read_task(tmp_path / "train.csv", validation=tmp_path / "other.csv")
    assert [task.labels[target] for target in task.validation.targets] == ["1.0", "1.0", "1"]
    write_table(tmp_path / "bool.csv", ["text", "label"], [(f"t{n}", n % 2 == 0) for n in range(8)])
    write_table(tmp_path / "words.csv", ["text", "label"], [("a", "TRUE"), ("b", "False")])
    task = read_task(tmp_path / "bool.csv", validation=tmp_path / "words.csv")
    assert [task.labels[target] for target in task.validation.targets] == ["true", "false"]


@pytest.mark.parametrize("names", [["1.5", "2.5"], ["a|b", "c"], ["['a']", "['b']"], ["World ", " Sports"]])
def test_class_names_are_not_parsed(tmp_path, names):
    table = pa.table({"text": [f"text {row}" for row in range(12)], "label": [0, 1] * 6})
    own = {"names": names, "_type": "ClassLabel"}
    pq.write_table(table.replace_schema_metadata(features(label=own)), tmp_path / "t.parquet")
    task = read_task(tmp_path / "t.parquet")
    assert (task.kind, task.labels) == ("classification", tuple(name.strip() for name in names))
    assert set(task.train.targets) == {0, 1}


def test_names_of_classes_in_a_list_of_one_feature_are_kept(tmp_path):
    table = pa.table({"text": [f"text {row}" for row in range(12)], "label": [[0, 1], [1]] * 6})
    own = [{"names": ["a", "b"], "_type": "ClassLabel"}]
    pq.write_table(table.replace_schema_metadata(features(label=own)), tmp_path / "t.parquet")
    assert read_task(tmp_path / "t.parquet").labels == ("a", "b")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_many_repeated_whole_numbers_are_classes_with_or_without_a_decimal_point(tmp_path, suffix):
    write_table(tmp_path / f"t{suffix}", ["text", "label"], [(f"t{n}", float(n % 25)) for n in range(200)])
    task = read_task(tmp_path / f"t{suffix}")
    assert (task.kind, task.labels) == ("classification", tuple(map(str, range(25))))


def test_characters_that_cannot_be_written_are_refused_on_reading(tmp_path):
    (tmp_path / "nul.jsonl").write_text('{"text": "ok"}\n{"text": "a\\u0000b"}\n')
    with pytest.raises(DataError, match=r"nul\.jsonl:2: a string contains a NUL character"):
        read_table(tmp_path / "nul.jsonl")
    (tmp_path / "fine.jsonl").write_text('{"text": "a\\\\u0000b"}\n')
    assert read_table(tmp_path / "fine.jsonl").rows[0][0] == "a\\u0000b"


def test_a_date_out_of_range_is_refused(tmp_path):
    far = pa.array([4_000_000] * 4, pa.date32())
    pq.write_table(pa.table({"text": list("abcd"), "label": ["x", "y"] * 2, "until": far}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="date value out of range"):
        read_task(tmp_path / "t.parquet")


def test_two_tasks_that_write_the_same_column_are_refused(tmp_path):
    write_table(tmp_path / "in.csv", ["text"], [["a"]])
    source = read_rows(tmp_path / "in.csv")
    with pytest.raises(DataError, match="two tasks would write this column"):
        check_output("in.csv", "out.csv", source, {"t": "classification", "t_prob": "classification"})


@pytest.mark.parametrize("names", [["[not spam]", "[is spam]"], ["['a' ... 'b']", "['a' 'b']"]])
def test_words_in_brackets_are_names_unless_they_are_a_list(tmp_path, names):
    write_table(tmp_path / "t.csv", ["text", "label"], [(f"text {row}", names[row % 2]) for row in range(12)])
    task = read_task(tmp_path / "t.csv")
    assert (task.kind, task.labels) == ("classification", tuple(sorted(names)))


def test_an_encoding_for_squad_json_is_refused(tmp_path):
    (tmp_path / "q.json").write_text('{"data": []}')
    with pytest.raises(DataError, match=r"SQuAD's JSON is UTF-8\. Omit --encoding"):
        read_task(tmp_path / "q.json", kind="span", encoding="cp1252")
