"""Many adapters on one backbone, answering mixed batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polytask.attach import Attached
from polytask.backbones import Backbone
from polytask.errors import RouteError
from polytask.live import LiveAdapter, encode_batch
from polytask.prefix import entering, entering_once
from polytask.routing import Route
from polytask.store import Store
from polytask.tasks.batches import Encoded, budget_batches, collate, encode, joined
from polytask.tasks.task import Kind, Rows

BATCH_TOKENS = 4096
Text = str | tuple[str, str]


@dataclass(frozen=True)
class Prediction:
    """What a task's adapter says of one text.

    ``label`` is the likeliest label's name (classification), ``labels`` those that hold (multi-label), ``probs`` a
    probability for each label name; ``score`` is the number that regression answers with.
    """

    task: str
    label: str | None = None
    labels: tuple[str, ...] | None = None
    probs: Mapping[str, float] | None = None
    score: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields that this kind of task has."""
        fields = {"label": self.label, "labels": self.labels, "probs": self.probs, "score": self.score}
        return {"task": self.task, **{k: v for k, v in fields.items() if v is not None}}

    @classmethod
    def of(cls, task: str, kind: Kind, labels: Sequence[str], scores: Sequence[float]) -> Prediction:
        """From a head's scores of one row."""
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
) -> list[Tensor]:
    """The scores of each row's own adapter, in the order of the rows, in fp32 on the CPU.

    Of a row that was split, the mean over its windows. Rows are sorted by length and packed to ``batch_tokens``.
    Adapters with deltas share forward passes; a replacement runs as its own. ``adapters`` with deltas are on
    ``attached`` under the same names. A text that several adapters answer is computed once in the layers that none of
    them changes; with ``keep_prefix`` what comes out of these layers is kept for next time.
    """
    scores: list[Tensor] = [torch.empty(0)] * len(encoded)
    lengths = encoded.lengths
    names = encoded.for_each(names)
    for group in _groups(adapters, names):
        if any(adapters[names[row]].lowest for row in group):
            group.sort(key=lambda row: encoded.ids[row])  # equal texts side by side, to be in one batch
        for picked in budget_batches([lengths[row] for row in group], batch_tokens):
            rows = [group[position] for position in picked]
            of_rows = [names[row] for row in rows]
            answers = _batch_scores(backbone, attached, adapters, encoded, of_rows, rows, keep_prefix)
            for row, answer in zip(rows, answers, strict=True):
                scores[row] = answer
    return encoded.averaged(scores)


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
    batch = entering(backbone, batch, parts, lowest) if keep_prefix else entering_once(backbone, batch, lowest)
    live = adapters[names[0]]
    route = Route.of(None if live.copies else names[at] for at in order)
    with attached.routed(route):
        hidden, pooled = encode_batch(backbone, batch, live)
    scores: list[Tensor] = [torch.empty(0)] * len(rows)
    for name, where in Route.of(names[at] for at in order).rows.items():
        head = adapters[str(name)].head
        outputs = head.scores(head(hidden[where] if head.reads_tokens else pooled[where])).float().cpu()
        for at, output in zip(torch.arange(len(rows))[where].tolist(), outputs, strict=True):
            scores[order[at]] = output
    return scores


class MultiTask:
    """All adapters of a store on one backbone.

    Adapters are read from the store when they are first asked for and stay on the backbone. A task's name means its
    latest version; ``spam@2`` and aliases work too.
    """

    def __init__(self, backbone: Backbone, store: Store, *, max_length: int | None = None) -> None:
        self.backbone, self.store = backbone, store
        self.max_length = max_length
        self.attached = Attached(backbone.model, backbone.row, backbone.noise)
        self.adapters: dict[str, LiveAdapter] = {}
        self._cuts: dict[str, tuple[int, str]] = {}

    def load(self, reference: str) -> str:
        """Make an adapter ready; the name under which it is held, ``task@version``.

        Raises:
            NoSuchAdapter: the store has none.
            IncompatibleAdapter: it belongs to another backbone.
        """
        entry = self.store.entry(reference)
        name = f"{entry.task}@{entry.version}"
        if name not in self.adapters:
            adapter = self.store.get(name)
            live = LiveAdapter.from_adapter(self.backbone, adapter)
            if live.deltas:
                self.attached.add(name, live.deltas)
            self.adapters[name] = live
            self._cuts[name] = self._cut(adapter.header.recipe)
        return name

    def unload(self, reference: str) -> None:
        """Free what ``load`` made ready; the store keeps it."""
        entry = self.store.entry(reference)
        name = f"{entry.task}@{entry.version}"
        live = self.adapters.pop(name, None)
        if live is not None and live.deltas:
            self.attached.remove(name)

    def predict(self, texts: Sequence[Text], task: str | Sequence[str]) -> list[Prediction]:
        """Answer each text with its task's adapter.

        Args:
            texts: texts, or pairs of texts.
            task: a task for all of them, or one a text. ``task``, ``task@version`` or ``task@alias``.

        Returns:
            One prediction a text, in their order.
        """
        tasks = [task] * len(texts) if isinstance(task, str) else list(task)
        if len(tasks) != len(texts):
            raise RouteError(f"{len(texts)} texts and {len(tasks)} tasks: give one task, or one a text")
        if not texts:
            return []
        held = {reference: self.load(reference) for reference in dict.fromkeys(tasks)}
        names = [held[reference] for reference in tasks]
        scores = scores_of(self.backbone, self.attached, self.adapters, self._encoded(_rows(texts), names), names)
        return [self._prediction(reference, held[reference], row) for reference, row in zip(tasks, scores, strict=True)]

    def _cut(self, recipe: Mapping[str, Any]) -> tuple[int, str]:
        """How an adapter of this recipe has its texts cut: to how many tokens, and what becomes of the rest."""
        limit = self.max_length or int(recipe.get("max_length", self.backbone.max_length))
        return min(limit, self.backbone.max_length), str(recipe.get("long", "truncate"))

    def _encoded(self, rows: Rows, names: Sequence[str]) -> Encoded:
        """Each text cut as its own adapter has it, whatever the others ask for."""
        ways: dict[tuple[int, str], list[int]] = {}
        for row, name in enumerate(names):
            ways.setdefault(self._cuts[name], []).append(row)
        parts = [(encode(self.backbone.tokenizer, rows.take(own), *way), own) for way, own in ways.items()]
        return parts[0][0] if len(parts) == 1 else joined(parts)

    def _prediction(self, reference: str, name: str, scores: Tensor) -> Prediction:
        live = self.adapters[name]
        return Prediction.of(reference.partition("@")[0], live.kind, live.labels, scores.tolist())


def _rows(texts: Sequence[Text]) -> Rows:
    """Texts or pairs as rows; a mixture is refused."""
    is_pair = [isinstance(text, tuple | list) for text in texts]
    if all(is_pair):
        return Rows([text[0] for text in texts], [text[1] for text in texts])
    if any(is_pair):
        raise RouteError("some texts are pairs and some are not: predict them separately")
    return Rows([str(text) for text in texts])
