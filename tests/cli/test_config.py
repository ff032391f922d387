"""Options from a file, and several tasks from several files."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from polytask.adapters.store import Store
from polytask.cli import app
from tests.conftest import BAD, GOOD

ROWS = ([(text, "good") for text in GOOD] + [(text, "bad") for text in BAD]) * 4


def polytask(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture
def config(tmp_path: Path):
    def write(content: str) -> Path:
        path = tmp_path / "train.yaml"
        path.write_text(content, encoding="utf-8")
        return path

    return write


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    folder = tmp_path / "tables"
    folder.mkdir()
    for name in ("mood", "tone"):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *ROWS])
    return folder


def resolved(*arguments: object) -> dict[str, object]:
    result = polytask("train", *arguments, "--print-config")
    assert result.exit_code == 0, result.output
    return dict(yaml.safe_load(result.stdout))


def test_the_file_is_the_default_and_the_command_line_wins(config) -> None:
    path = config(
        "files: a.csv\nlr: 1e-3\nbatch_size: 8\nkeep-prefix: false\npositive: yes\nset: [layers=2]\ntune: true\n"
    )
    found = resolved("--config", path, "--batch-size", 16, "--set", "layers=1")
    assert (found["files"], found["lr"], found["batch-size"], found["keep-prefix"]) == (["a.csv"], 1e-3, 16, False)
    assert (found["positive"], found["set"], found["tune"], found["seed"]) == ("yes", ["layers=1"], True, 0)
    assert resolved("b.csv", "--config", path)["files"] == ["b.csv"]


def test_what_is_printed_is_read_back_to_the_same(config) -> None:
    found = resolved("a.csv", "--task", "spam", "--lr", 0.5, "--no-keep-prefix", "--set", "layers=2", "--label", "yes")
    assert resolved("--config", config(yaml.safe_dump(found))) == found


def test_a_list_in_the_file_is_numbers_joined_by_commas_on_the_command_line(config) -> None:
    path = config("lr: [3e-4, 1e-3]\nsize: 8\n")
    found = yaml.safe_load(polytask("sweep", "a.csv", "--config", path, "--print-config").stdout)
    assert (found["lr"], found["size"], found["file"]) == ("3e-4,1e-3", "8", "a.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("batch-sise: 8\n", "train.yaml: there is no option 'batch-sise'. Did you mean 'batch-size'?"),
        ("xyz: 8\n", "train.yaml: there is no option 'xyz'. There are: files, hub, task"),
        ("batch-size: many\n", "invalid value for '--batch-size'"),
        ("- a\n", "train.yaml: this is not a mapping. Write one option per line"),
        ("a: [\n", "train.yaml: this is not YAML"),
        ("lr: {a: 1}\n", "'lr' is not a value or a list of values"),
        ("config: other.yaml\n", "there is no option 'config'"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(config, content: str, message: str) -> None:
    result = polytask("train", "a.csv", "--config", config(content))
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_several_files_are_tasks_trained_at_once_each_as_it_is_alone(
    tables: Path, tmp_path: Path, tiny_bert_folder: Path
) -> None:
    shared = ("--backbone", tiny_bert_folder, "--size", 4, "--epochs", 2, "--batch-size", 8, "--dtype", "float32")
    result = polytask("train", tables, *shared, "--store", tmp_path / "many", "--json")
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["task"] for line in found] == ["mood", "tone"] == Store(tmp_path / "many").tasks()
    assert polytask("train", tables / "tone.csv", *shared, "--store", tmp_path / "one").exit_code == 0
    together, alone = (dict(Store(tmp_path / store).get("tone").tensors) for store in ("many", "one"))
    torch.testing.assert_close(together, alone)
    shown = polytask("train", tables / "mood.csv", tables / "tone.csv", *shared, "--store", tmp_path / "many").stdout
    assert "mood@2" in shown
    assert "tone@2" in shown


def test_what_is_about_one_task_is_refused_for_several(tables: Path, tmp_path: Path) -> None:
    mood, tone = tables / "mood.csv", tables / "tone.csv"
    assert "--task applies to one task" in polytask("train", mood, tone, "--task", "x").stderr
    assert "--tune applies to one task" in polytask("train", tables, "--tune").stderr
    other = tmp_path / "mood.csv"
    other.write_bytes(mood.read_bytes())
    assert "give tasks with the same name, 'mood'" in polytask("train", mood, other).stderr
    (tables / "test.csv").write_bytes(mood.read_bytes())
    assert "test.csv looks like a split of one task" in polytask("train", tables).stderr
    (tmp_path / "none").mkdir()
    assert "the folder has no file of rows" in polytask("train", tmp_path / "none").stderr


KILLED = """
import os, signal, sys
from polytask.cli import main
from polytask.training.checkpoint import Checkpoint

write, count = Checkpoint.write, 0

def write_and_die(self, *of):
    global count
    write(self, *of)
    count += 1
    if count == 5:
        os.kill(os.getpid(), signal.SIGKILL)

Checkpoint.write_if_due = write_and_die
main()
"""


def test_several_files_that_were_killed_are_resumed_to_the_same_adapters(
    tables: Path, tmp_path: Path, tiny_bert_folder: Path
) -> None:
    shared = (tables, "--backbone", tiny_bert_folder, "--size", 4, "--epochs", 2, "--batch-size", 8, "--json")
    dtype, whole, killed = ("--dtype", "float32"), tmp_path / "whole", tmp_path / "killed"
    command = ["train", *shared, *dtype, "--store", killed]
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, command)], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert Store(killed).tasks() == []
    shutil.copytree(killed, tmp_path / "changed")
    resumed = polytask("train", *shared, "--store", killed, "--resume")  # in the precision that it began with
    assert resumed.exit_code == 0, resumed.output
    assert "resumed 2 jobs, the furthest at step 3" in resumed.stderr
    assert polytask("train", *shared, *dtype, "--store", whole).exit_code == 0
    for task in ("mood", "tone"):
        assert Store(killed).get(task).tensor_digest == Store(whole).get(task).tensor_digest
    assert not (killed / ".training").exists()
    again = polytask("train", *shared, *dtype, "--store", killed, "--resume")
    assert "there is no checkpoint" in again.stderr
    assert Store(killed).versions("mood") == [1], "a run that is stored already is not stored again"
    with (tables / "mood.csv").open("a", encoding="utf-8") as file:
        file.write("it was a good plot,good\n")
    changed = polytask("train", *shared, *dtype, "--store", tmp_path / "changed", "--resume")
    assert "belongs to another run" in changed.stderr
