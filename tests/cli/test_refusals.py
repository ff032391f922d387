"""Errors for invalid input with the fix in the message, and warnings about suspicious input."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from polytask.adapters.adapter import Adapter
from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter, num_trained
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.fingerprint import tokenizer_fingerprint
from polytask.backbones.loading import load_backbone
from polytask.cli import console, wording
from polytask.cli.method_options import method_of
from polytask.data.encoding import encode
from polytask.data.read import read_task
from polytask.data.splits import hold_out
from polytask.data.task import Answer, Rows, Task
from polytask.errors import (
    BackboneError,
    DataError,
    PolytaskError,
    PolytaskWarning,
    RecipeError,
    RouteError,
    StoreError,
    WriteError,
)
from polytask.files import write_text
from polytask.inference.predict import MultiTask
from polytask.inference.scoring import scores_of
from polytask.methods import METHODS, Houlsby, Method, described
from polytask.training.checkpoint import Checkpoint
from polytask.training.estimate import estimate
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from tests.cli.test_cli import polytask
from tests.tiny import ARCHITECTURES, save_tiny

QUICK = Recipe(Houlsby(2), epochs=1, batch_size=16)


def edit_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def loaded(folder: Path) -> Backbone:
    return load_backbone(folder, device="cpu", dtype="float32")


@pytest.mark.parametrize(("architecture", "pad"), [(name, pad) for name in ARCHITECTURES for pad in (None, 3)])
def test_a_text_at_the_limit_and_one_past_it_are_answered(
    architecture: str, pad: int | None, tmp_path: Path, tiny_task: Task
) -> None:
    changes = {} if pad is None else {"pad_token_id": pad}
    backbone = loaded(save_tiny(tmp_path / "backbone", architecture, **changes))
    limit = backbone.max_length
    after_padding = (pad or 1) + 1
    first = {**dict.fromkeys(("roberta", "xlm-roberta", "camembert"), after_padding), "mpnet": 2}.get(architecture, 0)
    assert limit == 66 - first
    store = Store(tmp_path / "store")
    store.put(train(backbone, tiny_task, replace(QUICK, max_length=limit))[0])
    multi = MultiTask(backbone, store)
    at, past = "good " * (limit - 2), "good " * (limit - 1)
    assert len(multi.predict([at, past, "good"], "mood")) == 3
    assert multi.predict([at], "mood") == multi.predict([past], "mood")


def test_a_checkpoint_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "backbone")
    for file in folder.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            file.unlink()
    with pytest.raises(BackboneError, match=r"has no tokenizer: none of .*tokenizer\.json"):
        loaded(folder)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "electra", "mpnet"])
def test_a_tokenizer_of_special_tokens_only_is_refused(architecture: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "backbone", architecture)
    for file in folder.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            file.unlink()
    (folder / "vocab.txt").touch()
    with pytest.raises(BackboneError, match=r"knows no words, only 5 special tokens: .*vocab\.txt"):
        loaded(folder)


@pytest.mark.parametrize("architecture", ["roberta", "xlm-roberta"])
def test_positions_that_cannot_be_counted_are_refused(architecture: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "backbone", architecture)
    edit_config(folder, pad_token_id=None)
    with pytest.raises(BackboneError, match=r"config\.json of .* has no pad_token_id"):
        loaded(folder)
    with pytest.raises(BackboneError, match=r"66 positions, and a text's first token is at 65: there is no room"):
        loaded(save_tiny(tmp_path / "full", architecture, pad_token_id=64))


@pytest.mark.parametrize("given", [{"position_embedding_type": "relative_key"}, {"is_decoder": True}], ids=str)
def test_settings_that_are_not_computed_are_named(given: dict[str, Any], tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "backbone")
    edit_config(folder, **given)
    (name,) = given
    with pytest.warns(PolytaskWarning, match=f"was trained with {name} .*, which is not supported"):
        loaded(folder)


def test_a_modules_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "backbone")
    (folder / "modules.json").write_text("{")
    with pytest.raises(BackboneError, match=r"modules\.json is not a JSON file that can be read"):
        loaded(folder)
    (folder / "modules.json").write_text('["a", {"type": "x.Pooling"}]')
    with pytest.raises(BackboneError, match="Choose pooling"):
        loaded(folder)


@pytest.mark.parametrize(
    "given",
    [{"name": ""}, {"name": None}, {"name": "x" * 5000}, {"device": None}, {"device": 1.5}, {"dtype": 3}],
    ids=str,
)
def test_arguments_of_a_wrong_type_are_refused(given: dict[str, Any], tiny_bert_folder: Path) -> None:
    with pytest.raises(PolytaskError, match=r"named by|not a valid name of|named as in torch|no dtype called"):
        load_backbone(**{"name": tiny_bert_folder, "device": "cpu", "dtype": "float32", **given})


def test_a_length_that_the_backbone_cannot_read_is_refused_or_said(
    tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    for length in (67, 100_000, 2, True, "9", 9.0):
        with pytest.raises(RouteError, match="reads 3 to 66 tokens"):
            MultiTask(tiny_backbone, store, max_length=length)  # type: ignore[arg-type]
    with pytest.warns(PolytaskWarning, match=r"max_length=100000 is more than .* texts are cut at 66 tokens"):
        adapter, _ = train(tiny_backbone, tiny_task, replace(QUICK, max_length=100_000))
    store.put(adapter)
    long = "good " * 100
    whole = MultiTask(tiny_backbone, store).predict([long], "mood")
    assert adapter.header.recipe["max_length"] == 100_000
    assert whole == MultiTask(tiny_backbone, store, max_length=66).predict([long], "mood")
    with warnings.catch_warnings():
        warnings.simplefilter("error", PolytaskWarning)
        train(tiny_backbone, tiny_task, QUICK)


def test_the_length_that_is_reported_is_the_one_texts_were_cut_at(tiny_bert_folder: Path, tmp_path: Path) -> None:
    lines = [f"{'good ' * 90}{row},{row % 2}" for row in range(20)]
    file = tmp_path / "long.csv"
    file.write_text("\n".join(["text,label", *lines]))
    with pytest.warns(PolytaskWarning, match="texts are cut at 66 tokens"):
        done = polytask(
            *("train", file, "--task", "long", "--backbone", tiny_bert_folder, "--size", 2, "--epochs", 1),
            *("--max-length", 100_000, "--dtype", "float32", "--store", tmp_path / "store"),
        )
    assert done.exit_code == 0
    assert "cut off at 66 tokens" in " ".join(done.stdout.split())


def test_a_relative_backbone_used_from_another_folder_says_what_to_pass(
    tmp_path: Path, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(tmp_path / "here" / "tiny")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    adapter, _ = train(load_backbone("./tiny", device="cpu", dtype="float32"), tiny_task, QUICK)
    Store(tmp_path / "store").put(adapter)
    assert adapter.header.backbone.name == "./tiny"
    monkeypatch.chdir(tmp_path / "there")
    asked = ("predict", "good film", "--task", "mood", "--store", tmp_path / "store")
    done = polytask(*asked)
    assert done.exit_code == 2
    assert "there is no folder ./tiny" in done.stderr
    assert "--backbone /path/to/folder" in " ".join(done.stderr.split())
    assert polytask(*asked, "--backbone", tmp_path / "here" / "tiny").exit_code == 0


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused_with_both_numbers(tmp_path: Path) -> None:
    folder, small = save_tiny(tmp_path / "backbone"), save_tiny(tmp_path / "small", vocab_size=20)
    shutil.copy(small / "config.json", folder)
    shutil.copy(small / "model.safetensors", folder)
    with pytest.raises(BackboneError, match=r"token ids up to \d\d and the model has embeddings for 20 tokens"):
        loaded(folder)


def test_tensors_of_a_checkpoint_that_are_not_used_are_named(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "backbone")
    tensors = load_file(folder / "model.safetensors")
    head = {"classifier.weight": torch.zeros(2, 32), "cls.predictions.bias": torch.zeros(3)}
    save_file({**tensors, **head}, folder / "model.safetensors", {"format": "pt"})
    with warnings.catch_warnings():
        warnings.simplefilter("error", PolytaskWarning)
        loaded(folder)
    lost = {"encoder.layer.0.attention.self.distance_embedding.weight": torch.zeros(9, 8)}
    save_file({**tensors, **lost}, folder / "model.safetensors", {"format": "pt"})
    with pytest.warns(PolytaskWarning, match=r"not used: encoder\.layer\.0\.attention\.self\.distance_embedding"):
        loaded(folder)


def test_texts_of_unknown_tokens_are_warned_of(tiny_backbone: Backbone, tiny_task: Task) -> None:
    texts = [f"ψ{row} good" for row in range(len(tiny_task.train))]
    foreign = replace(tiny_task, train=replace(tiny_task.train, texts=texts))
    with pytest.warns(PolytaskWarning, match="of the tokens of the training texts are unknown"):
        train(tiny_backbone, foreign, QUICK)


def test_the_side_of_truncation_is_part_of_a_tokenizers_fingerprint(tiny_backbone: Backbone) -> None:
    tokenizer = tiny_backbone.tokenizer
    right = tokenizer_fingerprint(tokenizer)
    assert right == tiny_backbone.tokenizer_fingerprint
    tokenizer.truncation_side = "left"
    assert tokenizer_fingerprint(tokenizer) != right
    tokenizer.truncation_side, tokenizer.padding_side = "right", "left"  # batches are padded without the tokenizer
    assert tokenizer_fingerprint(tokenizer) == right
    tokenizer.split_special_tokens = True
    assert tokenizer_fingerprint(tokenizer) != right


def test_torchs_own_types_name_a_precision(tiny_bert_folder: Path) -> None:
    assert load_backbone(tiny_bert_folder, device="cpu", dtype=torch.bfloat16).dtype == torch.bfloat16
    with pytest.raises(PolytaskError, match="no dtype called 'int16'"):
        load_backbone(tiny_bert_folder, dtype=torch.int16)
    with pytest.raises(BackboneError, match="not by int 3"):
        load_backbone(3)  # type: ignore[arg-type]


def pairs_of(task: Task) -> Task:
    def paired(rows: Rows) -> Rows:
        return Rows(rows.texts, rows.texts, rows.targets)

    return Task("rte", task.kind, task.labels, task.metric, paired(task.train), paired(task.validation))


def test_a_task_of_pairs_refuses_single_texts_and_the_reverse(
    tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    for task in (tiny_task, pairs_of(tiny_task)):
        store.put(train(tiny_backbone, task, QUICK)[0])
    multi = MultiTask(tiny_backbone, store)
    with pytest.raises(DataError, match=r"'rte' answers pairs of texts, and the text has no second text.*--pair"):
        multi.predict(["good film"], "rte")
    with pytest.raises(DataError, match="'mood' answers single texts, and text 2 of 2 is a pair"):
        multi.predict([("a", "b"), ("good film", "a plot")], ["rte", "mood"])
    mixed = multi.predict(["good film", ("good film", "a plot")], ["mood", "rte"])
    assert [answer.task for answer in mixed] == ["mood", "rte"]


def test_what_a_task_takes_is_the_first_field_of_format_2(tiny_backbone: Backbone, tiny_task: Task) -> None:
    adapter, _ = train(tiny_backbone, pairs_of(tiny_task), QUICK)
    given = adapter.header.to_object()
    assert (given["format"], given["inputs"]) == (2, "pair")
    assert Adapter.from_bytes(adapter.to_bytes()).header == adapter.header


@pytest.mark.parametrize(
    ("kind", "targets", "said"),
    [
        ("classification", [0, -100], r"target 2 of the training rows of task 't' is -100.*from 0 to 1"),
        ("classification", [0, 2], "is 2"),
        ("classification", [0, True], "is True"),
        ("classification", [0, 1.5], r"is 1\.5"),
        ("classification", [0, None], "is None"),
        ("multilabel", [(0,), 1], "is 1. Give a tuple"),
        ("multilabel", [(0,), (5,)], r"is \(5,\)"),
        ("regression", [0.5, float("nan")], "is nan"),
        ("regression", [0.5, 1e38], r"is 1e\+38.*at most 1e30"),
        ("regression", [0.5, "x"], "is 'x'"),
        ("span", [(Answer("a", 0),), "a"], "is 'a'"),
    ],
)
def test_targets_from_python_are_checked_as_those_of_files_are(kind: Any, targets: list[Any], said: str) -> None:
    labels = ("a", "b") if kind in ("classification", "multilabel") else ()
    with pytest.raises(DataError, match=said):
        Task("t", kind, labels, "accuracy", Rows(["x", "y"], targets=targets), Rows([], targets=[]))


def test_a_task_needs_rows_and_labels_of_different_names() -> None:
    none, rows = Rows([], targets=[]), Rows(["x", "y"], targets=[0, 1])
    with pytest.raises(DataError, match="task 't' has no training rows"):
        Task("t", "classification", ("a", "b"), "accuracy", none, none)
    with pytest.raises(DataError, match="names a label twice"):
        Task("t", "classification", ("a", "a"), "accuracy", rows, rows)
    with pytest.raises(DataError, match="the training rows of task 't' have no targets"):
        Task("t", "classification", ("a", "b"), "accuracy", Rows(["x"]), rows)


@pytest.mark.parametrize(
    "given",
    [
        *({"lr": value} for value in ("x", 0, -1.0, float("nan"), True)),
        *({name: value} for name in ("epochs", "batch_size", "max_length", "seed") for value in ("x", 2.5, True)),
        {"method": "houlsby"},
        {"warmup": None},
        {"clip": "1"},
        {"bias_correction": 1},
    ],
    ids=str,
)
def test_settings_of_a_wrong_type_are_refused_by_name(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(RecipeError, match=f"{name}=.* is out of range"):
        Recipe(**given)


def test_what_is_no_store_adapter_or_backbone_is_refused(tmp_path: Path, tiny_task: Task) -> None:
    with pytest.raises(StoreError, match="not as int 3"):
        Store(3)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="str 'x' is not an adapter"):
        Store(tmp_path).put("x")  # type: ignore[arg-type]
    with pytest.raises(BackboneError, match="str 'minilm' is not a Backbone"):
        train("minilm", tiny_task)  # type: ignore[arg-type]


def test_a_run_that_diverged_leaves_no_checkpoint(tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path) -> None:
    kept = Checkpoint(tmp_path / "run.ckpt", every_s=0.0)
    with pytest.raises(RecipeError, match="diverged"):
        train(tiny_backbone, tiny_task, replace(QUICK, lr=1e30, epochs=3), checkpoint=kept)
    assert not kept.path.exists()


def test_many_small_classes_hold_out_a_tenth_and_not_half() -> None:
    targets = [row // 2 for row in range(400)]
    rows = Rows([f"text {row}" for row in range(400)], targets=targets)
    training, held_out = hold_out(rows, "classification")
    assert len(held_out) == 40
    assert sorted([*training, *held_out]) == list(range(400))
    assert {targets[row] for row in training} == set(targets)


def test_characters_that_drive_a_terminal_are_shown_as_escapes() -> None:
    assert console.printable("a\x1b[31mb\u202ec\x07") == r"a\x1b[31mb\u202ec\x07"
    assert console.printable("größer → ok\nnext") == "größer → ok\nnext"
    assert len(wording.shortened("x" * 100_000, 40)) == 40


def test_a_write_that_fails_names_its_file_and_leaves_nothing(tmp_path: Path) -> None:
    """Files of at most 4 kB, by the system's own limit, in a process of its own."""
    code = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
