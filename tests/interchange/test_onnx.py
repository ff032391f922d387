"""onnxruntime gives the same answers, for every method and head, also in mixed batches."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

import polytask as pt
from polytask.adapters.module import LoadedAdapter, encode_batch
from polytask.data.batches import collate
from polytask.data.encoding import encode
from polytask.data.task import Rows
from polytask.errors import AdapterError, DataError, RouteError
from polytask.interchange.onnx import run_graph
from polytask.methods import IA3, BitFit, FullFineTuning, Houlsby, LayerNormOnly, LoRA, Method, Parallel, Pfeiffer
from tests.cli.test_cli import refused, succeeded, table
from tests.interchange.cases import RECORDED, TEXTS, answered, backbone_of, random_adapter

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TANH = ("dense", "tanh")
EVERY: list[tuple[Method, str, Any, Any, int, tuple[str, ...]]] = [
    (Houlsby(4), "bert", "mean", "classification", 2, ()),
    (Houlsby(4, norms=False, layers=1), "distilbert", "cls", "regression", 1, ()),
    (Pfeiffer(4), "roberta", "cls", "multilabel", 5, TANH),
    (Parallel(4), "electra", "cls", "classification", 77, ()),
    (LoRA(4), "mpnet", "mean", "classification", 3, ()),
    (IA3(), "bert", "pooler", "multilabel", 2, ()),
    (BitFit(), "bert", "cls", "regression", 1, ()),
    (LayerNormOnly(), "roberta", "mean", "classification", 2, ()),
    (FullFineTuning(), "distilbert", "late", "classification", 2, TANH),
]
DOCS = Path(__file__).parent.parent.parent / "docs" / "ecosystem.md"


@pytest.mark.parametrize(("method", "architecture", "pooling", "kind", "num_labels", "layers"), EVERY)
def test_onnxruntime_gives_the_same_answers(
    method: Method, architecture: str, pooling: Any, kind: Any, num_labels: int, layers: Any, tmp_path: Path
) -> None:
    backbone = backbone_of(architecture, pooling)
    adapter = random_adapter(backbone, method, kind, num_labels, layers)
    written = pt.export_onnx(adapter, tmp_path / "out.onnx", backbone=backbone)
    tokenizer = Tokenizer.from_file(str(written.tokenizer))
    own = answered(backbone, adapter, tmp_path)
    for batch_size in (len(TEXTS), 2, 1):
        theirs = torch.stack(list(run_graph(str(written.path), tokenizer, TEXTS, batch_size)))
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-4)


def test_pairs_give_the_same_answers(tmp_path: Path) -> None:
    backbone = backbone_of("bert", "mean")
    adapter = random_adapter(backbone, Houlsby(4))
    written = pt.export_onnx(adapter, tmp_path / "out.onnx", backbone=backbone)
    store = pt.Store(tmp_path / "store")
    store.put(adapter)
    pairs = [(text, "the film") for text in TEXTS]
    own = [list((p.probs or {}).values()) for p in pt.MultiTask(backbone, store).predict(pairs, "task")]
    theirs = torch.stack(list(run_graph(str(written.path), Tokenizer.from_file(str(written.tokenizer)), pairs)))
    torch.testing.assert_close(theirs, torch.tensor(own), rtol=0, atol=1e-4)


def test_span_logits_are_the_same(tmp_path: Path) -> None:
    backbone = backbone_of("bert", "cls")
    live = LoadedAdapter(backbone, Houlsby(4, init_std=0.3), "span", (), key=(0,))
    said = {"task": "qa", "kind": "span", "labels": (), "method": live.method, "backbone": backbone}
    adapter = pt.Adapter.create(live.tensors(), **said, metric="span_f1", score=0.0, recipe={"max_length": 32})
    written = pt.export_onnx(adapter, tmp_path / "out.onnx", backbone=backbone)
    again = LoadedAdapter.from_adapter(backbone, adapter)
    attached = pt.attach.__globals__["Attached"].of(backbone)
    attached.add("qa", again.deltas)
    batch = collate([(encode(backbone.tokenizer, Rows(TEXTS[:1]), 32), range(1))], 0, backbone.device)
    with torch.inference_mode(), attached.routed(pt.Route.of(["qa"])):
        hidden, _ = encode_batch(backbone, batch)
        own = again.head(hidden)
    (theirs,) = run_graph(str(written.path), Tokenizer.from_file(str(written.tokenizer)), TEXTS[:1])
    torch.testing.assert_close(theirs, own[0], rtol=0, atol=1e-4)


MANY: list[list[Method]] = [
    [Houlsby(4), Houlsby(7), Houlsby(2)],
    [Pfeiffer(3), Pfeiffer(8), Pfeiffer(1)],
    [LoRA(2, 4.0), LoRA(4, 8.0), LoRA(3, 6.0)],
    [IA3(), IA3(), IA3()],
]


@pytest.mark.parametrize("methods", MANY, ids=lambda methods: methods[0].name)
def test_adapters_share_a_graph_and_each_row_chooses_its_own(methods: list[Method], tmp_path: Path) -> None:
    backbone = backbone_of("bert", "mean")
    kinds = [("classification", 4), ("multilabel", 2), ("regression", 1)]
    adapters = [random_adapter(backbone, m, kind, n).renamed(kind) for m, (kind, n) in zip(methods, kinds, strict=True)]
    written = pt.export_onnx(adapters, tmp_path / "many.onnx", backbone=backbone)
    session = onnxruntime.InferenceSession(str(written.path))
    about = json.loads(session.get_modelmeta().custom_metadata_map["polytask"])
    assert [task["task"] for task in about] == ["classification", "multilabel", "regression"]
    encoded = Tokenizer.from_file(str(written.tokenizer)).encode_batch(TEXTS)
    route = [2, 0, 1, 1, 0]
    feeds = {
        "input_ids": np.array([of.ids for of in encoded]),
        "attention_mask": np.array([of.attention_mask for of in encoded]),
        "token_type_ids": np.array([of.type_ids for of in encoded]),
        "adapter": np.array(route),
    }
    scores = session.run(["scores"], feeds)[0]
    for row, number in enumerate(route):
        own = answered(backbone, adapters[number], tmp_path / str(row))[row]
        np.testing.assert_allclose(scores[row, : len(own)], own, atol=1e-4)


def test_adapters_whose_formulas_differ_do_not_share_a_graph(tmp_path: Path) -> None:
    backbone = backbone_of("bert", "mean")
    for other in (Pfeiffer(4), Houlsby(4, "relu"), Houlsby(4, layers=1), FullFineTuning()):
        with pytest.raises(RouteError, match="may differ in size only"):
            pt.export_onnx(
                [random_adapter(backbone, Houlsby(4)), random_adapter(backbone, other)],
                tmp_path / "many.onnx",
                backbone=backbone,
            )
    headed = random_adapter(backbone, Houlsby(4), layers=TANH)
    with pytest.raises(RouteError, match="export it alone"):
        pt.export_onnx([random_adapter(backbone, Houlsby(4)), headed], tmp_path / "many.onnx", backbone=backbone)
    assert list(tmp_path.iterdir()) == []


def test_int8_reports_its_loss_and_needs_labelled_rows(tmp_path: Path) -> None:
    backbone = backbone_of("bert", "mean")
    adapter = random_adapter(backbone, Houlsby(4))
    with pytest.raises(DataError, match="int8 needs labelled rows"):
        pt.export_onnx(adapter, tmp_path / "out.onnx", backbone=backbone, int8=True)
    own = answered(backbone, adapter, tmp_path)
    targets = [int(row.argmax()) for row in own]
    rows = Rows(TEXTS, targets=targets)
    whole = pt.export_onnx(adapter, tmp_path / "fp32.onnx", backbone=backbone, rows=rows)
    small = pt.export_onnx(adapter, tmp_path / "int8.onnx", backbone=backbone, rows=rows, int8=True)
    assert whole.scores == {"fp32": 1.0}
    assert small.scores is not None
    assert small.scores["fp32"] == 1.0
    theirs = torch.stack(list(run_graph(str(small.path), Tokenizer.from_file(str(small.tokenizer)), TEXTS)))
    assert small.scores["int8"] == float((theirs.argmax(dim=1) == torch.tensor(targets)).float().mean())
    assert (theirs - own).abs().max() > 1e-6
    assert small.size_bytes < whole.size_bytes


def test_a_name_that_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"does not end in \.onnx"):
        pt.export_onnx(random_adapter(backbone_of("bert", "mean"), LoRA(2)), tmp_path / "out")


def test_the_ten_lines_of_the_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(# run\.py\n.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    backbone = backbone_of("bert", "mean")
    adapter = random_adapter(backbone, Houlsby(4))
    pt.export_onnx(adapter, tmp_path / "spam.onnx", backbone=backbone)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"texts": TEXTS}
    exec(code, names)
    np.testing.assert_allclose(names["scores"], answered(backbone, adapter, tmp_path), atol=1e-4)
    assert names["labels"] == ["label 0", "label 1"]
    assert len([line for line in code.splitlines() if line and not line.startswith("#")]) <= 12


def test_the_command_line_exports_and_says_what_int8_costs(tmp_path: Path) -> None:
    backbone = backbone_of("bert", "mean")
    store = pt.Store(tmp_path / "store")
    store.put(random_adapter(backbone, LoRA(2)))
    rows = table(tmp_path / "rows.csv", [(text, f"label {n % 2}") for n, text in enumerate(TEXTS)])
    place = RECORDED / "backbones" / "bert"
    given = ("--to", "onnx", "--store", tmp_path / "store", "--backbone", place)
    out = tmp_path / "out.onnx"
    said = json.loads(succeeded("export", "task", out, *given, "--int8", "--test", rows, "--json"))
    assert set(said["scores"]) == {"fp32", "int8"}
    assert "int8 needs labelled rows" in refused("export", "task", out, *given, "--int8")
    assert "are for --to onnx" in refused("export", "task", tmp_path / "x", "--to", "peft", "--int8")
