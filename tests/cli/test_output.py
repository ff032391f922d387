"""Output that can be read back, closed pipes, and the layout of help and tables."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from polytask.adapters.store import Store
from polytask.cli import result_tables
from polytask.cli.output import cells_of, check_output, names_added, shortest_float
from polytask.cli.paper.trials import plan_table, range_in_words
from polytask.data.formats import read_table, write_table
from polytask.data.read import read_rows, read_task
from polytask.errors import DataError
from polytask.evaluation.per_label import report
from polytask.inference.prediction import Prediction
from tests.cli.test_cli import SOURCE, polytask, refused, succeeded, table

MAIN = [sys.executable, "-c", "from polytask.cli import main; main()"]
SINGLE = [("a good film", "spam"), ("a bad film", "ham"), ("a dull film", "ham")] * 8
PAIRS = [("it rains", "it is wet", "yes"), ("it rains", "it is dry", "no")] * 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_bert_folder: Path) -> Path:
    """A store with the tasks ``mail`` (single texts), ``nli`` (pairs) and ``news`` (of Parquet with class names)."""
    folder = tmp_path_factory.mktemp("plain")
    news = pa.table({"text": [f"text {row}" for row in range(12)], "label": [0, 2, 1] * 4})
    names = {"names": ["World", "Sports", "Business"], "_type": "ClassLabel"}
    about = {b"huggingface": json.dumps({"info": {"features": {"label": names}}}).encode()}
    pq.write_table(news.replace_schema_metadata(about), folder / "news.parquet")
    files = {
        "mail": table(folder / "mail.csv", SINGLE),
        "nli": table(folder / "nli.csv", PAIRS, ("premise", "hypothesis", "label")),
        "news": folder / "news.parquet",
    }
    quick = ("--backbone", tiny_bert_folder, "--epochs", 1, "--size", 2, "--store", folder / "store")
    for task, file in files.items():
        succeeded("train", file, "--task", task, "--dtype", "float32", *quick)
    return folder


def unboxed(text: str) -> str:
    """Without the box, on one line."""
    return " ".join(text.replace("│", " ").split())


def test_eval_says_whose_majority_it_compares_with(folder: Path) -> None:
    other = table(folder / "other.csv", [("a", "spam")] * 3 + [("b", "ham")])
    said = unboxed(succeeded("eval", other, "--task", "mail", "--store", folder / "store"))
    assert "majority class of the training rows ('ham'): 0.250) on 4 texts" in said
    assert "the most frequent label of the training rows ('ham')" in unboxed(
        succeeded("show", "mail", "--store", folder / "store")
    )


def test_the_tables_of_eval_have_one_order() -> None:
    found = report("classification", ("rare", "common"), [0, 1, 1, 1], [0, 1, 1, 0])
    assert found is not None
    assert found.confusion is not None
    out = Console(file=io.StringIO(), width=100)
    out.print(result_tables.label_table(found), result_tables.confusion_table(("rare", "common"), found.confusion))
    assert isinstance(out.file, io.StringIO)
    assert re.findall(r"^ (rare|common)", out.file.getvalue(), re.M) == ["rare", "common"] * 2


def test_both_texts_of_a_pair_are_shown(folder: Path) -> None:
    shown = succeeded("predict", "--task", "nli", "--store", folder / "store", "it rains", "--pair", "it is wet")
    assert re.search(r"text +second text +nli", shown)
    assert re.search(r"it rains +it is wet +(yes|no) \d+%", shown)


def test_eval_refuses_single_texts_for_pairs_and_the_reverse(folder: Path) -> None:
    where = ("--store", folder / "store")
    said = refused("eval", folder / "mail.csv", "--task", "nli", *where)
    assert "nli@1 takes pairs of texts, and there is no second text beside 'text'" in said
    assert "--text-pair, as 'hypothesis' in training" in said
    said = refused("eval", folder / "nli.csv", "--task", "mail", *where)
    assert "mail@1 takes single texts, and 'premise' with 'hypothesis' is a pair" in said


def test_an_adapter_is_not_compared_with_itself(folder: Path) -> None:
    compared = ("compare", "mail", "mail@1", folder / "mail.csv", "--store", folder / "store")
    assert "mail@1 is compared with itself" in refused(*compared)


def test_json_lines_say_which_row_they_answer(folder: Path) -> None:
    asked = ("--task", "mail", "--task", "news", "--store", folder / "store", "--json")
    lines = [json.loads(line) for line in succeeded("predict", "a", "b", *asked).splitlines()]
    assert [(line["row"], line["task"]) for line in lines] == [(1, "mail"), (1, "news"), (2, "mail"), (2, "news")]


def test_an_empty_text_on_the_command_line_has_an_empty_answer(folder: Path) -> None:
    asked = ("predict", "a", "", "b", "--task", "mail", "--store", folder / "store", "--json")
    failed = polytask(*asked)
    assert failed.exit_code == 2
    assert "note text 2 of 3: the text is empty" in failed.stderr
    lines = [json.loads(line) for line in failed.stdout.splitlines()]
    assert [line["label"] is None for line in lines] == [False, True, False]
    assert succeeded(*asked, "--on-error", "null") == failed.stdout
    alone = ("predict", "", "--task", "mail", "--store", folder / "store", "--json")
    assert "the text is empty" in refused(*alone)
    assert json.loads(succeeded(*alone, "--on-error", "null"))["error"] == "the text is empty"


def test_an_output_in_no_folder_is_refused_before_any_work(folder: Path, tmp_path: Path) -> None:
    missing = tmp_path / "a b" / "c"
    where = ("--store", folder / "store", "--backbone", tmp_path / "nowhere")
    said = refused("predict", "--task", "mail", "--file", folder / "mail.csv", "--output", missing / "o.csv", *where)
    assert f"Make it first: mkdir -p '{missing}'" in said
    said = refused("eval", folder / "mail.csv", "--task", "mail", "--confusion", missing / "c.png", *where)
    assert "mkdir -p" in said
    assert not (tmp_path / "a b").exists()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("header", "task", "column"),
    [
        (["text", "rating"], "stars", "stars_answer"),
        (["text", "label"], "stars", "stars"),
        (["text"], "stars", "stars"),
        (["sentence", "label"], "review", "review_answer"),
        (["premise", "hypothesis", "label"], "text", "text_answer"),
        (["text", "label"], "text_pair", "text_pair_answer"),
        (["text", "rating"], "mood", "mood"),
    ],
)
def test_columns_mean_the_same_when_an_output_is_read_again(
    tmp_path: Path, suffix: str, header: list[str], task: str, column: str
) -> None:
    write_table(tmp_path / f"in{suffix}", header, [[f"{name} {row}" for name in header] for row in range(4)])
    source = read_rows(tmp_path / f"in{suffix}")
    check_output("in", str(tmp_path / f"out{suffix}"), source, {task: "classification"})
    assert names_added(source, {task: "classification"}) == {task: column}
    answers = [Prediction(task, label="5", probs={"5": 0.9})] * 4
    added = cells_of(column, answers)
    rows = [[*own, *cells] for own, *cells in zip(source.table.rows, *added.values())]
    write_table(tmp_path / f"out{suffix}", [*header, *added], rows)
    again = read_rows(tmp_path / f"out{suffix}")
    assert (again.rows.texts, again.rows.pairs) == (source.rows.texts, source.rows.pairs)
    assert source.labels is None or again.labels == source.labels


def test_a_note_names_a_renamed_column(folder: Path, tmp_path: Path, tiny_bert_folder: Path) -> None:
    rows = table(tmp_path / "rows.csv", [("a", "1"), ("b", "2")] * 6, ("text", "rating"))
    where = ("--store", tmp_path / "store")
    succeeded("train", rows, "--task", "stars", "--backbone", tiny_bert_folder, "--epochs", 1, *where)
    done = polytask("predict", "--task", "stars", "--file", rows, "--output", tmp_path / "out.csv", *where)
    assert "the answers of stars are in the column 'stars_answer'" in unboxed(done.stderr)
    assert read_rows(tmp_path / "out.csv").labels == read_rows(rows).labels


def test_a_parquet_output_keeps_the_order_of_classes(folder: Path, tmp_path: Path) -> None:
    where = ("--task", "news", "--store", folder / "store")
    succeeded("predict", *where, "--file", folder / "news.parquet", "--output", tmp_path / "out.parquet")
    order = ("World", "Sports", "Business")
    assert Store(folder / "store").entry("news").labels == order
    assert read_table(tmp_path / "out.parquet").classes == {"label": order, "news": order}
    assert read_task(tmp_path / "out.parquet").labels == order


def test_scores_are_written_as_short_as_float32_is_exact() -> None:
    """A head computes in float32, so of the 17 digits of a float64 only 8 are significant."""
    numbers = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    for number in map(float, [*numbers, 0.1, 1e-30, 3e30, -0.0, 2.8373208045959473]):
        written = shortest_float(number)
        assert np.float32(written) == np.float32(number)
        assert len(f"{written!r}".strip("-").replace(".", "").partition("e")[0].lstrip("0")) <= 10
    assert shortest_float(2.8373208045959473) == 2.8373208
    assert cells_of("stars", [Prediction("stars", score=2.8373208045959473)]) == {"stars": [2.8373208]}


def test_boolean_labels_give_one_note(tmp_path: Path) -> None:
    written = table(tmp_path / "t.csv", [("a", "True"), ("b", "False")] * 6)
    said = [note for note in read_task(written).notes if "'true' and 'false'" in note]
    assert said == ["'False' and 'True' in column 'label' are read as 'true' and 'false', as in all formats."]
    plain = table(tmp_path / "p.csv", [("a", "true"), ("b", "false")] * 6)
    assert not any("in all formats" in note for note in read_task(plain).notes)


def test_a_dry_run_of_a_sweep_writes_nothing(folder: Path, tmp_path: Path, tiny_bert_folder: Path) -> None:
    shared = ("--task", "mail", "--backbone", tiny_bert_folder, "--store", tmp_path / "s", "--results", tmp_path / "r")
    asked = ("--lr", "1e-3,3e-3", "--size", "2,100000", "--seeds", 2, "--epochs", 2, "--dry-run")
    told = json.loads(succeeded("sweep", folder / "mail.csv", *shared, *asked, "--json"))
    assert told["runs"] == 8
    assert [line["seeds"] for line in told["settings"]] == [[0, 1]] * 4
    assert [line["values"] for line in told["settings"]] == [
        {"size": size, "lr": lr} for size in (2, 100_000) for lr in (1e-3, 3e-3)
    ]
    small, _, large, _ = (line["parameters"]["trained"] for line in told["settings"])
    assert large > 10_000 * small
    assert told["steps"] == sum(2 * line["steps"] for line in told["settings"])
    shown = succeeded("sweep", folder / "mail.csv", *shared, *asked)
    assert "8 runs of mail" in shown
    assert "Nothing was trained or written." in unboxed(shown)
    assert not (tmp_path / "s").exists()
    assert not (tmp_path / "r").exists()


def run_into_a_closed_pipe(*arguments: object) -> tuple[int, str]:
    """Exit code and stderr of a command whose reader is gone before it writes."""
    read, write = os.pipe()
    os.close(read)
    where = {**os.environ, "PYTHONPATH": str(SOURCE)}
    try:
        command = [*MAIN, *map(str, arguments)]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=where, check=False)
    finally:
        os.close(write)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("tasks", "--json"),
        ("show", "mail", "--card"),
        ("predict", "a", "--task", "mail"),
        ("predict", "a", "--task", "mail", "--json"),
    ],
)
def test_a_closed_pipe_ends_a_verb_silently(folder: Path, arguments: tuple[str, ...]) -> None:
    where = () if arguments[-1] in ("--help", "--version") else ("--store", folder / "store")
    assert run_into_a_closed_pipe(*arguments, *where) == (141, "")


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "café 漢"),
        ({"PYTHONIOENCODING": "ascii"}, "caf? ?"),
        ({"PYTHONIOENCODING": "utf-8"}, "café 漢"),
    ],
)
def test_a_pipe_loses_no_character_that_it_can_hold(
    tmp_path: Path, tiny_bert_folder: Path, environment: dict[str, str], shown: str
) -> None:
    rows = table(tmp_path / "rows.csv", [("good film", "café 漢"), ("bad film", "b")] * 8)
    where = ("--store", tmp_path / "store")
    succeeded("train", rows, "--task", "t", "--epochs", 1, "--backbone", tiny_bert_folder, *where)
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"}
    command = [*MAIN, "show", "t", *map(str, where)]
    done = subprocess.run(
        command, env={**inherited, "PYTHONPATH": str(SOURCE), **environment}, capture_output=True, check=True
    )
    assert shown in done.stdout.decode("utf-8")


@pytest.mark.parametrize("verb", ["train", "sweep", "eval", "predict", "compare", "inspect"])
def test_a_help_leaves_descriptions_half_of_80_columns(verb: str) -> None:
    where = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([*MAIN, verb, "--help"], env=where, capture_output=True, check=True)
    lines = done.stdout.decode().splitlines()
    assert max(map(len, lines)) <= 80
    starts = {found.end() for line in lines if (found := re.match(r"│ --\S+( \S+)?  +", line))}
    assert len(starts) == 1
    assert max(starts) <= 36
    assert "--json" in done.stdout.decode()


@pytest.mark.parametrize("width", [80, 120])
def test_a_plan_stays_on_one_line_an_exhibit(width: int) -> None:
    row: dict[str, Any] = {"tasks": 17, "settings": 12, "seeds": 3, "trials": 1612, "done": 1000, "shared": 120}
    cost = {"to_run": 1512, "tokens": 151e6, "seconds": 43 * 60, "seconds_range": [39 * 60, 119 * 60]}
    out = Console(file=io.StringIO(), width=width)
    out.print(plan_table([{"exhibit": "extensions", **row, **cost}], cost))
    assert isinstance(out.file, io.StringIO)
    lines = out.file.getvalue().splitlines()
    assert len([line for line in lines if "extensions" in line and "43 min (39 to 119)" in line]) == 1
    assert len(lines) == 9  # a space, three lines of headings, a rule, the exhibit, a space, the sum, a space


def test_a_range_of_time_is_in_one_unit() -> None:
    assert range_in_words(9.0, 8.0, 11.4) == "9 s (8 to 11)"
    assert range_in_words(7560, 6480, 9000) == "2.1 h (1.8 to 2.5)"
    assert range_in_words(0, 0, 0) == "0.0 s"


def test_an_output_with_one_column_for_two_tasks_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "in.csv", ["text"], [["a"]])
    source = read_rows(tmp_path / "in.csv")
    with pytest.raises(DataError, match="two tasks would write this column"):
        check_output("in.csv", "out.csv", source, {"t": "classification", "t_prob": "classification"})


def test_help_wraps_to_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    text = [line.strip() for line in succeeded("eval", "--help").split("Arguments")[0].splitlines()]
    start = next(at for at, line in enumerate(text) if line.startswith("Every row is scored"))
    paragraph = text[start : text.index("", start)]
    assert len(paragraph) > 2
    for line, following in pairwise(paragraph):
        assert len(line) + 1 + len(following.split()[0]) > 68, f"{line!r} ends before its word would have"
