"""Many adapters on one backbone, answering mixed batches."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from polytask.attach import Attached
from polytask.backbones import Backbone
from polytask.errors import DataError, PolytaskError, RouteError, UnknownName
from polytask.header import Inputs
from polytask.live import LiveAdapter, encode_batch
from polytask.prefix import entering, entering_once
from polytask.routing import Route
from polytask.store import Store
from polytask.tasks.batches import Cut, Encoded, budget_batches, collate, encode, joined, usual_stride
from polytask.tasks.heads import answers
from polytask.tasks.labels import is_empty
from polytask.tasks.task import Kind, Rows, is_text

BATCH_TOKENS = 4096
Text = str | tuple[str, str]


@dataclass(frozen=True)
class Prediction:
    """What a task's adapter says of one text.

    ``error`` says why there is no answer, where that was asked for (``on_error="null"``); all else is None then.
    ``label`` is the likeliest label's name (classification), ``labels`` those that hold (multi-label), ``probs`` a
    probability for each label name. ``answer`` is the span ``context[start:end]``, in characters, and ``score`` its
    probability among the best spans; or ``score`` is the number that regression answers with.
    """

    task: str
    label: str | None = None
    labels: tuple[str, ...] | None = None
    probs: Mapping[str, float] | None = None
    score: float | None = None
    answer: str | None = None
    start: int | None = None
    end: int | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields that this kind of task has."""
        if self.error is not None:
            return {"task": self.task, "label": None, "error": self.error}
        fields = ("label", "labels", "probs", "answer", "start", "end", "score")
        return {"task": self.task, **{k: v for k in fields if (v := getattr(self, k)) is not None}}

    @classmethod
    def of(cls, task: str, kind: Kind, labels: Sequence[str], scores: Any) -> Prediction:
        """From a head's scores of one row: numbers, or of a question its best spans."""
        if kind == "span":
            if not scores:
                raise PolytaskError(f"task {task!r} answers with what is not a number (NaN)")
            return cls(task, answer=scores[0].text, start=scores[0].start, end=scores[0].end, score=scores[0].score)
        scores = scores.tolist()
        if kind == "regression":
            return cls(task, score=scores[0])
        probs = dict(zip(labels, scores, strict=True))
        if kind == "multilabel":
            return cls(task, labels=tuple(label for label, prob in probs.items() if prob >= 0.5), probs=probs)
        return cls(task, label=max(probs, key=probs.__getitem__), probs=probs)


@torch.inference_mode()
def scores_of(
    backbone: Backbone,
    attached: Attached,
    adapters: Mapping[str, LiveAdapter],
    encoded: Encoded,
    names: Sequence[str],
    batch_tokens: int = BATCH_TOKENS,
    *,
    keep_prefix: bool = False,
) -> list[Any]:
    """The scores of each row's own adapter, in the order of the rows, in fp32 on the CPU.

    Of a row that was split, what its head makes of all its windows (``Head.of_row``): the mean, or the best spans.
    Rows are sorted by length and packed to ``batch_tokens``.
    Adapters with deltas share forward passes; a replacement runs as its own. ``adapters`` with deltas are on
    ``attached`` under the same names. A text that several adapters answer is computed once in the layers that none of
    them changes; with ``keep_prefix`` what comes out of these layers is kept for next time.
    """
    scores: list[Tensor] = [torch.empty(0)] * len(encoded)
    lengths = encoded.lengths
    of_texts = encoded.for_each(names)
    for group in _groups(adapters, of_texts):
        if any(adapters[of_texts[text]].lowest.layer for text in group):
            group.sort(key=lambda text: encoded.ids[text])  # equal texts side by side, to be in one batch
        for picked in budget_batches([lengths[text] for text in group], batch_tokens):
            texts = [group[position] for position in picked]
            own = [of_texts[text] for text in texts]
            with backbone.one_pass(training=False):
                answers = _batch_scores(backbone, attached, adapters, encoded, own, texts, keep_prefix)
            for text, answer in zip(texts, answers, strict=True):
                scores[text] = answer
    return [
        adapters[name].head.of_row([scores[text] for text in texts], encoded.windows_of(texts))
        for name, texts in zip(names, encoded.by_row(), strict=True)
    ]


