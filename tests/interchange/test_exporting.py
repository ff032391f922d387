"""Exports give the same answers with the code of their READMEs, and are the same after an import.

That peft and adapters themselves read these files is proven in their own environments, by
``benchmarks/peers/interchange.py``; here transformers runs what is merged, and the importer reads all others.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import pipeline

import polytask as pt
from polytask.errors import AdapterError, UnknownName, WriteError
from polytask.interchange.head_layers import layer_names
from polytask.methods import (
    IA3,
    BitFit,
    FullFineTuning,
    Houlsby,
    LayerNormOnly,
    LoRA,
    Method,
    Parallel,
    Pfeiffer,
    Probe,
    TopLayers,
)
from tests.cli.test_cli import refused, succeeded
from tests.interchange.cases import RECORDED, TEXTS, answered, backbone_of, python_in, random_adapter

ALL = ("query", "key", "value", "attn_dense", "ffn_up", "ffn_down")
TANH = ("dense", "tanh")
ROUND_TRIPS: list[tuple[str, Method, str, Any, Any, int, tuple[str, ...]]] = [
    ("peft", LoRA(4), "bert", "pooler", "classification", 2, ()),
    ("peft", LoRA(4, 3.5, linears=ALL, layers=1), "bert", "mean", "classification", 77, ()),
    ("peft", LoRA(2), "roberta", "cls", "regression", 1, TANH),
    ("peft", IA3(), "mpnet", "cls", "multilabel", 3, TANH),
    ("peft", IA3(), "distilbert", "cls", "classification", 2, ()),
    ("peft", LayerNormOnly(), "electra", "cls", "classification", 3, ("dense", "gelu")),
    ("peft", LayerNormOnly(layers=1), "bert", "mean", "classification", 3, ()),
    ("adapterhub", Houlsby(5, norms=False), "bert", "cls", "classification", 2, ()),
    ("adapterhub", Houlsby(4, "gelu_tanh", norms=False, layers=1), "bert", "mean", "classification", 77, TANH),
    ("adapterhub", Houlsby(4, norms=False), "bert", "late", "classification", 3, TANH),
    ("adapterhub", Pfeiffer(3), "roberta", "cls", "multilabel", 5, TANH),
    ("adapterhub", Parallel(4), "distilbert", "cls", "regression", 1, ()),
    ("adapterhub", LoRA(2, 3.0, linears=("query", "ffn_up")), "electra", "cls", "classification", 2, ()),
]
MERGED: list[tuple[Method, str, Any, Any, int, tuple[str, ...]]] = [
    (LoRA(4, linears=ALL), "bert", "pooler", "classification", 3, ()),
    (IA3(), "roberta", "cls", "multilabel", 4, TANH),
    (BitFit(), "distilbert", "cls", "regression", 1, ("dense", "relu")),
    (LayerNormOnly(), "electra", "cls", "classification", 77, ("dense", "gelu")),
    (LoRA(2), "mpnet", "mean", "classification", 3, ()),
    (IA3(), "bert", "mean", "classification", 2, ()),
    (IA3(), "bert", "last", "classification", 2, TANH),
    (IA3(), "bert", "late", "classification", 2, TANH),
    (FullFineTuning(), "bert", "cls", "classification", 2, ()),
    (TopLayers(1), "distilbert", "cls", "classification", 2, ("dense", "relu")),
]


@pytest.mark.parametrize(("to", "method", "architecture", "pooling", "kind", "num_labels", "layers"), ROUND_TRIPS)
def test_an_adapter_is_the_same_after_export_and_import(
    to: Any, method: Method, architecture: str, pooling: Any, kind: Any, num_labels: int, layers: Any, tmp_path: Path
) -> None:
    backbone = backbone_of(architecture, pooling)
    adapter = random_adapter(backbone, method, kind, num_labels, layers)
    pt.export_adapter(adapter, tmp_path / "out", to)
    again = pt.import_adapter(tmp_path / "out", "task", backbone=backbone, kind=kind)
    before, after = answered(backbone, adapter, tmp_path / "1"), answered(backbone, again, tmp_path / "2")
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    assert layer_names(again.header.prediction_layers) == layers
    assert again.method.name == method.name
    assert {name: tuple(t.shape) for name, t in again.tensors.items()} == {
        name: tuple(t.shape) for name, t in adapter.tensors.items()
    }


@pytest.mark.parametrize(("method", "architecture", "pooling", "kind", "num_labels", "layers"), MERGED)
def test_the_code_in_the_readme_of_a_merged_export_gives_the_same_answers(
    method: Method,
    architecture: str,
    pooling: Any,
    kind: Any,
    num_labels: int,
    layers: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = backbone_of(architecture, pooling)
    adapter = random_adapter(backbone, method, kind, num_labels, layers)
    own = answered(backbone, adapter, tmp_path)
    pt.export_adapter(adapter, tmp_path / "out", "merged", backbone=backbone)
    monkeypatch.chdir(tmp_path / "out")
    names: dict[str, Any] = {}
    exec(python_in(Path("README.md")), names)
    torch.testing.assert_close(names["answer"](TEXTS), own, rtol=0, atol=1e-5)
    torch.testing.assert_close(answered(backbone, adapter, tmp_path / "after"), own, rtol=0, atol=0)


def test_a_transformers_pipeline_runs_a_merged_export_with_its_labels(tmp_path: Path) -> None:
    backbone = backbone_of("bert", "pooler")
    adapter = random_adapter(backbone, LoRA(4), "classification", 3)
    pt.export_adapter(adapter, tmp_path / "out", "merged", backbone=backbone)
    answers = pipeline("text-classification", str(tmp_path / "out"), top_k=None, device="cpu")(TEXTS)
    for row, probs in zip(answers, answered(backbone, adapter, tmp_path).tolist(), strict=True):
        theirs = {answer["label"]: answer["score"] for answer in row}
        assert theirs == pytest.approx({f"label {n}": prob for n, prob in enumerate(probs)}, abs=1e-5)


def test_the_head_is_in_transformers_class_only_if_that_pools_as_we_do(tmp_path: Path) -> None:
    whole = random_adapter(backbone_of("bert", "pooler"), LoRA(4))
    bare = random_adapter(backbone_of("bert", "mean"), LoRA(4))
    kinds = {}
    for name, adapter in (("whole", whole), ("bare", bare)):
        folder = pt.export_adapter(adapter, tmp_path / name, "peft")
        kinds[name] = json.loads((folder / "adapter_config.json").read_text())["task_type"]
        assert (folder / "head.safetensors").is_file() == (name == "bare")
        back = pt.import_adapter(folder, "mood", backbone=backbone_of("bert", adapter.header.pooling))
        assert back.header.head.labels == adapter.header.head.labels
    assert kinds == {"whole": "SEQ_CLS", "bare": "FEATURE_EXTRACTION"}


REFUSED: list[tuple[Any, Method, str, str]] = [
    ("adapterhub", Houlsby(4), "bert", r"trains LayerNorms.*norms=False"),
    ("adapterhub", IA3(), "bert", "before the activation"),
    ("adapterhub", BitFit(), "bert", "no method that trains only biases"),
    ("adapterhub", FullFineTuning(), "bert", "replaces parameters of the model"),
    ("adapterhub", LoRA(2, linears=("attn_dense",)), "bert", "attn_dense"),
    ("adapterhub", Pfeiffer(4), "mpnet", "no mpnet models"),
    ("peft", Houlsby(4, norms=False), "bert", "peft has no bottleneck adapters"),
    ("peft", BitFit(), "bert", "only biases"),
    ("merged", Pfeiffer(4), "bert", "a bottleneck has a non-linearity"),
]


@pytest.mark.parametrize(("to", "method", "architecture", "reason"), REFUSED)
def test_an_unsupported_method_is_refused_with_the_reason_and_writes_nothing(
    to: Any, method: Method, architecture: str, reason: str, tmp_path: Path
) -> None:
    backbone = backbone_of(architecture, "cls")
    with pytest.raises(AdapterError, match=reason):
        pt.export_adapter(random_adapter(backbone, method), tmp_path / "out", to, backbone=backbone)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", ["peft", "adapterhub"])
def test_a_probe_is_refused_with_the_formats_that_support_it(to: Any, tmp_path: Path) -> None:
    probe = random_adapter(backbone_of("bert", "pooler"), Probe(), "classification", 3)
    with pytest.raises(AdapterError, match=r"nothing to the frozen model but a head. Export it with --to merged"):
        pt.export_adapter(probe, tmp_path / "out", to)


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    adapter = random_adapter(backbone_of("bert", "mean"), LoRA(2))
    (tmp_path / "out").mkdir()
    pt.export_adapter(adapter, tmp_path / "out", "peft")
    with pytest.raises(WriteError, match="it exists and is not an empty folder"):
        pt.export_adapter(adapter, tmp_path / "out", "peft")
    with pytest.raises(UnknownName, match=r"'pefd'. Did you mean 'peft'\?"):
        pt.export_adapter(adapter, tmp_path / "other", "pefd")  # type: ignore[arg-type]


def test_the_command_line_exports(tmp_path: Path) -> None:
    place = RECORDED / "backbones" / "bert"
    store = pt.Store(tmp_path / "store")
    store.put(random_adapter(backbone_of("bert", "mean"), LoRA(2)))
    given = ("--store", tmp_path / "store")
    said = json.loads(
        succeeded("export", "task@1", tmp_path / "out", "--to", "merged", "--backbone", place, *given, "--json")
    )
    assert {"README.md", "config.json", "model.safetensors", "head.safetensors"} <= set(said["files"])
    assert "adapter_config.json" in succeeded("export", "task", tmp_path / "peft", "--to", "peft", *given)
    assert "it exists and is not an empty folder" in refused(
        "export", "task", tmp_path / "peft", "--to", "peft", *given
    )
    assert "no format called 'gguf'" in refused("export", "task", tmp_path / "x", "--to", "gguf", *given)


def test_the_python_of_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "ecosystem.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    place = str(RECORDED / "backbones" / "bert")
    names: dict[str, Any] = {"texts": TEXTS * 4, "labels": ["good", "bad", "bad", "good", "bad"] * 4, "backbone": place}
    for which in ("estimators", "trainer"):
        (code,) = re.findall(rf"```python\n(# {which}\n.*?)```", text, re.DOTALL)
        exec(code, names)
    assert set(names["search"].predict(TEXTS)) <= {"good", "bad"}
    assert (tmp_path / "trained" / "attached.safetensors").is_file()


CUTS: list[tuple[Any, Any, Any, list[float | None] | None]] = [
    ("multilabel", None, None, [0.5, 0.5, 0.5]),
    ("multilabel", "calibrated", None, [0.5, 0.598688, 0.377541]),
    ("multilabel", "calibrated", [0.2, None, 0.9], [0.2, None, 0.9]),
    ("classification", None, [0.7, 0.7, 0.7], [0.7, 0.7, 0.7]),
    ("classification", None, None, None),
]


@pytest.mark.parametrize(("kind", "calibrated", "thresholds", "cuts"), CUTS)
def test_an_export_has_the_threshold_of_each_label(
    kind: Any, calibrated: Any, thresholds: Any, cuts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbone_of("bert", "pooler")
    plain = random_adapter(backbone, LoRA(4), kind, 3)
    decides: dict[str, Any] = {}
    if calibrated:
        decides["calibration"] = {"kind": "platt", "slopes": [1.0, 0.8, 1.2], "offsets": [0.0, 0.4, -0.5], "rows": 50}
    if thresholds:
        decides["thresholds"] = {"goal": "precision", "target": 0.9, "values": thresholds, "rows": 50}
    said = {**plain.header.to_object(), **decides, "format": 2}
    adapter = plain.with_digest(said, plain.tensors) if decides else plain
    for to in ("peft", "adapterhub", "merged"):
        pt.export_adapter(adapter, tmp_path / to, to, **({"backbone": backbone} if to == "merged" else {}))
        settings = json.loads((tmp_path / to / "polytask.json").read_text())
        assert settings.get("holds_from") == (cuts and pytest.approx(cuts, abs=1e-6))
        assert ("holds from" in (tmp_path / to / "README.md").read_text()) == (cuts is not None)
    if kind == "multilabel":
        monkeypatch.chdir(tmp_path / "merged")
        names: dict[str, Any] = {}
        exec(python_in(Path("README.md")), names)
        store = pt.Store(tmp_path / "store")
        store.put(adapter)
        for row, own in zip(names["answer"](TEXTS).tolist(), pt.MultiTask(backbone, store).predict(TEXTS, "task")):
            held = [f"label {k}" for k, prob in enumerate(row) if cuts[k] is not None and prob >= cuts[k]]
            assert held == list(own.labels or ())
