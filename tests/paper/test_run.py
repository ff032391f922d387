"""Missing trials are run once, even if a process is killed or another runs the same edition."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from polytask.adapters.adapter import Adapter
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.errors import DataError
from polytask.file_lock import KeyLocks
from polytask.inference.scoring import scores_of
from polytask.launch import local, step_times
from polytask.launch import ray as on_ray
from polytask.paper.budget import fitted
from polytask.paper.cost import Costs
from polytask.paper.edition import Edition, Plan, all_trials, identity, trials
from polytask.paper.exhibits import EXHIBITS
from polytask.paper.ledger import Entry
from polytask.paper.rerun import rerun_entry
from polytask.paper.run import best_adapters, missing, packs, run
from polytask.paper.selection import runs_of
from polytask.paper.worker import UNDER_WAY, adapter_path
from polytask.suites.tasks import read
from polytask.training.events import Step
from polytask.training.job import Job
from polytask.training.loop import step, train
from polytask.training.recipe import Recipe
from tests.launch.test_launch import if_ray_is_asked
from tests.papers import ADAPTERS, FULL, TINY, TOP, keys_of, ledger_of, place_of, run_all, write_data, write_squad
from tests.suites.test_glue import mnli
from tests.tiny import save_tiny

NUM_TRIALS = 2 * 2 * 2 + 4 * 2 * 2


@pytest.fixture
def backbone(folder: Path) -> Backbone:
    return load_backbone(folder / "backbone", device="cpu", dtype="float32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A backbone, data, and no results yet."""
    save_tiny(tmp_path / "backbone")
    write_data(tmp_path / "data")
    return tmp_path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An edition that was run to its end, undisturbed."""
    folder = tmp_path_factory.mktemp("done")
    save_tiny(folder / "backbone")
    write_data(folder / "data")
    list(run_all(load_backbone(folder / "backbone", device="cpu", dtype="float32"), folder))
    return folder


def process(folder: Path) -> subprocess.Popen[str]:
    """Another process that runs the edition."""
    source = os.pathsep.join(["src", *sys.path])
    command = [sys.executable, "-m", "tests.papers", str(folder)]
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ, "PYTHONPATH": source}
    )


def same_scores(one: Entry, other: Entry) -> None:
    assert (one.trial, one.key) == (other.trial, other.key)
    for ours, theirs in ((one.validation, other.validation), (one.test, other.test)):
        assert ours is not None
        assert theirs is not None
        assert ours == theirs


# -- entries ----------------------------------------------------------------------------------------------------------


def test_every_trial_has_an_entry_and_nothing_else_is_left(done: Path, backbone: Backbone) -> None:
    ledger = ledger_of(done)
    entries = list(ledger.entries())
    assert len(entries) == NUM_TRIALS
    assert {identity(entry.trial) for entry in entries} == {identity(trial) for trial in all_trials(TINY)}
    assert list((ledger.folder / "claims").iterdir()) == []
    assert list((ledger.folder / UNDER_WAY).glob("*")) == []
    assert missing(keys_of(backbone, done), ledger) == {}


def test_an_entry_says_what_was_run_on_what(done: Path, backbone: Backbone) -> None:
    task = read("CoLA", done / "data", max_rows=24, max_test=10).task
    for entry in ledger_of(done).entries():
        assert entry.failure is None
        assert entry.data["train"] == 24
        assert entry.data["test"] == 10
        assert any("24 of 4" in note for note in entry.data["notes"])
        if entry.trial.task == "CoLA":
            assert entry.data["digest"] == task.digest
            assert entry.metrics.keys() >= {"accuracy", "matthews", "f1"}
            assert entry.test is not None
            assert entry.test.score == entry.metrics["matthews"]
            assert entry.test.rows == 10
        if entry.trial.has_backbone:
            assert (entry.epochs, entry.environment["dtype"]) == (2, "float32")
            assert entry.backbone["fingerprint"] == backbone.fingerprint
            assert entry.parameters["trained"] > 0
        else:
            assert entry.backbone == {"name": None, "fingerprint": ""}


def test_an_entry_is_run_again_from_its_recipe_alone(done: Path, backbone: Backbone) -> None:
    before = sorted(ledger_of(done).folder.rglob("*"))
    for entry in ledger_of(done).entries():
        other = rerun_entry(entry, str(done / "data"))
        same_scores(other, entry)
        assert (other.metrics, other.measured, other.parameters) == (entry.metrics, entry.measured, entry.parameters)
        if entry.trial.has_backbone:  # and by training as anyone does
            trial = entry.trial
            task = read(trial.task, done / "data", max_rows=trial.max_rows, max_test=trial.max_test).task
            _, result = train(backbone, task, Recipe.from_json(trial.recipe))
            assert (result.validation, result.test) == (entry.validation, entry.test)
    assert sorted(ledger_of(done).folder.rglob("*")) == before


def test_an_entry_is_not_run_again_on_other_rows(folder: Path, backbone: Backbone) -> None:
    edition = replace(TINY, plans=(Plan("table1", ("CoLA",), (ADAPTERS,), 1, 1, 1),))
    list(run_all(backbone, folder, edition))
    (entry,) = ledger_of(folder).entries()
    file = folder / "data" / "glue" / "CoLA" / "train.tsv"
    file.write_text(file.read_text().replace("great", "awful"))
    with pytest.raises(DataError, match=r"the rows of CoLA, or the weights of .* are not those"):
        rerun_entry(entry, str(folder / "data" / ".." / "data"))


def test_the_ablation_of_no_layer_is_the_adapter_and_of_all_its_norms_and_head(done: Path, backbone: Backbone) -> None:
    measured = [entry for entry in ledger_of(done).entries() if entry.trial.measures]
    assert len(measured) == 2
    for entry in measured:
        found = entry.measured["ablation"]
        assert found["metric"] == "accuracy"
        assert found["full"] == entry.metrics["accuracy"]
        assert [[value is None for value in row] for row in found["scores"]] == [[False, False], [True, False]]


def test_an_adapter_of_mnli_is_scored_on_mismatched_rows_too(folder: Path, backbone: Backbone) -> None:
    mnli(folder / "data" / "glue", "MNLI_sample")
    edition = replace(TINY, plans=(Plan("table1", ("MNLI-m",), (ADAPTERS,), 1, 1, 1),))
    list(run_all(backbone, folder, edition))
    (entry,) = ledger_of(folder).entries()
    mismatched = entry.also["MNLI-mm"]
    assert (mismatched.metric, mismatched.rows) == ("accuracy", 5)
    assert entry.data["is_sample"]
    assert entry.test is not None
    assert entry.test.rows == 3


def test_questions_are_answered_scored_and_drawn(folder: Path, backbone: Backbone) -> None:
    write_squad(folder / "data")
    plan = Plan("squad", ("squad",), (ADAPTERS, FULL), settings=1, seeds=2, least_units=2)
    edition = replace(TINY, plans=(plan,), span_length=48)
    list(run_all(backbone, folder, edition))
    entries = list(ledger_of(folder).entries())
    assert len(entries) == 4
    for entry in entries:
        assert (entry.trial.recipe["stride"], entry.trial.recipe["head_dropout"]) == (16, 0.0)
        assert entry.test is not None
        assert (entry.test.metric, entry.test.rows, entry.data["train"]) == ("span_f1", 10, 20)
        assert entry.metrics.keys() == {"span_f1", "exact_match"}
        assert entry.test.score == entry.metrics["span_f1"] >= entry.metrics["exact_match"]
        costs = Costs(backbone, str(folder / "data"))
        job = Job(
            backbone,
            read("squad", folder / "data", max_rows=24, max_test=10).task,
            Recipe.from_json(entry.trial.recipe),
        )
        assert costs.tokens(entry.trial) == 2 * sum(job.train.lengths), "every window is read in both epochs"
        assert costs.seconds(entry.trial) > 0
    squad = EXHIBITS["squad"]
    rows = squad.rows(runs_of(entries))
    drawn = dict(zip(rows.method, rows.score))
    for method, name in (("adapters", "houlsby"), ("full", "full")):
        own = [entry.metrics["span_f1"] for entry in entries if entry.trial.method["name"] == name]
        assert drawn[method] == pytest.approx(100 * sum(own) / 2)
    assert squad.draw is not None
    squad.draw(rows, folder / "squad.png")
    assert same_scores(rerun_entry(entries[0], str(folder / "data")), entries[0]) is None


# -- packs ------------------------------------------------------------------------------------------------------------


def test_private_copies_are_packed_alone_and_adapters_together(folder: Path, backbone: Backbone) -> None:
    own = list(packs(keys_of(backbone, folder), 3))
    assert sorted(key for pack in own for key in pack) == sorted(keys_of(backbone, folder))
    for pack in own:
        methods = {trial.method["name"] for trial in pack.values()}
        assert len(pack) == 1 if methods & {"full", "top"} else len(pack) <= 3
        assert len({trial.task for trial in pack.values()}) == 1
    assert max(len(pack) for pack in own) == 3


def test_running_again_runs_nothing(done: Path, backbone: Backbone) -> None:
    before = {path: path.read_bytes() for path in ledger_of(done).folder.glob("*.json")}
    assert list(run_all(backbone, done)) == []
    assert {path: path.read_bytes() for path in ledger_of(done).folder.glob("*.json")} == before


def test_an_entry_that_is_removed_is_run_again(folder: Path, backbone: Backbone) -> None:
    list(run_all(backbone, folder))
    ledger = ledger_of(folder)
    entry = next(ledger.entries())
    ledger.path(entry.key).unlink()
    assert [message["key"] for message in run_all(backbone, folder) if message["what"] == "entry"] == [entry.key]
    same_scores(ledger.read(entry.key), entry)


def test_a_diverged_trial_is_an_entry(folder: Path, backbone: Backbone) -> None:
    units = (replace(FULL, grid=(("lr", (1e30,)), *FULL.grid[1:])), ADAPTERS)
    edition = replace(TINY, plans=(Plan("table1", ("CoLA",), units, 1, 1, 2),))
    list(run_all(backbone, folder, edition))
    full, adapters = sorted(ledger_of(folder).entries(), key=lambda entry: entry.trial.method["name"])
    assert adapters.validation is None or adapters.failure is None
    diverged = next(entry for entry in (full, adapters) if entry.trial.method["name"] == "full")
    assert (diverged.validation, diverged.test) == (None, None)
    assert "Lower the learning rate" in (diverged.failure or "")
    assert missing(keys_of(backbone, folder, edition), ledger_of(folder)) == {}


def test_other_rows_than_those_asked_for_are_refused(folder: Path, backbone: Backbone) -> None:
    wanted = keys_of(backbone, folder)
    file = folder / "data" / "text17" / "sms_spam" / "train.csv"
    trials = {key: trial for key, trial in wanted.items() if trial.task == "sms_spam"}
    file.write_text(file.read_text().replace("great", "awful"))
    place = place_of(folder, data=str(folder / "data" / ".." / "data"))
    with pytest.raises(DataError, match=r"the rows of sms_spam, or the weights of .* are not those"):
        list(run(TINY, trials, place, local.run_packs))


def test_the_best_adapter_of_a_task_and_method_is_kept(done: Path, folder: Path, backbone: Backbone) -> None:
    ledger = ledger_of(done)
    best = best_adapters(ledger, ("CoLA", "sms_spam"))
    assert best.keys() == {"CoLA", "sms_spam"}
    assert {path.stem for path in (ledger.folder / "adapters").iterdir()} == {entry.key for entry in best.values()}
    for task, entry in best.items():
        scores = [
            other.validation.score
            for other in ledger.entries()
            if other.validation and other.trial.task == task and other.trial.method["name"] == "houlsby"
        ]
        assert entry.validation is not None
        assert entry.validation.score == max(scores)
        adapter = Adapter.load(adapter_path(ledger.folder, entry.key))
        assert adapter.header.recipe == entry.trial.recipe
        alone, _ = train(
            backbone, read(task, done / "data", max_rows=24, max_test=10).task, Recipe.from_json(entry.trial.recipe)
        )
        for name, tensor in alone.tensors.items():
            torch.testing.assert_close(adapter.tensors[name], tensor, rtol=1e-4, atol=1e-5)
    list(run_all(backbone, folder, replace(TINY, plans=TINY.plans[:1]), adapters="none"))
    assert not (ledger_of(folder).folder / "adapters").exists()


# -- killed, doubled --------------------------------------------------------------------------------------------------


def test_a_killed_run_loses_at_most_what_was_running(done: Path, folder: Path, backbone: Backbone) -> None:
    ledger = ledger_of(folder)
    started: list[str] = []
    for _ in range(2):
        child = process(folder)
        assert child.stdout is not None
        before = len(list(ledger.folder.glob("*.json")))
        while len(list(ledger.folder.glob("*.json"))) <= before and child.poll() is None:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        started += child.stdout.read().split()
        child.stdout.close()
    whole = {path.stem for path in ledger.folder.glob("*.json")}
    assert 2 <= len(whole) < NUM_TRIALS
    for key in whole:
        ledger.read(key)
    again = [message for message in run_all(backbone, folder) if message["what"] == "entry"]
    assert {message["key"] for message in again} == keys_of(backbone, folder).keys() - whole
    assert sum(Counter(started).values()) <= len(whole) + 2 * 3  # a pack is three trials
    for entry in ledger_of(done).entries():
        other = next(other for other in ledger.entries() if identity(other.trial) == identity(entry.trial))
        assert (entry.validation, entry.test) == (other.validation, other.test)


def test_two_processes_at_once_share_the_trials_and_run_none_twice(folder: Path) -> None:
    children = [process(folder) for _ in range(2)]
    started = [child.communicate()[0].split() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    every = Counter(key for keys in started for key in keys)
    assert set(every.values()) == {1}
    assert len(every) == NUM_TRIALS == len(list(ledger_of(folder).entries()))


def test_what_another_process_has_is_left_to_it(folder: Path, backbone: Backbone) -> None:
    trials = keys_of(backbone, folder, replace(TINY, plans=TINY.plans[:1]))
    ledger, (theirs, *_) = ledger_of(folder), trials
    claims = KeyLocks(ledger.folder / "claims")
    assert claims.acquire(theirs)
    messages = list(run(TINY, trials, place_of(folder), local.run_packs))
    assert [message["keys"] for message in messages if message["what"] == "elsewhere"] == [[theirs]]
    assert missing(trials, ledger).keys() == {theirs}
    claims.release_all()
    list(run(TINY, trials, place_of(folder), local.run_packs))
    assert missing(trials, ledger) == {}


def interrupted_after(messages: Iterator[dict[str, Any]], num_steps: int) -> list[dict[str, Any]]:
    """Ctrl-C after so many told steps."""
    seen: list[dict[str, Any]] = []

    def follow() -> None:
        for message in messages:
            seen.append(message)
            if sum(other["what"] == "step" for other in seen) == num_steps:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        follow()
    return seen


def test_after_an_interrupt_a_trial_goes_on_at_the_step_it_was_at(
    done: Path, folder: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polytask.launch.throttle.INTERVAL_S", 0.0)
    edition = replace(TINY, plans=(Plan("table1", ("CoLA",), (ADAPTERS,), 2, 2, 1),))
    ledger = ledger_of(folder)
    first = interrupted_after(run_all(backbone, folder, edition, jobs=4), 13)
    checkpoints = list((ledger.folder / UNDER_WAY).glob("*.ckpt"))
    assert len(checkpoints) == 4
    second = list(run_all(backbone, folder, edition, jobs=3))  # other packs, the same trials
    steps = Counter((message["key"], message["step"]) for message in [*first, *second] if message["what"] == "step")
    assert set(steps.values()) == {1}
    assert list((ledger.folder / UNDER_WAY).glob("*.ckpt")) == []
    for entry in ledger.entries():
        other = ledger_of(done).read(next(e.key for e in ledger_of(done).entries() if e.trial == entry.trial))
        assert (entry.validation, entry.test) == (other.validation, other.test)


def test_a_checkpoint_that_cannot_be_read_starts_its_trial_over(folder: Path, backbone: Backbone) -> None:
    edition = replace(TINY, plans=(Plan("table1", ("CoLA",), (ADAPTERS,), 1, 1, 1),))
    (key,) = keys_of(backbone, folder, edition)
    ledger = ledger_of(folder)
    (ledger.folder / UNDER_WAY).mkdir(parents=True)
    (ledger.folder / UNDER_WAY / f"{key}.ckpt").write_bytes(b"no checkpoint")
    messages = list(run_all(backbone, folder, edition))
    assert ["starts over" in message["text"] for message in messages if message["what"] == "note"] == [True]
    assert key in ledger


# -- elsewhere --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "launch",
    [
        pytest.param(partial(local.run_packs, devices=("cpu", "cpu")), id="processes"),
        pytest.param(partial(on_ray.run_packs, cpus=1, num_cpus=1), id="ray", marks=if_ray_is_asked),
    ],
)
def test_every_launcher_gives_the_same_entries(launch: Any, done: Path, folder: Path, backbone: Backbone) -> None:
    edition = replace(TINY, plans=TINY.plans[:1])
    messages = list(run(edition, keys_of(backbone, folder, edition), place_of(folder), launch))
    ledger = ledger_of(folder)
    assert sum(message["what"] == "entry" for message in messages) == 8 == len(list(ledger.entries()))
    for entry in ledger.entries():
        same_scores(entry, ledger_of(done).read(entry.key))


# -- what it costs ----------------------------------------------------------------------------------------------------


def test_a_budget_cuts_alike_for_all_methods_and_as_little_as_it_must(folder: Path, backbone: Backbone) -> None:
    units = (replace(ADAPTERS, grid=(("size", (64, 2)), ("lr", (1e-2, 3e-3, 1e-3)), *ADAPTERS.grid[2:])), TOP)
    edition = Edition("e", (Plan("table2", ("CoLA", "sms_spam"), units, 4, 3, 2),), max_rows=24).on(2)
    seconds = {identity(trial): 10.0 if trial.task == "CoLA" else 1.0 for trial in all_trials(edition)}
    whole = sum(seconds.values())

    def of(one: Edition) -> float:
        return sum(seconds[identity(trial)] for trial in all_trials(one))

    assert fitted(edition, seconds, whole) is edition
    for share in (0.99, 0.6, 0.3, 0.2, 0.05):
        small = fitted(edition, seconds, share * whole)
        assert of(small) <= share * whole
        by_method = Counter((t.task, t.method["name"]) for t in trials(small, "table2"))
        assert len(set(by_method.values())) == 1
    assert fitted(edition, seconds, 0.7 * whole).plans[0].seeds == 2
    assert fitted(edition, seconds, 0.05 * whole).plans[0].tasks == ("sms_spam",)
    last = fitted(edition, seconds, 0.0)
    assert len(all_trials(last)) == 4
    assert fitted(edition, {}, 0.0) is edition  # all of it is there already


def test_tokens_are_those_that_training_takes(folder: Path, backbone: Backbone) -> None:
    costs = Costs(backbone, str(folder / "data"))
    for trial in all_trials(TINY):
        if not trial.has_backbone:
            assert costs.tokens(trial) == 0
            continue
        task = read(trial.task, folder / "data", max_rows=trial.max_rows, max_test=trial.max_test).task
        told: list[Step] = []
        train(
            backbone,
            task,
            Recipe.from_json(trial.recipe),
            progress=lambda event, told=told: told.append(event) if isinstance(event, Step) else None,  # type: ignore[misc]
        )
        assert costs.tokens(trial) == told[-1].tokens
        assert 0 < costs.training_seconds(trial) < costs.seconds(trial), "an entry records no seconds of the test"


def test_timing_trains_nothing(folder: Path, backbone: Backbone) -> None:
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    for trial in all_trials(TINY):
        Costs(backbone, str(folder / "data")).seconds(trial)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.model.state_dict().items())
    assert not (folder / "results").exists()


def test_a_step_beside_another_process_does_not_change_a_plan(
    folder: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five timed steps one takes a thousand times as long: the clock stands still but in steps and answers."""
    trial = next(trial for trial in all_trials(TINY) if trial.method["name"] == "houlsby")

    def planned(*slow: int) -> float:
        clock, count = [0.0], itertools.count()

        def stepped(*given: Any) -> Any:
            clock[0] += 1000.0 if next(count) in slow else 1.0
            return step(*given)

        def answered(*given: Any) -> Any:
            clock[0] += 1.0
            return scores_of(*given)

        monkeypatch.setattr(step_times, "step", stepped)
        monkeypatch.setattr(step_times, "scores_of", answered)
        monkeypatch.setattr(step_times.time, "perf_counter", lambda: clock[0])
        return Costs(backbone, str(folder / "data")).seconds(trial)

    usual = planned()
    assert planned(2) < 1.5 * usual
    assert planned(*range(1, 6)) > 100 * usual