def _groups(adapters: Mapping[str, LiveAdapter], names: Sequence[str]) -> list[list[int]]:
    """Rows that may share a forward pass: all with deltas, and those of each replacement."""
    groups: dict[str | None, list[int]] = {}
    for row, name in enumerate(names):
        groups.setdefault(name if adapters[name].copies else None, []).append(row)
    return list(groups.values())


def _batch_scores(
    backbone: Backbone,
    attached: Attached,
    adapters: Mapping[str, LiveAdapter],
    encoded: Encoded,
    names: Sequence[str],
    rows: Sequence[int],
    keep_prefix: bool,
) -> list[Tensor]:
    """One forward pass over ``rows``; one tensor of scores a row."""
    order = sorted(range(len(rows)), key=lambda at: names[at])  # an adapter's rows side by side
    parts = [(encoded, [rows[at] for at in order])]
    batch = collate(parts, backbone.tokenizer.pad_token_id or 0, backbone.device)
    lowest = min(adapters[name].lowest for name in set(names))
    if keep_prefix:
        batch = entering(backbone, batch, parts, lowest, attached)
    else:
        batch = entering_once(backbone, batch, lowest, attached)
    live = adapters[names[0]]
    route = Route.of(None if live.copies else names[at] for at in order)
    with attached.routed(route):
        hidden, pooled = encode_batch(backbone, batch, live)
    in_order = answers([adapters[names[at]].head for at in order], hidden, pooled)
    scores: list[Tensor] = [torch.empty(0)] * len(rows)
    for at, answer in zip(order, in_order, strict=True):
        scores[at] = answer
    return scores


