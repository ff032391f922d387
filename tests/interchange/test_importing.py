"""Imported adapters give the answers of peft and adapter-hub; those without an equivalent are refused."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

import polytask as pt
from polytask.adapters.adapter import Adapter
from polytask.adapters.store import Store
from polytask.backbones.loading import load_backbone
from polytask.cli.serve import backbone_and_pooling_of
from polytask.errors import AdapterError, BackboneError, PolytaskError, WrongBackbone
from polytask.inference.predict import MultiTask
from polytask.methods import IA3, Houlsby, LayerNormOnly, LoRA, Parallel, Pfeiffer
from tests.cli.test_cli import polytask, refused, succeeded
from tests.interchange.cases import RECORDED, TEXTS, answered, backbone_of, case_of, cases, random_adapter

METHODS = {
    "peft/lora-bert": LoRA(4, 8.0, 0.0, ("query", "value")),
    "peft/lora-roberta-77": LoRA(4, 16.0, 0.0, ("query", "key", "value", "attn_dense", "ffn_up", "ffn_down")),
    "peft/lora-top-layer": LoRA(4, 8.0, 0.0, ("query",), layers=(1,)),
    "peft/ia3-bert": IA3(),
    "peft/lntuning-bert": LayerNormOnly(),
    "adapters/houlsby-bert": Houlsby(4, "silu", norms=False),
    "adapters/pfeiffer-left-out": Pfeiffer(4, "relu", layers=(1,)),
    "adapters/parallel-scaling-2": Parallel(8, "relu", scale=2.0),
    "adapters/ia3-attention-only": IA3(),
}


def imported(name: str, folder: Path | None = None) -> Adapter:
    case = case_of(name)
    where = folder or RECORDED / name
    place = RECORDED / "backbones" / case["backbone"]
    return pt.import_adapter(where, "mood", backbone=place, kind=case["kind"], device="cpu", dtype="float32")


@pytest.mark.parametrize("name", cases())
def test_an_imported_adapter_gives_the_answers_of_its_library(name: str, tmp_path: Path) -> None:
    case, adapter = case_of(name), imported(name)
    backbone = backbone_of(case["backbone"], adapter.header.pooling)
    own = answered(backbone, adapter, tmp_path)
    torch.testing.assert_close(own, torch.tensor(case["answers"]), rtol=0, atol=1e-6)
    if name in METHODS:
        assert adapter.method == METHODS[name]
    assert adapter.header.source is not None
    assert adapter.header.source["name"] == name.split("/")[1]
    assert adapter.header.to_object()["format"] == 2


@pytest.mark.parametrize("name", cases())
def test_an_adapter_without_its_deltas_gives_other_answers(name: str, tmp_path: Path) -> None:
    case, adapter = case_of(name), imported(name)
    backbone = backbone_of(case["backbone"], adapter.header.pooling)
    of, head = adapter.header, {k: v for k, v in adapter.tensors.items() if k.startswith("head.")}
    method = LoRA(1)
    deltas = {k: v for k, v in random_adapter(backbone, method).tensors.items() if not k.startswith("head.")}
    bare = Adapter.create(
        {**head, **{name: torch.zeros_like(tensor) for name, tensor in deltas.items()}},
        **{"task": "bare", "kind": of.head.kind, "labels": of.head.labels, "method": method, "backbone": backbone},
        **{"metric": "accuracy", "score": 0.0, "recipe": {}, "prediction_head": of.prediction_layers},
    )
    difference = answered(backbone, bare, tmp_path) - torch.tensor(case["answers"])
    assert difference.abs().max() > 3e-3


REASONS = {
    "peft/refused-dora": "DoRA",
    "peft/refused-pooler-lora": "pooler.dense",
    "peft/refused-ia3-intermediate": "intermediate.dense",
    "adapters/refused-prefix": "prefix tuning",
    "adapters/refused-invertible": "invertible adapter",
    "adapters/refused-compacter": "hypercomplex",
    "adapters/refused-ia3": "before its activation",
}


@pytest.mark.parametrize("name", cases("refused"))
def test_an_adapter_without_an_equivalent_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(AdapterError, match=REASONS[name]):
        imported(name)


def copied(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(RECORDED / name, folder / name.split("/")[1]))


def changed(folder: Path, **settings: object) -> Path:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return folder


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    for number, (setting, value) in enumerate(
        [("use_new_lora", True), ("bias", "all"), ("init_lora_weights", "pissa")]
    ):
        folder = changed(copied("peft/lora-bert", tmp_path / str(number)), **{setting: value})
        with pytest.raises(AdapterError, match=setting):
            imported("peft/lora-bert", folder)
    with pytest.raises(AdapterError, match="VERA is not supported; supported are LORA, IA3, LN_TUNING"):
        imported("peft/lora-bert", changed(copied("peft/lora-bert", tmp_path / "kind"), peft_type="VERA"))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    folder = copied("adapters/houlsby-bert", tmp_path)

    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path(tmp_path / "harm"),)  # type: ignore[return-value]

    (folder / "pytorch_adapter.bin").write_bytes(pickle.dumps({"a": Harm()}))
    with pytest.raises(AdapterError, match="cannot be read safely as tensors"):
        imported("adapters/houlsby-bert", folder)
    assert not (tmp_path / "harm").exists()


def test_an_adapter_without_a_head_is_refused(tmp_path: Path) -> None:
    folder = copied("adapters/houlsby-bert", tmp_path)
    (folder / "head_config.json").unlink()
    with pytest.raises(AdapterError, match=r"no head_config.json"):
        imported("adapters/houlsby-bert", folder)
    with pytest.raises(AdapterError, match="does not hold an adapter of peft or adapter-hub"):
        imported("adapters/houlsby-bert", tmp_path)


def test_a_backbone_with_another_pooling_or_architecture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongBackbone, match=r"pooling 'pooler'.*load_backbone"):
        pt.import_adapter(RECORDED / "peft/lora-bert", "mood", backbone=backbone_of("bert", "mean"))
    with pytest.raises(AdapterError, match="the adapter is for a bert model, and the backbone is a roberta"):
        pt.import_adapter(RECORDED / "adapters/houlsby-bert", "mood", backbone=backbone_of("roberta"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match="tiny/bert"):
        pt.import_adapter(RECORDED / "peft/lora-bert", "mood")


def test_labels_are_those_of_the_file_or_those_given() -> None:
    assert imported("adapters/houlsby-bert").header.head.labels == ("bad", "good")
    assert imported("peft/lora-bert").header.head.labels == ("LABEL_0", "LABEL_1")
    place = RECORDED / "backbones" / "bert"
    named = pt.import_adapter(RECORDED / "peft/lora-bert", "mood", backbone=place, labels=["no", "yes"])
    assert named.header.head.labels == ("no", "yes")
    with pytest.raises(AdapterError, match="3 labels are given, and the head has 2 outputs"):
        pt.import_adapter(RECORDED / "peft/lora-bert", "mood", backbone=place, labels=["a", "b", "c"])


def test_imported_adapters_mix_with_each_other_and_with_our_own(tmp_path: Path) -> None:
    backbone = backbone_of("bert", "cls")
    store = Store(tmp_path)
    names = ["adapters/houlsby-bert", "adapters/houlsby-two-layer-head", "adapters/parallel-scaling-2"]
    for number, name in enumerate(names):
        store.put(imported(name).renamed(f"task{number}"))
    store.put(random_adapter(backbone, Houlsby(3), num_labels=5).renamed("own"))
    tasks = ["task0", "task1", "task2", "own", "task1"]
    mixed = MultiTask(backbone, store).predict(TEXTS, tasks)
    for row, (text, task) in enumerate(zip(TEXTS, tasks, strict=True)):
        (alone,) = MultiTask(backbone, store).predict([text], task)
        assert mixed[row].probs == pytest.approx(alone.probs, abs=1e-6)


def test_the_command_line_imports_and_answers(tmp_path: Path) -> None:
    store, place = tmp_path / "store", RECORDED / "backbones" / "bert"
    given = ("import", RECORDED / "adapters/houlsby-bert", "--task", "mood", "--backbone", place, "--store", store)
    said = json.loads(succeeded(*given, "--json"))
    assert (said["task"], said["version"], said["labels"], said["pooling"]) == ("mood", 1, ["bad", "good"], "cls")
    assert "mood@2 is in" in succeeded(*given)
    assert "prefix tuning" in refused("import", RECORDED / "adapters/refused-prefix", *given[2:])
    assert "there is no folder nowhere" in refused("import", "nowhere", "--task", "mood")
    assert polytask("import", "--help").exit_code == 0


def test_an_imported_adapter_answers_and_is_scored_with_its_own_pooling(tmp_path: Path) -> None:
    store, place = tmp_path / "store", RECORDED / "backbones" / "bert"
    for name, task in (("adapters/houlsby-bert", "mood"), ("peft/lora-bert", "tone")):
        succeeded("import", RECORDED / name, "--task", task, "--backbone", place, "--store", store)
    poolings = {entry.task: entry.header.pooling for entry in Store(store).list()}
    assert poolings == {"mood": "cls", "tone": "pooler"}
    for task in poolings:
        (line,) = succeeded("predict", "--store", store, "--task", task, "--json", TEXTS[0]).splitlines()
        backbone = load_backbone(place, pooling=poolings[task])  # type: ignore[arg-type]
        (own,) = MultiTask(backbone, Store(store)).predict([TEXTS[0]], task)
        assert json.loads(line)["probs"] == pytest.approx(own.probs)
    labelled = tmp_path / "test.csv"
    labelled.write_text("text,label\na,good\nb,bad\n")
    assert json.loads(succeeded("eval", labelled, "--task", "mood", "--store", store, "--json"))["rows"] == 2
    assert "pooling='cls'" in refused("predict", "--store", store, "--task", "tone", "--task", "mood", "a")
    Store(tmp_path / "served").put(Store(store).get("mood"))
    assert backbone_and_pooling_of(str(tmp_path / "served")) == (str(place), "cls")


def test_a_malformed_file_raises_one_clear_error(tmp_path: Path) -> None:
    folder = copied("peft/lora-bert", tmp_path)
    for content in (b"", b"[]", b"{", b'{"peft_type": 3, "config": 1, "model_type": 2}'):
        (folder / "adapter_config.json").write_bytes(content)
        with pytest.raises(PolytaskError):
            imported("peft/lora-bert", folder)


def test_a_missing_pooler_is_reported(tmp_path: Path) -> None:
    place = Path(shutil.copytree(RECORDED / "backbones" / "bert", tmp_path / "bert"))
    tensors = {k: v for k, v in load_file(place / "model.safetensors").items() if not k.startswith("pooler.")}
    save_file(tensors, place / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match="it was initialized at random"):
        pt.import_adapter(RECORDED / "peft/lora-bert", "mood", backbone=place)
    assert pt.import_adapter(RECORDED / "peft/lora-pooler-saved", "mood", backbone=place).header.pooling == "cls"


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("peft/lora-bert", {"lora_alpha": "many"}),
        ("peft/lora-bert", {"lora_alpha": 0}),
        ("peft/lora-bert", {"alpha_pattern": 3}),
        ("peft/lora-bert", {"alpha_pattern": {"(": 3}}),
        ("peft/lora-bert", {"lora_dropout": 2.0}),
        ("adapters/houlsby-bert", {"config": {"non_linearity": "gelu"}}),
        ("adapters/houlsby-bert", {"config": {"mh_adapter": True, "output_adapter": True, "non_linearity": None}}),
        ("adapters/houlsby-bert", {"config": 7}),
        ("adapters/lora-bert", {"config": {"architecture": "lora"}}),
        ("adapters/lora-bert", {"name": 3}),
    ],
)
def test_invalid_settings_raise_one_clear_error(name: str, settings: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(PolytaskError):
        imported(name, changed(copied(name, tmp_path), **settings))


def test_tensors_with_wrong_shapes_raise_one_clear_error(tmp_path: Path) -> None:
    folder = copied("peft/lora-bert", tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    for name in list(tensors)[:3]:
        for odd in (torch.zeros(3), torch.zeros(0, 4), torch.zeros(2, 2, 2), torch.full_like(tensors[name], torch.nan)):
            save_file({**tensors, name: odd}, folder / "adapter_model.safetensors")
            with pytest.raises(PolytaskError):
                imported("peft/lora-bert", folder)


def test_lora_of_older_versions_is_scaled_as_it_was_trained(tmp_path: Path) -> None:
    folder = changed(copied("adapters/lora-bert", tmp_path), version="adapters.1.0.1")
    method = imported("adapters/lora-bert", folder).method
    assert isinstance(method, LoRA)
    assert method.alpha == method.rank == 4
