"""Each architecture equals transformers with the same weights: hidden states, gradients and classifier outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

from polytask.adapters.adapter import Adapter
from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter, num_trained
from polytask.adapters.store import Store
from polytask.architectures import ARCHITECTURES, Fused, HeadLayer, architecture_of, locate
from polytask.backbones.backbone import Backbone
from polytask.backbones.entry_point import EntryPoint
from polytask.backbones.loading import empty_backbone, empty_model, load_backbone
from polytask.cli.inspect import trained_by_site
from polytask.data.batches import collate
from polytask.data.encoding import encode
from polytask.data.task import Rows, Task
from polytask.errors import BackboneError, RecipeError, UnsupportedArchitecture
from polytask.evaluation.heads import Head, head_for
from polytask.inference.predict import MultiTask
from polytask.methods import FullFineTuning, Houlsby, LoRA, Method, Pfeiffer, TopLayers
from polytask.methods.lora import LowRank, merged
from polytask.routing.route import Route
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from tests.tiny import NEW_CONFIGS, save_tiny, tiny_config, tiny_tokenizer

HEAD = {"weight": "classifier.weight", "bias": "classifier.bias"}
_DENSE = {"0.weight": "classifier.dense.weight", "0.bias": "classifier.dense.bias"}
_DENSE_OUT = _DENSE | {"weight": "classifier.out_proj.weight", "bias": "classifier.out_proj.bias"}
_POOLER = {"0.weight": "pooler.dense.weight", "0.bias": "pooler.dense.bias", **HEAD}
_DENSE_NORM = {"0.weight": "head.dense.weight", "2.weight": "head.norm.weight", **HEAD}
_SCORE = {"weight": "score.weight"}
COPIED: dict[str, Mapping[str, str]] = {
    "mpnet": _DENSE_OUT,
    "distilbert": {"0.weight": "pre_classifier.weight", "0.bias": "pre_classifier.bias", **HEAD},
    "camembert": _DENSE_OUT,
    "ernie": HEAD,
    "roformer": _DENSE_OUT,
    "modernbert": _DENSE_NORM,
    "modernbert-decoder": _DENSE_NORM,
    "deberta-v2": _POOLER,
    "deberta": _POOLER,
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma3_text"), _SCORE),
    "eurobert": {"0.weight": "dense.weight", "0.bias": "dense.bias", **HEAD},
    "albert": HEAD,
    "gte": {"0.weight": "gte.pooler.dense.weight", "0.bias": "gte.pooler.dense.bias", **HEAD},
    "nomic_bert": HEAD,
    "jina_embeddings_v3": _DENSE_OUT,
}
POOLED = {"nomic_bert": "pooler", "jina_embeddings_v3": "cls"}
"""The pooling of transformers' classifiers where it differs from that of the architecture's checkpoints."""
DENSE = HeadLayer("dense", bias=True)
CLASSIFIERS = {
    "mpnet": (DENSE, HeadLayer("tanh")),
    "distilbert": (DENSE, HeadLayer("relu")),
    "jina_embeddings_v3": (DENSE, HeadLayer("tanh")),
}
"""The layers of transformers' classifiers where a task's head is one linear here."""

LONGER = {"num_hidden_layers": 3, "num_attention_heads": 2}
OTHER = {"eurobert": {"classifier_pooling": "bos"}, "distilbert": {"n_layers": 3, "n_heads": 2}}
GROUPED = {"num_key_value_heads": 1, "head_dim": 16}
ODD: dict[str, dict[str, Any]] = {
    "mpnet": {"pad_token_id": 1, "max_position_embeddings": 200, "hidden_act": "gelu_new"},
    "distilbert": {"n_layers": 3, "n_heads": 2, "sinusoidal_pos_embds": True},
    "camembert": {"pad_token_id": 3},
    "ernie": {"use_task_id": False, "type_vocab_size": 3},
    "roformer": {"rotary_value": True, "embedding_size": 32},
    "modernbert": {
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "local_attention": 4,
        "attention_bias": True,
        "mlp_bias": True,
        "norm_bias": True,
        "classifier_pooling": "mean",
        "classifier_bias": True,
        "hidden_activation": "silu",
    },
    "modernbert-decoder": {
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "local_attention": 4,
        "attention_bias": True,
        "mlp_bias": True,
        "norm_bias": True,
        "classifier_bias": True,
        "classifier_activation": "silu",
    },
    "deberta-v2": {"share_att_key": False, "conv_kernel_size": 3, "conv_act": "gelu", "position_biased_input": True},
    "deberta": {"type_vocab_size": 2, "position_biased_input": False, "max_relative_positions": 5},
    "llama": GROUPED | {"attention_bias": True, "mlp_bias": True},
    "mistral": GROUPED | {"sliding_window": None, "hidden_act": "gelu"},
    "qwen2": GROUPED | {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
    "qwen3": GROUPED | {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
    "smollm3": GROUPED
    | {
        "attention_bias": True,
        "mlp_bias": True,
        "no_rope_layers": [1, 0, 0],
        "use_sliding_window": True,
        "sliding_window": 3,
    },
    "gemma3_text": GROUPED
    | {
        "use_bidirectional_attention": True,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 5,
    },
    "eurobert": GROUPED | {"classifier_pooling": "mean", "attention_bias": True},
    "albert": {"num_hidden_groups": 3, "embedding_size": 8},
    "gte": {"hidden_act": "relu"},
    "nomic_bert": {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}},
    "jina_embeddings_v3": {"type_vocab_size": 2},
}
SHAPES: dict[str, dict[str, dict[str, Any]]] = {
    "tiny": {name: {} for name in COPIED},
    "longer": {name: LONGER | OTHER.get(name, {}) for name in COPIED},
    "odd": {name: LONGER | ODD.get(name, {}) for name in COPIED},
}


@dataclass
class Pair:
    """Transformers' classifier and a backbone with a head of the same weights."""

    theirs: Any
    backbone: Backbone
    head: Head

    def inputs(self, lengths: tuple[int, ...], left: bool = False) -> tuple[Tensor, Tensor]:
        """Random token ids of texts with these lengths, and their mask."""
        generator = torch.Generator().manual_seed(3)
        pad = self.theirs.config.pad_token_id or 0
        width = max(lengths)
        ids, mask = torch.full((len(lengths), width), pad), torch.zeros(len(lengths), width, dtype=torch.long)
        for row, length in enumerate(lengths):
            at = slice(width - length, width) if left else slice(length)
            ids[row, at] = torch.randint(5, 70, (length,), generator=generator)
            mask[row, at] = 1
        return ids, mask

    def ours(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states and logits."""
        hidden, pooled = self.backbone.encoder(ids, mask, None)
        return hidden, self.head(self.head.input_of(hidden, pooled, mask))


def pair_of(folder: Path, architecture: str, **changes: Any) -> Pair:
    """A random classifier of transformers, saved as a backbone's folder, and its head copied."""
    torch.manual_seed(1)
    settings = {k: v for k, v in tiny_config(architecture, **changes).items() if k != "model_type"}
    theirs = AutoModelForSequenceClassification.from_config(CONFIG_MAPPING[architecture](num_labels=3, **settings))
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            scale = 0.1 if "norm" in name.lower() or "bias" in name else 0.05
            parameter.add_(scale * torch.randn_like(parameter))
    theirs.eval().base_model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    pooling: Any = POOLED.get(architecture)
    backbone = load_backbone(folder, device="cpu", dtype="float32", pooling=pooling)
    layers = CLASSIFIERS.get(architecture, backbone.head_layers)
    head = head_for("classification", 3, backbone.hidden, layers, is_late=backbone.pooling == "late")
    state = {name: torch.zeros_like(value) for name, value in head.state_dict().items()}
    of_theirs = theirs.state_dict()
    copied = {name: COPIED[architecture].get(name, _odd_name(name)) for name in state}
    head.load_state_dict({name: of_theirs.get(copied[name], zeros) for name, zeros in state.items()})
    return Pair(theirs, backbone, head)


def _odd_name(name: str) -> str:
    """The biases that only an odd ModernBERT has."""
    return {"0.bias": "head.dense.bias", "2.bias": "head.norm.bias"}.get(name, "")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("architecture", COPIED)
def test_hidden_states_gradients_and_answers_are_those_of_transformers(
    architecture: str, shape: str, tmp_path: Path
) -> None:
    pair = pair_of(tmp_path, architecture, **SHAPES[shape][architecture])
    longest = pair.backbone.max_length
    ids, mask = pair.inputs((9, longest, 3, 17))
    hidden, logits = pair.ours(ids, mask)
    theirs = pair.theirs(input_ids=ids, attention_mask=mask)
    base = pair.theirs.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(hidden[mask.bool()], base[mask.bool()], rtol=0, atol=1e-5)
    torch.testing.assert_close(logits, theirs.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(_gradient(pair, ids, mask, ours=True), _gradient(pair, ids, mask), rtol=0, atol=1e-5)


SCALED = {
    "longrope": {
        "original_max_position_embeddings": 10,
        "short_factor": [1.0, 1.1, 1.2, 1.3],
        "long_factor": [2.0] * 4,
    },
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 16},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
}
"""Scalings of rotary positions; the first two depend on the length of the longest text."""


@pytest.mark.parametrize("kind", SCALED)
@pytest.mark.parametrize("architecture", ["modernbert", "llama", "gemma3_text", "nomic_bert"])
def test_scaled_rotary_positions_are_those_of_transformers(architecture: str, kind: str, tmp_path: Path) -> None:
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": 50.0, **SCALED[kind]}
    if architecture in ("modernbert", "gemma3_text"):
        rope = dict.fromkeys(("full_attention", "sliding_attention"), rope)
    pair = pair_of(tmp_path, architecture, rope_parameters=rope, max_position_embeddings=24)
    for lengths in ((9, 3), (12, 5), (22, 24)):
        ids, mask = pair.inputs(lengths)
        with torch.no_grad():
            theirs = pair.theirs(input_ids=ids, attention_mask=mask).logits
            torch.testing.assert_close(pair.ours(ids, mask)[1], theirs, rtol=0, atol=1e-5)


def test_a_head_with_an_activation_that_is_not_supported_is_refused(tmp_path: Path) -> None:
    backbone = load_backbone(save_tiny(tmp_path, "modernbert", classifier_activation="quick_gelu"), device="cpu")
    with pytest.raises(BackboneError, match=r"the activation 'quick_gelu'; supported are gelu, .* own head"):
        LoadedAdapter(backbone, Houlsby(size=4), "classification", ("a", "b"), key=(0,))


def _gradient(pair: Pair, ids: Tensor, mask: Tensor, ours: bool = False) -> Tensor:
    """Of the answers with regard to the embeddings of words."""
    model: Any = pair.backbone.model if ours else pair.theirs
    weight = model.get_input_embeddings().weight.requires_grad_()
    logits = pair.ours(ids, mask)[1] if ours else pair.theirs(input_ids=ids, attention_mask=mask).logits
    (grad,) = torch.autograd.grad((logits * torch.linspace(-1, 1, 3)).sum(), [weight])
    weight.requires_grad_(False)
    return grad


@pytest.mark.parametrize("architecture", ["modernbert", "llama", "qwen2", "qwen3", "gemma3_text", "eurobert"])
def test_padding_on_the_left_changes_no_answer_of_rotary_rows(architecture: str, tmp_path: Path) -> None:
    changes = {"classifier_pooling": "mean"} if architecture == "modernbert" else {}
    pair = pair_of(tmp_path, architecture, **changes)
    with torch.no_grad():
        right, left = (pair.ours(*pair.inputs((9, 20, 3), left=side))[1] for side in (False, True))
        ids, mask = pair.inputs((9, 20, 3), left=True)
        theirs = pair.theirs(input_ids=ids, attention_mask=mask).logits
        alone = [pair.ours(row[keep.bool()][None], keep[keep.bool()][None])[1] for row, keep in zip(ids, mask)]
    torch.testing.assert_close(left, right, rtol=0, atol=1e-5)
    torch.testing.assert_close(left, theirs, rtol=0, atol=1e-5)
    torch.testing.assert_close(left, torch.cat(alone), rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "deberta-v2", "modernbert", "llama"])
