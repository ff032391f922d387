"""The output, error messages and exit codes of the verbs."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

import polytask as polytask_package
from polytask.cli import app
from polytask.cli.answers import show_answers
from polytask.cli.options import ORDER
from polytask.data.task import Rows
from polytask.inference.prediction import Prediction
from tests.conftest import BAD, GOOD
from tests.tiny import save_tiny

ROWS = [(text, "good") for text in GOOD] + [(text, "bad") for text in BAD]
HIDDEN, LAYERS = 32, 2
SOURCE = Path(polytask_package.__file__).parent.parent


def polytask(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def succeeded(*arguments: object) -> str:
    result = polytask(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    """The one red line, with exit code 2, an empty stdout and no traceback."""
    result = polytask(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if not line.startswith("note ")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error ")
    return lines[0]


def table(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("text", "label")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def reviews(folder: Path) -> Path:
    return table(folder / "reviews.csv", ROWS * 5)


@pytest.fixture(scope="module")
def unseen(folder: Path) -> Path:
    return table(folder / "unseen.csv", ROWS)


@pytest.fixture(scope="module")
def averaging_folder(folder: Path, tiny_bert_folder: Path) -> Path:
    """A tiny BERT that averages its tokens: unlike its random [CLS], the average knows which words there are."""
    return averaging(Path(shutil.copytree(tiny_bert_folder, folder / "averaging")))


def averaging(backbone: Path) -> Path:
    modules = [{"path": "pooling", "type": "sentence_transformers.models.Pooling"}]
    (backbone / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (backbone / "pooling").mkdir()
    (backbone / "pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}', encoding="utf-8")
    return backbone


def train_mood(reviews: Path, unseen: Path, backbone: Path, store: Path, seed: int = 0) -> dict[str, Any]:
    shared = ("--task", "mood", "--backbone", backbone, "--size", 8, "--test", unseen, "--seed", seed)
    last = ("--epochs", 12, "--lr", 0.01, "--batch-size", 8, "--dtype", "float32", "--store", store, "--json")
    return dict(json.loads(succeeded("train", reviews, *shared, *last)))


@pytest.fixture(scope="module")
def trained(folder: Path, reviews: Path, unseen: Path, averaging_folder: Path) -> dict[str, Any]:
    """What ``train --json`` printed; the store has mood@1."""
    return train_mood(reviews, unseen, averaging_folder, folder / "store")


@pytest.fixture(scope="module")
def store(folder: Path, trained: dict[str, Any]) -> Path:
    return folder / "store"


@pytest.fixture
def own_store(tmp_path: Path, reviews: Path, tiny_bert_folder: Path) -> Path:
    """A store with a@1, a@2 and b@1, to be spoilt."""
    for task in ("a", "a", "b"):
        shared = ("--backbone", tiny_bert_folder, "--method", "layernorm", "--epochs", 1, "--dtype", "float32")
        succeeded("train", reviews, "--task", task, "--store", tmp_path / "own", *shared)
    return tmp_path / "own"


# -- help -------------------------------------------------------------------------------------------------------------


def test_help_lists_the_verbs_in_order() -> None:
    _, commands = succeeded("--help").split("Commands")
    assert tuple(re.findall(r"^│ (\w+)", commands, re.MULTILINE)) == ORDER


@pytest.mark.parametrize("verb", ORDER)
def test_every_help_has_an_example(verb: str) -> None:
    assert f"$ polytask {verb}" in succeeded(verb, "--help")


def test_the_version_is_printed() -> None:
    assert re.fullmatch(r"polytask \d+\.\d+\.\d+\n", succeeded("--version"))


# -- train ------------------------------------------------------------------------------------------------------------


def test_train_prints_the_object_that_programs_rely_on(trained: dict[str, Any], store: Path) -> None:
    keys = ["task", "method", "adapter", "parameters", "train", "validation", "test"]
    keys += ["calibration", "thresholds", "none", "probe", "start", "start_trial"]
    assert list(trained) == keys
    assert (trained["task"], trained["method"]) == ("mood", "houlsby")
    assert trained["adapter"]["version"] == 1
    assert Path(trained["adapter"]["path"]) == store / "mood" / "1.safetensors"
    assert trained["adapter"]["bytes"] == Path(trained["adapter"]["path"]).stat().st_size
    assert trained["parameters"]["trained"] == houlsby_parameters(size=8)
    assert trained["parameters"]["head"] == 2 * HIDDEN + 2
    assert set(trained["train"]) == {"rows", "tokens", "epochs", "seconds", "tokens_per_second", "truncated"} | {
        "padding",
        "routing",
    }
    assert 0 <= trained["train"]["padding"] < 1
    assert trained["train"]["routing"] == "looped"
    assert trained["train"]["rows"] + trained["validation"]["rows"] == 60
    assert set(trained["validation"]) == set(trained["test"]) == {"metric", "score", "rows", "interval"}
    assert trained["test"]["rows"] == 12


def test_the_trained_adapter_separates_the_labels(trained: dict[str, Any]) -> None:
    assert trained["test"]["score"] >= 0.8


def test_train_prints_the_score_the_cost_and_the_next_command(
    tmp_path: Path, reviews: Path, tiny_bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = polytask(
        "train", reviews, "--task", "mood", "--backbone", tiny_bert_folder, "--epochs", 2, "--max-length", 4
    )
    assert result.exit_code == 0, result.output
    for fact in (
        "mood@1",
        "majority class of the training rows",
        "parameters",
        "tokens/s",
        "cut off at 4 tokens",
    ):
        assert fact in result.stdout
    assert "adapters/mood/1.safetensors" in result.stdout
    assert 'polytask predict --task mood "a text"' in result.stdout
    assert "epoch 2 of 2" in result.stderr
    assert (tmp_path / "adapters" / "mood" / "1.safetensors").is_file()


def test_the_same_seed_gives_the_same_tensors(
    trained: dict[str, Any], tmp_path: Path, reviews: Path, unseen: Path, averaging_folder: Path
) -> None:
    again = train_mood(reviews, unseen, averaging_folder, tmp_path)
    other = train_mood(reviews, unseen, averaging_folder, tmp_path, seed=1)
    assert again["adapter"]["tensor_digest"] == trained["adapter"]["tensor_digest"]
    assert other["adapter"]["tensor_digest"] != trained["adapter"]["tensor_digest"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "hulsby"), "no method called 'hulsby'. Did you mean 'houlsby'?"),
        (("--method", "layernorm", "--size", "8"), "no setting of the method 'layernorm' called 'size'"),
        (("--set", "activaton=relu"), "Did you mean 'activation'?"),
        (("--set", "activation"), "'activation' is not a setting. Write NAME=VALUE"),
        (("--set", "init_std=wide"), "init_std=wide is not understood. Write, for example, init_std=0.01"),
        (("--size", "0"), "size=0"),
        (("--lr", "-1"), "lr=-1.0 is out of range"),
        (("--epochs", "0"), "epochs=0 is out of range"),
        (("--metric", "f2"), "no metric called 'f2'"),
        (("--kind", "tagging"), "no kind of task in files called 'tagging'"),
        (("--text", "txt"), "column 'txt'"),
        (("--task", "a/b"), "'a/b' cannot be the name of a task"),
        (("--validation", "nowhere.csv"), "nowhere.csv"),
        (("--dtype", "float8"), "no dtype called 'float8'"),
        (("--backbone", "./nowhere"), "there is no folder ./nowhere"),
    ],
)
def test_train_refuses(
    arguments: tuple[str, ...], message: str, folder: Path, reviews: Path, tiny_bert_folder: Path
) -> None:
    given = {"--task": "mood", "--backbone": str(tiny_bert_folder), "--store": str(folder / "unused")}
    given |= dict(zip(arguments[::2], arguments[1::2]))
    assert message in refused("train", reviews, *(part for pair in given.items() for part in pair))
    assert not (folder / "unused").exists()


def test_train_refuses_a_missing_file_and_names_it() -> None:
    assert "nowhere.csv" in refused("train", "nowhere.csv", "--task", "mood")


def test_train_refuses_one_class_only(tmp_path: Path) -> None:
    only = table(tmp_path / "only.csv", [("a film", "good")] * 10)
    assert "only.csv" in refused("train", only, "--task", "mood")


def test_an_unknown_option_is_a_usage_error() -> None:
    line = refused("train", "x.csv", "--epoch", "3")
    assert line.startswith("error no such option: --epoch")
    assert line.endswith(" For all options: polytask train --help")
    assert "invalid value for '--epochs'" in refused("train", "x.csv", "--epochs", "three")
    assert "missing argument" in refused("eval")
    assert refused("trian") == "error no such command 'trian'. Did you mean 'train'? For all options: polytask --help"
    assert "no such option: --verbose" in refused("--verbose")


def test_an_interrupt_ends_with_130_and_stores_nothing(tmp_path: Path, reviews: Path, tiny_bert_folder: Path) -> None:
    command = [sys.executable, "-c", "from polytask.cli import main; main()", "train", str(reviews), "--task", "mood"]
    command += ["--backbone", str(tiny_bert_folder), "--epochs", "100000", "--store", str(tmp_path / "store")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=SOURCE)
    assert process.stderr is not None
    while "epoch 1 " not in (line := process.stderr.readline()):
        assert line, "ended before its first epoch"
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate()
    assert process.returncode == 130
    assert printed == ""
    assert "error interrupted" in said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.safetensors"))


# -- eval -------------------------------------------------------------------------------------------------------------


def test_eval_prints_the_object_that_programs_rely_on(store: Path, unseen: Path, trained: dict[str, Any]) -> None:
    printed = json.loads(succeeded("eval", unseen, "--task", "mood", "--store", store, "--dtype", "float32", "--json"))
    assert list(printed) == ["task", "metric", "score", "rows", "metrics", "interval", "classes", "confusion"]
    assert (printed["task"], printed["metric"], printed["rows"]) == ("mood", "accuracy", 12)
    assert printed["score"] == printed["metrics"]["accuracy"] == trained["test"]["score"]
    assert {"f1", "matthews"} <= set(printed["metrics"])


def test_eval_prints_the_score_beside_the_majority_class(store: Path, unseen: Path) -> None:
    printed = succeeded("eval", unseen, "--task", "mood", "--store", store, "--metric", "f1")
    assert "mood@1" in printed
    assert "majority class" in printed


def test_eval_refuses_a_label_that_the_adapter_does_not_know(store: Path, tmp_path: Path) -> None:
    odd = table(tmp_path / "odd.csv", [("a film", "good"), ("a plot", "ugly")])
    line = refused("eval", odd, "--task", "mood", "--store", store)
    assert "odd.csv:3" in line
    assert "ugly" in line


def test_eval_refuses_an_unknown_task(store: Path, unseen: Path) -> None:
    assert "Did you mean 'mood'?" in refused("eval", unseen, "--task", "moot", "--store", store)


def test_eval_refuses_another_backbone(store: Path, unseen: Path, tmp_path: Path) -> None:
    other = averaging(save_tiny(tmp_path / "other", seed=1))
    assert "fingerprint" in refused("eval", unseen, "--task", "mood", "--store", store, "--backbone", other)


# -- predict ----------------------------------------------------------------------------------------------------------


def test_predict_prints_a_line_of_json_for_each_text(store: Path) -> None:
    printed = succeeded("predict", "--task", "mood", "--store", store, "--json", "great great film", "awful awful film")
    answers = [json.loads(line) for line in printed.splitlines()]
    assert [answer["label"] for answer in answers] == ["good", "bad"]
    for answer in answers:
        assert list(answer) == ["row", "task", "label", "probs"]
        assert set(answer["probs"]) == {"good", "bad"}
        assert sum(answer["probs"].values()) == pytest.approx(1)


def test_predict_prints_each_text_with_its_answer(store: Path) -> None:
    printed = succeeded("predict", "--task", "mood", "--task", "mood@1", "--store", store, "a great film")
    assert re.search(r"a great film +good \d+% +good \d+%", printed)


def test_predict_keeps_the_columns_of_a_file_and_adds_its_own(store: Path, tmp_path: Path) -> None:
    source = table(tmp_path / "in.csv", [("7", "a great film"), ("8", "an awful film, truly")], ("id", "text"))
    out = tmp_path / "out.csv"
    assert "2 rows written" in succeeded(
        "predict", "--task", "mood", "--store", store, "--file", source, "--output", out
    )
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "text", "mood", "mood_prob"]
    assert [(row["id"], row["mood"]) for row in rows] == [("7", "good"), ("8", "bad")]
    assert all(0.5 <= float(row["mood_prob"]) <= 1 for row in rows)


def test_predict_shows_the_first_rows_of_a_long_file(store: Path, reviews: Path) -> None:
    shown = succeeded("predict", "--task", "mood", "--store", store, "--file", reviews)
    assert len(re.findall(r"\d%", shown)) == 60, "all rows go into a pipe"
    out = Console(file=io.StringIO(), force_terminal=True, width=100, highlight=False)
    texts = Rows([text for text, _ in ROWS * 5])
    show_answers(out, texts, {"mood": [Prediction("mood", label="good", probs={"good": 0.9})] * 60})
    assert isinstance(out.file, io.StringIO)
    assert "and 40 more rows" in out.file.getvalue()


def test_predict_refuses_to_write_over_its_input(store: Path, tmp_path: Path) -> None:
    source = table(tmp_path / "in.csv", [("a great film",)], ("text",))
    before = source.read_bytes()
    assert "the output would overwrite the input" in refused(
        "predict", "--task", "mood", "--store", store, "--file", source, "--output", source
    )
    assert source.read_bytes() == before


def test_predict_refuses_a_column_that_exists(store: Path, tmp_path: Path) -> None:
    source = table(tmp_path / "in.csv", [("a great film", "?")], ("text", "mood"))
    line = refused("predict", "--task", "mood", "--store", store, "--file", source, "--output", tmp_path / "out.csv")
    assert "the file already has this column" in line
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a text",), "no task is named. Name one with --task; the store has mood"),
        (("--task", "mood"), "there are no texts"),
        (("--task", "mood", "a text", "--file", "in.csv"), "texts and a file are given"),
        (
            ("--task", "mood", "a text", "--output", "out.csv"),
            "--output, --text, --text-pair and --encoding are for a file",
        ),
        (("--task", "mood", "a text", "b", "--pair", "c"), "2 texts and 1 second text. Give one --pair"),
        (("--task", "mood", "--task", "spam", "a text"), "spam"),
        (("--task", "mood", ""), "the text is empty, so there is nothing to answer"),
        (("--task", "mood", "", " "), "text 1 of 2 is empty"),
        (("--task", "mood", "a text", "--pair", ""), "the second text is empty"),
        (("--task", "mood", __file__), "is a file, not a text. To answer its rows: polytask predict --file "),
        (("--task", "Mood", "a text"), "Did you mean 'mood'?"),
        (("--task", "mood@7", "a text"), "no version of 'mood' called '7'"),
    ],
)
def test_predict_refuses(arguments: tuple[str, ...], message: str, store: Path) -> None:
    assert message in refused("predict", "--store", store, *arguments)


def test_a_task_of_pairs_is_trained_and_answers_pairs(tmp_path: Path, tiny_bert_folder: Path) -> None:
    pairs = [("good film", "great film", "yes"), ("bad plot", "great film", "no")] * 10
    source = table(tmp_path / "pairs.csv", pairs, ("premise", "hypothesis", "label"))
    shared = ("--store", tmp_path / "store")
    printed = succeeded("train", source, "--task", "rte", "--backbone", tiny_bert_folder, "--epochs", 1, *shared)
    assert '--pair "its second text"' in printed
    (line,) = succeeded("predict", "--task", "rte", *shared, "good film", "--pair", "great film", "--json").splitlines()
    assert json.loads(line)["label"] in ("yes", "no")
    assert "20 texts" in succeeded("eval", source, "--task", "rte", *shared)


def test_a_regression_answers_with_a_score(tmp_path: Path, tiny_bert_folder: Path) -> None:
    rows = [("good film", "4.5"), ("bad film", "1.0"), ("great plot", "4.0"), ("awful plot", "1.5")] * 5
    source = table(tmp_path / "stars.csv", rows, ("text", "stars"))
    shared = ("--store", tmp_path / "store")
    succeeded("train", source, "--task", "points", "--backbone", tiny_bert_folder, "--epochs", 1, *shared)
    (line,) = succeeded("predict", "--task", "points", *shared, "good film", "--json").splitlines()
    assert list(json.loads(line)) == ["row", "task", "score"]
    printed = json.loads(succeeded("eval", source, "--task", "points", *shared, "--json"))
    assert printed["metric"] == "pearson"
    out = tmp_path / "out.csv"
    succeeded("predict", "--task", "points", *shared, "--file", source, "--output", out)
    assert out.read_text(encoding="utf-8").splitlines()[0] == "text,stars,points"


def test_several_labels_a_row_are_written_as_a_list_and_read_again(tmp_path: Path, tiny_bert_folder: Path) -> None:
    rows = [("good film", "film|good"), ("bad film", "film"), ("good plot", "good"), ("bad plot", "plot")] * 5
    source = table(tmp_path / "tags.csv", rows, ("text", "tags"))
    shared = ("--store", tmp_path / "store")
    succeeded("train", source, "--task", "about", "--backbone", tiny_bert_folder, "--epochs", 1, *shared)
    assert json.loads(succeeded("eval", source, "--task", "about", *shared, "--json"))["metric"] == "micro_f1"
    out = tmp_path / "out.jsonl"
    succeeded("predict", "--task", "about", *shared, "--file", source, "--output", out)
    first = json.loads(out.read_text(encoding="utf-8").splitlines()[0])
    assert set(first["about"]) <= {"film", "good", "plot"}
    assert len(first["about_prob"]) == len(first["about"])
    spoken = ("eval", tmp_path / "out.csv", "--task", "about", *shared, "--label", "about", "--json")
    succeeded("predict", "--task", "about", *shared, "--file", source, "--output", tmp_path / "out.csv")
    assert json.loads(succeeded(*spoken))["score"] == 1.0


# -- tasks and remove -------------------------------------------------------------------------------------------------


def test_tasks_lists_every_version(own_store: Path) -> None:
    printed = succeeded("tasks", "--store", own_store)
    assert [name in printed for name in ("a@1", "a@2", "b@1", "layernorm", "bad, good")] == [True] * 5
    listed = json.loads(succeeded("tasks", "--store", own_store, "--json"))
    assert [(entry["task"], entry["version"]) for entry in listed] == [("a", 1), ("a", 2), ("b", 1)]
    assert listed[0]["head"] == {"kind": "classification", "labels": ["bad", "good"]}
    assert listed[0]["bytes"] == Path(listed[0]["path"]).stat().st_size


def test_tasks_of_an_empty_store_prints_the_next_command(tmp_path: Path) -> None:
    printed = succeeded("tasks", "--store", tmp_path / "none")
    assert "polytask train" in printed
    assert json.loads(succeeded("tasks", "--store", tmp_path / "none", "--json")) == []


def test_tasks_reports_damage(own_store: Path) -> None:
    file = own_store / "a" / "1.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "1 file in" in polytask("tasks", "--store", own_store).stderr
    result = polytask("tasks", "--store", own_store, "--verify")
    assert result.exit_code == 2
    assert "truncated" in result.stderr


def test_remove_takes_one_version_and_its_number_is_not_used_again(
    own_store: Path, reviews: Path, tiny_bert_folder: Path
) -> None:
    other = (own_store / "b" / "1.safetensors").read_bytes()
    assert "removed a@2" in succeeded("remove", "a@2", "--store", own_store)
    assert not (own_store / "a" / "2.safetensors").exists()
    assert (own_store / "a" / "1.safetensors").exists()
    assert (own_store / "b" / "1.safetensors").read_bytes() == other
    shared = ("--method", "layernorm", "--epochs", 1, "--store", own_store, "--json")
    printed = succeeded("train", reviews, "--task", "a", "--backbone", tiny_bert_folder, *shared)
    assert json.loads(printed)["adapter"]["version"] == 3


def test_remove_asks_before_it_takes_several_versions(own_store: Path) -> None:
    assert "a has 2 versions. Remove all with --yes, or one: a@2" in refused("remove", "a", "--store", own_store)
    assert json.loads(succeeded("remove", "a", "--store", own_store, "--yes", "--json")) == {"removed": ["a@1", "a@2"]}
    assert json.loads(succeeded("remove", "b", "--store", own_store, "--json")) == {"removed": ["b@1"]}


def test_remove_refuses_an_unknown_adapter(own_store: Path) -> None:
    assert "Did you mean" not in refused("remove", "zebra", "--store", own_store)


# -- inspect ----------------------------------------------------------------------------------------------------------


def houlsby_parameters(hidden: int = HIDDEN, layers: int = LAYERS, size: int = 64) -> int:
    bottleneck = 2 * hidden * size + size + hidden
    return 2 * hidden + layers * (2 * bottleneck + 4 * hidden)


def test_inspect_counts_site_by_site(tiny_bert_folder: Path) -> None:
    printed = json.loads(succeeded("inspect", tiny_bert_folder, "--method", "houlsby", "--size", 8, "--json"))
    assert list(printed) == ["sites", "parameters", "bytes"]
    trained = houlsby_parameters(size=8)
    assert printed["parameters"]["trained"] == sum(site["parameters"] for site in printed["sites"]) == trained
    assert printed["parameters"]["percent"] == pytest.approx(100 * trained / printed["parameters"]["backbone"])
    assert printed["bytes"] == 4 * trained
    assert {"site": "layer.1.attn_norm", "parameters": 2 * HIDDEN} in printed["sites"]


@pytest.mark.parametrize(
    ("shape", "method", "trained"),
    [
        ((768, 12, 3072), ("--size", "64"), 2_417_664),
        ((768, 12, 3072), ("--size", "8"), 351_936),
        ((768, 12, 3072), ("--size", "2"), 130_608),
        ((768, 12, 3072), ("--method", "layernorm"), 38_400),
        ((1024, 24, 4096), ("--size", "64"), 6_444_032),
        ((768, 12, 3072), ("--method", "full"), 109_482_240),
    ],
)
def test_inspect_counts_as_the_paper_does_from_a_config_alone(
    shape: tuple[int, int, int], method: tuple[str, ...], trained: int, tmp_path: Path
) -> None:
    hidden, layers, middle = shape
    config = {"model_type": "bert", "hidden_size": hidden, "num_hidden_layers": layers, "intermediate_size": middle}
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_attention_heads": hidden // 64}), encoding="utf-8")
    printed = json.loads(succeeded("inspect", "--config", tmp_path, *method, "--json"))
    assert printed["parameters"]["trained"] == trained


def test_inspect_prints_one_line_per_layer(tiny_bert_folder: Path) -> None:
    printed = succeeded("inspect", tiny_bert_folder, "--size", 8)
    for shown in ("layer 0", "layer 1", "attn_out", "ffn_norm", f"{houlsby_parameters(size=8):,}", "%", "kB"):
        assert shown in printed


def test_inspect_refuses_an_architecture_that_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "t5"}', encoding="utf-8")
    line = refused("inspect", "--config", tmp_path / "config.json")
    assert "'t5' is not supported" in line
    assert "distilbert" in line


def test_inspect_takes_a_backbone_or_a_config(tiny_bert_folder: Path) -> None:
    assert "name one thing to inspect" in refused("inspect")
    assert "name one thing to inspect" in refused("inspect", tiny_bert_folder, "--config", tiny_bert_folder)


# -- for real ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("minilm")
def test_two_tasks_on_minilm_from_files_to_answers(tmp_path: Path) -> None:
    spam = [(f"WIN a free prize, call {n} now", "spam") for n in range(20)]
    spam += [(f"see you at {n}, love mum", "ham") for n in range(20)]
    moods = [(f"a lovely film, number {n}", "+") for n in range(20)]
    moods += [(f"an awful film, number {n}", "-") for n in range(20)]
    for name, rows in (("spam", spam), ("mood", moods)):
        source = table(tmp_path / f"{name}.csv", rows)
        succeeded("train", source, "--store", tmp_path / "store", "--epochs", 6, "--lr", 3e-3, "--batch-size", 8)
    printed = succeeded(
        *("predict", "--task", "spam", "--task", "mood", "--store", tmp_path / "store", "--json"),
        *("claim your free cash prize", "what a lovely film"),
    )
    answers = [json.loads(line) for line in printed.splitlines()]
    assert [answer["task"] for answer in answers] == ["spam", "mood"] * 2
    assert (answers[0]["label"], answers[3]["label"]) == ("spam", "+")


def test_a_run_that_learned_nothing_says_so(tmp_path: Path, tiny_bert_folder: Path) -> None:
    rows = ["a film,ham"] * 30 + ["a film,spam"] * 10  # nothing to tell them by
    (tmp_path / "same.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    store, folder = str(tmp_path / "store"), str(tiny_bert_folder)
    given = ["train", str(tmp_path / "same.csv"), "--task", "same", "--store", store, "--backbone", folder]
    result = CliRunner().invoke(app, [*given, "--epochs", "1", "--device", "cpu"])
    assert result.exit_code == 0
    assert "no better than giving every text the most frequent label" in " ".join(result.stderr.split())
