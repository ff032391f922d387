"""A column of answers: how starts are found, and errors with file, line and column."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polytask.data.formats import write_table
from polytask.data.read import read_rows, read_task, rows_for
from polytask.data.task import Answer
from polytask.errors import DataError

CONTEXT = "Rollo led the Norse raiders. Rollo was a Viking."
Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def write(
        name: str, rows: list[tuple[Any, ...]], header: tuple[str, ...] = ("question", "context", "answer")
    ) -> Path:
        write_table(tmp_path / name, header, rows)
        return tmp_path / name

    return write


def targets(path: Path) -> Any:
    return rows_for((), "span", path).targets


@pytest.mark.parametrize("name", ["a.csv", "a.tsv.gz", "a.jsonl", "a.parquet"])
def test_an_answer_starts_at_its_first_occurrence(put: Put, name: str) -> None:
    path = put(name, [("Who led?", CONTEXT, "Rollo"), ("Who was he?", CONTEXT, " a Viking ")])
    assert targets(path) == [(Answer("Rollo", 0),), (Answer("a Viking", 39),)]


def test_a_column_of_starts_selects_the_occurrence(put: Put) -> None:
    header = ("question", "context", "answer", "answer_start")
    rows = [("Who?", CONTEXT, "Rollo", "29"), ("Who?", CONTEXT, "Rollo", "")]
    assert targets(put("a.csv", rows, header)) == [(Answer("Rollo", 29),), (Answer("Rollo", 0),)]


def test_a_row_may_have_several_correct_answers(put: Put) -> None:
    cells = [["Rollo", "Viking"], {"text": ["Rollo", "a Viking"], "answer_start": [29, 39]}, {"text": "Norse"}, 10]
    rows = [("Who?", CONTEXT + " In 10.", cell) for cell in cells]
    assert targets(put("a.jsonl", rows, ("question", "passage", "answers"))) == [
        (Answer("Rollo", 0), Answer("Viking", 41)),
        (Answer("Rollo", 29), Answer("a Viking", 39)),
        (Answer("Norse", 14),),
        (Answer("10", 52),),
    ]


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        (
            "rollo",
            r"a\.jsonl:2, column 'answer': the answer 'rollo' does not occur in its context\. The context has 'Rollo'",
        ),
        ("Ralph", "the answer 'Ralph' does not occur in its context. Copy the answer from the context"),
        ("", "the answer is missing"),
        (None, "the answer is missing"),
        ([], "the answer is missing"),
        ({"text": []}, "the answer is missing"),
        ([["Rollo"]], "the answer is not a string"),
        (True, "the answer is not a string"),
        ({"text": ["Rollo"], "answer_start": [1, 2]}, "1 answers and 2 starts"),
        ({"text": "Rollo", "answer_start": 3}, "is not at character 3 of its context. The text there is 'lo le'"),
        ({"text": "Rollo", "answer_start": -5}, "is not at character -5"),
        ({"text": "Rollo", "answer_start": 0.5}, "0.5' is not a character position"),
        ({"text": "Rollo", "answer_start": "first"}, "'first' is not a character position"),
    ],
)
def test_an_invalid_answer_is_refused_with_its_line(put: Put, cell: object, problem: str) -> None:
    path = put("a.jsonl", [("Who?", CONTEXT, "Rollo"), ("Who?", CONTEXT, cell)])
    with pytest.raises(DataError, match=problem) as refused:
        targets(path)
    assert refused.value.line == 2


def test_a_missing_column_is_refused_with_the_option_that_names_it(put: Put) -> None:
    path = put("a.csv", [("Who?", CONTEXT, "Rollo")], ("question", "story", "answer"))
    with pytest.raises(
        DataError, match=r"no column has a usual name for the context\. Name it with --text-pair\. The col"
    ):
        read_task(path, kind="span")
    assert rows_for((), "span", path, text_pair="story").pairs == [CONTEXT]
    with pytest.raises(DataError, match=r"usual name for the question\. Name it with --text"):
        read_task(put("b.csv", [(CONTEXT, "Rollo")], ("context", "answer")), kind="span")
    with pytest.raises(DataError, match=r"usual name for the answer\. Name it with --label"):
        read_task(put("c.csv", [("Who?", CONTEXT)], ("question", "context")), kind="span")


def test_rows_without_an_answer_can_be_dropped(put: Put) -> None:
    path = put("a.csv", [("Who?", CONTEXT, "Rollo"), ("Why?", CONTEXT, ""), ("", CONTEXT, "Rollo")])
    assert rows_for((), "span", path, drop_empty=True).texts == ["Who?"]


def test_questions_are_read_without_answers(put: Put) -> None:
    path = put("a.csv", [("Who?", CONTEXT, "1")], ("question", "context", "id"))
    read = read_rows(path, kind="span")
    assert (read.rows.texts, read.rows.pairs, read.rows.targets, read.labels) == (["Who?"], [CONTEXT], None, None)


def many(num_contexts: int, num_questions: int) -> list[tuple[str, str, str]]:
    return [
        (f"Which {question}?", f"Context {context} has {question}.", f"{question}")
        for context in range(10, 10 + num_contexts)
        for question in range(num_questions)
    ]


def test_a_tenth_is_held_out_by_context(put: Put) -> None:
    rows = [(question, f"Of {at // 4}: 0 1 2 3", answer) for at, (question, _, answer) in enumerate(many(30, 4))]
    task = read_task(put("qa.csv", rows), kind="span")
    assert (task.name, task.kind, task.labels, task.metric, task.notes) == ("qa", "span", (), "span_f1", ())
    assert (len(task.train), len(task.validation)) == (108, 12)
    assert not set(task.train.pairs or ()) & set(task.validation.pairs or ())
    other = read_task(put("qa.csv", rows), kind="span", seed=1, metric="exact_match")
    assert other.validation.pairs != task.validation.pairs
    assert other.metric == "exact_match"


def test_titles_keep_the_contexts_of_an_article_together(put: Put) -> None:
    rows = [(*row, f"article {at // 8}") for at, row in enumerate(many(80, 1))]
    task = read_task(put("qa.csv", rows, ("question", "context", "answer", "title")), kind="span")
    held_out = {(task_context.split()[1]) for task_context in task.validation.pairs or ()}
    assert len(held_out) == 8
    assert len({(int(context) - 10) // 8 for context in held_out}) == 1
    one = [(*row, "the only one") for row in many(20, 1)]
    assert len(read_task(put("b.csv", one, ("question", "context", "answer", "title")), kind="span").validation) == 2


def test_a_single_context_on_both_sides_gives_a_note(put: Put) -> None:
    task = read_task(put("qa.csv", [(f"Who {n}?", CONTEXT, "Rollo") for n in range(20)]), kind="span")
    assert len(task.validation) == 2
    assert task.notes == (
        "2 of 2 validation questions have a context that training questions also have, so the validation score may be "
        "too high.",
    )
    with pytest.raises(DataError, match="there is one question, so none can be held out"):
        read_task(put("one.csv", [("Who?", CONTEXT, "Rollo")]), kind="span")


def test_squad_json_is_read_only_for_spans(tmp_path: Path) -> None:
    def qa(at: int, article: int) -> dict[str, Any]:
        return {"id": f"{article}-{at}", "question": f"Who {at}?", "answers": [{"text": "Rollo", "answer_start": 29}]}

    articles = [
        {"title": f"t{a}", "paragraphs": [{"context": f"{CONTEXT} {a}{p}", "qas": [qa(p, a)]} for p in range(5)]}
        for a in range(10)
    ]
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"data": articles}))
    task = read_task(path, kind="span")
    assert (task.name, len(task.train), len(task.validation)) == ("squad", 45, 5)
    assert len({context.split()[-1][0] for context in task.validation.pairs or ()}) == 1
    assert (task.train.targets or [])[0] == (Answer("Rollo", 29),)
    assert read_rows(path, kind="span").table.header == ("id", "title", "context", "question")
    assert len(rows_for((), "span", path)) == 50
    with pytest.raises(DataError, match=r"'\.json' are not supported.*if it is SQuAD's, use --kind span"):
        read_task(path)


def test_an_encoding_is_for_the_table_beside_squad_s_json(put: Put, tmp_path: Path) -> None:
    table, squad = tmp_path / "train.csv", tmp_path / "dev.json"
    context = "Rollo led the café."
    table.write_bytes(f"question,context,answers\nWho?,{context},Rollo\nWhat?,{context},café\n".encode("cp1252"))
    answers = [{"text": "café", "answer_start": 14}]
    questions = [{"id": "1", "question": "What?", "answers": answers}]
    articles = [{"title": "a", "paragraphs": [{"context": context, "qas": questions}]}]
    squad.write_text(json.dumps({"version": "1.1", "data": articles}, ensure_ascii=False), encoding="utf-8")
    task = read_task(table, "qa", validation=squad, kind="span", encoding="cp1252")
    assert task.train.targets == [(Answer("Rollo", 0),), (Answer("café", 14),)]
    assert task.validation.targets == [(Answer("café", 14),)]
    assert read_task(squad, "qa", validation=table, kind="span", encoding="cp1252").validation.targets[1:] == [  # type: ignore[index]
        (Answer("café", 14),)
    ]
