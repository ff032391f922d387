"""Verbs about adapters and stores: eval, compare, show, verify, gc, alias; dry runs, resuming and columns of train."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from polytask.adapters.store import TRAINING, Store
from polytask.cli.card import facts, markdown
from polytask.methods import Houlsby
from tests.cli.test_cli import ROWS, SOURCE, averaging, polytask, refused, succeeded, table
from tests.samples import created

QUICK = ("--method", "layernorm", "--lr", 0.01, "--batch-size", 8, "--dtype", "float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("knowing")


@pytest.fixture(scope="module")
def backbone(folder: Path, tiny_bert_folder: Path) -> Path:
    return averaging(Path(shutil.copytree(tiny_bert_folder, folder / "backbone")))


@pytest.fixture(scope="module")
def reviews(folder: Path) -> Path:
    return table(folder / "reviews.csv", ROWS * 4)


@pytest.fixture(scope="module")
def test_rows(folder: Path) -> Path:
    return table(folder / "test.csv", ROWS * 2)


@pytest.fixture(scope="module")
def store(folder: Path, backbone: Path, reviews: Path, test_rows: Path) -> Path:
    """mood@1 has learnt next to nothing, mood@2 everything; stars is a regression."""
    shared = ("--backbone", backbone, "--store", folder / "store", *QUICK)
    for epochs, lr in ((1, 1e-6), (20, 0.03)):
        train = ("train", reviews, "--task", "mood", "--test", test_rows)
        succeeded(*train, *shared, "--epochs", epochs, "--lr", lr)
    stars = table(folder / "stars.csv", [(text, f"{1.5 + (label == 'good')}") for text, label in ROWS * 2])
    succeeded("train", stars, *shared, "--epochs", 1, "--kind", "regression")
    return folder / "store"


# -- eval -------------------------------------------------------------------------------------------------------------


def test_eval_prints_scores_per_label_and_the_confusion_matrix(store: Path, test_rows: Path) -> None:
    printed = json.loads(succeeded("eval", test_rows, "--task", "mood@1", "--store", store, "--json"))
    low, high = printed["interval"]
    assert low <= printed["score"] <= high
    assert [label["label"] for label in printed["classes"]] == ["bad", "good"]
    assert [sum(row) for row in printed["confusion"]] == [label["rows"] for label in printed["classes"]] == [12, 12]
    shown = succeeded("eval", test_rows, "--task", "mood@2", "--store", store)
    for words in ("precision", "recall", "true label, by answer:", " to ", "majority class of the training rows"):
        assert words in shown


def test_eval_draws_the_confusion(store: Path, test_rows: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    drawn = tmp_path / "confusion.png"
    shown = succeeded("eval", test_rows, "--task", "mood", "--store", store, "--confusion", drawn)
    assert "confusion.png" in shown.replace("\n", "")
    assert drawn.read_bytes().startswith(b"\x89PNG")
    asked = ("--task", "mood", "--store", store, "--confusion")
    assert "End its name in .png" in refused("eval", test_rows, *asked, tmp_path / "confusion.doc")


def test_eval_of_a_regression_has_no_labels(store: Path, folder: Path) -> None:
    stars = ("eval", folder / "stars.csv", "--task", "stars", "--store", store)
    printed = json.loads(succeeded(*stars, "--json"))
    assert (printed["classes"], printed["confusion"]) == (None, None)
    assert "a regression task has no confusion matrix" in refused(*stars, "--confusion", "c.png")


# -- compare ----------------------------------------------------------------------------------------------------------


def test_compare_says_that_a_clear_difference_is_more_than_chance(store: Path, test_rows: Path) -> None:
    shown = succeeded("compare", "mood@1", "mood@2", test_rows, "--store", store)
    assert "mood@2 is better than mood@1 by 0." in shown
    assert "That is more than chance" in shown
    printed = json.loads(succeeded("compare", "mood@2", "mood@1", test_rows, "--store", store, "--json"))
    assert printed["is_more_than_chance"] is True
    assert printed["p_value"] < 0.05
    assert printed["difference"] == pytest.approx(printed["b"]["score"] - printed["a"]["score"])
    assert printed["interval"][1] < 0
    assert (printed["a"]["adapter"], printed["rows"], printed["metric"]) == ("mood@2", 24, "accuracy")


def test_compare_says_that_equal_answers_are_equal(store: Path, test_rows: Path, tmp_path: Path) -> None:
    twice = Store(shutil.copytree(store, tmp_path / "twice"))
    copy = twice.put(twice.get("mood@2"))
    compared = ("compare", "mood@2", copy, test_rows, "--store", tmp_path / "twice")
    assert "same answer to each of 24" in succeeded(*compared)


def test_compare_says_that_a_few_rows_are_not_enough(store: Path, tmp_path: Path) -> None:
    few = table(tmp_path / "few.csv", [("good film", "good"), ("bad film", "bad"), ("it is bad", "bad")])
    printed = succeeded("compare", "mood@1", "mood@2", few, "--store", store)
    assert "not more than chance" in printed or "same answer" in printed


def test_compare_refuses_other_labels_and_kinds(store: Path, test_rows: Path, backbone: Path, tmp_path: Path) -> None:
    assert "a regression task" in refused("compare", "mood", "stars", test_rows, "--store", store)
    other = Path(shutil.copytree(store, tmp_path / "other"))
    rows = table(tmp_path / "rows.csv", [("good film", "good"), ("bad film", "ugly")] * 5)
    succeeded("train", rows, "--task", "looks", "--backbone", backbone, "--store", other, "--epochs", 1, *QUICK)
    line = refused("compare", "mood", "looks", test_rows, "--store", other)
    assert "Only one of them has 'bad', 'ugly'" in line


# -- show -------------------------------------------------------------------------------------------------------------


def test_show_prints_origin_and_scores(store: Path) -> None:
    shown = succeeded("show", "mood", "--store", store)
    entry = Store(store).entry("mood")
    result = entry.header.result
    low, high = result["test"]["interval"]
    assert f"accuracy {result['test']['score']:.4f} ({low:.4f} to {high:.4f}) on 24 rows" in shown
    squeezed = "".join(shown.split()).replace("│", "")
    for fact in (result["data_digest"], entry.digest, entry.header.backbone.fingerprint):
        assert fact in squeezed
    for words in ("layernorm", "epochs 20", "torch 2", "bert, 2 layers of width 32", "training rows"):
        assert words in " ".join(shown.split())
    printed = json.loads(succeeded("show", "mood@1", "--store", store, "--json"))
    assert (printed["task"], printed["version"]) == ("mood", 1)
    assert printed["result"]["label_counts"].keys() == {"bad", "good"}
    assert printed["recipe"]["epochs"] == 1


def test_a_card_is_yaml_and_markdown_without_the_folders_of_this_machine(store: Path, backbone: Path) -> None:
    card = succeeded("show", "mood@2", "--store", store, "--card")
    _, front, body = card.split("---\n", 2)
    given = dict(line.split(": ", 1) for line in front.splitlines())
    assert json.loads(given["tags"]) == ["polytask", "adapter", "layernorm"]
    assert json.loads(given["pipeline_tag"]) == "text-classification"
    assert "base_model" not in given
    assert str(backbone.parent) not in card
    assert "# mood@2" in body
    assert "| good |" in body
    assert "--card prints Markdown and --json prints JSON" in refused("show", "mood", "--card", "--json")


def test_a_card_is_made_of_any_sound_header(tmp_path: Path) -> None:
    odd = {"validation": 3, "test": {"score": "high"}, "train": [1], "label_counts": {"ham": "x"}, "environment": None}
    for result in ({}, odd):
        made = created(labels=["a | b", "<b>bold\n# no"], result=result)
        entry = Store(tmp_path / str(len(result))).put(made)
        assert dict(facts(entry))["digest"] == entry.digest
        card = markdown(entry)
        assert r"| a \| b |  |" in card
        assert "<b>" not in card
        assert "\n# no" not in card


def test_a_card_says_what_adapters_in_the_top_layers_cost(tmp_path: Path) -> None:
    method = Houlsby(size=2, layers=1)
    own = dict(facts(Store(tmp_path).put(created(method))))
    assert own["layers with adapters"] == "1 of 2: faster to train, usually less accurate than all"
    assert "layers with adapters" not in dict(facts(Store(tmp_path).put(created(Houlsby(size=2)))))


# -- verify, gc, alias ------------------------------------------------------------------------------------------------


def test_verify_exits_with_2_on_damage_only(store: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(store, tmp_path / "own"))
    assert "3 adapters" in succeeded("verify", "--store", own)
    assert json.loads(succeeded("verify", "--store", own, "--json")) == []
    file = own / "mood" / "1.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    result = polytask("verify", "--store", own, "--json")
    assert result.exit_code == 2
    (problem,) = json.loads(result.stdout)
    assert problem["path"] == str(file)
    assert "digest" in problem["problem"]
    assert "1.safetensors" in polytask("verify", "--store", own).stdout


def test_verify_reports_adapters_of_another_backbone(store: Path, folder_of: Any) -> None:
    result = polytask("verify", "--store", store, "--backbone", folder_of("distilbert"))
    assert result.exit_code == 2
    assert result.stdout.count("was trained on") == 3


def test_gc_removes_what_killed_writers_left_checkpoints_parts_included(store: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(store, tmp_path / "own"))
    (own / TRAINING).mkdir()
    kept = own / TRAINING / "mood.ckpt"
    parts = [own / "mood" / ".0123.part", own / TRAINING / ".mood.ckpt.abc.part"]
    for path in (kept, *parts):
        path.write_bytes(b"half")
    assert "nothing to remove" in succeeded("gc", "--store", own)
    printed = json.loads(succeeded("gc", "--store", own, "--older-than", 0, "--json"))
    assert sorted(printed["removed"]) == sorted(map(str, parts))
    assert kept.exists()
    assert json.loads(succeeded("verify", "--store", own, "--json")) == []
    assert len(json.loads(succeeded("tasks", "--store", own, "--json"))) == 3


def test_an_alias_points_to_a_version_until_it_is_forgotten(store: Path, test_rows: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(store, tmp_path / "own"))
    assert "mood@prod now means mood@1" in succeeded("alias", "mood@1", "prod", "--store", own)
    assert json.loads(succeeded("show", "mood@prod", "--store", own, "--json"))["version"] == 1
    moved = json.loads(succeeded("alias", "mood@best", "prod", "--store", own, "--json"))
    assert moved == {"task": "mood", "alias": "prod", "version": 2}
    succeeded("alias", "mood@prod", "--forget", "--store", own)
    assert "no version of 'mood' called 'prod'" in refused("show", "mood@prod", "--store", own)
    assert "cannot be an alias" in refused("alias", "mood@1", "best", "--store", own)
    assert "give a version and its alias" in refused("alias", "mood@1", "--store", own)


# -- train ------------------------------------------------------------------------------------------------------------


def test_a_dry_run_estimates_the_cost_and_writes_nothing(reviews: Path, backbone: Path, tmp_path: Path) -> None:
    asked = ("train", reviews, "--task", "mood", "--backbone", backbone, "--store", tmp_path / "s", *QUICK, "--dry-run")
    printed = json.loads(succeeded(*asked, "--epochs", 3, "--json"))
    assert (printed["task"], printed["epochs"], printed["steps"]) == ("mood", 3, 3 * -(-printed["rows"] // 8))
    assert printed["memory_bytes"]["total"] > printed["memory_bytes"]["backbone"]
    shown = succeeded(*asked)
    for words in ("nothing was trained", "10 epochs", "free now", "% of the backbone's", "at the speed of a few steps"):
        assert words in shown
    assert not (tmp_path / "s").exists()


def start(*arguments: object) -> subprocess.Popen[str]:
    """A run in a process of its own that has finished its first epoch."""
    command = [sys.executable, "-c", "from polytask.cli import main; main()", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=SOURCE)
    assert process.stderr is not None
    while "epoch 1 " not in (line := process.stderr.readline()):
        assert line, "ended before its first epoch"
    return process


def test_an_interrupted_run_is_resumed_to_the_same_adapter(reviews: Path, backbone: Path, tmp_path: Path) -> None:
    def asked(store: str) -> list[str]:
        given = ("--task", "mood", "--backbone", backbone, "--store", tmp_path / store, *QUICK, "--epochs", 20)
        return [str(part) for part in ("train", reviews, *given)]

    process = start(*asked("cut"))
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate()
    assert (process.returncode, printed) == (130, "")
    command = said.split("To continue: polytask ")[1].splitlines()[0]
    assert shlex.split(command) == [*asked("cut"), "--resume"]
    kept = tmp_path / "cut" / TRAINING / "mood.ckpt"
    assert kept.exists()
    assert json.loads(succeeded("verify", "--store", tmp_path / "cut", "--json")) == []
    content = kept.read_bytes()
    assert "another run: lr was 0.01 and is 0.1" in refused(*asked("cut"), "--resume", "--lr", 0.1)
    assert kept.read_bytes() == content
    whole = json.loads(succeeded(*asked("whole"), "--json"))
    result = polytask(*shlex.split(command), "--json")
    assert re.search(r"note resumed 'mood' at step \d+ of 100\n", result.stderr), result.stderr
    resumed = json.loads(result.stdout)
    assert resumed["adapter"]["tensor_digest"] == whole["adapter"]["tensor_digest"]
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["mood"]


def test_a_second_run_of_a_task_is_refused_while_the_first_is_running(
    reviews: Path, backbone: Path, tmp_path: Path
) -> None:
    asked = ("train", reviews, "--task", "mood", "--backbone", backbone, "--store", tmp_path / "store", *QUICK)
    process = start(*asked, "--epochs", 100_000)
    try:
        line = refused(*asked, "--epochs", 1)
        assert f"mood.ckpt is already running in process {process.pid}. Wait for it" in line
    finally:
        process.kill()
        process.communicate()
    succeeded(*asked, "--epochs", 1)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["mood"]


def test_the_columns_of_the_training_are_remembered(backbone: Path, tmp_path: Path) -> None:
    header = ("text", "message", "label", "kind")
    rows = [("same", text, str(number % 3), label) for number, (text, label) in enumerate(ROWS * 4)]
    source = table(tmp_path / "in.csv", rows, header)  # type: ignore[arg-type]
    where = ("--store", tmp_path / "store")
    shared = ("--text", "message", "--label", "kind", "--epochs", 12, "--backbone", backbone, *where, *QUICK)
    succeeded("train", source, "--task", "mood", *shared, "--seed", 1, "--lr", 0.02)
    asked, named = ("--task", "mood", *where, "--json"), ("--text", "message", "--label", "kind")
    result = polytask("eval", source, *asked)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == succeeded("eval", source, *asked, *named)
    adapters = Store(tmp_path / "store")
    adapters.put(adapters.get("mood@1"))
    both = ("compare", "mood@1", "mood@2", source, *where, "--json")
    assert succeeded(*both) == succeeded(*both, *named)
    answers = succeeded("predict", "--file", source, *asked)
    assert answers == succeeded("predict", "--file", source, *asked, "--text", "message")
    assert answers != succeeded("predict", "--file", source, *asked, "--text", "text")
    usual = polytask("eval", table(tmp_path / "usual.csv", ROWS), "--task", "mood", *where)
    assert usual.exit_code == 0
    assert "has no columns 'message', 'kind', which mood@2 was trained on" in " ".join(usual.stderr.split())


def test_without_resume_an_old_checkpoint_is_kept_aside(reviews: Path, backbone: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shared = ("--task", "mood", "--backbone", backbone, "--store", store, "--epochs", 1, *QUICK)
    kept = store / TRAINING / "mood.ckpt"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"of a run")
    assert "not a checkpoint" in refused("train", reviews, *shared, "--resume")
    result = polytask("train", reviews, *shared)
    assert result.exit_code == 0
    assert "an interrupted run of this task was found" in result.stderr
    assert [path.name for path in store.iterdir()] == ["mood"]


def test_a_file_that_is_not_a_checkpoint_is_not_overwritten(reviews: Path, backbone: Path, tmp_path: Path) -> None:
    before = reviews.read_bytes()
    asked = ("--backbone", backbone, "--store", tmp_path / "s", "--checkpoint", reviews)
    result = polytask("train", reviews, *asked)
    assert result.exit_code == 2
    assert "exists and is not a checkpoint, so it is not overwritten" in result.stderr
    assert reviews.read_bytes() == before


def test_resume_without_a_checkpoint_starts_a_run(reviews: Path, backbone: Path, tmp_path: Path) -> None:
    shared = ("--task", "mood", "--backbone", backbone, "--store", tmp_path / "store", "--epochs", 1, *QUICK)
    result = polytask("train", reviews, *shared, "--resume")
    assert result.exit_code == 0
    assert "there is no checkpoint" in result.stderr
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["mood"]


def test_patience_class_weights_windows_and_a_log(reviews: Path, backbone: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    shared = (
        "--task",
        "mood",
        "--backbone",
        backbone,
        "--store",
        tmp_path / "store",
        *QUICK,
        "--log",
        tmp_path / "log",
    )
    asked = ("--patience", 1, "--class-weights", "balanced", "--long", "split", "--max-length", 4, "--epochs", 50)
    printed = json.loads(succeeded("train", reviews, *shared, *asked, "--json"))
    assert printed["train"]["epochs"] < 50
    assert printed["train"]["truncated"] == 0
    recipe = Store(tmp_path / "store").entry("mood").header.recipe
    assert (recipe["patience"], recipe["class_weights"], recipe["long"]) == (1, "balanced", "split")
    assert list((tmp_path / "log" / "mood").glob("events*"))
    (line,) = succeeded(
        "predict", "--task", "mood", "--store", tmp_path / "store", "a film " * 9, "--json"
    ).splitlines()
    assert json.loads(line)["label"] in ("bad", "good")


def test_averages_and_two_passes(reviews: Path, backbone: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    where = ("train", reviews, "--task", "mood", "--backbone", backbone, "--store", store, *QUICK, "--epochs", 1)
    settings = {"ema": 0.9, "rdrop": 1, "num_modules": 2, "backbone_dropout": 0}
    options = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
    succeeded(*where, "--method", "houlsby", "--size", 4, *options)
    recipe = Store(store).entry("mood").header.recipe
    assert {name: recipe[name] for name in settings} == settings
    assert "'layernorm' has none" in refused(*where, "--num-modules", 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name one thing to train on"),
        (("rows.csv", "--hub", "a/b"), "name one thing to train on"),
        (("--hub", "a/b", "--test", "test.csv"), "A dataset of the hub has its own splits"),
        (("rows.csv", "--long", "halve"), "long='halve' is out of range. Give 'truncate' or 'split'"),
        (("rows.csv", "--patience", "0"), "patience=0 is out of range"),
    ],
)
def test_train_refuses(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused("train", *arguments)


def test_pairs_are_not_split(backbone: Path, tmp_path: Path) -> None:
    pairs = table(tmp_path / "pairs.csv", [("a", "b", "x"), ("b", "c", "y")] * 5, ("premise", "hypothesis", "label"))
    asked = ("--task", "rte", "--backbone", backbone, "--store", tmp_path / "store", "--long", "split")
    result = polytask("train", pairs, *asked)
    assert result.exit_code == 2
    assert "error pairs of texts cannot be split" in result.stderr


def test_a_data_set_of_the_hub_is_trained_on_by_name(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    rows = {"sentence": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    for split in ("train", "validation", "test"):
        Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "moods" / f"{split}.parquet")
    asked = ("--hub", tmp_path / "moods", "--backbone", backbone, "--store", tmp_path / "store", "--epochs", 1, *QUICK)
    printed = json.loads(succeeded("train", *asked, "--json"))
    assert (printed["task"], printed["test"]["rows"]) == ("moods", 12)
