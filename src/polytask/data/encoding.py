"""Encodes texts as token ids: truncated, split into windows, or as questions with windows of their context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from polytask.data.task import Rows
from polytask.data.tokens import shorten_pair, shorten_text, tokenize
from polytask.data.windows import Window, windows
from polytask.errors import DataError, RecipeError

_CHUNK_ROWS = 4096
MAX_QUESTION_TOKENS, MAX_STRIDE = 64, 128
_TOKENIZER_OUTPUTS = {"return_token_type_ids": True, "return_attention_mask": False}

Long = Literal["truncate", "split"]
"""How long texts are handled: truncated at the end, or split into windows that overlap by a quarter."""

Cut = tuple[int, str, int | None]
"""The settings of ``encode`` in a recipe: ``max_length``, ``long`` and ``stride``."""


@dataclass(frozen=True)
class Encoded:
    """Encoded texts. Where rows were split, each window counts as a text.

    Attributes:
        ids: the token ids of each text.
        types: the token type ids of each text; None if the tokenizer has none.
        num_truncated: the number of rows that were truncated.
        owners: the row of each text; None if each row is one text.
        windows: for questions, the window of each text; None for other texts.
    """

    ids: list[list[int]]
    types: list[list[int]] | None
    num_truncated: int
    owners: list[int] | None = None
    windows: Sequence[Window | None] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """The number of tokens of each text."""
        return [len(ids) for ids in self.ids]

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return len(self.ids) if self.owners is None else 1 + max(self.owners, default=-1)

    def take(self, texts: Sequence[int]) -> Encoded:
        """Return these texts only, each as a row."""
        types = None if self.types is None else [self.types[text] for text in texts]
        windows = None if self.windows is None else [self.windows[text] for text in texts]
        return Encoded([self.ids[text] for text in texts], types, 0, windows=windows)

    def for_each(self, of_rows: Sequence[Any]) -> Sequence[Any]:
        """Repeat the values of rows for each of their texts."""
        return of_rows if self.owners is None else [of_rows[row] for row in self.owners]

    def by_row(self) -> list[list[int]]:
        """Return the indices of the texts of each row."""
        if self.owners is None:
            return [[text] for text in range(len(self))]
        texts: list[list[int]] = [[] for _ in range(self.num_rows)]
        for text, row in enumerate(self.owners):
            texts[row].append(text)
        return texts

    def windows_of(self, texts: Sequence[int]) -> list[Window]:
        """Return the windows of these texts, skipping texts without one."""
        return [window for text in texts if self.windows and (window := self.windows[text])]


def encode(tokenizer: Any, rows: Rows, max_length: int, long: str = "truncate", stride: int | None = None) -> Encoded:
    """Encode texts or pairs as token ids.

    Args:
        tokenizer: a Hugging Face tokenizer.
        rows: the texts.
        max_length: tokens per text or window, at most. The longer text of a pair is truncated first.
        long: ``truncate``, or ``split`` to split a longer text into windows instead.
        stride: if given, texts are questions and pairs their contexts, split into windows that share this many tokens.

    Raises:
        RecipeError: ``long`` is unknown or splits pairs, or ``stride`` leaves no room in a window.
        DataError: questions have no contexts, or a text has no tokens.
    """
    if stride is not None:
        return _encode_questions(tokenizer, rows, max_length, stride)
    if long not in get_args(Long):
        raise RecipeError(f"long={long!r} is not known. Use one of: {', '.join(get_args(Long))}")
    encoded = (_encode_in_windows if long == "split" else _encode_truncated)(tokenizer, rows, max_length)
    _check_not_empty(encoded, rows)
    return encoded


def _check_not_empty(encoded: Encoded, rows: Rows) -> None:
    """Refuse a text without tokens: a tokenizer may drop every character and add no special tokens."""
    if all(encoded.ids):
        return
    row = next(row for row, texts in enumerate(encoded.by_row()) if not encoded.ids[texts[0]])
    raise DataError(
        f"text {row + 1} of {len(rows)} has no tokens, because the tokenizer drops all of {rows.texts[row]!r:.40}",
        fix="Fill it in, or leave it out",
    )


def _encode_truncated(tokenizer: Any, rows: Rows, max_length: int) -> Encoded:
    ids: list[list[int]] = []
    types: list[list[int]] = []
    num_truncated = 0
    for start in range(0, len(rows), _CHUNK_ROWS):
        chunk = _shorten(tokenizer, rows.take(range(start, min(start + _CHUNK_ROWS, len(rows)))), max_length)
        texts = (list(chunk.texts), None if chunk.pairs is None else list(chunk.pairs))
        cut = tokenize(tokenizer, *texts, truncation=True, max_length=max_length, **_TOKENIZER_OUTPUTS)
        full = [row for row, tokens in enumerate(cut["input_ids"]) if len(tokens) == max_length]
        num_truncated += _count_longer(tokenizer, chunk.take(full), max_length)
        ids += cut["input_ids"]
        types += cut.get("token_type_ids", [])
    return Encoded(ids, types or None, num_truncated)


def _shorten(tokenizer: Any, rows: Rows, max_length: int) -> Rows:
    """Shorten texts that are far longer than ``max_length``; their first ``max_length`` tokens do not change."""
    if rows.pairs is None:
        return Rows([shorten_text(tokenizer, text, max_length) for text in rows.texts])
    shortened = [shorten_pair(tokenizer, text, pair, max_length) for text, pair in zip(rows.texts, rows.pairs)]
    return Rows([text for text, _ in shortened], [pair for _, pair in shortened])


class Encodings:
    """Caches encodings, so that jobs with the same rows and settings encode them once.

    It keeps every encoding for its own lifetime.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._made: dict[tuple[int, Cut], tuple[Rows, Encoded]] = {}

    def of(self, rows: Rows, max_length: int, long: str = "truncate", stride: int | None = None) -> Encoded:
        """Return the cached result of ``encode``. Arguments and errors are those of ``encode``."""
        key = (id(rows), (max_length, long, stride))
        if key not in self._made:  # keeping the rows alive keeps their id unique
            self._made[key] = (rows, encode(self.tokenizer, rows, *key[1]))
        return self._made[key][1]