class MultiTask:
    """All adapters of a store on one backbone.

    Adapters are read from the store when they are first asked for and stay on the backbone. A task's name means its
    latest version; ``spam@2`` and aliases work too.

    Any thread may call any method at any time: forward passes on one backbone, of training too, take turns batch by
    batch. An adapter that is unloaded during a call answers that call to its end.
    """

    def __init__(self, backbone: Backbone, store: Store, *, max_length: int | None = None) -> None:
        if max_length is not None:
            check_length(backbone, max_length)
        self.backbone, self.store = backbone, store
        self.max_length = max_length
        self.attached = Attached.of(backbone)
        self.adapters: dict[str, LiveAdapter] = {}
        self._cuts: dict[str, Cut] = {}
        self._loading, self._lock = threading.Lock(), threading.Lock()
        self._uses: Counter[str] = Counter()
        self._leaving: dict[str, LiveAdapter] = {}

    def load(self, reference: str) -> str:
        """Make an adapter ready; the name under which it is held, ``task@version``.

        Raises:
            NoSuchAdapter: the store has none.
            IncompatibleAdapter: it belongs to another backbone.
        """
        with self._used([reference]) as names:
            return names[reference]

    def unload(self, reference: str) -> None:
        """Free what ``load`` made ready, once no call uses it; the store keeps it."""
        name = self._name(reference)
        with self._lock:
            if name in self.adapters:
                self._leaving[name] = self.adapters.pop(name)
            self._leave(name)

    def _name(self, reference: str) -> str:
        entry = self.store.entry(reference)
        return f"{entry.task}@{entry.version}"

    @contextmanager
    def _used(self, references: Iterable[str]) -> Iterator[dict[str, str]]:
        """The names of these adapters, which stay on the backbone within the block."""
        with ExitStack() as uses:
            names = {}
            for reference in references:
                names[reference] = self._name(reference)
                self._use(names[reference])
                uses.callback(self._used_no_more, names[reference])
            yield names

    def _use(self, name: str) -> None:
        """Count a use of an adapter; the first one reads it, and all who ask meanwhile wait for that."""
        if self._counted(name):
            return
        with self._loading:
            if self._counted(name):
                return
            adapter = self.store.get(name)
            live = LiveAdapter.from_adapter(self.backbone, adapter)
            with self._lock:
                if live.deltas:
                    self.attached.add(name, live.deltas)
                self._cuts[name] = self._cut(adapter.header.head.kind, adapter.header.recipe)
                self.adapters[name] = live
                self._uses[name] += 1

    def _counted(self, name: str) -> bool:
        """Count a use of an adapter that is on the backbone; whether it is."""
        with self._lock:
            if name in self._leaving:  # unloaded and asked for again before it was gone
                self.adapters[name] = self._leaving.pop(name)
            self._uses[name] += name in self.adapters
            return name in self.adapters

    def _used_no_more(self, name: str) -> None:
        with self._lock:
            self._uses[name] -= 1
            self._leave(name)

    def _leave(self, name: str) -> None:
        """Take an unloaded adapter off the backbone if no call uses it."""
        if self._uses[name]:
            return
        del self._uses[name]
        live = self._leaving.pop(name, None)
        if live is not None and live.deltas:
            self.attached.remove(name)

    def predict(
        self,
        texts: Sequence[Text],
        task: str | Sequence[str],
        *,
        pairs: Sequence[str | None] | None = None,
        on_error: Literal["raise", "null"] = "raise",
    ) -> list[Prediction]:
        """Answer each text with its task's adapter.

        Args:
            texts: texts, or pairs of texts: a question with its context, a premise with a hypothesis.
            task: a task for all of them, or one a text. ``task``, ``task@version`` or ``task@alias``.
            pairs: the second text of each text, where ``texts`` does not have it; None for a text without.
            on_error: what becomes of a text that is empty or no text: ``raise`` refuses the call; with ``null`` a
                prediction that has nothing but its ``error`` stands in its place, and all others are answered.

        Returns:
            One prediction a text, in their order.

        Raises:
            RouteError: not as many tasks or second texts as texts, or a task is asked with pairs and without.
            DataError: a text or a second text is empty; a task of pairs is asked about a single text, or the reverse.
            NoSuchAdapter, IncompatibleAdapter: as ``load``.
        """
        if isinstance(texts, str):
            raise DataError("texts is one text, not a list of texts", fix="Put it in brackets: predict([text], …)")
        if on_error not in ("raise", "null"):
            raise UnknownName("way of on_error", on_error, ("raise", "null"))
        texts = list(texts)
        if pairs is not None:
            texts = _paired(texts, pairs)
        tasks = [task] * len(texts) if isinstance(task, str) else list(task)
        if len(tasks) != len(texts):
            raise RouteError(f"{len(texts)} texts and {len(tasks)} tasks: give one task, or one a text")
        problems = {row: problem for row, text in enumerate(texts) if (problem := problem_of(text)) is not None}
        if problems and on_error == "raise":
            check_texts(texts)
        if problems:
            rest = [row for row in range(len(texts)) if row not in problems]
            answered = iter(self.predict([texts[row] for row in rest], [tasks[row] for row in rest]))
            return [
                Prediction(tasks[row].partition("@")[0], error=problems[row]) if row in problems else next(answered)
                for row in range(len(texts))
            ]
        if not texts:
            return []
        with self._used(dict.fromkeys(tasks)) as held:
            adapters = {name: self._adapter(name) for name in held.values()}
            names = [held[reference] for reference in tasks]
            check_inputs(texts, tasks, names, [adapters[name].takes for name in names])
            scores = scores_of(self.backbone, self.attached, adapters, self._encoded(texts, names), names)
        return [
            _prediction(reference, adapters[name], row)
            for reference, name, row in zip(tasks, names, scores, strict=True)
        ]

    def _adapter(self, name: str) -> LiveAdapter:
        """An adapter in use, which may have been unloaded since it was asked for."""
        with self._lock:
            return self.adapters[name] if name in self.adapters else self._leaving[name]

    def _cut(self, kind: Kind, recipe: Mapping[str, Any]) -> Cut:
        """How an adapter of this kind and recipe has its texts cut."""
        limit = self.max_length or int(recipe.get("max_length", self.backbone.max_length))
        limit = min(limit, self.backbone.max_length)
        if kind != "span":
            return limit, str(recipe.get("long", "truncate")), None
        usual = usual_stride(limit)
        stride = int(recipe.get("stride", usual))
        return limit, "truncate", min(stride, usual) if self.max_length else stride

    def _encoded(self, texts: Sequence[Text], names: Sequence[str]) -> Encoded:
        """Each text cut as its own adapter has it, whatever the others ask for."""
        is_pair = [isinstance(text, tuple | list) for text in texts]
        ways: dict[tuple[Cut, bool], list[int]] = {}
        for row, (name, pair) in enumerate(zip(names, is_pair)):
            ways.setdefault((self._cuts[name], pair), []).append(row)
        parts = [
            (encode(self.backbone.tokenizer, _rows([texts[row] for row in own]), *cut), own)
            for (cut, _), own in ways.items()
        ]
        return parts[0][0] if len(parts) == 1 else joined(parts)


