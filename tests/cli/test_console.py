"""Formatting of numbers, sizes, times and texts."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from polytask.cli import console, result_tables, wording
from polytask.cli.answers import show_answers
from polytask.data.task import Rows
from polytask.inference.prediction import Prediction
from polytask.training.recipe import Recipe


def shown(renderable: object) -> str:
    out = Console(file=io.StringIO(), width=console.WIDTH)
    out.print(renderable)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"), [(8.34, "8.3 s"), (52.2, "52 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (0, "0.0 s")]
)
def test_seconds_are_rounded_by_their_size(seconds: float, words: str) -> None:
    assert wording.seconds_in_words(seconds) == words


@pytest.mark.parametrize(("size", "words"), [(812, "812 B"), (2_432_480, "2.4 MB"), (4_096, "4.1 kB"), (3e9, "3.0 GB")])
def test_bytes_are_printed_in_the_right_unit(size: float, words: str) -> None:
    assert wording.bytes_in_words(size) == words


def test_one_is_singular() -> None:
    assert [wording.counted(number, "epoch") for number in (0, 1, 2, 2000)] == [
        "0 epochs",
        "1 epoch",
        "2 epochs",
        "2,000 epochs",
    ]


def test_a_long_text_is_cut_to_one_line() -> None:
    assert wording.shortened("one\ntwo   three", 9) == "one two…"


def test_text_is_not_interpreted_as_markup() -> None:
    answer = Prediction("mood", label="[bold]", probs={"[bold]": 0.9})
    assert "[red]not red[/red]" in shown(result_tables.answers_table(["[red]not red[/red]"], {"mood": [answer]}))
    assert "[bold] 90%" in shown(result_tables.answers_table(["x"], {"mood": [answer]}))


def test_each_kind_of_answer_is_formatted() -> None:
    assert result_tables.answer_in_words(Prediction("a", score=3.14159)).plain == "3.142"
    answer = Prediction("a", answer="martial  spirit", start=3, end=18, score=0.871)
    assert result_tables.answer_in_words(answer).plain == "martial spirit 87%"
    assert (
        result_tables.answer_in_words(Prediction("a", labels=("x", "y"), probs={"x": 0.9, "y": 0.8})).plain
        == "x 90%, y 80%"
    )
    assert result_tables.answer_in_words(Prediction("a", labels=(), probs={"x": 0.1})).plain == "(none: x 10%)"


def test_truncated_texts_are_counted() -> None:
    recipe = Recipe(max_length=64).to_json()
    assert "12 of 100 texts (12%)" in result_tables.truncation_in_words(12, 100, recipe).plain
    assert "none of 100 texts" in result_tables.truncation_in_words(0, 100, recipe).plain
    of_spans = {**recipe, "stride": 21}
    assert "none: texts of more than 64 tokens" in result_tables.truncation_in_words(0, 100, of_spans).plain
    assert "3 of 100 questions truncated" in result_tables.truncation_in_words(3, 100, of_spans).plain


def test_many_rows_in_a_pipe_are_the_same_table() -> None:
    texts = ["good film", "a wide 漢字 text", "long " * 40, "none"] * 300
    own = [Prediction("a", label="x", probs={"x": 0.9}), Prediction("a", error="the text is empty")] * 600
    wide = [Prediction("b", score=-1.25)] * 1200
    shown = []
    for count in (999, 1200):
        out = Console(file=io.StringIO(), width=100)
        show_answers(out, Rows(texts[:count]), {"a": own[:count], "b": wide[:count]})
        shown.append([line.rstrip() for line in out.file.getvalue().splitlines()])  # type: ignore[attr-defined]
    few, many = shown
    assert len(many) == 1200 + 3
    assert [line for line in few if line][2:] == many[3:1002]
    assert next(line for line in few if line) == many[1]
