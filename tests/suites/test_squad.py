"""SQuAD: reading its files as tasks, and the official scores."""

from __future__ import annotations

import gzip
import json
import re
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from polytask.data.squad_json import read_squad, squad_table
from polytask.data.task import Answer, Rows
from polytask.errors import DataError
from polytask.suites.squad import evaluate, exact_match, f1, normalize_answer, squad_task

CONTEXT = (
    "The Norman dynasty had a major political, cultural and military impact on medieval Europe. "
    "The Normans were famed for their martial spirit."
)
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


words = st.text(st.sampled_from("abcdeABC éüñçøß日本語Ωж١२\u0301😀0123.,;:'\"()%$–-_/"), min_size=1, max_size=9)


def rows_of(*items: tuple[str, str, str]) -> Rows:
    """Rows of (question, context, answer); an answer is its first occurrence."""
    return Rows(
        texts=[question for question, _, _ in items],
        pairs=[context for _, context, _ in items],
        targets=[(Answer(answer, context.index(answer)),) for _, context, answer in items],
        ids=[f"q{i}" for i in range(len(items))],
    )


def squad(*qas: dict[str, Any], context: str = CONTEXT) -> dict[str, Any]:
    return {"version": "1.1", "data": [{"title": "Normans", "paragraphs": [{"context": context, "qas": list(qas)}]}]}


def qa(id: str = "a1", question: str = "What were they famed for?", answer: str = "martial spirit") -> dict[str, Any]:
    return {"id": id, "question": question, "answers": [{"text": answer, "answer_start": CONTEXT.find(answer)}]}


