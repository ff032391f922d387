"""Windows over a long context, and the search for the best answer span."""

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
    """A question with as much of its context as a model sees at once.

    ``input_ids`` and ``type_ids``: shape ``[T]``, special tokens included, no padding (a batch pads on
    the right, so that positions stay). The context's tokens are the positions from ``context_at`` on;
    ``offsets``, shape ``[C, 2]``, holds for each of them where it begins and ends in ``context``, in
    characters. ``start`` and ``end`` are the positions of the answer's first and last token, both 0
    (the first special token) where the window does not hold the whole answer or there is none.
    ``row`` is the question's; ``is_cut``: its question lost its end.
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
    """A candidate answer: ``context[start:end]`` in characters; ``score`` is start logit plus end logit, or, after
    ``with_probabilities``, a probability."""

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
    """Cut every row into windows of at most ``max_length`` tokens, in the order of the rows.

    Neighbouring windows share ``stride`` tokens of context (as ``transformers`` means the word) and together
    hold every one. Questions are cut after ``max_question`` tokens. A row's first answer is the one to learn.

    Raises ``RecipeError`` where the window leaves no room to move on, ``BackboneError`` where the tokenizer does
    not say where its tokens stand.
    """
    assert rows.pairs is not None, "a question needs its context"
    frame = _Frame.of(tokenizer)
    least_room = max_length - frame.size - max_question
    if not 0 <= stride < least_room:
        raise RecipeError(
            f"a window of {max_length} tokens less a question of {max_question} leaves {max(least_room, 0)} for the "
            f"context, and neighbours share {stride}. Shared must be 0 or more and less than that"
        )
    contexts = list(dict.fromkeys(rows.pairs))
    encoded = dict(zip(contexts, _encode(contexts, tokenizer), strict=True))
    out: list[Window] = []
    for row, (question, _) in enumerate(_encode(rows.texts, tokenizer)):
        context_ids, offsets = encoded[rows.pairs[row]]
        question, is_cut = question[:max_question], len(question) > max_question
        answer = _tokens_of(rows.targets[row][0], offsets) if rows.targets else None
        for first, last in _cuts(len(context_ids), max_length - frame.size - len(question), stride):
            holds = answer is not None and first <= answer[0] and answer[1] < last
            input_ids, type_ids, at = frame.fill(question, context_ids[first:last])
            start, end = (at + token - first for token in answer) if answer and holds else (0, 0)
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
    """The ``n`` best spans of each question over all of its windows, best first.

    Logits: one array per window, of shape ``[T]`` or longer (padding on the right is left aside). A
    valid span lies in the context, does not end before it starts and has at most ``max_answer_length``
    tokens. A span seen in several windows counts once, with its best score.
    """
    assert len(windows) == len(start_logits) == len(end_logits), "one array of logits per window"
    best: dict[str, dict[tuple[int, int], Span]] = {}
    for window, start, end in zip(windows, start_logits, end_logits, strict=True):
        spans = best.setdefault(window.id, {})
        for span in _spans(window, start, end, n, max_answer_length):
            known = spans.get((span.start, span.end))
            if known is None or known.score < span.score:
                spans[span.start, span.end] = span
    return {id: sorted(spans.values(), key=lambda s: (-s.score, s.start, s.end))[:n] for id, spans in best.items()}


def with_probabilities(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Candidates of one question with the share of each among them (softmax) as its score, as in BERT's code.

    Where there is none, the empty answer with a score of 0.
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
    """Each question's id with the text of its best span (see ``n_best_answers``)."""
    spans = n_best_answers(windows, start_logits, end_logits, max_answer_length=max_answer_length)
    return {id: candidates[0].text if candidates else "" for id, candidates in spans.items()}


@dataclass(frozen=True)
class _Frame:
    """The special tokens that stand before, between and after a pair, read off an encoded pair."""

    before: tuple[Ints, Ints]
    between: tuple[Ints, Ints]
    after: tuple[Ints, Ints]
    question_type: int
    context_type: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> _Frame:
        if not tokenizer.is_fast:
            raise BackboneError(
                f"{type(tokenizer).__name__} does not say where its tokens stand in the text, which answers "
                "that are spans need. A fast tokenizer (one with a tokenizer.json) does"
            )
        pair = _encodings(tokenizer, ["a"], ["a"])[0]
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
        """Input ids and type ids of question and context within the frame, and where the context begins."""
        parts = (
            self.before,
            (question, np.full_like(question, self.question_type)),
            self.between,
            (context, np.full_like(context, self.context_type)),
            self.after,
        )
        ids, types = (np.concatenate(column) for column in zip(*parts, strict=True))
        return ids, types, sum(len(part) for part, _ in parts[:3])


def _encodings(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Any:
    """Whole texts, whatever truncation and padding the tokenizer's file or its last use left set."""
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


def _encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[Ints, Ints]]:
    """Ids ``[T]`` and character offsets ``[T, 2]`` of each text, without special tokens."""
    for first in range(0, len(texts), 1000):
        for encoding in _encodings(tokenizer, texts[first : first + 1000]):
            yield np.asarray(encoding.ids, np.int32), np.asarray(encoding.offsets, np.int32).reshape(-1, 2)


def _cuts(num_tokens: int, room: int, stride: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most ``room`` tokens, each beginning ``stride`` tokens before its predecessor ends."""
    first = 0
    while first + room < num_tokens:
        yield first, first + room
        first += room - stride
    yield first, num_tokens


def _tokens_of(answer: Answer, offsets: Ints) -> tuple[int, int] | None:
    """The first and the last token that share a character with the answer."""
    begins, ends = offsets[:, 0], offsets[:, 1]
    tokens = np.flatnonzero((ends > answer.start) & (begins < answer.start + len(answer.text)))
    return (int(tokens[0]), int(tokens[-1])) if len(tokens) else None


def _spans(
    window: Window, start_logits: npt.ArrayLike, end_logits: npt.ArrayLike, n: int, max_answer_length: int
) -> Iterator[Span]:
    """The ``n`` best valid spans of one window."""
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
            f"the logits of question {window.id!r} are not numbers (NaN). Was the model trained too fast?"
        )
    flat = scores.ravel()
    top = np.argpartition(-flat, min(n, len(flat)) - 1)[:n]
    for place in top[np.lexsort((top, -flat[top]))]:
        if flat[place] == -np.inf:
            return
        first, length = divmod(int(place), longest)
        span = _text(window, first, first + length)
        if span:
            yield Span(*span, float(flat[place]))


def _text(window: Window, first: int, last: int) -> tuple[str, int, int] | None:
    """The text from one context token to another and its place, without spaces around it.

    A tokenizer that strips accents leaves a trailing combining mark out of its token; the text takes it in.
    """
    begin, end = int(window.offsets[first, 0]), int(window.offsets[last, 1])
    while end < len(window.context) and unicodedata.combining(window.context[end]):
        end += 1
    text = window.context[begin:end]
    begin += len(text) - len(text.lstrip())
    text = text.strip()
    return (text, begin, begin + len(text)) if text else None


def row_id(rows: Rows, row: int) -> str:
    """The id of a row: its own, or else its number."""
    return str(row) if rows.ids is None else rows.ids[row]
