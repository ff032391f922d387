"""A Houlsby forward pass on the real MiniLM equals one written without Polytask, from the paper's formulas."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter, encode_batch
from polytask.backbones.backbone import Backbone
from polytask.data.batches import collate
from polytask.data.encoding import encode
from polytask.data.task import Rows
from polytask.methods import Houlsby
from polytask.routing.route import Route

TEXTS = [
    "WIN a brand new phone! Text NOW to claim, costs 150p per message.",
    "see you at five",
    "An adapter adds few parameters for each task; the network stays as it is, shared by all of them.",
]


def reference(weights: dict[str, Tensor], adapter: dict[str, Tensor], ids: Tensor, mask: Tensor) -> Tensor:
    """BERT with adapters before both residual sums and the task's LayerNorms, one text at a time."""

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-12)
        return scaled * adapter[f"{name}.weight"] + adapter[f"{name}.bias"]

    def dense(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def adapt(x: Tensor, name: str) -> Tensor:
        down = x @ adapter[f"{name}.down.weight"].T + adapter[f"{name}.down.bias"]
        bent = 0.5 * down * (1 + torch.erf(down / math.sqrt(2)))
        return x + bent @ adapter[f"{name}.up.weight"].T + adapter[f"{name}.up.bias"]

    rows = []
    for row_ids, row_mask in zip(ids, mask, strict=True):
        tokens = row_ids[row_mask.bool()]
        x = weights["embeddings.word_embeddings.weight"][tokens]
        x = x + weights["embeddings.position_embeddings.weight"][: len(tokens)]
        x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embed_norm")
        for number in range(6):
            here, ours = f"encoder.layer.{number}", f"layer.{number}"
            heads = [dense(x, f"{here}.attention.self.{part}").split(32, dim=-1) for part in ("query", "key", "value")]
            mixed = [F.softmax(q @ k.T / math.sqrt(32), dim=-1) @ v for q, k, v in zip(*heads, strict=True)]
            attended = dense(torch.cat(mixed, dim=-1), f"{here}.attention.output.dense")
            x = norm(x + adapt(attended, f"{ours}.attn_out"), f"{ours}.attn_norm")
            fed = dense(F.gelu(dense(x, f"{here}.intermediate.dense")), f"{here}.output.dense")
            x = norm(x + adapt(fed, f"{ours}.ffn_out"), f"{ours}.ffn_norm")
        rows.append(x.mean(dim=0))
    return torch.stack(rows)


def test_a_forward_pass_equals_an_independent_implementation(minilm: Backbone) -> None:
    live = LoadedAdapter(minilm, Houlsby(48), "classification", ("a", "b"), key=(0, "reference"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in live.tree.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    encoded = encode(minilm.tokenizer, Rows(TEXTS), 64)
    batch = collate([(encoded, range(3))], 0, minilm.device)
    attached = Attached(minilm.model, minilm.row, minilm.dropout_source)
    attached.add("task", live.deltas)
    with attached.routed(Route.of(["task"] * 3)), torch.no_grad():
        _, pooled = encode_batch(minilm, batch)
        expected = reference(dict(minilm.model.named_parameters()), live.tensors(), batch.ids, batch.mask)
    with torch.no_grad():
        bare = encode_batch(minilm, batch)[1]
    attached.remove("task")
    torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-5)
    assert (pooled - bare).abs().max() > 0.05