import torch
from safetensors.torch import save_file
from polytask.files import write_text, whole_file
from polytask.errors import WriteError
folder = Path(sys.argv[1])
def tensors():
    with whole_file(folder / "b") as part:
        save_file({"x": torch.zeros(5000)}, part)
for name, write in {"a": lambda: write_text(folder / "a", "x" * 10_000), "b": tensors}.items():
    try:
        write()
    except WriteError as error:
        assert str(folder / name) in str(error), error
        print("refused", name)
"""
    source = Path(console.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    assert done.stdout.split("\n")[:2] == ["refused a", "refused b"], done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named() -> None:
    with pytest.raises(WriteError, match="/proc/x/file cannot be written"):
        write_text("/proc/x/file", "text")


def test_resuming_a_run_whose_adapter_is_stored_stores_it_no_second_time(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "good film,good\nbad film,bad\n" * 20, encoding="utf-8")
    given = ("train", file, "--task", "mood", "--backbone", folder_of("bert"), "--store", tmp_path / "store", "--json")
    digests = [json.loads(polytask(*given, *more).stdout)["adapter"] for more in ((), ("--resume",), ())]
    assert [digest["version"] for digest in digests] == [1, 1, 2]
    assert len({digest["tensor_digest"] for digest in digests}) == 1


@pytest.mark.parametrize("number", [1, 32, 64, 65, 200])
@pytest.mark.parametrize("method", [Houlsby(16), METHODS["layernorm"](), METHODS["lora"]()], ids=lambda m: m.name)
def test_in_bf16_an_answer_is_that_of_its_adapter_alone_whatever_the_company(method: Method, number: int) -> None:
    """To 0.0002 in probability. The bits are those of one adapter, unless products of two shapes round differently."""
    backbone = load_backbone("minilm", device="cpu", dtype="bfloat16")
    generator = torch.Generator().manual_seed(0)
    one = LoadedAdapter(backbone, method, "classification", ("a", "b", "c"), key=(0, "one"))
    for parameter in one.tree.parameters():
        parameter.data += 0.03 * torch.randn(parameter.shape, generator=generator)
    one.frozen(backbone.dtype)
    attached, adapters = Attached.of(backbone), {}
    for copy_of in range(number):
        own = copy.copy(one)
        own.deltas = copy.deepcopy(one.deltas)
        attached.add(f"t{copy_of}", own.deltas)
        adapters[f"t{copy_of}"] = own
    texts = ["a tale of two films and an awful plot " * (1 + row % 3) + str(row) for row in range(max(number, 8))]
    encoded = encode(backbone.tokenizer, Rows(texts), 64)
    names = [f"t{row % number}" for row in range(len(texts))]
    mixed = torch.stack(scores_of(backbone, attached, adapters, encoded, names))
    alone = torch.stack(scores_of(backbone, attached, adapters, encoded, ["t0"] * len(texts)))
    assert float((mixed - alone).abs().max()) <= 2e-4


def test_a_dry_run_of_a_large_size_makes_no_adapter_of_it(tiny_backbone: Backbone, tiny_task: Task) -> None:
    """The parameters are those that would be trained; an adapter of this size takes more memory than there is."""
    recipe = replace(QUICK, method=Houlsby(10**10))
    said = estimate(tiny_backbone, tiny_task, recipe)
    assert said.parameters["trained"] == num_trained(tiny_backbone, recipe.method)
    assert said.memory_bytes["total"] > said.memory_bytes["free"]
    assert said.recipe["method"] == described(recipe.method)
    with pytest.raises(RecipeError, match=r"GB of memory .* GB are free"):
        train(tiny_backbone, tiny_task, recipe)


def test_the_cost_of_a_large_size_follows_from_two_small_ones(tiny_backbone: Backbone, tiny_task: Task) -> None:
    said = estimate(tiny_backbone, tiny_task, replace(QUICK, method=Houlsby(300)))
    adapter, result = train(tiny_backbone, tiny_task, replace(QUICK, method=Houlsby(300)))
    assert said.parameters == result.parameters
    assert said.memory_bytes["training"] == 5 * 4 * sum(t.numel() for t in adapter.tensors.values())


@pytest.mark.parametrize("text", ["bad \ud800 half", 3, b"bytes"])
def test_what_is_no_text_is_refused_by_its_number(text: Any, tiny_backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="text 2 of 2 is not a string that can be written as UTF-8"):
        MultiTask(tiny_backbone, Store(tmp_path)).predict(["good", text], "mood")


def test_a_row_without_a_text_has_an_error_in_its_place(
    tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    store.put(train(tiny_backbone, tiny_task, QUICK)[0])
    multi = MultiTask(tiny_backbone, store)
    texts: list[Any] = ["good film", "", "bad film", None, "\ud800"]
    answers = multi.predict(texts, "mood", on_error="null")
    assert [answer.error is None for answer in answers] == [True, False, True, False, False]
    assert [answers[0], answers[2]] == multi.predict(["good film", "bad film"], "mood")
    assert answers[1].to_json() == {"task": "mood", "label": None, "error": "the text is empty"}


@pytest.mark.parametrize("kind", ["labels", "scores"])
def test_the_command_line_answers_every_other_row_and_keeps_their_places(
    kind: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    labels = {"labels": ("good", "bad"), "scores": ("0.25", "0.75")}[kind]
    rows, store = tmp_path / "rows.csv", tmp_path / "store"
    rows.write_text("text,label\n" + "".join(f"good film,{labels[0]}\nbad film,{labels[1]}\n" for _ in range(20)))
    given = ("--backbone", folder_of("bert"), "--store", store)
    more = ("--kind", "regression") if kind == "scores" else ()
    assert polytask("train", rows, "--task", "mood", "--epochs", 1, *given, *more).exit_code == 0
    asked, output = tmp_path / "asked.csv", tmp_path / "out.csv"
    asked.write_text("id,text\n1,good film\n2,\n3,bad film\n4, \n")
    for on_error, code in (("fail", 2), ("null", 0)):
        ask = ("predict", "--task", "mood", "--file", asked, "--output", output, "--on-error", on_error, *given)
        result = polytask(*ask)
        assert result.exit_code == code, result.output
        assert "asked.csv:3: the text is empty" in " ".join(result.stderr.split())
        answers = [line.split(",")[2] for line in output.read_text().splitlines()[1:]]
        assert [bool(answer) for answer in answers] == [True, False, True, False]


def test_a_table_in_memory_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        DataError, match=r"a task made of a dict needs a name\. Give it one: read_task\(data, \"spam\"\)"
    ):
        read_task({"text": ["a"]})


def test_a_size_for_lora_points_to_its_rank() -> None:
    with pytest.raises(RecipeError, match=r"has a rank and no size\. Write --set rank=8"):
        method_of("lora", 8, None)
