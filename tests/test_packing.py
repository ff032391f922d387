"""Packing is invertible, for tokens and for heads, and does not change what a backbone computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.batches import collate
from polytask.data.encoding import encode
from polytask.data.task import Rows
from polytask.packing import Packing, grid_width, run_size

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=9)


def mask_of(lengths: list[int], longest: int | None = None) -> Tensor:
    return (torch.arange(longest or max(lengths)) < torch.tensor(lengths)[:, None]).long()


@given(LENGTHS)
def test_a_run_has_few_fillers(lengths: list[int]) -> None:
    total, size = sum(lengths), run_size(lengths)
    assert total <= size <= total + max(7, total // 32 + 1)
    assert len(set(lengths)) > 1 or size == total


def test_runs_have_few_different_sizes() -> None:
    assert len({run_size([1, total]) for total in range(1, 8192)}) < 200


@given(st.integers(1, 600))
def test_the_grid_is_a_multiple_of_16_wide_or_at_most_4_wider(num_tokens: int) -> None:
    width = grid_width(num_tokens)
    assert num_tokens <= width < num_tokens + 16
    assert width % 16 == 0 or (width == num_tokens and width % 16 <= 4)


@settings(deadline=None)
@given(LENGTHS, st.integers(0, 9), st.integers(0, 5), st.booleans())
def test_unpack_inverts_pack(lengths: list[int], cut: int, longer: int, keep_padding: bool) -> None:
    mask = mask_of(lengths, max(lengths) + longer)
    runs = [cut, len(lengths) - cut] if 0 < cut < len(lengths) else None
    packing = Packing(mask, runs, keep_padding=keep_padding)
    x = torch.randn(*mask.shape, 6, dtype=torch.float64, requires_grad=True)
    packed = packing.pack(x)
    assert packed.shape == (sum(packing.sizes), 1, 6)
    kept = x.detach() if keep_padding else x.detach() * mask[:, :, None]
    assert torch.equal(packing.unpack(packed), kept)
    starts = [sum(packing.sizes[:row]) for row in range(len(lengths))]
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        assert torch.equal(packed[start : start + length, 0], x[row, :length])
    (grad,) = torch.autograd.grad((packing.unpack(packed.square()) * 2).sum(), x)
    torch.testing.assert_close(grad, 4 * kept)


@settings(deadline=None)
@given(LENGTHS, st.booleans())
def test_merge_heads_inverts_split_heads(lengths: list[int], keep_padding: bool) -> None:
    packing = Packing(mask_of(lengths), keep_padding=keep_padding)
    b, t = packing.grid
    tokens = torch.randn(sum(packing.sizes), 3 * 2 * 4)
    heads = packing.split_heads(tokens, 2, 4)
    assert heads.shape == (3, b * 2, t, 4)
    is_token = torch.ones(len(tokens), dtype=torch.bool)
    for row, length in enumerate(lengths):
        start = sum(packing.sizes[:row])
        own = tokens[start : start + length].view(length, 3, 2, 4)
        torch.testing.assert_close(heads.view(3, b, 2, t, 4)[:, row, :, :length], own.permute(1, 2, 0, 3))
        is_token[start + length : start + packing.sizes[row]] = keep_padding
    assert torch.equal(packing.merge_heads(heads, 2)[is_token], tokens[is_token])


def test_a_batch_without_padding_is_packed_without_a_copy() -> None:
    packing = Packing(torch.ones(3, 16, dtype=torch.long))
    x = torch.randn(3, 16, 8)
    assert packing.is_dense
    assert packing.pack(x).data_ptr() == x.data_ptr()
    assert packing.attention_bias(2, torch.float32) is None


@pytest.fixture
def backbone(tiny_bert_folder: Path) -> Backbone:
    return load_backbone(tiny_bert_folder, device="cpu", dtype="float64")


def test_encoding_a_text_does_not_depend_on_its_padding(backbone: Backbone) -> None:
    texts = Rows(["good film", "the plot was not great at all and the actor was awful", "a"])
    encoded = encode(backbone.tokenizer, texts, 64)
    with torch.no_grad():
        batch = collate([(encoded, range(3))], 0, backbone.device)
        hidden, pooled = backbone.encoder(batch.ids, batch.mask, batch.types)
        for row, length in enumerate(encoded.lengths):
            alone = collate([(encoded, [row])], 0, backbone.device)
            own_hidden, own_pooled = backbone.encoder(alone.ids, alone.mask, alone.types)
            torch.testing.assert_close(hidden[row, :length], own_hidden[0], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(pooled[row], own_pooled[0], rtol=1e-9, atol=1e-9)
            assert not hidden[row, length:].any()


def test_padding_is_not_computed(backbone: Backbone) -> None:
    seen: list[int] = []
    layer = next(iter(backbone.model.get_submodule(backbone.row.layers).children()))
    layer.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    encoded = encode(backbone.tokenizer, Rows(["a", "the plot was not great at all and the actor was awful"] * 4), 64)
    batch = collate([(encoded, range(8))], 0, backbone.device)
    with torch.no_grad():
        backbone.encoder(batch.ids, batch.mask, batch.types)
    assert seen == [run_size(encoded.lengths)]
    assert seen[0] < 0.75 * batch.ids.numel()
