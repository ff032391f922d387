"""``polytask sweep`` and ``polytask train --tune``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from polytask.cli.progress_table import ProgressTable, live_progress_table
from polytask.errors import RecipeError
from polytask.training.events import Evaluated, Failed, Step
from polytask.training.tune import Left
from tests.cli.test_cli import averaging_folder, folder, polytask, refused, reviews, succeeded, table  # noqa: F401
from tests.conftest import BAD, GOOD

FOUR = ("--lr", "1e-5,1e-2", "--size", "3,8", "--seeds", 1, "--epochs", 3, "--batch-size", 8)


@pytest.fixture(scope="module")
def swept(folder: Path, reviews: Path, averaging_folder: Path) -> dict[str, Any]:  # noqa: F811
    """What a first ``sweep --json`` printed."""
    return sweep(reviews, averaging_folder, folder / "swept")


def sweep(reviews: Path, backbone: Path, place: Path, *more: object) -> dict[str, Any]:  # noqa: F811
    where = ("--results", place / "runs", "--store", place / "store", "--backbone", backbone, "--dtype", "float32")
    return dict(json.loads(succeeded("sweep", reviews, "--task", "mood", *FOUR, *where, *more, "--json")))


def test_sweep_prints_settings_and_the_best_and_puts_it_in_the_store(
    swept: dict[str, Any],
    folder: Path,  # noqa: F811
) -> None:
    assert list(swept) == ["task", "metric", "settings", "best", "results", "figure"]
    assert [set(row) for row in swept["settings"]] == [
        {"size", "lr", "score", "sem", "runs", "diverged", "parameters"}
    ] * 4
    scores = [row["score"] for row in swept["settings"]]
    assert scores == sorted(scores, reverse=True)
    best = swept["best"]
    assert best["validation"]["score"] == max(scores)
    assert (best["recipe"]["lr"], best["recipe"]["method"]["size"]) == (
        swept["settings"][0]["lr"],
        swept["settings"][0]["size"],
    )
    assert best["adapter"]["version"] == 1
    assert Path(best["adapter"]["path"]).is_file()
    assert len(list((folder / "swept" / "runs").glob("*.json"))) == 4


def test_the_same_command_again_trains_nothing_and_stores_nothing_twice(
    swept: dict[str, Any],
    folder: Path,  # noqa: F811
    reviews: Path,  # noqa: F811
    averaging_folder: Path,  # noqa: F811
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "swept").rglob("*.*")}
    picture = folder / "picture.png"
    again = sweep(reviews, averaging_folder, folder / "swept", "--figure", picture)
    for told in (again, swept):
        told["best"]["probe"].pop("seconds", None)
    assert again == {**swept, "figure": str(picture)}
    assert {path: path.stat().st_mtime_ns for path in (folder / "swept").rglob("*.*")} == before
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_sweep_prints_one_line_per_run_a_table_and_the_next_command(
    tmp_path: Path,
    reviews: Path,  # noqa: F811
    averaging_folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("sweep", reviews, "--task", "mood", "--backbone", averaging_folder, "--lr", "1e-2,1e30")
    result = polytask(*command, "--seeds", 2, "--epochs", 3, "--method", "layernorm", "--batch-size", 8)
    assert result.exit_code == 0, result.output
    assert (
        len(re.findall(r"^lr 1e-2, seed [01]: done after epoch 3 of 3, validation accuracy", result.stderr, re.M)) == 2
    )
    assert re.search(r"1e-2 +\d\.\d{3} ± \d\.\d{3} +2 ", result.stdout)
    assert "results of 4 runs in sweeps/mood" in result.stdout
    assert "polytask show mood@1" in result.stdout
    assert (tmp_path / "adapters" / "mood" / "1.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--lr", "1e-3;1e-2"), "--lr 1e-3;1e-2 is not understood. Write, for example, --lr 3e-4,1e-3"),
        (("--size", "8,many"), "--size 8,many is not understood"),
        (("--size", "8", "--method", "bitfit"), "no size to vary"),
        (("--seeds", "0"), "seeds=0 is out of range"),
        (("--lr", "1e-3,1e-3"), "a recipe is given twice"),
        (("--lr", "0"), "lr=0.0 is out of range"),
        (("--lr", "1e-3,1e-2", "--figure", "sweep.gif"), "a figure cannot be written as sweep.gif"),
        (("--figure", "sweep.png"), "nothing but the seed varies"),
    ],
)
def test_sweep_refuses(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    reviews: Path,  # noqa: F811
    tiny_bert_folder: Path,
) -> None:
    where = ("--backbone", tiny_bert_folder, "--results", tmp_path / "runs", "--store", tmp_path / "store")
    assert message in refused("sweep", reviews, "--task", "mood", *where, *arguments)
    assert not (tmp_path / "store").exists()


def test_sweep_reads_long_texts_in_windows(
    tmp_path: Path,
    reviews: Path,  # noqa: F811
    averaging_folder: Path,  # noqa: F811
) -> None:
    printed = sweep(reviews, averaging_folder, tmp_path, "--long", "split", "--max-length", 4, "--epochs", 1)
    assert printed["best"]["recipe"]["long"] == "split"
    assert printed["best"]["train"]["truncated"] == 0


def test_train_tune_prints_the_chosen_setting_as_json(
    tmp_path: Path,
    reviews: Path,  # noqa: F811
    averaging_folder: Path,  # noqa: F811
) -> None:
    where = ("--backbone", averaging_folder, "--store", tmp_path / "store", "--dtype", "float32", "--json")
    short = ("--task", "mood", "--epochs", 2, "--batch-size", 8, "--tune", "--method", "layernorm")
    tuned = json.loads(succeeded("train", reviews, *short, *where))["tuned"]
    assert set(tuned) == {"why", "recipe", "trials"}
    assert tuned["why"].startswith(f"{tuned['trials'][0]['name']}: accuracy")
    assert [set(trial) for trial in tuned["trials"]] == [{"name", "epochs", "score"}] * 4


def test_sweep_refuses_a_folder_of_other_data(
    swept: dict[str, Any],
    folder: Path,  # noqa: F811
    averaging_folder: Path,  # noqa: F811
) -> None:
    other = table(folder / "other.csv", [(text, "good") for text in GOOD * 4] + [(text, "bad") for text in BAD * 4])
    where = ("--results", swept["results"], "--backbone", averaging_folder, "--store", folder / "unused")
    line = refused("sweep", other, "--task", "mood", *FOUR, *where)
    assert "data was" in line
    assert "Give another folder" in line


def test_train_tune_prints_why_a_setting_was_chosen(
    tmp_path: Path,
    reviews: Path,  # noqa: F811
    averaging_folder: Path,  # noqa: F811
) -> None:
    where = ("--backbone", averaging_folder, "--store", tmp_path / "store", "--dtype", "float32")
    short = ("--task", "mood", "--epochs", 4, "--batch-size", 8, "--tune", "--size", 4)
    result = polytask("train", reviews, *short, *where)
    assert result.exit_code == 0, result.output
    chosen = re.search(r"chosen: lr (\S+): accuracy \d\.\d{3} on \d+ validation rows; the next best, lr", result.stderr)
    assert chosen is not None, result.stderr
    assert "stopped after epoch 1 of 4" in result.stderr
    assert "houlsby, size 4" in result.stdout
    assert not (tmp_path / "store" / ".training").exists()


@pytest.mark.parametrize("option", [("--dry-run",), ("--log", "logs"), ("--lr", "1e-3", "--size", "4")])
def test_train_tune_refuses_options_for_one_run(
    option: tuple[str, ...],
    tmp_path: Path,
    reviews: Path,  # noqa: F811
    tiny_bert_folder: Path,
) -> None:
    given = ("--task", "mood", "--backbone", tiny_bert_folder, "--store", tmp_path / "store")
    assert "one" in refused("train", reviews, "--tune", *given, *option)


# -- the table while it runs -------------------------------------------------------------------------------------------


def step(job: str, epoch: int, loss: float) -> Step:
    return Step(job, epoch, 9, epoch, 3, loss, 1, 1.0, 0.0, 1e-3)


def drawn(shown: ProgressTable) -> str:
    console = Console(width=100, height=30)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


def test_the_table_shows_every_run_and_where_it_is() -> None:
    shown = ProgressTable(Console(force_terminal=True), {name: f"size {name}" for name in "1234"}, "f1")
    shown(step("1", 2, 0.5))
    shown(Evaluated("2", 3, 3, "f1", 0.75, True))
    shown(Failed("3", RecipeError("diverged")))
    lines = drawn(shown).splitlines()
    assert re.search(r"size 1 +2/3 +0.500 +training", lines[3])
    assert re.search(r"size 2 +0.750 +done", lines[4])
    assert re.search(r"size 3 +diverged", lines[5])
    assert re.search(r"size 4 +waiting", lines[6])
    assert lines[-1].strip() == "2 of 4 done, the best 0.750"
    shown(Left("1", 2, 3))
    assert re.search(r"size 1 +2/3 +0.500 +stopped", drawn(shown))


def test_a_low_terminal_shows_only_running_runs() -> None:
    console = Console(force_terminal=True, width=100, height=14)
    shown = ProgressTable(console, {str(number): f"seed {number}" for number in range(40)}, "f1")
    for number in range(30):
        shown(Evaluated(str(number), 3, 3, "f1", number / 100, True))
    text = drawn(shown)
    assert "seed 29" not in text
    assert "seed 30" in text
    assert len(text.splitlines()) <= 14
    assert "30 of 40 done, the best 0.290" in text


def test_in_a_log_each_run_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with live_progress_table(Console(), {"1": "size 8", "2": "size 64"}, "f1") as shown:
        shown(step("1", 1, 0.5))
        shown(Evaluated("1", 1, 3, "f1", 0.5, True))
        shown(Left("1", 1, 3))
        shown(Failed("2", RecipeError("diverged")))
    assert capsys.readouterr().out.splitlines() == [
        "size 8: stopped after epoch 1 of 3, validation f1 0.500 (1 of 2)",
        "size 64: diverged (2 of 2)",
    ]
