"""Many adapters on one backbone, answering mixed batches."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, overload

from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.data.encoding import Cut, Encoded, encode, joined, usual_stride
from polytask.data.in_memory import is_stream, is_table
from polytask.data.task import Kind
from polytask.errors import BackboneError, RouteError, StoreError, UnknownName
from polytask.inference import stream
from polytask.inference.inputs import (
    Text,
    as_rows,
    check_inputs,
    check_length,
    check_texts,
    problem_of,
    texts_in,
    with_pairs,
)
from polytask.inference.prediction import Prediction
from polytask.inference.scoring import scores_of


class MultiTask:
    """All adapters of a store on one backbone.

    Adapters are read from the store when they are first asked for and stay on the backbone. A task's name means its
    latest version; ``spam@2``, aliases and ``hub:OWNER/NAME`` work too.

    Any thread may call any method at any time: forward passes on one backbone, of training too, take turns batch by
    batch. An adapter that is unloaded during a call answers that call to its end.

    >>> store = pt.Store("adapters")
    >>> store.put(adapter)
    >>> pt.MultiTask(backbone, store).predict(frame, "spam")  # a DataFrame, a list or Series of texts, a generator
    """

    def __init__(self, backbone: Backbone, store: Store, *, max_length: int | None = None) -> None:
        if not isinstance(backbone, Backbone):
            raise BackboneError(f"{type(backbone).__name__} is not a Backbone. Load one: pt.load_backbone(name)")
        if not isinstance(store, Store):
            name = type(store).__name__
            raise StoreError(
                f"{name} is not a Store: store = pt.Store('adapters'), then store.put(adapter) for each one"
            )
        if max_length is not None:
            check_length(backbone, max_length)
        self.backbone, self.store = backbone, store
        self.max_length = max_length
        self.attached = Attached.of(backbone)
        self.adapters: dict[str, LoadedAdapter] = {}
        self._cuts: dict[str, Cut] = {}
        self._loading, self._lock = threading.Lock(), threading.Lock()
        self._uses: Counter[str] = Counter()
        self._leaving: dict[str, LoadedAdapter] = {}

    def __repr__(self) -> str:
        """``<MultiTask on 'minilm' with Store('adapters'), loaded: spam@2, topic@1>``."""
        loaded = ", ".join(sorted(self.adapters)) or "nothing yet"
        return f"<MultiTask on {self.backbone.name!r} with {self.store!r}, loaded: {loaded}>"

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
        return str(self.store.entry(reference))

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
            live = LoadedAdapter.from_adapter(self.backbone, adapter)
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
            if name not in self.adapters:
                return False
            self._uses[name] += 1
            return True

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
        if live is None:
            return
        del self._cuts[name]
        if live.deltas:
            self.attached.remove(name)

    @overload
    def predict(
        self,
        texts: Iterator[Any],
        task: str | Sequence[str],
        *,
        pairs: None = None,
        on_error: Literal["raise", "null"] = "raise",
        calibrated: bool = True,
        abstain: bool = True,
        threshold: float | None = None,
    ) -> Iterator[Prediction]: ...

    @overload
    def predict(
        self,
        texts: Sized,
        task: str | Sequence[str],
        *,
        pairs: Sequence[str | None] | None = None,
        on_error: Literal["raise", "null"] = "raise",
        calibrated: bool = True,
        abstain: bool = True,
        threshold: float | None = None,
    ) -> list[Prediction]: ...

    def predict(
        self,
        texts: Any,
        task: str | Sequence[str],
        *,
        pairs: Sequence[str | None] | None = None,
        on_error: Literal["raise", "null"] = "raise",
        calibrated: bool = True,
        abstain: bool = True,
        threshold: float | None = None,
    ) -> list[Prediction] | Iterator[Prediction]:
        """Answer each text with its task's adapter.

        Args:
            texts: texts, or pairs of texts: a question with its context, a premise with a hypothesis. In a list, a
                Series or an array of strings; or in a DataFrame of pandas or polars, a pyarrow Table, a
                ``datasets.Dataset`` or a list of dicts, by the columns of the training or of usual names. A generator
                is read as its answers are asked for, and may be endless.
            task: a task for all of them, or one a text. ``task``, ``task@version`` or ``task@alias``.
            pairs: the second text of each text, where ``texts`` does not have it; None for a text without.
            on_error: what becomes of a text that is empty or no text: ``raise`` refuses the call; with ``null`` a
                prediction that has nothing but its ``error`` stands in its place, and all others are answered.
            calibrated: whether ``probs`` are calibrated where the adapter can; else they are the head's own. The
                labels are the same.
            abstain: whether an adapter with thresholds may leave a text without a label.
            threshold: the probability from which a label stands, in place of the adapters' own.

        Returns:
            One prediction a text, in their order; of a generator an iterator over them.

        Raises:
            RouteError: not as many tasks or second texts as texts, or a task is asked with pairs and without.
            DataError: a text or a second text is empty; a task of pairs is asked about a single text, or the reverse.
            NoSuchAdapter, IncompatibleAdapter: as ``load``.
        """
        if on_error not in ("raise", "null"):
            raise UnknownName("way of on_error", on_error, ("raise", "null"))
        if not isinstance(task, str | Iterable):
            raise RouteError(f"{task!r} is not a task's name, nor a name for each text")
        if is_stream(texts):
            if not isinstance(task, str) or pairs is not None:
                raise RouteError("a generator is answered for one task: name it, and let it yield pairs (text, second)")
            self.load(task)
            how: Any = {"calibrated": calibrated, "abstain": abstain, "threshold": threshold}
            return stream.answered(texts, lambda chunk: self.predict(chunk, task, on_error=on_error, **how))
        texts = texts_in(texts, *(self._reading(task) if is_table(texts) else ()))
        if pairs is not None:
            texts = with_pairs(texts, pairs)
        tasks = [task] * len(texts) if isinstance(task, str) else list(task)
        if len(tasks) != len(texts):
            raise RouteError(f"there are {len(texts)} texts and {len(tasks)} tasks: give one task, or one a text")
        problems = {row: problem for row, text in enumerate(texts) if (problem := problem_of(text)) is not None}
        if problems and on_error == "raise":
            check_texts(texts)
        if problems:
            rest = [row for row in range(len(texts)) if row not in problems]
            how = {"calibrated": calibrated, "abstain": abstain, "threshold": threshold}
            answered = iter(self.predict([texts[row] for row in rest], [tasks[row] for row in rest], **how))
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
        decisions = {
            name: of.decision.asked(calibrated=calibrated, abstain=abstain, threshold=threshold)
            for name, of in adapters.items()
        }
        return [
            Prediction.of(reference.partition("@")[0], decisions[name], row)
            for reference, name, row in zip(tasks, names, scores, strict=True)
        ]

    def _reading(self, task: str | Sequence[str]) -> tuple[Mapping[str, str | None], Kind | None]:
        """The columns that a task was trained on, where all rows are for one task, and its kind."""
        if not isinstance(task, str):
            return {}, None
        header = self.store.entry(task).header
        columns = header.result.get("columns")
        return columns if isinstance(columns, Mapping) else {}, header.head.kind

    def _adapter(self, name: str) -> LoadedAdapter:
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
            (encode(self.backbone.tokenizer, as_rows([texts[row] for row in own]), *cut), own)
            for (cut, _), own in ways.items()
        ]
        return parts[0][0] if len(parts) == 1 else joined(parts)