def test_a_tokenizer_that_pads_on_the_left_changes_nothing(architecture: str, tmp_path: Path, folder_of: Any) -> None:
    backbone = load_backbone(folder_of(architecture), device="cpu", dtype="float32")
    rows, vectors = Rows(["good film", "the plot was not great at all"]), []
    for side in ("right", "left"):
        backbone.tokenizer.padding_side = side
        batch = collate([(encode(backbone.tokenizer, rows, 16), range(2))], 0, backbone.device)
        vectors.append(backbone.encoder(batch.ids, batch.mask, batch.types)[1])
    torch.testing.assert_close(vectors[0], vectors[1], rtol=0, atol=0)


@pytest.mark.parametrize("architecture", COPIED)
def test_a_partial_pass_can_start_and_stop_at_each_layer(architecture: str, folder_of: Any) -> None:
    backbone = load_backbone(folder_of(architecture), device="cpu", dtype="float32")
    ids, mask = torch.randint(5, 70, (3, 9)), torch.ones(3, 9, dtype=torch.long)
    mask[1, 5:] = 0
    with torch.no_grad():
        whole = backbone.encoder(ids, mask, None)[0]
        for layer in range(1, backbone.num_layers + 1):
            states = backbone.encoder.prefix_states(ids, mask, None, EntryPoint(layer), keep_padding=True)
            entered = backbone.encoder(ids, mask, None, states, EntryPoint(layer))[0]
            torch.testing.assert_close(entered, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_an_adapter_trains_is_the_arithmetic_of_its_places(architecture: str, folder_of: Any) -> None:
    backbone = load_backbone(folder_of(architecture), device="cpu", dtype="float32")
    d, r, layers = backbone.hidden, 4, backbone.num_layers
    places = [found.place for found in locate(backbone.model, backbone.row)]
    norms = [place for place in places if "norm" in place.site]
    of_norms = sum(place.width_out * (2 if place.norm == "layer" else 1) for place in norms)
    bottleneck = 2 * r * d + r + d
    assert num_trained(backbone, Houlsby(size=r)) == 2 * layers * bottleneck + of_norms
    assert num_trained(backbone, Houlsby(size=r, norms=False)) == 2 * layers * bottleneck
    assert num_trained(backbone, Pfeiffer(size=r)) == layers * bottleneck
    linears = [place for place in places if place.site in ("query", "value")]
    assert num_trained(backbone, LoRA(rank=2)) == sum(2 * (place.width_in + place.width_out) for place in linears)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("linear", ["query", "value", "attn_dense", "ffn_up", "ffn_down"])
def test_an_update_of_a_linear_can_be_merged_into_it(architecture: str, linear: str, folder_of: Any) -> None:
    backbone = load_backbone(folder_of(architecture), device="cpu", dtype="float32")
    if backbone.row.shares_layers:
        pytest.skip("one weight serves all layers, their updates differ")
    live = LoadedAdapter(backbone, LoRA(rank=2, linears=(linear,)), "classification", ("a", "b"), key=(0,))
    for parameter in live.tree.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    attached = Attached.of(backbone)
    attached.add("a", live.deltas)
    ids, mask = torch.randint(5, 70, (2, 7)), torch.ones(2, 7, dtype=torch.long)
    with torch.no_grad():
        before = backbone.encoder(ids, mask, None)[0]
        with attached.routed(Route.of("aa")):
            beside = backbone.encoder(ids, mask, None)[0]
        attached.remove("a")
        for found in locate(backbone.model, backbone.row):
            delta = live.deltas.get(found.place.name)
            if isinstance(delta, LowRank) and isinstance(found.output, torch.nn.Linear):
                found.output.weight.copy_(merged(found.output, delta, found.rows).weight)
        after = backbone.encoder(ids, mask, None)[0]
    assert (beside - before).abs().max() > 1e-3
    torch.testing.assert_close(after, beside, rtol=0, atol=2e-5)


def adapter_of(backbone: Backbone, method: Method) -> Any:
    live = LoadedAdapter(backbone, method, "classification", ("a", "b"), key=(0, "x"))
    said: dict[str, Any] = {"task": "t", "kind": "classification", "labels": ("a", "b"), "metric": "accuracy"}
    said |= {"score": 0.5, "recipe": {}, "backbone": backbone, "method": method}
    return live, Adapter.create(live.tensors(), prediction_head=backbone.head_layers, **said)


@pytest.mark.parametrize("architecture", NEW_CONFIGS)
@pytest.mark.parametrize("method", [Houlsby(size=3), LoRA(rank=2, linears=("query", "attn_dense", "ffn_up"))])
def test_a_saved_adapter_with_its_prediction_head_answers_as_before(
    method: Method, architecture: str, tmp_path: Path, folder_of: Any
) -> None:
    backbone = load_backbone(folder_of(architecture), device="cpu", dtype="float32")
    live, adapter = adapter_of(backbone, method)
    adapter.save(tmp_path / "a.safetensors")
    again = LoadedAdapter.from_adapter(backbone, Adapter.load(tmp_path / "a.safetensors"))
    vectors = torch.randn(3, backbone.hidden)
    torch.testing.assert_close(again.head(vectors), live.head(vectors), rtol=0, atol=0)
    assert len(adapter.header.prediction_layers) == len(backbone.head_layers)
    assert {name for name in adapter.tensors if name.startswith("head.")} == {
        f"head.{name}" for name in live.head.state_dict()
    }


@pytest.mark.parametrize("architecture", ["modernbert", "llama", "deberta-v2", "albert", "gte"])
def test_copies_of_the_backbone_are_saved_and_loaded(architecture: str, folder_of: Any) -> None:
    backbone = load_backbone(folder_of(architecture), device="cpu", dtype="float32")
    for method in (FullFineTuning(), TopLayers(n=1)):
        if backbone.row.shares_layers and isinstance(method, TopLayers):
            with pytest.raises(RecipeError, match="all layers share one set of weights"):
                adapter_of(backbone, method)
            continue
        live, adapter = adapter_of(backbone, method)
        assert LoadedAdapter.from_adapter(backbone, adapter).copies.keys() == live.copies.keys()
        above = f"{backbone.row.final_norm}.weight"
        assert (above in live.copies) == (backbone.row.final_norm is not None)


def test_layers_of_albert_share_weights_and_differ_in_tasks(folder_of: Any) -> None:
    backbone = load_backbone(folder_of("albert"), device="cpu", dtype="float32")
    first, second = backbone.model.get_submodule(backbone.row.layers).children()
    assert first is not second
    assert all(one is other for one, other in zip(first.parameters(), second.parameters(), strict=True))
    assert len({name for name in Attached.of(backbone).sites if name.endswith("attn_out")}) == 2
    with pytest.raises(BackboneError, match="one layer a group"):
        empty_model(tiny_config("albert", inner_group_num=2))


def test_the_parts_of_a_fused_projection_are_disjoint_and_complete() -> None:
    for per_head in (False, True):
        parts = [Fused("x", part, per_head=per_head).rows(24, 4) for part in range(3)]
        assert sorted(row for part in parts for row in part) == list(range(24))
    assert parts[1] == (2, 3, 8, 9, 14, 15, 20, 21)


def test_an_unknown_architecture_is_refused_with_the_nearest_ones() -> None:
    with pytest.raises(UnsupportedArchitecture, match=r"The nearest are: deberta-v2.*CONTRIBUTING"):
        architecture_of("deberta-v4")


def test_no_module_but_the_table_asks_for_a_model_type() -> None:
    import polytask

    package = Path(polytask.__file__).parent
    for file in package.rglob("*.py"):
        if file.parent.name != "architectures":
            assert "if config.model_type" not in file.read_text(), file


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_configuration_alone_is_enough_to_inspect(architecture: str, folder_of: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder_of(architecture) / "config.json").read_text())
    backbone = load_backbone(folder_of(architecture), device="cpu", dtype="float32")
    model, row = empty_backbone(tmp_path)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    for method in (Houlsby(size=4), LoRA(rank=2)):
        assert sum(trained_by_site(model, row, method).values()) == num_trained(backbone, method)


