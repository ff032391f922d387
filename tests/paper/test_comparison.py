"""Tables 1 and 2: the numbers by hand, the footnotes, what is missing."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from polytask.drawing.exhibit import Exhibit, NothingToShow
from polytask.drawing.table import Table
from polytask.methods import FullFineTuning, Houlsby, LayerNormOnly, TopLayers
from polytask.paper.comparison import SAMPLE, SEEN, is_capped
from polytask.paper.ledger import Entry
from polytask.paper.selection import runs_of
from polytask.paper.tables import TABLE_1, TABLE_2
from polytask.suites.published import TABLE1, TABLE2
from polytask.suites.text17 import TEXT17
from tests.entries import BACKBONE, entry, trained_by

GLUE_TASKS = ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "QNLI", "RTE")


def both(task: str, full: float, adapters: float, **given: object) -> list[Entry]:
    """Full fine-tuning and adapters of size 64 with these scores."""
    return [
        entry(task, FullFineTuning(), 0.5, full, **given),  # type: ignore[arg-type]
        entry(task, Houlsby(64), 0.5, adapters, **given),  # type: ignore[arg-type]
    ]


def table_of(exhibit: Exhibit, entries: Sequence[Entry]) -> Table:
    return exhibit.table(exhibit.rows(runs_of(entries)))


def rows_of(exhibit: Exhibit, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    return exhibit.records(exhibit.rows(runs_of(entries)))


def reading_of(exhibit: Exhibit, entries: Sequence[Entry]) -> str:
    return exhibit.reading(exhibit.rows(runs_of(entries)))


def missing_of(exhibit: Exhibit, entries: Sequence[Entry]) -> list[str]:
    return exhibit.missing(exhibit.rows(runs_of(entries)))


def line(table: Table, start: str) -> list[str]:
    return next([cell.text for cell in row] for row in table.rows if row[0].text.startswith(start))


def notes(table: Table, start: str, column: int) -> tuple[str, ...]:
    return next(row[column].notes for row in table.rows if row[0].text.startswith(start))


def columns(table: Table) -> list[str]:
    return [f"{column.group} {column.heading}".strip() for column in table.columns]


def test_the_papers_means_are_those_of_its_columns() -> None:
    for name, column in (("no bert", "no_bert"), ("full", "full"), ("top", "top"), ("adapters", "adapters")):
        mean = np.mean([getattr(task, column) for task in TEXT17.values()])
        assert TABLE2[name].mean == pytest.approx(mean, abs=0.1)
    groups = [*(TABLE1["full"].scores[task] for task in GLUE_TASKS if task != "MNLI-m"), (86.7 + 85.9) / 2]
    entries = [one for task in GLUE_TASKS for one in both(task, 0.5, 0.5)]
    assert line(table_of(TABLE_1, entries), "mean of 8 tasks")[4] == f"{np.mean(groups):.1f}"


def test_scores_stand_beside_the_papers_with_standard_errors_over_seeds() -> None:
    scores = [0.41, 0.44, 0.46]
    entries = [one for seed, score in enumerate(scores) for one in both("CoLA", score + 0.1, score, seed=seed)]
    table = table_of(TABLE_1, entries)
    assert columns(table) == [
        "task",
        *("ours full", "ours adapters", "ours adapters 64"),
        *("paper full", "paper adapters", "paper adapters 64"),
    ]
    shown = f"{100 * np.mean(scores):.1f} ± {100 * scipy.stats.sem(scores):.1f}"
    assert line(table, "CoLA")[2:] == [shown, shown, "60.5", "59.5", "56.9"]


def test_each_task_gets_the_size_that_validation_chose_for_it() -> None:
    entries = [
        entry("CoLA", FullFineTuning(), 0.5, 0.5),
        entry("CoLA", Houlsby(8), 0.6, 0.3),
        entry("CoLA", Houlsby(64), 0.5, 0.4),
        entry("CoLA", Houlsby(128), 0.9, 0.9),  # not one of the table's sizes
    ]
    assert line(table_of(TABLE_1, entries), "CoLA")[1:4] == ["50.0", "30.0", "40.0"]
    by_method = {row["method"]: row for row in rows_of(TABLE_1, entries) if row["task"] == "CoLA"}
    assert by_method["adapters"]["size"] == 8
    assert by_method["adapters"]["settings"] == 2
    assert by_method["adapters 64"]["size"] == 64


def test_parameters_are_true_counts_with_heads() -> None:
    tasks = ("CoLA", "RTE", "MRPC")
    table = table_of(TABLE_1, [one for task in tasks for one in both(task, 0.5, 0.5)])
    share = (trained_by(Houlsby(64)) + 770) / BACKBONE
    assert line(table, "trained")[1:3] == [f"{100 * (1 + 770 / BACKBONE):.2f}%", f"{100 * share:.2f}%"]
    assert line(table, "parameters in all")[1:3] == ["3.00×", f"{1 + 3 * share:.2f}×"]
    assert line(table, "parameters in all")[4:] == ["9×", "1.3×", "1.2×"]


def test_top_layers_need_one_backbone_beside_their_copies() -> None:
    entries = [entry("sms_spam", TopLayers(1), 0.5, 0.5), entry("sms_spam", FullFineTuning(), 0.5, 0.5)]
    share = (trained_by(TopLayers(1)) + 770) / BACKBONE
    assert line(table_of(TABLE_2, entries), "parameters in all")[2:4] == ["1.00×", f"{1 + share:.2f}×"]


def test_mnli_counts_once_and_its_adapter_answers_the_mismatched_rows() -> None:
    entries = [*both("MNLI-m", 0.8, 0.6), *both("CoLA", 0.5, 0.4)]
    mismatched = [
        replace(e, also={"MNLI-mm": replace(e.test, score=e.test.score + 0.1)}) for e in entries[:2] if e.test
    ]
    table = table_of(TABLE_1, [*mismatched, *entries[2:]])
    assert line(table, "MNLI-mm")[1] == "90.0"
    assert line(table, "mean of 2 tasks")[1] == f"{100 * np.mean([0.85, 0.5]):.1f}"
    assert line(table, "parameters in all")[1] == "2.00×"


def test_samples_are_marked_in_every_cell_that_they_touch() -> None:
    table = table_of(TABLE_1, [*both("QQP", 0.7, 0.6, is_sample=True), *both("CoLA", 0.5, 0.4)])
    for column in (0, 1, 2, 3):
        assert SAMPLE in notes(table, "QQP", column)
        assert SAMPLE not in notes(table, "CoLA", column)
    assert SAMPLE in notes(table, "mean of 2 tasks", 1)
    assert notes(table, "QQP", 4) == (), "the paper's figure is no sample's"


def test_means_are_given_with_and_without_samples_and_tasks_that_the_backbone_has_seen() -> None:
    entries = [*both("QNLI", 0.9, 0.8), *both("CoLA", 0.5, 0.4), *both("RTE", 0.6, 0.5, is_sample=True)]
    table = table_of(TABLE_1, entries)
    assert SEEN in notes(table, "QNLI", 0)
    assert SEEN not in notes(table, "CoLA", 0)
    assert line(table, "mean of 3 tasks")[1] == f"{100 * np.mean([0.9, 0.5, 0.6]):.1f}"
    assert line(table, "mean of the 1 neither a sample nor seen")[1] == "50.0"
    other = [replace(one, backbone={**one.backbone, "name": "bert-base-uncased"}) for one in entries]
    assert SEEN not in notes(table_of(TABLE_1, other), "QNLI", 0), "nothing is known of this backbone"


def test_caps_are_marked_where_they_left_rows_out() -> None:
    table = table_of(TABLE_1, [*both("CoLA", 0.5, 0.4, max_rows=2500), *both("RTE", 0.6, 0.5, max_rows=2500)])
    assert "trained on 2,500 rows at most" in notes(table, "CoLA", 0)
    assert notes(table, "RTE", 0) == (), "RTE has fewer"
    caps, rows = pd.Series([None, 2500, 2500, 2500]), pd.Series([8551, 900, 2250, 2500])
    assert list(is_capped(caps, rows, 8551)) == [False, False, True, True], "the second sample is smaller than the cap"


def test_other_test_rows_than_the_papers_are_marked() -> None:
    table = table_of(TABLE_2, both("sms_spam", 0.9, 0.9, rows=(4459, 557, 100)))
    assert "not tested on all the official rows" in notes(table, "SMS spam", 0)


def test_missing_tasks_are_listed_and_left_out_of_all_means() -> None:
    entries = [
        *both("CoLA", 0.5, 0.4),
        entry("RTE", Houlsby(64), 0.6, 0.6),
        entry("MRPC", FullFineTuning(), None, None),
    ]
    table = table_of(TABLE_1, entries)
    assert notes(table, "RTE", 1) == ("not run",)
    assert notes(table, "SST-2", 0) == ("not run",)
    assert "all runs diverged" in notes(table, "MRPC", 0)
    assert line(table, "mean of 1 task")[1:3] == ["50.0", "40.0"]
    assert "Means leave out what not every method has: SST-2, MRPC," in table.caption
    assert missing_of(TABLE_1, entries) == [
        "Table 1: GLUE: nothing on SST-2, MRPC, STS-B, QQP, MNLI-m, MNLI-mm and QNLI.",
        "Table 1: GLUE: no full on RTE.",
    ]


def test_runs_that_diverged_are_footnoted_and_counted() -> None:
    lost = entry("CoLA", FullFineTuning(), None, None, lr=1e-2)
    table = table_of(TABLE_1, [*both("CoLA", 0.5, 0.4), lost])
    assert line(table, "CoLA")[1] == "50.0"
    assert "Runs that diverged, counted as trials and never chosen: 1 of full." in table.caption
    nothing = table_of(TABLE_1, [entry("CoLA", Houlsby(64), 0.5, 0.5), lost])
    assert notes(nothing, "CoLA", 1) == ("1 run diverged, no setting is whole",)


def test_a_score_of_fewer_seeds_than_its_column_is_marked() -> None:
    entries = [*both("CoLA", 0.5, 0.4), *both("CoLA", 0.5, 0.4, seed=1), *both("RTE", 0.5, 0.4)]
    assert "1 seed instead of 2" in notes(table_of(TABLE_1, entries), "RTE", 1)


def test_unequal_numbers_of_trials_are_reported() -> None:
    entries = both("CoLA", 0.5, 0.4)
    fair, unfair = table_of(TABLE_1, entries), table_of(TABLE_1, [*entries, entry("CoLA", Houlsby(8), 0.5, 0.5)])
    assert "full 1, adapters 1 and adapters 64 1." in fair.caption
    assert "unequal" not in fair.caption
    assert "full 1, adapters 2 and adapters 64 1. The methods had unequal numbers of trials." in unfair.caption


@pytest.mark.parametrize(
    ("adapters", "words"),
    [(0.46, "4.0 points behind full fine-tuning"), (0.51, "1.0 point ahead of full fine-tuning"), (0.5, "level with")],
)
def test_the_reading_says_how_far_adapters_are_from_full_fine_tuning(adapters: float, words: str) -> None:
    said = reading_of(TABLE_1, both("CoLA", 0.5, adapters))
    assert f"Adapters of size 64 are {words}" in said
    assert "at 2.7% of the parameters for each (in the paper 3.6 points behind on the same tasks)" in said


def test_the_reading_of_half_a_table_says_that_nothing_compares() -> None:
    assert "nothing compares" in reading_of(TABLE_1, [entry("CoLA", Houlsby(64), 0.5, 0.5)])


def test_tfidf_without_a_backbone_is_a_column_without_parameters() -> None:
    table = table_of(TABLE_2, [entry("sms_spam", 10.0, 0.9, 0.97), *both("sms_spam", 0.99, 0.98)])
    assert columns(table)[1:5] == ["ours no BERT", "ours full", "ours top layers", "ours adapters"]
    assert line(table, "SMS spam")[1] == "97.0"
    assert line(table, "parameters in all")[1] == line(table, "trained")[1] == "–"


def test_methods_that_the_paper_has_no_column_for_are_shown_where_they_were_run() -> None:
    entries = both("CoLA", 0.5, 0.4)
    assert "ours LayerNorms" not in columns(table_of(TABLE_1, entries))
    more = table_of(TABLE_1, [*entries, *both("RTE", 0.5, 0.4), entry("CoLA", LayerNormOnly(), 0.3, 0.3)])
    assert "ours LayerNorms" in columns(more)
    assert line(more, "mean of 2 tasks")[2] == "–", "it was run on one of them only"
    assert notes(more, "mean of 2 tasks", 2) == ("not run on all of these tasks",)


@pytest.mark.parametrize("comparison", [TABLE_1, TABLE_2], ids=["table1", "table2"])
@pytest.mark.parametrize("entries", [[], [entry("squad", Houlsby(8), 0.5, 0.5)]], ids=["empty", "squad"])
def test_results_of_no_finished_run_are_a_clear_message(comparison: Exhibit, entries: Sequence[Entry]) -> None:
    with pytest.raises(NothingToShow, match=r"Table \d: .*: the results hold no finished run of the suite"):
        table_of(comparison, entries)


def test_csv_holds_scores_unrounded() -> None:
    entries = [one for seed, score in enumerate((1 / 3, 0.5)) for one in both("CoLA", score, 0.4, seed=seed)]
    header, first, *_ = csv.reader(io.StringIO(table_of(TABLE_1, entries).csv()))
    assert float(first[header.index("ours: full")]) == pytest.approx(100 * (1 / 3 + 0.5) / 2)
    assert float(first[header.index("ours: full, s.e.m.")]) == pytest.approx(100 * scipy.stats.sem([1 / 3, 0.5]))


FULL_SAME = "All methods trained on the backbone have the same score on every task"


@pytest.mark.parametrize(
    ("full", "adapters", "words", "first"),
    [
        (0.5, 0.5, 0.4, FULL_SAME),
        (0.5, 0.5, 0.5, FULL_SAME),
        (0.6, 0.5, 0.9, "Counted words (TF-IDF) are 30.0 points ahead of every method on the backbone."),
        (0.6, 0.5, 0.55, "Adapters are"),
    ],
)
def test_warnings_precede_the_headline(full: float, adapters: float, words: float, first: str) -> None:
    found = [
        entry("sms_spam", FullFineTuning(), full, full),
        entry("sms_spam", Houlsby(64), adapters, adapters),
        entry("sms_spam", 10.0, words, words),
    ]
    assert reading_of(TABLE_2, found).startswith(first)


def test_tasks_on_which_nothing_was_learnt_are_named_before_a_distance() -> None:
    def made(task: str, method: FullFineTuning | Houlsby, score: float, matthews: float) -> Entry:
        return replace(entry(task, method, score, score), metrics={"accuracy": score, "matthews": matthews})

    found = [
        *(made("sms_spam", method, 0.9, 0.7) for method in (FullFineTuning(), Houlsby(64))),
        made("crowdflower_corporate_messaging", FullFineTuning(), 0.61, 0.0),
        made("crowdflower_corporate_messaging", Houlsby(64), 0.62, 0.013),
    ]
    said = reading_of(TABLE_2, found)
    assert said.startswith(
        "On CF corporate messaging no method on the backbone learnt more than the most frequent class"
    )
    learnt = [*found[:3], made("crowdflower_corporate_messaging", Houlsby(64), 0.7, 0.3)]
    assert reading_of(TABLE_2, learnt).startswith("Adapters are")
