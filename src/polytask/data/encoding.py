"""Texts as token ids: truncated, split into windows, or cut around a question's context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from polytask.data.task import Rows
from polytask.data.tokens import beginning, beginnings, tokenize
from polytask.data.windows import Window, windows
from polytask.errors import DataError, RecipeError

CHUNK = 4096
MOST_OF_A_QUESTION, MOST_SHARED = 64, 128
COLUMNS = {"return_token_type_ids": True, "return_attention_mask": False}

Long = Literal["truncate", "split"]
"""What becomes of a text that is too long: its end is cut off, or it is read in windows that overlap by a quarter."""

Cut = tuple[int, str, int | None]
"""How texts are cut: ``max_length``, ``long`` and ``stride`` of a recipe."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of some texts. ``types`` tell the second text of a pair from the first.

    Where texts were split, each window is a text here, and ``owners`` has the row that it is of. ``windows`` says of
    those over a context where their tokens stand in it; None for other texts.
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
        """Tokens of each text."""
        return [len(ids) for ids in self.ids]

    @property
    def num_rows(self) -> int:
        """Rows that the texts or windows are of."""
        return len(self.ids) if self.owners is None else 1 + max(self.owners, default=-1)

    def take(self, texts: Sequence[int]) -> Encoded:
        """These texts or windows only, each as a row."""
        types = None if self.types is None else [self.types[text] for text in texts]
        windows = None if self.windows is None else [self.windows[text] for text in texts]
        return Encoded([self.ids[text] for text in texts], types, 0, windows=windows)

    def for_each(self, of_rows: Sequence[Any]) -> Sequence[Any]:
        """What rows have, for each of their texts or windows."""
        return of_rows if self.owners is None else [of_rows[row] for row in self.owners]

    def by_row(self) -> list[list[int]]:
        """The texts or windows of each row."""
        if self.owners is None:
            return [[text] for text in range(len(self))]
        texts: list[list[int]] = [[] for _ in range(self.num_rows)]
        for text, row in enumerate(self.owners):
            texts[row].append(text)
        return texts

    def windows_of(self, texts: Sequence[int]) -> list[Window]:
        """The windows over a context among these."""
        return [window for text in texts if self.windows and (window := self.windows[text])]


def encode(tokenizer: Any, rows: Rows, max_length: int, long: str = "truncate", stride: int | None = None) -> Encoded:
    """Cut texts (or pairs) into tokens, at most ``max_length`` each, the longer of a pair cut first.

    With ``long="split"`` nothing is lost: a longer text becomes several windows. With a ``stride`` texts are questions
    and pairs their contexts, read in windows that share so many tokens.

    Raises:
        RecipeError: pairs are to be split, ``long`` is none of ``Long``, or ``stride`` leaves no room.
        DataError: questions are without contexts.
    """
    if stride is not None:
        return _over_contexts(tokenizer, rows, max_length, stride)
    if long not in get_args(Long):
        raise RecipeError(f"long={long!r} is not known. Long texts are cut by: {', '.join(get_args(Long))}")
    if long == "split":
        return _split(tokenizer, rows, max_length)
    ids: list[list[int]] = []
    types: list[list[int]] = []
    num_truncated = 0
    for start in range(0, len(rows), CHUNK):
        chunk = _begun(tokenizer, rows.take(range(start, min(start + CHUNK, len(rows)))), max_length)
        texts = (list(chunk.texts), None if chunk.pairs is None else list(chunk.pairs))
        cut = tokenize(tokenizer, *texts, truncation=True, max_length=max_length, **COLUMNS)
        full = [row for row, tokens in enumerate(cut["input_ids"]) if len(tokens) == max_length]
        num_truncated += _longer_than(tokenizer, chunk.take(full), max_length)
        ids += cut["input_ids"]
        types += cut.get("token_type_ids", [])
    return Encoded(ids, types or None, num_truncated)


