"""Splits long contexts into overlapping windows, and searches their logits for the best answer spans.

Answers are given in characters of the context, logits in token positions of one window; the offsets in ``Window``
convert between them. The search scores every valid span instead of combining the best starts with the best ends, so
it never misses the best span.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from polytask.data.task import Answer, Rows
from polytask.data.tokens import tokenize
from polytask.errors import BackboneError, PolytaskError, RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ints = npt.NDArray[np.int32]
Logits = Sequence[npt.ArrayLike] | npt.NDArray[Any]


@dataclass(frozen=True, eq=False, slots=True)
class Window:
    """A question with a part of its context that fits into the maximum length.

    Attributes:
        id: the question's id.
        context: the whole context.
        input_ids: token ids with special tokens and without padding, ``[T]``. Batches pad on the right, which keeps
            positions.
        type_ids: token type ids, ``[T]``.
        context_at: the position of the first context token.
        offsets: where each context token starts and ends in ``context``, in characters, ``[C, 2]``.
        start: the position of the answer's first token; 0 (the first special token) if the window does not contain
            the whole answer.
        end: the position of the answer's last token, or 0 likewise.
        row: the question's row.
        is_cut: whether the question was truncated.
    """

    id: str
    context: str
    input_ids: Ints
    type_ids: Ints
    context_at: int
    offsets: Ints
    start: int = 0
    end: int = 0
    row: int = 0
    is_cut: bool = False


@dataclass(frozen=True)
class Span:
    """A candidate answer, ``context[start:end]`` in characters.

    ``score`` is the start logit plus the end logit, or a probability after ``with_probabilities``.
    """

    text: str
    start: int
    end: int
    score: float


def windows(
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = 384,
    stride: int = 128,
    max_question: int = 64,
) -> list[Window]:
    """Split every row into windows, in the order of the rows.

    The windows of a row cover all context tokens. If the row has several answers, the first is the training target.

    Args:
        rows: questions as ``texts``, contexts as ``pairs``.
        tokenizer: a fast tokenizer.
        max_length: tokens per window, at most.
        stride: context tokens shared by neighbouring windows, as in ``transformers``.
        max_question: questions are truncated to this many tokens.

    Raises:
        RecipeError: a window has no room for more than ``stride`` context tokens.
        BackboneError: the tokenizer does not report offsets.
    """
    assert rows.pairs is not None, "a question needs its context"
    frame = _PairTemplate.of(tokenizer)
    least_room = max_length - frame.size - max_question
    if not 0 <= stride < least_room:
        raise RecipeError(
            f"a window of {max_length} tokens minus a question of {max_question} leaves {max(least_room, 0)} for the "
            f"context, and neighbouring windows share {stride}. The stride must be at least 0 and less than that"
        )
    contexts = list(dict.fromkeys(rows.pairs))
    encoded = dict(zip(contexts, _encode_texts(contexts, tokenizer), strict=True))
    out: list[Window] = []
    for row, (question, _) in enumerate(_encode_texts(rows.texts, tokenizer)):
        context_ids, offsets = encoded[rows.pairs[row]]
        question, is_cut = question[:max_question], len(question) > max_question
        answer = _answer_tokens(rows.targets[row][0], offsets) if rows.targets else None
        for first, last in _window_ranges(len(context_ids), max_length - frame.size - len(question), stride):
            has_answer = answer is not None and first <= answer[0] and answer[1] < last
            input_ids, type_ids, at = frame.fill(question, context_ids[first:last])
            start, end = (at + token - first for token in answer) if answer and has_answer else (0, 0)
            tokens = (input_ids, type_ids, at, offsets[first:last])
            out.append(Window(row_id(rows, row), rows.pairs[row], *tokens, start, end, row, is_cut))
    return out


def n_best_answers(
    windows: Sequence[Window],
    start_logits: Logits,
    end_logits: Logits,
    *,
    n: int = 20,
    max_answer_length: int = 30,
) -> dict[str, list[Span]]:
    """Return the ``n`` best spans of each question over all its windows, best first, by question id.

    A valid span is in the context, does not end before it starts and has at most ``max_answer_length`` tokens. A span
    in several windows counts once, with its best score.

    Args:
        windows: the windows of all questions.
        start_logits: one array per window, ``[T]`` or longer; padding on the right is ignored.
        end_logits: likewise.
        n: the number of spans per question.
        max_answer_length: tokens per span, at most.

    Raises:
        PolytaskError: logits are NaN.
    """
    assert len(windows) == len(start_logits) == len(end_logits), "one array of logits per window"
    best: dict[str, dict[tuple[int, int], Span]] = {}
    for window, start, end in zip(windows, start_logits, end_logits, strict=True):
        spans = best.setdefault(window.id, {})
        for span in _best_spans(window, start, end, n, max_answer_length):
            known = spans.get((span.start, span.end))
            if known is None or known.score < span.score:
                spans[span.start, span.end] = span
    return {id: sorted(spans.values(), key=lambda s: (-s.score, s.start, s.end))[:n] for id, spans in best.items()}


def with_probabilities(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Replace the scores of one question's candidates by their softmax, as in BERT's code.

    Without candidates, return the empty answer with a score of 0.
    """
    if not spans:
        return (Span("", 0, 0, 0.0),)
    scores = np.array([span.score for span in spans])
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    return tuple(replace(span, score=float(share)) for span, share in zip(spans, shares, strict=True))


def best_answers(
    windows: Sequence[Window],
    start_logits: Logits,
    end_logits: Logits,
    *,
    max_answer_length: int = 30,
) -> dict[str, str]:
    """Return the text of each question's best span by question id. Arguments as for ``n_best_answers``."""
    spans = n_best_answers(windows, start_logits, end_logits, max_answer_length=max_answer_length)
    return {id: candidates[0].text if candidates else "" for id, candidates in spans.items()}


