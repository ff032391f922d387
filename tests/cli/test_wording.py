"""Wording of scores, notes and logs; formulas in tables; terminals without UTF-8."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.bench.training import TrainingRate
from polytask.cli import live_progress
from polytask.cli.console import terminal
from polytask.cli.output import formula_notes
from polytask.cli.paper.requests import show_scope
from polytask.cli.paper.trials import trial_in_words
from polytask.cli.progress_table import ProgressTable
from polytask.cli.verdicts import beside_majority
from polytask.data import hub
from polytask.data.read import read_task
from polytask.data.task import Task
from polytask.drawing.confusion import draw_confusion
from polytask.drawing.figures import plain
from polytask.drawing.table import as_csv
from polytask.errors import DataError
from polytask.evaluation.baselines import majority_score
from polytask.evaluation.metrics import all_scores, distinct
from polytask.methods import Houlsby
from polytask.paper.cost import correction
from polytask.paper.edition import all_trials
from polytask.paper.editions import edition_named
from polytask.training.events import Step
from polytask.training.job import Job
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from polytask.training.result import Score
from polytask.training.sweep_result import Kept
from polytask.training.to_store import stored_version
from tests.cli.test_cli import polytask, refused, succeeded, table
from tests.entries import entry

bench = importlib.import_module("polytask.cli.bench")  # the package has a function of this name

ROWS = [("good film", "Relevant"), ("bad film", "irrelevant"), ("dull film", "irrelevant")] * 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("words")


@pytest.fixture(scope="module")
def rows(folder: Path) -> Path:
    return table(folder / "rows.csv", ROWS)


def test_f1_is_about_the_second_of_two_labels_and_says_so(rows: Path) -> None:
    task = read_task(rows, metric="f1")
    assert task.labels == ("Relevant", "irrelevant")
    assert any("f1 is computed for the label 'irrelevant'" in note for note in task.notes)
    named = read_task(rows, metric="f1", positive="Relevant")
    assert named.labels == ("irrelevant", "Relevant")
    assert not any("f1 is computed" in note for note in named.notes)
    assert [named.labels[at] for at in named.train.targets or ()] == [
        task.labels[at] for at in task.train.targets or ()
    ]


def test_a_positive_label_is_one_of_two(rows: Path, folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"'relevant' is not a label of this task\. Its labels are: Relevant, irrelevant"
    ):
        read_task(rows, positive="relevant")
    three = table(folder / "three.csv", [("a", "x"), ("b", "y"), ("c", "z")] * 4)
    with pytest.raises(DataError, match="this task has 3 labels"):
        read_task(three, positive="x")


@pytest.mark.parametrize(("positive", "share"), [("Relevant", 8 / 24), ("irrelevant", 16 / 24)])
def test_train_eval_and_card_say_what_the_score_is_about(
    positive: str, share: float, rows: Path, tiny_bert_folder: Path, tmp_path: Path
) -> None:
    shared = ("--store", tmp_path / "store")
    of = ("--metric", "f1", "--positive", positive, "--test", rows, "--epochs", 1)
    printed = succeeded("train", rows, "--task", "mood", "--backbone", tiny_bert_folder, *of, *shared)
    assert f"f1 of '{positive}'" in printed
    assert f"f1 of '{positive}'" in succeeded("eval", rows, "--task", "mood", *shared)
    entry = Store(tmp_path / "store").entry("mood")
    task = read_task(rows, metric="f1", positive=positive, test=rows)
    majority = majority_score(task, task.test or task.validation)
    assert entry.header.result["majority"] == pytest.approx(majority)
    assert majority == pytest.approx(0.0 if positive == "Relevant" else 2 * share / (1 + share))
    assert f"f1 {majority:.4f}" in succeeded("show", "mood", *shared)
    commonest = f"majority class of the training rows ('irrelevant'): {majority:.3f}"
    assert commonest.replace(" ", "") in "".join(char for char in printed if char not in " \n│")


def test_equal_metrics_are_shown_once() -> None:
    three: list[Any] = [[0, 1, 2, 2], [0, 1, 1, 2]]
    scores = all_scores("classification", *three, num_labels=3)
    assert list(distinct(scores, "classification", 3, "accuracy")) == ["accuracy", "matthews", "macro_f1"]
    assert list(distinct(scores, "classification", 3, "f1")) == ["accuracy", "f1", "matthews"]
    two = all_scores("classification", [0, 1], [0, 1], num_labels=2)
    assert list(distinct(two, "classification", 2, "micro_f1")) == ["f1", "matthews", "micro_f1", "macro_f1"]
    several = all_scores("multilabel", [(0,)], [(0,)], num_labels=2)
    assert distinct(several, "multilabel", 2, "micro_f1") == several


def test_a_terminal_of_ascii_shows_what_it_can(tiny_bert_folder: Path, tmp_path: Path) -> None:
    rows = table(tmp_path / "rows.csv", [("good film", "caf\u00e9 · \u6f22"), ("bad film", "b")] * 8)
    where = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", "from polytask.cli import main; main()"]

    def run(*arguments: object) -> str:
        done = subprocess.run([*command, *map(str, arguments)], env=where, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode("ascii")

    shared = ("--task", "t", "--store", tmp_path / "store")
    assert "t@1" in run("train", rows, "--epochs", 1, "--backbone", tiny_bert_folder, *shared)
    assert "caf? ? ?" in run("show", "t", "--store", tmp_path / "store")
    assert "caf\u00e9 · \u6f22" in json.loads(run("predict", "good film", *shared, "--json"))["probs"]


def test_texts_that_a_task_does_not_take_are_refused_before_the_backbone_is_loaded(
    rows: Path, tiny_bert_folder: Path, tmp_path: Path
) -> None:
    shared = ("--store", tmp_path / "store")
    pairs = table(tmp_path / "pairs.csv", [("a", "b", "yes"), ("c", "d", "no")] * 6, ("text1", "text2", "label"))
    for name, file in (("single", rows), ("paired", pairs)):
        succeeded("train", file, "--task", name, "--backbone", tiny_bert_folder, "--epochs", 1, *shared)
    missing = ("--backbone", tmp_path / "nowhere", *shared)
    assert "answers pairs of texts" in refused("predict", "--task", "paired", "a text", *missing)
    both = ("--task", "single", "--task", "paired")
    assert "single takes single texts and paired takes pairs. Ask them separately" in refused(
        "predict", *both, "a text", *missing
    )


def test_a_missing_store_is_named(tmp_path: Path) -> None:
    assert f"no folder {tmp_path / 'no'}" in "".join(succeeded("tasks", "--store", tmp_path / "no").split("\n"))
    assert str(tmp_path / "no") in "".join(
        refused("predict", "--task", "t", "x", "--store", tmp_path / "no").split("\n")
    )


def test_a_finished_sweep_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    shown = ProgressTable(terminal(stderr=True), {"a": "lr 1", "b": "lr 2"}, "accuracy")
    run: Any = type("Run", (), {"result": None, "score": None})
    for job in ("a", "b"):
        shown(Kept(job, run))
    shown.close()
    assert capsys.readouterr().err.strip() == "2 runs of 2 had already finished"


def test_trials_that_differ_in_how_adapters_start_read_differently() -> None:
    inits = all_trials(edition_named("cpu").restricted(["init"], ["CoLA"]))
    assert len({trial_in_words(trial) for trial in inits}) == len(inits) > 5


def test_a_note_warns_of_labels_that_are_formulas(tmp_path: Path) -> None:
    assert as_csv(["task"], [["=HYPERLINK(1)"], ["-1"], [-1.5], ["\u2013"]]).splitlines() == [
        *("task", "'=HYPERLINK(1)", "'-1", "-1.5", "\u2013")
    ]
    entry: Any = type("Entry", (), {"labels": ("=1+1", "-5", "ham")})
    assert "read labels such as '=1+1' as formulas" in formula_notes("out.csv", [entry])[0]
    assert formula_notes("out.jsonl", [entry]) == []


def test_labels_in_a_figure_are_escaped(tmp_path: Path) -> None:
    assert plain("a $x$\n\x1b[31m") == r"a \$x\$ \x1b[31m"
    for count in (2, 30, 130):
        labels = [f"$label_{at}$" for at in range(count)]
        draw_confusion(tmp_path / f"{count}.svg", labels, [[int(a == b) for a in range(count)] for b in range(count)])
        drawn = (tmp_path / f"{count}.svg").read_text(encoding="utf-8")
        assert "share of the row" in drawn or count == 130


def test_an_unreachable_hub_is_reported_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def nobody(place: Any, timeout: float) -> Any:
        asked.append((place, timeout))
        raise OSError("no network")

    monkeypatch.setattr("polytask.backbones.hub.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "create_connection", nobody)
    with pytest.raises(DataError, match="cannot be loaded"):
        hub.read_hub("nobody/there-is-no-such-set")
    assert len(asked) == 1
    assert constants.HF_HUB_OFFLINE is False  # it may be measure_rounds reach the next time
    (tmp_path / "here").mkdir()
    with pytest.raises(DataError):
        hub.read_hub(str(tmp_path / "here"))
    assert len(asked) == 1  # a folder needs no hub


@pytest.mark.parametrize(
    ("score", "interval", "majority", "said"),
    [
        (0.9, (0.8, 0.95), 0.5, None),
        (0.5, (0.3, 0.7), 0.5, "no better than giving every text the most frequent label"),
        (0.4, (0.3, 0.6), 0.5, "no better than giving every text the most frequent label"),
        (0.6, (0.4, 0.8), 0.5, "within the confidence interval of this score"),
        (0.5, None, 0.5, "no better than"),
        (0.9, None, None, None),
    ],
)
def test_a_score_near_that_of_the_majority_class_gets_a_note(
    score: float, interval: tuple[float, float] | None, majority: float | None, said: str | None
) -> None:
    notes = beside_majority(Score("accuracy", score, 1, interval), majority)
    assert (notes == []) if said is None else said.split(":")[0] in notes[0]


def test_a_log_reports_the_current_step_at_intervals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(live_progress.time, "monotonic", lambda: clock[0])
    with live_progress.watching(terminal(stderr=True)) as shown:
        for number in range(1, 5):
            clock[0] += 10.0
            shown(Step("t", number, 8, 1, 2, 0.5, 100, 10.0 * number, 0.0, 1e-3))
    first, second = capsys.readouterr().err.splitlines()
    assert first == "t: step 2 of 8, epoch 1 of 2, loss 0.500, about 60 s left"
    assert second.startswith("t: step 4 of 8")


def test_finished_trials_correct_a_plan() -> None:
    costs: Any = SimpleNamespace(training_seconds=lambda trial: 20.0)
    done = [replace(entry(seed=seed), seconds=seconds) for seed, seconds in enumerate((60.0, 50.0, 9000.0, 60.0, 70.0))]
    assert correction(costs, done) == (3.0, 5)
    assert correction(costs, done[:4]) == (1.0, 4)


def test_earlier_results_in_another_precision_are_used_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    made = entry()
    place = SimpleNamespace(data=None, backbone="minilm", device="cpu", dtype="bfloat16")
    whole = edition_named("cpu")
    ledger: Any = type("Ledger", (dict,), {"read": dict.__getitem__})({made.key: made})
    request: Any = SimpleNamespace(place=place, edition=whole, absent=(), ledger=ledger, trials={made.key: made.trial})
    show_scope(terminal(stderr=True), request, [])
    said = " ".join(capsys.readouterr().err.split())
    assert "earlier results in float32 are used; they are not run again in bfloat16" in said


def test_an_interrupted_bench_prints_what_was_measured(tiny_bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(*_: Any) -> Iterator[list[TrainingRate]]:
        ours = TrainingRate("sst2", "polytask", "Houlsby, size 64", "fp32", 100.0, 0.0, 1.0, 1, 1)
        yield [ours, replace(ours, trains="LoRA, rank 8")]
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "measure_parts", begun)
    done = polytask("bench", "--backbone", tiny_bert_folder, "--json")
    assert done.exit_code == 130
    printed = json.loads(done.stdout)
    assert printed["is_whole"] is False
    assert [rate["tokens_per_s"] for rate in printed["training"]] == [100.0, 100.0]


def test_an_adapter_is_found_among_all_versions(tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path) -> None:
    store = Store(tmp_path)
    quick = Recipe(Houlsby(2), epochs=1, batch_size=16)
    mine, other = (train(tiny_backbone, tiny_task, replace(quick, seed=seed))[0] for seed in (0, 1))
    assert stored_version(store, mine) is None
    store.put(mine)
    store.put(other)
    assert [str(stored_version(store, adapter)) for adapter in (mine, other)] == ["mood@1", "mood@2"]
    assert stored_version(store, train(tiny_backbone, tiny_task, replace(quick, seed=2))[0]) is None


def test_a_last_step_that_leaves_no_numbers_ends_the_run(tiny_backbone: Backbone, tiny_task: Task) -> None:
    job = Job(tiny_backbone, tiny_task, Recipe(Houlsby(2), epochs=1))
    job.optimizer.flat[0] = float("nan")
    assert job.record(0.9) is False
    assert "its parameters are not finite" in str(job.failure)
    assert job.history == []
