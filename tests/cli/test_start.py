"""``train --start``, ``multitask`` and ``merge``: what they store, what they say and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from polytask.adapters.store import Store
from polytask.cli.card import facts
from tests.cli.test_cli import ROWS, averaging, polytask, refused, succeeded, table

QUICK = ("--size", 2, "--batch-size", 8, "--epochs", 1, "--dtype", "float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_bert_folder: Path) -> Path:
    """Rows of three tasks, a backbone, and a store with first@1."""
    folder = tmp_path_factory.mktemp("start")
    averaging(Path(shutil.copytree(tiny_bert_folder, folder / "backbone")))
    table(folder / "first.csv", ROWS * 4)
    table(folder / "second.csv", ROWS * 3)
    table(folder / "other.csv", [(text, {"good": "yes", "bad": "no"}[label]) for text, label in ROWS * 4])
    succeeded("train", folder / "first.csv", *shared(folder))
    return folder


def shared(folder: Path) -> tuple[object, ...]:
    return ("--backbone", folder / "backbone", "--store", folder / "store", *QUICK)


def test_train_starts_from_an_adapter_and_its_card_says_so(folder: Path) -> None:
    printed = json.loads(succeeded("train", folder / "other.csv", *shared(folder), "--start", "first", "--json"))
    assert [parent["name"] for parent in printed["start"]["adapters"]] == ["first@1"]
    entry = Store(folder / "store").entry("other")
    assert ("started from", "first@1, with a fresh head") in facts(entry)


def test_several_files_start_from_one_adapter(folder: Path) -> None:
    files = (folder / "second.csv", folder / "other.csv")
    lines = succeeded("train", *files, *shared(folder), "--start", "first@1", "--json").splitlines()
    assert [json.loads(line)["start"]["head"] for line in lines] == ["taken", "fresh"]


def test_auto_says_what_it_chose_and_the_cost(folder: Path) -> None:
    result = polytask("train", folder / "other.csv", *shared(folder), "--start", "auto", "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert {"first@1", "random weights"} <= {trial["name"] for trial in printed["start_trial"]["trials"]}
    assert "it starts from " in result.stderr
    assert f"The trial took {printed['start_trial']['steps']} steps" in " ".join(result.stderr.split())


def test_a_sweep_starts_from_an_adapter(folder: Path) -> None:
    options = shared(folder)
    more = ("--lr", "0.01,0.02", "--seeds", 1, "--results", folder / "swept", "--start", "first", "--json")
    assert json.loads(succeeded("sweep", folder / "other.csv", *options, *more))["best"]["start"]["head"] == "fresh"
    assert "auto is for one recipe" in refused("sweep", folder / "other.csv", *options, "--start", "auto")


def test_a_start_that_does_not_fit_is_one_line(folder: Path) -> None:
    train = ("train", folder / "other.csv", *shared(folder), "--start")
    assert "no adapter called 'frist'" in refused(*train, "frist")
    assert "first@1 cannot be the start, because it has size 2, not 3" in refused(*train, "first", "--size", 3)
    assert "Leave out the other --start" in refused(*train, "auto", "--start", "first")


def test_multitask_stores_an_adapter_for_each_task(folder: Path) -> None:
    files = (folder / "second.csv", folder / "other.csv")
    first, second = map(json.loads, succeeded("multitask", *files, *shared(folder), "--json").splitlines())
    assert (first["task"], second["task"]) == ("second", "other")
    entry = Store(folder / "store").entry(f"other@{second['adapter']['version']}")
    assert ("trained together", "second, other") in facts(entry)
    assert "needs several files" in refused("multitask", folder / "first.csv", *shared(folder))
    assert "applies to one task" in refused("multitask", *files, *shared(folder), "--task", "x")
    assert "auto chooses for one task" in refused("multitask", *files, *shared(folder), "--start", "auto")


def test_merge_averages_adapters_or_says_why_not(folder: Path) -> None:
    store = Store(folder / "store")
    succeeded("train", folder / "first.csv", *shared(folder), "--seed", 1)
    merge, where = ("merge", "first@1", "first@2", "--into", "both"), ("--store", folder / "store")
    printed = json.loads(succeeded(*merge, "--weights", "3,1", *where, "--json"))
    assert [parent["weight"] for parent in printed["adapters"]] == [0.75, 0.25]
    a, b, both = (store.get(name).tensors["head.bias"] for name in ("first@1", "first@2", "both"))
    assert both.tolist() == pytest.approx((0.75 * a + 0.25 * b).tolist())
    assert "both@2 is the average of first@1 (0.5) and first@2 (0.5)" in " ".join(succeeded(*merge, *where).split())
    succeeded("train", folder / "other.csv", *shared(folder))
    unlike = ("merge", "first", "other", "--into", "c")
    assert "Name the head to keep" in refused(*unlike, *where)
    assert json.loads(succeeded(*unlike, "--head", "other", *where, "--json"))["head"].startswith("other@")
    assert "at least two" in refused("merge", "first", "--into", "c", *where)
    assert "one for each" in refused(*merge, "--weights", "1", *where)