def test_positions_start_after_the_padding_id_of_the_checkpoint(tmp_path: Path) -> None:
    """A RoBERTa whose padding is token 3 has two positions fewer than one whose padding is token 1."""
    for architecture, padding, longest in (("roberta", 1, 64), ("roberta", 3, 62), ("mpnet", 3, 64), ("bert", 3, 66)):
        folder = save_tiny(tmp_path / f"{architecture}-{padding}", architecture, pad_token_id=padding)
        backbone = load_backbone(folder, device="cpu", dtype="float32")
        assert backbone.max_length == longest
        ids = torch.randint(5, 70, (1, longest))
        assert backbone.encoder(ids, torch.ones_like(ids), None)[0].isfinite().all()


@pytest.mark.parametrize("architecture", ["modernbert", "gemma3_text", "llama", "deberta-v2"])
@pytest.mark.parametrize("is_trained", [False, True])
def test_padding_outside_every_window_makes_no_nan(architecture: str, is_trained: bool, folder_of: Any) -> None:
    backbone = load_backbone(folder_of(architecture), device="cpu", dtype="bfloat16")
    live = LoadedAdapter(backbone, LoRA(rank=2), "classification", ("a", "b"), key=(0,))
    attached = Attached.of(backbone)
    attached.add("a", live.deltas)
    ids, mask = torch.randint(5, 70, (2, 40)), torch.ones(2, 40, dtype=torch.long)
    for hides in (slice(2, None), slice(None, 38)):
        mask[0], mask[1] = 1, 1
        mask[0, hides] = 0
        with torch.set_grad_enabled(is_trained), attached.routed(Route.of("aa")):
            hidden, pooled = backbone.encoder(ids, mask, None)
        assert hidden.isfinite().all()
        assert pooled.isfinite().all()
        if is_trained:
            pooled.float().square().sum().backward()
            assert all(p.grad is None or p.grad.isfinite().all() for d in live.deltas.values() for p in d.parameters())


