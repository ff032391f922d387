"""Adapters and full fine-tuning are compared on what both have finished, and each claim says what it is judged by."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from polytask.errors import DataError
from polytask.paper.background import Background
from polytask.paper.claim_report import BEGIN, END, ClaimReport, update_document
from polytask.paper.claims import CLAIMS, Evidence
from polytask.paper.edition import Edition, all_trials
from polytask.paper.editions import edition_named
from polytask.paper.ledger import Entry, Ledger, Trial
from polytask.training.result import Score
from tests.entries import BACKBONE, entry

CLAIM = edition_named("claim").on(6)
GLUE = CLAIM.restricted(["table1"])
FULL = {"CoLA": 0.5, "SST-2": 0.9, "MRPC": 0.8, "STS-B": 0.7, "QQP": 0.7, "MNLI-m": 0.6, "QNLI": 0.8, "RTE": 0.6}


def entries_of(edition: Edition, score: Callable[[Trial], float | None]) -> list[Entry]:
    """An entry of every trial that has a score."""
    made = []
    for at, trial in enumerate(all_trials(edition)):
        if (value := score(trial)) is not None:
            of_trial = replace(entry(trial.task, 10.0, value, value), trial=trial, key=f"{at:016x}", also={})
            parameters = {"trained": 600_000, "head": 770, "backbone": BACKBONE} if trial.has_backbone else {}
            made.append(replace(of_trial, parameters=parameters))
    return made


def scored(losses: dict[str, float], num_seeds: int = 3) -> Callable[[Trial], float | None]:
    """Full fine-tuning as in ``FULL``; another method loses so many points to it, a tenth more with each seed."""

    def score(trial: Trial) -> float | None:
        if trial.seed >= num_seeds:
            return None
        lost = 0.0 if trial.method["name"] == "full" else losses.get(trial.task, 0.0) + 0.1 * trial.seed
        return FULL[trial.task] - lost / 100

    return score


def test_the_mean_and_its_interval_are_those_of_the_scores() -> None:
    losses = {"CoLA": 4.0, "SST-2": 1.0, "RTE": -2.0}
    found = Evidence(GLUE, entries_of(GLUE, scored(losses))).comparison("full")
    by_task = {own.task: own for own in found.differences}
    assert by_task["RTE"].by_seed == pytest.approx([2.0, 1.9, 1.8]), "three seeds for a task of few rows"
    means = [-losses.get(task, 0.0) - (0.1 if task in ("RTE", "MRPC") else 0.05) for task in FULL]
    assert found.mean == pytest.approx(np.mean(means))
    assert found.is_complete
    assert found.interval is not None
    assert found.interval[0] < found.mean < found.interval[1]
    low, high = scipy.stats.t.interval(0.95, 2, loc=1.9, scale=scipy.stats.sem([2.0, 1.9, 1.8]))
    assert by_task["RTE"].interval == pytest.approx((low, high))


def test_a_task_is_not_compared_before_both_methods_have_finished_a_seed() -> None:
    entries = entries_of(GLUE, scored({}, num_seeds=1))
    lacking = next(e for e in entries if e.trial.task == "CoLA" and e.trial.method["name"] == "full")
    found = Evidence(GLUE, [e for e in entries if e is not lacking]).pairing.compare("adapters", "full", ("glue",))
    assert found.unfinished == ("CoLA",)
    assert {own.task for own in found.differences} == FULL.keys() - {"CoLA"}
    assert all(len(own.by_seed) == 1 and own.interval is None for own in found.differences)
    report = ClaimReport(GLUE, [e for e in entries if e is not lacking])
    assert "on 7 of 8 tasks, with 7 of the 16 seeds planned" in report.headline
    assert "CoLA (2 of 4 trials of adapters, 1 of 4 of full fine-tuning)" in report.tasks.caption


def test_test_scores_of_other_settings_do_not_change_the_difference() -> None:
    def score(trial: Trial) -> float:
        return 0.9 if trial.recipe.get("lr") in (1e-3, 1e-4) else 0.1

    entries = entries_of(GLUE, score)
    shifted = [
        e if e.test is None or e.test.score > 0.5 else replace(e, test=replace(e.test, score=0.99)) for e in entries
    ]
    assert Evidence(GLUE, shifted).comparison("full").mean == Evidence(GLUE, entries).comparison("full").mean == 0


def test_mismatched_rows_of_mnli_count_with_the_matched_ones() -> None:
    entries = [
        replace(e, also={"MNLI-mm": Score("accuracy", e.test.score - 0.1, 10)})
        if e.test and e.trial.task == "MNLI-m"
        else e
        for e in entries_of(GLUE, scored({}))
    ]
    (mnli,) = (own for own in Evidence(GLUE, entries).comparison("full").differences if own.task == "MNLI-m")
    assert mnli.theirs == pytest.approx((55.0, 55.0))


def verdicts(report: ClaimReport) -> dict[str, str]:
    return {claim.text: finding.verdict for claim, finding in report.findings}


@pytest.mark.parametrize(("lost", "verdict"), [(0.5, "met"), (3.0, "not met")])
def test_a_claim_is_met_or_not_when_every_planned_trial_has_run(lost: float, verdict: str) -> None:
    report = ClaimReport(GLUE, entries_of(GLUE, scored(dict.fromkeys(FULL, lost))))
    found = verdicts(report)
    assert found["Within 0.8 points of full fine-tuning on GLUE"] == verdict
    assert found["At most 3.6% of the parameters for each task of GLUE"] == "met"
    assert found["At most 1.3 times one backbone for all of GLUE"] == "met"
    assert found["Within 0.3 F1 of full fine-tuning on SQuAD"] == "not enough trials yet"
    assert set(found) == {claim.text for claim in CLAIMS}


def test_a_claim_is_open_while_seeds_are_missing() -> None:
    found = verdicts(ClaimReport(GLUE, entries_of(GLUE, scored({}, num_seeds=1))))
    assert found["Within 0.8 points of full fine-tuning on GLUE"] == "not enough trials yet"


def test_nothing_is_said_of_no_results() -> None:
    report = ClaimReport(CLAIM, [])
    assert "nothing can be said yet" in report.headline
    assert set(verdicts(report).values()) == {"not enough trials yet"}
    assert report.to_json()["mean"] is None
    assert "26 tasks" in report.headline


def test_a_document_is_updated_between_its_markers_alone(tmp_path: Path) -> None:
    report = ClaimReport(GLUE, entries_of(GLUE, scored({})))
    path = tmp_path / "page.md"
    begin = BEGIN.format("claim")
    path.write_text(f"# Title\n{begin}\nold\n{END}\nlast\n")
    update_document(path, report)
    text = path.read_text()
    assert text.startswith(f"# Title\n{begin}\n\n**Mean test score of adapters")
    assert text.endswith(f"{END}\nlast\n")
    assert "old" not in text
    update_document(path, report)
    assert path.read_text() == text
    (tmp_path / "bare.md").write_text("# Title\n")
    with pytest.raises(DataError, match=r"there is no place for the results.*Add the lines"):
        update_document(tmp_path / "bare.md", report)


def test_the_difference_is_recomputed_from_the_files_of_the_ledger() -> None:
    """The results of the edition ``claim`` in this repository, read as JSON and nothing else."""
    ledger = Ledger(Path(__file__).parents[2] / "results", "claim")
    edition = Background.of(ledger).edition
    assert edition is not None
    found = Evidence(edition, list(ledger.entries())).comparison("full")
    files = [json.loads(path.read_text()) for path in sorted(ledger.folder.glob("*.json"))]
    for own in found.differences:
        scores = [_best_of(files, own.task, method, len(own.by_seed)) for method in ("houlsby", "full")]
        assert own.mean == pytest.approx(100 * (np.mean(scores[0]) - np.mean(scores[1])))
    assert found.mean == pytest.approx(np.mean([own.mean for own in found.differences]))


def _best_of(files: list[dict[str, Any]], task: str, method: str, num_seeds: int) -> list[float]:
    """The test scores of the learning rate with the best mean validation score, of the planned settings."""
    planned = {"houlsby": {"size": 64, "init_std": 0.01}, "full": {}}[method]
    rates = {"houlsby": (1e-3, 3e-4), "full": (1e-4, 3e-5)}[method]
    by_rate: dict[float, list[dict[str, Any]]] = {}  # of equal scores, the rate of the first file counts
    for file in files:
        recipe = file["trial"]["recipe"]
        is_planned = recipe["method"].items() >= {"name": method, **planned}.items() and recipe.get("lr") in rates
        if is_planned and file["trial"]["task"] == task and recipe["seed"] < num_seeds:
            by_rate.setdefault(recipe["lr"], []).append(file)
    best = max(by_rate.values(), key=lambda own: np.mean([file["validation"]["score"] for file in own]))
    return [np.mean([score["score"] for score in (file["test"], *file["also"].values())]) for file in best]
