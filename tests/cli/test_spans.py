"""Span tasks on the command line: train, eval and predict on a small SQuAD file and a table."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cli import polytask, refused, succeeded, table
from tests.data.test_spans import questions
from tests.papers import squad_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spans")


@pytest.fixture(scope="module")
def squad(folder: Path) -> Path:
    (folder / "squad.json").write_text(squad_json(), encoding="utf-8")
    return folder / "squad.json"


@pytest.fixture(scope="module")
def trained(folder: Path, squad: Path, tiny_bert_folder: Path) -> dict[str, Any]:
    shared = ("--task", "qa", "--kind", "span", "--backbone", tiny_bert_folder, "--size", 8, "--max-length", 48)
    last = ("--epochs", 2, "--batch-size", 8, "--test", squad, "--dtype", "float32", "--store", folder / "store")
    return dict(json.loads(succeeded("train", squad, *shared, *last, "--json")))


@pytest.fixture(scope="module")
def store(folder: Path, trained: dict[str, Any]) -> Path:
    return folder / "store"


def test_train_tells_the_f1_of_held_out_articles(trained: dict[str, Any]) -> None:
    assert trained["train"]["rows"] == 20
    assert (trained["validation"]["metric"], trained["validation"]["rows"]) == ("span_f1", 5)
    assert trained["test"]["rows"] == 25
    assert trained["parameters"]["head"] == 2 * 32 + 2


def test_train_and_show_print_the_span_settings(folder: Path, squad: Path, store: Path, tiny_bert_folder: Path) -> None:
    shared = ("--task", "other", "--kind", "span", "--backbone", tiny_bert_folder, "--epochs", 1, "--max-length", 32)
    printed = succeeded("train", squad, *shared, "--stride", 5, "--dtype", "float32", "--store", folder / "other")
    assert "texts of more than 32 tokens are read in windows" in printed
    assert '--pair "its second text"' in printed
    assert "qa, span" in succeeded("show", "qa", "--store", store)
    assert "stride 5" in succeeded("show", "other", "--store", folder / "other")
    assert "20 for training, 5 for validation" in succeeded(
        "train", squad, *shared, "--stride", 5, "--dry-run", "--dtype", "float32", "--store", folder / "other"
    )


def test_eval_gives_both_scores(squad: Path, store: Path, trained: dict[str, Any]) -> None:
    printed = json.loads(succeeded("eval", squad, "--task", "qa", "--store", store, "--dtype", "float32", "--json"))
    assert (printed["task"], printed["metric"], printed["rows"]) == ("qa", "span_f1", 25)
    assert printed["score"] == printed["metrics"]["span_f1"] == pytest.approx(trained["test"]["score"])
    assert list(printed["metrics"]) == ["span_f1", "exact_match"]
    low, high = printed["interval"]
    assert low <= printed["score"] <= high
    assert (printed["classes"], printed["confusion"]) == (None, None)
    assert "exact_match" in succeeded("eval", squad, "--task", "qa", "--store", store)


def test_eval_reads_a_table_of_the_same_questions(squad: Path, store: Path, tmp_path: Path) -> None:
    rows = questions()
    cells = [
        (question, context, answers[0].text, str(answers[0].start))
        for question, context, answers in zip(rows.texts, rows.pairs or (), rows.targets or ())
    ]
    path = table(tmp_path / "qa.csv", cells, ("question", "context", "answer", "answer_start"))
    scores = [
        json.loads(succeeded("eval", file, "--task", "qa", "--store", store, "--dtype", "float32", "--json"))["metrics"]
        for file in (squad, path)
    ]
    assert scores[0] == scores[1]


def test_two_adapters_of_spans_are_compared(squad: Path, store: Path, tiny_bert_folder: Path, tmp_path: Path) -> None:
    shared = ("--task", "worse", "--kind", "span", "--backbone", tiny_bert_folder, "--method", "bitfit", "--epochs", 1)
    succeeded("train", squad, *shared, "--lr", "1e-5", "--max-length", 32, "--dtype", "float32", "--store", store)
    both = ("compare", "worse", "qa", squad, "--store", store, "--dtype", "float32")
    found = json.loads(succeeded(*both, "--json"))
    evaluated = {
        task: json.loads(succeeded("eval", squad, "--task", task, "--store", store, "--dtype", "float32", "--json"))
        for task in ("worse", "qa")
    }
    assert (found["metric"], found["rows"]) == ("span_f1", 25)
    for side, task in (("a", "worse"), ("b", "qa")):
        assert found[side]["adapter"] == f"{task}@1"
        assert found[side]["score"] == evaluated[task]["score"]
        assert found[side]["interval"] == evaluated[task]["interval"]
    assert found["difference"] == pytest.approx(found["b"]["score"] - found["a"]["score"])
    assert 0 < found["answered_differently"] <= 25
    low, high = found["interval"]
    assert low <= found["difference"] <= high
    exact = json.loads(succeeded(*both, "--metric", "exact_match", "--json"))
    assert exact["a"]["score"] == evaluated["worse"]["metrics"]["exact_match"]
    assert "of 25 texts differently" in succeeded(*both)
    assert "qa@1 is compared with itself" in refused("compare", "qa", "qa@1", squad, "--store", store)


def test_columns_of_questions_are_remembered(tmp_path: Path, tiny_bert_folder: Path, squad: Path) -> None:
    rows, store, header = questions(), tmp_path / "store", ("asked", "told", "right")
    cells = [(q, c, a[0].text) for q, c, a in zip(rows.texts, rows.pairs or (), rows.targets or ())]
    path = table(tmp_path / "odd.csv", cells, header)
    named = ("--text", "asked", "--text-pair", "told", "--label", "right", "--kind", "span", "--epochs", 1)
    shared = ("--backbone", tiny_bert_folder, "--max-length", 32, "--dtype", "float32", "--store", store)
    succeeded("train", path, "--task", "odd", *named, *shared)
    own = json.loads(succeeded("eval", path, "--task", "odd", "--store", store, "--dtype", "float32", "--json"))
    usual = polytask("eval", squad, "--task", "odd", "--store", store, "--dtype", "float32", "--json")
    assert "has no columns 'asked', 'told', 'right', which odd@1 was trained on" in " ".join(usual.stderr.split())
    assert json.loads(usual.stdout)["metrics"] == own["metrics"]
    unlabelled = table(tmp_path / "in.csv", [cell[:2] for cell in cells[:3]], header[:2])
    answers = succeeded("predict", "--file", unlabelled, "--task", "odd", "--store", store, "--json").splitlines()
    assert len(answers) == 3
    assert json.loads(answers[0])["answer"] in cells[0][1]


def test_strides_are_swept_over(tmp_path: Path, squad: Path, tiny_bert_folder: Path) -> None:
    shared = ("--task", "qa", "--kind", "span", "--backbone", tiny_bert_folder, "--max-length", 32, "--epochs", 1)
    places = ("--store", tmp_path / "store", "--results", tmp_path / "runs", "--dtype", "float32", "--json")
    command = ("sweep", squad, *shared, "--lr", "1e-3,1e-2", "--seeds", 1, "--test", squad, *places)
    usual = json.loads(succeeded(*command))
    assert usual["best"]["recipe"]["stride"] == 10
    assert usual["best"]["test"]["rows"] == 25
    assert json.loads(succeeded(*command)) == usual
    assert json.loads(succeeded(*command, "--stride", 5))["best"]["recipe"]["stride"] == 5
    assert len(list((tmp_path / "runs").glob("*.json"))) == 4


def test_predict_prints_the_answer_and_its_place(store: Path) -> None:
    context = "the film was great the plot was awful"
    shared = ("predict", "was the film", "--pair", context, "--task", "qa", "--store", store, "--dtype", "float32")
    answer = json.loads(succeeded(*shared, "--json"))
    assert list(answer) == ["row", "task", "answer", "start", "end", "score"]
    assert answer["answer"] == context[answer["start"] : answer["end"]]
    assert 0 < answer["score"] <= 1
    assert f"{answer['answer']} {answer['score']:.0%}" in succeeded(*shared)


def test_predict_answers_the_questions_of_a_file(squad: Path, store: Path, tmp_path: Path) -> None:
    rows = [("7", "was the film", "the film was great"), ("8", "was the plot", "a plot was awful")]
    source = table(tmp_path / "in.csv", rows, ("id", "question", "context"))
    out = tmp_path / "out.csv"
    succeeded("predict", "--task", "qa", "--store", store, "--file", source, "--output", out)
    with out.open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert list(written[0]) == ["id", "question", "context", "qa", "qa_prob", "qa_start", "qa_end"]
    for row in written:
        assert row["context"][int(row["qa_start"]) : int(row["qa_end"])] == row["qa"]
    assert len(succeeded("predict", "--task", "qa", "--store", store, "--file", squad, "--json").splitlines()) == 25


def test_settings_that_spans_do_not_have_are_refused(
    squad: Path, store: Path, tmp_path: Path, tiny_bert_folder: Path
) -> None:
    shared = ("train", squad, "--kind", "span", "--backbone", tiny_bert_folder, "--store", tmp_path)
    assert "class weights are for classification" in refused(*shared, "--class-weights", "balanced")
    assert "long='split' is for texts with labels" in refused(*shared, "--long", "split")
    assert "this is a span task" in refused(*shared, "--metric", "accuracy")
    assert "no confusion matrix" in refused("eval", squad, "--task", "qa", "--store", store, "--confusion", "a.png")
    assert "needs a context, and the text has none" in refused("predict", "Who?", "--task", "qa", "--store", store)
    wrong = table(tmp_path / "wrong.csv", [("Who?", "Rollo led.", "Ralph")], ("question", "context", "answer"))
    assert "wrong.csv:2, column 'answer'" in refused("train", wrong, "--kind", "span")