def _encode_in_windows(tokenizer: Any, rows: Rows, max_length: int) -> Encoded:
    if rows.pairs is not None:
        raise RecipeError("pairs of texts cannot be split into windows, only single texts. Use long='truncate'")
    ids: list[list[int]] = []
    types: list[list[int]] = []
    owners: list[int] = []
    overlap = (max_length - tokenizer.num_special_tokens_to_add()) // 4
    for start in range(0, len(rows), _CHUNK_ROWS):
        texts = list(rows.texts[start : start + _CHUNK_ROWS])
        cut = tokenize(
            tokenizer,
            texts,
            truncation=True,
            max_length=max_length,
            stride=overlap,
            return_overflowing_tokens=True,
            **_TOKENIZER_OUTPUTS,
        )
        owners += [start + row for row in cut["overflow_to_sample_mapping"]]
        ids += cut["input_ids"]
        types += cut.get("token_type_ids", [])
    return Encoded(ids, types or None, 0, owners)


def usual_stride(max_length: int) -> int:
    """Return the default stride: a third of ``max_length``, at most the 128 (of 384) that SQuAD models use."""
    return min(MAX_STRIDE, max_length // 3)


def _encode_questions(tokenizer: Any, rows: Rows, max_length: int, stride: int) -> Encoded:
    if rows.pairs is None:
        raise DataError(
            "a question needs a context, and none is given",
            fix="Give it as the second text (--pair, --text-pair)",
        )
    longest = min(MAX_QUESTION_TOKENS, max_length // 3)
    cut = windows(rows, tokenizer, max_length=max_length, stride=stride, max_question=longest)
    return Encoded(
        [window.input_ids.tolist() for window in cut],
        [window.type_ids.tolist() for window in cut],
        num_truncated=len({window.row for window in cut if window.is_cut}),
        owners=[window.row for window in cut],
        windows=cut,
    )


def joined(parts: Sequence[tuple[Encoded, Sequence[int]]]) -> Encoded:
    """Concatenate encodings with different settings.

    Args:
        parts: encodings, each with the row number that each of its rows gets in the result.
    """
    ids = [ids for part, _ in parts for ids in part.ids]
    types = [types for part, _ in parts for types in part.types or ()]
    owners = [row for part, rows in parts for row in part.for_each(rows)]
    windows = [window for part, _ in parts for window in part.windows or [None] * len(part)]
    return Encoded(ids, types or None, sum(part.num_truncated for part, _ in parts), owners, windows)


def _count_longer(tokenizer: Any, rows: Rows, max_length: int) -> int:
    """Count the texts with more than ``max_length`` tokens."""
    if not len(rows):
        return 0
    texts = (list(rows.texts), None if rows.pairs is None else list(rows.pairs))
    whole = tokenize(tokenizer, *texts, truncation=False, return_attention_mask=False, verbose=False)
    return sum(len(tokens) > max_length for tokens in whole["input_ids"])