@dataclass(frozen=True)
class _PairTemplate:
    """The special tokens before, between and after the texts of a pair, taken from an encoded pair."""

    before: tuple[Ints, Ints]
    between: tuple[Ints, Ints]
    after: tuple[Ints, Ints]
    question_type: int
    context_type: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> _PairTemplate:
        if not tokenizer.is_fast:
            raise BackboneError(
                f"{type(tokenizer).__name__} does not report the positions of tokens in the text, which tasks of kind "
                "span need. Use a fast tokenizer (one with a tokenizer.json)"
            )
        pair = _tokenize_whole(tokenizer, ["a"], ["a"])[0]
        sides = list(pair.sequence_ids)
        ids, types = np.asarray(pair.ids, np.int32), np.asarray(pair.type_ids, np.int32)
        question, context = sides.index(0), sides.index(1)
        question_end, context_end = (len(sides) - sides[::-1].index(side) for side in (0, 1))

        def cut(first: int, last: int) -> tuple[Ints, Ints]:
            return ids[first:last], types[first:last]

        return cls(
            before=cut(0, question),
            between=cut(question_end, context),
            after=cut(context_end, len(sides)),
            question_type=int(types[question]),
            context_type=int(types[context]),
        )

    @property
    def size(self) -> int:
        return sum(len(ids) for ids, _ in (self.before, self.between, self.after))

    def fill(self, question: Ints, context: Ints) -> tuple[Ints, Ints, int]:
        """Return the input ids, the type ids and the position of the first context token."""
        parts = (
            self.before,
            (question, np.full_like(question, self.question_type)),
            self.between,
            (context, np.full_like(context, self.context_type)),
            self.after,
        )
        ids, types = (np.concatenate(column) for column in zip(*parts, strict=True))
        return ids, types, sum(len(part) for part, _ in parts[:3])


def _tokenize_whole(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], pairs: Sequence[str] | None = None
) -> Any:
    """Tokenize whole texts, regardless of the truncation and padding that are set in the tokenizer."""
    batch = tokenize(
        tokenizer,
        list(texts),
        None if pairs is None else list(pairs),
        add_special_tokens=pairs is not None,
        padding=False,
        truncation=False,
        verbose=False,
    )
    return batch.encodings


def _encode_texts(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[Ints, Ints]]:
    """Yield the ids ``[T]`` and character offsets ``[T, 2]`` of each text, without special tokens."""
    for first in range(0, len(texts), 1000):
        for encoding in _tokenize_whole(tokenizer, texts[first : first + 1000]):
            yield np.asarray(encoding.ids, np.int32), np.asarray(encoding.offsets, np.int32).reshape(-1, 2)


def _window_ranges(num_tokens: int, room: int, stride: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of at most ``room`` tokens, each starting ``stride`` tokens before the previous one ends."""
    first = 0
    while first + room < num_tokens:
        yield first, first + room
        first += room - stride
    yield first, num_tokens


def _answer_tokens(answer: Answer, offsets: Ints) -> tuple[int, int] | None:
    """Return the first and last token that overlap with the answer, or None if there are none."""
    begins, ends = offsets[:, 0], offsets[:, 1]
    tokens = np.flatnonzero((ends > answer.start) & (begins < answer.start + len(answer.text)))
    return (int(tokens[0]), int(tokens[-1])) if len(tokens) else None


def _best_spans(
    window: Window, start_logits: npt.ArrayLike, end_logits: npt.ArrayLike, n: int, max_answer_length: int
) -> Iterator[Span]:
    """Yield the ``n`` best valid spans of one window, best first."""
    num_tokens = len(window.offsets)
    if not num_tokens:
        return
    context = slice(window.context_at, window.context_at + num_tokens)
    start, end = (np.asarray(logits, np.float64)[context] for logits in (start_logits, end_logits))
    assert len(start) == len(end) == num_tokens, "logits shorter than their window"
    longest = min(max_answer_length, num_tokens)
    ends = np.concatenate([end, np.full(longest - 1, -np.inf)])
    # [C, longest]: the span of tokens i to i + k
    scores = start[:, None] + np.lib.stride_tricks.sliding_window_view(ends, longest)
    if np.isnan(scores).any():
        raise PolytaskError(
            f"the logits of question {window.id!r} are NaN. The learning rate of its adapter may have been too high"
        )
    flat = scores.ravel()
    top = np.argpartition(-flat, min(n, len(flat)) - 1)[:n]
    for place in top[np.lexsort((top, -flat[top]))]:
        if flat[place] == -np.inf:
            return
        first, length = divmod(int(place), longest)
        span = _span_text(window, first, first + length)
        if span:
            yield Span(*span, float(flat[place]))


def _span_text(window: Window, first: int, last: int) -> tuple[str, int, int] | None:
    """Return the text between two context tokens and its start and end, stripped; None if it is empty.

    A tokenizer that strips accents excludes a trailing combining mark from its token; the text includes it.
    """
    begin, end = int(window.offsets[first, 0]), int(window.offsets[last, 1])
    while end < len(window.context) and unicodedata.combining(window.context[end]):
        end += 1
    text = window.context[begin:end]
    begin += len(text) - len(text.lstrip())
    text = text.strip()
    return (text, begin, begin + len(text)) if text else None


def row_id(rows: Rows, row: int) -> str:
    """Return the id of a row, or its number as a string if rows have no ids."""
    return str(row) if rows.ids is None else rows.ids[row]