def save(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


# Reading


def test_questions_contexts_ids_and_answers_are_read(tmp_path: Path) -> None:
    other = qa("a2", "Where?", "Europe")
    other["answers"].append({"text": "medieval Europe", "answer_start": CONTEXT.index("medieval")})
    rows = read_squad(save(tmp_path / "dev.json", squad(qa(), other)))
    assert rows.texts == ["What were they famed for?", "Where?"]
    assert rows.pairs == [CONTEXT, CONTEXT]
    assert rows.ids == ["a1", "a2"]
    assert rows.targets is not None
    assert rows.targets[1] == (
        Answer("Europe", CONTEXT.index("Europe")),
        Answer("medieval Europe", CONTEXT.index("med")),
    )


def test_a_gzipped_file_reads_the_same(tmp_path: Path) -> None:
    plain = save(tmp_path / "dev.json", squad(qa()))
    packed = tmp_path / "dev.json.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_squad(packed) == read_squad(plain)


def test_questions_alone_need_no_answers(tmp_path: Path) -> None:
    bare = {"id": "a1", "question": "Who?"}
    path = save(tmp_path / "mine.json", squad(bare))
    rows = read_squad(path, labelled=False)
    assert (rows.texts, rows.targets) == (["Who?"], None)
    with pytest.raises(
        DataError, match=r"data\[0\]\.paragraphs\[0\]\.qas\[0\] has no 'answers'\. It has: id, question"
    ):
        read_squad(path)


def test_a_limit_takes_the_first_questions(tmp_path: Path) -> None:
    path = save(tmp_path / "dev.json", squad(*(qa(str(i)) for i in range(5))))
    assert read_squad(path, limit=2).ids == ["0", "1"]


def changed(**changes: Any) -> dict[str, Any]:
    return squad({**qa(), **changes})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", r"bad\.json:1: not JSON"),
        ("[" * 100_000, "not"),
        ([], "the file should be a JSON object, not a list"),
        ({"version": "1.1"}, "the file has no 'data'. It has: version"),
        ({"data": {}}, "the file: 'data' should be a list, not an object"),
        ({"data": []}, "the file contains no questions"),
        ({"data": [{"title": "x"}]}, r"data\[0\] has no 'paragraphs'"),
        ({"data": [{"paragraphs": [{"context": " ", "qas": []}]}]}, r"data\[0\]\.paragraphs\[0\]: 'context' is empty"),
        (changed(question=""), r"qas\[0\]: 'question' is empty"),
        (changed(id=7), r"qas\[0\]: 'id' should be a string, not a whole number"),
        (changed(answers=[]), r"qas\[0\] has no answers\. SQuAD v1\.1 has an answer to every question"),
        (changed(answers={"text": ["x"]}), r"'answers' should be a list, not an object"),
        (changed(answers=[{"text": "Europe"}]), r"answers\[0\] has no 'answer_start'"),
        (changed(answers=[{"text": "", "answer_start": 3}]), r"answers\[0\]: 'text' is empty"),
        (changed(answers=[{"text": "The", "answer_start": True}]), "'answer_start' should be a whole number, not true"),
        (
            changed(answers=[{"text": "Norman", "answer_start": 3}]),
            r"'Norman' is not at character 3 .*' Norma'",
        ),
        (changed(answers=[{"text": "The", "answer_start": -2}]), "is not at character -2"),
        (changed(answers=[{"text": "x", "answer_start": 9999}]), "is not at character 9999"),
        (squad(qa("same"), qa("same")), "1 ids occur more than once, such as 'same'"),
    ],
)
def test_invalid_squad_is_refused_with_its_place(tmp_path: Path, content: object, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        read_squad(save(tmp_path / "bad.json", content))


def articles(num_articles: int, num_questions: int = 4) -> dict[str, Any]:
    made = [
        {
            **squad(*(qa(f"{at}.{n}") for n in range(num_questions)), context=f"{CONTEXT} {at}")["data"][0],
            "title": f"t{at}",
        }
        for at in range(num_articles)
    ]
    return {"data": made}


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_folder_becomes_a_task_with_dev_as_its_test(tmp_path: Path, suffix: str) -> None:
    for part, content in {"train": articles(20), "dev": articles(2)}.items():
        text = json.dumps(content).encode()
        (tmp_path / f"{part}-v1.1.json{suffix}").write_bytes(gzip.compress(text) if suffix else text)
    task = squad_task(tmp_path)
    assert (task.name, task.kind, task.labels, task.metric) == ("squad", "span", (), "span_f1")
    assert (len(task.train), len(task.validation), len(task.test or ())) == (72, 8, 8)
    assert not set(task.train.pairs or ()) & set(task.validation.pairs or ())
    assert task == squad_task(tmp_path / f"train-v1.1.json{suffix}", tmp_path / f"dev-v1.1.json{suffix}")
    assert squad_task(tmp_path, seed=1).validation.ids != task.validation.ids


def test_a_limit_samples_from_all_articles_with_a_note(tmp_path: Path) -> None:
    path = save(tmp_path / "train.json", articles(20, 10))
    task = squad_task(path, limit=60)
    assert len(task.train) + len(task.validation) == 60
    assert len(set(task.train.pairs or ())) > 10
    assert not set(task.train.pairs or ()) & set(task.validation.pairs or ())
    assert task.notes == ("squad: 60 of 200 training questions, sampled with seed 0",)
    assert task.test is None


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-v1\.1\.json: cannot be read"):
        squad_task(tmp_path)


def test_the_table_has_the_articles(tmp_path: Path) -> None:
    table = squad_table(save(tmp_path / "dev.json", articles(2, 1)))
    assert table.header == ("id", "title", "context", "question", "answers")
    assert [row[1] for row in table.rows] == ["t0", "t1"]
    assert table.rows[1][4] == (Answer("martial spirit", CONTEXT.index("martial")),)
    assert squad_table(tmp_path / "dev.json", labelled=False).header == ("id", "title", "context", "question")


# Scoring


def official(prediction: str, golds: list[str]) -> tuple[float, float]:
    """Exact match and F1, implemented independently from the paper's description and the four official steps."""

    def tokens(text: str) -> list[str]:
        kept = [c for c in text.lower() if c not in set(string.punctuation)]
        return re.sub(r"\b(a|an|the)\b", " ", "".join(kept)).split()

    def overlap(gold: list[str], mine: list[str]) -> float:
        left, shared = list(gold), 0
        for token in mine:
            if token in left:
                left.remove(token)
                shared += 1
        return 2 * shared / (len(gold) + len(mine)) if shared else 0.0

    mine = tokens(prediction)
    return (
        max(float(tokens(gold) == mine) for gold in golds),
        max(overlap(tokens(gold), mine) for gold in golds),
    )


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The Eiffel-Tower!", "eiffeltower"),
        ("an apple a day", "apple day"),
        ("  spaced \t out\n", "spaced out"),
        ("Theatre", "theatre"),
        ("U.S.", "us"),
        ("“the” – curly", "“ ” – curly"),
        ("A", ""),
    ],
)
def test_normalization_is_the_official_one(text: str, left: str) -> None:
    assert normalize_answer(text) == left


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "overlap"),
    [
        ("the Denver Broncos.", ["Denver Broncos"], 1.0, 1.0),
        ("Broncos", ["Denver Broncos"], 0.0, 2 / 3),
        ("Denver", ["Carolina", "Denver Denver"], 0.0, 2 / 3),
        ("Denver Denver", ["Denver"], 0.0, 2 / 3),
        ("", ["Denver"], 0.0, 0.0),
        ("the", ["a"], 1.0, 0.0),  # nothing is left to share
        ("10%", ["10"], 1.0, 1.0),
    ],
)
def test_known_scores(prediction: str, golds: list[str], exact: float, overlap: float) -> None:
    assert exact_match(prediction, golds) == exact
    assert f1(prediction, golds) == pytest.approx(overlap)


phrases = st.lists(
    st.sampled_from("the a an The Denver broncos Broncos, 50 U.S. US – (x) new-york".split()), max_size=6
)


@quick
@given(phrases, st.lists(phrases, min_size=1, max_size=3))
def test_scores_equal_an_independent_scorer(prediction: list[str], golds: list[list[str]]) -> None:
    text, texts = " ".join(prediction), [" ".join(gold) for gold in golds]
    assert (exact_match(text, texts), f1(text, texts)) == pytest.approx(official(text, texts))


@quick
@given(words, st.lists(words, max_size=2))
def test_a_prediction_equal_to_a_gold_answer_scores_1(gold: str, others: list[str]) -> None:
    assume(normalize_answer(gold))
    assert exact_match(gold, [*others, gold]) == f1(gold, [*others, gold]) == 1.0


def test_evaluate_is_the_mean_over_all_questions_and_a_missing_prediction_is_0() -> None:
    rows = rows_of(("a?", CONTEXT, "martial spirit"), ("b?", CONTEXT, "medieval Europe"), ("c?", CONTEXT, "Norman"))
    scores = evaluate({"q0": "The martial spirit", "q1": "Europe", "elsewhere": "Norman"}, rows)
    assert scores == pytest.approx({"exact_match": 1 / 3, "f1": (1 + 2 / 3) / 3})
