"""``polytask paper show`` and ``report``."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from polytask.cli import app
from polytask.paper.ledger import Ledger
from tests.entries import whole_ledger


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Results of the edition ``cpu`` on two tasks."""
    folder = tmp_path_factory.mktemp("results")
    ledger = Ledger(folder, "cpu")
    for one in whole_ledger(["CoLA", "sms_spam"], seeds=1):
        ledger.folder.mkdir(exist_ok=True)
        ledger.path(one.key).write_text(json.dumps(one.to_json()))
    return str(folder)


def ran(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["paper", *arguments])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def test_a_table_is_shown_with_its_reading(results: str) -> None:
    shown = ran("show", "table1", "--out", results)
    assert "Table 1: GLUE" in shown
    assert "points behind full fine-tuning" in shown


@pytest.mark.parametrize(
    ("form", "start"), [("markdown", "**Table 2"), ("latex", "\\begin{table}"), ("csv", "task,ours: no BERT,")]
)
def test_a_table_is_printed_in_every_form(form: str, start: str, results: str) -> None:
    assert ran("show", "table2", "--out", results, "--format", form).startswith(start)


def test_csv_is_csv_and_nothing_else(results: str) -> None:
    rows = list(csv.DictReader(io.StringIO(ran("show", "tradeoff", "--out", results, "--format", "csv"))))
    assert {row["suite"] for row in rows} == {"glue", "text17"}
    assert "name one exhibit" in ran("show", "--out", results, "--format", "csv", code=2).lower().replace("\n", " ")


def test_json_is_one_object_a_line_for_what_can_be_shown(results: str) -> None:
    lines = [json.loads(line) for line in ran("show", "--out", results, "--format", "json").splitlines()]
    names = [line["exhibit"] for line in lines]
    assert names == ["table1", "table2", "tradeoff", "tradeoff-tasks", "ablation", "init", "lr", "extensions"]
    assert all(line["rows"] and line["reading"] for line in lines)


def test_an_exhibit_that_is_asked_for_and_cannot_be_shown_is_an_error(results: str) -> None:
    assert "Figure 5 needs SQuAD" in ran("show", "squad", "--out", results, code=2)
    assert "Did you mean 'table1'" in ran("show", "tabel1", "--out", results, code=2)
    assert "no format called 'pdf'" in ran("show", "--out", results, "--format", "pdf", code=2)


def test_an_edition_that_was_not_run_names_those_that_were(results: str) -> None:
    said = " ".join(ran("show", "--edition", "paper", "--out", results, code=2).split())
    assert "there are no results here. Give --edition cpu, or run: polytask paper run --edition paper" in said


def test_the_report_is_written_beside_the_results(results: str, tmp_path: Path) -> None:
    told = json.loads(ran("report", "--out", results, "--html", str(tmp_path / "paper.html"), "--json"))
    assert told["html"] == str(tmp_path / "paper.html")
    assert all(Path(file).exists() for file in told["files"])
    assert Path(results, "cpu", "exhibits", "tradeoff.png").exists()
    assert set(told["left_out"]) == {"squad"}
    assert "--html" in (tmp_path / "paper.html").read_text(), "the command that makes it again"
    assert list(Ledger(results, "cpu").entries()), "the exhibits are not taken for entries"


def test_help_imports_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys\nfrom polytask.cli import main\nsys.argv = ['polytask', 'paper', 'report', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print([name for name in ('torch', 'matplotlib', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
