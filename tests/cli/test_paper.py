"""``polytask paper plan``, ``run``, ``all``, ``rerun`` and ``submit``."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from polytask.cli.paper.trials import TrialProgress
from polytask.launch.pace import Pace
from polytask.paper.edition import all_trials
from polytask.paper.editions import edition_named
from polytask.paper.ledger import Ledger
from polytask.suites.glue import GLUE
from tests.cli.test_cli import SOURCE, polytask, refused, succeeded
from tests.papers import write_data
from tests.tiny import save_tiny

SOME = ("--exhibits", "table1,table2", "--tasks", "CoLA,sms_spam", "--max-rows", 24, "--epochs", 1, "--seeds", 1)
NAME = "cpu-24rows-1epochs-1seeds"
NUM_TRIALS = 2 * 4 + 4 * 4


def where(place: Path) -> tuple[object, ...]:
    backbone = ("--backbone", place / "backbone", "--dtype", "float32")
    return ("--edition", "cpu", "--data", place / "data", "--out", place / "results", *backbone)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    save_tiny(folder / "backbone", num_hidden_layers=3)
    write_data(folder / "data")
    return folder


@pytest.fixture(scope="module")
def ran(place: Path) -> dict[str, Any]:
    """What a first ``paper run --json`` printed."""
    planned = json.loads(succeeded("paper", "run", *where(place), *SOME, "--dry-run", "--json"))
    assert not (place / "results").exists(), "a dry run writes nothing"
    assert (planned["trials"], planned["to_run"], planned["edition"]) == (NUM_TRIALS, NUM_TRIALS, NAME)
    return dict(json.loads(succeeded("paper", "run", *where(place), *SOME, "--json")))


def test_run_runs_the_whole_edition(ran: dict[str, Any], place: Path) -> None:
    ledger = Ledger(place / "results", NAME)
    assert ran["folder"] == str(ledger.folder)
    assert (ran["run"], ran["trials"], ran["diverged"], ran["elsewhere"]) == (NUM_TRIALS, NUM_TRIALS, 0, 0)
    assert "at most 24 training rows a task" in ran["caps"]
    assert ran["absent"] == ran["cut"] == []
    assert len(list(ledger.entries())) == NUM_TRIALS


@pytest.mark.usefixtures("ran")
def test_the_same_command_again_runs_nothing(place: Path) -> None:
    said = succeeded("paper", "run", *where(place), *SOME)
    assert said.strip() == f"0 trials run, {NUM_TRIALS} were done before: {place / 'results' / NAME}"


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("ran")
def test_all_runs_what_is_missing_and_reports(place: Path) -> None:
    ledger = Ledger(place / "results", NAME)
    entry = next(one for one in ledger.entries() if one.trial.task == "CoLA")
    ledger.path(entry.key).unlink()
    told = json.loads(succeeded("paper", "all", *where(place), *SOME, "--json"))
    assert (told["run"], told["there"], told["trials"]) == (1, NUM_TRIALS - 1, NUM_TRIALS)
    assert {"table1", "table2"} <= told["exhibits"].keys()
    assert {"squad", "init", "lr"} <= told["left_out"].keys()
    again = succeeded("paper", "report", "--edition", NAME, "--out", place / "results", "--json")
    assert json.loads(again)["files"] == told["files"]
    page = (ledger.folder / "exhibits" / "index.html").read_text()
    assert f"polytask paper report --edition {NAME} --out {place / 'results'}" in page
    said = succeeded("paper", "all", *where(place), *SOME, "--html", place / "page.html")
    assert said.startswith("0 trials run")
    assert "Mean test score of adapters minus that of full fine-tuning" in said
    assert [line.split()[0] for line in said.splitlines()[-2:]] == [str(len(told["files"])), "the"]
    assert (place / "page.html").stat().st_size > 10_000


@pytest.mark.usefixtures("ran")
def test_a_dry_run_of_all_only_plans(place: Path, tmp_path: Path) -> None:
    before = files_in(place)
    planned = json.loads(succeeded("paper", "all", *where(place), *SOME, "--dry-run", "--json"))
    assert (planned["trials"], planned["to_run"]) == (NUM_TRIALS, 0)
    assert files_in(place) == before
    assert "--workers is for --on local" in refused("paper", "all", *where(place), "--on", "ray", "--workers", 2)


@pytest.mark.usefixtures("ran")
def test_an_entry_is_run_again_by_its_key(place: Path) -> None:
    ledger = Ledger(place / "results", NAME)
    before = files_in(place)
    for entry in list(ledger.entries())[::7]:
        options = ("--edition", NAME, "--data", place / "data", "--out", place / "results")
        told = json.loads(succeeded("paper", "rerun", entry.key, *options, "--json"))
        assert entry.test is not None
        assert told["test"] == [entry.test.score, pytest.approx(entry.test.score)]
        assert "equal to the last digit" in succeeded("paper", "rerun", entry.key, *options)
    assert files_in(place) == before
    said = refused("paper", "rerun", "0" * 16, "--edition", NAME, "--out", place / "results")
    assert "this is not the result of a trial" in said


def test_verbs_are_listed_in_the_order_of_a_reproduction() -> None:
    _, commands = succeeded("paper", "--help").split("Commands")
    shown = re.findall(r"^│ (\w+)", commands, re.MULTILINE)
    assert shown == ["plan", "run", "show", "report", "all", "rerun", "submit"]


@pytest.mark.usefixtures("ran")
def test_plan_shows_exhibits_with_trials_tokens_and_time(place: Path) -> None:
    said = polytask("paper", "plan", *where(place), *SOME[:4], "--max-rows", 24, "--epochs", 1, "--seeds", 1)
    assert said.exit_code == 0
    (row,) = (line.split() for line in said.stdout.splitlines() if line.strip().startswith("table1"))
    assert row[:7] == ["table1", "1×4×1", "8", "8", "0", "0", "0.0"]
    assert "at most 24 training rows a task" in " ".join(said.stderr.split())


def test_a_budget_prints_what_it_cut(place: Path) -> None:
    asked = ("paper", "plan", *where(place), "--exhibits", "table1", "--tasks", "CoLA", "--budget", "1e-9")
    planned = json.loads(succeeded(*asked, "--json"))
    assert planned["cut"][0].startswith("table1: 1 of 2 seeds; 2 of 4 settings")
    assert "more than the budget" in planned["cut"][-1]
    assert planned["trials"] < 16
    said = polytask(*asked)
    assert "cut to fit the budget: table1: 1 of 2 seeds" in " ".join(said.stderr.split())


def test_missing_tasks_are_named(place: Path) -> None:
    planned = json.loads(succeeded("paper", "plan", *where(place), "--exhibits", "table1", "--json"))
    assert planned["absent"] == ["SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "QNLI", "RTE"]
    assert [row["tasks"] for row in planned["exhibits"]] == [1]
    said = refused("paper", "plan", *where(place), "--tasks", "RTE")
    assert re.search(r"not there: RTE\. There are: CoLA, sms_spam", said)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--edition", "cpv"), "no edition called 'cpv'. Did you mean 'cpu'"),
        (("--exhibits", "table9"), "no exhibit called 'table9'"),
        (("--on", "rey"), "no launcher called 'rey'. Did you mean 'ray'"),
        (("--address", "auto"), "--address, --gpus and --cpus are for --on ray"),
        (("--on", "ray", "--workers", "2"), "--workers is for --on local"),
        (("--workers", "0"), "--workers 0 is out of range"),
        (("--keep-adapters", "some"), "no choice of --keep-adapters called 'some'"),
    ],
)
def test_invalid_options_are_refused(options: tuple[str, ...], words: str, place: Path) -> None:
    assert words in refused("paper", "run", *where(place), *SOME, *options)


def test_an_interrupt_prints_the_command_that_continues(place: Path, tmp_path: Path) -> None:
    options = [str(option) for option in (*where(place), "--exhibits", "table1", "--seeds", 1)]
    options[options.index("--out") + 1] = str(tmp_path)
    source = os.pathsep.join([str(SOURCE), *sys.path])
    command = [sys.executable, "-c", "from polytask.cli import main; main()", "paper", "run", *options]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": source}
    )
    assert child.stderr is not None
    while " of 8" not in child.stderr.readline():
        assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, said = child.communicate()
    assert child.returncode == 130
    (line,) = (line for line in said.splitlines() if line.startswith("error"))
    again = "polytask paper run " + " ".join(options)
    assert re.search(r"interrupted with \d+ trials to go. To continue: ", line)
    assert line.endswith(again)
    assert "Traceback" not in said


@pytest.mark.usefixtures("ran")
def test_a_submission_has_the_servers_form_and_says_what_is_missing(place: Path, tmp_path: Path) -> None:
    rows = [f"{number}\ta great film\n" for number in range(GLUE["CoLA"].rows[2])]
    (place / "data" / "glue" / "CoLA" / "test.tsv").write_text("index\tsentence\n" + "".join(rows))
    options = [*where(place), "--to", tmp_path]
    options[1] = NAME
    said = json.loads(succeeded("paper", "submit", *options, "--json"))
    assert said["written"] == ["CoLA"]
    assert set(said["missing"]) == GLUE.keys() - {"CoLA"}
    assert said["missing"]["RTE"] == "no adapter of it is kept"
    lines = (tmp_path / "CoLA.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    assert len(lines) == 1 + 1063
    assert len({line.split("\t")[1] for line in lines[1:]}) == 1


# -- progress ---------------------------------------------------------------------------------------------------------


def test_progress_shows_finished_and_running_trials() -> None:
    edition = edition_named("cpu").restricted(["table1"], ["CoLA"])
    trials = {f"k{at}": trial for at, trial in enumerate(all_trials(edition))}
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=30)
    pace = Pace(dict.fromkeys(trials, 1000), {key: trial.method["name"] for key, trial in trials.items()})
    seen = TrialProgress(console, trials, trials, pace)
    score = {"metric": "matthews", "score": 0.5}
    entry = {"seconds": 60.0, "failure": None, "validation": score, "test": {**score, "score": 0.25}}
    seen({"what": "started", "keys": list(trials)})
    seen({"what": "step", "key": "k1", "step": 3, "num_steps": 10, "epoch": 2, "num_epochs": 5})
    seen({"what": "entry", "key": "k0", "entry": entry})
    seen({"what": "entry", "key": "k2", "entry": {**entry, "failure": "so"}})
    console.print(seen)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())  # type: ignore[attr-defined]
    assert "2/16 trials" in shown
    assert "1 diverged" in shown
    assert "CoLA · houlsby, size 64 · lr 1e-3, 3 epochs, seed 0" in shown
    assert "validation matthews 0.500, test 0.250" in shown
    assert re.search(r"seed 1\s+epoch 2/5", shown)
    assert "about 14 min (7 to 27) left" in shown, "13.7 trials of a minute each; one trial tells little"


def test_the_progress_of_an_edition_without_anything_to_do_is_whole() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=30)
    console.print(TrialProgress(console, {}, {}, Pace({}, {})))
    assert "0/0 trials" in console.file.getvalue()  # type: ignore[attr-defined]
