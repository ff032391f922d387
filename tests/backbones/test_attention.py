"""Attention without gradients rounds the numbers of a text in the same way, whatever other texts are in the batch."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter
from polytask.backbones.backbone import Backbone
from polytask.backbones.fast.attention import padded_sdpa
from polytask.backbones.loading import load_backbone
from polytask.data.encoding import encode
from polytask.data.task import Rows
from polytask.inference.scoring import scores_of
from polytask.methods import METHODS
from polytask.routing.route import Route
from tests.tiny import WORDS

MOST = 2e-4
"""How far other texts in the batch may move a probability in bf16; measured below 1e-6."""


@pytest.mark.parametrize("num_tokens", [3, 9, 16, 30, 47])
def test_a_texts_attention_does_not_depend_on_how_far_it_is_padded(num_tokens: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(8, 4, 48, 32, generator=generator).bfloat16() for _ in range(3))
    seen = torch.ones(8, 1, 1, 48, dtype=torch.bool)
    seen[5, ..., num_tokens:] = False
    padded = padded_sdpa(q, k, v, seen, 32**-0.5)[5:6, :, :num_tokens]
    own = [x[5:6, :, :num_tokens] for x in (q, k, v)]
    alone = padded_sdpa(own[0], own[1], own[2], None, 32**-0.5)
    assert (padded != alone).float().mean() < 0.002  # without padding of the keys, 3% differ
    torch.testing.assert_close(alone, F.scaled_dot_product_attention(*own), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mask_of_pairs_of_tokens_is_respected(dtype: torch.dtype) -> None:
    q, k, v = (torch.randn(2, 3, 9, 8).to(dtype) for _ in range(3))
    seen = torch.rand(2, 1, 9, 9) > 0.4
    seen[..., 0] = True
    ours = padded_sdpa(q, k, v, seen, 8**-0.5)
    torch.testing.assert_close(ours, F.scaled_dot_product_attention(q, k, v, seen), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_on_scores_is_added_and_hides_padding(dtype: torch.dtype) -> None:
    q, k, v = (torch.randn(2, 3, 9, 8).to(dtype) for _ in range(3))
    bias = torch.randn(2, 3, 9, 9).to(dtype)
    bias[..., 7:] = torch.finfo(dtype).min
    ours = padded_sdpa(q, k, v, bias, 8**-0.5)
    expected = torch.softmax(q.float() @ k.float().mT * 8**-0.5 + bias.float(), -1)
    assert (expected[..., 7:] == 0).all()
    torch.testing.assert_close(ours.float(), expected @ v.float(), atol=0.02, rtol=0.02)


def most_moved(backbone: Backbone, method: str) -> float:
    """The greatest difference of a probability between a text alone and the same text among sixty."""
    live = LoadedAdapter(backbone, METHODS[method](), "classification", ("a", "b"), key=("task",))
    generator, draw = torch.Generator().manual_seed(1), random.Random(0)
    with torch.no_grad():
        for parameter in live.tree.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * (0.2 if parameter.dim() == 1 else 0.05))
        for parameter in live.head.parameters():
            parameter.normal_(generator=generator)
    live.tree.requires_grad_(False)
    attached = Attached.of(backbone)
    attached.add("task", live.deltas)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 40))) for _ in range(60)]
    encoded = encode(backbone.tokenizer, Rows(texts), 64)
    together = scores_of(backbone, attached, {"task": live}, encoded, ["task"] * len(texts))
    alone = [scores_of(backbone, attached, {"task": live}, encoded.take([at]), ["task"])[0] for at in range(len(texts))]
    return max(float((one.softmax(-1) - other.softmax(-1)).abs().max()) for one, other in zip(together, alone))


@pytest.mark.parametrize("method", ["ia3", "bitfit", "lora", "houlsby"])
@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet"])
def test_in_bf16_other_texts_in_the_batch_do_not_move_an_answer(
    architecture: str, method: str, folder_of: Callable[[str], Path]
) -> None:
    backbone = load_backbone(folder_of(architecture), device="cpu", dtype="bfloat16")
    assert most_moved(backbone, method) < MOST


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "modernbert"])
def test_in_bf16_adapters_of_other_rows_do_not_move_a_bit(architecture: str, folder_of: Callable[[str], Path]) -> None:
    backbone = load_backbone(folder_of(architecture), device="cpu", dtype="bfloat16")
    live = LoadedAdapter(backbone, METHODS["houlsby"](), "classification", ("a", "b"), key=("task",)).frozen()
    for parameter in live.tree.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape))
    attached = Attached.of(backbone)
    attached.add("task", live.deltas)
    ids, mask = torch.randint(5, 70, (8, 40)), (torch.arange(40) < torch.arange(5, 45, 5)[:, None]).long()
    hidden = []
    for other in (None, "task"):
        with torch.inference_mode(), attached.routed(Route.of([None, other] * 4)):
            hidden.append(backbone.encoder(ids, mask, None)[0])
    assert torch.equal(hidden[0][::2], hidden[1][::2])
    assert not torch.equal(hidden[0][1::2], hidden[1][1::2])


@pytest.mark.parametrize("method", ["ia3", "bitfit"])
def test_in_bf16_other_texts_in_the_batch_do_not_move_an_answer_of_minilm(minilm: Backbone, method: str) -> None:
    assert most_moved(load_backbone("minilm", device="cpu", dtype="bfloat16"), method) < MOST
