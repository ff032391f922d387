"""Sentences about scores are true at the edges: all equal, all majority, one task, NaN."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from polytask.cli.verdicts import (
    NO_BETTER,
    NO_NUMBER,
    PERHAPS_NO_BETTER,
    beside_majority,
    beside_probe,
    rare_labels,
    verdict,
)
from polytask.drawing.exhibit import Exhibit
from polytask.evaluation.significance import Difference, paired_test
from polytask.paper.background import Background
from polytask.paper.exhibits import EXHIBITS
from polytask.paper.ledger import Entry
from polytask.paper.report import shown
from polytask.training.result import Score
from polytask.wording import apart
from tests.entries import whole_ledger

NAN = math.nan
PERHAPS = PERHAPS_NO_BETTER.partition(" scores")[0]


@pytest.mark.parametrize(
    ("score", "interval", "majority", "said"),
    [
        (0.9, (0.8, 0.95), 0.5, None),
        (1.0, (1.0, 1.0), 0.5, None),
        (0.5, (0.3, 0.7), 0.5, NO_BETTER),
        (0.4, (0.3, 0.6), 0.5, NO_BETTER),
        (1.0, (1.0, 1.0), 1.0, NO_BETTER),
        (0.6, (0.4, 0.8), 0.5, PERHAPS),
        (0.6, None, 0.5, None),  # without an interval nothing is within it
        (0.5, None, 0.5, NO_BETTER),
        (0.9, None, None, None),
        (NAN, None, None, NO_NUMBER),
        (NAN, (NAN, NAN), 0.5, NO_NUMBER),
    ],
)
def test_notes_on_a_score_are_true(
    score: float, interval: tuple[float, float] | None, majority: float | None, said: str | None
) -> None:
    notes = beside_majority(Score("accuracy", score, 1, interval), majority)
    assert notes == [] if said is None else notes[0].startswith(said)


def difference(value: float, p_value: float = 0.01, num_apart: int = 9) -> Difference:
    return Difference(value, value, value, p_value, num_apart)


@pytest.mark.parametrize(
    ("found", "rows", "said"),
    [
        (difference(0.1), 90, "b is better than a by 0.100 accuracy. That is more than chance (p = 0.010)"),
        (difference(-0.1), 90, "a is better than b by 0.100 accuracy"),
        (difference(0.0002), 90_000, "b is better than a by 0.0002 accuracy"),
        (difference(0.1, 0.0002), 90, "(p < 0.001)"),
        (difference(0.1, 0.04999), 90, "more than chance (p = 0.0500)"),
        (difference(0.1, 0.3), 90, "is not more than chance (p = 0.30)"),
        (difference(0.0, 1.0, 8), 90, "a and b have the same accuracy. They answer 8 of 90 texts differently."),
        (difference(0.0, 1.0, 0), 90, "a and b give the same answer to each of 90 texts."),
        (difference(0.0, 1.0, 0), 1, "a and b give the same answer to 1 text."),
        (difference(NAN, 0.002), 90, "is not a number, so they cannot be compared"),
        (difference(math.inf, 0.002), 90, "is not a number, so they cannot be compared"),
    ],
)
def test_the_verdict_on_a_difference_is_true(found: Difference, rows: int, said: str) -> None:
    assert said in verdict("a", "b", "accuracy", found, rows)


def test_one_row_is_never_more_than_chance() -> None:
    found = paired_test("accuracy", "classification", [0], [0], [1], num_labels=2)
    assert "is not more than chance (p = 1.00)" in verdict("a", "b", "accuracy", found, 1)


def at(score: float, matthews: float | None) -> Callable[[Entry], Entry]:
    """The entry with this score on all rows."""

    def made(entry: Entry) -> Entry:
        if entry.test is None or entry.validation is None:
            return entry
        metrics = {"accuracy": score} if matthews is None else {"accuracy": score, "matthews": matthews}
        scores = {"validation": replace(entry.validation, score=score), "test": replace(entry.test, score=score)}
        also = {name: replace(own, score=score) for name, own in entry.also.items()}
        return replace(entry, metrics=metrics, also=also, **scores)

    return made


TASKS = ("CoLA", "MNLI-m", "sms_spam", "squad")
PRAISE = (" ahead", "level with", "better than")


def reading(exhibit: Exhibit, entries: list[Entry]) -> str:
    return shown(exhibit, entries, Background()).reading


@pytest.mark.parametrize("exhibit", EXHIBITS.values(), ids=EXHIBITS)
@pytest.mark.parametrize("seeds", [1, 2])
def test_where_nothing_was_learnt_an_exhibit_says_that_first(exhibit: Exhibit, seeds: int) -> None:
    entries = [at(0.6, 0.0)(entry) for entry in whole_ledger(TASKS, seeds)]
    said = reading(exhibit, entries)
    first = min((said.find(words) for words in PRAISE if words in said), default=len(said))
    warned = max(said.find("learnt more than the most frequent class"), said.find("nothing was learnt"))
    assert 0 <= warned < first


@pytest.mark.parametrize("exhibit", EXHIBITS.values(), ids=EXHIBITS)
def test_where_all_scores_are_equal_nothing_is_ahead(exhibit: Exhibit) -> None:
    said = reading(exhibit, [at(0.6, 0.4)(entry) for entry in whole_ledger(TASKS, 2)])
    said = re.sub(r"\(in the paper[^)]*\)", "", said)
    assert "ahead" not in said
    assert "behind" not in said
    assert not any(f"{count} of" in said and "are better" in said for count in range(1, 9))


@pytest.mark.parametrize("exhibit", EXHIBITS.values(), ids=EXHIBITS)
@pytest.mark.parametrize("task", TASKS)
def test_one_task_is_not_told_as_many(exhibit: Exhibit, task: str) -> None:
    said = reading(exhibit, whole_ledger([task], 1))
    assert "1 tasks" not in said
    assert "1 seeds" not in said
    assert "nan" not in said


@pytest.mark.parametrize("exhibit", EXHIBITS.values(), ids=EXHIBITS)
def test_scores_that_are_no_numbers_are_not_compared(exhibit: Exhibit) -> None:
    said = reading(exhibit, [at(NAN, None)(entry) for entry in whole_ledger(TASKS, 1)])
    assert not any(words in said for words in PRAISE)
    assert "nothing compares" in said or "not numbers" in said or "not to be compared" in said


def test_a_distance_that_is_no_number_is_no_distance() -> None:
    assert apart(NAN, "full fine-tuning") == "not to be compared with full fine-tuning"
    assert apart(-0.04, "x") == apart(0.04, "x") == "level with x"


@pytest.mark.parametrize(
    ("probe", "counts", "said"),
    [
        (None, {"a": 8, "b": 8}, ""),
        ({"score": 0.79}, {"a": 8, "b": 8}, ""),
        ({"score": 0.8}, {"a": 8, "b": 8}, "with only 8 rows per label"),
        ({"score": 0.9}, {"a": 17, "b": 900, "c": 17}, "a probe, which takes seconds to fit, scores 0.900"),
        ({"note": "no probe was fitted"}, {"a": 8, "b": 8}, "no probe was fitted"),
        ({"score": 0.9}, {}, "a probe, which takes seconds to fit"),
    ],
)
def test_a_probe_that_is_as_good_is_mentioned(
    probe: dict[str, object] | None, counts: dict[str, int], said: str
) -> None:
    assert "".join(beside_probe(Score("accuracy", 0.8, 100), probe, counts)).startswith(said)
    assert bool(beside_probe(Score("accuracy", 0.8, 100), probe, counts)) == bool(said)


def test_a_probe_is_not_recommended_by_a_handful_of_rows() -> None:
    said = beside_probe(Score("accuracy", 1.0, 3), {"score": 1.0}, {"a": 12, "b": 12})
    assert "".join(said).startswith("a probe scores 1.000 on the same 3 rows, which are too few")


def test_labels_with_few_rows_are_named_unless_all_have_few() -> None:
    assert rare_labels({"a": 10, "b": 300, "c": 0}) == []
    assert rare_labels({"a": 9, "b": 3}) == []
    (said,) = rare_labels({"a": 9, "b": 300, "c": 2})
    assert "'a' (9), 'c' (2)" in said
