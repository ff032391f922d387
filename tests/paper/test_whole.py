"""From trials that really ran on a tiny backbone to the page: the numbers are those of the ledger's entries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from typer.testing import CliRunner

from polytask.backbones.loading import load_backbone
from polytask.cli import app
from polytask.paper.background import Background
from polytask.paper.ledger import Entry
from polytask.paper.report import Written, write_report
from tests.papers import ledger_of, run_all, write_data
from tests.tiny import save_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny edition, run to its end."""
    folder = tmp_path_factory.mktemp("whole")
    save_tiny(folder / "backbone")
    write_data(folder / "data")
    list(run_all(load_backbone(folder / "backbone", device="cpu", dtype="float32"), folder, adapters="none"))
    return folder


@pytest.fixture(scope="module")
def written(folder: Path) -> Written:
    ledger = ledger_of(folder)
    background = Background.of(ledger)
    return write_report(list(ledger.entries()), folder / "exhibits", edition="tiny", background=background)


def chosen_by_hand(entries: list[Entry], task: str, method: str) -> list[float]:
    """Test scores of the learning rate with the best mean validation score; these trials differ in nothing else."""
    by_setting: dict[str, list[Entry]] = {}
    for one in entries:
        if (one.trial.task, one.trial.method["name"]) == (task, method):
            by_setting.setdefault(str({**one.trial.recipe, "seed": 0}), []).append(one)
    best = max(by_setting.values(), key=lambda runs: np.mean([run.validation.score for run in runs if run.validation]))
    return [run.test.score for run in best if run.test]


@pytest.mark.parametrize(
    ("name", "task", "methods"),
    [
        ("table1", "CoLA", {"full": "full", "adapters": "houlsby"}),
        ("table2", "sms_spam", {"no BERT": "tfidf", "full": "full", "top layers": "top", "adapters": "houlsby"}),
    ],
)
def test_the_scores_of_a_table_are_those_of_the_entries_that_validation_chose(
    name: str, task: str, methods: dict[str, str], folder: Path, written: Written
) -> None:
    entries = list(ledger_of(folder).entries())
    exhibit = next(one for one in written.exhibits if one.exhibit.name == name)
    rows = {row["method"]: row for row in exhibit.records if row["task"] == task}
    assert {row["settings"] for method, row in rows.items() if method in methods} == {2}, "equal numbers of trials"
    for method, raw in methods.items():
        scores = chosen_by_hand(entries, task, raw)
        assert rows[method]["score"] == pytest.approx(100 * np.mean(scores))
        assert rows[method]["sem"] == pytest.approx(100 * scipy.stats.sem(scores))


def test_what_was_measured_of_an_ablation_is_drawn(written: Written) -> None:
    ablation = next(one for one in written.exhibits if one.exhibit.name == "ablation")
    assert [(row["first"], row["last"]) for row in ablation.records] == [(0, 0), (0, 1), (1, 1)]


def test_the_page_tells_what_was_run(written: Written) -> None:
    text = written.html.read_text(encoding="utf-8")
    for part in ("Edition tiny on backbone", "24 training rows of a task at most", "drawn with seed 0", "seeds"):
        assert part in text
    assert {one.exhibit.name for one in written.exhibits if one.why_empty} >= {"squad", "init", "lr", "extensions"}


def test_the_command_line_shows_the_same(folder: Path, written: Written) -> None:
    arguments = ["paper", "show", "table1", "--edition", "tiny", "--out", str(folder / "results"), "--format", "csv"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout == (folder / "exhibits" / "table1.csv").read_text()
