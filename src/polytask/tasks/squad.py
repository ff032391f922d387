"""SQuAD v1.1: questions answered by a span of a paragraph, and its official scores.

A paragraph longer than the window is read through several overlapping windows. Everything outside
this file speaks of characters of the original paragraph and everything a model sees of token
positions in one window; the offsets in ``Window`` are the only bridge. There is no model here: logits
come in as arrays.

Decoding scores every valid span of a window instead of pairing the best starts with the best ends, so
the best valid span is never missed.

Rajpurkar et al.: SQuAD, 100,000+ questions for machine comprehension of text, arXiv:1606.05250.
"""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from polytask.errors import BackboneError, DataError, PolytaskError, RecipeError
from polytask.tasks.glue import find_file, read_whole
from polytask.tasks.splits import drawn, hold_out_groups
from polytask.tasks.tables import Table
from polytask.tasks.task import Answer, Rows, Task
from polytask.tasks.tokens import tokenize

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ints = npt.NDArray[np.int32]
Logits = Sequence[npt.ArrayLike] | npt.NDArray[Any]
T = TypeVar("T")


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


def read_squad(path: str | PathLike[str], *, labelled: bool = True, limit: int | None = None) -> Rows:
    """Read SQuAD v1.1 JSON, gzipped or not: questions as ``texts``, contexts as ``pairs``, the
    questions' ids, and as each target a tuple of ``Answer``.

    ``labelled=False`` reads questions alone, whether or not answers stand beside them. ``limit`` keeps the
    first questions. Raises ``DataError`` naming the place in the file.
    """
    return _read(path, labelled, limit)[0]


def squad_table(path: str | PathLike[str], *, labelled: bool = True) -> Table:
    """SQuAD v1.1 JSON as a table with a row a question: ``id``, ``title`` (of the article), ``context``, ``question``
    and, if it is to be ``labelled``, ``answers``. Errors are those of ``read_squad``.
    """
    rows, titles = _read(path, labelled, None)
    columns: dict[str, Sequence[Any] | None] = {"id": rows.ids, "title": titles, "context": rows.pairs}
    columns |= {"question": rows.texts, "answers": rows.targets}
    there = {name: column for name, column in columns.items() if column is not None}
    return Table(str(path), tuple(there), list(zip(*there.values(), strict=True)), range(1, len(rows) + 1))


def squad_task(
    train: str | PathLike[str],
    dev: str | PathLike[str] | None = None,
    *,
    name: str = "squad",
    seed: int = 0,
    limit: int | None = None,
    validation_share: float = 0.1,
) -> Task:
    """SQuAD v1.1 as a task: train's articles to train on and, a seeded tenth of them, to validate on; dev to test on.

    Args:
        train: the training file, or the folder of ``train-v1.1.json`` and ``dev-v1.1.json``, gzipped or not.
        dev: the file of dev; by default the one in the folder.
        name: the task's.
        seed: chooses the articles that are held out, and the questions where there is a limit.
        limit: so many of train's questions, drawn from all articles before some of these are held out.
        validation_share: the part of the questions that is held out, as far as whole articles allow.

    Raises:
        DataError: a file is not there or not SQuAD.
        RecipeError: the share is not between 0 and 1.
    """
    if Path(train).is_dir():
        found = {part: find_file(Path(train), f"{part}-v1.1.json") for part in ("train", "dev")}
        train, dev = found["train"] or Path(train, "train-v1.1.json"), dev or found["dev"]
    rows, titles = _read(train, True, None)
    notes: tuple[str, ...] = ()
    if limit is not None and limit < len(rows):
        notes = (f"{name}: {limit:,} of {len(rows):,} training questions, drawn with seed {seed}",)
        picked = drawn(len(rows), limit, seed=seed)
        rows, titles = rows.take(picked), [titles[row] for row in picked]
    kept, held_out = hold_out_groups(titles, share=validation_share, seed=seed, most=len(rows))
    test = None if dev is None else read_squad(dev)
    return Task(name, "span", (), "span_f1", rows.take(kept), rows.take(held_out), test, notes)


