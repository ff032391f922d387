"""Prediction heads: the layers before the output layer, their place in files, and invalid ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from polytask.adapters.adapter import Adapter
from polytask.adapters.header import Header
from polytask.adapters.module import LoadedAdapter
from polytask.adapters.store import Store
from polytask.architectures import HeadLayer
from polytask.backbones.backbone import Backbone
from polytask.backbones.encoder import mean_of_tokens
from polytask.data.task import Kind
from polytask.errors import AdapterError
from polytask.evaluation.heads import answers, head_for
from polytask.inference.predict import MultiTask
from polytask.interchange.head_layers import head_layers
from polytask.methods import Houlsby, described
from tests.samples import created, same, tensors_of

TANH = head_layers(("dense", "tanh"))


def headed(layers: Sequence[HeadLayer] = TANH, **given: object) -> Adapter:
    tensors = tensors_of(Houlsby(3))
    dense = [n for n, layer in enumerate(layers) if layer.kind == "dense"]
    tensors |= {f"head.{n}.weight": torch.randn(8, 8) for n in dense} | {
        f"head.{n}.bias": torch.randn(8) for n in dense
    }
    return created(Houlsby(3), tensors=tensors, prediction_head=layers, **given)


def test_the_layers_come_before_the_output_layer() -> None:
    head = head_for("classification", 3, 8, head_layers(("dense", "gelu", "dense", "tanh")))
    head.start(torch.Generator().manual_seed(0))
    x = torch.randn(5, 8)
    first, second = head.get_submodule("0"), head.get_submodule("2")
    expected = F.linear(torch.tanh(second(F.gelu(first(x)))), head.weight, head.bias)
    torch.testing.assert_close(head(x), expected)
    assert [name for name, _ in head.named_parameters()] == [
        *("weight", "bias", "0.weight", "0.bias", "2.weight", "2.bias")
    ]


def test_heads_with_and_without_layers_work_in_one_batch() -> None:
    heads = [head_for("classification", 3, 8, layers) for layers in ((), TANH, (), TANH)]
    for number, head in enumerate(heads):
        head.start(torch.Generator().manual_seed(number))
    pooled, mask = torch.randn(4, 8), torch.ones(4, 1)
    for row, answer in enumerate(answers(heads, pooled[:, None], pooled, mask)):
        torch.testing.assert_close(answer, heads[row].scores(heads[row](pooled[row : row + 1]))[0])


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_late_heads_give_the_mean_of_their_outputs_for_the_tokens(kind: Kind) -> None:
    heads = [head_for(kind, 3, 8, layers, is_late=True) for layers in (TANH, (), TANH)]
    for number, head in enumerate(heads):
        head.start(torch.Generator().manual_seed(number))
        torch.nn.init.normal_(head.bias)
    hidden, mask = torch.randn(3, 5, 8), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    hidden.masked_fill_(mask[:, :, None] == 0, 0)
    pooled = mean_of_tokens(hidden, mask)
    for row, answer in enumerate(answers(heads, hidden, pooled, mask)):
        on_tokens = [heads[row].before_last(token[None]) for token in hidden[row, : mask[row].sum()]]
        outputs = torch.stack([F.linear(of, heads[row].weight, heads[row].bias) for of in on_tokens])
        torch.testing.assert_close(answer, heads[row].scores(outputs.mean(dim=0))[0])
    assert [head.is_late for head in heads] == [True, False, True]


def test_a_file_stores_layers_and_is_format_1_without_them(tmp_path: Path) -> None:
    adapter = headed()
    adapter.save(tmp_path / "a.safetensors")
    again = Adapter.load(tmp_path / "a.safetensors")
    assert same(again, adapter)
    assert (again.header.prediction_layers, again.header.to_object()["format"]) == (TANH, 2)
    assert created(Houlsby(3)).header.to_object()["format"] == 1


@pytest.mark.parametrize("layers", [[{"layer": "softmax"}], [], [{"layer": "tanh"}] * 17, [3], ["dense"], "dense"])
def test_unknown_layers_are_refused(layers: object) -> None:
    given = {**headed().header.to_object(), "prediction_head": layers}
    with pytest.raises(AdapterError, match="prediction"):
        Header.from_object(given)


def test_the_tensors_must_match_the_layers() -> None:
    adapter = headed()
    with pytest.raises(AdapterError, match=r"'head\.0\.(weight|bias)' is not a parameter"):
        created(Houlsby(3), tensors=dict(adapter.tensors))
    with pytest.raises(AdapterError, match=r"'head\.2\.weight' is missing"):
        created(Houlsby(3), tensors=dict(adapter.tensors), prediction_head=head_layers(("dense", "tanh", "dense")))
    with pytest.raises(AdapterError, match="span head"):
        headed(kind="span", labels=[])


@pytest.mark.parametrize(
    "source",
    [{}, {"format": "peft"}, {"format": "", "name": "a", "revision": "", "sha256": "0" * 64}, "peft"],
)
def test_an_invalid_source_is_refused(source: object) -> None:
    given = {**headed().header.to_object(), "source": source}
    with pytest.raises(AdapterError, match="source"):
        Header.from_object(given)


def test_the_source_of_a_file_is_stored() -> None:
    source = {"format": "peft", "name": "owner/name", "revision": "", "sha256": "0" * 64}
    adapter = created(Houlsby(3), source=source)
    assert Header.from_json(adapter.header.to_json()).source == source


def test_an_adapter_with_layers_predicts_from_a_store(tiny_backbone: Backbone, tmp_path: Path) -> None:
    live = LoadedAdapter(tiny_backbone, Houlsby(2), "classification", ("a", "b"), key=(0,), prediction_head=TANH)
    said = {"task": "mood", "kind": "classification", "labels": ("a", "b"), "metric": "accuracy", "score": 0.0}
    adapter = Adapter.create(
        live.tensors(), **said, method=Houlsby(2), backbone=tiny_backbone, recipe={}, prediction_head=TANH
    )
    store = Store(tmp_path)
    store.put(adapter)
    (prediction,) = MultiTask(tiny_backbone, store).predict(["good film"], "mood")
    assert sum((prediction.probs or {}).values()) == pytest.approx(1)


def test_houlsby_without_norms_has_only_bottlenecks_and_the_default_is_not_written(
    tiny_backbone: Backbone,
) -> None:
    assert described(Houlsby()) == {
        "name": "houlsby",
        "size": 64,
        "activation": "gelu",
        "init_std": 0.01,
        "layers": None,
    }
    live = LoadedAdapter(tiny_backbone, Houlsby(4, norms=False), "classification", ("a", "b"), key=(0,))
    assert {place.rpartition(".")[2] for place in live.deltas} == {"attn_out", "ffn_out"}
    hidden, layers = tiny_backbone.hidden, tiny_backbone.num_layers
    assert live.num_trained == layers * 2 * (2 * 4 * hidden + hidden + 4)
