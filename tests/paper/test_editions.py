"""Editions are fair by construction: whatever is cut, every method that is compared has as many trials."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from polytask.errors import RecipeError, UnknownName
from polytask.paper.budget import cut_in_words, cuts, without_task
from polytask.paper.edition import Edition, all_trials, identity, in_parts, of_exhibit, trials
from polytask.paper.editions import EDITIONS, EXHIBITS, edition_named
from polytask.paper.ledger import Entry, Trial
from polytask.training.recipe import Recipe


def unit_of(exhibit: str, trial: Trial) -> tuple[object, ...]:
    """What a trial is a trial of: the method of a table, the point of a figure."""
    method = trial.method
    if exhibit in ("tradeoff", "squad"):
        return (method["name"], method.get("size"), method.get("n"))
    return (method["name"], method.get("activation") if exhibit == "extensions" else None)


def counts(edition: Edition, exhibit: str) -> set[int]:
    """The numbers of trials that any unit has on any task."""
    return set(Counter((trial.task, unit_of(exhibit, trial)) for trial in trials(edition, exhibit)).values())


def sets_of(trial: Trial) -> Recipe:
    return Recipe.from_json(trial.recipe)


@pytest.mark.parametrize("layers", [2, 6, 12, 24])
@pytest.mark.parametrize(("name", "exhibit"), [(e.name, plan.exhibit) for e in EDITIONS.values() for plan in e.plans])
def test_every_method_of_an_exhibit_has_as_many_trials(exhibit: str, name: str, layers: int) -> None:
    edition = EDITIONS[name].restricted(tasks=["CoLA", "MNLI-m", "sms_spam", "squad"]).on(layers)
    assert len(counts(edition, exhibit)) == 1
    for smaller in list(cuts(edition))[::3]:
        assert len(counts(smaller, exhibit)) == 1
    own = list(trials(edition, exhibit))
    assert len(own) == len({identity(trial) for trial in own})


@pytest.mark.parametrize("name", EDITIONS)
def test_every_trial_is_a_whole_recipe_with_nothing_left_to_choose(name: str) -> None:
    for trial in all_trials(EDITIONS[name].restricted(tasks=["CoLA", "sms_spam", "squad"])):
        if trial.has_backbone:
            recipe = sets_of(trial)
            assert recipe.to_json() == trial.recipe == json.loads(json.dumps(trial.recipe))
            assert recipe.lr is not None
            assert recipe.epochs is not None
            assert not recipe.bias_correction


def values(edition: str, exhibit: str, method: str, *names: str) -> set[tuple[object, ...]]:
    own = [{**t.method, **t.recipe} for t in trials(EDITIONS[edition], exhibit) if t.method["name"] == method]
    return {tuple(trial.get(name) for name in names) for trial in own}


def test_the_papers_grids_are_as_printed() -> None:
    rates, sizes, epochs = (3e-5, 3e-4, 3e-3), (8, 64, 256), (3, 20)
    glue = values("paper", "table1", "houlsby", "lr", "size", "epochs")
    assert glue == {(lr, size, number) for lr in rates for size in sizes for number in epochs}
    text = values("paper", "table2", "houlsby", "lr", "size", "epochs")
    rates, sizes = (1e-5, 3e-5, 1e-4, 3e-3), (2, 4, 8, 16, 32, 64)  # type: ignore[assignment]
    assert text == {(lr, size, number) for lr in rates for size in sizes for number in (20, 50, 100)}
    assert values("paper", "table2", "top", "n") == {(n,) for n in (1, 2, 3, 5, 7, 9, 11, 12)}
    assert values("paper", "tradeoff", "houlsby", "size") == {(2**power,) for power in range(10)}
    squad = values("paper", "squad", "houlsby", "lr", "epochs")
    assert squad == {(lr, number) for lr in (3e-5, 1e-4, 3e-4, 1e-3) for number in (3, 10, 20)}
    assert values("paper", "squad", "full", "lr", "epochs") >= {(lr, n) for lr in (3e-5, 5e-5, 1e-4) for n in (2, 3, 5)}
    assert values("paper", "init", "houlsby", "init_std") == {(10.0**power,) for power in range(-7, 1)}
    assert {seed for (seed,) in values("paper", "table1", "full", "seed")} == set(range(5))
    robust = {rate for (rate,) in values("paper", "lr", "full", "lr")}
    assert (min(robust), max(robust)) == (2e-5, 1e-3)
    assert values("paper", "lr", "houlsby", "lr", "seed") == values("paper", "lr", "full", "lr", "seed")


def test_the_small_edition_keeps_its_caps_and_says_them() -> None:
    cpu = edition_named("cpu")
    for trial in all_trials(cpu):
        assert trial.max_rows == 2500
        if trial.has_backbone:
            is_small = trial.task.startswith("crowdflower_progressive")
            assert (trial.recipe["max_length"], trial.recipe["batch_size"]) == (128, 32)
            assert trial.recipe["epochs"] == (8 if is_small else 3)
    assert {n for (n,) in values("cpu", "table2", "top", "n")} == {1, 3}
    said = "; ".join(cpu.caps())
    for words in (
        "2,500 training rows",
        "500 validation rows",
        "2,000 test rows",
        "128 tokens",
        "3 epochs",
        "8 epochs of tasks of fewer than 1,000 rows",
        "1 to 3 seeds",
    ):
        assert words in said


def test_a_shallow_backbone_has_no_more_top_layers_than_layers() -> None:
    edition = EDITIONS["paper"].on(2)
    assert {trial.method["n"] for trial in all_trials(edition) if trial.method["name"] == "top"} == {1, 2}


def test_exhibits_that_ask_for_the_same_trial_share_it() -> None:
    cpu = edition_named("cpu")
    asked = [identity(trial) for plan in cpu.plans for trial in trials(cpu, plan.exhibit)]
    run = [identity(trial) for trial in all_trials(cpu)]
    assert len(run) == len(set(run)) == len(set(asked)) < len(asked)
    table1 = {identity(trial) for trial in trials(cpu, "table1")}
    assert {identity(trial) for trial in trials(cpu, "ablation")} <= table1
    assert all(trial.measures == ("ablation",) for trial in trials(cpu, "ablation"))


def test_what_another_exhibit_asked_for_is_none_of_this_one() -> None:
    cpu = edition_named("cpu")
    entries = [Entry(trial, "", {}, {}) for trial in all_trials(cpu)]
    own = of_exhibit(entries, cpu, "table1")
    assert {identity(entry.trial) for entry in own} == {identity(trial) for trial in trials(cpu, "table1")}
    assert len(own) == len(list(trials(cpu, "table1"))) < len(entries)


def test_keys_depend_on_what_is_run_and_not_on_the_edition() -> None:
    (trial, *_) = trials(edition_named("cpu").restricted(tasks=["CoLA"]), "table1")
    key = trial.key("backbone", "data")
    assert key == replace(trial, edition="another").key("backbone", "data")
    others = [replace(trial, max_rows=9), replace(trial, max_test=9), replace(trial, measures=())]
    others += [replace(trial, recipe={**trial.recipe, "seed": 9})]
    keys = {other.key("backbone", "data") for other in others} | {trial.key("b", "data"), trial.key("backbone", "d")}
    assert len(keys | {key}) == 7
    fixed = Trial("cpu", "glue", "CoLA", {"method": {"name": "houlsby", "size": 64}, "lr": 1e-3, "seed": 0}, 2500)
    assert fixed.key("backbone", "data") == "8dc2c704e444a2d9"


def test_cuts_shrink_without_end_and_are_told() -> None:
    edition = edition_named("cpu")
    sizes = [len(all_trials(smaller)) for smaller in cuts(edition)]
    assert sizes == sorted(sizes, reverse=True)
    last = list(cuts(edition))[-1]
    assert {plan.seeds for plan in last.plans} == {1}
    assert {plan.num_settings for plan in last.plans} == {2}
    kept = {identity(replace(trial, measures=())) for trial in all_trials(edition)}
    assert {identity(replace(trial, measures=())) for trial in all_trials(last)} <= kept
    said = cut_in_words(edition, without_task(without_task(last, "squad"), "RTE"))
    assert "table1: 1 of 2 seeds; 2 of 4 settings; without RTE" in said
    assert "squad: left out" in said
    assert cut_in_words(edition, edition) == []


def test_restricting_keeps_what_is_named() -> None:
    some = edition_named("cpu").restricted(["table1", "lr"], ["RTE", "CoLA", "WNLI"])
    assert [(plan.exhibit, plan.tasks) for plan in some.plans] == [
        ("table1", ("RTE", "CoLA", "WNLI")),
        ("lr", ("CoLA",)),
    ]
    with pytest.raises(UnknownName, match=r"no exhibit called 'tabel1'.*Did you mean 'table1'"):
        edition_named("cpu").restricted(["tabel1"])
    with pytest.raises(UnknownName, match="no task of the paper called 'Cola'"):
        edition_named("cpu").restricted(tasks=["Cola"])
    with pytest.raises(RecipeError, match="none of these exhibits has any of the tasks sms_spam"):
        edition_named("cpu").restricted(["table1"], ["sms_spam"])


def test_other_caps_make_another_edition() -> None:
    small = edition_named("cpu").limited(max_rows=200, epochs=1, seeds=1)
    assert small.name == "cpu-200rows-1epochs-1seeds"
    assert {t.recipe["epochs"] for t in all_trials(small) if t.has_backbone} == {1}
    assert {(t.max_rows, t.max_validation, t.max_test, t.seed) for t in all_trials(small)} == {(200, 200, 200, 0)}
    large = edition_named("cpu").limited(max_rows=5000)
    assert (large.max_rows, large.max_validation, large.max_test) == (5000, 500, 2000)
    for exhibit in EXHIBITS:
        assert len(counts(small, exhibit)) == 1


@pytest.mark.parametrize("name", EDITIONS)
def test_an_edition_is_data(name: str) -> None:
    edition = EDITIONS[name].on(6)
    assert Edition.from_json(json.loads(json.dumps(edition.to_json()))) == edition


def test_the_extensions_are_those_that_the_methods_offer() -> None:
    assert {(t.method["name"], t.method["activation"]) for t in trials(EDITIONS["paper"], "extensions")} == {
        ("houlsby", "gelu_tanh"),
        ("houlsby", "tanh"),
        ("parallel", "relu"),
    }


def test_the_claims_parts_are_each_a_result_and_together_the_whole() -> None:
    claim = edition_named("claim")
    parts = in_parts(claim)
    assert list(parts) == ["first", "methods", "seeds", "squad", "figures"]
    every = [identity(trial) for own in parts.values() for trial in own]
    assert len(every) == len(set(every))
    assert set(every) == {identity(trial) for trial in all_trials(claim)}
    first = parts["first"]
    assert {(t.method["name"], t.method.get("size"), t.seed) for t in first} == {("houlsby", 64, 0), ("full", None, 0)}
    per_task = Counter((t.task, t.method["name"]) for t in first)
    assert set(per_task.values()) == {2}
    assert len(per_task) == 2 * (8 + 17)
    assert {t.method["name"] for t in parts["methods"]} == {"layernorm", "top", "tfidf"}
    assert {t.task for t in parts["squad"]} == {"squad"}


def test_tasks_of_few_rows_are_run_with_more_seeds() -> None:
    claim = edition_named("claim")
    seeds = {task: {t.seed for t in all_trials(claim.restricted(["table1"], [task]))} for task in ("RTE", "CoLA")}
    assert seeds == {"RTE": {0, 1, 2}, "CoLA": {0, 1}}
    assert {t.seed for t in all_trials(next(cuts(claim)))} == {0, 1}
    assert {t.seed for t in all_trials(claim.limited(seeds=1))} == {0}


def test_an_edition_without_parts_is_written_as_before() -> None:
    values = edition_named("cpu").to_json()
    assert "parts" not in values
    assert all("small_tasks" not in plan for plan in values["plans"])
