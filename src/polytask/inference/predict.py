"""``MultiTask``: many adapters on one backbone answer mixed batches."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.data.encoding import Cut, usual_stride
from polytask.data.task import Kind
from polytask.inference.inputs import Text, check_inputs, check_length, encode_texts, read_texts
from polytask.inference.prediction import Prediction
from polytask.inference.scoring import scores_of


class MultiTask:
    """All adapters of a store on one backbone.

    An adapter is read from the store when it is first needed, and stays loaded until ``unload``. ``spam`` names the
    latest version of a task, ``spam@2`` another one; aliases work too.

    All methods may be called from any thread at any time. Forward passes on one backbone, those of training included,
    take turns batch by batch. An adapter that is unloaded during a call answers that call to its end.
    """

    def __init__(self, backbone: Backbone, store: Store, *, max_length: int | None = None) -> None:
        if max_length is not None:
            check_length(backbone, max_length)
        self.backbone, self.store = backbone, store
        self.max_length = max_length
        self.attached = Attached.of(backbone)
        self.adapters: dict[str, LoadedAdapter] = {}
        self._cuts: dict[str, Cut] = {}
        self._loading, self._lock = threading.Lock(), threading.Lock()
        self._num_uses: Counter[str] = Counter()
        self._unloading: dict[str, LoadedAdapter] = {}

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
            task: one task for all texts, or one per text: ``task``, ``task@version`` or ``task@alias``.
            pairs: the second text of each text, if ``texts`` does not have it; None for a text without one.
            on_error: what to do with a text that is empty or not text. ``raise`` refuses the call; ``null`` answers
                the others, and gives this one a prediction with nothing but its ``error``.

        Returns:
            One prediction per text, in the same order.

        Raises:
            RouteError: the numbers of texts, second texts and tasks differ, or one task is given pairs and single
                texts.
            DataError: a text or a second text is empty; a task of pairs is given a single text, or the reverse.
            NoSuchAdapter, IncompatibleAdapter: as ``load``.
        """
        texts, tasks, problems = read_texts(texts, task, pairs, on_error)
        rows = [row for row in range(len(texts)) if row not in problems]
        answered = iter(self._answer([texts[row] for row in rows], [tasks[row] for row in rows]))
        return [
            Prediction(tasks[row].partition("@")[0], error=problems[row]) if row in problems else next(answered)
            for row in range(len(texts))
        ]

    def _answer(self, texts: Sequence[Text], tasks: Sequence[str]) -> list[Prediction]:
        """One prediction per text, all of which can be answered."""
        if not texts:
            return []
        with self._used(dict.fromkeys(tasks)) as name_of:
            names = [name_of[task] for task in tasks]
            adapters = {name: self._adapter(name) for name in name_of.values()}
            check_inputs(texts, tasks, names, [adapters[name].takes for name in names])
            encoded = encode_texts(self.backbone.tokenizer, texts, [self._cuts[name] for name in names])
            scores = scores_of(self.backbone, self.attached, adapters, encoded, names)
        return [
            Prediction.of(task.partition("@")[0], adapters[name].kind, adapters[name].labels, row)
            for task, name, row in zip(tasks, names, scores, strict=True)
        ]

    def load(self, reference: str) -> str:
        """Load an adapter, if it is not loaded yet.

        Returns:
            The name by which it is kept, ``task@version``.

        Raises:
            NoSuchAdapter: the store has none.
            IncompatibleAdapter: it belongs to another backbone.
        """
        with self._used([reference]) as name_of:
            return name_of[reference]

    def unload(self, reference: str) -> None:
        """Free a loaded adapter, as soon as no call uses it. The store keeps it."""
        name = self._name(reference)
        with self._lock:
            if name in self.adapters:
                self._unloading[name] = self.adapters.pop(name)
            self._detach_if_unused(name)

    def _name(self, reference: str) -> str:
        entry = self.store.entry(reference)
        return f"{entry.task}@{entry.version}"

    @contextmanager
    def _used(self, references: Iterable[str]) -> Iterator[dict[str, str]]:
        """Keep these adapters loaded within the block; gives the name, ``task@version``, of each reference."""
        with ExitStack() as uses:
            name_of = {}
            for reference in references:
                name = name_of[reference] = self._name(reference)
                self._begin_use(name)
                uses.callback(self._end_use, name)
            yield name_of

    def _begin_use(self, name: str) -> None:
        """Count a use of an adapter. The first one loads it, and all that ask meanwhile wait for that."""
        if self._count_use_if_loaded(name):
            return
        with self._loading:
            if self._count_use_if_loaded(name):
                return
            adapter = self.store.get(name)
            loaded = LoadedAdapter.from_adapter(self.backbone, adapter)
            with self._lock:
                if loaded.deltas:
                    self.attached.add(name, loaded.deltas)
                self._cuts[name] = self._cut(adapter.header.head.kind, adapter.header.recipe)
                self.adapters[name] = loaded
                self._num_uses[name] += 1

    def _count_use_if_loaded(self, name: str) -> bool:
        """Whether an adapter is loaded; if it is, a use of it is counted."""
        with self._lock:
            if name in self._unloading:  # asked for again before its last call ended
                self.adapters[name] = self._unloading.pop(name)
            self._num_uses[name] += name in self.adapters
            return name in self.adapters

    def _end_use(self, name: str) -> None:
        with self._lock:
            self._num_uses[name] -= 1
            self._detach_if_unused(name)

    def _detach_if_unused(self, name: str) -> None:
        """Take an unloaded adapter off the backbone if no call uses it."""
        if self._num_uses[name]:
            return
        del self._num_uses[name]
        loaded = self._unloading.pop(name, None)
        if loaded is not None and loaded.deltas:
            self.attached.remove(name)

    def _adapter(self, name: str) -> LoadedAdapter:
        """An adapter in use, which may have been unloaded in the meantime."""
        with self._lock:
            return self.adapters[name] if name in self.adapters else self._unloading[name]

    def _cut(self, kind: Kind, recipe: Mapping[str, Any]) -> Cut:
        """How an adapter with this head and recipe has its texts truncated or split."""
        limit = self.max_length or int(recipe.get("max_length", self.backbone.max_length))
        limit = min(limit, self.backbone.max_length)
        if kind != "span":
            return limit, str(recipe.get("long", "truncate")), None
        usual = usual_stride(limit)
        stride = int(recipe.get("stride", usual))
        return limit, "truncate", min(stride, usual) if self.max_length else stride