def _prediction(reference: str, live: LiveAdapter, scores: Any) -> Prediction:
    return Prediction.of(reference.partition("@")[0], live.kind, live.labels, scores)


def problem_of(text: Text) -> str | None:
    """Why a text, or a pair of texts, cannot be answered; None where it can."""
    for what, own in zip(("text", "second text"), text if isinstance(text, tuple | list) else (text,)):
        if is_empty(own):
            return f"the {what} is empty"
        if not is_text(own):
            return f"the {what} is no text that can be written as UTF-8: {own!r:.60}"
    return None


def check_length(backbone: Backbone, max_length: int) -> None:
    """Refuse a length that is no number of tokens, or more than the backbone reads.

    Raises:
        RouteError: with what would be right.
    """
    is_whole = isinstance(max_length, int) and not isinstance(max_length, bool)
    if not is_whole or not 3 <= max_length <= backbone.max_length:
        raise RouteError(
            f"max_length={max_length!r} is out of range. {backbone.name} reads 3 to {backbone.max_length} tokens"
        )


def check_texts(texts: Sequence[Text]) -> None:
    """Refuse texts, or pairs of texts, in which there is nothing to answer.

    Raises:
        DataError: one is empty, or is not text.
    """
    for number, text in enumerate(texts, 1):
        problem = problem_of(text)
        if problem is None:
            continue
        if len(texts) > 1:
            problem = re.sub("^the ((second )?text)", rf"\1 {number} of {len(texts)}", problem)
        if "is empty" in problem:
            raise DataError(f"{problem}, and there is nothing to answer", fix="Give it, or leave it out")
        raise DataError(problem, fix="Decode it with the encoding that it has")


def check_inputs(
    texts: Sequence[Text], tasks: Sequence[str], names: Sequence[str], takes: Sequence[Inputs | None]
) -> None:
    """Refuse a single text for a task of pairs, and a pair for a task of single texts.

    Raises:
        RouteError: one adapter is given both.
        DataError: an adapter is given what it does not take; its answer to half a question would look like any other.
    """
    if len({(name, isinstance(text, tuple | list)) for name, text in zip(names, texts)}) > len(set(names)):
        raise RouteError("some texts of one task are pairs and some are not: predict them separately")
    for number, (text, task, inputs) in enumerate(zip(texts, tasks, takes, strict=True), 1):
        is_pair = isinstance(text, tuple | list)
        if inputs is None or is_pair == (inputs != "single"):
            continue
        which = f"text {number} of {len(texts)}" if len(texts) > 1 else "the text"
        if is_pair:
            fix = "Leave the second text out: no --pair, only --text for a file, no pairs= in Python"
            raise DataError(f"task {task!r} answers single texts, and {which} is a pair", fix=fix)
        fix = "Give it with --pair, for a file with --text-pair COLUMN, in Python with pairs="
        if inputs == "question+context":
            raise DataError(f"task {task!r} is asked about a context, and there is none for {which}", fix=fix)
        raise DataError(f"task {task!r} answers pairs of texts, and {which} has no second text", fix=fix)


def _paired(texts: Sequence[Text], pairs: Sequence[str | None]) -> list[Text]:
    """Texts with their second texts."""
    if len(texts) != len(pairs):
        raise RouteError(f"{len(texts)} texts and {len(pairs)} second texts: give one a text, or None")
    if not all(isinstance(text, str) for text in texts):
        raise RouteError("texts are pairs already: leave out pairs=")
    return [text if pair is None else (str(text), pair) for text, pair in zip(texts, pairs, strict=True)]


def _rows(texts: Sequence[Text]) -> Rows:
    """Texts, or pairs of texts, as rows."""
    if isinstance(texts[0], tuple | list):
        return Rows([text[0] for text in texts], [text[1] for text in texts])
    return Rows([str(text) for text in texts])
