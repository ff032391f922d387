"""Dropout masks have the right rate, are independent, and depend on their key only."""

from __future__ import annotations

import pytest
import torch

from polytask.dropout import DropoutKey, KeyedDropout, KeyedDropoutSource, keep_mask, key_seed

SHAPE = (1000, 1000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_the_rate_is_right_and_the_mean_is_kept(rate: float, dtype: torch.dtype) -> None:
    mask = keep_mask(SHAPE, rate, ("key",), torch.empty(0, dtype=dtype))
    assert mask.dtype == dtype
    assert (mask == 0).double().mean().item() == pytest.approx(rate, abs=0.0015)
    assert mask.double().mean().item() == pytest.approx(1.0, rel=0.004)
    assert len(mask.unique()) == 2


def test_precision_does_not_change_what_is_dropped() -> None:
    masks = [keep_mask(SHAPE, 0.1, (1,), torch.empty(0, dtype=dtype)) == 0 for dtype in (torch.float32, torch.bfloat16)]
    assert torch.equal(*masks)


def test_equal_keys_give_equal_masks_and_different_keys_independent_ones() -> None:
    like = torch.empty(0)
    keys = [
        (0, "job", 1, "site"),
        (1, "job", 1, "site"),
        (0, "other", 1, "site"),
        (0, "job", 2, "site"),
        (0, "job", 1, "s"),
    ]
    masks = [(keep_mask(SHAPE, 0.1, key, like) == 0).double() for key in keys]
    assert torch.equal(masks[0], (keep_mask(SHAPE, 0.1, keys[0], like) == 0).double())
    for mask in masks[1:]:
        both = (masks[0] * mask).mean().item()
        assert both == pytest.approx(0.01, abs=0.0006)  # 0.1 * 0.1, six standard errors


def test_neighbouring_numbers_are_independent() -> None:
    dropped = (keep_mask(SHAPE, 0.1, ("n",), torch.empty(0)) == 0).double().flatten()
    for lag in (1, 2, 3, 4, 64, 1000):
        assert (dropped[:-lag] * dropped[lag:]).mean().item() == pytest.approx(0.01, abs=0.0006)


def test_rows_and_columns_are_uncorrelated() -> None:
    """Random words are combined from one word a row and one a column, which must not correlate rows or columns."""
    dropped = (keep_mask((1024, 1024), 0.1, ("n",), torch.empty(0)) == 0).float()
    for numbers in (dropped, dropped.T):
        correlations = torch.corrcoef(numbers).fill_diagonal_(0)
        assert correlations.abs().max().item() * 1024**0.5 < 7  # the largest of independent ones is about 5.3


def test_seeds_are_the_same_on_every_machine() -> None:
    assert key_seed(0, "a", 1) == 1497209822362405998
    assert key_seed(0, "a", 1) != key_seed(0, "a1")


def test_without_training_or_noise_nothing_is_dropped() -> None:
    dropout_source, x = KeyedDropoutSource(), torch.ones(4, 3)
    dropout = KeyedDropout(0.5, "site", dropout_source)
    assert torch.equal(dropout.eval()(x), x)
    with dropout_source.keyed((DropoutKey(slice(0, 2), (1,), (1, 1)),)):
        assert torch.equal(dropout.eval()(x), x)
        dropped = dropout.train()(torch.ones(400, 3))
        assert torch.equal(dropped[2:], torch.ones(398, 3))
    assert set(dropout.train()(torch.ones(100, 100)).unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("shape", [(400, 1, 64), (4, 100, 64), (4, 64), (4, 2, 112, 112)], ids=str)
def test_a_key_replaces_the_rates_of_the_backbone_for_its_rows_only(shape: tuple[int, ...]) -> None:
    dropout_source, x = KeyedDropoutSource(), torch.ones(shape)
    half, packed = len(x) // 2, shape[1] == 1

    def dropped(first: float | None, second: float | None, rate: float = 0.5, **how: bool) -> list[float]:
        keys = [DropoutKey(slice(i, i + 2), (i,), (100, 100), own) for i, own in ((0, first), (2, second))]
        with dropout_source.keyed(tuple(keys)):
            y = dropout_source.drop(x, rate, "site", **how)
        if not packed and len(shape) == 4:
            y = y[..., :100, :100]
        return [float((part == 0).float().mean()) for part in y.split(half)]

    assert dropped(None, None) == pytest.approx([0.5, 0.5], abs=0.15)
    assert dropped(0.0, None) == pytest.approx([0.0, 0.5], abs=0.15)
    assert dropped(0.0, 0.2) == pytest.approx([0.0, 0.2], abs=0.15)
    assert dropped(0.0, None)[0] == 0.0
    assert dropped(0.0, 0.0) == [0.0, 0.0]
    assert dropped(0.9, 0.9, rate=0.0) == [0.0, 0.0], "a site without dropout stays without"
    assert dropped(0.0, 0.0, is_backbone=False) == pytest.approx([0.5, 0.5], abs=0.15)
