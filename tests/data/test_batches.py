"""Batches have every row once and similar lengths; truncation is counted; shortening long texts changes no token."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from polytask.data import tokens
from polytask.data.batches import budget_batches, collate, epoch_batches
from polytask.data.encoding import Encodings, encode
from polytask.data.task import Rows
from tests.tiny import tiny_tokenizer

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=300)


@given(LENGTHS, st.integers(1, 40), st.integers(0, 5))
def test_an_epoch_takes_every_row_once(lengths: list[int], size: int, epoch: int) -> None:
    batches = epoch_batches(lengths, size, epoch, "key")
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) <= size for batch in batches)
    assert len(batches) == -(-len(lengths) // size)
    assert batches == epoch_batches(lengths, size, epoch, "key")


def test_epochs_and_keys_differ_and_batches_are_of_similar_length() -> None:
    lengths = [3 + row * 7 % 50 for row in range(2000)]
    batches = epoch_batches(lengths, 32, 0, "a")
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    assert padded < 1.05 * sum(lengths)
    assert batches != epoch_batches(lengths, 32, 1, "a")
    assert batches != epoch_batches(lengths, 32, 0, "b")


def test_lengths_do_not_run_from_short_to_long() -> None:
    lengths = [3 + row * 7 % 50 for row in range(2000)]
    longest = [max(lengths[row] for row in batch) for batch in epoch_batches(lengths, 32, 0, "a")]
    halves = sum(longest[: len(longest) // 2]), sum(longest[len(longest) // 2 :])
    assert halves[0] == pytest.approx(halves[1], rel=0.15)


@given(LENGTHS, st.integers(1, 200))
def test_batches_keep_the_token_budget_unless_one_row_exceeds_it(lengths: list[int], num_tokens: int) -> None:
    batches = budget_batches(lengths, num_tokens)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= num_tokens


def test_truncated_texts_are_counted_and_padding_is_masked() -> None:
    rows = Rows(["good film", "good " * 30, "a b c d e f g h"], ["bad", "free", "x"])
    encoded = encode(tiny_tokenizer(), rows, 12)
    assert encoded.lengths == [6, 12, 12]
    assert encoded.num_truncated == 1
    batch = collate([(encoded, [0, 2])], 0, torch.device("cpu"))
    assert batch.ids.shape == (2, 12)
    assert batch.mask.sum(dim=1).tolist() == [6, 12]
    assert batch.types is not None
    assert batch.types[0].tolist() == [0, 0, 0, 0, 1, 1] + [0] * 6


def test_a_text_of_exactly_the_limit_is_not_called_truncated() -> None:
    encoded = encode(tiny_tokenizer(), Rows(["good " * 10, "good " * 11]), 12)
    assert encoded.lengths == [12, 12]
    assert encoded.num_truncated == 1


def test_rows_are_encoded_once_for_each_setting() -> None:
    rows, others = Rows(["was it good"], ["a film " * 20]), Rows(["was it good"], ["a film " * 20])
    tokenizer, encodings = tiny_tokenizer(), Encodings(tiny_tokenizer())
    ways: list[tuple[int, str, int | None]] = [(24, "truncate", None), (16, "truncate", None), (24, "truncate", 4)]
    ways.append((24, "truncate", 8))
    for cut in ways:
        assert encodings.of(rows, *cut) is encodings.of(rows, *cut)
        assert encodings.of(rows, *cut).ids == encode(tokenizer, rows, *cut).ids
    assert len({id(encodings.of(own, *cut)) for own in (rows, others) for cut in ways}) == 8
    numbers = [len(encodings.of(rows, *cut)) for cut in ways]
    assert numbers[0] == numbers[1] == 1 < numbers[2] < numbers[3]


WORDS = [
    "film",
    "plot",
    "unbelievably",
    "caf\u00e9",
    "it's",
    "2.10",
    "\u6f22\u5b57",
    "na\u00efve",
    "x" * 300,
    "!!",
    "a-b",
    "\U0001f600",
]


def long_text(num_words: int, seed: int, space: str = " ") -> str:
    draw = random.Random(seed)
    return "".join(draw.choice(WORDS) + space * draw.choice((1, 1, 1, 3)) for _ in range(num_words))


def trained_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of this kind, trained on the words of these tests."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    if kind == "wordpiece":
        return tiny_tokenizer()
    if kind == "bytes":
        own = Tokenizer(models.BPE())
        own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special)
    else:
        own = Tokenizer(models.Unigram())
        own.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="[UNK]")
    own.train_from_iterator([long_text(500, seed) for seed in range(3)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=own, pad_token="[PAD]", unk_token="[UNK]")


@pytest.mark.parametrize("kind", ["wordpiece", "bytes", "unigram"])
def test_shortening_a_long_text_does_not_change_its_tokens(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = trained_tokenizer(kind)
    texts = [long_text(4000, seed) for seed in range(6)]
    texts += [" " * 30_000 + "film", "film" * 9000, "a film", long_text(900, 7, "\n")]
    short = ["a film", long_text(120, 1), long_text(60, 2), "film" * 400, long_text(200, 3)]
    firsts, seconds = zip(*itertools.product(short, short))
    even = 16 + tokenizer.num_special_tokens_to_add(pair=True) % 2
    assert sum(len(tokens.shorten_text(tokenizer, text, 16)) < len(text) for text in texts) >= 6
    shortened, pairs = encode(tokenizer, Rows(texts), 16), encode(tokenizer, Rows(firsts, seconds), even)
    assert tokens.shorten_pair(tokenizer, short[1], short[4], even) != (short[1], short[4])
    monkeypatch.setattr(tokens, "MAX_CHARS_PER_TOKEN", 10**9)
    monkeypatch.setattr(tokens, "MAX_CHARS_PER_TOKEN_OF_PAIRS", 10**9)
    assert shortened == encode(tokenizer, Rows(texts), 16)
    assert pairs == encode(tokenizer, Rows(firsts, seconds), even)


def test_the_tokenized_prefix_does_not_grow_with_the_text() -> None:
    tokenizer, text = tiny_tokenizer(), long_text(200_000, 1)
    assert len(tokens.shorten_text(tokenizer, text, 16)) < 4096
    tokenizer.truncation_side = "left"
    assert tokens.shorten_text(tokenizer, text, 16) is text


def test_a_tokenizer_with_tokens_across_spaces_gets_the_whole_text() -> None:
    own = Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    own.train_from_iterator([long_text(50, 0)], trainers.BpeTrainer(vocab_size=300, special_tokens=["[PAD]"]))
    text = long_text(2000, 1)
    assert tokens.shorten_text(PreTrainedTokenizerFast(tokenizer_object=own, pad_token="[PAD]"), text, 16) is text


@pytest.mark.parametrize("kind", ["wordpiece", "bytes", "unigram"])
def test_the_shortened_text_of_a_pair_stays_the_longer_one(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = trained_tokenizer(kind)
    odd = 16 + (tokenizer.num_special_tokens_to_add(pair=True) + 1) % 2
    dense, wide = "!! " * 80, "film " * 400
    assert tokens.shorten_text(tokenizer, wide, odd, tokens.MAX_CHARS_PER_TOKEN_OF_PAIRS) != wide
    assert len(dense) <= tokens.MAX_CHARS_PER_TOKEN_OF_PAIRS * odd
    pairs = [Rows([dense, wide], [wide, dense]), Rows([wide], ["a film"])]
    shortened = [encode(tokenizer, rows, odd) for rows in pairs]
    monkeypatch.setattr(tokens, "MAX_CHARS_PER_TOKEN_OF_PAIRS", 10**9)
    assert shortened == [encode(tokenizer, rows, odd) for rows in pairs]
