"""Many adapters on one backbone, answering mixed batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, Literal, overload

from polytask.adapters.module import LoadedAdapter
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.data.encoding import Cut
from polytask.data.in_memory import is_stream, is_table
from polytask.data.task import Kind
from polytask.errors import BackboneError, RouteError, StoreError, UnknownName
from polytask.evaluation.decision import DecisionOptions
from polytask.inference import stream
from polytask.inference.cutting import cut_of, encoded_texts
from polytask.inference.inputs import Text, check_inputs, check_length, check_texts, problem_of, texts_in, with_pairs
from polytask.inference.loaded import LoadedAdapters
from polytask.inference.precision import warn_of_other_precision
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
        self.adapters = LoadedAdapters(backbone, store)

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
        name = self._name(reference)
        with self.adapters.in_use([name]):
            return name

    def unload(self, reference: str) -> None:
        """Free what ``load`` made ready, once no call uses it; the store keeps it."""
        self.adapters.unload(self._name(reference))

    def _name(self, reference: str) -> str:
        return str(self.store.entry(reference))

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
        options = DecisionOptions(calibrated, abstain, threshold)
        if is_stream(texts):
            if not isinstance(task, str) or pairs is not None:
                raise RouteError("a generator is answered for one task: name it, and let it yield pairs (text, second)")
            self.load(task)
            how: Any = {"on_error": on_error, **vars(options)}
            return stream.answered(texts, lambda chunk: self.predict(chunk, task, **how))
        texts = texts_in(texts, *(self._columns_of(task) if is_table(texts) else ()))
        if pairs is not None:
            texts = with_pairs(texts, pairs)
        tasks = [task] * len(texts) if isinstance(task, str) else list(task)
        if len(tasks) != len(texts):
            raise RouteError(f"there are {len(texts)} texts and {len(tasks)} tasks: give one task, or one a text")
        problems = [problem_of(text) for text in texts]
        if on_error == "raise" and any(problems):
            check_texts(texts)
        sound = [row for row, problem in enumerate(problems) if problem is None]
        answers = iter(self._answers([texts[row] for row in sound], [tasks[row] for row in sound], options))
        return [
            next(answers) if problem is None else Prediction(reference.partition("@")[0], error=problem)
            for reference, problem in zip(tasks, problems, strict=True)
        ]

    def _answers(self, texts: Sequence[Text], tasks: Sequence[str], options: DecisionOptions) -> list[Prediction]:
        """One prediction for each of these texts, which have been checked, with its own task."""
        if not texts:
            return []
        resolved = {reference: self._name(reference) for reference in dict.fromkeys(tasks)}
        names = [resolved[reference] for reference in tasks]
        with self.adapters.in_use(names) as adapters:
            check_inputs(texts, tasks, names, [adapters[name].takes for name in names])
            encoded = encoded_texts(self.backbone, texts, [self._cut(adapters[name]) for name in names])
            scores = scores_of(self.backbone, self.adapters.attached, adapters, encoded, names)
        decisions = {name: options.apply(adapter.decision) for name, adapter in adapters.items()}
        answers = [
            Prediction.of(reference.partition("@")[0], decisions[name], row)
            for reference, name, row in zip(tasks, names, scores, strict=True)
        ]
        warn_of_other_precision(adapters, names, answers, self.backbone.precision)
        return answers

    def _columns_of(self, task: str | Sequence[str]) -> tuple[Mapping[str, str | None], Kind | None]:
        """The columns that a task was trained on, where all rows are for one task, and its kind."""
        if not isinstance(task, str):
            return {}, None
        header = self.store.entry(task).header
        columns = header.result.get("columns")
        return columns if isinstance(columns, Mapping) else {}, header.head.kind

    def _cut(self, adapter: LoadedAdapter) -> Cut:
        return cut_of(adapter.kind, adapter.recipe, self.backbone, self.max_length)