def test_frequencies_of_positions_keep_their_precision_in_bf16(folder_of: Any) -> None:
    backbone = load_backbone(folder_of("llama"), device="cpu", dtype="bfloat16")
    assert backbone.dtype == torch.bfloat16
    assert {buffer.dtype for buffer in backbone.model.buffers() if buffer.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("architecture", ["modernbert", "deberta-v2", "gemma3_text", "albert", "eurobert"])
def test_trained_tasks_answer_the_same_in_one_batch_and_alone(
    architecture: str, folder_of: Any, tiny_task: Task, tmp_path: Path
) -> None:
    backbone = load_backbone(folder_of(architecture), device="cpu", dtype="float32")
    store = Store(str(tmp_path))
    for name, method in (("a", Houlsby(size=4)), ("b", LoRA(rank=2)), ("c", Houlsby(size=4, norms=False))):
        adapter, _ = train(backbone, replace(tiny_task, name=name), Recipe(method=method, epochs=1, lr=1e-2))
        store.put(adapter)
    texts = ["good film", "the plot was not great at all", "bad"]
    mixed = MultiTask(backbone, store).predict(texts, ["a", "b", "c"])
    for text, name, answer in zip(texts, "abc", mixed):
        (alone,) = MultiTask(backbone, store).predict([text], task=name)
        assert answer.probs == pytest.approx(alone.probs, abs=1e-5)