def _begun(tokenizer: Any, rows: Rows, max_length: int) -> Rows:
    """Rows with beginnings for texts that are far longer than what is read of them."""
    if rows.pairs is None:
        return Rows([beginning(tokenizer, text, max_length) for text in rows.texts])
    begun = [beginnings(tokenizer, text, pair, max_length) for text, pair in zip(rows.texts, rows.pairs)]
    return Rows([text for text, _ in begun], [pair for _, pair in begun])


class Encodings:
    """Rows as token ids, cut once for all who ask for the same rows cut in the same way.

    It holds what it was asked for, and lives as long as those who share it.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._made: dict[tuple[int, Cut], tuple[Rows, Encoded]] = {}

    def of(self, rows: Rows, max_length: int, long: str = "truncate", stride: int | None = None) -> Encoded:
        """As ``encode``."""
        key = (id(rows), (max_length, long, stride))
        if key not in self._made:  # rows are held beside what they became, so that no others can have their id
            self._made[key] = (rows, encode(self.tokenizer, rows, *key[1]))
        return self._made[key][1]


def _split(tokenizer: Any, rows: Rows, max_length: int) -> Encoded:
    if rows.pairs is not None:
        raise RecipeError("pairs of texts cannot be split into windows, only single texts. Choose to truncate them")
    ids: list[list[int]] = []
    types: list[list[int]] = []
    owners: list[int] = []
    overlap = (max_length - tokenizer.num_special_tokens_to_add()) // 4
    for start in range(0, len(rows), CHUNK):
        texts = list(rows.texts[start : start + CHUNK])
        cut = tokenize(
            tokenizer,
            texts,
            truncation=True,
            max_length=max_length,
            stride=overlap,
            return_overflowing_tokens=True,
            **COLUMNS,
        )
        owners += [start + row for row in cut["overflow_to_sample_mapping"]]
        ids += cut["input_ids"]
        types += cut.get("token_type_ids", [])
    return Encoded(ids, types or None, 0, owners)


def usual_stride(max_length: int) -> int:
    """The tokens that two windows of a context share: a third, and no more than the 128 of 384 usual for SQuAD."""
    return min(MOST_SHARED, max_length // 3)


def _over_contexts(tokenizer: Any, rows: Rows, max_length: int, stride: int) -> Encoded:
    if rows.pairs is None:
        raise DataError(
            "a question is asked about a context, and there is none",
            fix="Give it as the second text (--pair, --text-pair)",
        )
    longest = min(MOST_OF_A_QUESTION, max_length // 3)
    cut = windows(rows, tokenizer, max_length=max_length, stride=stride, max_question=longest)
    return Encoded(
        [window.input_ids.tolist() for window in cut],
        [window.type_ids.tolist() for window in cut],
        num_truncated=len({window.row for window in cut if window.is_cut}),
        owners=[window.row for window in cut],
        windows=cut,
    )


def joined(parts: Sequence[tuple[Encoded, Sequence[int]]]) -> Encoded:
    """Texts that were cut in different ways as one, each part with the rows that its own rows are."""
    ids = [ids for part, _ in parts for ids in part.ids]
    types = [types for part, _ in parts for types in part.types or ()]
    owners = [row for part, rows in parts for row in part.for_each(rows)]
    windows = [window for part, _ in parts for window in part.windows or [None] * len(part)]
    return Encoded(ids, types or None, sum(part.num_truncated for part, _ in parts), owners, windows)


def _longer_than(tokenizer: Any, rows: Rows, max_length: int) -> int:
    """How many of these texts have more tokens than ``max_length``."""
    if not len(rows):
        return 0
    texts = (list(rows.texts), None if rows.pairs is None else list(rows.pairs))
    whole = tokenize(tokenizer, *texts, truncation=False, return_attention_mask=False, verbose=False)
    return sum(len(tokens) > max_length for tokens in whole["input_ids"])
