"""The adapter file: what is saved is loaded, the header and the tensors are checked, the digest covers both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from polytask import errors
from polytask.adapters.adapter import Adapter
from polytask.adapters.canonical_json import canonical
from polytask.adapters.header import plain_name
from polytask.architectures import ARCHITECTURES, locate
from polytask.backbones.loading import load_backbone
from polytask.errors import AdapterError
from polytask.methods import DeltaMethod, Houlsby, LoRA, Method
from tests.samples import METHODS, Known, created, same, tensors_of


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_saving_and_loading_keeps_every_bit(method: Method, tmp_path: Path) -> None:
    adapter = created(method)
    adapter.save(tmp_path / "a.safetensors")
    loaded = Adapter.load(tmp_path / "a.safetensors")
    assert same(loaded, adapter)
    assert loaded.header == adapter.header
    assert loaded.method == method


def test_to_bytes_is_the_content_of_the_file(tmp_path: Path) -> None:
    adapter = created()
    adapter.save(tmp_path / "a.safetensors")
    assert same(Adapter.from_bytes(adapter.to_bytes()), adapter)
    assert adapter.to_bytes() == (tmp_path / "a.safetensors").read_bytes()


def test_the_header_fields_and_tensor_shapes_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    created(Houlsby(size=3)).save(path)
    content = path.read_bytes()
    preamble = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    header = json.loads(preamble.pop("__metadata__")["polytask"])
    shapes = {name: entry["shape"] for name, entry in preamble.items()}
    assert header["format"] == 1
    assert header["head"] == {"kind": "classification", "labels": ["ham", "spam"]}
    assert header["method"] == {"name": "houlsby", "size": 3, "activation": "gelu", "init_std": 0.01, "layers": None}
    assert header["backbone"] == {
        "name": "tiny",
        "architecture": "bert",
        "hidden": 8,
        "layers": 2,
        "fingerprint": "f" * 64,
    }
    assert set(header) == set(
        "format task head method pooling backbone tokenizer metric score recipe result versions created digest".split()
    )
    assert shapes["layer.1.attn_out.down.weight"] == [3, 8]
    assert shapes["layer.0.ffn_out.up.bias"] == [8]
    assert shapes["layer.0.ffn_norm.weight"] == [8]
    assert shapes["embed_norm.bias"] == [6]
    assert shapes["head.weight"] == [2, 8]
    assert len(shapes) == 2 * (2 * 4 + 2 * 2) + 2 + 2


def test_the_digest_can_be_computed_by_anyone(tmp_path: Path) -> None:
    adapter = created()
    sha = hashlib.sha256()
    for name, tensor in sorted(adapter.tensors.items()):
        sha.update(json.dumps([name, "F32", list(tensor.shape)], separators=(",", ":")).encode() + b"\n")
        sha.update(tensor.numpy().tobytes())
    assert adapter.tensor_digest == sha.hexdigest()
    header = {k: v for k, v in adapter.header.to_object().items() if k not in ("digest", "created")}
    sha.update(json.dumps(header, sort_keys=True, separators=(",", ":")).encode())
    assert adapter.header.digest == sha.hexdigest()


def test_the_tensor_digest_covers_the_tensors_only() -> None:
    one, other = created(score=0.1, task="a"), created(score=0.2, task="b")
    assert one.tensor_digest == other.tensor_digest
    assert one.header.digest != other.header.digest
    assert created(seed=1).tensor_digest != one.tensor_digest


def test_an_adapter_copies_its_tensors() -> None:
    tensors = tensors_of(METHODS[0])
    adapter = created(tensors=tensors)
    digest = adapter.tensor_digest
    with torch.no_grad():
        tensors["head.bias"] += 1
    assert adapter.tensor_digest == digest


def test_an_adapter_whose_tensors_were_changed_is_not_saved(tmp_path: Path) -> None:
    adapter = created()
    adapter.tensors["head.bias"][0] += 1
    with pytest.raises(AdapterError, match="altered after it was made"):
        adapter.save(tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_renaming_changes_the_task_and_nothing_else() -> None:
    adapter = created()
    renamed = adapter.renamed("scam")
    assert renamed.header.task == "scam"
    assert renamed.tensor_digest == adapter.tensor_digest
    assert same(renamed.renamed("spam"), adapter)
    with pytest.raises(AdapterError, match="cannot be a task's name"):
        adapter.renamed("../spam")


def test_a_backbone_of_the_same_kind_fits() -> None:
    created().fits(Known(name="the same in another folder"))


@pytest.mark.parametrize(
    ("other", "error", "said"),
    [
        (Known(num_layers=4, hidden=9, fingerprint="0"), errors.WrongDepth, "2 layers; 'tiny' has 4"),
        (Known(hidden=9, fingerprint="0"), errors.WrongWidth, "width 8; 'tiny' has width 9"),
        (Known(architecture="roberta"), errors.WrongBackbone, "architecture 'bert'; 'tiny' has 'roberta'"),
        (Known(pooling="cls"), errors.WrongBackbone, "pooling 'mean'; 'tiny' has 'cls'"),
        (Known(fingerprint="0", tokenizer_fingerprint="1"), errors.WrongBackbone, "'ffff.*'; 'tiny' has '0'"),
        (Known(tokenizer_fingerprint="1"), errors.WrongTokenizer, "'eeee.*' has '1'"),
    ],
)
def test_each_difference_of_the_backbone_has_its_own_error(other: Known, error: type[Exception], said: str) -> None:
    with pytest.raises(errors.IncompatibleAdapter, match=said) as raised:
        created().fits(other)
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("kind", "labels", "num_outputs"),
    [("classification", list("abc"), 3), ("multilabel", ["a"], 1), ("regression", [], 1), ("span", [], 2)],
)
def test_every_kind_of_head_is_kept(kind: str, labels: list[str], num_outputs: int) -> None:
    adapter = created(kind=kind, labels=labels, tensors=tensors_of(METHODS[0], num_outputs))
    loaded = Adapter.from_bytes(adapter.to_bytes())
    assert loaded.header.head.labels == tuple(labels)
    assert loaded.header.head.num_outputs == num_outputs
    with pytest.raises(AdapterError, match=r"'head.weight' has shape"):
        created(kind=kind, labels=labels, tensors=tensors_of(METHODS[0], num_outputs + 1))


def test_labels_in_any_script_are_kept() -> None:
    labels = ["été", "日本語", 'a"b\\c', "🙂", "ا"]
    adapter = created(labels=labels, tensors=tensors_of(METHODS[0], 5))
    assert Adapter.from_bytes(adapter.to_bytes()).header.head.labels == tuple(labels)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"task": "a b"}, "'a b' cannot be a task's name"),
        ({"task": ".."}, "cannot be a task's name"),
        ({"kind": "tagging"}, "kind is 'tagging'; it can be classification"),
        ({"labels": ["ham", "ham"]}, "a label twice"),
        ({"labels": ["ham", ""]}, "not a name"),
        ({"labels": ["ham", 1]}, "not a name"),
        ({"labels": ["ham"]}, "at least 2 labels; 1 are given"),
        ({"labels": []}, "at least 2 labels"),
        ({"kind": "regression"}, "a regression head has no labels; 2 are given"),
        ({"labels": ["ham", "\ud800"]}, "cannot be written as JSON"),
        ({"score": float("nan")}, "cannot be written as JSON"),
        ({"score": float("inf")}, "cannot be written as JSON"),
        ({"score": 10**400}, "not a finite number"),
        ({"score": "0.5"}, "'score' of the header is a str"),
        ({"score": True}, "'score' of the header is a bool"),
        ({"metric": ""}, "cannot be a metric's name"),
        ({"recipe": {"rate": float("nan")}}, "cannot be written as JSON"),
        ({"recipe": {"method": object()}}, "cannot be written as JSON"),
        ({"recipe": {1: "a", "1": "b"}}, "cannot be written as JSON"),
        ({"recipe": {"notes": "x" * (1 << 20)}}, "shorten"),
        ({"versions": {"torch": 2}}, "version strings"),
        ({"backbone": Known(hidden=0)}, "'hidden' is 0"),
        ({"backbone": Known(num_layers=10**9)}, "'layers' is 1000000000"),
        ({"backbone": Known(fingerprint="")}, "'fingerprint' of 'backbone' is empty"),
        ({"backbone": Known(tokenizer_fingerprint="")}, "'tokenizer' of the header is empty"),
        ({"backbone": Known(pooling="max")}, "pooling is 'max'; it can be pooler, cls, mean"),
    ],
)
def test_invalid_header_fields_are_refused(said: dict[str, Any], problem: str) -> None:
    with pytest.raises(AdapterError, match=problem):
        created(**said).to_bytes()


def test_an_adapter_whose_training_diverged_is_not_made() -> None:
    for bad in (float("nan"), float("inf"), -float("inf")):
        tensors = tensors_of(METHODS[0])
        tensors["layer.0.ffn_norm.bias"][3] = bad
        with pytest.raises(AdapterError, match=r"'layer.0.ffn_norm.bias' holds NaN or an infinity"):
            created(tensors=tensors)


def test_other_types_than_fp32_are_refused() -> None:
    tensors = tensors_of(METHODS[0])
    tensors["head.bias"] = tensors["head.bias"].to(torch.bfloat16)
    with pytest.raises(AdapterError, match=r"'head.bias' is of type torch.bfloat16"):
        created(tensors=tensors)


def _tensors_with(name: str, *shape: int, without: str | None = None) -> dict[str, torch.Tensor]:
    tensors = {**tensors_of(Houlsby(size=3)), name: torch.zeros(shape)}
    return {name: tensor for name, tensor in tensors.items() if name != without}


@pytest.mark.parametrize(
    ("name", "shape", "problem"),
    [
        ("weight", (1,), "a name that no tensor"),
        ("layer.01.attn_out.down.weight", (3, 8), "a name that no tensor"),
        ("layer.-1.attn_out.down.weight", (3, 8), "a name that no tensor"),
        ("layer.1.attn_out.", (3, 8), "a name that no tensor"),
        ("layer.2.attn_out.down.weight", (3, 8), "a layer beyond the backbone's last, 1"),
        ("layer.0.query.down.weight", (3, 8), "a site where 'houlsby' does not act; it acts at attn_out"),
        ("layer.0.nowhere.down.weight", (3, 8), "a site where 'houlsby' does not act"),
        ("layer.0.attn_out.gate.weight", (3, 8), "not a parameter of 'houlsby'"),
        ("head.gate", (3, 8), "not a parameter of 'houlsby'"),
        ("backbone.encoder.layer.0.output.dense.weight", (8, 8), "not a parameter that 'houlsby' replaces"),
        ("layer.0.attn_out.down.weight", (4, 8), r"shape \[4, 8\]; the header asks for \[3, 8\]"),
        ("layer.0.attn_out.down.weight", (3, 9), r"shape \[3, 9\]"),
        ("layer.0.attn_out.down.bias", (3, 1), r"shape \[3, 1\]"),
        ("layer.0.ffn_norm.weight", (), r"shape \[\]"),
        ("embed_norm.weight", (7,), r"'embed_norm.bias' has shape \[6\]; the header asks for \[7\]"),
        ("head.weight", (2, 9), r"'head.weight' has shape \[2, 9\]; the header asks for \[2, 8\]"),
        ("head.bias", (1,), r"'head.bias' has shape \[1\]"),
    ],
)
def test_tensors_that_do_not_fit_the_header_are_refused(name: str, shape: tuple[int, ...], problem: str) -> None:
    with pytest.raises(AdapterError, match=problem):
        created(Houlsby(size=3), tensors=_tensors_with(name, *shape))


@pytest.mark.parametrize("method", METHODS[:-2], ids=str)
def test_a_missing_tensor_is_refused(method: Method) -> None:
    tensors = tensors_of(method)
    for name in tensors:
        with pytest.raises(AdapterError, match=f"'{name}' is missing|the header asks for"):
            created(method, tensors={other: tensor for other, tensor in tensors.items() if other != name})


def test_tensors_of_layers_that_the_settings_exclude_are_refused() -> None:
    tensors = tensors_of(Houlsby(size=2))
    with pytest.raises(AdapterError, match="a place that the settings of 'houlsby' exclude"):
        created(Houlsby(size=2, layers=(1,)), tensors=tensors)


def test_widths_that_the_header_does_not_hold_must_agree() -> None:
    method = LoRA(rank=2, linears=("ffn_up", "ffn_down"))
    tensors = tensors_of(method)
    created(method, tensors=tensors)
    for name, shape in {"layer.1.ffn_up.up.weight": (13, 2), "layer.1.ffn_down.down.weight": (2, 13)}.items():
        with pytest.raises(AdapterError, match=f"'{name}' has shape"):
            created(method, tensors={**tensors, name: torch.zeros(shape)})
    tensors |= {f"layer.{layer}.ffn_up.up.weight": torch.zeros(13, 2) for layer in range(2)}
    with pytest.raises(AdapterError, match=r"ffn_down.down.weight' has shape \[2, 12\]; the header asks for \[2, 13\]"):
        created(method, tensors=tensors)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", METHODS[:-2], ids=str)
def test_the_expected_shapes_are_those_of_every_architecture(
    method: DeltaMethod, architecture: str, folder_of: Callable[[str], Path]
) -> None:
    backbone = load_backbone(folder_of(architecture), device="cpu", dtype="float32")
    tensors = {"head.weight": torch.zeros(2, backbone.hidden), "head.bias": torch.zeros(2)}
    for place, *_ in locate(backbone.model, backbone.row):
        if method.acts_at(place, backbone.num_layers):
            parameters = method.delta(place).named_parameters()
            tensors |= {f"{place.name}.{name}": torch.zeros(parameter.shape) for name, parameter in parameters}
    created(method, tensors=tensors, backbone=backbone).fits(backbone)


def test_replacements_are_checked_against_layers_and_settings() -> None:
    full, top = METHODS[-2:]
    tensors = tensors_of(full)
    with pytest.raises(AdapterError, match="not a parameter that 'top' replaces in a backbone of 2 layers"):
        created(top, tensors=tensors)
    with pytest.raises(AdapterError, match="the parameters of layer 1 are missing, which 'full' trains"):
        created(full, tensors={name: tensor for name, tensor in tensors.items() if ".1." not in name})
    for name in ("backbone.encoder.layer.2.output.dense.weight", "backbone.", "backbone.a..b"):
        with pytest.raises(AdapterError, match=r"not a parameter that|a name that no tensor"):
            created(full, tensors={**tensors, name: torch.zeros(8, 8)})
    with pytest.raises(AdapterError, match="the backbone has 2 layers"):
        created(replace(top, n=3), tensors=tensors)


@pytest.mark.parametrize(
    "method", [Houlsby(size=3, layers=10**12), Houlsby(size=3, layers=3), Houlsby(size=3, layers=(0, 10**9))], ids=str
)
def test_layers_that_do_not_exist_are_refused_without_counting_them(method: Method) -> None:
    with pytest.raises(AdapterError, match="do not all exist: the backbone has 2 layers"):
        created(method, tensors=tensors_of(METHODS[0]))


@pytest.mark.parametrize("name", ["spam", "a", "SST-2", "0.1_x", "a" * 64, "a..b"])
def test_plain_names(name: str) -> None:
    assert plain_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "-a", "a/b", "a\\b", "a b", "a\n", "é", "a" * 65, "a@1", "٣", None]
)
def test_names_that_are_not_plain(name: object) -> None:
    with pytest.raises(AdapterError, match="1 to 64 letters"):
        plain_name(name)


def test_canonical_json_has_one_form() -> None:
    assert canonical({"b": 1, "a": ["é", 0.1]}) == '{"a":["é",0.1],"b":1}'.encode()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"missing.safetensors: No such file"):
        Adapter.load(tmp_path / "missing.safetensors")
    with pytest.raises(AdapterError, match="not a regular file"):
        Adapter.load(tmp_path)


def test_showing_an_adapter_does_not_print_its_tensors() -> None:
    assert "tensor(" not in repr(created())