def _read(path: str | PathLike[str], labelled: bool, limit: int | None) -> tuple[Rows, list[str]]:
    """The questions and the titles of their articles."""
    file = _File(path)
    texts, pairs, ids, targets, titles = [], [], [], [], []
    for where, title, context, qa in islice(file.questions(), limit):
        titles.append(title)
        texts.append(file.text(qa, "question", where))
        pairs.append(context)
        ids.append(file.text(qa, "id", where))
        if labelled:
            targets.append(file.answers(qa, context, where))
    if not texts:
        raise DataError("the file holds no questions", file=path)
    twice = [id for id, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(f"{len(twice)} ids stand more than once, among them {twice[0]!r}", file=path)
    return Rows(texts, pairs, targets if labelled else None, ids), titles


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
            out.append(Window(_id(rows, row), rows.pairs[row], *tokens, start, end, row, is_cut))
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


def normalised(text: str) -> str:
    """What the official scorer compares: lower case, without ASCII punctuation, articles and extra spaces."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """1.0 if the prediction equals any gold answer after normalisation, else 0.0."""
    return float(any(normalised(prediction) == normalised(gold) for gold in golds))


def f1(prediction: str, golds: Sequence[str]) -> float:
    """The best F1 over the words shared with a gold answer.

    As in the official scorer, no shared word is 0.0, even for two answers of which normalisation
    leaves nothing.
    """
    return max(_word_f1(normalised(prediction).split(), normalised(gold).split()) for gold in golds)


def evaluate(predictions: Mapping[str, str], rows: Rows) -> dict[str, float]:
    """The official scores in [0, 1]: ``{"exact_match": …, "f1": …}``, means over all rows.

    As in the official scorer, a question without a prediction scores 0.
    """
    assert rows.targets is not None, "rows without answers cannot be scored"
    exact, overlap = 0.0, 0.0
    for row, answers in enumerate(rows.targets):
        prediction = predictions.get(_id(rows, row))
        if prediction is not None:
            golds = [answer.text for answer in answers]
            exact += exact_match(prediction, golds)
            overlap += f1(prediction, golds)
    return {"exact_match": exact / len(rows), "f1": overlap / len(rows)}


@dataclass(frozen=True)
class _File:
    """A JSON file that says where in it something is wrong."""

    path: str | PathLike[str]

    def questions(self) -> Iterator[tuple[str, str, str, object]]:
        """Each question's place in the file, its article's title, its context and its JSON."""
        try:
            root = json.loads(read_whole(self.path))
        except json.JSONDecodeError as error:
            raise DataError(f"not JSON ({error.msg})", file=self.path, line=error.lineno) from error
        except RecursionError as error:
            raise DataError("not SQuAD JSON: it is nested too deep", file=self.path) from error
        for i, article in enumerate(self.get(root, "data", list, "the file")):
            paragraphs = self.get(article, "paragraphs", list, f"data[{i}]")
            title = str(article.get("title") or f"article {i + 1}")
            for j, paragraph in enumerate(paragraphs):
                where = f"data[{i}].paragraphs[{j}]"
                context = self.text(paragraph, "context", where)
                for k, qa in enumerate(self.get(paragraph, "qas", list, where)):
                    yield f"{where}.qas[{k}]", title, context, qa

    def answers(self, qa: object, context: str, where: str) -> tuple[Answer, ...]:
        found = []
        for i, item in enumerate(self.get(qa, "answers", list, where)):
            here = f"{where}.answers[{i}]"
            answer = Answer(self.text(item, "text", here), self.get(item, "answer_start", int, here))
            stands = context[max(answer.start, 0) :][: len(answer.text)]
            if answer.start < 0 or stands != answer.text:
                problem = (
                    f"{here}: the answer {answer.text!r} does not stand at character {answer.start} of its context"
                )
                raise DataError(problem, file=self.path, fix=f"There stands {stands!r}")
            found.append(answer)
        if not found:
            fix = "SQuAD v1.1 has an answer to every question (v2.0, which has not, is not supported)"
            raise DataError(f"{where} has no answers", file=self.path, fix=fix)
        return tuple(found)

    def text(self, node: object, key: str, where: str) -> str:
        text = self.get(node, key, str, where)
        if not text.strip():
            raise DataError(f"{where}: {key!r} is empty", file=self.path)
        return text

    def get(self, node: object, key: str, kind: type[T], where: str) -> T:
        if not isinstance(node, dict):
            raise DataError(f"{where} should be a JSON object, not {_json_name(node)}", file=self.path)
        if key not in node:
            raise DataError(f"{where} has no {key!r}", file=self.path, fix=f"It has: {', '.join(node) or 'nothing'}")
        value = node[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            right = _JSON_NAMES[kind]
            raise DataError(f"{where}: {key!r} should be {right}, not {_json_name(value)}", file=self.path)
        return value


_JSON_NAMES: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a whole number",
    float: "a fraction",
    bool: "true or false",
    type(None): "null",
}


def _json_name(value: object) -> str:
    return _JSON_NAMES[type(value)]


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


def _word_f1(prediction: list[str], gold: list[str]) -> float:
    shared = sum((Counter(prediction) & Counter(gold)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(prediction), shared / len(gold)
    return 2 * precision * recall / (precision + recall)


def _id(rows: Rows, row: int) -> str:
    return str(row) if rows.ids is None else rows.ids[row]
